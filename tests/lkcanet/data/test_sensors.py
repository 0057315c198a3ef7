"""Files as agencies deliver them: their bands, units, masks and places."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from lkcanet.data import read_scene, read_scenes, scene_paths

from . import sensor_files

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
pytest.importorskip("h5py", reason="h5py is not installed")


def values_of(scene) -> np.ndarray:
    return scene.pixels.astype(np.float64) * scene.peak


def test_prisma_joins_its_cubes(tmp_path: Path) -> None:
    path = tmp_path / "PRS_L2D_STD_20200801.he5"
    vnir, swir = sensor_files.prisma(path)
    with pytest.warns(UserWarning, match=r"overlap: \d+ bands of VNIR .*SWIR begins at 923.512 nm; key 'HDFEOS"):
        scene = read_scene(path)
    nm = np.linspace(977.0, 402.0, 66, dtype="f4"), np.linspace(2497.0, 905.0, 173, dtype="f4")
    below = np.flatnonzero(nm[0] < nm[1][170])[::-1]
    assert scene.wavelengths is not None
    np.testing.assert_array_equal(scene.wavelengths, np.r_[nm[0][below], nm[1][170::-1]])
    assert (np.diff(scene.wavelengths) > 0).all()
    expected = np.concatenate([0.8 * vnir[:, below] / 65535, 0.01 + 0.59 * swir[:, 170::-1] / 65535], 1).swapaxes(0, 1)
    assert scene.valid is not None
    assert (~scene.valid).sum() == 1
    assert not scene.valid[1, 2]  # dark in VNIR alone is no gap
    np.testing.assert_allclose(values_of(scene)[:, scene.valid], expected[:, scene.valid], rtol=0, atol=1e-7)
    assert scene.band_names is not None
    assert (scene.band_names[0], scene.band_names[-1]) == ("VNIR 66", "SWIR 1")
    assert scene.encoding is not None
    assert (scene.encoding.units, scene.encoding.dtype) == ("reflectance", "uint16")
    assert scene.encoding.fwhm == (11.5,) * scene.bands
    assert scene.georeference is not None
    assert scene.georeference.transform == sensor_files.UTM33
    assert scene.georeference.crs == "EPSG:32633"


def test_prisma_by_key_and_other_levels(tmp_path: Path) -> None:
    path = tmp_path / "a.he5"
    vnir, _ = sensor_files.prisma(path, level="L2C")
    key = "HDFEOS/SWATHS/PRS_L2C_HCO/Data Fields/VNIR_Cube"
    for name in (key, f"/{key}"):
        scene = read_scene(path, key=name, raw=True)
        assert (scene.shape, scene.georeference) == ((63, 70, 5), None)
        assert scene.valid is not None
        np.testing.assert_array_equal(
            np.round(values_of(scene))[:, scene.valid], vnir[:, :2:-1].swapaxes(0, 1)[:, scene.valid]
        )
    with pytest.raises(ValueError, match=r"has no key 'VNIR_Cube'; keys: .*Data Fields/SWIR_Cube \(70, 173, 5\)"):
        read_scene(path, key="VNIR_Cube")


def test_prisma_bands_are_chosen(tmp_path: Path) -> None:
    path = tmp_path / "a.he5"
    sensor_files.prisma(path)
    with pytest.warns(UserWarning, match="overlap"):
        scene = read_scene(path, wavelengths="900:1000")
    assert scene.wavelengths is not None
    assert scene.encoding is not None
    assert 900 <= scene.wavelengths.min() < 923 < scene.wavelengths.max() <= 1000
    scales = np.where(scene.wavelengths < 923, 0.8 / 65535, 0.59 / 65535)
    np.testing.assert_allclose(scene.encoding.scale, scales, rtol=1e-12)


def test_emit(tmp_path: Path) -> None:
    pytest.importorskip("netCDF4", reason="netCDF4 is not installed")
    pytest.importorskip("h5netcdf", reason="h5netcdf is not installed")
    values = sensor_files.emit(tmp_path / "EMIT_L2A_RFL.nc")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scene = read_scene(tmp_path / "EMIT_L2A_RFL.nc")
    told = "\n".join(str(entry.message) for entry in caught)
    assert len(caught) == 2, told
    assert "lookup table (location/glt_x, glt_y) to a grid of 9 x 9 is not applied" in told
    assert "2 of 12 bands are marked as bad (bbl) and kept" in told
    assert scene.shape == (12, 6, 5)
    assert scene.valid is not None
    np.testing.assert_array_equal(~scene.valid, values[..., 0] == -9999)
    np.testing.assert_allclose(values_of(scene)[:, scene.valid], np.moveaxis(values, 2, 0)[:, scene.valid], rtol=1e-6)
    assert scene.wavelengths is not None
    np.testing.assert_allclose(scene.wavelengths, np.linspace(381, 2492.9, 12), rtol=1e-6)
    assert scene.encoding is not None
    assert (scene.encoding.units, scene.encoding.nodata, scene.encoding.fwhm) == ("reflectance", -9999, (8.5,) * 12)
    assert scene.georeference is None
    with pytest.warns(UserWarning, match="lookup table"):
        assert read_scene(tmp_path / "EMIT_L2A_RFL.nc", bad_bands="drop").bands == 10


def test_enmap(tmp_path: Path) -> None:
    image, values = sensor_files.enmap(tmp_path)
    metadata = image.with_name(image.name.replace("SPECTRAL_IMAGE.TIF", "METADATA.XML"))
    for path in (image, metadata, tmp_path):
        with pytest.warns(UserWarning, match=r"1 of 7 bands hold nothing but nodata .*: 4 \(from 0\)"):
            scene = read_scene(path)
        kept = np.delete(np.arange(7), 4)
        assert scene.valid is not None
        np.testing.assert_allclose(
            values_of(scene)[:, scene.valid], 1e-4 * values[kept][:, scene.valid], rtol=1e-6, atol=1e-9
        )
        assert scene.wavelengths is not None
        np.testing.assert_allclose(scene.wavelengths, 418.4 + 60.5 * kept, rtol=1e-12)
        assert scene.encoding is not None
        assert scene.encoding.fwhm == tuple(6.5 + kept / 8)
        assert (scene.encoding.units, scene.encoding.scale, scene.encoding.nodata) == ("reflectance", 1e-4, -32768)
        assert scene.georeference is not None
        assert scene.georeference.transform == sensor_files.UTM33
    assert scene_paths([tmp_path]) == [tmp_path]
    other = image.with_name(image.name.replace("DT0000001049", "DT0000001050"))
    other.write_bytes(image.read_bytes())
    with pytest.warns(UserWarning, match="no scenes: .*METADATA.XML, .*QL_QUALITY_CLOUD.TIF"):
        assert scene_paths([tmp_path]) == [image, other]
    with pytest.warns(UserWarning, match=r"has no METADATA.XML beside it"):
        assert read_scene(other).wavelengths is None


def test_metadata_of_other_bands_is_left_out(tmp_path: Path) -> None:
    image, values = sensor_files.enmap(tmp_path)
    sensor_files.geotiff(image, values[:3])
    with pytest.warns(UserWarning, match=r"METADATA.XML: tells of 7 bands, the image has 3: left out"):
        scene = read_scene(image, nodata=-32768)
    assert scene.wavelengths is None
    metadata = image.with_name(image.name.replace("SPECTRAL_IMAGE.TIF", "METADATA.XML"))
    metadata.write_text(metadata.read_text()[:-40])
    with pytest.raises(OSError, match=r"METADATA.XML: cannot be read as metadata of EnMAP or DESIS"):
        read_scene(image)


@pytest.mark.parametrize(
    ("good", "bad", "warning"),
    [
        ("<GainOfBand>0.0001", "<GainOfBand>0", "scales are 0, or scales or offsets no finite numbers"),
        ("<GainOfBand>0.0001", "<GainOfBand>NaN", "scales are 0, or scales or offsets no finite numbers"),
        ("<FWHMOfBand>6.5<", "<FWHMOfBand>-1<", "fwhm are not all numbers from 0"),
        ("<wavelengthCenterOfBand>418.4<", "<wavelengthCenterOfBand>0<", "wavelengths are not all positive"),
    ],
)
def test_numbers_of_no_use_in_metadata_are_left_out(tmp_path: Path, good: str, bad: str, warning: str) -> None:
    image, _ = sensor_files.enmap(tmp_path)
    metadata = image.with_name(image.name.replace("SPECTRAL_IMAGE.TIF", "METADATA.XML"))
    before = metadata.read_text()
    assert good in before
    metadata.write_text(before.replace(good, bad))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scene = read_scene(image)
    assert any(f"METADATA.XML: {warning}" in str(entry.message) for entry in caught)
    assert scene.encoding is not None
    left_out = (not scene.encoding.scaled, scene.encoding.fwhm is None, scene.wavelengths is None)
    assert left_out == ("Gain" in good, "FWHM" in good, "Center" in good)


def test_prisma_without_a_scale(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "a.he5"
    sensor_files.prisma(path)
    with h5py.File(path, "r+") as file:
        file.attrs["L2ScaleSwirMax"] = file.attrs["L2ScaleSwirMin"]
    with pytest.warns(UserWarning, match=r"a.he5: scales are 0, or scales or offsets no finite numbers"):
        scene = read_scene(path)
    assert scene.encoding is not None
    assert not scene.encoding.scaled


def test_desis(tmp_path: Path) -> None:
    image, values = sensor_files.desis(tmp_path)
    scene = read_scene(image)
    gains, offsets = 1e-3 * np.arange(1, 7), -1.0 * np.arange(6)
    expected = gains[:, None, None] * values + offsets[:, None, None]
    np.testing.assert_allclose(values_of(scene), expected, rtol=1e-6, atol=1e-6)
    assert scene.wavelengths is not None
    np.testing.assert_allclose(scene.wavelengths, 401.7 + 2.55 * np.arange(6), rtol=1e-12)
    assert scene.encoding is not None
    assert scene.encoding.units == "mW cm-2 sr-1 um-1"
    assert scene.encoding.fwhm == (3.5,) * 6


def test_hyperion(tmp_path: Path) -> None:
    bands = sensor_files.hyperion(tmp_path)
    with pytest.warns(UserWarning, match=r"3 bands hold nothing \(B7 to B225, not calibrated\): left out"):
        scene = read_scene(tmp_path)
    numbers = [8, 9, 57, 77, 78, 224]
    assert scene.band_names == tuple(f"B{number}" for number in numbers)
    assert scene.wavelengths is not None
    np.testing.assert_array_equal(scene.wavelengths, [426.82, 436.99, 925.41, 912.45, 922.54, 2395.5])
    assert scene.valid is not None
    np.testing.assert_array_equal(np.argwhere(~scene.valid), [[0, 0], [0, 1]])  # 0 in one band is dark
    expected = np.stack([bands[n] / (40 if n <= 70 else 80) for n in numbers])
    np.testing.assert_allclose(values_of(scene)[:, scene.valid], expected[:, scene.valid], rtol=1e-6, atol=1e-6)
    assert scene.encoding is not None
    assert (scene.encoding.units, scene.encoding.dtype) == ("W m-2 sr-1 um-1", "int16")
    assert scene.georeference is not None
    assert scene.georeference.transform == sensor_files.UTM33
    assert scene_paths([tmp_path]) == [tmp_path]
    mtl = next(tmp_path.glob("*MTL*"))
    mtl.write_text(mtl.read_text().replace("VNIR = 40", "VNIR = 400"))
    with pytest.warns(UserWarning, match="not calibrated"):
        np.testing.assert_allclose(values_of(read_scene(tmp_path))[1, 5], bands[9][5] / 400, rtol=1e-6)


def test_a_folder_of_bands(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(1, 999, (11, 4, 5)).astype(np.uint16)
    for number, band in enumerate(values, 1):
        sensor_files.geotiff(tmp_path / f"LC08_B{number}.TIF", band[None])
    sensor_files.geotiff(tmp_path / "LC08_QA.TIF", values[:1])
    with pytest.warns(UserWarning, match="left out, since they are no bands: LC08_QA.TIF"):
        scene = read_scene(tmp_path, peak=1)
    np.testing.assert_array_equal(scene.pixels, values)  # B10 behind B9
    assert scene.band_names == tuple(f"B{number}" for number in range(1, 12))
    sensor_files.geotiff(tmp_path / "LC08_B4.TIF", values[:1, :2])
    with pytest.raises(ValueError, match=r"LC08_B4.TIF: has another size than the first band: \(2, 5\) and \(4, 5\)"):
        read_scene(tmp_path)
    sensor_files.geotiff(tmp_path / "LC08_B4.TIF", values[:2])
    with pytest.raises(ValueError, match=r"LC08_B4.TIF: has 2 bands, expected one"):
        read_scene(tmp_path)


def test_folders_of_sensors_among_scenes(tmp_path: Path) -> None:
    for name in ("enmap", "hyperion"):
        (tmp_path / name).mkdir()
    sensor_files.enmap(tmp_path / "enmap", bands=6)
    sensor_files.hyperion(tmp_path / "hyperion", (8, 9, 10, 77, 78))
    sensor_files.geotiff(tmp_path / "a.tif", np.ones((5, 4, 4), np.uint8))
    assert scene_paths([tmp_path]) == [tmp_path / "a.tif", tmp_path / "enmap", tmp_path / "hyperion"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=r"do not fit together: .*wavelengths"):
            read_scenes([tmp_path])
