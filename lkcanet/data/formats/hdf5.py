"""HDF5 and HDF-EOS5 files, by h5py; those of PRISMA are known."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lkcanet.common.optional import require
from lkcanet.data.formats import prisma
from lkcanet.data.formats.raw import Raw, reading
from lkcanet.data.formats.variables import Stored, chosen, raw_of, stored

SUFFIXES = (".h5", ".hdf5", ".he5", ".hdf")
_WHAT = "an HDF5 file"
_HDF4 = b"\x0e\x03\x13\x01"


def read_hdf5(path: Path, key: str | None, axes: str | None) -> Raw:
    """Read the data set `key`, a path such as "HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields/VNIR_Cube", or the only one that
    could be the scene; see `lkcanet.data.formats.variables` for axes and what attributes say, and
    `lkcanet.data.formats.prisma` for PRISMA.

    What the file holds in one piece and without compression is memory-mapped; what it holds in chunks, as most such
    files do, is read whole, in the file's data type.

    Raises:
        OSError: the file can't be read, or is HDF4.
        ValueError: as `choose` and `raw_of`.
    """
    with path.open("rb") as file:
        if file.read(4) == _HDF4:
            raise OSError(f"{path}: is HDF4, which is not read: convert it, for example with gdal_translate")
    h5py = require("h5py", extra="io")
    with reading(path, _WHAT), h5py.File(path, "r") as file:
        swath = prisma.swath_of(file)
        if swath is not None and (key is None or key.strip("/") in prisma.cubes(swath)):
            return prisma.Swath(file, swath, path).read(key)
        variables = _variables(file, path)
    return raw_of(chosen(variables, key, path), variables, axes, path, _WHAT)


def values_of(path: Path, name: str) -> Callable[[], np.ndarray]:
    """Loads a data set: as a memory map where it lies in the file in one piece, as the file has it."""

    def load() -> np.ndarray:
        h5py = require("h5py", extra="io")
        with h5py.File(path, "r") as file:
            data = file[name]
            offset = data.id.get_offset()  # None where it is in chunks, compressed, elsewhere or not yet there
            # texts are pointers in memory, and numbers of odd precision others than in the file
            plain = data.dtype.kind in "iuf" and data.id.get_type().equal(h5py.h5t.py_create(data.dtype))
            if offset is None or not plain or not data.size:
                return np.asarray(data[()])
            shape, dtype = data.shape, data.dtype
        # copy on write: torch can wrap it, and no write ever reaches the file
        values: np.ndarray = np.memmap(path, dtype, "c", offset, shape)
        return values

    return load


def _variables(file: Any, path: Path) -> list[Stored]:
    h5py = require("h5py", extra="io")
    found = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.shape is not None:
            found.append(stored(name, item.shape, item.dtype, _dims(item), dict(item.attrs), values_of(path, name)))

    file.visititems(visit)
    return found


def _dims(item: Any) -> list[str]:
    """The attached scales' paths, else the labels."""
    return [(dim[0].name.strip("/") if len(dim) else dim.label) or "" for dim in item.dims]
