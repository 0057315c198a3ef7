"""Files of sensors through `lkca`, to netCDF and cloud-optimised GeoTIFF."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from lkcanet.data import read_scene

from ..command_line import lkca
from ..data import sensor_files

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
for package in ("h5py", "h5netcdf", "pyproj", "xarray", "rioxarray", "safetensors"):
    pytest.importorskip(package, reason=f"{package} is not installed")


def test_from_enmap_to_netcdf_and_back_to_cog(tmp_path: Path) -> None:
    """Place, units and data type arrive, at a quarter of the resolution and back at four times that."""
    import xarray

    (tmp_path / "enmap").mkdir()
    sensor_files.enmap(tmp_path / "enmap", bands=6, size=(24, 20))
    low, sharp = tmp_path / "lr.nc", tmp_path / "sr.tif"
    for line in (
        ["degrade", tmp_path / "enmap", low, "--scale", 4],
        ["super-resolve", low, sharp, "--fresh", "lkca_lr", "--scale", 4, "--cog", "--threads", 1],
    ):
        result = lkca(*line)
        assert result.exit_code == 0, result.output
    with xarray.open_dataset(low, engine="h5netcdf", decode_coords="all") as file:
        assert file.image.shape == (5, 6, 5)  # without the band of nothing
        assert file.image.encoding["dtype"] == "int16"
        assert file.image.encoding["scale_factor"] == 1e-4
        assert file.rio.crs.to_epsg() == 32633
        assert tuple(file.rio.transform())[:6] == (120, 0, 500000, 0, -120, 4650000)
        inner = file.image.values[:, 2:4, 2:4]
    with rasterio.open(sharp) as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert (file.count, file.dtypes[0], file.nodata, file.scales[0]) == (5, "int16", -32768, 1e-4)
        assert file.crs.to_epsg() == 32633
        assert tuple(file.transform)[:6] == sensor_files.UTM33
        np.testing.assert_allclose(
            file.read()[:, 8:16, 8:16].mean((1, 2)) * 1e-4, inner.mean((1, 2)), rtol=0, atol=0.05
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert read_scene(sharp).wavelengths is not None


def test_cog_is_of_geotiffs(tmp_path: Path) -> None:
    """Said before the work."""
    sensor_files.geotiff(tmp_path / "a.tif", np.ones((5, 8, 8), np.uint8))
    for line in (
        ["degrade", tmp_path / "a.tif", tmp_path / "lr.npy", "--scale", 2, "--cog"],
        ["super-resolve", tmp_path / "a.tif", tmp_path / "sr.nc", "--fresh", "lkca_lr", "--cog"],
    ):
        result = lkca(*line)
        assert result.exit_code == 1
        assert f"--cog goes with results that end in .tif, got {line[2]}" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_info_of_a_variable(tmp_path: Path) -> None:
    vnir, _ = sensor_files.prisma(tmp_path / "a.he5", rows=9, columns=6)
    key = "HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields/VNIR_Cube"
    told = json.loads(lkca("info", tmp_path / "a.he5", "--key", key, "--json").stdout)
    assert (told["bands"], told["rows"], told["columns"], told["crs"]) == (63, 9, 6, "EPSG:32633")
    assert told["largest"] == pytest.approx(0.8 * vnir[:, 3:].max() / 65535, rel=1e-6)
    failed = lkca("info", tmp_path / "a.he5", "--key", "x")
    assert failed.exit_code == 1
    assert f"has no key 'x'; keys: {key.replace('VNIR', 'SWIR')} (9, 173, 6) uint16" in failed.stderr
