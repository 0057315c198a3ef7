"""Sets of scenes: what paths name, and whether scenes fit together."""

import os
import warnings
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import scipy.io
import spectral.io.envi as spectral_envi

from lkcanet.data import Scene, read_scene, read_scenes, scene_from_array, scene_paths, write_scene


def cube(seed: int = 0, bands: int = 3, size: tuple[int, int] = (4, 5)) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 1000, (bands, *size)).astype(np.uint16)


def save_mat(path: Path, values: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {"data": (cube() if values is None else values).transpose(1, 2, 0)})
    return path


def save_pngs(folder: Path, values: np.ndarray | None = None) -> Path:
    folder.mkdir(parents=True)
    for number, band in enumerate(cube() if values is None else values):
        imageio.imwrite(folder / f"{number}.png", band)
    return folder


def save_envi(header: Path, ext: str, wavelengths: list[float] | None = None) -> Path:
    metadata = {} if wavelengths is None else {"wavelength": wavelengths, "wavelength units": "nm"}
    spectral_envi.save_image(str(header), cube().transpose(1, 2, 0), ext=ext, interleave="bsq", metadata=metadata)
    return header


def seen(wavelengths: list[float] | None, path: Path, peak: float | None = None) -> Path:
    write_scene(path, scene_from_array(cube(), wavelengths=wavelengths, peak=peak))
    return path


def test_paths_that_are_scenes_are_taken_as_they_are(tmp_path: Path) -> None:
    given = [save_mat(tmp_path / "z.mat"), save_pngs(tmp_path / "bands"), save_envi(tmp_path / "a.hdr", ".img")]
    assert scene_paths([str(path) for path in given]) == given  # in the order given


def test_a_folder_gives_its_scenes_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    c = save_mat(folder / "c.mat")
    npy = folder / "b.npy"
    np.save(npy, cube())
    flat = save_pngs(folder / "d_ms")
    nested = save_pngs(folder / "a_ms" / "a_ms")
    (folder / "a_ms" / "Thumbs.db").touch()
    save_envi(folder / "e.hdr", ".img")
    save_envi(folder / "f.hdr", ".bsq").rename(folder / "f.bsq.hdr")  # the whole name of the data, as AVIRIS's
    (folder / ".hidden.mat").touch()
    for name in ("README.md", "lonely.hdr", "notes.txt"):
        (folder / name).touch()
    (folder / "empty").mkdir()
    with pytest.warns(UserWarning, match="no scenes: README.md, empty, lonely.hdr, notes.txt$"):
        found = scene_paths([folder])
    assert found == [nested, npy, c, flat, folder / "e.img", folder / "f.bsq"]
    assert [scene.name for scene in read_scenes(found)] == ["a_ms", "b", "c", "d_ms", "e", "f"]
    with pytest.warns(UserWarning, match=r"Thumbs\.db"):
        assert scene_paths([folder / "a_ms"]) == [nested]


def test_a_header_with_several_candidates_stays_the_readers_choice(tmp_path: Path) -> None:
    save_envi(tmp_path / "x.hdr", ".img")
    (tmp_path / "x.dat").write_bytes(b"too short")
    assert scene_paths([tmp_path]) == [tmp_path / "x.hdr"]
    assert read_scenes([tmp_path])[0].bands == 3
    (tmp_path / "x.dat").unlink()
    (tmp_path / "x.img.hdr").write_bytes((tmp_path / "x.hdr").read_bytes())
    assert scene_paths([tmp_path]) == [tmp_path / "x.img"]
    with pytest.raises(ValueError, match="two headers"):
        read_scenes([tmp_path])


def test_a_folder_of_images_stays_one_scene(tmp_path: Path) -> None:
    folder = save_pngs(tmp_path / "bands")
    (folder / "notes.txt").touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert scene_paths([folder]) == [folder]
    save_mat(folder / "lr.mat")
    with pytest.warns(UserWarning, match=r"taken as one scene of \.png images; left out: lr\.mat"):
        assert scene_paths([folder]) == [folder]


def test_folders_without_scenes_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    with pytest.raises(ValueError, match=r"x: the folder holds no .png image and no scene"):
        scene_paths([folder])
    (folder / "notes.md").touch()
    with pytest.raises(ValueError, match=r"x: the folder holds no .png image and no scene"):
        scene_paths([folder])
    with pytest.raises(ValueError, match="at least one"):
        scene_paths([])
    with pytest.raises(TypeError, match="sequence of paths"):
        scene_paths("x.mat")  # type: ignore[arg-type]


def test_a_list_is_relative_to_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    b, a = save_mat(tmp_path / "sub" / "b.mat"), save_mat(tmp_path / "a.mat")
    more = save_mat(tmp_path / "more" / "m.mat")
    listed = tmp_path / "sub" / "scenes.txt"
    listed.write_text(f"# training\n\n  b.mat  \r\n{a}\n../more\n", encoding="utf-8-sig")
    monkeypatch.chdir("/")
    assert [path.resolve() for path in scene_paths([listed])] == [b, a, more]


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (b"# nothing\n\n", ValueError, "scenes.txt: the list names no scene"),
        (b"a.mat\nb.mat\nc.mat\n", FileNotFoundError, r"scenes.txt: \S*b.mat, \S*c.mat: no such files or folders"),
        (b"scenes.txt\n", ValueError, "another list"),
        (b"\xff\xfe\x00a", OSError, "scenes.txt: cannot be read as a list"),
    ],
)
def test_lists_that_are_none(tmp_path: Path, content: bytes, error: type[Exception], words: str) -> None:
    save_mat(tmp_path / "a.mat")
    (tmp_path / "scenes.txt").write_bytes(content)
    with pytest.raises(error, match=words):
        scene_paths([tmp_path / "scenes.txt"])


def test_missing_paths_are_all_named(tmp_path: Path) -> None:
    a = save_mat(tmp_path / "a.mat")
    with pytest.raises(FileNotFoundError, match=r"x.mat: no such file or folder$"):
        scene_paths([a, tmp_path / "x.mat"])
    with pytest.raises(FileNotFoundError, match=r"x.mat, \S*y.mat: no such files"):
        scene_paths([tmp_path / "x.mat", a, tmp_path / "y.mat"])


def test_scenes_named_twice_are_refused(tmp_path: Path) -> None:
    a = save_mat(tmp_path / "set" / "a.mat")
    header = save_envi(tmp_path / "set" / "e.hdr", ".img")
    (tmp_path / "link.mat").symlink_to(a)
    with pytest.raises(ValueError, match=r"more than once: \S*link.mat \(the same as \S*set/a.mat\)$"):
        scene_paths([a, tmp_path / "link.mat"])
    for one, two in ((a, tmp_path / "set"), (header, tmp_path / "set"), (header, header.with_suffix(".img"))):
        with pytest.raises(ValueError, match="more than once"):
            scene_paths([one, two])
    with pytest.raises(ValueError, match=r"more than once: \S*a.mat, \S*e.img$"):
        scene_paths([tmp_path / "set", tmp_path / "set"])
    os.link(a, tmp_path / "copy.mat")  # another file of the same content is another scene
    assert len(scene_paths([a, tmp_path / "copy.mat"])) == 2


def test_scenes_of_different_sizes_each_by_its_peak(tmp_path: Path) -> None:
    one, two = cube(1, size=(4, 5)), cube(2, size=(7, 3)) // 2
    paths = [save_mat(tmp_path / "1.mat", one), save_mat(tmp_path / "2.mat", two)]
    scenes = read_scenes(paths)
    for scene, path in zip(scenes, paths, strict=True):
        alone = read_scene(path)
        assert scene.peak == alone.peak
        np.testing.assert_array_equal(scene.pixels, alone.pixels)
    assert scenes[0].peak == one.max() != scenes[1].peak


def test_one_peak_divides_all_by_the_largest(tmp_path: Path) -> None:
    one, two = cube(1), cube(2) // 3
    paths = [save_mat(tmp_path / "2.mat", two), save_mat(tmp_path / "1.mat", one)]
    for scene, values in zip(read_scenes(paths, one_peak=True), (two, one), strict=True):
        assert scene.peak == one.max()
        np.testing.assert_array_equal(scene.pixels, (values / float(one.max())).astype(np.float32))
    assert [scene.peak for scene in read_scenes(paths, one_peak=True, peak=65535)] == [65535, 65535]


def test_reading_options_and_memory_maps(tmp_path: Path) -> None:
    written = [seen(None, tmp_path / f"{number}.npy", peak=999.0) for number in range(2)]
    scenes = read_scenes(written, one_peak=True)
    assert all(isinstance(scene.pixels, np.memmap) for scene in scenes)
    np.save(tmp_path / "hwc.npy", cube().transpose(1, 2, 0))
    (scene,) = read_scenes([tmp_path / "hwc.npy"], axes="hwc", peak=10)
    assert isinstance(scene, Scene)
    assert (scene.bands, scene.peak) == (3, 10)


def test_every_scene_that_does_not_fit_is_named_at_once(tmp_path: Path) -> None:
    good = [save_mat(tmp_path / f"good{number}.mat") for number in range(3)]
    few = [save_mat(tmp_path / f"few{number}.mat", cube(bands=2)) for number in range(2)]
    broken = tmp_path / "broken.mat"
    broken.write_bytes(good[0].read_bytes()[:150])
    with pytest.raises(ValueError, match="do not fit together") as caught:
        read_scenes([*few, broken, *good])
    words = str(caught.value)
    assert "few0.mat" in words
    assert "few1.mat: have 2 bands instead of 3" in words
    assert "broken.mat: cannot be read" in words
    assert "good" not in words


def test_a_single_scene_that_fails_keeps_its_own_error(tmp_path: Path) -> None:
    good, broken = save_mat(tmp_path / "good.mat"), tmp_path / "broken.npy"
    broken.write_bytes(b"nothing")
    for paths in ([broken], [good, broken]):
        with pytest.raises(OSError, match=r"broken\.npy: cannot be read as an \.npy file"):
            read_scenes(paths)
    with pytest.raises(ValueError, match=r"^peak must be"):
        read_scenes([good, save_mat(tmp_path / "too.mat")], peak=-1)


def test_wavelengths_must_agree_within_the_tolerance(tmp_path: Path) -> None:
    odd = seen([400, 500, 612], tmp_path / "odd.npy")
    near = [seen([400, 500, 600 + 0.4 * number], tmp_path / f"near{number}.npy") for number in range(2)]
    none = seen(None, tmp_path / "none.npy")
    assert len(read_scenes([*near, none])) == 3
    with pytest.raises(ValueError, match=r"odd\.npy: has wavelengths of 400 to 612 nm, up to 12 nm from 400 to 600"):
        read_scenes([odd, *near, none])  # the first is not what the others are measured by
    with pytest.raises(ValueError, match=r"near1\.npy: has wavelengths"):
        read_scenes(near, wavelength_tolerance=0.1)
    assert len(read_scenes([odd, *near], wavelength_tolerance=20)) == 3
    with pytest.raises(ValueError, match="wavelength_tolerance must be"):
        read_scenes(near, wavelength_tolerance=0)
