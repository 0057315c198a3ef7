"""Paths to what structs and cells of MATLAB files hold: S.data, C{2}, S(3).cube{1}, counted from 1 as MATLAB does."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from lkcanet.common.optional import require
from lkcanet.data.formats.raw import Variable

_NAME = re.compile(r"[^.(){}]+")
_STEP = re.compile(r"\.(?P<field>[^.(){}]+)|\{(?P<cell>\d+)\}|\((?P<element>\d+)\)")
_DEEPEST = 8  # of structs in structs; what is deeper is not listed


def steps_of(key: str) -> tuple[str, list[tuple[str, str]]] | None:
    """The variable, and the steps into it: ("field", name), ("cell", number) or ("element", number) from 1. None where
    the text is no path."""
    start = _NAME.match(key)
    if start is None:
        return None
    at, steps = start.end(), []
    while at < len(key):
        step = _STEP.match(key, at)
        if step is None:
            return None
        steps += [(kind, value) for kind, value in step.groupdict().items() if value is not None]
        at = step.end()
    return start[0], steps


def walk(name: str, value: Any, depth: int = 0) -> Iterator[tuple[str, np.ndarray]]:
    """Paths and arrays within a variable as `scipy.io.loadmat(struct_as_record=False)` gives it."""
    if not isinstance(value, np.ndarray) or depth > _DEEPEST:
        return
    if value.dtype != object:
        yield name, value
        return
    one = value.size == 1
    for number, entry in enumerate(value.ravel(order="F"), 1):
        if hasattr(entry, "_fieldnames"):
            for field in entry._fieldnames:
                yield from walk(f"{name}{'' if one else f'({number})'}.{field}", getattr(entry, field), depth + 1)
        else:
            yield from walk(f"{name}{{{number}}}", entry, depth + 1)


def found(value: Any, steps: list[tuple[str, str]]) -> np.ndarray | None:
    """What the steps lead to within such a variable; None where they lead nowhere."""
    for kind, step in steps:
        if not isinstance(value, np.ndarray) or value.dtype != object:
            return None
        flat = value.ravel(order="F")
        if kind == "field":
            if len(flat) != 1 or step not in getattr(flat[0], "_fieldnames", ()):
                return None
            value = getattr(flat[0], step)
        elif not 1 <= int(step) <= len(flat):
            return None
        elif kind == "cell":
            value = flat[int(step) - 1]
        else:
            value = flat[int(step) - 1 : int(step)]
    return value if isinstance(value, np.ndarray) and value.dtype != object else None


def walk_hdf5(file: Any) -> Iterator[tuple[str, Any]]:
    """Paths and data sets within an open v7.3 file: structs are groups, cells are references."""
    for name, item in file.items():
        if not name.startswith("#"):  # where MATLAB keeps what the references lead to
            yield from _within(file, name, item, 0)


def _within(file: Any, name: str, item: Any, depth: int) -> Iterator[tuple[str, Any]]:
    h5py = require("h5py", extra="io")
    if depth > _DEEPEST:
        return
    if isinstance(item, h5py.Group):
        for field, inner in item.items():
            if not _is_references(inner) or class_of(inner) == "cell":
                yield from _within(file, f"{name}.{field}", inner, depth + 1)
                continue
            # a struct array: each field holds a reference for each element
            for number, reference in enumerate(inner[()].ravel(), 1):
                yield from _within(file, f"{name}({number}).{field}", file[reference], depth + 1)
    elif _is_references(item):
        # MATLAB counts columns first, and its axes are reversed in the file
        for number, reference in enumerate(item[()].ravel(), 1):
            if reference:
                yield from _within(file, f"{name}{{{number}}}", file[reference], depth + 1)
    else:
        yield name, item


def _is_references(item: Any) -> bool:
    h5py = require("h5py", extra="io")
    return isinstance(item, h5py.Dataset) and h5py.check_ref_dtype(item.dtype) is not None


def class_of(item: Any) -> str | None:
    """MATLAB's class of what a v7.3 file holds, "" where the file does not say."""
    declared = item.attrs.get("MATLAB_class", "")
    return declared.decode() if isinstance(declared, bytes) else str(declared)


def variable(name: str, item: Any) -> Variable:
    """A data set of a v7.3 file as MATLAB sees it. Text and logicals are integers there, marked by their class."""
    kind = class_of(item) or str(item.dtype)
    numeric = item.dtype.kind in "iuf" and kind not in ("char", "logical")
    return Variable(name, item.shape[::-1], "complex or structured" if item.dtype.kind == "V" else kind, numeric)
