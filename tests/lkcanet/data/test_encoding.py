"""Units: scale and offset are applied, and what is written means to other programs what the input meant."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lkcanet.data import Scene, read_scene, simulate_lowres, simulate_msi, write_scene
from lkcanet.data.encoding import Encoding, numbers_of
from lkcanet.data.responses import named_response
from tests.lkcanet.enmap_helpers import EMPTY, SCALE, save_enmap

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")

DTYPES = ["uint8", "int16", "uint16", "int32", "float32", "float64"]


@pytest.fixture
def numbers() -> np.ndarray:
    """(3 bands, 8 rows, 6 columns), 10 .. 153, all different."""
    return np.random.default_rng(0).permutation(144).reshape(3, 8, 6) + 10


def save(path: Path, numbers: np.ndarray, scales: list, offsets: list, units: str = "", nodata: float | None = None):
    shape = {"count": len(numbers), "height": numbers.shape[1], "width": numbers.shape[2], "dtype": numbers.dtype}
    with rasterio.open(path, "w", driver="GTiff", nodata=nodata, **shape) as file:
        file.write(numbers)
        file.scales, file.offsets = scales, offsets
        file.units = [units] * len(numbers)
        file.update_tags(mission="one", STATISTICS_MEAN="7", AREA_OR_POINT="Point")
        for band in range(len(numbers)):
            file.update_tags(band + 1, wavelength=str(0.5 + band / 10), wavelength_units="um", fwhm="0.0075", bbl="1")
            file.update_tags(band + 1, solar_irradiance=str(1000 + band), STATISTICS_MAXIMUM="3")
    return path


def save_envi(path: Path, numbers: np.ndarray, metadata: dict) -> Path:
    envi = pytest.importorskip("spectral.io.envi", reason="spectral is not installed")
    envi.save_image(str(path), np.ascontiguousarray(numbers.transpose(1, 2, 0)), metadata=metadata, interleave="bil")
    return path


def scaled(path: Path) -> np.ndarray:
    """(B, H, W) with scales and offsets applied, as a user of rasterio does it."""
    with rasterio.open(path) as file:
        values = file.read(masked=True).astype(np.float64).filled(np.nan)
        return values * np.array(file.scales)[:, None, None] + np.array(file.offsets)[:, None, None]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("each", [True, False])
def test_scale_and_offset_are_applied(tmp_path: Path, numbers: np.ndarray, dtype: str, each: bool) -> None:
    scales, offsets = ([1e-3, 2e-3, 4e-3], [-0.1, 0, 0.2]) if each else ([1e-3] * 3, [-0.1] * 3)
    path = save(tmp_path / "a.tif", numbers.astype(dtype), scales, offsets, "reflectance")
    values = numbers * np.array(scales)[:, None, None] + np.array(offsets)[:, None, None]
    scene = read_scene(path)
    assert scene.peak == pytest.approx(values.max(), rel=1e-15)
    np.testing.assert_allclose(scene.pixels * scene.peak, values, rtol=0, atol=3e-7)
    assert scene.encoding == Encoding(
        dtype,
        tuple(scales),
        tuple(offsets),
        units="reflectance",
        fwhm=(7.5,) * 3,
        good=(True,) * 3,
        tags={"mission": "one", "AREA_OR_POINT": "Point"},
        band_tags={"solar_irradiance": ("1000", "1001", "1002")},
    )
    counts = read_scene(path, raw=True)
    assert counts.peak == numbers.max()
    np.testing.assert_array_equal(counts.pixels, (numbers / np.float64(numbers.max())).astype(np.float32))
    assert counts.encoding == replace(scene.encoding, raw=True)
    some = read_scene(path, bands="2,0")
    assert some.encoding == scene.encoding.of_bands([2, 0])
    np.testing.assert_allclose(some.pixels * some.peak, values[[2, 0]], rtol=0, atol=3e-7)


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_geotiff_to_geotiff(tmp_path: Path, numbers: np.ndarray, dtype: str, raw: bool) -> None:
    """The same image to rasterio: values, type, nodata, units and tags."""
    numbers = numbers.astype(dtype)
    numbers[:, 1, 2] = 7
    path = save(tmp_path / "a.tif", numbers, [1e-3, 2e-3, 4e-3], [-0.1, 0, 0.2], "W m-2", nodata=7)
    write_scene(tmp_path / "b.tif", read_scene(path, raw=raw))
    np.testing.assert_allclose(scaled(tmp_path / "b.tif"), scaled(path), rtol=0, atol=1e-7)
    with rasterio.open(path) as before, rasterio.open(tmp_path / "b.tif") as after:
        for name in ("dtypes", "nodata", "scales", "offsets", "units", "transform"):
            assert getattr(after, name) == getattr(before, name), name
        assert after.tags()["mission"] == "one"
        assert after.tags()["AREA_OR_POINT"] == "Point"
        assert "STATISTICS_MEAN" not in after.tags()
        tags = {"wavelength": "600.0", "wavelength_units": "Nanometers", "fwhm": "7.5", "solar_irradiance": "1001"}
        assert after.tags(2) == {**tags, "bbl": "1"}
        assert after.tags(2, ns="IMAGERY") == {"CENTRAL_WAVELENGTH_UM": "0.6", "FWHM_UM": "0.0075"}
    again = read_scene(tmp_path / "b.tif", raw=raw)
    assert (again.name, again.source, again.peak) == ("a", str(path), read_scene(path, raw=raw).peak)
    # in the other units the peak that was kept means nothing
    assert read_scene(tmp_path / "b.tif", raw=not raw).peak == pytest.approx(read_scene(path, raw=not raw).peak)


def test_integers_are_rounded_and_clipped_with_a_count(tmp_path: Path, numbers: np.ndarray) -> None:
    path = save(tmp_path / "a.tif", numbers.astype(np.uint8), [0.5] * 3, [1.0] * 3, nodata=0)
    scene = read_scene(path)
    wanted = np.full((3, 8, 6), 40.3)
    wanted[0, 0, :4] = -3, 300, 0.2, 255.4  # below, above, on nodata, rounded
    with pytest.warns(UserWarning, match=r"b.tif: 3 of 144 values lie beyond what uint8 holds, or on nodata") as told:
        write_scene(tmp_path / "b.tif", replace(scene, pixels=((wanted * 0.5 + 1) / scene.peak).astype(np.float32)))
    assert len(told) == 1
    with rasterio.open(tmp_path / "b.tif") as file:
        found = file.read()
    assert found[0, 0, :5].tolist() == [1, 255, 1, 255, 40]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_scene(tmp_path / "b.tif", scene)


def test_a_mask_without_a_number_gets_one(tmp_path: Path, numbers: np.ndarray) -> None:
    for dtype, nodata in (("int16", -32768), ("uint16", 65535), ("float32", np.nan)):
        valid = np.arange(48).reshape(8, 6) > 3
        scene = read_scene(save(tmp_path / "a.tif", numbers.astype(dtype), [0.1] * 3, [0.0] * 3))
        for name in ("b.tif", "b.hdr"):
            write_scene(tmp_path / name, replace(scene, valid=valid))
            with rasterio.open(tmp_path / name.replace("hdr", "img")) as file:
                np.testing.assert_equal(file.nodata, nodata)
                np.testing.assert_array_equal(file.read_masks(1) > 0, valid)
            np.testing.assert_array_equal(read_scene(tmp_path / name).valid, valid)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".tif", ".hdr", ".nc"])
def test_types_that_no_image_has(tmp_path: Path, numbers: np.ndarray, suffix: str) -> None:
    for package in ("h5netcdf", "spectral"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    dtypes = {"float16": "float32"} | ({"float128": "float64"} if hasattr(np, "float128") else {})
    scene = Scene((numbers / 160).astype(np.float32), 160.0)
    for dtype, expected in dtypes.items():
        write_scene(tmp_path / f"a{suffix}", replace(scene, encoding=Encoding(dtype)))
        again = read_scene(tmp_path / f"a{suffix}")
        np.testing.assert_allclose(again.pixels * again.peak, numbers, rtol=1e-6)
        assert again.encoding is not None
        assert again.encoding.dtype == expected


HEADER = {
    "wavelength": [0.5, 0.6, 0.7],
    "wavelength units": "Micrometers",
    "fwhm": [0.01, 0.02, 0.03],
    "bbl": [1, 0, 1],
    "band names": ["a", "b", "c"],
    "data units": "reflectance",
    "sensor type": "HySpex",
    "acquisition time": "2024-05-01T10:00:00Z",
    "solar irradiance": [1000, 1001, 1002],
}


@pytest.mark.filterwarnings("ignore:.*marked as bad")
def test_envi_to_envi_through_spectral(tmp_path: Path, numbers: np.ndarray) -> None:
    envi = pytest.importorskip("spectral.io.envi", reason="spectral is not installed")
    path = save_envi(tmp_path / "a.hdr", numbers.astype(np.int16), {**HEADER, "reflectance scale factor": 10000})
    scene = read_scene(path)
    assert scene.peak == pytest.approx(numbers.max() / 1e4)
    write_scene(tmp_path / "b.hdr", scene)
    before, after = envi.open(str(path)), envi.open(str(tmp_path / "b.hdr"))
    loaded = np.asarray(after.load())
    np.testing.assert_allclose(loaded, np.asarray(before.load()), rtol=0, atol=1e-9)  # spectral applies the factor
    assert loaded.max() == pytest.approx(numbers.max() / 1e4)
    assert np.dtype(after.dtype) == np.int16
    np.testing.assert_allclose(after.bands.centers, [500, 600, 700])
    np.testing.assert_allclose(after.bands.bandwidths, [10, 20, 30])
    for name in ("bbl", "band names", "data units", "sensor type", "acquisition time", "solar irradiance"):
        assert after.metadata[name] == before.metadata[name], name


@pytest.mark.filterwarnings("ignore:.*marked as bad")
def test_gains_to_gdal_and_from_one_format_to_the_other(tmp_path: Path, numbers: np.ndarray) -> None:
    gains = {"data gain values": [0.01, 0.02, 0.04], "data offset values": [-0.1, 0, 0.2], "data ignore value": -9999}
    counts = numbers.astype(np.int16)
    counts[:, 0, 0] = -9999
    path = save_envi(tmp_path / "a.hdr", counts, {**HEADER, **gains})
    truth = scaled(tmp_path / "a.img")
    scene = read_scene(path)
    assert scene.valid is not None
    np.testing.assert_allclose(scene.pixels[:, scene.valid] * scene.peak, truth[:, scene.valid], rtol=0, atol=1e-6)
    for name in ("b.hdr", "c.tif", "d.hdr"):
        write_scene(tmp_path / name, scene)
        np.testing.assert_allclose(scaled(tmp_path / name.replace("hdr", "img")), truth, rtol=0, atol=1e-9)
        scene = read_scene(tmp_path / name)
        assert scene.encoding is not None
        assert (scene.encoding.fwhm, scene.encoding.good) == ((10, 20, 30), (True, False, True))
        assert (scene.encoding.units, scene.encoding.nodata) == ("reflectance", -9999)
        assert scene.encoding.tags["sensor type"] == "HySpex"
        assert scene.encoding.band_tags["solar irradiance"] == ("1000", "1001", "1002")
    with pytest.warns(UserWarning, match="the former are applied, the latter is not"):
        factor = read_scene(
            save_envi(tmp_path / "e.hdr", numbers.astype(np.int16), {**gains, "reflectance scale factor": 100})
        )
    assert factor.peak == pytest.approx((numbers * [[[0.01]], [[0.02]], [[0.04]]] + [[[-0.1]], [[0]], [[0.2]]]).max())


def test_through_rioxarray(tmp_path: Path, numbers: np.ndarray) -> None:
    """xarray applies scale_factor, add_offset and _FillValue of bands that share them."""
    rioxarray = pytest.importorskip("rioxarray", reason="rioxarray is not installed")
    counts = numbers.astype(np.int16)
    counts[:, 0, 0] = -1
    path = save(tmp_path / "a.tif", counts, [1e-3] * 3, [-0.1] * 3, nodata=-1)
    write_scene(tmp_path / "b.tif", read_scene(path))
    with (
        rioxarray.open_rasterio(path, mask_and_scale=True) as before,
        rioxarray.open_rasterio(tmp_path / "b.tif", mask_and_scale=True) as after,
    ):
        np.testing.assert_array_equal(after.values, before.values)
        assert np.isnan(after.values[:, 0, 0]).all()
        assert after.encoding["scale_factor"] == before.encoding["scale_factor"] == 1e-3
        assert after.encoding["_FillValue"] == -1


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat"])
def test_working_files_keep_what_a_later_image_needs(tmp_path: Path, numbers: np.ndarray, suffix: str) -> None:
    path = save(tmp_path / "a.tif", numbers.astype(np.uint16), [1e-3] * 3, [-0.1] * 3, "reflectance")
    scene = read_scene(path)
    write_scene(tmp_path / f"b{suffix}", scene)
    again = read_scene(tmp_path / f"b{suffix}")
    assert again.encoding == scene.encoding
    assert again.pixels.tobytes() == scene.pixels.tobytes()
    write_scene(tmp_path / "c.tif", again)
    np.testing.assert_allclose(scaled(tmp_path / "c.tif"), scaled(path), rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match="was written by write_scene in units, not in counts: leave raw out"):
        read_scene(tmp_path / f"b{suffix}", raw=True)
    write_scene(tmp_path / "d.tif", replace(scene, encoding=None))  # as before: normalised, float32
    assert read_scene(tmp_path / "d.tif").pixels.tobytes() == scene.pixels.tobytes()


def test_a_record_is_not_believed_where_the_numbers_were_scaled_since(tmp_path: Path, numbers: np.ndarray) -> None:
    path = save(tmp_path / "a.tif", numbers.astype(np.uint16), [1e-3] * 3, [0.0] * 3)
    write_scene(tmp_path / "b.tif", read_scene(path, peak=5.0))
    assert read_scene(tmp_path / "b.tif").peak == 5
    with rasterio.open(tmp_path / "b.tif", "r+") as file:
        file.scales = [2e-3] * 3
    assert read_scene(tmp_path / "b.tif").peak == pytest.approx(numbers.max() * 2e-3)


@pytest.mark.filterwarnings("ignore:.*(nothing but nodata|marked as bad)")
def test_a_scene_of_enmap(tmp_path: Path) -> None:
    truth = save_enmap(tmp_path / "a.tif", 16, 12)
    scene = read_scene(tmp_path / "a.tif")
    assert scene.bands == 218
    kept = np.delete(truth, list(EMPTY), 0)
    assert scene.valid is not None
    np.testing.assert_allclose(scene.pixels[:, scene.valid] * scene.peak, kept[:, scene.valid], rtol=0, atol=1e-7)
    lowres = simulate_lowres(scene, 4)
    write_scene(tmp_path / "lr.tif", lowres)
    np.testing.assert_allclose(
        scaled(tmp_path / "lr.tif"),
        np.where(lowres.valid, lowres.pixels.astype(np.float64) * lowres.peak, np.nan),
        rtol=0,
        atol=SCALE / 2 + 1e-7,
    )
    with rasterio.open(tmp_path / "lr.tif") as file:
        assert (file.dtypes[0], file.nodata, file.count) == ("int16", -32768, 218)
        assert file.tags(131)["gain"] == "136"  # of the first band behind the empty ones
        assert file.descriptions[130] == "B137"
    msi = simulate_msi(scene, named_response("landsat-tm-4"))
    assert msi.encoding is not None
    assert (msi.encoding.dtype, msi.encoding.scale, msi.encoding.fwhm) == ("int16", SCALE, None)


def test_numbers_of_awkward_types() -> None:
    pixels = np.array([[1.0, -1.0, 1e30, 0.25]], np.float32)
    for dtype, expected, clipped in (
        ("int64", [1, -1, np.nextafter(2.0**63, 0), 0], 1),
        ("uint64", [1, 0, np.nextafter(2.0**64, 0), 0], 2),
        ("float32", [1, -1, 1e30, 0.25], 0),
        ("float16", [1, -1, 65504, 0.25], 1),
        ("int8", [1, -1, 127, 0], 1),
    ):
        values, count = numbers_of(pixels, 1.0, Encoding(dtype), 0)
        assert values.dtype == dtype
        np.testing.assert_array_equal(values[0], np.array(expected).astype(dtype))
        assert count == clipped


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "complex64"}, "dtype must be one of real integers or floats, got 'complex64'"),
        ({"dtype": "text"}, "dtype must be"),
        ({"scale": 0}, "scale must not be 0"),
        ({"scale": (1, np.nan)}, "scale must be finite"),
        ({"offset": "x"}, "could not convert"),
        ({"fwhm": (1, -2)}, "fwhm must be positive numbers"),
        ({"scale": (1, 2), "fwhm": (1, 2, 3)}, r"got lengths \[2, 3\]"),
    ],
)
def test_what_is_no_encoding(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Encoding(**arguments)


def test_an_encoding_of_other_bands() -> None:
    with pytest.raises(ValueError, match=r"encoding must have lists of 4 entries, one a band, got \[3\]"):
        Scene(np.ones((4, 2, 2), np.float32), 1.0, encoding=Encoding(fwhm=(1, 2, 3)))
    for encoding in (Encoding(), Encoding("int16", (1.0, 2.0), nodata=-1, good=(True, False), tags={"a": "b"})):
        assert Encoding.from_json(encoding.as_json()) == encoding
    for text in ("{", "[]", '{"x": 1}'):
        with pytest.raises(ValueError, match=r"."):
            Encoding.from_json(text)
