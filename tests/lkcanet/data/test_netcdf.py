"""netCDF and HDF5 that netCDF4, xarray, rioxarray, scipy and h5py wrote."""

import gc
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lkcanet.data import read_scene
from lkcanet.data.formats import kinds

h5py = pytest.importorskip("h5py", reason="h5py is not installed")
pytest.importorskip("h5netcdf", reason="h5netcdf is not installed")
netCDF4 = pytest.importorskip("netCDF4", reason="netCDF4 is not installed")

NM = [450.5, 550.0, 650.25, 2200.0]


@pytest.fixture
def cube() -> np.ndarray:
    """(4 bands, 5 rows, 6 columns) int16, all values different."""
    return (np.random.default_rng(0).permutation(4 * 5 * 6).reshape(4, 5, 6) * 50 + 7).astype(np.int16)


def save(path: Path, cube: np.ndarray, dims: tuple[str, ...], order: str, *, kind: str = "NETCDF4", **options) -> Path:
    """With coordinates of all axes; attributes are options of `radiance`."""
    sizes = dict(zip("chw", cube.shape, strict=True))
    with netCDF4.Dataset(path, "w", format=kind) as file:
        for dim, letter in zip(dims, order, strict=True):
            file.createDimension(dim, sizes[letter])
        for dim, letter in zip(dims, order, strict=True):
            axis = file.createVariable(dim, "f8", (dim,))
            axis[:] = {"c": NM, "h": 4000000 - 30.0 * np.arange(5), "w": 500000 + 30.0 * np.arange(6)}[letter]
            if letter == "c":
                axis.units = "nm"
        fill = options.pop("fill", None)
        image = file.createVariable("radiance", cube.dtype, dims, fill_value=fill, **options.pop("storage", {}))
        image.set_auto_maskandscale(False)
        image.setncatts(options)
        image[:] = cube.transpose(["chw".index(letter) for letter in order])
        file.createVariable("mask", "i1", dims[:2])[:] = 0
    return path


@pytest.mark.parametrize("kind", ["NETCDF4", "NETCDF4_CLASSIC", "NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET"])
@pytest.mark.parametrize(
    ("dims", "order"),
    [(("wavelength", "y", "x"), "chw"), (("lat", "lon", "band"), "hwc"), (("row", "channels", "sample"), "hcw")],
)
def test_axes_by_their_names(tmp_path: Path, cube: np.ndarray, kind: str, dims: tuple, order: str) -> None:
    path = save(tmp_path / "a.nc", cube, dims, order, kind=kind, scale_factor=0.5, add_offset=-3.0, units="mW")
    with pytest.warns(UserWarning, match="radiance is read, the only 3-D variable"):
        scene = read_scene(path)
    np.testing.assert_allclose(scene.pixels * scene.peak, cube * 0.5 - 3, rtol=1e-6, atol=1e-4)
    assert scene.encoding is not None
    assert (scene.encoding.scale, scene.encoding.offset, scene.encoding.units) == (0.5, -3, "mW")
    assert scene.georeference is not None
    assert scene.georeference.transform == (30, 0, 499985, 0, -30, 4000015)
    # a band's number is no wavelength; its coordinate is one by its name or unit
    np.testing.assert_array_equal(scene.wavelengths, NM)  # type: ignore[arg-type]
    np.testing.assert_array_equal(read_scene(path, key="radiance", raw=True, peak=1).pixels, cube)


def test_nodata_and_packing(tmp_path: Path, cube: np.ndarray) -> None:
    cube[1, 2, 3] = cube[:, 0, 0] = -999
    path = save(tmp_path / "a.nc", cube, ("wavelength", "y", "x"), "chw", fill=-999, storage={"zlib": True})
    with pytest.warns(UserWarning, match=r"1 of 30 pixels hold nodata \(-999\) in some bands only"):
        scene = read_scene(path, key="radiance")
    assert scene.valid is not None
    np.testing.assert_array_equal(np.argwhere(~scene.valid), [[0, 0], [2, 3]])


def test_what_xarray_and_rioxarray_write(tmp_path: Path, cube: np.ndarray) -> None:
    xarray = pytest.importorskip("xarray", reason="xarray is not installed")
    pytest.importorskip("rioxarray", reason="rioxarray is not installed")
    rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
    coords = {"wavelength": ("wavelength", np.array(NM) / 1000, {"units": "um"})}
    array = xarray.DataArray(cube, dims=("wavelength", "y", "x"), coords=coords, name="reflectance")
    array = array.rio.write_crs("EPSG:32633").rio.write_transform(rasterio.Affine(30, 0, 500000, 0, -30, 4000000))
    array.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    scene = read_scene(tmp_path / "a.nc")
    np.testing.assert_allclose(scene.wavelengths, NM, rtol=1e-12)  # type: ignore[arg-type]
    assert scene.georeference is not None
    assert scene.georeference.transform == (30, 0, 500000, 0, -30, 4000000)
    assert rasterio.crs.CRS.from_wkt(scene.georeference.crs).to_epsg() == 32633
    degrees = {"lat": 45 - 0.01 * np.arange(5), "lon": 7 + 0.01 * np.arange(6), "band": [1, 2, 3, 4]}
    array = xarray.DataArray(cube[None], dims=("time", "band", "lat", "lon"), coords=degrees, name="r")
    array.lat.attrs["units"] = "degrees_north"
    array.to_netcdf(tmp_path / "b.nc", engine="netcdf4")
    scene = read_scene(tmp_path / "b.nc", peak=1)
    np.testing.assert_array_equal(scene.pixels, cube)
    assert scene.wavelengths is None  # numbers of bands
    assert scene.georeference is not None
    assert scene.georeference.crs == "EPSG:4326"
    np.testing.assert_allclose(scene.georeference.transform, (0.01, 0, 6.995, 0, -0.01, 45.005), rtol=1e-9)


def test_a_grid_mapping_without_wkt(tmp_path: Path, cube: np.ndarray) -> None:
    pyproj = pytest.importorskip("pyproj", reason="pyproj is not installed")
    path = save(tmp_path / "a.nc", cube, ("wavelength", "y", "x"), "chw", grid_mapping="utm")
    with netCDF4.Dataset(path, "a") as file:
        mapping = pyproj.CRS.from_epsg(32633).to_cf()
        del mapping["crs_wkt"]
        file.createVariable("utm", "i4").setncatts(mapping)
    scene = read_scene(path, key="radiance")
    assert scene.georeference is not None
    read = pyproj.CRS.from_wkt(scene.georeference.crs)
    assert read.to_dict() == pyproj.CRS.from_epsg(32633).to_dict() or read.utm_zone == "33N"


def test_groups_and_swaths(tmp_path: Path, cube: np.ndarray) -> None:
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as file:
        for name, size in {"number_of_lines": 5, "pixels_per_line": 6, "number_of_bands": 4}.items():
            file.createDimension(name, size)
        listed = file.createGroup("sensor_band_parameters").createVariable("wavelength", "f4", ("number_of_bands",))
        listed.units, listed[:] = "nm", NM
        file.createGroup("geolocation_data").createVariable("lon", "f4", ("number_of_lines", "pixels_per_line"))[:] = 2
        image = file.createGroup("observation_data").createVariable(
            "rhot", "f4", ("number_of_bands", "number_of_lines", "pixels_per_line")
        )
        image[:] = cube
    with pytest.warns(UserWarning, match=r"a place each \(geolocation_data/lon\) and no grid"):
        scene = read_scene(tmp_path / "a.nc", key="/observation_data/rhot", peak=1)
    np.testing.assert_array_equal(scene.pixels, cube)
    np.testing.assert_allclose(scene.wavelengths, NM, rtol=1e-6)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"has no key 'rhot'; keys: .*observation_data/rhot \(4, 5, 6\) float32"):
        read_scene(tmp_path / "a.nc", key="rhot")


@pytest.mark.parametrize("order", ["chw", "hwc", "hcw"])
def test_hdf5_by_its_wavelengths_or_shortest_axis(tmp_path: Path, cube: np.ndarray, order: str) -> None:
    path = tmp_path / "a.h5"
    stored = cube.transpose(["chw".index(letter) for letter in order])
    with h5py.File(path, "w") as file:
        file["cubes/rad"] = stored
        file["cubes/rad"].attrs["_FillValue"] = np.int16(7)
    told = order if order != "hcw" else "hcw"
    with pytest.warns(UserWarning, match=f"cubes/rad .* does not tell its axes: taken as {told}, the shortest"):
        scene = read_scene(path, peak=1)
    assert scene.valid is not None
    np.testing.assert_array_equal(~scene.valid, (cube == 7).any(0))
    np.testing.assert_array_equal(scene.pixels[:, scene.valid], cube[:, scene.valid])
    with h5py.File(path, "a") as file:
        file["wavelengths"] = np.array(NM)
        file["wavelengths"].attrs["units"] = "nm"
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", ".*1 of 30 pixels")
        scene = read_scene(path)
    np.testing.assert_array_equal(scene.wavelengths, NM)  # type: ignore[arg-type]
    np.testing.assert_array_equal(read_scene(path, axes=order).pixels, scene.pixels)
    turned = {"chw": "cwh", "hwc": "whc", "hcw": "wch"}[order]
    other = read_scene(path, axes=turned)
    assert other.valid is not None
    assert scene.valid is not None
    np.testing.assert_array_equal(other.valid, scene.valid.T)
    np.testing.assert_array_equal(other.pixels[:, other.valid], scene.pixels.swapaxes(1, 2)[:, scene.valid.T])


def test_hdf5_that_tells_nothing(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.ones((5, 5, 6))
        file["y"] = np.ones((8, 9))
    with pytest.raises(ValueError, match=r"a.h5: x \(5, 5, 6\) does not tell its axes: give axes"):
        read_scene(tmp_path / "a.h5", key="x")
    assert read_scene(tmp_path / "a.h5", key="x", axes="hwc").shape == (6, 5, 5)
    with pytest.raises(ValueError, match=r"axes 'hwc' do not fit shape \(8, 9\).*for one band, axes='hw'"):
        read_scene(tmp_path / "a.h5", key="y", axes="hwc")
    assert read_scene(tmp_path / "a.h5", key="y", axes="hw").shape == (1, 8, 9)
    (tmp_path / "b.hdf").write_bytes(b"\x0e\x03\x13\x01" + bytes(100))
    with pytest.raises(OSError, match=r"b.hdf: is HDF4, which is not read: convert it"):
        read_scene(tmp_path / "b.hdf")


@pytest.mark.parametrize("scale", [0, np.nan, "0.5 and more", np.array([1.0, 2, 3])])
def test_scales_of_no_use_are_left_out(tmp_path: Path, cube: np.ndarray, scale: object) -> None:
    path = save(tmp_path / "a.nc", cube, ("wavelength", "y", "x"), "chw", scale_factor=scale, add_offset=2.0)
    with pytest.warns(UserWarning, match=r"a.nc: scales are 0, or scales or offsets no finite numbers"):
        scene = read_scene(path, key="radiance")
    assert scene.peak == cube.max()
    assert scene.encoding is not None
    assert not scene.encoding.scaled


def test_a_scale_for_each_band(tmp_path: Path, cube: np.ndarray) -> None:
    path = save(tmp_path / "a.nc", cube, ("y", "x", "wavelength"), "hwc", scale_factor=[1.0, 2, 3, 4], add_offset="5")
    scene = read_scene(path, key="radiance")
    assert scene.peak == (cube * np.arange(1.0, 5)[:, None, None] + 5).max()
    assert scene.encoding is not None
    assert (scene.encoding.scale, scene.encoding.offset, scene.encoding.tags) == ((1, 2, 3, 4), 5, {})


@pytest.mark.parametrize("told", ["none", "1 2 3 4 5", "0 0 0 0 0 0", [1.0, 2.0]])
def test_a_transform_of_no_use_is_passed_over(tmp_path: Path, cube: np.ndarray, told: object) -> None:
    path = save(tmp_path / "a.nc", cube, ("wavelength", "y", "x"), "chw", grid_mapping="crs")
    with netCDF4.Dataset(path, "a") as file:
        file.createVariable("crs", "i4", ()).GeoTransform = told
    scene = read_scene(path, key="radiance")
    assert scene.georeference is not None  # of the coordinates
    assert scene.georeference.transform == (30, 0, 499985, 0, -30, 4000015)


@pytest.mark.parametrize("name", ["of_another_planet", "lambert_conformal_conic"])
def test_a_grid_mapping_that_proj_does_not_know_is_left_out(tmp_path: Path, cube: np.ndarray, name: str) -> None:
    """Or one without its parameters."""
    pytest.importorskip("pyproj", reason="pyproj is not installed")
    path = save(tmp_path / "a.nc", cube, ("wavelength", "y", "x"), "chw", grid_mapping="crs")
    with netCDF4.Dataset(path, "a") as file:
        file.createVariable("crs", "i4", ()).grid_mapping_name = name
    with pytest.warns(
        UserWarning, match=f"a.nc: the grid mapping is not a system that PROJ knows: .*{name}.*no system"
    ):
        scene = read_scene(path, key="radiance")
    assert scene.georeference is not None
    assert (scene.georeference.transform, scene.georeference.crs) == ((30, 0, 499985, 0, -30, 4000015), "")


def test_marks_of_bad_bands(tmp_path: Path, cube: np.ndarray) -> None:
    for marks, good in (([1, 0, 1, 1], (True, False, True, True)), ([1] * 4, (True,) * 4)):
        path = save(tmp_path / "a.nc", cube, ("wavelength", "y", "x"), "chw", bbl=marks)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scene = read_scene(path, key="radiance")
        assert scene.encoding is not None
        assert scene.encoding.good == good
    path = save(tmp_path / "a.nc", cube, ("wavelength", "y", "x"), "chw", bbl=[0] * 4)
    with pytest.raises(ValueError, match=r"a.nc: bbl marks every band as bad"):
        read_scene(path, key="radiance")


@pytest.mark.parametrize("suffix", [".nc", ".h5"])
@pytest.mark.parametrize("damage", ["empty", "short", "noise"])
def test_damaged(tmp_path: Path, cube: np.ndarray, suffix: str, damage: str) -> None:
    path = save(tmp_path / f"a{suffix}", np.tile(cube, (1, 20, 20))[:, :5, :6], ("wavelength", "y", "x"), "chw")
    whole = path.read_bytes()
    noise = np.random.default_rng(1).integers(0, 256, 4000, np.uint8).tobytes()
    path.write_bytes({"empty": b"", "short": whole[: len(whole) // 2], "noise": noise}[damage])
    with pytest.raises(OSError, match=r"cannot be read as an? (netCDF|HDF5) file, truncated or corrupt") as caught:
        read_scene(path, key="radiance")
    assert "\n" not in str(caught.value)


@pytest.fixture
def quick_collections() -> Iterator[None]:
    """What was there before the test, torch with all it has, is looked at by no gc.collect() within it."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("quick_collections")
@pytest.mark.parametrize("kind", ["NETCDF4", "NETCDF3_CLASSIC"])
def test_what_is_damaged_leaves_nothing_that_speaks_later(
    tmp_path: Path, cube: np.ndarray, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a warning nor an exception that Python ignores and prints, when the library's file goes: here with the
    error, which callers may keep."""
    path = save(tmp_path / "a.nc", cube, ("wavelength", "y", "x"), "chw", kind=kind)
    whole = path.read_bytes()
    damaged = [whole[:length] for length in (0, 3, 40, len(whole) // 2)]
    damaged += [whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :] for at in range(40, 160, 3)]
    ignored: list = []
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)
    for content in damaged:
        path.write_bytes(content)
        error: OSError | None = None
        try:
            kinds.read_raw(path, "radiance", "chw", None)
        except OSError as caught:
            error = caught
        except ValueError:  # another name of the variable
            continue
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            del error
            gc.collect()
        assert [str(entry.message) for entry in told] == []
    assert ignored == []


@pytest.mark.parametrize("kind", ["h5", "NETCDF4", "NETCDF3_CLASSIC"])
def test_what_lies_in_one_piece_is_mapped(tmp_path: Path, cube: np.ndarray, kind: str) -> None:
    """And what does not is read."""
    if kind == "h5":
        path = tmp_path / "a.h5"
        with h5py.File(path, "w", userblock_size=512) as file:
            file["radiance"] = cube
            file.create_dataset("packed", data=cube, compression="gzip")
    else:
        path = save(tmp_path / "a.nc", cube, ("wavelength", "y", "x"), "chw", kind=kind)
    values = kinds.read_raw(path, "radiance", "chw", None).values
    base = values
    while base is not None and not isinstance(base, np.memmap):
        base = base.base if isinstance(base, np.ndarray) else None
    assert isinstance(base, np.memmap) or kind == "NETCDF3_CLASSIC"
    assert not values.flags.owndata
    np.testing.assert_array_equal(values, cube)
    if kind == "h5":
        packed = kinds.read_raw(path, "packed", "chw", None).values
        assert not isinstance(packed, np.memmap)
        np.testing.assert_array_equal(packed, cube)
