"""Scenes to GeoTIFF images, by rasterio (GDAL)."""

import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lkcanet.common.optional import require
from lkcanet.data.encoding import Encoding
from lkcanet.data.formats.encoded import DTYPES, Encoded
from lkcanet.data.formats.geotiff_tags import RECORD, SOFTWARE, system_of
from lkcanet.data.formats.raw import record_of
from lkcanet.data.scenes import Scene

_TORN = "the GeoTIFF could not be written whole, disk full?"


def write_geotiff(path: Path, scene: Scene) -> int:
    """Write a tiled, compressed GeoTIFF to a file that `write_scene` renames; how many values were clipped."""
    rasterio = require("rasterio", extra="geo")
    encoded = Encoded(scene, DTYPES)
    dtype = encoded.dtype
    options: dict[str, Any] = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
    options |= {"predictor": 3 if dtype.startswith("float") else 2, "interleave": "band", "bigtiff": "IF_SAFER"}
    options |= {"dtype": dtype, "count": scene.bands, "height": scene.size[0], "width": scene.size[1]}
    if scene.georeference is not None:
        options["transform"] = rasterio.Affine(*scene.georeference.transform)
        if scene.georeference.crs:
            options["crs"] = system_of(scene.georeference.crs)
    if encoded.nodata is not None:
        options["nodata"] = encoded.nodata
    with writing():
        with rasterio.open(path, "w", driver="GTiff", **options) as file:
            # tags before the pixels, so that the directory stands at the start of the file and is written once
            file.update_tags(**_file_tags(encoded))
            if encoded.encoding is None:
                _describe(file, scene, encoded)
            else:
                _describe_encoded(file, scene, encoded, encoded.encoding)
            sums = [_write_band(file, encoded, band) for band in range(scene.bands)]
        with rasterio.open(path, driver="GTiff") as file:
            check_whole(_sum(file.read(band + 1)) == written for band, written in enumerate(sums))
    return encoded.clipped


@contextmanager
def writing() -> Iterator[None]:
    """While GDAL writes: no files beside, no warning of images without a place, and its errors as OSError."""
    rasterio = require("rasterio", extra="geo")
    with warnings.catch_warnings(), rasterio.Env(GDAL_PAM_ENABLED="NO"):
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        try:
            yield
        except rasterio.errors.RasterioError as error:
            raise OSError(f"{_TORN} ({' '.join(str(error).split())})") from error


def check_whole(bands: Iterable[bool]) -> None:
    """Raise an OSError where one of the bands that were read back is another. GDAL tells of a full disk when it closes
    a file, and then on stderr only."""
    if not all(bands):
        raise OSError(_TORN)


def _write_band(file: Any, encoded: Encoded, band: int) -> int:
    """Write it; a checksum of what was written."""
    numbers = encoded.band(band)
    file.write(numbers, band + 1)
    return _sum(numbers)


def _sum(numbers: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(numbers).data)


def _file_tags(encoded: Encoded) -> dict[str, str]:
    tags = {} if encoded.encoding is None else encoded.encoding.tags
    return {**tags, RECORD: record_of(encoded.record()), **SOFTWARE}


def _describe(file: Any, scene: Scene, encoded: Encoded) -> None:
    file.scales = encoded.scales
    for band in range(scene.bands):
        if scene.band_names is not None:
            file.set_band_description(band + 1, scene.band_names[band])
        if scene.wavelengths is not None:
            nm = float(scene.wavelengths[band])
            file.update_tags(band + 1, wavelength=repr(nm), wavelength_units="Nanometers")


def _describe_encoded(file: Any, scene: Scene, encoded: Encoded, encoding: Encoding) -> None:
    if encoding.scaled:
        file.scales, file.offsets = encoded.scales, encoded.offsets
    if encoding.units:
        file.units = [encoding.units] * scene.bands
    for band in range(scene.bands):
        if scene.band_names is not None:
            file.set_band_description(band + 1, scene.band_names[band])
        tags = {name: texts[band] for name, texts in encoding.band_tags.items() if texts[band]}
        imagery = {}
        if scene.wavelengths is not None:
            nm = float(scene.wavelengths[band])
            tags |= {"wavelength": repr(nm), "wavelength_units": "Nanometers"}
            imagery["CENTRAL_WAVELENGTH_UM"] = f"{nm / 1000:.12g}"
        if encoding.fwhm is not None:
            tags |= {"fwhm": repr(encoding.fwhm[band]), "wavelength_units": "Nanometers"}
            imagery["FWHM_UM"] = f"{encoding.fwhm[band] / 1000:.12g}"
        if encoding.good is not None:
            tags["bbl"] = str(int(encoding.good[band]))
        if tags:
            file.update_tags(band + 1, **tags)
        if imagery:
            file.update_tags(band + 1, ns="IMAGERY", **imagery)
