"""Pixels without data: found, filled, counted nowhere, in no patch, and kept by every format."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from lkcanet.data import (
    Georeference,
    Scene,
    SuperResolutionPatches,
    bicubic_downsample,
    bicubic_upsample,
    normalise,
    read_scene,
    region_split,
    scene_from_array,
    write_scene,
)
from lkcanet.evaluation import metrics


@pytest.fixture
def valid() -> np.ndarray:
    mask = np.ones((20, 30), bool)
    mask[3:8, 10:13] = mask[15, 20] = mask[:, 0] = False
    return mask


@pytest.mark.parametrize("dtype", ["u2", "i2", "f4", "f8"])
@pytest.mark.parametrize("piece", [1, 5000, 1 << 24])
@pytest.mark.parametrize("layout", ["chw", "hwc", "hcw"])
def test_only_valid_values_are_looked_at(
    valid: np.ndarray, dtype: str, piece: int, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(normalise, "_PIECE", piece)
    values = np.random.default_rng(0).integers(1, 1000, (3, 20, 30)).astype(dtype)
    fillers = [0, np.iinfo(dtype).max] if dtype[0] in "ui" else [np.nan, -np.inf, 3e38]
    results = []
    for filler in fillers:
        values[:, ~valid] = filler
        stored = np.ascontiguousarray(values.transpose(["chw".index(axis) for axis in layout]))
        results.append(scene_from_array(stored.transpose([layout.index(axis) for axis in "chw"]), valid=valid))
    for scene in results:
        assert scene.peak == values[:, valid].max()
        assert scene.valid is not None
        np.testing.assert_array_equal(scene.valid, valid)
        expected = (values[:, valid].astype(np.float64) / scene.peak).astype(np.float32)
        np.testing.assert_array_equal(scene.pixels[:, valid], expected)
        assert scene.pixels.tobytes() == results[0].pixels.tobytes()


def test_the_nearest_valid_pixel_fills(valid: np.ndarray) -> None:
    values = np.random.default_rng(0).random((2, 20, 30))
    scene = scene_from_array(values, valid=valid)
    places = np.argwhere(valid)
    for row, column in np.argwhere(~valid):
        distances = ((places - (row, column)) ** 2).sum(1)
        nearest = places[distances == distances.min()]
        assert scene.pixels[:, row, column].tolist() in [scene.pixels[:, r, c].tolist() for r, c in nearest]


def test_bad_masks(valid: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.ones((2, 20, 30), np.float32)
    with pytest.raises(TypeError, match="valid must be a bool numpy array, got uint8"):
        scene_from_array(values, valid=valid.astype(np.uint8))
    with pytest.raises(ValueError, match=r"s: valid must be \(20, 30\) and true somewhere, got shape \(30, 20\)"):
        scene_from_array(values, valid=valid.T, source="s")
    with pytest.raises(ValueError, match="got no valid pixel"):
        scene_from_array(values, valid=valid & False)
    values[1, 5, 5] = values[0, 4, 11] = np.nan  # the second is invalid
    with pytest.raises(ValueError, match=r"1 of 1200 pixels are NaN .* band 1, row 5, column 5$"):
        scene_from_array(values, valid=valid)
    interleaved = np.ascontiguousarray(values.transpose(1, 2, 0)).transpose(2, 0, 1)
    interleaved[0, 18, 7] = interleaved[1, 19, 9] = np.inf  # the first in a later piece, but in an earlier band
    monkeypatch.setattr(normalise, "_PIECE", 1)
    with pytest.raises(ValueError, match=r"3 of 1200 pixels are NaN .* band 0, row 18, column 7$"):
        scene_from_array(interleaved, valid=valid)
    assert scene_from_array(values[:, :5], valid=valid[:5]).valid is not None
    assert scene_from_array(values[:1], valid=np.ones((20, 30), bool) & (values[0] == 1)).pixels.min() == 1


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat", ".hdr", ".tif"])
def test_every_format_keeps_every_field(tmp_path: Path, valid: np.ndarray, suffix: str) -> None:
    pytest.importorskip({".hdr": "spectral", ".tif": "rasterio"}.get(suffix, "numpy"))
    values = np.random.default_rng(0).random((3, 20, 30))
    place = Georeference((2.0, 0.0, 3.0, 0.0, -2.0, 7.0), "EPSG:32633")
    for names in (("a", "b ", ""), ("a, b", "{}", "µ"), ("x", "y", "z"), None):
        scene = scene_from_array(
            values, wavelengths=[1, 2, 3], name="n", source="s", band_names=names, valid=valid, georeference=place
        )
        write_scene(tmp_path / f"a{suffix}", scene)
        again = read_scene(tmp_path / f"a{suffix}")
        assert again.pixels.tobytes() == scene.pixels.tobytes()
        np.testing.assert_array_equal(again.valid, valid)  # type: ignore[arg-type]
        assert (again.peak, again.name, again.source) == (scene.peak, "n", "s")
        assert (again.band_names, again.georeference) == (names, place)
    if suffix in (".npy", ".npz", ".mat"):  # what stands in invalid pixels is kept there
        free = Scene(values.astype(np.float32), 2.0, valid=valid)
        write_scene(tmp_path / f"a{suffix}", free)
        assert read_scene(tmp_path / f"a{suffix}").pixels.tobytes() == free.pixels.tobytes()


def test_a_mask_that_is_cut_off(tmp_path: Path, valid: np.ndarray) -> None:
    scene = scene_from_array(np.random.default_rng(0).random((3, 20, 30)), valid=valid)
    write_scene(tmp_path / "a.npy", scene)
    whole = (tmp_path / "a.npy").read_bytes()
    for length in range(len(whole) - 1, len(whole) - 900, -7):
        (tmp_path / "a.npy").write_bytes(whole[:length])
        with pytest.raises(OSError, match=r"a.npy: cannot be read as an .npy file with"):
            read_scene(tmp_path / "a.npy")


def test_nodata_of_any_format(tmp_path: Path, valid: np.ndarray) -> None:
    values = np.random.default_rng(0).integers(1, 1000, (3, 20, 30)).astype(np.int16)
    values[1, ~valid] = -1  # one band is enough
    scipy.io.savemat(tmp_path / "a.mat", {"x": values.transpose(1, 2, 0)})
    np.save(tmp_path / "a.npy", values)
    np.savez(tmp_path / "a.npz", x=values)
    for suffix in ("mat", "npy", "npz"):
        scene = read_scene(tmp_path / f"a.{suffix}", nodata=-1)
        np.testing.assert_array_equal(scene.valid, valid)  # type: ignore[arg-type]
        assert scene.peak == values[:, valid].max()
        assert read_scene(tmp_path / f"a.{suffix}", nodata=-2).valid is None
    with pytest.raises(ValueError, match=r"a.npy: nodata nan cannot occur in pixels of int16"):
        read_scene(tmp_path / "a.npy", nodata=float("nan"))


# ---- metrics


def images() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.random((3, 20, 30))
    return x + 0.1 * rng.standard_normal(x.shape), x


def test_a_rectangle_scores_as_its_crop() -> None:
    structural_similarity = pytest.importorskip("skimage.metrics").structural_similarity
    y, x = images()
    valid = np.zeros((20, 30), bool)
    valid[4:17, 2:25] = True
    crop_y, crop_x = y[:, 4:17, 2:25], x[:, 4:17, 2:25]
    expected = metrics.evaluate(crop_y.copy(), crop_x.copy(), 4)
    for filler in (0.0, np.nan, 1e200):
        y[:, ~valid], x[:, ~valid] = filler, -filler
        for mask in (valid, torch.from_numpy(valid)):
            assert metrics.evaluate(y, x, 4, valid=mask) == pytest.approx(expected, rel=1e-12)
    assert not np.isnan(list(expected.values())).any()
    ssim = [structural_similarity(a, b, data_range=1.0) for a, b in zip(crop_x, crop_y, strict=True)]
    assert metrics.evaluate(y, x, 4, valid=valid)["mssim"] == pytest.approx(np.mean(ssim), rel=1e-12)


def test_any_mask_against_plain_loops(valid: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    structural_similarity = pytest.importorskip("skimage.metrics").structural_similarity
    monkeypatch.setitem(metrics.TILE, "cpu", 400)  # SSIM in strips
    y, x = images()
    scores = metrics.evaluate(y, x, 2, valid=valid)
    a, b = x[:, valid], y[:, valid]
    mse = ((a - b) ** 2).mean(1)
    angle = np.arccos((a * b).sum(0) / np.linalg.norm(a, axis=0) / np.linalg.norm(b, axis=0))
    windows = [
        (row, column) for row in range(3, 17) for column in range(3, 27)
        if valid[row - 3 : row + 4, column - 3 : column + 4].all()
    ]  # fmt: skip
    assert 10 < len(windows) < 14 * 24 - 50
    maps = [structural_similarity(p, q, data_range=1.0, full=True)[1] for p, q in zip(x, y, strict=True)]
    expected = {
        "mpsnr": (10 * np.log10(1 / mse)).mean(),
        "mssim": np.mean([image[row, column] for image in maps for row, column in windows]),
        "sam": np.degrees(angle).mean(),
        "cc": np.mean([np.corrcoef(p, q)[0, 1] for p, q in zip(a, b, strict=True)]),
        "rmse": np.sqrt(mse.mean()),
        "ergas": 50 * np.sqrt((mse / a.mean(1) ** 2).mean()),
    }
    assert scores == pytest.approx(expected, rel=1e-10)
    assert scores != pytest.approx(metrics.evaluate(y, x, 2), rel=1e-3)


def test_masks_of_batches(valid: np.ndarray) -> None:
    y, x = images()
    pair = np.stack([y, x * 0.9]), np.stack([x, x])
    both = np.stack([valid, ~valid])
    with pytest.warns(RuntimeWarning, match="1 of 2 images have no 7 x 7 window of valid pixels: their MSSIM is nan"):
        scores = metrics.evaluate(*pair, 2, valid=both)
    parts = [metrics.evaluate(y, x, 2, valid=valid)]
    with pytest.warns(RuntimeWarning, match="MSSIM is nan"):
        parts.append(metrics.evaluate(x * 0.9, x, 2, valid=~valid))
    assert np.isnan(scores["mssim"])
    for name in ("mpsnr", "sam", "cc", "rmse", "ergas"):
        assert scores[name] == pytest.approx((parts[0][name] + parts[1][name]) / 2)  # type: ignore[literal-required]
    whole = metrics.evaluate(y, x, 2, valid=np.ones((20, 30), bool))
    assert whole == pytest.approx(metrics.evaluate(y, x, 2), rel=1e-13)


def test_bad_masks_of_metrics(valid: np.ndarray) -> None:
    y, x = images()
    with pytest.raises(TypeError, match=r"valid is torch.uint8, expected bool"):
        metrics.evaluate(y, x, 2, valid=valid.astype(np.uint8))
    with pytest.raises(ValueError, match=r"valid has shape \(30, 20\), expected \(20, 30\) or \(1, 20, 30\)"):
        metrics.evaluate(y, x, 2, valid=valid.T)
    with pytest.raises(ValueError, match="valid is false everywhere in image 0"):
        metrics.evaluate(y, x, 2, valid=valid & False)
    y[0, 0, 5] = np.nan  # a valid one
    with pytest.raises(ValueError, match="prediction holds NaN"):
        metrics.evaluate(y, x, 2, valid=valid)


# ---- patches and splits


def test_patches_hold_no_invalid_pixel(valid: np.ndarray) -> None:
    scene = scene_from_array(np.random.default_rng(0).random((2, 20, 30)), valid=valid)
    patches = SuperResolutionPatches(scene, scale=2, lr_size=2, stride=1)
    expected = [
        [row, column] for row in range(17) for column in range(27) if valid[row : row + 4, column : column + 4].all()
    ]  # fmt: skip
    assert 0 < len(expected) < 17 * 27
    assert patches.origins.tolist() == expected
    split = region_split((20, 30), ":,18:", patch=4, stride=3, validation=0.2, valid=valid)
    plain = region_split((20, 30), ":,18:", patch=4, stride=3, validation=0.2)
    assert len(split.test_origins) == len(plain.test_origins) - 1
    assert (split.test, split.validation) == (plain.test, plain.validation)
    for part in ("train_origins", "validation_origins", "test_origins"):
        origins = getattr(split, part)
        assert all(valid[row : row + 4, column : column + 4].all() for row, column in origins)
        assert len(origins)
        kept = SuperResolutionPatches(scene, scale=2, lr_size=2, origins=getattr(plain, part)).origins
        assert len(kept) == sum(valid[row : row + 4, column : column + 4].all() for row, column in getattr(plain, part))
    held_out = plain.validation_origins, split.validation_origins
    assert {*map(tuple, held_out[1])} <= {*map(tuple, held_out[0])}


def test_nothing_but_invalid_patches(valid: np.ndarray) -> None:
    scene = scene_from_array(np.random.default_rng(0).random((2, 20, 30)), valid=valid)
    with pytest.raises(ValueError, match="all 1 patches of 4 x 4 pixels hold invalid pixels"):
        SuperResolutionPatches(scene, scale=2, lr_size=2, origins=np.array([[0, 0]]))
    with pytest.raises(ValueError, match=r"no 4 x 4 patch of valid pixels fits the validation block 3:8,9:14"):
        region_split((20, 30), ":,22:", patch=4, stride=1, validation="3:8,9:14", valid=valid)
    with pytest.raises(
        ValueError, match=r"no 16 x 16 training patch of valid pixels fits .* a patch of 12 or less fits"
    ):
        region_split((20, 30), ":,22:", patch=16, stride=1, validation=0, valid=valid)
    with pytest.raises(ValueError, match=r"valid must be bool of shape \(20, 30\), got bool of \(30, 20\)"):
        region_split((20, 30), ":,22:", patch=4, stride=1, valid=valid.T)


def test_no_filler_bleeds_through_bicubic(valid: np.ndarray) -> None:
    values = np.random.default_rng(0).integers(1, 1000, (3, 20, 30)).astype(np.int16)
    results = []
    for filler in (-9999, 0, 30000):
        values[:, ~valid] = filler
        scene = scene_from_array(values, valid=valid)
        small = scene.shrunk(bicubic_downsample(scene.tensor(), 2)[0].numpy(), 2)
        results.append(small.enlarged(bicubic_upsample(small.tensor(), 2)[0].numpy(), 2))
    assert results[0].valid is not None
    assert not results[0].valid[2:8, 10:14].any()
    assert results[0].pixels.std() > 0.01
    for scene in results[1:]:
        assert scene.pixels.tobytes() == results[0].pixels.tobytes()


@pytest.mark.parametrize(
    ("dtype", "held", "printed"),
    [
        ("f4", -3.4028234663852886e38, -3.40282e38),
        ("f8", -1.7976931348623157e308, -1.79769e308),
        ("f8", 1.2345678e9, 1.23457e9),
        ("f4", -1234567.0, -1.23457e6),
        ("f4", 1e20, 1e20),
    ],
)
def test_a_nodata_value_printed_with_six_digits(tmp_path: Path, dtype: str, held: float, printed: float) -> None:
    values = np.random.default_rng(0).random((2, 8, 9)).astype(dtype)
    values[:, 2, 3] = held
    np.save(tmp_path / "a.npy", values)
    expected = np.ones((8, 9), bool)
    expected[2, 3] = False
    scene = read_scene(tmp_path / "a.npy", nodata=printed)
    np.testing.assert_array_equal(scene.valid, expected)  # type: ignore[arg-type]
    for other in (-9999.0, 0.999, printed * 0.999):
        assert read_scene(tmp_path / "a.npy", nodata=other, peak=1e300 if dtype == "f8" else 1e38).valid is None
