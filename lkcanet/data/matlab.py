"""MATLAB files: v4 to v7 by scipy, v7.3 by h5py."""

from pathlib import Path

from lkcanet._optional import require
from lkcanet.data._raw import MARKER, Raw, Variable, choose, own, reading

_NUMERIC = {"double", "single"} | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}


def is_mat73(path: Path) -> bool:
    """Whether a file is MATLAB v7.3, that is HDF5, by its first bytes."""
    with path.open("rb") as file:
        head = file.read(520)
    hdf5 = b"\x89HDF\r\n\x1a\n"  # MATLAB writes 512 bytes of its own before it
    return head.startswith((b"MATLAB 7.3", hdf5)) or head[512:] == hdf5


def read_mat(path: Path, key: str | None) -> Raw:
    """Read `key`, or the only variable that could be the scene."""
    if is_mat73(path):
        return _read_mat73(path, key)
    scipy_io = require("scipy.io", extra="io")
    with reading(path, "a MATLAB file"):
        contents = scipy_io.whosmat(path)
    variables = [Variable(name, tuple(shape), kind, kind in _NUMERIC) for name, shape, kind in contents]
    ours = MARKER in {v.name for v in variables} and key in (None, "pixels")
    key = choose(variables, "pixels" if ours else key, path)
    with reading(path, "a MATLAB file"):
        loaded = scipy_io.loadmat(path, variable_names=None if ours else [key])
        values = loaded[key]
    if ours and values.ndim == 2:  # MATLAB drops a last axis of 1
        values = values[:, :, None]
    return Raw(values, "hwc", own(loaded, path) if ours else None)


def _read_mat73(path: Path, key: str | None) -> Raw:
    """MATLAB v7.3 is HDF5 with the axes reversed."""
    h5py = require("h5py", extra="io")
    key = mat73_key(path, key)
    with reading(path, "a MATLAB v7.3 file"), h5py.File(path, "r") as file:
        return Raw(file[key][()].T, "hwc")


def mat73_key(path: Path, key: str | None, preferred: str | None = None) -> str:
    """The variable of a v7.3 file to read: `key`, else `preferred` where it is there, else the only one that could be
    the scene. Text and logicals are integers in the file, marked by an attribute."""
    h5py = require("h5py", extra="io")
    with reading(path, "a MATLAB v7.3 file"), h5py.File(path, "r") as file:
        variables = []
        for name, item in file.items():
            if name.startswith("#"):
                continue
            shape, kind = (item.shape[::-1], str(item.dtype)) if isinstance(item, h5py.Dataset) else ((), "struct")
            declared = item.attrs.get("MATLAB_class", kind)
            declared = declared.decode() if isinstance(declared, bytes) else str(declared)
            numeric = (
                isinstance(item, h5py.Dataset) and item.dtype.kind in "iuf" and declared not in ("char", "logical")
            )
            complex_kind = "complex or structured" if kind.startswith("[") else declared
            variables.append(Variable(name, shape, complex_kind, numeric))
    if key is None and preferred in {v.name for v in variables}:
        key = preferred
    return choose(variables, key, path)
