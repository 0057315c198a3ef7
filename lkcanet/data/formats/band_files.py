"""Folders of GeoTIFFs, one a band, with the band's number in the name: X_B001_L1T.TIF, X_B8.tif. Those of Hyperion are
known."""

import re
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lkcanet.data.encoding import Encoding
from lkcanet.data.formats import hyperion
from lkcanet.data.formats.geotiff import SUFFIXES, read_geotiff
from lkcanet.data.formats.raw import Raw

_NUMBER = re.compile(
    r"(?P<before>.*?)(?:^|[-_ ])B(?:and)?[-_ ]?(?P<number>\d{1,3})(?P<behind>[-_ .].*)?", re.IGNORECASE
)


def band_files(folder: Path) -> dict[int, Path]:
    """The files by the number of their band, in its order: those that share what stands before and behind the number,
    two at least; {} where there are none.

    Raises:
        ValueError: two files of one band.
    """
    named: dict[tuple[str, str], list[tuple[int, Path]]] = {}
    for file in sorted(folder.iterdir()):
        match = _NUMBER.fullmatch(file.stem) if file.suffix.lower() in SUFFIXES and file.is_file() else None
        if match is not None:
            named.setdefault((match["before"], match["behind"] or ""), []).append((int(match["number"]), file))
    if not named:
        return {}
    found = max(named.values(), key=len)
    twice = [number for number, count in Counter(number for number, _ in found).items() if count > 1]
    if twice:
        raise ValueError(f"{folder}: holds two files of band {twice[0]}")
    return dict(sorted(found)) if len(found) > 1 else {}


def read_band_files(folder: Path, files: dict[int, Path]) -> Raw:
    """Read the files that `band_files` gave, in memory and in their data type, each as `read_geotiff` does. Other
    GeoTIFFs of the folder are left out, with a warning.

    Of Hyperion's files (EO1H...) those that hold nothing but 0 are left out, with a warning, and the rest is as
    `lkcanet.data.formats.hyperion` says; a pixel that is 0 in all of them has no data.

    Raises:
        OSError: a file that can't be read.
        ValueError: files of several bands, or of other sizes, data types or places than the first.
    """
    others = [file.name for file in sorted(folder.iterdir()) if file.suffix.lower() in SUFFIXES]
    if others := [name for name in others if name not in {file.name for file in files.values()}]:
        _warn(f"{folder}: left out, since they are no bands: {', '.join(others[:6])}{', ...' * (len(others) > 6)}")
    known = hyperion.is_hyperion(next(iter(files.values())))
    values: np.ndarray | None = None
    first: Raw | None = None
    taken: list[int] = []
    empty: list[int] = []
    encodings: list[Encoding] = []
    names: list[str] = []
    for number, file in files.items():
        raw = read_geotiff(file)
        first = first or raw
        if values is None:
            values = np.empty((len(files), *raw.values.shape[1:]), raw.values.dtype)
        _check_same(file, raw, first)
        if known and not raw.values.any():
            empty.append(number)
            continue
        values[len(taken)] = raw.values[0]
        taken.append(number)
        encodings.append(raw.encoding or Encoding())
        names.append(((raw.facts or {}).get("band_names") or [f"B{number}"])[0])
    assert values is not None
    assert first is not None
    if not taken:
        raise ValueError(f"{folder}: every band is 0 everywhere")
    facts: dict[str, Any] = {**(first.facts or {}), "band_names": names, "wavelengths": None}
    result = first._replace(values=values[: len(taken)], facts=facts, encoding=_joined(encodings), good=None)
    if not known:
        return result
    if empty:
        _warn(f"{folder}: {len(empty)} bands hold nothing (B{empty[0]} to B{empty[-1]}, not calibrated): left out")
    return hyperion.described(result, taken, folder)


def _check_same(file: Path, raw: Raw, first: Raw) -> None:
    if len(raw.values) != 1:
        raise ValueError(f"{file}: has {len(raw.values)} bands, expected one")
    for what, mine, its in (
        ("size", raw.values.shape[1:], first.values.shape[1:]),
        ("data type", raw.values.dtype, first.values.dtype),
        ("nodata value", raw.nodata, first.nodata),
        ("georeference", (raw.facts or {}).get("georeference"), (first.facts or {}).get("georeference")),
    ):
        if mine != its and not (mine != mine and its != its):
            raise ValueError(f"{file}: has another {what} than the first band: {mine} and {its}"[:300])


def _joined(encodings: list[Encoding]) -> Encoding:
    scales, offsets = ([float(np.ravel(getattr(e, name))[0]) for e in encodings] for name in ("scale", "offset"))
    units = {encoding.units for encoding in encodings}
    tags = dict(encodings[0].tags.items() & encodings[-1].tags.items())
    return replace(
        encodings[0],
        scale=tuple(scales),
        offset=tuple(offsets),
        units=units.pop() if len(units) == 1 else "",
        tags=tags,
        band_tags={},
        fwhm=None,
        good=None,
    )


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=5)
