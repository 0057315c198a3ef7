"""Small files of the structures that agencies publish, written by h5py, netCDF4 and rasterio."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

UTM33 = (30.0, 0.0, 500000.0, 0.0, -30.0, 4650000.0)


def prisma(path: Path, *, level: str = "L2D", rows: int = 70, columns: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """66 + 173 bands, the longest wavelength first, three of VNIR and two of SWIR not delivered; the two cubes."""
    import h5py

    rng = np.random.default_rng(0)
    vnir = rng.integers(1, 65536, (rows, 66, columns), np.uint16)
    swir = rng.integers(1, 65536, (rows, 173, columns), np.uint16)
    vnir[:, :3], swir[:, -2:] = 0, 0
    vnir[1, :, 2] = swir[1, :, 2] = 0  # no data
    vnir[2, 3:, 3] = 0  # dark, and seen in SWIR
    nm = {"Vnir": np.linspace(977.0, 402.0, 66, dtype="f4"), "Swir": np.linspace(2497.0, 905.0, 173, dtype="f4")}
    flags = {name: np.ones(len(values), np.int32) for name, values in nm.items()}
    flags["Vnir"][:3] = nm["Vnir"][:3] = 0
    flags["Swir"][-2:] = 0
    with h5py.File(path, "w") as file:
        fields = file.create_group(f"HDFEOS/SWATHS/PRS_{level}_HCO/Data Fields")
        fields.create_dataset("VNIR_Cube", data=vnir, chunks=(8, 66, columns), compression="gzip")
        fields.create_dataset("SWIR_Cube", data=swir, chunks=(8, 173, columns))
        fields["VNIR_PIXEL_L2_ERR_MATRIX"] = np.zeros(vnir.shape, np.uint8)
        place = file.create_group(f"HDFEOS/SWATHS/PRS_{level}_HCO/Geolocation Fields")
        place["Latitude"] = np.full((rows, columns), 42.0)
        place["Longitude"] = np.full((rows, columns), 15.0)
        for name in nm:
            file.attrs[f"List_Cw_{name}"], file.attrs[f"List_Cw_{name}_Flags"] = nm[name], flags[name]
            file.attrs[f"List_Fwhm_{name}"] = np.where(nm[name] > 0, 11.5, 0).astype("f4")
        file.attrs.update(L2ScaleVnirMin=0.0, L2ScaleVnirMax=0.8, L2ScaleSwirMin=0.01, L2ScaleSwirMax=0.6)
        west, north = np.float64(500015), np.float64(4649985)
        east, south = west + 30 * (columns - 1), north - 30 * (rows - 1)
        for end, x, y in (("UL", west, north), ("UR", east, north), ("LL", west, south), ("LR", east, south)):
            file.attrs[f"Product_{end}corner_easting"], file.attrs[f"Product_{end}corner_northing"] = x, y
        file.attrs["Epsg_Code"] = np.uint32(32633)
        file.attrs["Processing_Level"] = level
    return vnir, swir


def emit(path: Path, *, rows: int = 6, columns: int = 5, bands: int = 12) -> np.ndarray:
    """(rows, columns, bands) float32 with -9999, bands in a group of their own, a lookup table."""
    import netCDF4

    values = np.random.default_rng(1).random((rows, columns, bands)).astype("f4")
    values[..., 5:7] = -0.01  # water vapour
    values[0, :2] = -9999
    with netCDF4.Dataset(path, "w") as file:
        sizes = {"downtrack": rows, "crosstrack": columns, "bands": bands, "ortho_y": rows + 3, "ortho_x": columns + 4}
        for name, size in sizes.items():
            file.createDimension(name, size)
        file.title = "EMIT L2A Estimated Surface Reflectance 60 m V001"
        file.geotransform = np.array([-115.9, 5.4e-4, 0, 33.4, 0, -5.4e-4])
        cube = file.createVariable(
            "reflectance", "f4", ("downtrack", "crosstrack", "bands"), fill_value=-9999.0, zlib=True
        )
        cube.long_name, cube.units = "Surface Reflectance", "unitless"
        cube[:] = values
        group = file.createGroup("sensor_band_parameters")
        for name, data in {"wavelengths": np.linspace(381, 2492.9, bands), "fwhm": np.full(bands, 8.5)}.items():
            listed = group.createVariable(name, "f4", ("bands",))
            listed.units, listed[:] = "nm", data
        good = group.createVariable("good_wavelengths", "u1", ("bands",))
        good[:] = np.r_[np.ones(5), 0, 0, np.ones(bands - 7)]
        group = file.createGroup("location")
        for name in ("lon", "lat", "elev"):
            group.createVariable(name, "f8", ("downtrack", "crosstrack"))[:] = np.full((rows, columns), 33.0)
        for name in ("glt_x", "glt_y"):
            group.createVariable(name, "i4", ("ortho_y", "ortho_x"), fill_value=0)[:] = 1
    return values


def geotiff(path: Path, values: np.ndarray, **options: Any) -> None:
    """(bands, rows, columns) in UTM zone 33."""
    import rasterio

    shape = {"count": len(values), "height": values.shape[1], "width": values.shape[2], "dtype": values.dtype.name}
    options = {"crs": "EPSG:32633", "transform": rasterio.Affine(*UTM33), **options}
    with warnings.catch_warnings(), rasterio.open(path, "w", driver="GTiff", **shape, **options) as file:
        file.write(values)


def _xml(name: str, bands: str, extra: str = "") -> str:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<{name}><base><format>GeoTIFF</format></base><specific>'
        f"<bandCharacterisation>{bands}</bandCharacterisation>{extra}</specific></{name}>"
    )


def enmap(folder: Path, *, bands: int = 7, size: tuple[int, int] = (6, 5)) -> tuple[Path, np.ndarray]:
    """An L2A product: the image, quality layers and the metadata; one band holds nothing."""
    stem = "ENMAP01-____L2A-DT0000001049_20220612T105735Z_028_V010303_20230922T131734Z"
    values = np.random.default_rng(2).integers(-50, 9000, (bands, *size)).astype(np.int16)
    values[:, 0, 0] = values[4] = -32768
    geotiff(folder / f"{stem}-SPECTRAL_IMAGE.TIF", values, nodata=-32768)
    geotiff(folder / f"{stem}-QL_QUALITY_CLOUD.TIF", np.zeros((1, *size), np.uint8))
    listed = "".join(
        f'<bandID number="{i + 1}"><wavelengthCenterOfBand>{418.4 + 60.5 * i}</wavelengthCenterOfBand><FWHMOfBand>'
        f"{6.5 + i / 8}</FWHMOfBand><GainOfBand>0.0001</GainOfBand><OffsetOfBand>0</OffsetOfBand></bandID>"
        for i in range(bands)
    )
    extra = "<backgroundValue>-32768</backgroundValue>"
    (folder / f"{stem}-METADATA.XML").write_text(_xml("level_X", listed, extra))
    return folder / f"{stem}-SPECTRAL_IMAGE.TIF", values


def desis(folder: Path, *, bands: int = 6, size: tuple[int, int] = (6, 5)) -> tuple[Path, np.ndarray]:
    """An L1C product: gains that differ, bands in another element too, not in order."""
    stem = "DESIS-HSI-L1C-DT0483531728_001-20200811T120510-V0210"
    values = np.random.default_rng(3).integers(1, 4000, (bands, *size)).astype(np.int16)
    geotiff(folder / f"{stem}-SPECTRAL_IMAGE.tif", values, nodata=-32768)
    listed = "".join(
        f"<band><bandNumber>{i + 1}</bandNumber><wavelengthCenterOfBand>{401.7 + 2.55 * i}</wavelengthCenterOfBand>"
        f"<wavelengthWidthOfBand>3.5</wavelengthWidthOfBand><response>0.1,1,0.1</response><gainOfBand>{0.001 * (i + 1)}"
        f"</gainOfBand><offsetOfBand>-{i}</offsetOfBand></band>"
        for i in reversed(range(bands))
    )
    extra = "<interiorOrientation><band><bandNumber>1</bandNumber></band></interiorOrientation>"
    (folder / f"{stem}-METADATA.xml").write_text(_xml("hsi_doc", listed, extra))
    return folder / f"{stem}-SPECTRAL_IMAGE.tif", values


def hyperion(
    folder: Path,
    numbers: tuple[int, ...] = (7, 8, 9, 57, 58, 77, 78, 224, 225),
    *,
    size: tuple[int, int] = (6, 5),
) -> dict[int, np.ndarray]:
    """Some of the 242 files; bands that are not calibrated are 0."""
    stem = "EO1H0440342016184110KF"
    rng, bands = np.random.default_rng(4), {}
    for number in numbers:
        values = rng.integers(-20, 5000, size).astype(np.int16)
        values[0, :2] = 0  # beside the swath
        values[3, 3] = 0 if number == 9 else 7  # dark, not missing
        bands[number] = values if 8 <= number <= 57 or 77 <= number <= 224 else np.zeros_like(values)
        geotiff(folder / f"{stem}_B{number:03}_L1T.TIF", bands[number][None])
    (folder / f"{stem}_MTL_L1T.TXT").write_text(
        "GROUP = L1_METADATA_FILE\n  GROUP = RADIANCE_SCALING\n    SCALING_FACTOR_VNIR = 40\n"
        "    SCALING_FACTOR_SWIR = 80\n  END_GROUP = RADIANCE_SCALING\nEND_GROUP = L1_METADATA_FILE\nEND\n"
    )
    (folder / "README.txt").write_text("EO-1\n")
    return bands
