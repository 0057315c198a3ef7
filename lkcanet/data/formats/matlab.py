"""MATLAB files: v4 to v7 by scipy, v7.3 by h5py."""

import warnings
from pathlib import Path
from typing import Any, Literal

from lkcanet.common.optional import require
from lkcanet.data.formats.matlab_paths import class_of, found, steps_of, variable, walk, walk_hdf5
from lkcanet.data.formats.raw import MARKER, Raw, Variable, choose, own, reading

_MATRIX, _COMPRESSED = 14, 15
_TYPES = frozenset({*range(1, 8), 9, *range(12, 19)})  # of elements
_NUMBERS = frozenset({*range(1, 8), 9, 12, 13, 16, 17, 18})
# elements of a real matrix by its class: flags, size, name and values; sparse ones have indices besides
_PARTS = {5: 6, 4: 4, **dict.fromkeys(range(6, 16), 4)}
_NUMERIC = {"double", "single"} | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}


def is_mat73(path: Path) -> bool:
    """Whether a file is MATLAB v7.3, that is HDF5, by its first bytes."""
    with path.open("rb") as file:
        head = file.read(520)
    hdf5 = b"\x89HDF\r\n\x1a\n"  # MATLAB writes 512 bytes of its own before it
    return head.startswith((b"MATLAB 7.3", hdf5)) or head[512:] == hdf5


def check_elements(path: Path) -> None:
    """Raise a ValueError where the elements of a v5 file do not nest as their tags say, or are of no known type: scipy
    then reads beyond its buffers, and a damaged file would end the process (scipy 1.17). Only tags are read; what is
    compressed has a checksum of its own. Source: MathWorks, "MAT-File Format", level 5."""
    with path.open("rb") as file:
        head = file.read(128)
        mark = head[126:128]
        if head[:4].find(0) >= 0 or mark not in (b"IM", b"MI"):
            return  # v4, or what scipy refuses
        order: Literal["little", "big"] = "little" if mark == b"IM" else "big"

        def walk(begin: int, end: int, depth: int) -> None:
            at, flags = begin, 0
            kinds: list[int] = []
            while at < end:
                file.seek(at)
                tag = file.read(8)
                kind, size = int.from_bytes(tag[:4], order), int.from_bytes(tag[4:], order)
                small = kind >> 16
                if small:  # size and type share the first four bytes, the value is in the others
                    kind, size = kind & 0xFFFF, small
                if len(tag) < 8 or kind not in _TYPES or (small > 4 if small else at + 8 + size > end):
                    raise ValueError(f"the element at byte {at} is damaged")
                if kind == _MATRIX:
                    if depth > 64:
                        raise ValueError("elements are nested beyond reason")
                    walk(at + 8, at + 8 + size, depth + 1)
                elif depth and not kinds:
                    flags = int.from_bytes(file.read(4), order)  # the class of the matrix, and whether it is complex
                kinds.append(kind)
                # the elements of a matrix start at multiples of 8 bytes; what is compressed is not padded
                at += 8 if small else 8 + size + (0 if kind == _COMPRESSED else -size % 8)

            expected = _PARTS.get(flags & 0xFF) if depth and kinds else None
            if expected and (len(kinds) != expected + bool(flags & 0x800) or not _NUMBERS.issuperset(kinds[3:])):
                raise ValueError(f"the matrix at byte {begin} is damaged")

        walk(128, path.stat().st_size, 0)


def read_mat(path: Path, key: str | None) -> Raw:
    """Read `key`, or the only variable that could be the scene; within structs and cells by its path, such as S.data or
    C{2} (from 1)."""
    if is_mat73(path):
        return _read_mat73(path, key)
    scipy_io = require("scipy.io", extra="io")
    with reading(path, "a MATLAB file"):
        check_elements(path)
        contents = scipy_io.whosmat(path)
    variables = [Variable(name, tuple(shape), kind, kind in _NUMERIC) for name, shape, kind in contents]
    ours = MARKER in {v.name for v in variables} and key in (None, "pixels")
    if not ours and key not in {v.name for v in variables if v.numeric}:
        nested = {v.name for v in variables if v.kind in ("struct", "cell")}
        if nested and (key is None or (steps_of(key) or ("",))[0] in nested):
            return _read_nested(path, key, variables, nested)
    key = choose(variables, "pixels" if ours else key, path)
    with reading(path, "a MATLAB file"):
        loaded = scipy_io.loadmat(path, variable_names=None if ours else [key])
        values = loaded[key]
    if ours and values.ndim == 2:  # MATLAB drops a last axis of 1
        values = values[:, :, None]
    return Raw(values, "hwc", own(loaded, path) if ours else None)


def _read_nested(path: Path, key: str | None, variables: list[Variable], nested: set[str]) -> Raw:
    """scipy tells what structs hold only when it reads them, whole."""
    scipy_io = require("scipy.io", extra="io")
    with reading(path, "a MATLAB file"):
        loaded = scipy_io.loadmat(path, variable_names=sorted(nested), struct_as_record=False)
        inner = [entry for name in nested for entry in walk(name, loaded[name])]
    listed = [v for v in variables if v.name not in nested]
    listed += [Variable(name, array.shape, str(array.dtype), array.dtype.kind in "iuf") for name, array in inner]
    if key is not None and (steps := steps_of(key)) is not None:
        values = found(loaded.get(steps[0]), steps[1])
        # S(1).data is S.data: a path may be written in more ways than it is listed
        key = next((name for name, array in inner if array is values), key)
    key = choose(sorted(listed), key, path)
    if key in dict(inner):
        return Raw(dict(inner)[key], "hwc")
    with reading(path, "a MATLAB file"):
        return Raw(scipy_io.loadmat(path, variable_names=[key])[key], "hwc")


def _read_mat73(path: Path, key: str | None) -> Raw:
    """MATLAB v7.3 is HDF5 with the axes reversed."""
    h5py = require("h5py", extra="io")
    key = mat73_key(path, key)
    with reading(path, "a MATLAB v7.3 file"), h5py.File(path, "r") as file:
        return Raw(mat73_item(file, key)[()].T, "hwc")


def mat73_key(path: Path, key: str | None, preferred: str | None = None) -> str:
    """The variable of a v7.3 file to read: `key`, else `preferred` where it is there, else the only one that could be
    the scene. Warns where the file does not say that MATLAB wrote it: its axes may then be in another order."""
    h5py = require("h5py", extra="io")
    with reading(path, "a MATLAB v7.3 file"), h5py.File(path, "r") as file:
        items = dict(walk_hdf5(file))
        variables = [variable(name, item) for name, item in items.items()]
        marked = {name for name, item in items.items() if class_of(item)}
    names = {v.name for v in variables}
    if key is None and preferred in names:
        key = preferred
    elif key is not None and key not in names:  # as HDF5 writes a path, or with the number of the only element
        dotted = key.strip("/").replace("/", ".")
        key = next((each for each in (dotted, dotted.replace("(1)", "")) if each in names), key)
    key = choose(variables, key, path)
    if key not in marked:
        _warn(
            f"{path}: {key} has no attribute MATLAB_class, so another program than MATLAB wrote it; its axes are taken "
            "as reversed, as MATLAB's are: check what it looks like, axes or --axes gives others"
        )
    return key


def mat73_item(file: Any, key: str) -> Any:
    """The data set of an open v7.3 file that `mat73_key` named."""
    return next(item for name, item in walk_hdf5(file) if name == key)


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=5)
