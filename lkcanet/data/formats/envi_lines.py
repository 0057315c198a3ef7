"""Values of the lines of ENVI headers, and what `map info` says of the ground.

Source: NV5, "ENVI Header Files"; GDAL's ENVI driver settles the sign of a rotation.
"""

import math
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lkcanet.data.georeference import Georeference


def entries_of(value: Any) -> list[str]:
    """What stands in braces, or the one value without."""
    entries = [str(entry) for entry in value] if isinstance(value, list) else [str(value)]
    return entries[:-1] if len(entries) > 1 and not entries[-1] else entries  # a comma behind the last


def numbers(entries: Sequence[str], name: str, path: Path) -> list[float]:
    """Floats, or a ValueError that names the line."""
    try:
        return [float(entry) for entry in entries]
    except (TypeError, ValueError):
        raise ValueError(f"{path}: {name} must be numbers, got {', '.join(map(str, entries))[:60]!r}") from None


def plain(text: str) -> str:
    """As a header can hold it: ASCII, no commas and braces, one line."""
    return " ".join(re.sub(r"[,{}\s]+", " ", text).split()).encode("ascii", "replace").decode() or "-"


def braces(entries: Iterable[str]) -> str:
    """A list as a header holds it."""
    return "{" + ", ".join(entries) + "}"


def georeference_of(header: dict[str, Any], path: Path) -> Georeference | None:
    """From map info: projection, reference pixel (1, 1 is the outer corner of the first), its easting and northing,
    pixel size, zone and hemisphere of UTM, datum, rotation=degrees counter-clockwise."""
    if "map info" not in header:
        return None
    entries = entries_of(header["map info"])
    if len(entries) < 7:
        raise ValueError(f"{path}: map info must have 7 entries or more, got {len(entries)}")
    column, row, easting, northing, width, height = numbers(entries[1:7], "map info", path)
    options = dict(entry.lower().replace(" ", "").split("=", 1) for entry in entries[7:] if "=" in entry)
    degrees = numbers([options.get("rotation", "0")], "map info rotation", path)[0]
    if abs(degrees) == 180:  # to GDAL, and in files that it wrote, the image is then upside down and not turned
        warnings.warn(f"{path}: map info has a rotation of 180 degrees, which is ambiguous: left out", stacklevel=4)
        return None
    angle = math.radians(degrees)
    cosine, sine = math.cos(angle), math.sin(angle)
    a, b, d, e = width * cosine, height * sine, width * sine, -height * cosine
    c, f = easting - a * (column - 1) - b * (row - 1), northing - d * (column - 1) - e * (row - 1)
    crs = ",".join(entries_of(header.get("coordinate system string", "")))
    try:
        return Georeference((a, b, c, d, e, f), crs or _known_system(entries))
    except ValueError as error:
        raise ValueError(f"{path}: map info: {error}") from None


def _known_system(entries: list[str]) -> str:
    """An EPSG code for what map info names without a coordinate system string, "" where it is not one of the two."""
    wgs84 = any(re.fullmatch(r"WGS[-_ ]?(19)?84", entry, re.IGNORECASE) for entry in entries[7:])
    if wgs84 and entries[0].lower() == "utm" and re.fullmatch(r"[1-9]|[1-5]\d|60", entries[7]):
        return f"EPSG:{327 if entries[8].lower().startswith('s') else 326}{int(entries[7]):02}"
    return "EPSG:4326" if wgs84 and entries[0].lower().startswith("geographic") else ""


def map_lines(georeference: Georeference) -> dict[str, str]:
    """What map info can say: north up, or square pixels rotated; other maps are in the record alone."""
    a, b, c, d, e, f = georeference.transform
    width, height = math.hypot(a, d), math.hypot(b, e)
    turned = bool(b or d)
    if a * e - b * d > 0 or (turned and not np.allclose((b, e), (d, -a), rtol=0, atol=1e-9 * width)):
        return {}
    if a < 0 and not d:
        return {}  # a half turn, see georeference_of
    crs = " ".join(georeference.crs.encode("ascii", "replace").decode().split())
    name, tail = _projection(crs)
    if turned:
        tail.append(f"rotation={math.degrees(math.atan2(d, a))!r}")
    lines = {"map info": braces([name, *map(repr, (1.0, 1.0, c, f, width, height)), *tail])}
    if crs and not crs.startswith("EPSG:"):
        lines["coordinate system string"] = f"{{{crs}}}"
    return lines


def _projection(crs: str) -> tuple[str, list[str]]:
    """The first entry of map info, and those behind the pixel size."""
    datum = ["WGS-84"] if re.search(r"WGS[ _]*(19)?84|EPSG:(32[67]\d\d|4326)$", crs) else []
    zone = re.search(r"UTM[ _]zone[ _](?P<number>\d+)(?P<south>S)?", crs, re.IGNORECASE)
    zone = zone or re.fullmatch(r"EPSG:32(6|(?P<south>7))(?P<number>\d\d)", crs)
    if zone is not None:
        half = "South" if zone["south"] else "North"
        return "UTM", [str(int(zone["number"])), half, *datum, "units=Meters"]
    if crs.startswith("GEOG") or crs == "EPSG:4326":
        return "Geographic Lat/Lon", [*datum, "units=Degrees"]
    return "Arbitrary", []
