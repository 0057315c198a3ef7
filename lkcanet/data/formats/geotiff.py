"""GeoTIFF images, by rasterio (GDAL)."""

import json
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lkcanet.common.optional import require
from lkcanet.data.formats.geotiff_tags import RECORD, SOFTWARE, Tags, system_of
from lkcanet.data.formats.geotiff_writer import write_geotiff
from lkcanet.data.formats.raw import Raw, check_record, own, reading
from lkcanet.data.georeference import Georeference

__all__ = ["SUFFIXES", "read_geotiff", "write_geotiff"]

SUFFIXES = (".tif", ".tiff")
_WHAT = "a GeoTIFF file"


def read_geotiff(path: Path) -> Raw:
    """Read all bands but alpha, of any real dtype.

    - Wavelengths: the bands' tags `wavelength` (unit in `wavelength_units`, of the band or the file) or GDAL's
      CENTRAL_WAVELENGTH_UM; else the file's tag `wavelength` or `wavelengths` with a list; else the bands' descriptions
      where each is a number with nm or um behind it, or where all are plain numbers in 200..20000 (nm). Nothing is
      guessed from other texts.
    - Band names: the descriptions, where there are any.
    - Bad bands: the tags `bbl` or `good_wavelengths` of the bands (0: bad), or of the file with a list.
    - Scale, offset and units of the bands; widths from their tags `fwhm` or GDAL's FWHM_UM; all other tags as they are.
    - The nodata value, and the mask of an internal or external mask or of an alpha band.
    - Transform and coordinate system (as WKT). Ground control points are not carried, with a warning.

    Raises:
        OSError: the file cannot be read.
        ValueError: complex values, or no band but alpha.
    """
    with _opened(path, sidecars=False) as file:
        record = _record(file, path)
        ours = None if record is None or "encoded" in record else _own_fields(file, path, record)
        if ours is not None:
            with reading(path, _WHAT):
                values = file.read()
                masked = file.nodata is not None
            return Raw(values, "chw", own=ours, valid=~np.isnan(values[0]) if masked else None)
    record = record if record is not None and "encoded" in record else None
    with _opened(path, sidecars=record is None) as file:
        enums = require("rasterio.enums", extra="geo")
        kinds = dict(zip(file.indexes, file.colorinterp, strict=True))
        bands = [band for band in kinds if kinds[band] != enums.ColorInterp.alpha]
        if not bands:
            raise ValueError(f"{path}: holds no band but alpha")
        if any(not re.fullmatch(r"u?int\d+|float\d+", file.dtypes[band - 1]) for band in bands):
            raise ValueError(f"{path}: pixels must be real integers or floats, got {file.dtypes[bands[0] - 1]}")
        with reading(path, _WHAT):
            values = file.read(bands)
            masks = [file.read(band) > 0 for band in kinds if kinds[band] == enums.ColorInterp.alpha]
            if enums.MaskFlags.per_dataset in file.mask_flag_enums[bands[0] - 1]:
                masks.append(file.read_masks(bands[0]) > 0)
            valid = np.logical_and.reduce(masks) if masks else None
            tags = Tags(file, bands, path)
            facts = {
                "wavelengths": tags.wavelengths(),
                "band_names": tags.names if any(tags.names) else None,
                "georeference": _georeference(file, path),
            }
            raw = Raw(values, "chw", facts=facts, nodata=file.nodata, valid=valid, encoding=tags.encoding())
        return raw._replace(good=tags.good(), record=record)


@contextmanager
def _opened(path: Path, *, sidecars: bool) -> Iterator[Any]:
    """The open file; without sidecars nothing is read that lies beside it, such as a mask of an older file."""
    rasterio = require("rasterio", extra="geo")
    options = {} if sidecars else {"GDAL_PAM_ENABLED": "NO", "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
    with warnings.catch_warnings(), rasterio.Env(**options):
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with reading(path, _WHAT), _undecodable_messages():
            file = rasterio.open(path, driver="GTiff")
        with file:
            yield file


@contextmanager
def _undecodable_messages() -> Iterator[None]:
    """Rasterio fails to log what GDAL says of a damaged file where that is not UTF-8, and Python then prints so."""
    before = sys.unraisablehook

    def hook(what: Any) -> None:
        if not isinstance(what.exc_value, UnicodeDecodeError):
            before(what)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def _record(file: Any, path: Path) -> dict[str, Any] | None:
    """That of write_scene."""
    tags = file.tags()
    if RECORD not in tags:
        if SOFTWARE.items() <= tags.items():
            raise OSError(f"{path}: cannot be read as a GeoTIFF file of write_scene, truncated or corrupt? (no record)")
        return None
    with reading(path, "a GeoTIFF file of write_scene"):
        record: dict[str, Any] = json.loads(tags[RECORD])
        check_record(record)
    return record


def _own_fields(file: Any, path: Path, record: dict[str, Any]) -> dict[str, Any] | None:
    """The record's; where another program has changed what the file says itself, that holds."""
    with reading(path, "a GeoTIFF file of write_scene"):
        fields = own(record, path)
        same_values = set(file.scales) == {fields["peak"]} and set(file.dtypes) == {"float32"}
        if not same_values:
            return None  # they have been scaled since
        tags = Tags(file, list(file.indexes), path)
        fields["band_names"] = tags.names if any(tags.names) else None
        fields["wavelengths"] = tags.wavelengths()
        written, ours = _georeference(file, path), fields.get("georeference")
        same = ours is not None and written is not None and ours.agrees(written) and _same_system(ours.crs, file.crs)
        fields["georeference"] = ours if same else written
    return fields


def _same_system(text: str, crs: Any) -> bool:
    return not crs if not text else crs is not None and system_of(text) == crs


def _georeference(file: Any, path: Path) -> Georeference | None:
    transform = tuple(file.transform)[:6]
    if transform == (1, 0, 0, 0, 1, 0):  # what rasterio gives for none
        if file.gcps[0]:
            _warn(f"{path}: has ground control points and no transform: they are left out")
        return None
    return Georeference(transform, file.crs.to_wkt() if file.crs else "")


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=4)
