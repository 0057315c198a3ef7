"""GeoTIFF: what rasterio writes is read, and nothing is guessed."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from lkcanet.data import Scene, read_scene, write_scene

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")

UTM = (30.0, 0.0, 500000.5, 0.0, -30.0, 4000020.0)
TURNED = (20.0, 3.0, 5e5, 2.5, -18.0, 4e6)


@pytest.fixture
def cube() -> np.ndarray:
    """(4 bands, 5 rows, 6 columns) uint16, all values different."""
    return (np.random.default_rng(0).permutation(4 * 5 * 6).reshape(4, 5, 6) * 500 + 7).astype(np.uint16)


def save(path: Path, cube: np.ndarray, bands: list[dict] | None = None, names: list[str] | None = None, **options):
    """With `bands` as tags of each band, `tags` of the file, `mask` as the internal mask."""
    tags, mask = options.pop("tags", {}), options.pop("mask", None)
    shape = {"count": len(cube), "height": cube.shape[1], "width": cube.shape[2], "dtype": cube.dtype.name}
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", **shape, **options) as file:
            file.write(cube)
            file.update_tags(**tags)
            for index, entries in enumerate(bands or ()):
                file.update_tags(index + 1, **entries)
            for index, name in enumerate(names or ()):
                file.set_band_description(index + 1, name)
            if mask is not None:
                file.write_mask(mask)
    return path


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
@pytest.mark.parametrize("options", [{}, {"interleave": "pixel", "compress": "deflate"}, {"tiled": True}])
def test_every_real_dtype(tmp_path: Path, dtype: str, options: dict) -> None:
    cube = np.random.default_rng(0).permutation(60).reshape(3, 4, 5).astype(dtype)
    scene = read_scene(save(tmp_path / "a.tif", cube, **options))
    np.testing.assert_array_equal(scene.pixels, (cube / 59.0).astype(np.float32))
    assert (scene.peak, scene.name, scene.source) == (59, "a", str(tmp_path / "a.tif"))
    assert (scene.wavelengths, scene.band_names, scene.valid, scene.georeference) == (None, None, None, None)


@pytest.mark.parametrize("suffix", [".tif", ".TIFF"])
@pytest.mark.parametrize("transform", [UTM, TURNED])
def test_georeference_and_names(tmp_path: Path, cube: np.ndarray, suffix: str, transform: tuple) -> None:
    crs = rasterio.crs.CRS.from_epsg(3035)
    place = {"transform": rasterio.Affine(*transform), "crs": crs}
    names = ["blue", "", "red", "nir"]
    scene = read_scene(save(tmp_path / f"a{suffix}", cube, names=names, **place))
    assert scene.georeference is not None
    assert scene.georeference.transform == transform
    assert rasterio.crs.CRS.from_wkt(scene.georeference.crs) == crs
    assert scene.band_names == ("blue", "", "red", "nir")
    assert scene.wavelengths is None


MICRO, NANO = ["0.4", "0.5005", "0.6", "2.5"], ["400", "500.5", "600", "2500"]


@pytest.mark.parametrize(
    "options",
    [
        {"bands": [{"wavelength": nm, "wavelength_units": "Nanometers"} for nm in NANO]},
        {"bands": [{"WAVELENGTH": um, "WAVELENGTH_UNITS": "um"} for um in MICRO]},
        {"bands": [{"wavelength": um} for um in MICRO], "tags": {"wavelength_units": "Micrometers"}},
        {"bands": [{"wavelength": nm} for nm in NANO]},
        {"bands": [{"wavelength": f"{nm} nm"} for nm in NANO]},
        {"bands": [{"ns": "IMAGERY", "CENTRAL_WAVELENGTH_UM": um} for um in MICRO]},
        {"tags": {"wavelengths": "{400, 500.5, 600, 2500}"}},
        {"tags": {"Wavelength": "0.4 0.5005 0.6 2.5", "wavelength_units": "micrometers"}},
        {"names": [f"{nm} nm" for nm in NANO]},
        {"names": [f"{um}µm" for um in MICRO]},
        {"names": NANO},
    ],
)
def test_wavelengths(tmp_path: Path, cube: np.ndarray, options: dict) -> None:
    scene = read_scene(save(tmp_path / "a.tif", cube, **options))
    assert scene.wavelengths is not None
    np.testing.assert_allclose(scene.wavelengths, [400, 500.5, 600, 2500], rtol=0, atol=1e-12)
    assert scene.band_names == (tuple(options["names"]) if "names" in options else None)


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        ({"names": ["1", "2", "3", "4"]}, None),
        ({"names": ["Band 400 nm", "500 nm", "600 nm", "700 nm"]}, None),
        ({"names": ["400 nm", "0.5 um", "600 nm", "700 nm"]}, None),
        ({"bands": [{"wavelength": "400"}, {}, {}, {}]}, "for some of the 4 bands"),
        ({"bands": [{"wavelength": "blue"}] * 4}, "no numbers"),
        ({"tags": {"wavelengths": "400, 500, 600"}}, "for some of the 4 bands"),
        ({"bands": [{"wavelength": str(i)} for i in (1, 2, 300, 4)]}, "have no unit"),
        ({"bands": [{"wavelength": "1", "wavelength_units": "GHz"}] * 4}, "neither nm nor micrometres"),
        ({"bands": [{"wavelength": f"1 {unit}"} for unit in ("nm", "nm", "um", "nm")]}, "several units"),
    ],
)
def test_no_guessed_wavelengths(tmp_path: Path, cube: np.ndarray, options: dict, warning: str | None) -> None:
    path = save(tmp_path / "a.tif", cube, **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert read_scene(path).wavelengths is None
    assert [warning in str(entry.message) for entry in caught] == ([True] if warning else [])


LOWEST = -3.4028234663852886e38  # of float32, as GDAL fills


@pytest.mark.parametrize(("dtype", "nodata"), [("i2", -9999), ("f4", np.nan), ("f4", LOWEST), ("f8", 0)])
def test_nodata(tmp_path: Path, cube: np.ndarray, dtype: str, nodata: float) -> None:
    values = (cube // 2).astype(dtype)
    values[1, 2, 3] = values[3, 0, 0] = values[3, 0, 1] = nodata
    scene = read_scene(save(tmp_path / "a.tif", values, nodata=nodata))
    expected = np.ones((5, 6), bool)
    expected[2, 3] = expected[0, 0] = expected[0, 1] = False
    np.testing.assert_array_equal(scene.valid, expected)  # type: ignore[arg-type]
    assert scene.peak == values[:, expected].max()
    np.testing.assert_array_equal(scene.pixels[:, expected], (values[:, expected] / scene.peak).astype(np.float32))
    assert scene.pixels[:, 0, 0].tolist() == scene.pixels[:, 1, 0].tolist()
    undeclared = save(tmp_path / "b.tif", values)
    by_option = read_scene(undeclared, nodata=nodata)
    assert by_option.pixels.tobytes() == scene.pixels.tobytes()
    if np.isnan(nodata):
        with pytest.raises(ValueError, match=r"b.tif: 3 of 120 pixels are NaN .* band 1, row 2, column 3"):
            read_scene(undeclared)
    else:
        assert read_scene(undeclared).valid is None


@pytest.mark.parametrize("kind", ["internal", "external", "alpha"])
def test_masks(tmp_path: Path, cube: np.ndarray, kind: str) -> None:
    valid = np.ones((5, 6), bool)
    valid[0, 1:3] = False
    if kind == "alpha":
        kinds = rasterio.enums.ColorInterp
        save(tmp_path / "a.tif", np.concatenate([cube, valid[None] * np.uint16(65535)]))
        with rasterio.open(tmp_path / "a.tif", "r+") as file:
            file.colorinterp = [kinds.gray, *[kinds.undefined] * 3, kinds.alpha]
    elif kind == "internal":
        save(tmp_path / "a.tif", cube, mask=valid)
    else:
        save(tmp_path / "a.tif", cube)
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(tmp_path / "a.tif", "r+") as file:
            file.write_mask(valid)
        assert (tmp_path / "a.tif.msk").exists()
    scene = read_scene(tmp_path / "a.tif")
    assert scene.bands == 4
    np.testing.assert_array_equal(scene.valid, valid)  # type: ignore[arg-type]
    np.testing.assert_array_equal(scene.pixels[:, valid], (cube[:, valid] / scene.peak).astype(np.float32))
    write_scene(tmp_path / "a.tif", Scene(scene.pixels, 1.0))  # a mask beside the old file is not the new one's
    assert read_scene(tmp_path / "a.tif").valid is None


def test_unusable(tmp_path: Path, cube: np.ndarray) -> None:
    values = cube.astype(np.float32)
    with pytest.raises(ValueError, match=r"a.tif: pixels must be real integers or floats, got complex64"):
        read_scene(save(tmp_path / "a.tif", values.astype(np.complex64)))
    with pytest.raises(ValueError, match=r"b.tif: no pixel is valid"):
        read_scene(save(tmp_path / "b.tif", values, mask=np.zeros((5, 6), bool)))
    with pytest.raises(ValueError, match=r"c.tif: no pixel is valid: every one is nodata \(0\) or masked"):
        read_scene(save(tmp_path / "c.tif", 0 * values, nodata=0))
    with pytest.raises(ValueError, match="axes and size do not apply"):
        read_scene(tmp_path / "a.tif", axes="chw")
    with pytest.raises(ValueError, match="key 'x' was given"):
        read_scene(tmp_path / "a.tif", key="x")
    for content in (b"", b"II*\0", np.random.default_rng(0).bytes(999)):
        (tmp_path / "d.tif").write_bytes(content)
        with pytest.raises(OSError, match=r"d.tif: cannot be read as a GeoTIFF file"):
            read_scene(tmp_path / "d.tif")
    path = save(tmp_path / "e.tif", cube)
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (1, 0, 1, 1), (0, 0, 0, 0)
    with pytest.warns(UserWarning, match="scales are 0, or scales or offsets no finite numbers"):
        assert read_scene(path).peak == cube.max()
