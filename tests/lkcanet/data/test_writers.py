"""Scenes written: nothing lost, and whole or not at all."""

import errno
import json
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from lkcanet.data import Scene, read_scene, scene_from_array, write_scene
from lkcanet.data.formats import writers

SUFFIXES = [".npy", ".npz", ".mat"]


@pytest.fixture
def cube() -> np.ndarray:
    """(4 bands, 5 rows, 6 columns) uint16, all values different."""
    return (np.random.default_rng(0).permutation(4 * 5 * 6).reshape(4, 5, 6) * 500 + 7).astype(np.uint16)


@pytest.fixture
def scene(cube: np.ndarray) -> Scene:
    return scene_from_array(cube, wavelengths=[400.5, 500, 600.1, 2500], name="Größe", source="a folder/x.mat")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("bands", [4, 1])
def test_round_trip_loses_nothing(tmp_path: Path, scene: Scene, suffix: str, bands: int) -> None:
    assert scene.wavelengths is not None
    part = Scene(scene.pixels[:bands], 1 / 3, scene.wavelengths[:bands], scene.name, scene.source)
    write_scene(tmp_path / f"a{suffix}", part)
    again = read_scene(tmp_path / f"a{suffix}")
    assert again.pixels.tobytes() == part.pixels.tobytes()
    assert (again.peak, again.name, again.source) == (1 / 3, "Größe", "a folder/x.mat")
    np.testing.assert_array_equal(again.wavelengths, part.wavelengths)
    bare = Scene(part.pixels, 7.0)
    write_scene(tmp_path / f"a{suffix}", bare)  # over the other
    again = read_scene(tmp_path / f"a{suffix}", axes="hwc" if suffix == ".mat" else "chw")
    assert (again.peak, again.name, again.source, again.wavelengths) == (7.0, "", "", None)
    halved = read_scene(tmp_path / f"a{suffix}", peak=14)
    assert halved.peak == 14
    np.testing.assert_array_equal(halved.pixels, part.pixels / 2)
    assert [p.name for p in tmp_path.iterdir()] == [f"a{suffix}"]


def test_npy_is_memory_mapped_and_plain_numpy_reads_it(tmp_path: Path, scene: Scene) -> None:
    path = tmp_path / "a.npy"
    write_scene(path, scene)
    np.testing.assert_array_equal(np.load(path), scene.pixels)
    before = path.read_bytes()
    again = read_scene(path)
    assert isinstance(again.pixels, np.memmap)
    again.tensor().zero_()  # copy on write
    assert not again.pixels.any()
    assert path.read_bytes() == before
    with path.open("ab") as file:
        file.write(b"something else behind")
    np.save(tmp_path / "b.npy", scene.pixels)
    with (tmp_path / "b.npy").open("ab") as file:
        np.save(file, np.arange(3))
    assert read_scene(tmp_path / "b.npy", peak=1).peak == 1


def test_our_files_know_their_axes(tmp_path: Path, scene: Scene) -> None:
    write_scene(tmp_path / "a.npz", scene)
    with pytest.raises(ValueError, match="was written by write_scene with axes 'chw'"):
        read_scene(tmp_path / "a.npz", axes="hwc")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_shorter_file_is_refused(tmp_path: Path, scene: Scene, suffix: str) -> None:
    """But for an .npy file that ends exactly with its pixels or in the first bytes behind: any other .npy file does."""
    path = tmp_path / f"a{suffix}"
    write_scene(path, scene)
    whole = path.read_bytes()
    plain = range(128 + scene.pixels.nbytes, 128 + scene.pixels.nbytes + 6) if suffix == ".npy" else ()
    for length in sorted({*range(0, len(whole) - 1, 7), len(whole) - 1, *range(600, 640)} - {*plain}):
        path.write_bytes(whole[:length])
        with pytest.raises((OSError, ValueError), match=f"a{suffix}"):
            read_scene(path)


def fail_half_way(error: BaseException) -> Callable[..., None]:
    def save(file: Path | object, *args: object, **kwargs: object) -> None:
        if isinstance(file, Path):
            file.write_bytes(b"half a file")
        else:
            file.write(b"half a file")  # type: ignore[attr-defined]
        raise error

    return save


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("old", [False, True])
def test_failed_write_leaves_nothing_new(
    tmp_path: Path, scene: Scene, monkeypatch: pytest.MonkeyPatch, suffix: str, error: BaseException, old: bool
) -> None:
    path = tmp_path / f"a{suffix}"
    if old:
        write_scene(path, scene)
    for target in ("numpy.save", "numpy.savez", "scipy.io.savemat"):
        monkeypatch.setattr(target, fail_half_way(error))
    with pytest.raises(type(error)):
        write_scene(path, Scene(scene.pixels / 2, 1.0))
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == ([path] if old else [])
    if old:
        np.testing.assert_array_equal(read_scene(path).pixels, scene.pixels)


@pytest.fixture
def small_disk() -> Iterator[int]:
    """The kernel refuses to let any file grow beyond this: a real failing write, part of the way through."""
    limit = 200_000
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("excess", [1, 3000, 100_000])
def test_refused_write(tmp_path: Path, small_disk: int, suffix: str, excess: int) -> None:
    pixels = np.ones((1, 1, (small_disk + excess) // 4), np.float32)
    with pytest.raises(OSError, match=r"."):
        write_scene(tmp_path / f"a{suffix}", Scene(pixels, 1.0))
    assert list(tmp_path.iterdir()) == []


def test_too_large_for_mat(tmp_path: Path, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    assert writers._MAT5_LIMIT < 2**32
    monkeypatch.setattr(writers, "_MAT5_LIMIT", scene.pixels.nbytes - 1)
    with pytest.raises(ValueError, match=r"a.mat: .* GB do not fit a .mat v5 file \(4 GB\); write .npy"):
        write_scene(tmp_path / "a.mat", scene)
    assert list(tmp_path.iterdir()) == []


def test_bad_write_arguments(tmp_path: Path, scene: Scene) -> None:
    with pytest.raises(ValueError, match=r"a.bmp: unsupported suffix '.bmp'; supported: .npy, .npz, .mat, .hdr, .tif"):
        write_scene(tmp_path / "a.bmp", scene)
    with pytest.raises(TypeError, match="scene must be a Scene, got ndarray"):
        write_scene(tmp_path / "a.npy", scene.pixels)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="does not exist"):
        write_scene(tmp_path / "no" / "a.npy", scene)


@pytest.mark.parametrize("suffix", [".NPY", ".NPZ", ".MAT"])
def test_a_suffix_in_capitals_is_written_under_its_own_name(tmp_path, suffix):
    scene = Scene(np.random.default_rng(0).random((2, 3, 4), np.float32), 7.0)
    write_scene(tmp_path / f"a{suffix}", scene)
    assert [file.name for file in tmp_path.iterdir()] == [f"a{suffix}"]
    np.testing.assert_array_equal(read_scene(tmp_path / f"a{suffix}").pixels, scene.pixels)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat", ".hdr"])
def test_a_changed_byte_beside_the_pixels_is_noticed(tmp_path: Path, scene: Scene, suffix: str) -> None:
    """The peak and the rest are not lost or changed in silence; pixels, and lines of ENVI's own, can change."""
    if suffix == ".hdr":
        pytest.importorskip("spectral", reason="spectral is not installed")
    path = tmp_path / f"a{suffix}"
    write_scene(path, scene)
    whole, pixels = path.read_bytes(), np.ascontiguousarray(scene.pixels).tobytes()
    begin, end = {
        ".npy": (128 + len(pixels), len(whole)),
        ".npz": (whole.find(b"peak.npy"), len(whole)),
        ".mat": (128, len(whole) - len(pixels) - 100),
        ".hdr": (whole.find(b"lkcanet record"), len(whole) - 1),
    }[suffix]
    generator, refused = np.random.default_rng(0), 0
    for place in generator.integers(begin, end, 120).tolist():
        damaged = bytearray(whole)
        damaged[place] ^= int(generator.integers(1, 256))
        path.write_bytes(damaged)
        try:
            again = read_scene(path)
        except (OSError, ValueError) as error:
            assert f"a{suffix}" in str(error)  # noqa: PT017 - both are right
            refused += 1
        else:
            assert (again.peak, again.name, again.source) == (scene.peak, scene.name, scene.source), place
            np.testing.assert_array_equal(again.wavelengths, scene.wavelengths)  # type: ignore[arg-type]
    assert refused > 60


def test_records_without_a_checksum_are_read(tmp_path: Path, scene: Scene) -> None:
    """Those of earlier versions."""
    record = {"lkcanet_scene": 1, "peak": 7.0, "name": "old", "source": "x", "masked": False}
    with (tmp_path / "a.npy").open("wb") as file:
        np.save(file, scene.pixels)
        np.save(file, np.array(json.dumps(record)))
    again = read_scene(tmp_path / "a.npy")
    assert (again.peak, again.name) == (7.0, "old")
    with (tmp_path / "a.npy").open("wb") as file:
        np.save(file, scene.pixels)
        np.save(file, np.array(json.dumps({**record, "checksum": "0" * 16})))
    with pytest.raises(OSError, match="a checksum differs"):
        read_scene(tmp_path / "a.npy")


def test_a_mat_file_on_which_scipy_would_end_the_process(tmp_path: Path, cube: np.ndarray) -> None:
    scipy_io = pytest.importorskip("scipy.io", reason="scipy is not installed")
    path = tmp_path / "a.mat"
    kinds = {"cell": np.array(["a", np.arange(3)], object), "struct": {"x": 1, "y": {"z": "text"}}, "flag": True}
    scipy_io.savemat(path, {**kinds, "complex": np.ones((3, 1)) * 1j, "none": [], "cube": cube.transpose(1, 2, 0)})
    np.testing.assert_array_equal(read_scene(path, key="cube", peak=1).pixels, cube)
    scipy_io.savemat(path, {"cube": cube.transpose(1, 2, 0)})
    whole = path.read_bytes()
    # complex without imaginary values; types of elements; their sizes
    for place, value in ((145, 8), (136, 14), (152, 77), (184, 200), (128, 3), (132, 255), (140, 64), (188, 3)):
        damaged = bytearray(whole)
        damaged[place] = value
        path.write_bytes(damaged)
        with pytest.raises(OSError, match=r"a\.mat: cannot be read as a MATLAB file"):
            read_scene(path)
