"""The file behind a protocol, read in blocks: an image of gigabytes is never in memory as a whole where its format
allows that."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lkcanet.common.optional import require
from lkcanet.data.formats.matlab import check_elements, is_mat73, mat73_item, mat73_key
from lkcanet.data.formats.raw import reading
from lkcanet.data.formats.readers import read_scene
from lkcanet.data.georeference import Georeference
from lkcanet.data.protocols import Placement

BLOCK = 64 << 20  # bytes of the file's numbers to hold at once; more only where one chunk of the file is larger

Block = tuple[tuple[slice, slice, slice], np.ndarray]


@dataclass(frozen=True)
class Source:
    """An opened image.

    Attributes:
        path: the file.
        values: what is sliced: an HDF5 data set, a memory map, or an array.
        axes: the letters of its axes: c bands, h rows, w columns.
        chunks: steps at which slicing is cheap.
        key: the variable that was read, where it has a name.
        wavelengths, band_names, valid, georeference: as in a `Scene`, where known.
    """

    path: Path
    values: Any
    axes: str
    chunks: tuple[int, ...]
    key: str | None = None
    wavelengths: np.ndarray | None = None
    band_names: tuple[str, ...] | None = None
    valid: np.ndarray | None = None
    georeference: Georeference | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(bands, rows, columns)."""
        bands, rows, columns = (self.values.shape[self.axes.index(letter)] for letter in "chw")
        return bands, rows, columns

    def blocks(self, placement: Placement) -> Iterator[Block]:
        """The placed scene in pieces: where each lies in (B, H, W), and its values.

        Raises:
            OSError: the file is damaged.
            ValueError: NaN or infinite values; says where in the file.
        """
        axes = self.axes.translate(str.maketrans("hw", "wh")) if placement.transposed else self.axes
        left = 0
        for start, stop in placement.columns:
            part = {"c": (0, placement.bands), "h": placement.rows, "w": (start, stop)}
            shift = {"c": 0, "h": -placement.rows[0], "w": left - start}
            for index in _slabs([part[letter] for letter in axes], self.chunks, self.values.dtype.itemsize):
                with reading(self.path, "an image"):
                    values = np.asarray(self.values[index])
                if values.dtype.kind == "f" and not np.isfinite(values).all():
                    self._not_finite(values, index)
                where = {
                    letter: slice(piece.start + shift[letter], piece.stop + shift[letter])
                    for letter, piece in zip(axes, index, strict=True)
                }
                yield (where["c"], where["h"], where["w"]), values.transpose([axes.index(letter) for letter in "chw"])
            left += stop - start

    def _not_finite(self, values: np.ndarray, index: tuple[slice, ...]) -> None:
        first = np.argwhere(~np.isfinite(values))[0]
        place = {letter: int(i) + piece.start for letter, i, piece in zip(self.axes, first, index, strict=True)}
        raise ValueError(
            f"{self.path}: holds NaN or infinite values, such as at band {place['c']}, row {place['h']}, "
            f"column {place['w']}"
        )


def _slabs(region: Sequence[tuple[int, int]], chunks: Sequence[int], itemsize: int) -> Iterator[tuple[slice, ...]]:
    """Pieces of a region, cut where chunks end: none is read twice, and no piece exceeds BLOCK unless a chunk does."""
    block = list(chunks)
    for axis in reversed(range(len(block))):
        fit = BLOCK // (itemsize * math.prod(block)) or 1
        block[axis] = min(block[axis] * fit, -(-region[axis][1] // chunks[axis]) * chunks[axis])
    cuts = [
        [slice(max(at, start), min(at + step, stop)) for at in range(start // step * step, stop, step)]
        for (start, stop), step in zip(region, block, strict=True)
    ]
    for first in cuts[0]:
        for second in cuts[1]:
            for third in cuts[2]:
                yield first, second, third


@contextmanager
def opened(path: Path, key: str | None, axes: str | None, preferred_key: str | None) -> Iterator[Source]:
    """Open an image. MATLAB v7.3 and plain .npy files are read in blocks; others are loaded by `read_scene`.

    Args:
        path: the file.
        key: the variable of a .mat or .npz file; else `preferred_key` where it is there, else the only candidate.
        axes: as `read_scene` takes them, 3-D only.

    Raises:
        FileNotFoundError, OSError, ValueError: as `read_scene`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if axes is not None and "".join(sorted(axes)) != "chw":
        raise ValueError(f"axes must be an order of 'chw' (c bands, h rows, w columns), got {axes!r}")
    suffix = path.suffix.lower()
    if suffix == ".mat" and is_mat73(path):
        h5py = require("h5py", extra="io")
        name = mat73_key(path, key, preferred_key)
        with reading(path, "a MATLAB v7.3 file"):
            file = h5py.File(path, "r")
        with file:
            data = mat73_item(file, name)
            # MATLAB's first axis is HDF5's last
            yield _source(path, data, (axes or "hwc")[::-1], data.chunks or (1, 1, data.shape[-1]), name)
        return
    if suffix == ".npy" and key is None and (plain := _plain_npy(path)) is not None:
        yield _source(path, plain, axes or "chw", (1, 1, plain.shape[-1]), None)
        return
    if suffix == ".mat" and key is None and preferred_key is not None:
        with reading(path, "a MATLAB file"):
            check_elements(path)
            names = [name for name, _, _ in require("scipy.io", extra="io").whosmat(path)]
        key = preferred_key if preferred_key in names else None
    scene = read_scene(path, key=key, axes=axes, peak=1.0)
    yield Source(
        path,
        scene.pixels,
        "chw",
        (1, 1, scene.size[1]),
        key,
        scene.wavelengths,
        scene.band_names,
        scene.valid,
        scene.georeference,
    )


def _source(path: Path, values: Any, axes: str, chunks: tuple[int, ...], key: str | None) -> Source:
    if len(values.shape) != 3 or 0 in values.shape:
        raise ValueError(f"{path}: an image must have bands, rows and columns, got shape {tuple(values.shape)}")
    return Source(path, values, axes, chunks, key)


def _plain_npy(path: Path) -> np.ndarray | None:
    """A memory map of numbers that `write_scene` did not write."""
    with reading(path, "an .npy file"):
        values: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        plain = values.dtype.kind in "iuf" and values.ndim == 3
        offset = getattr(values, "offset", 0) + values.nbytes
    return values if plain and offset == path.stat().st_size else None  # behind a scene's pixels there is a record
