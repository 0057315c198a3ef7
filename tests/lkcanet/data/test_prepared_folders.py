"""Prepared folders: whole or absent, honest manifests, and what comes along."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lkcanet.data import (
    Georeference,
    Rect,
    bicubic_downsample,
    bicubic_upsample,
    load_prepared,
    write_scene,
)
from lkcanet.data import prepare as prepare_folder
from lkcanet.data.scenes import Scene

from .protocol_helpers import TINY, coded, write_mat73

h5py = pytest.importorskip("h5py", reason="h5py is not installed")
scipy_io = pytest.importorskip("scipy.io", reason="scipy is not installed")


@pytest.fixture
def tiny(tmp_path) -> Path:
    return write_mat73(tmp_path / "tiny.mat", "cube", coded(70, 60, 3), chunks=(2, 16, 32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 4}, "scale must be 2"),
        ({"seed": -1}, "seed must be"),
        ({"validation": "some"}, "validation must be"),
        ({"peak": 0}, "peak must be"),
        ({"axes": "cp"}, "axes must be an order of 'chw'"),
        ({"axes": "cwh"}, "of 3 bands, the file has 70"),
        ({"key": "none"}, "has no key 'none'"),
        ({"peak": 1e-300}, "too large for float32"),
    ],
)
def test_wrong_arguments_leave_nothing(tmp_path, tiny, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        prepare_folder(TINY, tiny, tmp_path / "out", **{"scale": 2, **options})
    assert [entry.name for entry in tmp_path.iterdir()] == ["tiny.mat"]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_values_are_named_where_they_lie(tmp_path, bad) -> None:
    image = coded(70, 60, 3).astype(np.float64)
    image[10, 20, 2] = bad
    file = write_mat73(tmp_path / "a.mat", "cube", image, chunks=(2, 16, 32))
    with pytest.raises(ValueError, match="band 2, row 10, column 20"):
        prepare_folder(TINY, file, tmp_path / "out", scale=2)
    with pytest.raises(ValueError, match="band 2, row 10, column 20"):
        prepare_folder(TINY, file, tmp_path / "out", scale=2, peak=2)
    image[:] = -1
    with pytest.raises(ValueError, match="the largest value is -1; give peak"):
        prepare_folder(TINY, write_mat73(file, "cube", image), tmp_path / "out", scale=2)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mat"]


def test_damaged_or_missing_files_are_one_error(tmp_path, tiny) -> None:
    cut = tmp_path / "cut.mat"
    cut.write_bytes(tiny.read_bytes()[:9000])
    with pytest.raises(OSError, match=r"cut\.mat"):
        prepare_folder(TINY, cut, tmp_path / "out", scale=2)
    with pytest.raises(FileNotFoundError, match="nothing"):
        prepare_folder(TINY, tmp_path / "nothing.mat", tmp_path / "out", scale=2)
    with pytest.raises(FileNotFoundError, match="no such file"):
        prepare_folder(TINY, tmp_path, tmp_path / "out", scale=2)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        prepare_folder(TINY, tiny, tmp_path / "a" / "out", scale=2)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["cut.mat", "tiny.mat"]


def test_folders_are_replaced_only_when_asked_and_only_prepared_ones(tmp_path, tiny, monkeypatch) -> None:
    out = tmp_path / "out"
    prepare_folder(TINY, tiny, out, scale=2)
    before = (out / "protocol.json").read_bytes()
    with pytest.raises(FileExistsError, match="exists already"):
        prepare_folder(TINY, tiny, out, scale=2)
    (out / "run").mkdir()
    with pytest.raises(FileExistsError, match="it holds run besides"):
        prepare_folder(TINY, tiny, out, scale=2, overwrite=True)
    (out / "run").rmdir()
    other = tmp_path / "mine"
    other.mkdir()
    with pytest.raises(FileExistsError, match=r"holds no protocol\.json"):
        prepare_folder(TINY, tiny, other, scale=2, overwrite=True)
    with monkeypatch.context() as patch:  # a failure at the last moment keeps the old folder
        patch.setattr("lkcanet.data.prepared.write_manifest", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            prepare_folder(TINY, tiny, out, scale=2, overwrite=True, seed=5)
    assert (out / "protocol.json").read_bytes() == before
    assert prepare_folder(TINY, tiny, out, scale=2, overwrite=True, seed=5).manifest["validation"]["seed"] == 5
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["mine", "out", "tiny.mat"]


def test_edited_or_mixed_folders_are_refused(tmp_path, tiny) -> None:
    out, path = tmp_path / "out", tmp_path / "out" / "protocol.json"
    prepare_folder(TINY, tiny, out, scale=2)
    prepare_folder(TINY, tiny, tmp_path / "peak", scale=2, peak=5)
    text = path.read_text()
    manifest = json.loads(text)
    edited = {**manifest, "scale": 3}
    for content, message in (
        (json.dumps(edited), "was changed"),
        (text[: len(text) // 2], "not JSON, cut short"),
        ("[]", "not a manifest of this version"),
        (json.dumps({**manifest, "format": "lkcanet-protocol-0"}), "not a manifest of this version"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            load_prepared(out)
    path.write_text(text)
    assert load_prepared(out).scale == 2
    scene = out / "scene.npy"
    whole = scene.read_bytes()
    for content in ((tmp_path / "peak" / "scene.npy").read_bytes(), whole[:-1], whole[:20000]):
        scene.write_bytes(content)
        with pytest.raises(ValueError, match="is not the file that"):
            load_prepared(out)
    scene.unlink()
    with pytest.raises(FileNotFoundError, match=r"no scene\.npy"):
        load_prepared(out)
    with pytest.raises(FileNotFoundError, match=r"no protocol\.json"):
        load_prepared(tmp_path)


def test_the_manifest_says_what_was_done(tmp_path, tiny) -> None:
    manifest = prepare_folder(TINY, tiny, tmp_path / "out", scale=2).manifest
    digest = hashlib.sha256(tiny.read_bytes()).hexdigest()
    assert manifest["source"]["files"] == [{"name": "tiny.mat", "bytes": tiny.stat().st_size, "sha256": digest}]
    assert manifest["source"]["shape"] == [3, 70, 60]
    assert (manifest["source"]["rows"], manifest["source"]["columns"]) == ([2, 66], [[4, 52]])
    assert manifest["test"] == {"region": "0:16,0:32", "images": ["0:16,0:16", "0:16,16:32"]}
    assert manifest["train"] == {"region": "16:64,0:48", "patch": 16, "stride": 8}
    assert manifest["scene"]["shape"] == [3, 64, 48]
    assert "cropped first, then degraded" in manifest["lowres"]
    assert set(manifest["versions"]) == {"python", "lkops", "numpy", "torch"}


def test_patches_as_other_programs_read_them(tmp_path, tiny) -> None:
    done = prepare_folder(TINY, tiny, tmp_path / "out", scale=2, patches=True)
    for part, origins in (("trains", done.split.train_origins), ("evals", done.split.validation_origins)):
        files = sorted((tmp_path / "out" / part).iterdir())
        assert [file.name for file in files] == [f"r{row:05d}_c{column:05d}.mat" for row, column in origins]
    row, column = done.split.train_origins[7]
    loaded = scipy_io.loadmat(tmp_path / "out" / "trains" / f"r{row:05d}_c{column:05d}.mat")
    patch = done.scene.pixels[:, row : row + 16, column : column + 16]
    assert {key: value.shape for key, value in loaded.items() if key[0] != "_"} == {
        "gt": (16, 16, 3),
        "ms": (8, 8, 3),
        "ms_bicubic": (16, 16, 3),
    }
    assert all(loaded[key].dtype == np.float32 for key in ("gt", "ms", "ms_bicubic"))
    assert np.array_equal(loaded["gt"], patch.transpose(1, 2, 0))
    exact = bicubic_downsample(torch.from_numpy(patch.astype(np.float64))[None], 2)
    assert np.allclose(loaded["ms"], exact[0].permute(1, 2, 0), atol=1e-6)
    assert np.allclose(loaded["ms_bicubic"], bicubic_upsample(exact, 2)[0].permute(1, 2, 0), atol=1e-6)
    test = scipy_io.loadmat(tmp_path / "out" / "tests" / "Tiny_test.mat")
    assert (test["gt"].shape, test["ms"].shape) == ((2, 16, 16, 3), (2, 8, 8, 3))
    assert np.array_equal(test["gt"][1], done.scene.pixels[:, :16, 16:32].transpose(1, 2, 0))
    again = prepare_folder(TINY, tiny, tmp_path / "out", scale=2, overwrite=True)  # the .mat files are part of it
    assert not again.manifest["mat_files"]
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == ["protocol.json", "scene.npy"]


def test_masks_and_bands_come_along(tmp_path) -> None:
    """What readers know of a file is cropped and turned with its pixels."""
    from lkcanet.data import sources

    image = coded(70, 60, 3).transpose(2, 0, 1).astype(np.float32)
    valid = np.ones((70, 60), bool)
    valid[2:5, 4:9] = False
    source = sources.Source(
        tmp_path / "x", image, "chw", (1, 1, 60), valid=valid, georeference=Georeference((2.0, 0, 100, 0, -2, 500), "")
    )
    from lkcanet.data.prepared import _write_scene

    scene = _write_scene(tmp_path / "s.npy", source, TINY.place(3, 70, 60), TINY, 1.0)
    assert scene.valid is not None
    assert (~scene.valid).sum() == 15
    assert not scene.valid[:3, :5].any()
    assert scene.georeference is not None
    assert scene.georeference.transform[2] == 100 + 4 * 2
    assert scene.georeference.transform[5] == 500 - 2 * 2
    turned = dataclasses.replace(TINY, shape=(60, 70), crop=Rect(4, 52, 2, 66), transposable=True)
    scene = _write_scene(tmp_path / "s.npy", source, turned.place(3, 70, 60), turned, 1.0)
    assert scene.valid is not None
    assert not scene.valid[:5, :3].any()
    assert np.array_equal(scene.pixels, image[:, 2:66, 4:52].transpose(0, 2, 1))
    assert scene.georeference is None


@pytest.mark.parametrize("validation", ["patches", "block"])
def test_invalid_pixels_stay_out_of_patches_and_scores(tmp_path, validation) -> None:
    from lkcanet.evaluation.scoring import score_tests

    rng = np.random.default_rng(0)
    pixels = rng.random((3, 70, 60), np.float32)
    pixels[1, 20, 20] = 1
    valid = np.ones((70, 60), bool)
    valid[2 + 30, 4 + 30] = False  # of the scene (30, 30), a training pixel
    valid[2:6, 4:6] = False  # the corner of the first test image
    place = Georeference((2.0, 0.0, 100.0, 0.0, -2.0, 500.0), "EPSG:32633")
    write_scene(tmp_path / "a.tif", Scene(pixels, 1.0, valid=valid, georeference=place))
    done = prepare_folder(TINY, tmp_path / "a.tif", tmp_path / "out", scale=2, validation=validation)
    assert done.scene.valid is not None
    assert np.array_equal(done.scene.valid, valid[2:66, 4:52])
    assert done.scene.georeference is not None
    assert done.scene.georeference.transform == (2.0, 0.0, 108.0, 0.0, -2.0, 496.0)
    origins = np.concatenate([done.split.train_origins, done.split.validation_origins])
    assert len(origins) > 10
    assert not any(row <= 30 < row + 16 and column <= 30 < column + 16 for row, column in origins)
    assert done.manifest["patches"] == done.split.counts
    scores = score_tests(done, {})["bicubic"]
    target = done.scene.cropped(done.tests[0])
    assert target.valid is not None
    lowres = bicubic_downsample(torch.from_numpy(target.pixels)[None], 2)
    error = (bicubic_upsample(lowres, 2)[0].numpy() - target.pixels)[:, target.valid]
    assert error.size == 3 * (256 - 8)
    assert scores[0]["rmse"] == pytest.approx(float(np.sqrt((error.astype(np.float64) ** 2).mean())), rel=1e-5)
