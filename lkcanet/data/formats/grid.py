"""Where the pixels of a netCDF variable lie: its grid mapping, and the coordinates of its rows and columns.

Source: the CF conventions, "Horizontal Coordinate Reference Systems, Grid Mappings, and Projections"; GDAL's netCDF
driver and rioxarray for crs_wkt, spatial_ref and GeoTransform.
"""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lkcanet.common.optional import require
from lkcanet.data.formats.raw import system_from
from lkcanet.data.georeference import Georeference

if TYPE_CHECKING:
    from lkcanet.data.formats.variables import Stored


def georeference_of(variable: "Stored", near: "Mapping[str, Stored]", order: str, path: Path) -> Georeference | None:
    """The transform of the grid mapping (GeoTransform), else that of evenly spaced coordinates; None where there is
    neither, with a warning where pixels have a place of their own each (latitudes and longitudes of a swath).

    Args:
        variable: the scene.
        near: all variables by their paths.
        order: its axes, letters of "chw".
        path: for messages.
    """
    mapping = _mapping(variable, near)
    place = Georeference.from_gdal(mapping.get("GeoTransform")) or _spaced(variable, near, order)
    if place is None:
        _note_swath(variable, near, order, path)
        return None
    return replace(place, crs=_system(mapping, variable, near, order, path))


def _mapping(variable: "Stored", near: "Mapping[str, Stored]") -> Mapping[str, Any]:
    named = str(variable.attributes.get("grid_mapping", "")).split(":")[0].strip()
    group = variable.name.rpartition("/")[0]
    for name in (named, "spatial_ref", "crs"):
        found = near.get(f"{group}/{name}".strip("/")) or near.get(name)
        if name and found is not None:
            return found.attributes
    return {}


def _coordinate(variable: "Stored", near: "Mapping[str, Stored]", order: str, letter: str) -> "Stored | None":
    dim = variable.dims[order.index(letter)]
    found = near.get(dim)
    return found if found is not None and found.shape == (variable.shape[order.index(letter)],) else None


def _spaced(variable: "Stored", near: "Mapping[str, Stored]", order: str) -> Georeference | None:
    """From the coordinates of the pixels' centres; None where they are not even, to a thousandth of a pixel."""
    ends = []
    for letter in "wh":
        found = _coordinate(variable, near, order, letter)
        if found is None or found.shape[0] < 2 or found.dtype.kind not in "iuf":
            return None
        values = np.asarray(found.load(), np.float64)
        step = (values[-1] - values[0]) / (len(values) - 1)
        even = values[0] + step * np.arange(len(values))
        # single precision holds eastings to half a metre only
        slack = 1e-3 * abs(step) + float(np.spacing(np.abs(values).max().astype(np.float32)))
        if not step or not (np.abs(values - even) <= slack).all():
            return None
        ends.append((float(step), float(values[0] - step / 2)))
    (a, c), (e, f) = ends
    return Georeference((a, 0.0, c, 0.0, e, f))


def _system(
    mapping: Mapping[str, Any], variable: "Stored", near: "Mapping[str, Stored]", order: str, path: Path
) -> str:
    for name in ("crs_wkt", "spatial_ref"):
        if isinstance(mapping.get(name), str) and mapping[name]:
            return str(mapping[name])
    if "grid_mapping_name" in mapping:
        told = {k: v for k, v in mapping.items() if not k.startswith("_")}
        crs = require("pyproj", extra="geo").CRS
        try:
            return str(system_from(crs.from_cf, told, "the grid mapping").to_wkt())
        except ValueError as error:
            warnings.warn(f"{path}: {error}: results have no system", UserWarning, stacklevel=6)
            return ""
    rows = _coordinate(variable, near, order, "h")
    degrees = rows is not None and str(rows.attributes.get("units", "")).lower().startswith("degree")
    return "EPSG:4326" if degrees else ""


def _note_swath(variable: "Stored", near: "Mapping[str, Stored]", order: str, path: Path) -> None:
    size = tuple(variable.shape[order.index(letter)] for letter in "hw")
    places = [v.name for v in near.values() if v.shape in (size, size[::-1]) and _is_place(v)]
    if places:
        warnings.warn(
            f"{path}: its pixels are in the sensor's order, with a place each ({', '.join(sorted(places))}) and no "
            "grid: results have no georeference",
            UserWarning,
            stacklevel=6,
        )


def _is_place(variable: "Stored") -> bool:
    return variable.name.rpartition("/")[2].lower() in ("lat", "lon", "latitude", "longitude")
