"""A DataArray as a lazy stack of images (N, B, H, W), and such a stack as a DataArray again."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..common.optional import require
from ..data.encoding import Encoding
from ..data.normalise import can_hold
from .coordinates import resized
from .kinds import is_labelled
from .stacks import numbered

ROWS = ("y", "latitude", "lat", "row", "rows", "line", "lines", "northing")
COLUMNS = ("x", "longitude", "lon", "column", "columns", "col", "sample", "samples", "easting")
BANDS = ("band", "bands", "wavelength", "wavelengths", "channel", "channels")
NODATA = ("_FillValue", "missing_value", "fill_value", "nodata")  # where rioxarray looks, in its order
# of `encoding`: what still holds of an image of other size
ENCODING = ("_FillValue", "scale_factor", "add_offset", "dtype", "rasterio_dtype", "grid_mapping", "units")

Dims = tuple[Hashable, Hashable, Hashable]


@dataclass(frozen=True)
class Labelled:
    """What the functions of this room compute with.

    Attributes:
        image: the DataArray, its axes as they were.
        dims: the names of bands, rows and columns.
        numbers: (N, B, H, W), a dask array of the DataArray's dtype, each image's bands in one chunk; N is over all
            other axes, the scenes.
        encoding: what the numbers stand for.
    """

    image: Any
    dims: Dims
    numbers: Any
    encoding: Encoding

    @property
    def scenes(self) -> list[Hashable]:
        """Axes that are neither bands nor rows nor columns."""
        return [dim for dim in self.image.dims if dim not in self.dims]


def read(image: Any, dims: Sequence[Hashable] | None, nodata: float | None) -> Labelled:
    """Find the axes, the nodata value, scale and offset of a DataArray; chunk it if it is not.

    Args:
        image: an xarray.DataArray of integers or floats.
        dims: names of bands, rows and columns; None: the usual ones.
        nodata: the number of pixels without data, in place of the one that the attributes tell.

    Raises:
        TypeError: no DataArray, or not of real numbers.
        ValueError: axes that are not there or can't be told, an empty one, a nodata value that the dtype can't hold,
            or scale factors that are no numbers, one or one a band.
        ModuleNotFoundError: dask is not installed.
    """
    if not is_labelled(image):
        raise TypeError(f"image must be an xarray.DataArray, got {type(image).__name__}")
    da = require("dask.array", extra="cluster")
    if image.dtype.kind not in "iuf":
        raise TypeError(f"image must be of real integers or floats, got {image.dtype}")
    names = _names(image, dims)
    if 0 in image.shape:
        raise ValueError(f"image must have pixels, got {dict(image.sizes)}")
    if nodata is not None and not can_hold(image.dtype, nodata):
        raise ValueError(f"nodata {nodata:g} cannot occur in pixels of {image.dtype}")
    data = image.transpose(..., *names).data
    if not isinstance(data, da.Array):
        data = da.from_array(np.asarray(data), chunks="auto")
    data = data.rechunk({axis: -1 if axis == data.ndim - 3 else 1 for axis in range(data.ndim - 2)})
    data = data.reshape((-1, *data.shape[-3:])) if data.ndim > 3 else data[None]
    scale = _factors(image, ("scale_factor", "scales"), 1.0, data.shape[1])
    offset = _factors(image, ("add_offset", "offsets"), 0.0, data.shape[1])
    if not scale.all():
        raise ValueError("scale_factor of image must not be 0: it would make all numbers the same")
    marker = _declared(image) if nodata is None else nodata
    if marker is not None and not can_hold(image.dtype, marker):
        marker = None  # it occurs nowhere
    return Labelled(
        image, names, data, Encoding(image.dtype.name, tuple(scale.tolist()), tuple(offset.tolist()), marker)
    )


def labelled_again(given: Labelled, pixels: Any, peaks: Any, scale: int, *, shrink: bool = False) -> Any:
    """A DataArray like the given one of pixels (N, B, H', W'): in its numbers, dtype, axes and attributes.

    Args:
        given: the image.
        pixels: normalised, float32, NaN where there are no data.
        peaks: see `lkcanet.cluster.stacks.normalised`.
        scale: how many times as many pixels there are along rows and columns, or with `shrink` as few.
    """
    xarray = require("xarray", extra="cluster")
    image, scenes, numbers = given.image, given.scenes, numbered(pixels, peaks, given.encoding)
    data = numbers.reshape((*(image.sizes[dim] for dim in scenes), *numbers.shape[1:])) if scenes else numbers[0]
    result = xarray.DataArray(
        data,
        dims=(*scenes, *given.dims),
        coords=resized(image, (given.dims[1], given.dims[2]), scale, shrink=shrink),
        name=image.name,
        attrs=dict(image.attrs),
    ).transpose(*image.dims)
    result.encoding = {key: value for key, value in image.encoding.items() if key in ENCODING}
    marker = given.encoding.nodata
    if marker is not None and _declared(image) != marker and not np.isnan(marker):
        result.attrs["_FillValue"] = marker
    return result


def _names(image: Any, dims: Sequence[Hashable] | None) -> Dims:
    if dims is not None:
        given = tuple(dims)
        if len(given) != 3 or len(set(given)) != 3 or not set(given) <= set(image.dims):
            raise ValueError(f"dims must be the names of bands, rows and columns among {image.dims}, got {dims!r}")
        return given[0], given[1], given[2]
    known = {dim: str(dim).lower() for dim in image.dims}
    rows, columns, bands = ([dim for dim in known if known[dim] in usual] for usual in (ROWS, COLUMNS, BANDS))
    if not bands and len(known) == 3:
        bands = [dim for dim in known if dim not in rows + columns]
    if [len(found) for found in (rows, columns, bands)] != [1, 1, 1]:
        raise ValueError(
            f"image has the axes {image.dims}, which don't tell bands, rows and columns: give dims, such as "
            "('band', 'y', 'x')"
        )
    return bands[0], rows[0], columns[0]


def _declared(image: Any) -> float | None:
    """The nodata value of its numbers: not that of its encoding, which xarray has replaced by NaN."""
    for key in NODATA:
        value = image.attrs.get(key)
        if isinstance(value, int | float | np.number):
            return float(value)
    return None


def _factors(image: Any, keys: tuple[str, str], default: float, bands: int) -> np.ndarray:
    """(1 or B,) float64 of the attributes."""
    name = next((key for key in keys if key in image.attrs), keys[0])
    value = image.attrs.get(name, default)
    try:
        numbers = np.atleast_1d(np.asarray(value, np.float64)).ravel()
    except (TypeError, ValueError):
        numbers = np.array([])
    if len(numbers) not in (1, bands) or not np.isfinite(numbers).all():
        what = f"a finite number, or one for each of {bands} bands"
        raise ValueError(f"{name} of image must be {what}, got {value!r:.80}")
    return numbers
