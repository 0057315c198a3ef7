"""Coordinates and place of an image whose pixels became smaller or larger, as xarray and rioxarray have them."""

import warnings
from collections.abc import Hashable
from typing import Any

import numpy as np

from ..data.georeference import Georeference

GEO_TRANSFORM = "GeoTransform"  # of GDAL, in the attributes of rioxarray's scalar coordinate: "c a b f d e"


def enlarged_centres(centres: np.ndarray, scale: int) -> np.ndarray:
    """Centres of the `scale` times as many pixels of an axis: half an enlarged pixel inside the old edges.

        x'[i] = x((i + 0.5) / scale - 0.5),   x(k) = x[k], linear between them and beyond the first and last

    Args:
        centres: (n,) of the pixels, two or more; evenly spaced or not.
        scale: whole, 1 or more.

    Returns:
        (n scale,) float64.
    """
    places = (np.arange(len(centres) * scale) + 0.5) / scale - 0.5
    left = np.clip(np.floor(places).astype(int), 0, len(centres) - 2)
    share = places - left
    known = np.asarray(centres, np.float64)
    return known[left] + share * (known[left + 1] - known[left])


def shrunk_centres(centres: np.ndarray, scale: int) -> np.ndarray:
    """Centres of pixels that stand for `scale` each: their mean, (n / scale,) float64."""
    return np.asarray(centres, np.float64).reshape(-1, scale).mean(1)


def resized(image: Any, axes: tuple[Hashable, Hashable], scale: int, *, shrink: bool = False) -> dict[Hashable, Any]:
    """The coordinates of the image with `scale` times as many pixels along both axes, or as few.

    Coordinates along an axis get the new centres; those of no axis and of other axes (bands, time) are kept, GDAL's
    transform in their attributes is scaled. What lies on both axes, or is no number there, is left out with a warning.

    Args:
        image: an xarray.DataArray.
        axes: the names of rows and columns.
        scale: whole, 1 or more.
        shrink: fewer pixels; `scale` divides both axes.
    """
    kept: dict[Hashable, Any] = {}
    lost = []
    places = (Georeference.from_gdal(c.attrs.get(GEO_TRANSFORM)) for c in image.coords.values())
    transform = next((place.transform for place in places if place is not None), None)
    for name, coordinate in image.coords.items():
        along = [axis for axis in axes if axis in coordinate.dims]
        if not along:
            kept[name] = _rescaled(coordinate, 1 / scale if shrink else scale)
            continue
        centres = coordinate.values
        if coordinate.dims != (along[0],) or centres.dtype.kind not in "iuf":
            lost.append(str(name))
            continue
        if shrink:
            values = shrunk_centres(centres, scale)
        elif len(centres) > 1:
            values = enlarged_centres(centres, scale)
        elif transform is not None and not transform[1] and not transform[3]:
            step = transform[0 if along[0] == axes[1] else 4]
            values = centres[0] + step * ((np.arange(scale) + 0.5) / scale - 0.5)
        else:
            lost.append(str(name))
            continue
        kept[name] = (along[0], values, dict(coordinate.attrs))
    if lost:
        names = ", ".join(sorted(lost))
        warnings.warn(f"coordinates that can't follow the pixels are left out: {names}", stacklevel=4)
    return kept


def _rescaled(coordinate: Any, scale: float) -> Any:
    """The coordinate, and where it holds GDAL's transform that of pixels smaller by `scale`."""
    found = Georeference.from_gdal(coordinate.attrs.get(GEO_TRANSFORM))
    if found is None:
        return coordinate
    changed = coordinate.copy()
    changed.attrs[GEO_TRANSFORM] = found.scaled(scale).gdal()
    return changed
