"""Prepared sets of scenes: the protocol of CAVE, anyone's folder, whole or absent."""

import json
from pathlib import Path

import numpy as np
import pytest

from lkcanet.data import (
    Prepared,
    PreparedSet,
    cave,
    is_prepared,
    load_prepared,
    prepare,
    prepare_cave,
    prepare_folder,
    read_scene,
    read_scenes,
)
from lkcanet.data import set_writer as writer

from .set_helpers import SIDE, own_scene, pixels, write_cave, write_set


@pytest.fixture(scope="module")
def small_cave(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cave(tmp_path_factory.mktemp("cave") / "set")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cave, "SIZE", (SIDE, SIDE))
    monkeypatch.setattr(cave, "LR_SIZE", 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_set(tmp_path / "scenes", {"a": (20, 24), "b": (26, 31), "c": (20, 20), "d": (40, 20), "e": (21, 21)})


def test_cave_is_the_published_split(small_cave: Path, tmp_path: Path) -> None:
    done = prepare_cave(small_cave, tmp_path / "out")
    assert isinstance(done, PreparedSet)
    assert isinstance(load_prepared(tmp_path / "out"), PreparedSet)
    names = [[scene.name for scene in part] for part in (done.train, done.validation, done.test)]
    assert names[1] == ["chart_and_stuffed_toy_ms", "feathers_ms"]
    assert sorted([*names[0], *names[1]]) == list(cave.TRAIN)
    assert names[2] == list(cave.TEST)
    everything = sorted(name for part in names for name in part)
    assert len(everything) == 32
    assert everything[:20] == list(cave.TRAIN)  # the first 20 in the order of their names
    assert (done.protocol, done.scale, done.patch, done.stride, done.ssim) == ("cave", 4, 12, 7, "matlab")
    assert done.peak == 65535
    assert done.test_names == cave.TEST
    assert done.test_scene(1) is done.test[1]
    for number, scene in enumerate(done.test, 20):
        full = 255 if scene.name == "watercolors_ms" else 65535
        assert scene.peak == full
        assert isinstance(scene.pixels, np.memmap)
        np.testing.assert_array_equal(scene.pixels, (pixels(number) / full).astype(np.float32))
        assert scene.wavelengths is not None
        assert scene.wavelengths.tolist() == list(range(400, 701, 10))
    files = sorted(file.relative_to(tmp_path / "out").as_posix() for file in (tmp_path / "out").rglob("*.*"))
    assert files == sorted(
        ["protocol.json", *(f"train/{n}.npy" for n in cave.TRAIN), *(f"test/{n}.npy" for n in cave.TEST)]
    )
    told = json.loads((tmp_path / "out" / "protocol.json").read_text())
    assert told["validation"] == {"kind": "names", "scenes": names[1]}
    assert told["scenes"][0]["source"]["images"] == 31
    assert "junjun-jiang/SSPSR" in told["protocol_source"]


@pytest.mark.parametrize("place", ["{0}/{0}", "{1}", "{1}/{1}"])
def test_cave_in_its_published_layout_and_without_suffix(small_cave: Path, tmp_path: Path, place: str) -> None:
    root = write_cave(tmp_path / "set", lambda name: place.format(name, name.removesuffix("_ms")))
    (root / "__MACOSX").mkdir()
    (root / "hairs_ms.txt").write_text("")
    one, other = prepare_cave(root, tmp_path / "a"), prepare_cave(small_cave, tmp_path / "b")
    for a, b in zip((*one.train, *one.test), (*other.train, *other.test), strict=True):
        assert a.name == b.name
        np.testing.assert_array_equal(a.pixels, b.pixels)


@pytest.mark.parametrize(
    ("validation", "names"),
    [
        (None, []),
        (["hairs", "balloons_ms"], ["balloons_ms", "hairs_ms"]),
        ("hairs, balloons", ["balloons_ms", "hairs_ms"]),
    ],
)
def test_validation_of_cave(small_cave: Path, tmp_path: Path, validation: object, names: list[str]) -> None:
    done = prepare_cave(small_cave, tmp_path / "out", scale=8, validation=validation, stride=5)  # type: ignore[arg-type]
    assert [scene.name for scene in done.validation] == names
    assert len(done.train) + len(done.validation) == 20
    assert (done.patch, done.stride, done.scale) == (24, 5, 8)


def test_a_share_is_drawn_by_the_seed(small_cave: Path, tmp_path: Path) -> None:
    drawn = [
        [s.name for s in prepare_cave(small_cave, tmp_path / f"{i}", validation=0.2, seed=seed).validation]
        for i, seed in enumerate((0, 0, 1))
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == len(drawn[2]) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 2}, "scale must be 4 or 8 in protocol cave, got 2"),
        ({"validation": ["jelly_beans"]}, "validation: jelly_beans is none of the 20 scenes balloons_ms"),
        ({"validation": []}, "got no name"),
        ({"validation": 1.0}, "share above 0 and below 1, got 1.0"),
        ({"validation": list(cave.TRAIN)}, "must leave scenes to train on"),
        ({"validation": 0.1, "seed": -1}, "seed must be"),
        ({"lr_size": 0}, "lr_size must be a whole number, 1 or more, got 0"),
        ({"lr_size": 7}, "a patch must be 6 LR pixels or less at scale 4, got 7"),
        ({"stride": 1.5}, "stride must be a whole number"),
    ],
)
def test_wrong_arguments_leave_nothing(small_cave: Path, tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare_cave(small_cave, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_an_incomplete_cave_is_named_before_anything_is_written(
    small_cave: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_cave(tmp_path / "set")
    monkeypatch.setattr(writer, "write_scene", lambda *_: pytest.fail("wrote"))
    (root / "face_ms" / "face_ms_31.png").unlink()
    (root / "hairs_ms" / "more.png").write_bytes((root / "hairs_ms" / "hairs_ms_01.png").read_bytes())
    with pytest.raises(ValueError, match=r"31 PNG images each, not face_ms \(30\), hairs_ms \(32\)"):
        prepare_cave(root, tmp_path / "out")
    (root / "face_ms").rename(root / "fase_ms")
    (root / "paints_ms").rename(root / "paint_ms")
    with pytest.raises(FileNotFoundError, match="lacks 2 of the 32 scenes of CAVE: face_ms, paints_ms"):
        prepare_cave(root, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        prepare_cave(tmp_path / "nothing", tmp_path / "out")
    assert [entry.name for entry in tmp_path.iterdir()] == ["set"]


def test_scenes_of_another_size_are_named(small_cave: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cave, "SIZE", (512, 512))
    monkeypatch.setattr(writer, "write_scene", lambda *_: pytest.fail("wrote"))
    with pytest.raises(ValueError, match=r"are 512 x 512 pixels, not .*balloons_ms \(24 x 24\), .*watercolors_ms"):
        prepare_cave(small_cave, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_interrupted_preparation_leaves_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrote = []

    def stop(path: Path, scene: object) -> None:
        wrote.append(path)
        if len(wrote) == 3:
            raise KeyboardInterrupt

        np.save(path, np.zeros(3))

    monkeypatch.setattr(writer, "write_scene", stop)
    with pytest.raises(KeyboardInterrupt):
        prepare_folder(folder, tmp_path / "out", test=["a"], lr_size=3)
    assert len(wrote) == 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["scenes"]


def test_anyones_set(folder: Path, tmp_path: Path) -> None:
    done = prepare_folder(folder, tmp_path / "out", test=["b"], validation=["d", "a"], lr_size=3, stride=5)
    assert [[s.name for s in part] for part in (done.train, done.validation, done.test)] == [
        ["c", "e"],
        ["a", "d"],
        ["b"],
    ]
    assert [scene.size for scene in (*done.train, *done.validation, *done.test)] == [
        (20, 20), (20, 20), (20, 24), (40, 20), (24, 28)
    ]  # fmt: skip
    assert (done.protocol, done.patch, done.stride, done.ssim, done.bands) == ("folder", 12, 5, "uniform", 5)
    # one peak: the largest of what is not tested on, whose maximum is 500 in e
    assert done.peak == 500
    for scene in (*done.train, *done.test):
        whole = np.load(folder / f"{scene.name}.npy")
        np.testing.assert_array_equal(
            scene.pixels, (whole / np.float64(500)).astype(np.float32)[:, : scene.size[0], : scene.size[1]]
        )
    assert done.manifest["test"] == {"kind": "names", "scenes": ["b"]}


def test_peaks_of_a_set(folder: Path, tmp_path: Path) -> None:
    each = prepare_folder(folder, tmp_path / "each", test=["b"], peak="each", lr_size=3)
    assert each.peak is None
    assert {s.name: s.peak for s in (*each.train, *each.validation, *each.test)} == {
        "a": 100, "b": 200, "c": 300, "d": 400, "e": 500
    }  # fmt: skip
    given = prepare_folder(folder, tmp_path / "given", test=["b"], peak=1000, lr_size=3)
    assert {s.peak for s in (*given.train, *given.validation, *given.test)} == {1000}
    assert given.manifest["peak"]["rule"] == "given by the user"
    assert "each" in each.manifest["peak"]["rule"]
    largest = prepare_folder(folder, tmp_path / "tested", test=["e"], lr_size=3)
    assert largest.peak == 400  # not that of the test scene
    assert float(largest.test[0].pixels.max()) == 1.25


def test_misfits_are_named_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "scenes"
    root.mkdir()
    for name in "abc":
        own_scene(root / f"{name}.npy", 3, [400, 500, 600])
    own_scene(root / "shifted.npy", 3, [410, 510, 610])
    own_scene(root / "other.npy", 4, [400, 500, 600, 700])
    np.save(root / "bad.npy", np.full((3, 20, 20), np.nan))
    monkeypatch.setattr(writer, "write_scene", lambda *_: pytest.fail("wrote"))
    with pytest.raises(ValueError, match="do not fit together") as caught:
        prepare_folder(root, tmp_path / "out", test=["a"], lr_size=3)
    for text in ("other.npy: has 4 bands instead of 3", "shifted.npy: has wavelengths of 410", "bad.npy: 1200 of 1200"):
        assert text in str(caught.value)
    for name in ("other", "shifted", "bad"):
        (root / f"{name}.npy").unlink()
    own_scene(root / "small.npy", 3, [400, 500, 600], size=(15, 40))
    with pytest.raises(ValueError, match=r"smaller than a patch of 4 LR pixels.*small \(15 x 40, train: 16\)"):
        prepare_folder(root, tmp_path / "out", test=["a"], validation=None, lr_size=4)
    assert [entry.name for entry in tmp_path.iterdir()] == ["scenes"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test": ["f"]}, "test: f is none of the 5 scenes a, b, c, d, e"),
        ({"test": 0.0}, "test must be names of scenes or a share"),
        ({"test": None}, "test must name scenes"),
        ({"validation": ["a"]}, "validation: a is none of the 4 scenes b, c, d, e"),  # it is tested on
        ({"validation": ["b", "c", "d", "e"]}, "1 are tested on and 4 validate: none trains"),
        ({"peak": "most"}, "peak .* must be a positive finite number, got 'most'"),
        ({"scale": 0}, "scale must be a whole number"),
        ({"key": "x"}, "key 'x' was given"),
    ],
)
def test_wrong_arguments_of_a_set(folder: Path, tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare_folder(folder, tmp_path / "out", **{"test": ["a"], "lr_size": 3, **options})
    assert [entry.name for entry in tmp_path.iterdir()] == ["scenes"]


def test_two_scenes_of_a_name(folder: Path, tmp_path: Path) -> None:
    np.savez(folder / "a.npz", x=np.ones((5, 20, 20), np.float32))
    with pytest.raises(ValueError, match=r"two scenes are called a: .*a.np. and .*a.np."):
        prepare_folder(folder, tmp_path / "out", test=["a"], lr_size=3)


def test_a_set_is_known_by_its_files(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare_folder(folder, out, test=["a"], lr_size=3)
    assert is_prepared(out)
    file, manifest = out / "train" / "b.npy", out / "protocol.json"
    content = file.read_bytes()
    file.write_bytes(content[:-9] + b"changed!!")
    with pytest.raises(ValueError, match=r"b.npy is not the file that"):
        load_prepared(out)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no train/b.npy: prepare it again"):
        load_prepared(out)
    file.write_bytes(content)
    load_prepared(out)
    text = manifest.read_text()
    manifest.write_text(text.replace('"scale": 4', '"scale": 2'))
    with pytest.raises(ValueError, match="changed after it was written"):
        load_prepared(out)
    manifest.write_text(text[:50])
    with pytest.raises(ValueError, match="not JSON"):
        load_prepared(out)


def test_overwriting_spares_what_others_put_there(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare_folder(folder, out, test=["a"], lr_size=3)
    with pytest.raises(FileExistsError, match="exists already"):
        prepare_folder(folder, out, test=["b"], lr_size=3)
    (out / "train" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds .*notes.txt besides"):
        prepare_folder(folder, out, test=["b"], lr_size=3, overwrite=True)
    (out / "train" / "notes.txt").unlink()
    done = prepare_folder(folder, out, test=["b"], lr_size=3, overwrite=True)
    assert done.test_names == ("b",)
    assert not (out / "test" / "a.npy").exists()


def test_prepare_is_of_one_scene(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="many scenes: use prepare_cave"):
        prepare("cave", tmp_path, tmp_path / "out")


def test_a_set_is_no_scene(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = prepare_folder(folder, out, test=["a"], lr_size=3)
    with pytest.raises(ValueError, match=r"prepared set of 5 scenes, expected one: give its file, as .*npy"):
        read_scenes([out])
    scene = read_scene(out / "test" / "a.npy")
    assert scene.name == "a"
    assert scene.peak == done.peak
    assert not isinstance(done, Prepared)
