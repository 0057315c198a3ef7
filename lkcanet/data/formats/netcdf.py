"""netCDF files: netCDF-4 by h5netcdf, the older ones by scipy; those of EMIT are known."""

import warnings
from pathlib import Path

from lkcanet.common.optional import require
from lkcanet.data.formats import emit
from lkcanet.data.formats.hdf5 import values_of
from lkcanet.data.formats.raw import Raw, reading
from lkcanet.data.formats.variables import Stored, chosen, raw_of, stored

SUFFIXES = (".nc", ".nc4", ".cdf")
_WHAT = "a netCDF file"


def read_netcdf(path: Path, key: str | None, axes: str | None) -> Raw:
    """Read the variable `key`, in groups with their path, or the only one that could be the scene; see
    `lkcanet.data.formats.variables` for axes and what attributes say, and `lkcanet.data.formats.emit` for EMIT.

    netCDF-3 files are memory-mapped, and what a netCDF-4 file holds in one piece and without compression; what it holds
    in chunks is read whole, in the file's data type.

    Raises:
        OSError: the file can't be read.
        ValueError: as `choose` and `raw_of`.
    """
    with reading(path, _WHAT):
        with path.open("rb") as file:
            classic = file.read(3) == b"CDF"
        variables = _classic(path) if classic else _netcdf4(path)
    if emit.is_emit(variables):
        return emit.read(variables, key, axes, path)
    return raw_of(chosen(variables, key, path), variables, axes, path, _WHAT)


def _netcdf4(path: Path) -> list[Stored]:
    h5netcdf = require("h5netcdf", extra="geo")
    found = []
    with warnings.catch_warnings(), h5netcdf.File(path, "r", phony_dims="sort") as file:
        warnings.simplefilter("ignore")
        groups = [("", file)]
        while groups:
            prefix, group = groups.pop()
            groups += [(f"{prefix}{name}/", inner) for name, inner in group.groups.items()]
            for name, item in group.variables.items():
                dims = [_dimension(prefix, group, dim) for dim in item.dimensions]
                full = prefix + name
                found.append(stored(full, item.shape, item.dtype, dims, dict(item.attrs), values_of(path, full)))
    return found


def _dimension(prefix: str, group: object, dim: str) -> str:
    """The path of a dimension, which may belong to a group further out."""
    while prefix and dim not in getattr(group, "_dimensions", group.dimensions):  # type: ignore[attr-defined]
        group, prefix = group.parent, prefix.rstrip("/").rpartition("/")[0]  # type: ignore[attr-defined]
        prefix += "/" * bool(prefix)
    return dim if dim.startswith("phony_dim") else prefix + dim


def _classic(path: Path) -> list[Stored]:
    scipy_io = require("scipy.io", extra="io")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the maps of its variables outlive it, and are meant to
        with scipy_io.netcdf_file(path, "r", mmap=True) as file:
            return [
                stored(name, item.shape, item.data.dtype, item.dimensions, item._attributes, lambda it=item: it.data)
                for name, item in file.variables.items()
            ]
