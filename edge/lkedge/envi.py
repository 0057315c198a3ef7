"""ENVI images: headers read and written, data mapped. Source: NV5, "ENVI Header Files"."""

import math
import re
from pathlib import Path

import numpy as np

__all__ = ["header_text", "mapped", "read_header", "units_of"]

_TYPES = {1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8", 12: "u2", 13: "u4", 14: "i8", 15: "u8"}
_AXES = {"bsq": "chw", "bil": "hcw", "bip": "hwc"}
_DATA = ("", ".img", ".dat", ".raw", ".bsq", ".bil", ".bip", ".bin")
_KEPT = ("wavelength units", "wavelength", "fwhm", "band names", "bbl", "coordinate system string")
_FACTOR, _GAINS, _OFFSETS = "reflectance scale factor", "data gain values", "data offset values"
_UNSUPPORTED = ("major frame offsets", "minor frame offsets", "file compression")


def read_header(path: Path) -> dict[str, str]:
    """The lines of a header, names in lower case, what stands in braces with them."""
    text = path.read_bytes().decode("utf-8-sig", "replace")
    if not text.lstrip().startswith("ENVI") or "\0" in text:
        raise ValueError(f"{path}: no ENVI header")
    lines: dict[str, str] = {}
    for match in re.finditer(r"^[ \t]*([^=\n;{}]+?)[ \t]*=[ \t]*(\{[^}]*\}?|[^\n]*)", text, re.MULTILINE):
        value = match[2].strip()
        if value.startswith("{") and not value.endswith("}"):
            raise ValueError(f"{path}: the brace of {match[1]!r} has no end")
        lines[" ".join(match[1].lower().split())] = value
    return lines


def mapped(path: Path) -> tuple[np.ndarray, dict[str, str], tuple[Path, Path]]:
    """The pixels (bands, rows, columns) of a header or its data file, mapped, the header's lines, and both files.

    Raises:
        ValueError: a header without what it must have, or with what is not supported.
        OSError: a file is not there, or has another size than the header says.
    """
    header = path if path.suffix.lower() == ".hdr" else _header_of(path)
    lines = read_header(header)
    bands, rows, columns = (_whole(lines, name, header, 1) for name in ("bands", "lines", "samples"))
    code, order = _whole(lines, "data type", header, 0), _whole(lines, "byte order", header, 0, "0")
    offset = _whole(lines, "header offset", header, 0, "0")
    interleave = lines.get("interleave", "").lower()
    if code not in _TYPES:
        raise ValueError(f"{header}: data type must be one of {', '.join(map(str, _TYPES))}, got {code}")
    if interleave not in _AXES:
        raise ValueError(f"{header}: interleave must be bsq, bil or bip, got {interleave!r}")
    if order > 1:
        raise ValueError(f"{header}: byte order must be 0 or 1, got {order}")
    if unsupported := [name for name in _UNSUPPORTED if re.search(r"[1-9]", lines.get(name, ""))]:
        raise ValueError(f"{header}: {unsupported[0]} of {lines[unsupported[0]]} are not supported")
    dtype = np.dtype((">" if order else "<") + _TYPES[code])
    axes, sizes = _AXES[interleave], {"c": bands, "h": rows, "w": columns}
    expected = offset + bands * rows * columns * dtype.itemsize
    data = path if path != header else _data_of(header)
    if (actual := data.stat().st_size) != expected:
        raise OSError(f"{data}: has {actual} bytes, but its header {header.name} describes {expected}: truncated?")
    values = np.memmap(data, dtype, "r", offset, tuple(sizes[axis] for axis in axes))
    return values.transpose([axes.index(axis) for axis in "chw"]), lines, (header, data)


def units_of(lines: dict[str, str], bands: int, path: Path) -> tuple[list[float], list[float]]:
    """Gains and offsets of the bands: number x gain + offset is in the units that the header declares. As lkcanet has
    them: where neither says anything, a gain is 1 / `reflectance scale factor`.

    Raises:
        ValueError: entries that are no finite numbers, or not one for each band; a gain or factor of 0.
    """
    gains, offsets = _each(lines, _GAINS, bands, 1.0, path), _each(lines, _OFFSETS, bands, 0.0, path)
    if set(gains) == {1.0} and set(offsets) == {0.0} and _FACTOR in lines:
        gains = [1 / factor for factor in _each(lines, _FACTOR, 1, 1.0, path)] * bands
    return gains, offsets


def _each(lines: dict[str, str], name: str, bands: int, default: float, path: Path) -> list[float]:
    if name not in lines:
        return [default] * bands
    try:
        numbers = [float(entry) for entry in lines[name].strip("{} ").split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != bands or not all(map(math.isfinite, numbers)) or (name != _OFFSETS and 0 in numbers):
        raise ValueError(f"{path}: {name} must be {bands} finite numbers, gains not 0, got {lines[name]!r}")
    return numbers


def header_text(
    shape: tuple[int, int, int], source: dict[str, str], scale: int, gains: list[float], offsets: list[float]
) -> str:
    """The header of a float32 bsq image; `source` are the lines of the low-resolution one, `scale` times as coarse."""
    bands, rows, columns = shape
    lines = {"samples": columns, "lines": rows, "bands": bands, "header offset": 0, "file type": "ENVI Standard"}
    lines |= {"data type": 4, "interleave": "bsq", "byte order": 0}
    if set(gains) != {1.0}:
        lines[_GAINS] = "{" + ", ".join(map(repr, gains)) + "}"
    if set(offsets) != {0.0}:
        lines[_OFFSETS] = "{" + ", ".join(map(repr, offsets)) + "}"
    lines |= {name: " ".join(source[name].split()) for name in _KEPT if name in source}
    if "map info" in source and (line := _map_info(source["map info"], scale)):
        lines["map info"] = line
    return "ENVI\n" + "".join(f"{name} = {value}\n" for name, value in lines.items())


def _map_info(text: str, scale: int) -> str | None:
    """The same ground under pixels that are `scale` times smaller: pixel 1 begins at the outer corner of the first."""
    entries = [entry.strip() for entry in text.strip("{} ").split(",")]
    try:
        numbers = [float(entry) for entry in entries[1:7]]
    except ValueError:
        return None
    if len(numbers) < 6:
        return None
    column, row, easting, northing, width, height = numbers
    numbers = [(column - 1) * scale + 1, (row - 1) * scale + 1, easting, northing, width / scale, height / scale]
    return "{" + ", ".join([entries[0], *map(repr, numbers), *entries[7:]]) + "}"


def _whole(lines: dict[str, str], name: str, path: Path, least: int, default: str | None = None) -> int:
    text = lines.get(name, default)
    if text is None:
        raise ValueError(f"{path}: the header has no line {name!r}")
    if not re.fullmatch(r"\d{1,12}", text) or int(text) < least:
        raise ValueError(f"{path}: {name} must be a whole number from {least}, got {text!r}")
    return int(text)


def _header_of(data: Path) -> Path:
    for candidate in (data.with_suffix(".hdr"), data.with_name(data.name + ".hdr")):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"{data}: no ENVI header beside it")


def _data_of(header: Path) -> Path:
    base = header.with_suffix("")
    found = [file for suffix in _DATA if (file := base.with_name(base.name + suffix)).is_file()]
    if len(found) != 1:
        names = " and ".join(file.name for file in found) or "none of " + ", ".join(base.name + s for s in _DATA)
        raise FileNotFoundError(f"{header}: its data file must be one beside it, found {names}")
    return found[0]
