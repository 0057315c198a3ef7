"""A GeoTIFF of the structure of an EnMAP L2A product, small, as rasterio writes it."""

from pathlib import Path

import numpy as np
import pytest

BANDS, EMPTY, SCALE, NODATA = 224, range(130, 136), 1e-4, -32768
WATER = 0.012  # reflectance


def save_enmap(path: Path, rows: int = 48, columns: int = 32) -> np.ndarray:
    """224 bands of int16, 6 of them empty, scale 1e-4, nodata -32768 in a corner, 5 % water; (B, H, W) reflectance."""
    rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
    rng = np.random.default_rng(3)
    nanometres = np.linspace(420, 2450, BANDS)
    row, column = np.mgrid[0:rows, 0:columns]
    land = 0.25 + 0.1 * np.sin(row / 5) * np.cos(column / 7) + 0.01 * rng.standard_normal((rows, columns))
    spectrum = 0.6 + 0.4 * np.sin(nanometres / 300)
    values = land[None] * spectrum[:, None, None]
    water = (row >= rows - 8) & (column < 0.05 * rows * columns / 8)  # a lake in a corner
    values[:, water] = WATER * np.exp(-(nanometres - 420) / 900)[:, None]
    numbers = np.rint(values / SCALE).astype(np.int16)
    numbers[:, :3, -3:] = NODATA
    numbers[list(EMPTY)] = NODATA
    options = {"driver": "GTiff", "count": BANDS, "height": rows, "width": columns, "dtype": "int16", "nodata": NODATA}
    options |= {"crs": "EPSG:32632", "transform": rasterio.Affine(30, 0, 5e5, 0, -30, 5e6)}
    with rasterio.open(path, "w", **options) as file:
        file.write(numbers)
        file.scales, file.offsets = [SCALE] * BANDS, [0.0] * BANDS
        file.update_tags(sensor="EnMAP", processing_level="L2A", AREA_OR_POINT="Area")
        for band, nm in enumerate(nanometres):
            file.set_band_description(band + 1, f"B{band + 1}")
            tags = {"wavelength": f"{nm:.3f}", "wavelength_units": "Nanometers", "fwhm": "7.5", "gain": f"{band}"}
            file.update_tags(band + 1, **tags, bbl=str(int(band not in EMPTY)))
    return np.where(numbers == NODATA, np.nan, numbers * SCALE)
