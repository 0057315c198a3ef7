"""Lazy stacks (N, B, H, W): numbers to normalised pixels, NaN where there are no data, and back; chunks and overlap."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any, Literal

import numpy as np

from ..common.optional import require
from ..data.encoding import Encoding, numbers_of
from ..data.normalise import as_value
from ..data.scenes import check_positive

Span = tuple[int, int]
Spans = Sequence[Sequence[Span]]  # of rows and of columns, begin and end

CHUNK_BYTES = 128 << 20  # of float32 pixels, where no tile says how large a chunk is


def may_be_invalid(encoding: Encoding) -> bool:
    """Whether there can be pixels without data: NaN among floats is such a one, too."""
    return encoding.nodata is not None or np.dtype(encoding.dtype).kind == "f"


def normalised(
    numbers: Any, encoding: Encoding, peak: Any = None, nodata_in: Literal["any", "all"] = "any"
) -> tuple[Any, Any]:
    """Pixels = values / peak, and the peak.

    Args:
        numbers: dask array (N, B, H, W), all bands and one image in a chunk.
        encoding: of the numbers.
        peak: the normaliser, a number or (N, 1, 1, 1); None takes the maximum of each image's valid values, which is
            another pass over them.
        nodata_in: whether a pixel is invalid where any band holds the nodata value, or where all do.

    Returns:
        (N, B, H, W) float32, NaN in all bands where a pixel is not valid; and the peak, a number or (N, 1, 1, 1). Lazy;
        computing raises a ValueError for infinite pixels, and where the maximum is not positive.

    Raises:
        ValueError: a peak or nodata_in that is none.
    """
    if nodata_in not in ("any", "all"):
        raise ValueError(f"nodata_in must be 'any' or 'all', got {nodata_in!r}")
    how = {"encoding": encoding, "rule": nodata_in}
    if peak is None:
        ones = tuple((1,) * len(chunks) for chunks in numbers.chunks)
        largest = numbers.map_blocks(_largest, **how, chunks=ones, dtype=np.float64, meta=np.empty((0,) * 4))
        peak = largest.max(axis=(1, 2, 3), keepdims=True)
    elif not hasattr(peak, "dask"):
        peak = check_positive(peak, "peak")
    map_blocks = require("dask.array", extra="cluster").map_blocks
    return map_blocks(_normalised, numbers, peak, **how, dtype=np.float32, meta=np.empty((0,) * 4, np.float32)), peak


def numbered(pixels: Any, peak: Any, encoding: Encoding) -> Any:
    """The numbers of normalised pixels (N, B, H, W), nodata where they are NaN."""
    map_blocks = require("dask.array", extra="cluster").map_blocks
    given = {"chunks": pixels.chunks, "dtype": np.dtype(encoding.dtype), "meta": np.empty((0,) * 4, encoding.dtype)}
    return map_blocks(_numbers, pixels, peak, encoding=encoding, **given)


def side_of(pixel_bytes: int, least: int) -> int:
    """The side, in pixels, of a square chunk of 128 MiB or less; a multiple of 32, and no less than `least`."""
    return max(32, int(math.sqrt(CHUNK_BYTES / pixel_bytes)) // 32 * 32, least)


def at_most(numbers: Any, side: int) -> Any:
    """The array in chunks of no more than side x side pixels, each of them within one that there is."""
    return numbers.rechunk({axis: cut(numbers.chunks[axis], side) for axis in (2, 3)})


def gathered(pixels: Any, spans: Spans) -> Any:
    """Parts of (N, B, H, W), which may overlap, as the chunks of an array in which they lie beside each other."""
    concatenate = require("dask.array", extra="cluster").concatenate
    for axis, places in zip((2, 3), spans, strict=True):
        ahead = (slice(None),) * axis
        pixels = concatenate([pixels[(*ahead, slice(*place))] for place in places], axis=axis)
    return pixels.rechunk((1, -1, *(tuple(end - begin for begin, end in places) for places in spans)))


def widened(pixels: Any, lengths: Sequence[Sequence[int]], around: int) -> tuple[Any, Spans]:
    """Pieces of (N, B, H, W) of these rows and columns, each with so many pixels of its neighbours on each side, where
    the image has them, and where in that its own lie: dask's `overlap` of an array with such chunks, which needs not
    be made first."""
    wide: list[list[Span]] = []
    own: list[list[Span]] = []
    for each in lengths:
        places = list(pairwise(accumulate(each, initial=0)))
        wide.append([(max(0, begin - around), min(sum(each), end + around)) for begin, end in places])
        own.append([(begin - first, end - first) for (begin, end), (first, _) in zip(places, wide[-1], strict=True)])
    return gathered(pixels, wide), own


def trimmed(pixels: Any, own: Spans) -> Any:
    """What was made of `widened` chunks, without what belongs to the neighbours: copies, which hold nothing else."""
    chunks = (*pixels.chunks[:2], *(tuple(end - begin for begin, end in places) for places in own))
    return pixels.map_blocks(_trimmed, own=own, chunks=chunks, dtype=pixels.dtype, meta=pixels._meta)


def cut(lengths: Sequence[int], side: int) -> tuple[int, ...]:
    """Each length in about equal pieces of no more than `side`."""
    pieces: list[int] = []
    for length in lengths:
        parts = -(-length // side)
        pieces += [end - begin for begin, end in pairwise(i * length // parts for i in range(parts + 1))]
    return tuple(pieces)


def _valid(block: np.ndarray, encoding: Encoding, rule: str) -> np.ndarray:
    """(N, 1, H, W). NaN is no value in any band; the number is one in some bands where the rule is "all"."""
    valid = np.ones((len(block), 1, *block.shape[2:]), bool)
    if block.dtype.kind == "f":
        valid &= ~np.isnan(block).any(1, keepdims=True)
    if encoding.nodata is not None and not np.isnan(encoding.nodata):
        marked = block == as_value(encoding.nodata, block.dtype)
        valid &= ~(np.any if rule == "any" else np.all)(marked, axis=1, keepdims=True)
    return valid


def _values(block: np.ndarray, encoding: Encoding) -> np.ndarray:
    return np.stack([encoding.decoded(image, slice(None)) for image in block])


def _largest(block: np.ndarray, *, encoding: Encoding, rule: str) -> np.ndarray:
    valid, values = _valid(block, encoding, rule), _values(block, encoding)
    low = -np.inf if values.dtype.kind == "f" else np.iinfo(values.dtype).min
    largest = values.max(axis=(1, 2, 3), keepdims=True, initial=low, where=valid)
    return np.where(valid.any((1, 2, 3), keepdims=True), largest.astype(np.float64), -np.inf)


def _normalised(block: np.ndarray, peak: Any, *, encoding: Encoding, rule: str) -> np.ndarray:
    valid = _valid(block, encoding, rule)
    if not valid.any() or np.all(peak == -np.inf):  # or what gave the peak has no valid pixel
        return np.full(block.shape, np.nan, np.float32)
    if not np.all(peak > 0):
        largest = float(np.min(peak))
        raise ValueError(f"cannot normalise by the maximum: the largest pixel is {largest:g}; give peak explicitly")
    pixels = np.empty(block.shape, np.float32)
    with np.errstate(all="ignore"):
        np.divide(_values(block, encoding), peak, out=pixels, dtype=np.float64, casting="unsafe")
    if not (np.isfinite(pixels) | ~valid).all():
        raise ValueError("image holds infinite pixels, or pixels / peak is too large for float32")
    return np.where(valid, pixels, np.float32(np.nan))


def _numbers(block: np.ndarray, peak: Any, *, encoding: Encoding) -> np.ndarray:
    """Of an image (1, B, h, w)."""
    valid = ~np.isnan(block[0, 0])
    # what stands for invalid ones until they are masked; where there are no others the peak is none either
    known, by = np.where(valid, block[0], np.float32(0)), float(np.squeeze(peak)) if valid.any() else 1.0
    if encoding.nodata is None and not valid.all():
        encoding = replace(encoding, nodata=math.nan)
    mask = None if valid.all() else valid
    return np.stack([numbers_of(band, by, encoding, number, mask).values for number, band in enumerate(known)])[None]


def _trimmed(block: np.ndarray, *, own: Spans, block_id: tuple[int, ...]) -> np.ndarray:
    rows, columns = (slice(*places[number]) for places, number in zip(own, block_id[2:], strict=True))
    return block[:, :, rows, columns].copy()
