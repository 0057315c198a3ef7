"""netCDF files: netCDF-4 by h5netcdf, the older ones by scipy; those of EMIT are known."""

import json
import traceback
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lkcanet.common.optional import require
from lkcanet.data.encoding import Encoding
from lkcanet.data.formats import emit
from lkcanet.data.formats.hdf5 import values_of
from lkcanet.data.formats.netcdf_writer import IMAGE, RECORD, system_of
from lkcanet.data.formats.raw import Raw, check_record, own, reading
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
        variables, record = (_classic(path), None) if classic else _netcdf4(path)
    if record is not None and key in (None, IMAGE):
        return _own(path, variables, record)
    if emit.is_emit(variables):
        return emit.read(variables, key, axes, path)
    return raw_of(chosen(variables, key, path), variables, axes, path, _WHAT)


def _own(path: Path, variables: list[Stored], text: str) -> Raw:
    """A file of write_scene; where another program has changed what the file says itself, that holds."""
    what = "a netCDF file of write_scene"
    with reading(path, what):
        record: dict[str, Any] = json.loads(text)
        check_record(record)
        variable = next(v for v in variables if v.name == IMAGE)
    raw = raw_of(variable, variables, None, path, what)
    with reading(path, what):
        if "encoded" in record:
            tags = {name: tuple(texts) for name, texts in record.get("band_tags", {}).items()}
            encoding = None if raw.encoding is None else replace(raw.encoding, band_tags=tags)
            return raw._replace(record=record, encoding=encoding)
        fields, encoding = own(record, path), raw.encoding or Encoding()
        if (encoding.scale, encoding.offset, raw.values.dtype) != (fields["peak"], 0, np.float32):
            return raw  # they have been scaled since
        facts = raw.facts or {}
        fields |= {name: facts[name] for name in ("wavelengths", "band_names") if facts[name] is not None}
        written, ours = facts["georeference"], fields.get("georeference")
        if written is None or ours is None or not (ours.agrees(written) and _same_system(ours.crs, written.crs)):
            fields["georeference"] = written
        masked = raw.nodata is not None
        return Raw(raw.values, "chw", own=fields, valid=~np.isnan(raw.values[0]) if masked else None)


def _same_system(mine: str, its: str) -> bool:
    return mine == its or (bool(mine and its) and system_of(mine) == system_of(its))


def _netcdf4(path: Path) -> tuple[list[Stored], str | None]:
    """The variables, and the record of write_scene."""
    h5py, h5netcdf = require("h5py", extra="io"), require("h5netcdf", extra="geo")
    found = []
    with warnings.catch_warnings(), h5py.File(path, "r") as source:
        warnings.simplefilter("ignore")
        # what h5netcdf asks for first: where it fails there, Python prints that its file could not be closed
        source.attrs.get("_nc3_strict")
        file = h5netcdf.File(source, "r", phony_dims="sort")
        groups, record = [("", file)], file.attrs.get(RECORD)
        while groups:
            prefix, group = groups.pop()
            groups += [(f"{prefix}{name}/", inner) for name, inner in group.groups.items()]
            for name, item in group.variables.items():
                dims = [_dimension(prefix, group, dim) for dim in item.dimensions]
                full = prefix + name
                found.append(stored(full, item.shape, item.dtype, dims, dict(item.attrs), values_of(path, full)))
    return found, record if isinstance(record, str) else None


def _dimension(prefix: str, group: Any, dim: str) -> str:
    """The path of a dimension, which may belong to a group further out."""
    while prefix and dim not in group.dimensions:
        group, prefix = group.parent, prefix.rstrip("/").rpartition("/")[0]
        prefix += "/" * bool(prefix)
    return dim if dim.startswith("phony_dim") else prefix + dim


def _classic(path: Path) -> list[Stored]:
    scipy_io = require("scipy.io", extra="io")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the maps of its variables outlive it, and are meant to
        try:
            with scipy_io.netcdf_file(path, "r", mmap=True) as file:
                return [
                    stored(
                        name, item.shape, item.data.dtype, item.dimensions, item._attributes,
                        partial(getattr, item, "data"),
                    )
                    for name, item in file.variables.items()
                ]  # fmt: skip
        except Exception as error:
            traceback.clear_frames(error.__traceback__)  # a half-made file warns as well, when nothing holds it
            raise
