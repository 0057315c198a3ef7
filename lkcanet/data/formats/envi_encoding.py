"""How an ENVI header tells what numbers mean: gains, offsets, the reflectance scale factor, widths, all other lines."""

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lkcanet.data.encoding import Encoding
from lkcanet.data.formats.envi_lines import braces, entries_of, numbers, plain
from lkcanet.data.wavelengths import widths_in_nanometres

FACTOR, GAINS, OFFSETS = "reflectance scale factor", "data gain values", "data offset values"
# lines that are read, and written from what was read, or that would be untrue of an image of other pixels or bands
_READ = {
    *("samples", "lines", "bands", "header offset", "file type", "data type", "interleave", "byte order"),
    *("map info", "projection info", "coordinate system string", "pixel size", "x start", "y start", "rpc info"),
    *("geo points", "data ignore value", "wavelength", "wavelength units", "band names", "bbl", "fwhm", "data units"),
    *("major frame offsets", "minor frame offsets", "file compression", "default bands", "default stretch"),
    *("class lookup", "class names", "classes", "class values", "dem band", "dem file", "spectra names"),
    *("z plot range", "lkcanet scene", "lkcanet record", GAINS, OFFSETS),
}


def encoding_of(header: Mapping[str, Any], bands: int, path: Path) -> Encoding:
    """value = number gain + offset of `data gain values` and `data offset values`, which GDAL takes for scale and
    offset; where these say nothing, number / factor of `reflectance scale factor`, as spectral has it.

    Raises:
        ValueError: entries that are no numbers, or a factor of 0.
    """
    gains, offsets = _each(header, GAINS, bands, path), _each(header, OFFSETS, bands, path)
    scale, offset = gains or [1.0] * bands, offsets or [0.0] * bands
    tags = {name: value for name, value in header.items() if name not in _READ}
    if FACTOR in tags:
        factor = numbers([str(tags[FACTOR])], FACTOR, path)[0]
        if not (math.isfinite(factor) and factor):
            raise ValueError(f"{path}: {FACTOR} must be a finite number and not 0, got {factor:g}")
        if set(scale) == {1.0} and set(offset) == {0.0}:
            scale = [1 / factor] * bands
        elif factor != 1:
            _warn(f"{path}: has {GAINS} and a {FACTOR}: the former are applied, the latter is not")
            del tags[FACTOR]
    widths = None
    if "fwhm" in header and (texts := entries_for(header, "fwhm", bands, path)) is not None:
        unit = str(header.get("wavelength units", ""))
        widths = widths_in_nanometres(numbers(texts, "fwhm", path), unit, f"{path}: ")
    listed = {name: value for name, value in tags.items() if isinstance(value, list)}
    each = {name: tuple(entries_of(value)) for name, value in listed.items()}
    each = {name: texts for name, texts in each.items() if len(texts) == bands > 1}
    whole = {name: braces(value) if name in listed else str(value) for name, value in tags.items() if name not in each}
    units = " ".join(entries_of(header.get("data units", "")))
    return Encoding("float32", tuple(scale), tuple(offset), units=units, fwhm=widths, tags=whole, band_tags=each)


def entries_for(header: Mapping[str, Any], name: str, bands: int, path: Path) -> list[str] | None:
    """An entry for each band; None where there is no such line, or a wrong count, of which a warning tells."""
    if name not in header:
        return None
    entries = entries_of(header[name])
    if len(entries) == bands:
        return entries
    _warn(f"{path}: {name} has {len(entries)} entries for {bands} bands: it is left out")
    return None


def _each(header: Mapping[str, Any], name: str, bands: int, path: Path) -> list[float] | None:
    entries = entries_for(header, name, bands, path)
    if entries is None:
        return None
    found = numbers(entries, name, path)
    if not all(map(math.isfinite, found)) or (name == GAINS and 0 in found):
        _warn(f"{path}: {name} are not all finite, or 0: they are left out")
        return None
    return found


def encoding_lines(encoding: Encoding, bands: int) -> dict[str, str]:
    """The lines that `encoding_of` reads, the same ones where they came from a header."""
    lines = {_name(name): _value(text) for name, text in encoding.tags.items() if _name(name) not in _READ}
    lines |= {_name(n): braces(map(plain, texts)) for n, texts in encoding.band_tags.items() if _name(n) not in _READ}

    def each(value: float | tuple[float, ...]) -> str:
        return braces(map(repr, value if isinstance(value, tuple) else [value] * bands))

    factor = _factor(lines.pop(FACTOR, ""))
    if factor and encoding.offset == 0 and encoding.scale == 1 / factor:
        lines[FACTOR] = f"{factor!r}"
    else:
        if encoding.scale != 1:
            lines[GAINS] = each(encoding.scale)
        if encoding.offset != 0:
            lines[OFFSETS] = each(encoding.offset)
    if encoding.units:
        lines["data units"] = plain(encoding.units)
    if encoding.fwhm is not None:
        lines |= {"wavelength units": "Nanometers", "fwhm": braces(map(repr, encoding.fwhm))}
    if encoding.good is not None:
        lines["bbl"] = braces(str(int(mark)) for mark in encoding.good)
    return lines


def _factor(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _name(name: str) -> str:
    """As a header can hold it: no = and no ; before it, which would make it a comment."""
    return " ".join(plain(name).replace("=", " ").lower().split()).lstrip("; ") or "-"


def _value(text: str) -> str:
    """A list stays one."""
    text = text.strip()
    if text.startswith("{") and text.endswith("}"):
        return braces([plain(part) for part in text[1:-1].split(",")])
    return plain(text)


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=5)
