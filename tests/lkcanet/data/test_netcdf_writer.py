"""netCDF and cloud-optimised GeoTIFF written: nothing lost, read by xarray, netCDF4 and rasterio too."""

import resource
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lkcanet.data import Georeference, Scene, read_scene, write_scene
from lkcanet.data.encoding import Encoding
from lkcanet.data.formats.cog import make_cog

from . import sensor_files
from .written_scenes import check_same, masked_scene

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
pytest.importorskip("h5netcdf", reason="h5netcdf is not installed")
pyproj = pytest.importorskip("pyproj", reason="pyproj is not installed")

UTM = (30.0, 0.0, 500000.5, 0.0, -30.0, 4000020.0)
TURNED = (20.0, 3.0, 5e5, 2.5, -18.0, 4e6)


@pytest.fixture
def scene() -> Scene:
    return masked_scene(
        Georeference(UTM, pyproj.CRS.from_epsg(32611).to_wkt()),
        name="Größe <1>",
        source='x="1"&y',
        band_names=["a, b", "c", "µ", ""],
    )


@pytest.fixture
def counts(scene: Scene) -> Scene:
    """As a sensor's file of int16 reflectance gives it."""
    encoding = Encoding(
        "int16", 1e-4, -0.1, nodata=-9999, units="reflectance", fwhm=(5, 6, 7, 8.5), good=(True, True, False, True),
        tags={"long_name": "Surface Reflectance"}, band_tags={"gain": ("1", "", "2", "x")},
    )  # fmt: skip
    numbers = np.random.default_rng(1).integers(-100, 9000, (4, 5, 6))
    values = (numbers * 1e-4 - 0.1).astype(np.float32)
    return replace(scene, pixels=values / np.float32(values.max()), peak=float(values.max()), encoding=encoding)


@pytest.mark.parametrize("transform", [UTM, TURNED, (1.0, 0.5, 0.0, 0.25, 1.0, 0.0)])
def test_round_trip(tmp_path: Path, scene: Scene, transform: tuple) -> None:
    crs = pyproj.CRS.from_epsg(3035)
    for text in (crs.to_wkt(), crs.to_wkt("WKT1_GDAL"), "EPSG:3035", ""):
        part = replace(scene, peak=1 / 3, georeference=Georeference(transform, text))
        write_scene(tmp_path / "a.nc", part)
        again = read_scene(tmp_path / "a.nc")
        check_same(again, part)
    bare = Scene(scene.pixels[:1], 7.0)
    write_scene(tmp_path / "a.nc", bare)
    again = read_scene(tmp_path / "a.nc")
    assert (again.peak, again.name, again.wavelengths, again.valid, again.georeference) == (7, "", None, None, None)
    np.testing.assert_array_equal(read_scene(tmp_path / "a.nc", peak=14).pixels, bare.pixels / 2)
    assert [path.name for path in tmp_path.iterdir()] == ["a.nc"]


@pytest.mark.parametrize("nm", [[400.5, 500, 600.1, 2500], [2500, 600.1, 500, 400.5], [400, 950, 900, 1000], None])
def test_round_trip_of_counts(tmp_path: Path, counts: Scene, nm: list[float] | None) -> None:
    counts = replace(counts, wavelengths=None if nm is None else np.array(nm))
    write_scene(tmp_path / "a.nc", counts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the bad band
        again = read_scene(tmp_path / "a.nc")
    seen = counts.valid
    assert (again.name, again.source, again.peak) == (counts.name, counts.source, counts.peak)
    assert again.encoding == counts.encoding
    assert again.band_names == counts.band_names
    np.testing.assert_array_equal(again.valid, seen)  # type: ignore[arg-type]
    np.testing.assert_allclose(again.pixels[:, seen], counts.pixels[:, seen], rtol=0, atol=1e-6)
    if nm is None:
        assert again.wavelengths is None
    else:
        np.testing.assert_array_equal(again.wavelengths, nm)  # type: ignore[arg-type]
    assert again.georeference is not None
    assert counts.georeference is not None
    assert again.georeference.agrees(counts.georeference)
    assert pyproj.CRS.from_wkt(again.georeference.crs) == pyproj.CRS.from_epsg(32611)


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_xarray_reads_it(tmp_path: Path, counts: Scene, engine: str) -> None:
    xarray = pytest.importorskip("xarray", reason="xarray is not installed")
    pytest.importorskip("rioxarray", reason="rioxarray is not installed")
    pytest.importorskip("netCDF4" if engine == "netcdf4" else "h5netcdf", reason=f"{engine} is not installed")
    write_scene(tmp_path / "a.nc", counts)
    with xarray.open_dataset(tmp_path / "a.nc", engine=engine, decode_coords="all") as file:
        image = file.image.load()
        assert image.dims == ("wavelength", "y", "x")
        assert image.attrs == {"long_name": "Surface Reflectance", "units": "1"}
        assert {name: image.encoding[name] for name in ("dtype", "scale_factor", "add_offset", "_FillValue")} == {
            "dtype": np.dtype("int16"), "scale_factor": 1e-4, "add_offset": -0.1, "_FillValue": -9999,
        }  # fmt: skip
        assert counts.valid is not None
        np.testing.assert_array_equal(np.isnan(image.values), np.broadcast_to(~counts.valid, counts.shape))
        values = counts.pixels * counts.peak
        np.testing.assert_allclose(image.values[:, counts.valid], values[:, counts.valid], rtol=0, atol=1e-6)
        np.testing.assert_array_equal(image.wavelength, counts.wavelengths)
        assert image.wavelength.attrs["units"] == "nm"
        np.testing.assert_array_equal(image.fwhm, [5, 6, 7, 8.5])
        np.testing.assert_array_equal(image.bbl, [1, 1, 0, 1])
        assert image.band_name.values.tolist() == ["a, b", "c", "µ", ""]
        assert image.rio.crs.to_epsg() == 32611
        assert tuple(image.rio.transform())[:6] == UTM
        np.testing.assert_allclose(image.x[:2], [500015.5, 500045.5], rtol=0, atol=1e-9)
        np.testing.assert_allclose(image.y[:2], [4000005, 3999975], rtol=0, atol=1e-9)
        assert file.attrs["Conventions"].startswith("CF-1.")


def test_gdal_reads_it(tmp_path: Path, counts: Scene) -> None:
    if "netCDF" not in rasterio.drivers.raster_driver_extensions().values():
        pytest.skip("this GDAL has no netCDF driver")
    write_scene(tmp_path / "a.nc", counts)
    with rasterio.open(f"netcdf:{tmp_path / 'a.nc'}:image") as file:
        assert (file.count, file.dtypes[0], file.nodata) == (4, "int16", -9999)
        assert (set(file.scales), set(file.offsets)) == ({1e-4}, {-0.1})
        assert tuple(file.transform)[:6] == UTM
        assert file.crs.to_epsg() == 32611
        numbers = file.read()
    assert counts.valid is not None
    values = counts.pixels[:, counts.valid] * counts.peak
    np.testing.assert_allclose(numbers[:, counts.valid] * 1e-4 - 0.1, values, rtol=0, atol=1e-6)


def test_geographic_coordinates_and_their_words(tmp_path: Path, scene: Scene) -> None:
    netCDF4 = pytest.importorskip("netCDF4", reason="netCDF4 is not installed")
    place = Georeference((0.01, 0, 7, 0, -0.01, 45), "EPSG:4326")
    write_scene(tmp_path / "a.nc", replace(scene, georeference=place))
    with netCDF4.Dataset(tmp_path / "a.nc") as file:
        assert (file["x"].units, file["y"].standard_name) == ("degrees_east", "latitude")
        assert file["spatial_ref"].grid_mapping_name == "latitude_longitude"
        assert file["image"].grid_mapping == "spatial_ref"
        assert file["wavelength"].standard_name == "radiation_wavelength"


def test_several_scales_become_floats(tmp_path: Path) -> None:
    sensor_files.hyperion(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scene = read_scene(tmp_path)
    with pytest.warns(UserWarning, match="several scales, and netCDF has one for all: values are written as float32"):
        write_scene(tmp_path / "a.nc", scene)
    again = read_scene(tmp_path / "a.nc")
    assert again.encoding is not None
    assert (again.encoding.dtype, again.encoding.units) == ("float32", "W m-2 sr-1 um-1")
    np.testing.assert_allclose(again.pixels * again.peak, scene.pixels * scene.peak, rtol=1e-6)
    np.testing.assert_array_equal(again.valid, scene.valid)  # type: ignore[arg-type]


@pytest.mark.parametrize(("suffix", "level"), [(".nc", "prisma"), (".tif", "prisma"), (".hdr", "prisma")])
def test_sensors_are_written_back(tmp_path: Path, suffix: str, level: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sensor_files.prisma(tmp_path / "a.he5")
        scene = read_scene(tmp_path / "a.he5")
        write_scene(tmp_path / f"b{suffix}", scene)
        again = read_scene(tmp_path / f"b{suffix}")
    np.testing.assert_array_equal(again.valid, scene.valid)  # type: ignore[arg-type]
    np.testing.assert_allclose(again.pixels * again.peak, scene.pixels * scene.peak, rtol=0, atol=1e-5)
    np.testing.assert_allclose(again.wavelengths, scene.wavelengths, rtol=1e-12)  # type: ignore[arg-type]
    assert again.band_names == scene.band_names
    assert again.encoding is not None
    assert (again.encoding.units, again.encoding.fwhm) == ("reflectance", (11.5,) * scene.bands)
    assert again.georeference is not None
    assert again.georeference.transform == sensor_files.UTM33


def test_unknown_systems_and_full_disks_write_nothing(tmp_path: Path, scene: Scene) -> None:
    path = tmp_path / "a.nc"
    with pytest.raises(ValueError, match=r"georeference.crs is not a system that PROJ knows: 'Mars'"):
        write_scene(path, replace(scene, georeference=Georeference(UTM, "Mars")))
    assert list(tmp_path.iterdir()) == []
    write_scene(path, scene)
    before = path.read_bytes()
    large = Scene(np.random.default_rng(0).random((3, 100, 100), np.float32), 1.0)
    soft = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (500, 5_000, 50_000, 100_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, soft[1]))
        try:
            with pytest.raises(OSError, match=r"a.nc: the netCDF file could not be written whole, disk full"):
                write_scene(path, large)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, soft)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.nc"]


def test_damage_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    write_scene(path, Scene(np.random.default_rng(0).random((3, 64, 64), np.float32), 1.0))
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    path.write_bytes(whole)
    with pytest.raises(OSError, match="truncated or corrupt"):
        read_scene(path)


def test_cog(tmp_path: Path, counts: Scene) -> None:
    pixels = np.tile(counts.pixels, (1, 110, 90))
    valid = np.ones(pixels.shape[1:], bool)
    valid[:300] = False
    scene = replace(counts, pixels=pixels, valid=valid)
    write_scene(tmp_path / "plain.tif", scene)
    write_scene(tmp_path / "a.tif", scene, cog=True)
    with rasterio.open(tmp_path / "a.tif") as file, rasterio.open(tmp_path / "plain.tif") as plain:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.overviews(1) == [2]
        assert file.profile["blockxsize"] == 512
        np.testing.assert_array_equal(file.read(), plain.read())
        for name in ("crs", "transform", "nodata", "scales", "offsets", "descriptions", "units", "dtypes"):
            assert getattr(file, name) == getattr(plain, name), name
        assert file.tags().items() >= {k: v for k, v in plain.tags().items() if k != "AREA_OR_POINT"}.items()
        assert all(file.tags(band) == plain.tags(band) for band in (1, 2, 3, 4))
        with rasterio.open(tmp_path / "a.tif", overview_level=0) as small:
            part = small.read(1)[160:170, 160:170]  # 2 x 2 pixels of a block that repeats every 5 x 6
            expected = file.read(1)[320:340, 320:340].reshape(10, 2, 10, 2).mean((1, 3))
            np.testing.assert_allclose(part, expected, rtol=0, atol=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, second = read_scene(tmp_path / "a.tif"), read_scene(tmp_path / "plain.tif")
    assert (first.pixels.tobytes(), first.peak, first.encoding) == (
        second.pixels.tobytes(),
        second.peak,
        second.encoding,
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "plain.tif"]


def test_cog_of_normalised_pixels_and_of_many_bands(tmp_path: Path, scene: Scene) -> None:
    write_scene(tmp_path / "a.tif", scene, cog=True)
    again = read_scene(tmp_path / "a.tif")
    assert again.pixels.tobytes() == scene.pixels.tobytes()
    assert (again.peak, again.georeference) == (scene.peak, scene.georeference)
    many = Scene(np.random.default_rng(0).random((20, 130, 130), np.float32), 1.0)
    write_scene(tmp_path / "b.tif", many, cog=True)
    with rasterio.open(tmp_path / "b.tif") as file:
        assert file.profile["blockxsize"] == 256
    with pytest.raises(ValueError, match=r"a.nc: cog goes with GeoTIFF \(.tif, .tiff\), got suffix '.nc'"):
        write_scene(tmp_path / "a.nc", scene, cog=True)
    before = (tmp_path / "a.tif").read_bytes()
    soft = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, soft[1]))
    try:
        with pytest.raises(OSError, match=r"a.tif: the GeoTIFF could not be written whole, disk full"):
            write_scene(tmp_path / "a.tif", many, cog=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, soft)
    assert (tmp_path / "a.tif").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_a_cog_that_is_not_whole_leaves_the_file_as_it_was(
    tmp_path: Path, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil = pytest.importorskip("rasterio.shutil", reason="rasterio is not installed")
    path, other = tmp_path / "a.tif", tmp_path / "b.tif"
    write_scene(path, scene)
    write_scene(other, replace(scene, pixels=scene.pixels * np.float32(0.5)))
    before, copy = path.read_bytes(), shutil.copy
    monkeypatch.setattr(shutil, "copy", lambda file, *args, **options: copy(str(other), *args, **options))
    with pytest.raises(OSError, match="the GeoTIFF could not be written whole, disk full"):
        make_cog(path)
    assert path.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.tif", "b.tif"]
