"""An image in overlapping tiles, and the weights with which their results are joined."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from ..models import Network
from . import ensembles, strips
from .strips import Report

DEFAULT_OVERLAP = 32  # about the reach of one block, 31: beyond it what a tile does not see acts through two or more

Span = tuple[int, int]


def check(tile: Sequence[int], overlap: int | None) -> tuple[int, int, int]:
    """Rows, columns and overlap of the tiles, or an error that names the argument."""
    sides = tuple(tile) if isinstance(tile, (tuple, list)) else (tile,)
    if len(sides) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) and side >= 1 for side in sides):
        raise ValueError(f"tile must be (rows, columns), whole numbers of 1 or more, got {tile!r}")
    if overlap is None:
        return *sides, min(DEFAULT_OVERLAP, min(sides) // 4)
    if isinstance(overlap, bool) or not isinstance(overlap, int) or not 0 <= overlap < min(sides):
        raise ValueError(f"overlap must be a whole number from 0 to less than the tile's sides, got {overlap!r}")
    return *sides, overlap


def spans(length: int, tile: int, overlap: int) -> list[Span]:
    """Begin and end of the tiles along an axis: all of the same length, neighbours sharing `overlap` or more."""
    if length <= tile:
        return [(0, length)]
    count = math.ceil((length - overlap) / (tile - overlap))
    begins = [i * (length - tile) // (count - 1) for i in range(count)]
    return [(begin, begin + tile) for begin in begins]


def weights(places: Sequence[Span], scale: int) -> list[Tensor]:
    """Of each tile's output along an axis, float32: their sum is exactly 1 at every pixel.

    From one tile to the next, half a cosine's period leads over the middle half of what they share; in the outer
    quarters, where one of them lacks the most of its surroundings, the other counts alone. The image's own border has
    no ramp. All weights are multiples of 2^-12, so that the products of two axes and their sums are exact as well.
    """
    length = places[-1][1] * scale
    windows = torch.zeros(len(places), length, dtype=torch.float64)
    for window, (begin, end) in zip(windows, places, strict=True):
        window[begin * scale : end * scale] = 1
    for index, ((begin, _), (_, end)) in enumerate(zip(places[1:], places[:-1], strict=True)):
        margin = (end - begin) // 4
        first, last = (begin + margin) * scale, (end - margin) * scale
        ramp = 0.5 - 0.5 * torch.cos(math.pi * (torch.arange(last - first, dtype=torch.float64) + 0.5) / (last - first))
        windows[index + 1, begin * scale : first] = 0
        windows[index + 1, first:last] *= ramp
        windows[index, first:last] *= 1 - ramp
        windows[index, last : end * scale] = 0
    windows = (windows / windows.sum(0) * 4096).round() / 4096
    largest = windows.argmax(0, keepdim=True)
    windows.scatter_add_(0, largest, 1 - windows.sum(0, keepdim=True))  # what rounding left over
    return [window[begin * scale : end * scale].float() for window, (begin, end) in zip(windows, places, strict=True)]


def forward_in_tiles(
    folded: Network,
    image: Tensor,
    out: Tensor,
    rows: int,
    columns: int,
    overlap: int,
    report: Report,
    release: Callable[[], None] | None = None,
    msi: Tensor | None = None,
    ensemble: bool = False,
) -> None:
    """Run the network on each tile of `image` (N, B, H, W), in its eight orientations where asked, and of `msi` where
    it fuses, and add the weighted results to `out`, which is zero; `release` as for `strips.write`."""
    scale, parameter = folded.scale, next(folded.parameters())
    heights, widths = spans(image.shape[2], rows, overlap), spans(image.shape[3], columns, overlap)
    row_weights, column_weights = weights(heights, scale), weights(widths, scale)
    tiles = [(row, column) for row in range(len(heights)) for column in range(len(widths))]
    for index, (row, column) in enumerate(tiles):
        (top, bottom), (left, right) = heights[row], widths[column]
        enlarged = (slice(None), slice(None), slice(scale * top, scale * bottom), slice(scale * left, scale * right))
        place = out[enlarged]
        add = partial(_add, place, row_weights[row].to(out.device), column_weights[column].to(out.device), release)
        tile = image[:, :, top:bottom, left:right].to(parameter.device, parameter.dtype).contiguous()
        sharp = None if msi is None else msi[enlarged].to(parameter.device, parameter.dtype).contiguous()
        tell = partial(_part, report, index, len(tiles))
        if ensemble:
            ensembles.forward_in_orientations(folded, tile, add, tell, sharp)
        else:
            strips.forward_in_strips(folded, tile, partial(_add_rows, add), tell, sharp)


def _add_rows(add: ensembles.Put, row: int, strip: Tensor) -> None:
    add(slice(None), slice(row, row + strip.shape[2]), slice(None), strip)


def _add(
    place: Tensor,
    down: Tensor,
    across: Tensor,
    release: Callable[[], None] | None,
    bands: slice,
    rows: slice,
    columns: slice,
    part: Tensor,
) -> None:
    """Add a part of a tile's output, in its weights, to its place: a view of the result as large as the tile's."""
    wide = part.to(place.device, torch.promote_types(part.dtype, torch.float32))
    weighted = wide.mul_(across[columns]).mul_(down[rows, None])
    strips.write(Tensor.add_, place[:, bands, rows, columns], weighted, release)


def _part(report: Report, index: int, count: int, share: float, _: str) -> None:
    report((index + share) / count, f"tile {index + 1} of {count}")
