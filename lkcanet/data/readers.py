"""Scenes from files: MATLAB v5, v7 and v7.3, .npy, .npz, and folders of single-band images."""

import json
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lkcanet._optional import require
from lkcanet.data.scenes import Scene, check_positive, scene_from_array, to_bands

MARKER = "lkcanet_scene"  # the variable that marks a file of write_scene; it holds the version of the layout
SUPPORTED = ".mat, .npy, .npz, or a folder of single-band .png images"
_MATLAB_NUMERIC = {"double", "single"} | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}


class _Variable(NamedTuple):
    name: str
    shape: tuple[int, ...]
    kind: str
    numeric: bool


class _Raw(NamedTuple):
    """What a format reader found; `own` holds the metadata where write_scene wrote the file."""

    values: np.ndarray
    axes: str | None
    own: dict[str, Any] | None = None


def read_scene(
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    axes: str | None = None,
    size: tuple[int, int] | None = None,
    peak: float | None = None,
) -> Scene:
    """Read a scene and normalise it: pixels = values / peak, (B, H, W) float32.

    | file | variable | default axes |
    |---|---|---|
    | .mat v4 to v7 (scipy) and v7.3 (h5py) | `key`, else the only 2-D or 3-D numeric one | hwc |
    | .npz | the same | chw |
    | .npy (memory-mapped; stays so where it is float32, chw and needs no division) | - | chw |
    | folder | its .png images, one a band, in natural order of their names | - |

    Files of `write_scene` hold normalised pixels, their peak, wavelengths and name, and give back exactly these; an
    explicit `peak` renormalises them (pixels * stored / peak). Other files are normalised by their maximum, or by
    `peak` (for example 65535 for CAVE).

    Args:
        path: the file or folder.
        key: the variable of a .mat or .npz file. Vectors and scalars are not candidates for the automatic choice.
        axes: the order of the axes: c bands, h rows, w columns, such as "hwc"; for 2-D variables "hw" (one band), or
            "cp" / "pc" with p = pixels in column-major (MATLAB) order, as unmixing data come.
        size: (rows, columns), with "cp" and "pc" only.
        peak: the normaliser.

    Raises:
        FileNotFoundError: no such file.
        OSError: the file cannot be read: truncated, corrupt, or not what its suffix says.
        ValueError: unsupported suffix, unknown or ambiguous key (lists the keys and shapes), wrong axes or size, not
            real numbers, bands of different sizes, an empty folder, NaN or infinite pixels (with their count and the
            first position), no positive pixel, or a peak that is not positive and finite.
    """
    path = Path(path)
    peak = None if peak is None else check_positive(peak, "peak")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    suffix = "folder" if path.is_dir() else path.suffix.lower()
    readers: dict[str, Callable[[Path, str | None], _Raw]] = {
        ".mat": _read_mat,
        ".npz": _read_npz,
        ".npy": _read_npy,
        "folder": _read_folder,
    }
    if suffix not in readers:
        raise ValueError(f"{path}: unsupported suffix {path.suffix!r}; supported: {SUPPORTED}")
    if key is not None and suffix in (".npy", "folder"):
        raise ValueError(f"{path}: key {key!r} was given, but this kind of file holds one array without a name")
    raw = readers[suffix](path, key)
    if raw.own is None:
        values = to_bands(raw.values, axes or _default_axes(raw, path), size, source=str(path))
        return scene_from_array(values, peak=peak, name=path.stem, source=str(path))
    if (axes or raw.axes) != raw.axes or size is not None:
        raise ValueError(f"{path}: was written by write_scene with axes {raw.axes!r}: leave axes and size out")
    stored = raw.own["peak"]
    values = to_bands(raw.values, raw.axes or "chw", source=str(path))
    # dividing by peak / stored = 1 keeps the pixels, and a memory map, as they are
    scene = scene_from_array(values, peak=1.0 if peak is None else peak / stored, source=str(path))
    return Scene(scene.pixels, stored if peak is None else peak, **{k: v for k, v in raw.own.items() if k != "peak"})


@contextmanager
def _reading(path: Path, what: str) -> Iterator[None]:
    """Libraries raise nearly anything on damaged files (zlib.error, TypeError, struct.error, ...): make it OSError."""
    try:
        yield
    except (MemoryError, PermissionError):
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise OSError(f"{path}: cannot be read as {what}, truncated or corrupt? ({reason})") from error


def _default_axes(raw: _Raw, path: Path) -> str:
    if raw.values.ndim == 2:
        to_bands(raw.values, "chw", source=str(path))  # raises, with the options that would read it
    return raw.axes or "chw"


def _choose(variables: list[_Variable], key: str | None, path: Path) -> str:
    """The variable to read, or a ValueError that lists them all."""
    listing = ", ".join(f"{v.name} {v.shape} {v.kind}" for v in variables) or "none"
    named = {v.name: v for v in variables}
    if key is not None:
        if key not in named:
            raise ValueError(f"{path}: has no key {key!r}; keys: {listing}")
        if not named[key].numeric:
            raise ValueError(f"{path}: {key!r} must hold real integers or floats, it is {named[key].kind}")
        return key
    images = [
        v.name for v in variables if v.numeric and (len(v.shape) == 3 or (len(v.shape) == 2 and min(v.shape) > 1))
    ]
    if len(images) != 1:
        found = "no 2-D or 3-D numeric variable" if not images else f"{len(images)} that could be the scene: give key"
        raise ValueError(f"{path}: {found}; keys: {listing}")
    return images[0]


def _own(values: dict[str, Any], path: Path) -> dict[str, Any]:
    """Metadata of write_scene from the variables of a file."""
    with _reading(path, "a scene of write_scene"):
        wavelengths = values.get("wavelengths")
        text = {k: str(np.asarray(values[k]).item()) if np.size(values[k]) else "" for k in ("name", "source")}
        return {
            "peak": float(np.asarray(values["peak"]).item()),
            "wavelengths": None if wavelengths is None else np.asarray(wavelengths, np.float64).ravel(),
            **text,
        }


def is_mat73(path: Path) -> bool:
    """Whether a file is MATLAB v7.3, that is HDF5, by its first bytes."""
    with path.open("rb") as file:
        head = file.read(520)
    hdf5 = b"\x89HDF\r\n\x1a\n"  # MATLAB writes 512 bytes of its own before it
    return head.startswith((b"MATLAB 7.3", hdf5)) or head[512:] == hdf5


def _read_mat(path: Path, key: str | None) -> _Raw:
    if is_mat73(path):
        return _read_mat73(path, key)
    scipy_io = require("scipy.io", extra="io")
    with _reading(path, "a MATLAB file"):
        contents = scipy_io.whosmat(path)
    variables = [_Variable(name, tuple(shape), kind, kind in _MATLAB_NUMERIC) for name, shape, kind in contents]
    own = MARKER in {v.name for v in variables} and key in (None, "pixels")
    key = _choose(variables, "pixels" if own else key, path)
    with _reading(path, "a MATLAB file"):
        loaded = scipy_io.loadmat(path, variable_names=None if own else [key])
        values = loaded[key]
    if own and values.ndim == 2:  # MATLAB drops a last axis of 1
        values = values[:, :, None]
    return _Raw(values, "hwc", _own(loaded, path) if own else None)


def _read_mat73(path: Path, key: str | None) -> _Raw:
    """MATLAB v7.3 is HDF5 with the axes reversed."""
    h5py = require("h5py", extra="io")
    key = mat73_key(path, key)
    with _reading(path, "a MATLAB v7.3 file"), h5py.File(path, "r") as file:
        return _Raw(file[key][()].T, "hwc")


def mat73_key(path: Path, key: str | None, preferred: str | None = None) -> str:
    """The variable of a v7.3 file to read: `key`, else `preferred` where it is there, else the only one that could be
    the scene. Text and logicals are integers in the file, marked by an attribute."""
    h5py = require("h5py", extra="io")
    with _reading(path, "a MATLAB v7.3 file"), h5py.File(path, "r") as file:
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
            variables.append(_Variable(name, shape, complex_kind, numeric))
    if key is None and preferred in {v.name for v in variables}:
        key = preferred
    return _choose(variables, key, path)


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of the .npy data that starts here; leaves the file at the first value."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def _read_npz(path: Path, key: str | None) -> _Raw:
    variables = []
    with _reading(path, "an .npz file"), zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            if member.endswith(".npy"):
                with archive.open(member) as file:
                    shape, dtype = _header(file)
                variables.append(_Variable(member.removesuffix(".npy"), shape, str(dtype), dtype.kind in "iuf"))
    own = MARKER in {v.name for v in variables} and key in (None, "pixels")
    key = _choose(variables, "pixels" if own else key, path)
    with _reading(path, "an .npz file"), np.load(path, allow_pickle=False) as archive:
        return _Raw(archive[key], "chw", _own(dict(archive), path) if own else None)


def _read_npy(path: Path, key: str | None) -> _Raw:
    with _reading(path, "an .npy file"), path.open("rb") as file:
        shape, dtype = _header(file)
        start = file.tell()
    if dtype.kind not in "iuf" or len(shape) not in (2, 3) or 0 in shape:
        raise ValueError(f"{path}: pixels must be a 2-D or 3-D array of real numbers, got {dtype} of shape {shape}")
    with _reading(path, "an .npy file"):
        # copy on write: torch can wrap it, and no write ever reaches the file
        values = np.load(path, mmap_mode="c", allow_pickle=False)
    return _Raw(values, "chw", _npy_record(path, start + values.nbytes))


def _npy_record(path: Path, start: int) -> dict[str, Any] | None:
    """The metadata that write_scene saves as a second array behind the pixels, or None in other files."""
    with path.open("rb") as file:
        file.seek(start)
        if file.read(len(np.lib.format.MAGIC_PREFIX)) != np.lib.format.MAGIC_PREFIX:
            return None
        file.seek(start)
        with _reading(path, "an .npy file with a second array"):
            text = str(np.load(file, allow_pickle=False))
    try:
        record = json.loads(text)
    except ValueError:
        return None
    if not isinstance(record, dict) or MARKER not in record:
        return None
    return _own(record, path)


def _read_folder(path: Path, key: str | None) -> _Raw:
    imageio = require("imageio.v3", extra="io")

    def natural(file: Path) -> list[str | int]:
        return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", file.name)]

    files = sorted((file for file in path.iterdir() if file.suffix.lower() == ".png"), key=natural)
    if not files:
        raise ValueError(f"{path}: the folder holds no .png image")
    values: np.ndarray | None = None
    for index, file in enumerate(files):
        with _reading(file, "a PNG image"):
            band = imageio.imread(file, plugin="pillow")
        if band.ndim != 2:
            raise ValueError(f"{file}: a band must be a greyscale image, got shape {band.shape}")
        if values is None:
            values = np.empty((len(files), *band.shape), band.dtype)
        if band.shape != values.shape[1:] or band.dtype != values.dtype:
            raise ValueError(
                f"{file}: is {band.shape} {band.dtype}, but {files[0].name} is {values.shape[1:]} {values.dtype}"
            )
        values[index] = band
    assert values is not None
    return _Raw(values, "chw")
