"""ENVI images: a text header beside raw data; headers are parsed by spectral.

Source: NV5, "ENVI Header Files".
"""

import json
import math
import os
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from lkcanet.common.optional import require
from lkcanet.data.formats.envi_encoding import encoding_of, entries_for
from lkcanet.data.formats.envi_lines import entries_of, georeference_of, numbers, plain
from lkcanet.data.formats.raw import Raw, check_record, good_bands, own, reading
from lkcanet.data.normalise import nodata_mask
from lkcanet.data.wavelengths import to_nanometres

SUFFIXES = (".img", ".dat", ".raw", ".bin", ".bsq", ".bil", ".bip", "")  # of data files
_AXES = {"bsq": "chw", "bil": "hcw", "bip": "hwc"}
MARK, RECORD = "lkcanet scene", "lkcanet record"  # the first line below ENVI, and the last


def header_of(path: Path) -> Path | None:
    """The header of a data file, X.hdr or X.dat.hdr for X.dat, or the path itself where it ends in .hdr; None without.

    Raises:
        ValueError: both exist.
    """
    if path.suffix.lower() == ".hdr":
        return path
    found = [file for base in {path.name: 0, path.stem: 0} if (file := _existing(path.with_name(base), ".hdr"))]
    if len(found) > 1:
        raise ValueError(f"{path}: has two headers, {found[0].name} and {found[1].name}: give the one to read")
    return found[0] if found else None


def read_envi(path: Path, header_path: Path) -> Raw:
    """Read an image of any interleave, byte order and real data type, as a memory map.

    Taken from the header: `wavelength` with `wavelength units`, `fwhm`, `band names`, `bbl`, `data ignore value`,
    `map info` and `coordinate system string`; `data gain values`, `data offset values` and `reflectance scale factor`
    as `lkcanet.data.formats.envi_encoding` has them; other lines as they are. A list that has not an entry for each
    band is left out, with a warning. Without `byte order` the data are taken for little-endian, as GDAL does.

    Args:
        path: the data file, or the header again: then the data file is the one beside it, X for X.hdr with any of
            SUFFIXES; of several, the only one of the right size.
        header_path: the header.

    Raises:
        FileNotFoundError: no data file.
        OSError: not an ENVI header, or data of another size than it says.
        ValueError: a line that is missing or not of numbers, or an image of a kind not supported.
    """
    header = _header(header_path)
    dtype, shape, axes, offset = _layout(header, header_path)
    expected = offset + math.prod(shape) * dtype.itemsize
    data = path if path != header_path else _data_of(header_path, expected)
    if data.stat().st_size != expected:
        actual = data.stat().st_size
        why = "truncated?" if actual < expected else "longer than that: a header of another image, or header offset?"
        raise OSError(f"{data}: has {actual} bytes, but its header {header_path.name} describes {expected}: {why}")
    with reading(data, "ENVI data"):
        # copy on write: torch can wrap it, and no write ever reaches the file
        values: np.ndarray = np.memmap(data, dtype, "c", offset, tuple(shape["chw".index(letter)] for letter in axes))
    if axes != "chw":
        values = values.transpose([axes.index(letter) for letter in "chw"])
    nodata = header.get("data ignore value")
    raw = Raw(values, "chw", nodata=None if nodata is None else numbers([nodata], "data ignore value", header_path)[0])
    facts = _facts(header, shape[0], header_path)
    record = _record(header, header_path)
    if record is not None and "encoded" not in record:
        if ours := _own_fields(record, header, facts, header_path):
            valid = None if nodata is None else nodata_mask(values, math.nan).valid
            return raw._replace(own=ours, valid=valid)
        record = None
    marks = entries_for(header, "bbl", shape[0], header_path)
    good = None if marks is None else good_bands(numbers(marks, "bbl", header_path), "bbl", header_path)
    encoding = encoding_of(header, shape[0], header_path)
    return raw._replace(facts=facts, good=good, encoding=encoding, record=record)


def _existing(base: Path, suffix: str) -> Path | None:
    files = (base.with_name(base.name + spelling) for spelling in (suffix, suffix.upper()))
    return next((file for file in files if file.is_file()), None)


def _data_of(header: Path, expected: int) -> Path:
    found = [file for suffix in SUFFIXES if (file := _existing(header.with_suffix(""), suffix))]
    if not found:
        names = ", ".join(header.stem + suffix for suffix in SUFFIXES)
        raise FileNotFoundError(f"{header}: no data file beside it: none of {names}")
    fitting = [file for file in found if file.stat().st_size == expected] if len(found) > 1 else found
    if len(fitting) != 1:
        names = " and ".join(file.name for file in found)
        raise ValueError(f"{header}: its data could be {names}: give the data file instead of the header")
    return fitting[0]


def _header(path: Path) -> dict[str, Any]:
    """The lines of a header: text, or lists of texts where braces hold them; names in lower case."""
    parse = require("spectral.io.envi", extra="geo").read_envi_header
    with reading(path, "an ENVI header"), warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # names that are not in lower case
        content = path.read_bytes()
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("latin-1")
        # spectral reads a path, in the encoding of the locale
        copy = Path(folder) / "utf8.hdr"
        copy.write_text(text, newline="\n")
        if "\0" in text:
            raise ValueError("holds binary data")
        return {" ".join(name.lower().split()): value for name, value in parse(os.fspath(copy)).items()}


def _layout(header: dict[str, Any], path: Path) -> tuple[np.dtype, tuple[int, int, int], str, int]:
    """dtype, (B, H, W), axes in the file and offset of the first value."""
    kinds: dict[str, str] = require("spectral.io.envi", extra="geo").envi_to_dtype
    bands, rows, columns = (_whole(header, name, path, 1) for name in ("bands", "lines", "samples"))
    code, interleave = str(_line(header, "data type", path)), str(_line(header, "interleave", path)).lower()
    if code not in kinds or np.dtype(kinds[code]).kind == "c":
        raise ValueError(f"{path}: data type must be a code of real numbers (1 to 5, 12 to 15), got {code!r}")
    if interleave not in _AXES:
        raise ValueError(f"{path}: interleave must be bsq, bil or bip, got {interleave!r}")
    if "byte order" not in header:
        _warn(f"{path}: the header has no byte order: taken for 0, little-endian")
    order = _whole(header, "byte order", path, 0) if "byte order" in header else 0
    if order > 1:
        raise ValueError(f"{path}: byte order must be 0 or 1, got {order}")
    offset = _whole(header, "header offset", path, 0) if "header offset" in header else 0
    if "spectral library" in str(header.get("file type", "")).lower():
        raise ValueError(f"{path}: is a spectral library, not an image")
    unsupported = [
        name for name in ("major frame offsets", "minor frame offsets", "file compression") if name in header
    ]
    for name in unsupported:
        if any(numbers(entries_of(header[name]), name, path)):
            raise ValueError(f"{path}: {name} of {header[name]} are not supported")
    return np.dtype(kinds[code]).newbyteorder(">" if order else "<"), (bands, rows, columns), _AXES[interleave], offset


def _line(header: dict[str, Any], name: str, path: Path) -> Any:
    if header.get(name, "") == "":
        raise ValueError(f"{path}: the header has no line {name!r}")
    return header[name]


def _whole(header: dict[str, Any], name: str, path: Path, least: int) -> int:
    text = str(_line(header, name, path))
    if not re.fullmatch(r"\d{1,15}", text) or int(text) < least:
        raise ValueError(f"{path}: {name} must be a whole number from {least}, got {text!r}")
    return int(text)


def _facts(header: dict[str, Any], bands: int, path: Path) -> dict[str, Any]:
    texts = entries_for(header, "wavelength", bands, path)
    wavelengths = None
    if texts is not None:
        unit = str(header.get("wavelength units", ""))
        wavelengths = to_nanometres(numbers(texts, "wavelength", path), unit, f"{path}: ")
    names = entries_for(header, "band names", bands, path)
    return {"wavelengths": wavelengths, "band_names": names, "georeference": georeference_of(header, path)}


def _record(header: dict[str, Any], path: Path) -> dict[str, Any] | None:
    """That of write_scene."""
    if MARK not in header and RECORD not in header:
        return None
    with reading(path, "a header of write_scene"):
        record: dict[str, Any] = json.loads(str(header[RECORD]).removeprefix("json "))
        check_record(record)
    return record


def _own_fields(
    record: dict[str, Any], header: dict[str, Any], facts: dict[str, Any], path: Path
) -> dict[str, Any] | None:
    """The record's; where another program has changed what the header says itself, that holds."""
    with reading(path, "a header of write_scene"):
        fields = own({**record, "wavelengths": facts["wavelengths"]}, path)
        gains = {float(gain) for gain in entries_of(header.get("data gain values", "1"))}
    if gains != {fields["peak"]}:
        return None  # the values have been scaled since
    names, kept = facts["band_names"], fields.get("band_names")
    if names != (None if kept is None else [plain(name) for name in kept]):
        fields["band_names"] = names
    written, ours = facts["georeference"], fields.get("georeference")
    if written is not None and not (ours and ours.agrees(written)):
        fields["georeference"] = written
    return fields


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=4)
