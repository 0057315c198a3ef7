"""GeoTIFF: what rasterio writes is read, what is written rasterio reads, and nothing is guessed."""

import json
import resource
import warnings
from pathlib import Path

import numpy as np
import pytest

from lkcanet.data import Georeference, Scene, read_scene, scene_from_array, write_scene

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")

UTM = (30.0, 0.0, 500000.5, 0.0, -30.0, 4000020.0)
TURNED = (20.0, 3.0, 5e5, 2.5, -18.0, 4e6)


@pytest.fixture
def cube() -> np.ndarray:
    """(4 bands, 5 rows, 6 columns) uint16, all values different."""
    return (np.random.default_rng(0).permutation(4 * 5 * 6).reshape(4, 5, 6) * 500 + 7).astype(np.uint16)


@pytest.fixture
def scene(cube: np.ndarray) -> Scene:
    valid = np.ones((5, 6), bool)
    valid[1:3, 2:4] = False
    return scene_from_array(
        cube,
        wavelengths=[400.5, 500, 600.1, 1e4 / 3],
        name="Größe <1>",
        source='x="1"&y',
        band_names=["a, b", "c", "µ", "d"],
        valid=valid,
        georeference=Georeference(UTM, rasterio.crs.CRS.from_epsg(32611).to_wkt()),
    )


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
    with pytest.raises(ValueError, match=r"c.tif: nothing but nodata \(0\) in 4 of 4 bands"):
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
        file.scales, file.offsets = (1, 2, 1, 1), (0, 0, 0, 0)
    with pytest.warns(UserWarning, match="scales and offsets differ between bands"):
        read_scene(path)


# ---- writing


@pytest.mark.parametrize("transform", [UTM, TURNED, (1.0, 0.5, 0.0, 0.25, 1.0, 0.0)])
def test_round_trip(tmp_path: Path, scene: Scene, transform: tuple) -> None:
    crs = rasterio.crs.CRS.from_epsg(3035)
    for text in (crs.to_wkt(), crs.to_wkt(version="WKT2_2019"), "EPSG:3035", ""):
        part = Scene(
            scene.pixels, 1 / 3, scene.wavelengths, scene.name, scene.source, scene.band_names, scene.valid,
            Georeference(transform, text),
        )  # fmt: skip
        write_scene(tmp_path / "a.tif", part)
        again = read_scene(tmp_path / "a.tif")
        assert again.pixels.tobytes() == part.pixels.tobytes()
        assert (again.peak, again.name, again.source) == (part.peak, part.name, part.source)
        np.testing.assert_array_equal(again.wavelengths, part.wavelengths)  # type: ignore[arg-type]
        np.testing.assert_array_equal(again.valid, part.valid)  # type: ignore[arg-type]
        assert again.band_names == part.band_names
        assert again.georeference == part.georeference
    bare = Scene(scene.pixels[:1], 7.0)
    write_scene(tmp_path / "a.tif", bare)
    again = read_scene(tmp_path / "a.tif")
    assert (again.peak, again.name, again.wavelengths, again.valid, again.georeference) == (7, "", None, None, None)
    np.testing.assert_array_equal(read_scene(tmp_path / "a.tif", peak=14).pixels, bare.pixels / 2)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_rasterio_reads_what_is_written(tmp_path: Path, scene: Scene) -> None:
    write_scene(tmp_path / "a.tif", scene)
    with rasterio.open(tmp_path / "a.tif") as file:
        assert tuple(file.transform)[:6] == UTM
        assert file.crs.to_epsg() == 32611
        assert np.isnan(file.nodata)
        assert file.scales == (scene.peak,) * 4
        assert file.descriptions == ("a, b", "c", "µ", "d")
        assert file.tags(2) == {"wavelength": "500.0", "wavelength_units": "Nanometers"}
        profile = {key: file.profile[key] for key in ("dtype", "compress", "tiled", "interleave")}
        assert profile == {"dtype": "float32", "compress": "deflate", "tiled": True, "interleave": "band"}
        assert file.tags(ns="IMAGE_STRUCTURE")["PREDICTOR"] == "3"
        masked = file.read(masked=True)
    assert scene.valid is not None
    np.testing.assert_array_equal(masked.mask, np.broadcast_to(~scene.valid, masked.shape))
    np.testing.assert_array_equal(masked.data[:, scene.valid], scene.pixels[:, scene.valid])


def test_what_another_program_changed_holds(tmp_path: Path, scene: Scene) -> None:
    path = tmp_path / "a.tif"
    write_scene(path, scene)
    with rasterio.open(path, "r+") as file:
        file.transform, file.crs = rasterio.Affine(*TURNED), rasterio.crs.CRS.from_epsg(3035)
        file.set_band_description(1, "soil")
    again = read_scene(path)
    assert again.georeference is not None
    assert again.georeference.transform == TURNED
    assert rasterio.crs.CRS.from_wkt(again.georeference.crs).to_epsg() == 3035
    assert again.band_names == ("soil", "c", "µ", "d")
    assert again.pixels.tobytes() == scene.pixels.tobytes()
    counts = save(tmp_path / "b.tif", scene.pixels * np.float32(scene.peak), nodata=None)
    with rasterio.open(path) as old, rasterio.open(counts, "r+") as file:  # as gdal_translate -unscale
        file.update_tags(**old.tags())
    again = read_scene(counts)
    assert again.peak == pytest.approx(scene.peak * float(scene.pixels.max()))
    assert again.pixels.max() == 1


def test_every_shorter_file_is_refused(tmp_path: Path, scene: Scene) -> None:
    path = tmp_path / "a.tif"
    write_scene(path, scene)
    whole = path.read_bytes()
    for length in [*range(0, len(whole) - 1, 41), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(OSError, match=r"a.tif: cannot be read as a GeoTIFF"):
            read_scene(path)


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, scene: Scene) -> None:
    """GDAL itself reports nothing: the kernel refuses to let a file grow beyond a limit."""
    path = tmp_path / "a.tif"
    write_scene(path, scene)
    before = path.read_bytes()
    large = Scene(np.random.default_rng(0).random((3, 100, 100), np.float32), 1.0)
    soft = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (500, 5_000, 50_000, 100_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, soft[1]))
        try:
            with pytest.raises(OSError, match=r"a.tif: the GeoTIFF could not be written whole, disk full\?"):
                write_scene(path, large)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, soft)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.tif"]


def test_a_system_that_proj_does_not_know(tmp_path: Path, scene: Scene) -> None:
    part = Scene(scene.pixels, 1.0, georeference=Georeference(UTM, "somewhere"))
    with pytest.raises(ValueError, match=r"georeference.crs is not a system that PROJ knows: 'somewhere'"):
        write_scene(tmp_path / "a.tif", part)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_record(tmp_path: Path, scene: Scene) -> None:
    write_scene(tmp_path / "a.tif", scene)
    with rasterio.open(tmp_path / "a.tif", "r+") as file:
        record = json.loads(file.tags()["LKCANET_SCENE"])
        del record["peak"]
        file.update_tags(LKCANET_SCENE=json.dumps(record))
    with pytest.raises(OSError, match=r"a.tif: cannot be read as a scene of write_scene"):
        read_scene(tmp_path / "a.tif")
