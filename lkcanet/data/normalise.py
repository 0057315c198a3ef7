"""Arrays of any real numbers to scenes: divided by a peak, and nothing but valid pixels in them."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from lkcanet.common.optional import require
from lkcanet.data.encoding import Encoding
from lkcanet.data.georeference import Georeference
from lkcanet.data.scenes import Scene, check_positive

_PIECE = 1 << 24  # bytes that are looked at at once


def scene_from_array(
    values: np.ndarray,
    *,
    peak: float | None = None,
    wavelengths: Sequence[float] | np.ndarray | None = None,
    name: str = "",
    source: str = "",
    band_names: Sequence[str] | None = None,
    valid: np.ndarray | None = None,
    georeference: Georeference | None = None,
    encoding: Encoding | None = None,
) -> Scene:
    """Normalise (B, H, W) values of any real dtype: pixels = values / peak, computed in float64, stored as float32.
    With an encoding the values are number scale + offset of what is given, or where it is raw that itself.

    The default peak is the maximum of all valid values, as SSPSR and MSDformer divide by the maximum of the cube.
    Float32, contiguous values with peak 1 and no invalid pixel are taken as they are, without a copy; others are read
    in the order of their memory, a piece at a time, so that a memory map may be of any interleave and larger than the
    memory. What an invalid pixel holds, NaN included, is looked at nowhere: it gets the spectrum of the nearest valid
    pixel (Euclidean distance between pixels' centres).

    Args:
        values: (B, H, W) integers or floats.
        peak: the normaliser; None takes the maximum.
        wavelengths: (B,) in nm.
        name, source: see `Scene`; `source` also starts the error messages.
        band_names: B names.
        valid: (H, W) bool, true somewhere; None: every pixel is valid.
        georeference: of the pixels.
        encoding: of the numbers in the file they come from; it stays with the scene.

    Raises:
        TypeError: `valid` is not a bool array.
        ValueError: not real numbers, not (B, H, W), NaN or infinite valid pixels, no positive pixel where the peak is
            to be the maximum, a peak that is not positive and finite, a quotient too large for float32, `valid` not
            (H, W) or nowhere true, or a wrong number of wavelengths or names, or an encoding of other bands.
    """
    where = f"{source}: " if source else ""
    values = values if isinstance(values, np.ndarray) else np.asarray(values)
    if values.dtype.kind not in "iuf":
        raise ValueError(f"{where}pixels must be real integers or floats, got dtype {values.dtype}")
    if values.ndim != 3 or 0 in values.shape:
        raise ValueError(f"{where}pixels must be (bands, rows, columns), none of them 0, got shape {values.shape}")
    if valid is not None:
        if not isinstance(valid, np.ndarray) or valid.dtype != np.bool_:
            raise TypeError(f"{where}valid must be a bool numpy array, got {getattr(valid, 'dtype', type(valid))}")
        if valid.shape != values.shape[1:] or not valid.any():
            what = f"shape {valid.shape}" if valid.shape != values.shape[1:] else "no valid pixel"
            raise ValueError(f"{where}valid must be {values.shape[1:]} and true somewhere, got {what}")
        valid = None if valid.all() else valid
    if encoding is not None:
        encoding.check_bands(len(values))
    decode = (lambda piece, bands: piece) if encoding is None else encoding.decoded
    if values.dtype.kind == "f":
        _check_finite(values, valid, where)
    if peak is None:
        peak = _largest(values, valid, decode)
        if peak <= 0:
            what = f"the largest pixel is {peak:g}" if peak or values.any() else "every pixel is 0"
            raise ValueError(f"{where}cannot normalise by the maximum: {what}; give peak explicitly")
    peak = check_positive(peak, f"{where}peak")
    pixels = _divide(values, valid, peak, where, None if encoding is None or encoding.plain else decode)
    nanometres = None if wavelengths is None else np.asarray(wavelengths)
    names = None if band_names is None else tuple(band_names)
    return Scene(pixels, peak, nanometres, name, source, names, valid, georeference, encoding=encoding)


class NodataMask(NamedTuple):
    """Where values hold nodata, and where not.

    Attributes:
        valid: (H, W) bool.
        empty: (B,) bool, bands that hold nothing else.
        partial: pixels that hold it in some of the other bands and in some not.
    """

    valid: np.ndarray
    empty: np.ndarray
    partial: int


def nodata_mask(
    values: np.ndarray, nodata: float, within: np.ndarray | None = None, rule: Literal["any", "all"] = "any"
) -> NodataMask:
    """Where (B, H, W) values hold `nodata`; NaN stands for every NaN.

    The number is rounded to the dtype of the values first, as the programs that filled them in did; a number that the
    dtype can't hold occurs nowhere.

    Args:
        values: see above.
        nodata: the value.
        within: (H, W) bool, pixels to look at; None: all. Others are not valid.
        rule: a pixel is invalid where "any" band that is not empty holds it, or where "all" do.
    """
    marker = _as_value(nodata, values.dtype)
    within = np.ones(values.shape[1:], bool) if within is None else within
    count = np.zeros(values.shape[1:], np.intp)  # of bands that hold it
    empty = np.ones(len(values), bool)
    if marker is None:
        return NodataMask(within, ~empty, 0)
    for index in _pieces(values):
        piece, looked = values[index], within[index[1:]]
        marked = np.isnan(piece) if np.isnan(marker) else piece == marker
        count[index[1:]] += marked.sum(0)
        empty[index[0]] &= (marked | ~looked).all((1, 2))
    count -= empty.sum()
    rest = len(values) - int(empty.sum())
    partial = within & (count > 0) & (count < rest)
    return NodataMask(within & (count == 0 if rule == "any" else count < max(rest, 1)), empty, int(partial.sum()))


def held_nodata(values: np.ndarray, nodata: float) -> float:
    """The number that floats hold for a nodata value which was printed with six digits.

    Headers say -3.40282e+38 and the data hold -3.4028234663852886e+38. Where no value is `nodata`, the smallest (of a
    negative one; else the largest) is taken for it if it is the same number in six digits. Whole numbers below a
    million are printed as they are.
    """
    printed = math.isfinite(nodata) and float(f"{nodata:.6g}") == nodata
    if values.dtype.kind != "f" or not printed or (abs(nodata) < 1e6 and nodata == int(nodata)):
        return nodata
    marker, choose = _as_value(nodata, values.dtype), np.fmin if nodata < 0 else np.fmax
    extreme = math.nan
    for index in _pieces(values):
        piece = values[index]
        if marker is not None and (piece == marker).any():
            return nodata
        extreme = float(choose(extreme, choose.reduce(piece, axis=None)))
    return extreme if float(f"{extreme:.6g}") == nodata else nodata


def can_hold(dtype: np.dtype, nodata: float) -> bool:
    """Whether values of this dtype can be `nodata`."""
    return _as_value(nodata, dtype) is not None


def _as_value(nodata: float, dtype: np.dtype) -> Any:
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            value = np.array(nodata).astype(dtype)[()]
        return None if math.isfinite(nodata) and not np.isfinite(value) else value
    limits = np.iinfo(dtype)
    whole = math.isfinite(nodata) and nodata == int(nodata) and limits.min <= int(nodata) <= limits.max
    return np.array(int(nodata), dtype)[()] if whole else None


def _pieces(values: np.ndarray) -> Iterator[tuple[slice, slice, slice]]:
    """Cuts (B, H, W) along the axis that is outermost in memory: bands, or rows where bands are interleaved. A walk
    over the bands of an interleaved file would read all of it for every band."""
    axis = int(np.argmax(np.abs(values.strides) * (np.array(values.shape) > 1)))
    step = max(1, _PIECE * values.shape[axis] // values.nbytes)
    for first in range(0, values.shape[axis], step):
        cut = [slice(None)] * 3
        cut[axis] = slice(first, first + step)
        yield cut[0], cut[1], cut[2]


Decode = Callable[[np.ndarray, slice], np.ndarray]


def _largest(values: np.ndarray, valid: np.ndarray | None, decode: Decode) -> float:
    found = -math.inf
    for index in _pieces(values):
        piece = decode(values[index], index[0])
        where: Any = True if valid is None else valid[index[1:]]
        low = -np.inf if piece.dtype.kind == "f" else np.iinfo(piece.dtype).min
        found = max(found, float(piece.max(initial=low, where=where)))
    return found


def _check_finite(values: np.ndarray, valid: np.ndarray | None, where: str) -> None:
    count, first = 0, None
    for index in _pieces(values):
        bad = ~np.isfinite(values[index])
        if valid is not None:
            bad &= valid[index[1:]]
        if bad.any():
            count += int(bad.sum())
            start = (cut.start or 0 for cut in index)
            found = tuple(int(i) + s for i, s in zip(np.argwhere(bad)[0], start, strict=True))
            first = found if first is None else min(first, found)
    if first is not None:
        raise ValueError(
            f"{where}{count} of {values.size} pixels are NaN or infinite, "
            f"the first at band {first[0]}, row {first[1]}, column {first[2]}"
        )


def _divide(values: np.ndarray, valid: np.ndarray | None, peak: float, where: str, decode: Decode | None) -> np.ndarray:
    if decode is None and peak == 1 and values.dtype == np.float32 and values.flags.c_contiguous and valid is None:
        return values
    pixels = np.empty(values.shape, np.float32)
    for index in _pieces(values):
        quotient = pixels[index]
        with np.errstate(all="ignore"):
            piece = values[index] if decode is None else decode(values[index], index[0])
            np.divide(piece, peak, out=quotient, dtype=np.float64, casting="unsafe")
        finite = np.isfinite(quotient)
        if not (finite if valid is None else finite | ~valid[index[1:]]).all():
            raise ValueError(f"{where}pixels / peak is too large for float32 with peak {peak:g}")
    if valid is not None:
        _fill(pixels, valid)
    return pixels


def _fill(pixels: np.ndarray, valid: np.ndarray) -> None:
    """Invalid pixels get the spectrum of the nearest valid one, in place."""
    edt = require("scipy.ndimage", extra="io").distance_transform_edt
    rows, columns = edt(~valid, return_distances=False, return_indices=True)
    holes = ~valid
    rows, columns = rows[holes], columns[holes]
    for band in pixels:
        band[holes] = band[rows, columns]
