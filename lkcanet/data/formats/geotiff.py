"""GeoTIFF images, by rasterio (GDAL)."""

import json
import math
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lkcanet.common.optional import require
from lkcanet.data.formats.raw import Raw, check_record, good_bands, metadata, own, reading, record_of
from lkcanet.data.georeference import Georeference
from lkcanet.data.scenes import Scene
from lkcanet.data.wavelengths import from_text, to_nanometres

SUFFIXES = (".tif", ".tiff")
_RECORD = "LKCANET_SCENE"  # the tag that marks a file of write_scene; JSON
# a TIFF tag of its own, and not in the XML that holds all others: GDAL drops that whole where a byte of it is wrong
_SOFTWARE = {"TIFFTAG_SOFTWARE": "lkcanet write_scene"}
_WHAT = "a GeoTIFF file"


def read_geotiff(path: Path) -> Raw:
    """Read all bands but alpha, of any real dtype.

    - Wavelengths: the bands' tags `wavelength` (unit in `wavelength_units`, of the band or the file) or GDAL's
      CENTRAL_WAVELENGTH_UM; else the file's tag `wavelength` or `wavelengths` with a list; else the bands' descriptions
      where each is a number with nm or um behind it, or where all are plain numbers in 200..20000 (nm). Nothing is
      guessed from other texts.
    - Band names: the descriptions, where there are any.
    - Bad bands: the tags `bbl` or `good_wavelengths` of the bands (0: bad), or of the file with a list.
    - The nodata value, and the mask of an internal or external mask or of an alpha band.
    - Transform and coordinate system (as WKT). Ground control points are not carried, with a warning.

    Scales and offsets are not applied; where they differ between bands a warning says so.

    Raises:
        OSError: the file cannot be read.
        ValueError: complex values, or no band but alpha.
    """
    with _opened(path, sidecars=False) as file:
        ours = _own_fields(file, path)
        if ours is not None:
            with reading(path, _WHAT):
                values = file.read()
                masked = file.nodata is not None
            return Raw(values, "chw", own=ours, valid=~np.isnan(values[0]) if masked else None)
    with _opened(path, sidecars=True) as file:
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
            names = [file.descriptions[band - 1] or "" for band in bands]
            nodata = file.nodata
            if any(len({series[band - 1] for band in bands}) > 1 for series in (file.scales, file.offsets)):
                _warn(f"{path}: scales and offsets differ between bands and are not applied")
            facts = {
                "wavelengths": _wavelengths(file, bands, names, f"{path}: "),
                "band_names": names if any(names) else None,
                "georeference": _georeference(file, path),
            }
        good = _good(file, bands, path)
    return Raw(values, "chw", facts=facts, nodata=nodata, valid=valid, good=good)


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


def _own_fields(file: Any, path: Path) -> dict[str, Any] | None:
    """The record of write_scene; where another program has changed what the file says itself, that holds."""
    tags = file.tags()
    if _RECORD not in tags:
        if _SOFTWARE.items() <= tags.items():
            raise OSError(f"{path}: cannot be read as a GeoTIFF file of write_scene, truncated or corrupt? (no record)")
        return None
    bands = list(file.indexes)
    with reading(path, "a GeoTIFF file of write_scene"):
        record = json.loads(tags[_RECORD])
        check_record(record)
        fields = own(record, path)
        same_values = set(file.scales) == {fields["peak"]} and set(file.dtypes) == {"float32"}
        if not same_values:
            return None  # they have been scaled since
        names = [name or "" for name in file.descriptions]
        fields["band_names"] = names if any(names) else None
        fields["wavelengths"] = _wavelengths(file, bands, names, f"{path}: ")
        written, ours = _georeference(file, path), fields.get("georeference")
        same = ours is not None and written is not None and ours.agrees(written) and _same_system(ours.crs, file.crs)
        fields["georeference"] = ours if same else written
    return fields


def _same_system(text: str, crs: Any) -> bool:
    return not crs if not text else crs is not None and _system(text) == crs


def _system(text: str) -> Any:
    """What PROJ makes of a text."""
    rasterio_crs = require("rasterio.crs", extra="geo")
    try:
        return rasterio_crs.CRS.from_user_input(text)
    except Exception as error:
        raise ValueError(f"georeference.crs is not a system that PROJ knows: {text[:80]!r}") from error


def _georeference(file: Any, path: Path) -> Georeference | None:
    transform = tuple(file.transform)[:6]
    if transform == (1, 0, 0, 0, 1, 0):  # what rasterio gives for none
        if file.gcps[0]:
            _warn(f"{path}: has ground control points and no transform: they are left out")
        return None
    return Georeference(transform, file.crs.to_wkt() if file.crs else "")


def _wavelengths(file: Any, bands: list[int], names: list[str], where: str) -> np.ndarray | None:
    whole = {name.lower(): text for name, text in file.tags().items()}
    tags = [{name.lower(): text for name, text in file.tags(band).items()} for band in bands]
    imagery = [file.tags(band, ns="IMAGERY").get("CENTRAL_WAVELENGTH_UM") for band in bands]
    unit = next((d[key] for d in (tags[0], whole) for key in ("wavelength_units", "wavelength_unit") if key in d), None)
    texts = [tag.get("wavelength") for tag in tags]
    if not any(texts) and any(imagery):
        texts, unit = imagery, "um"
    if not any(texts):
        listed = whole.get("wavelength", whole.get("wavelengths"))
        if listed is None:
            return _from_names(names)
        texts = re.split(r"[\s,;]+", listed.strip(" {}[]\t\n"))
    numbers = [None if text is None else from_text(text) for text in texts]
    if len(numbers) != len(bands) or None in numbers:
        _warn(f"{where}tags give wavelengths for some of the {len(bands)} bands, or no numbers: they are left out")
        return None
    units: set[str | None] = {entry[1] for entry in numbers if entry and entry[1]} or {unit}
    if len(units) > 1:
        _warn(f"{where}wavelengths are in several units: they are left out")
        return None
    return to_nanometres([entry[0] for entry in numbers if entry], units.pop(), where)


def _good(file: Any, bands: list[int], path: Path) -> np.ndarray | None:
    """From the bands' tags, or the file's; None, with a warning, where these are not numbers, one a band."""
    whole = {name.lower(): text for name, text in file.tags().items()}
    tags = [{name.lower(): text for name, text in file.tags(band).items()} for band in bands]
    for name in ("bbl", "good_wavelengths"):
        texts = [tag[name] for tag in tags if name in tag]
        if not texts and name in whole:
            texts = re.split(r"[\s,;]+", whole[name].strip(" {}[]\t\n"))
        if not texts:
            continue
        marks = [from_text(text) for text in texts]
        if len(marks) != len(bands) or None in marks:
            _warn(f"{path}: {name} has {len(texts)} entries for {len(bands)} bands, or no numbers: it is left out")
            return None
        return good_bands([mark[0] for mark in marks if mark], name, path)
    return None


def _from_names(names: list[str]) -> np.ndarray | None:
    """Descriptions that are wavelengths and nothing else; silently None where they are names."""
    numbers = [entry for name in names if (entry := from_text(name)) is not None]
    units = {entry[1] for entry in numbers}
    if len(numbers) != len(names) or len(units) != 1:
        return None
    values, unit = [entry[0] for entry in numbers], units.pop()
    if not unit and not all(200 <= value <= 20000 for value in values):
        return None  # numbers of bands, for example
    return to_nanometres(values, unit or "nm", "")


def write_geotiff(path: Path, scene: Scene) -> None:
    """Write a tiled, compressed float32 GeoTIFF to a file that `write_scene` renames."""
    rasterio = require("rasterio", extra="geo")
    record = {key: value for key, value in metadata(scene).items() if key not in ("wavelengths", "band_names")}
    options: dict[str, Any] = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
    options |= {"predictor": 3, "interleave": "band", "bigtiff": "IF_SAFER"}
    if scene.georeference is not None:
        options["transform"] = rasterio.Affine(*scene.georeference.transform)
        if scene.georeference.crs:
            options["crs"] = _system(scene.georeference.crs)
    if scene.valid is not None:
        options["nodata"] = math.nan
    rows, columns = scene.size
    # GDAL tells of a full disk when it closes a file, and then on stderr only: read back what was written
    with warnings.catch_warnings(), rasterio.Env(GDAL_PAM_ENABLED="NO"):
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        try:
            with rasterio.open(
                path, "w", driver="GTiff", dtype="float32", count=scene.bands, height=rows, width=columns, **options
            ) as file:
                _write(file, scene, record)
            with rasterio.open(path, driver="GTiff") as file:
                whole = all(
                    np.array_equal(file.read(band + 1), _with_nodata(scene, band), equal_nan=True)
                    for band in range(scene.bands)
                )
        except rasterio.errors.RasterioError as error:
            raise OSError(
                f"the GeoTIFF could not be written whole, disk full? ({' '.join(str(error).split())})"
            ) from error
        if not whole:
            raise OSError("the GeoTIFF could not be written whole, disk full?")


def _write(file: Any, scene: Scene, record: dict[str, Any]) -> None:
    # tags before the pixels, so that the directory stands at the start of the file and is written once
    file.update_tags(**{_RECORD: record_of(record), **_SOFTWARE})
    file.scales = [scene.peak] * scene.bands
    for band in range(scene.bands):
        if scene.band_names is not None:
            file.set_band_description(band + 1, scene.band_names[band])
        if scene.wavelengths is not None:
            nm = float(scene.wavelengths[band])
            file.update_tags(band + 1, wavelength=repr(nm), wavelength_units="Nanometers")
    for band in range(scene.bands):
        file.write(_with_nodata(scene, band), band + 1)


def _with_nodata(scene: Scene, band: int) -> np.ndarray:
    pixels = scene.pixels[band]
    return pixels if scene.valid is None else np.where(scene.valid, pixels, np.float32(np.nan))


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=4)
