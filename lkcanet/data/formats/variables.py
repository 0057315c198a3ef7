"""Variables of HDF5 and netCDF files: which is the scene, which of its axes are the bands, what their attributes say.

Source: the CF conventions (coordinate variables, _FillValue, scale_factor, add_offset, grid_mapping).
"""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lkcanet.data.encoding import Encoding
from lkcanet.data.formats.grid import georeference_of
from lkcanet.data.formats.raw import Raw, Variable, choose, good_bands, reading, scaling
from lkcanet.data.wavelengths import MICROMETRES, NANOMETRES, to_nanometres, widths_in_nanometres

REFLECTANCE = "reflectance"  # in Encoding.units; a file says 1, and in words what it is
_BANDS = re.compile(r"(band|channel|wave|wvl|wl$|lambda|spectral|^z$|^c$)", re.IGNORECASE)
_ROWS = re.compile(r"^(y|row|line|lat|north|downtrack|along|scan|h$|height|n[_-]?rows)", re.IGNORECASE)
_COLUMNS = re.compile(
    r"^(x|col|sample|pixel|lon|east|crosstrack|cross_track|across|w$|width|n[_-]?cols)", re.IGNORECASE
)
_WAVELENGTH = re.compile(r"(wavelength|^wvl?s?$|^wl$|^lambda$)", re.IGNORECASE)
_WIDTH = re.compile(r"(fwhm|bandwidth)", re.IGNORECASE)
# attributes that are read, or that mean something in that file alone
READ = {
    *("_FillValue", "missing_value", "scale_factor", "add_offset", "units", "wavelength_units", "fwhm_units"),
    *("grid_mapping", "coordinates", "ancillary_variables", "CLASS", "NAME"),
}
_NAMES = re.compile(r"(^|/)band_names?$", re.IGNORECASE)
_GOOD = re.compile(r"^(bbl|good_wavelengths)$", re.IGNORECASE)


@dataclass(frozen=True)
class Stored:
    """A variable.

    Attributes:
        name: its path in the file, without a slash before it.
        shape: of the values that `load` gives, axes of length 1 before three others left out.
        dtype: of its numbers.
        dims: the paths of its axes' names, "" where an axis has none.
        attributes: texts, numbers, and arrays of numbers.
        load: the values; a memory map where the library allows it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    dims: tuple[str, ...]
    attributes: Mapping[str, Any] = field(repr=False)
    load: Callable[[], np.ndarray] = field(repr=False)


def stored(
    name: str,
    shape: Sequence[int],
    dtype: np.dtype,
    dims: Sequence[str],
    attributes: Mapping[str, Any],
    load: Callable[[], np.ndarray],
) -> Stored:
    """A variable; (1, bands, rows, columns), as time series of one image have it, counts as three axes."""
    surplus = len(shape) - 3
    if surplus > 0 and all(length == 1 for length in shape[:surplus]):
        inner = load
        shape, dims, load = shape[surplus:], dims[surplus:], lambda: inner().reshape(inner().shape[surplus:])
    plain = {key: value for key, raw in attributes.items() if (value := _plain(raw)) is not None}
    return Stored(name.strip("/"), tuple(map(int, shape)), np.dtype(dtype), tuple(dims), plain, load)


def _plain(value: Any) -> Any:
    """Texts as str, arrays of one as that one; None of what is neither text nor number."""
    array = np.asarray(value)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    if array.dtype.kind in "iufUO" and array.size == 1:
        one = array.reshape(-1)[0]
        one = one.decode("utf-8", "replace") if isinstance(one, bytes) else one
        return one.item() if isinstance(one, np.generic) else one if isinstance(one, (str, int, float)) else None
    return array if array.dtype.kind in "iufU" and array.size else None


def chosen(variables: Sequence[Stored], key: str | None, path: Path) -> Stored:
    """The one that `key` names, else the only one that could be the scene; errors as `choose`."""
    listed = [Variable(v.name, v.shape, str(v.dtype), v.dtype.kind in "iuf") for v in variables]
    name = choose(listed, None if key is None else key.strip("/"), path)
    return next(v for v in variables if v.name == name)


def raw_of(variable: Stored, variables: Sequence[Stored], axes: str | None, path: Path, what: str) -> Raw:
    """What `read_scene` needs of a variable.

    - Axes: as given; else by the names of the dimensions; else the bands are the axis that a list of wavelengths fits,
      or the shortest, with a note, and rows come before columns.
    - Wavelengths, widths and good bands: lists of a number for each band, coordinates of the bands' dimension first, by
      their names (wavelength, fwhm, good_wavelengths, bbl), or attributes of the variable.
    - `_FillValue` or `missing_value`, `scale_factor` and `add_offset`, `units`.
    - Place: `lkcanet.data.formats.grid`.

    Raises:
        ValueError: no axis that could be the bands.
        OSError: the file can't be read.
    """
    near = {v.name: v for v in variables}
    order = axes or _axes(variable, near, path)
    with reading(path, what):
        if order is None or len(order) != len(variable.shape) or set(order) != set("chw"):
            return Raw(variable.load(), order)  # to_bands says what is wrong
        band = order.index("c")
        count, dim = variable.shape[band], variable.dims[band]
        lists = _lists(variable, near, dim, count)
        encoding = _encoding(variable, lists, count, f"{path}: ")
        nanometres = None
        if (found := next((e for e in lists if _WAVELENGTH.search(e[0])), None)) is not None:
            nanometres = to_nanometres(found[1].tolist(), str(found[2].get("units", "")), f"{path}: ")
        marks = next(((name, values) for name, values, _ in lists if _GOOD.search(name)), None)
        facts = {
            "wavelengths": nanometres,
            "band_names": _names(variable, near, count),
            "georeference": georeference_of(variable, near, order, path),
        }
        nodata = variable.attributes.get("_FillValue", variable.attributes.get("missing_value"))
        values = variable.load()
    good = None if marks is None else good_bands(marks[1].tolist(), marks[0], path)
    return Raw(values, order, facts=facts, nodata=_number(nodata), good=good, encoding=encoding)


def _names(variable: Stored, near: Mapping[str, Stored], count: int) -> list[str] | None:
    names: Any = variable.attributes.get("band_names")
    listed = next((v for v in near.values() if _NAMES.search(v.name) and v.shape == (count,)), None)
    if names is None and listed is not None and listed.dtype.kind in "OSU":
        names = [entry.decode("utf-8", "replace") if isinstance(entry, bytes) else entry for entry in listed.load()]
    return list(map(str, names)) if np.shape(names) == (count,) else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _encoding(
    variable: Stored, lists: list[tuple[str, np.ndarray, Mapping[str, Any]]], count: int, where: str
) -> Encoding:
    attributes = variable.attributes
    widths = next(((values, told) for name, values, told in lists if _WIDTH.search(name)), None)
    units = str(attributes.get("units", ""))
    if units in ("", "1", "unitless", "none"):
        told = " ".join(str(attributes.get(name, "")) for name in ("long_name", "standard_name")) + variable.name
        units = REFLECTANCE if REFLECTANCE in told.lower() else ""
    scale, offset = scaling(attributes.get("scale_factor", 1.0), attributes.get("add_offset", 0.0), count, where)
    return Encoding(
        scale=scale,
        offset=offset,
        units=units,
        tags={name: text for name, text in attributes.items() if _is_tag(name, text)},
        fwhm=None
        if widths is None
        else widths_in_nanometres(widths[0].tolist(), str(widths[1].get("units", "")), where),
    )


def _is_tag(name: str, value: Any) -> bool:
    return isinstance(value, str) and name not in READ and (name, value) != ("long_name", REFLECTANCE)


def _lists(
    variable: Stored, near: Mapping[str, Stored], dim: str, count: int
) -> list[tuple[str, np.ndarray, Mapping[str, Any]]]:
    """Lists of a number for each band: of the bands' dimension, elsewhere of that length, and attributes."""
    flat = [v for v in near.values() if v.shape == (count,) and v.dtype.kind in "iufb"]
    flat.sort(key=lambda v: (v.name != dim, dim not in v.dims if dim else False))
    fitting = [v for v in flat if not dim or v.dims == (dim,) or not v.dims[0]]
    told = []
    for v in fitting:
        name, units = v.name.rpartition("/")[2], str(v.attributes.get("units", "")).lower()
        standard = "wavelength" in str(v.attributes.get("standard_name", ""))
        if standard or (v.name == dim and units in NANOMETRES | MICROMETRES):
            name = "wavelength"  # that is what it is, whatever it is called
        if any(kind.search(name) for kind in (_WAVELENGTH, _WIDTH, _GOOD)):
            told.append((name, np.asarray(v.load()), v.attributes))
    own = [
        (name, np.asarray(value), {"units": variable.attributes.get(f"{name}_units", "")})
        for name, value in variable.attributes.items()
        if np.shape(value) == (count,) and np.asarray(value).dtype.kind in "iuf"
    ]
    return told + own


def _axes(variable: Stored, near: Mapping[str, Stored], path: Path) -> str | None:
    if len(variable.shape) != 3:
        return None
    letters = [_letter(dim, near.get(dim)) for dim in variable.dims]
    letters = [letter if letters.count(letter) == 1 else "" for letter in letters]
    if "c" not in letters:
        at = _spectral_axis(variable, near, [index for index, letter in enumerate(letters) if not letter], path)
        letters[at] = "c"
    if letters.count("") == 1:
        letters[letters.index("")] = next(letter for letter in "hw" if letter not in letters)
    rest = iter("hw")
    return "".join(letter or next(rest) for letter in letters)


def _letter(dim: str, coordinate: Stored | None) -> str:
    """c, h or w by the name of a dimension or what its coordinate says, "" where nothing tells."""
    told = {} if coordinate is None else coordinate.attributes
    standard, axis = str(told.get("standard_name", "")), str(told.get("axis", "")).upper()
    if "wavelength" in standard:
        return "c"
    if axis in ("X", "Y"):
        return "w" if axis == "X" else "h"
    name = dim.rpartition("/")[2]
    kinds = {"c": _BANDS, "h": _ROWS, "w": _COLUMNS}
    found = [letter for letter, kind in kinds.items() if kind.search(name)]
    return found[0] if len(found) == 1 else ""


def _spectral_axis(variable: Stored, near: Mapping[str, Stored], free: list[int], path: Path) -> int:
    lengths = [variable.shape[index] for index in free]
    counts = {v.shape[0] for v in near.values() if len(v.shape) == 1 and _WAVELENGTH.search(v.name.rpartition("/")[2])}
    counts |= {len(v) for name, v in variable.attributes.items() if _WAVELENGTH.search(name) and np.ndim(v) == 1}
    fitting = [index for index in free if variable.shape[index] in counts]
    if len(fitting) == 1:
        return fitting[0]
    shortest = min(lengths)
    if lengths.count(shortest) != 1:
        raise ValueError(f"{path}: {variable.name} {variable.shape} does not tell its axes: give axes, such as 'hwc'")
    at = free[lengths.index(shortest)]
    order = iter("hw")
    told = "".join("c" if index == at else next(order) for index in range(3))
    warnings.warn(
        f"{path}: {variable.name} {variable.shape} does not tell its axes: taken as {told}, the shortest are the "
        "bands; axes or --axes gives others",
        UserWarning,
        stacklevel=6,
    )
    return at
