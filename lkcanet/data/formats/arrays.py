"""Arrays: .npy and .npz files, and the names of their axes."""

import json
import math
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from lkcanet.data.formats.raw import MARKER, Raw, Variable, check_record, choose, own, reading


def to_bands(values: np.ndarray, axes: str, size: tuple[int, int] | None = None, *, source: str = "") -> np.ndarray:
    """Return a (bands, rows, columns) view of an array whose axes are named.

    Args:
        values: the array.
        axes: one letter an axis. For 3-D arrays any order of c (bands), h (rows), w (columns); for 2-D arrays "hw" or
            "wh" (one band), or "cp" / "pc" with p = pixels in column-major (MATLAB) order, the layout of unmixing
            papers: pixel i is row i % rows, column i // rows.
        size: (rows, columns), needed for p and only there.
        source: starts the error messages.

    Raises:
        ValueError: axes unknown or not matching the array, size missing, useless, or not matching the pixels.
    """
    where = f"{source}: " if source else ""
    letters = "".join(sorted(axes))
    if letters not in ("chw", "hw", "cp"):
        raise ValueError(
            f"{where}axes must be an order of 'chw', 'hw', 'wh', 'cp' or 'pc' "
            f"(c bands, h rows, w columns, p pixels in column-major order), got {axes!r}"
        )
    if len(axes) != values.ndim:
        raise ValueError(f"{where}axes {axes!r} do not fit shape {values.shape}{_hint(values)}")
    if axes == "chw" and size is None:
        return values  # not even a view: a memory map stays one that can be found again
    if letters != "cp":
        if size is not None:
            raise ValueError(f"{where}size goes with axes 'cp' or 'pc' only, got axes {axes!r} and size {size}")
        order = values[None] if letters == "hw" else values
        return order.transpose([("c" + axes if letters == "hw" else axes).index(letter) for letter in "chw"])
    if size is None:
        raise ValueError(f"{where}axes {axes!r} need size=(rows, columns){_hint(values)}")
    matrix = values if axes == "cp" else values.T
    rows, columns = size
    if rows < 1 or columns < 1 or rows * columns != matrix.shape[1]:
        raise ValueError(f"{where}size {size} does not make {matrix.shape[1]} pixels of shape {values.shape}")
    return matrix.reshape(matrix.shape[0], columns, rows).transpose(0, 2, 1)


_LEAST_SQUARE = 8  # pixels of a side by which a square image tells the order of axes


def likely_axes(shape: tuple[int, ...], default: str, bands: int | None, source: str) -> str:
    """The order of the axes of a 3-D array that does not tell it: the default, unless its other end looks like bands.

    That is where `bands` lie there and not at the default's end, where the image is square in that order and not in the
    default, or where the other end is shorter than a quarter of the others. A warning says so then.

    Args:
        shape: of the array.
        default: "chw" or "hwc".
        bands: how many there should be, where that is known.
        source: starts errors and warnings.

    Raises:
        ValueError: the other end is the shortest, and nothing else tells.
    """
    if len(shape) != 3:
        return default
    other = {"chw": "hwc", "hwc": "chw"}[default]
    (own, *sides), (end, *others) = ([shape[axes.index(letter)] for letter in "chw"] for axes in (default, other))
    if bands is not None and (own == bands) != (end == bands):
        if own == bands:
            return default
        why = f"its {end} values at that end are the bands that there should be"
    elif others[0] == others[1] >= _LEAST_SQUARE and sides[0] != sides[1]:
        why = "the image is square then"
    elif 4 * end <= min(others):
        why = "that side is by far the shortest"
    elif end < min(others):
        meant = " or ".join(_told(shape, axes) for axes in (other, default))
        raise ValueError(f"{source}: an array of shape {shape} could be {meant}: give axes")
    else:
        return default
    _warn(f"{source}: shape {shape} is taken as {_told(shape, other)}: {why}; axes {default!r} reads it the other way")
    return other


def _told(shape: tuple[int, ...], axes: str) -> str:
    bands, rows, columns = (shape[axes.index(letter)] for letter in "chw")
    return f"{axes!r} ({rows} x {columns} pixels of {bands} bands)"


def _hint(values: np.ndarray) -> str:
    """For a 2-D array: the options that would read it."""
    if values.ndim != 2:
        return ""
    axes, pixels = ("cp", values.shape[1]) if values.shape[0] <= values.shape[1] else ("pc", values.shape[0])
    side = math.isqrt(pixels)
    size = f"({side}, {side})" if side * side == pixels else "(rows, columns)"
    return f"; if it is (bands, pixels) or its transpose, try axes={axes!r}, size={size}; for one band, axes='hw'"


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of the .npy data that starts here; leaves the file at the first value."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def read_npz(path: Path, key: str | None) -> Raw:
    variables = []
    with reading(path, "an .npz file"), zipfile.ZipFile(path) as archive:
        _check_count(path, archive)
        ours = key in (None, "pixels") and any(member.startswith(MARKER) for member in archive.namelist())
        for member in archive.namelist():
            if member.endswith(".npy"):
                with archive.open(member) as file:
                    shape, dtype = _header(file)
                variables.append(Variable(member.removesuffix(".npy"), shape, str(dtype), dtype.kind in "iuf"))
    key = choose(variables, "pixels" if ours else key, path)
    with reading(path, "an .npz file"), np.load(path, allow_pickle=False) as archive:
        return Raw(archive[key], "chw", own(dict(archive), path) if ours else None)


def _check_count(path: Path, archive: zipfile.ZipFile) -> None:
    """A wrong length in the list of members hides those that follow, and Python does not count them."""
    with path.open("rb") as file:
        file.seek(-22, 2)
        end = file.read()
    told = int.from_bytes(end[10:12], "little")
    if end.startswith(b"PK\5\6") and told not in (0xFFFF, len(archive.namelist())):  # else: a comment, or zip64
        raise ValueError(f"{len(archive.namelist())} members, there should be {told}")


def read_npy(path: Path) -> Raw:
    with reading(path, "an .npy file"), path.open("rb") as file:
        shape, dtype = _header(file)
        start = file.tell()
    if dtype.kind not in "iuf" or len(shape) not in (2, 3) or 0 in shape:
        raise ValueError(f"{path}: pixels must be a 2-D or 3-D array of real numbers, got {dtype} of shape {shape}")
    with reading(path, "an .npy file"):
        # copy on write: torch can wrap it, and no write ever reaches the file
        values = np.load(path, mmap_mode="c", allow_pickle=False)
    return Raw(values, "chw", _npy_record(path, start + values.nbytes))


def _npy_record(path: Path, start: int) -> dict[str, Any] | None:
    """What write_scene saves behind the pixels, a text and where it says so a mask; None in other files.

    np.save writes nothing behind an array but another array, and nobody but write_scene one that is a text: anything
    else there is damage, which must not take the peak away unseen.
    """
    if path.stat().st_size == start:
        return None
    with path.open("rb") as file:
        file.seek(start)
        with reading(path, "an .npy file with a second array"):
            second = np.load(file, allow_pickle=False)
        if second.dtype.kind != "U":
            return None
        with reading(path, "a scene of write_scene"):
            record = json.loads(str(second))
            if MARKER not in record:
                raise ValueError("the text behind the pixels is another")
        with reading(path, "an .npy file with a mask"):
            valid = np.load(file, allow_pickle=False) if record.get("masked") else None
        with reading(path, "a scene of write_scene"):
            check_record(record, valid)
    return own(record if valid is None else {**record, "valid": valid}, path)


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=5)
