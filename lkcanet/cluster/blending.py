"""Enlarged tiles, each a chunk of a dask array, added up to one image without overlap."""

from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np

from ..common.optional import require
from ..inference import tiles
from ..inference.tiles import Span


class _Part(NamedTuple):
    """What a tile gives to a piece of the result, along one axis."""

    tile: int
    taken: slice  # of the tile
    place: slice  # in the piece
    weights: np.ndarray


def blended(made: Any, spans: Sequence[Sequence[Span]], scale: int) -> Any:
    """The sum of weighted tiles, as `lkcanet.inference.tiles.forward_in_tiles` adds them: the same weights, products
    and order, and so the same bits.

    A chunk of the result reaches from the middle of what its tile shares with one neighbour to the middle of what it
    shares with the next. What it takes of a tile is cut out, and copied, in a task of its own, so that the tile can be
    let go when all its parts are made, and that parts alone travel between workers.

    Args:
        made: dask array (N, B, n h, m w) of enlarged tiles beside each other, a tile a chunk.
        spans: of the tiles along rows and columns, in low-resolution pixels.
        scale: r of the enlargement.

    Returns:
        A dask array (N, B, r H, r W).
    """
    da, graphs = (require(name, extra="cluster") for name in ("dask.array", "dask.highlevelgraph"))
    if all(len(places) == 1 for places in spans):
        return made
    axes = [_pieces(places, scale) for places in spans]
    name = f"blended-{made.name}"
    graph: dict[tuple[Any, ...], Any] = {}
    bands = made.shape[1]
    pieces = product(range(made.numblocks[0]), *(enumerate(each) for each in axes))
    for scene, (row, (height, down)), (column, (width, across)) in pieces:
        parts, places = [], []
        for high, wide in product(down, across):
            key = (f"part-{made.name}", scene, row, column, high.tile, wide.tile)
            tile = (made.name, scene, 0, high.tile, wide.tile)
            graph[key] = (_part, tile, high.taken, wide.taken, high.weights, wide.weights)
            parts.append(key)
            places.append((high.place, wide.place))
        graph[name, scene, 0, row, column] = (_sum, parts, places, (1, bands, height, width))
    chunks = (*made.chunks[:2], *(tuple(length for length, _ in each) for each in axes))
    layers = graphs.HighLevelGraph.from_collections(name, graph, dependencies=[made])
    return da.Array(layers, name, chunks, meta=np.empty((0,) * 4, made.dtype))


def _pieces(places: Sequence[Span], scale: int) -> list[tuple[int, list[_Part]]]:
    """The lengths of the result's pieces along an axis, and the parts that each is made of, in the order of tiles."""
    windows = [window.numpy() for window in tiles.weights(places, scale)]
    middles = [(after[0] + before[1]) // 2 for before, after in pairwise(places)]
    cuts = [0, *middles, places[-1][1]]
    pieces = []
    for begin, end in pairwise(cuts):
        parts = []
        for tile, ((first, last), window) in enumerate(zip(places, windows, strict=True)):
            low, high = max(begin, first), min(end, last)
            taken = slice(scale * (low - first), scale * (high - first))
            if low < high and window[taken].any():
                place = slice(scale * (low - begin), scale * (high - begin))
                parts.append(_Part(tile, taken, place, window[taken]))
        pieces.append((scale * (end - begin), parts))
    return pieces


def _part(tile: np.ndarray, rows: slice, columns: slice, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    return tile[:, :, rows, columns] * across * down[:, None]


def _sum(parts: list[np.ndarray], places: list[tuple[slice, slice]], shape: tuple[int, ...]) -> np.ndarray:
    total = np.zeros(shape, np.float32)
    for part, (rows, columns) in zip(parts, places, strict=True):
        total[:, :, rows, columns] += part
    return total
