"""What every reader of scenes shares: what it returns, how it chooses, and how damaged files become one error."""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lkcanet.data.encoding import Encoding
from lkcanet.data.georeference import Georeference
from lkcanet.data.scenes import Scene

MARKER = "lkcanet_scene"  # the variable that marks a file of write_scene; it holds the version of the layout
_CHECKSUM = "checksum"


class Variable(NamedTuple):
    name: str
    shape: tuple[int, ...]
    kind: str
    numeric: bool


class Raw(NamedTuple):
    """What the reader of a format found.

    `own` holds the fields of the Scene where write_scene wrote the file, `facts` those that another file tells.
    `nodata` is the value that it declares; `valid` its mask of pixels, whose invalid ones hold nothing worth keeping;
    `good` tells which bands it does not mark as bad, None where it marks none. `encoding` tells scale, offset, units
    and what else stands beside the pixels; `read_scene` puts dtype, `nodata` and `good` into it. `record` is what
    write_scene left in a file of an encoding, beside what the file itself says: see `lkcanet.data.formats.encoded`.
    """

    values: np.ndarray
    axes: str | None
    own: dict[str, Any] | None = None
    facts: dict[str, Any] | None = None
    nodata: float | None = None
    valid: np.ndarray | None = None
    good: np.ndarray | None = None
    encoding: Encoding | None = None
    record: dict[str, Any] | None = None


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Libraries raise nearly anything on damaged files (zlib.error, TypeError, struct.error, ...): make it OSError."""
    try:
        yield
    except (MemoryError, PermissionError):
        raise
    except Exception as error:
        reason = " ".join((str(error).strip().splitlines() or [type(error).__name__])[0].split())
        raise OSError(f"{path}: cannot be read as {what}, truncated or corrupt? ({reason})") from error


def system_from(parse: Callable[[Any], Any], told: Any, what: str = "georeference.crs") -> Any:
    """What a library's parser makes of a coordinate system; a ValueError where it knows none. The parsers raise nearly
    anything: CRSError, TypeError, KeyError, UnicodeError, ..."""
    try:
        return parse(told)
    except Exception as error:
        raise ValueError(f"{what} is not a system that PROJ knows: {str(told)[:80]!r}") from error


def choose(variables: list[Variable], key: str | None, path: Path) -> str:
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
    if len(images) > 1:
        cubes = [name for name in images if len(named[name].shape) == 3 and min(named[name].shape) > 3]
        if len(cubes) == 1:
            others = ", ".join(name for name in images if name not in cubes)
            _warn(f"{path}: {cubes[0]} is read, the only 3-D variable of more than three bands; not {others}")
            images = cubes
    if len(images) != 1:
        found = "no 2-D or 3-D numeric variable" if not images else f"{len(images)} that could be the scene: give key"
        raise ValueError(f"{path}: {found}; keys: {listing}")
    return images[0]


def metadata(scene: Scene) -> dict[str, Any]:
    """The fields of a scene beside its pixels and its mask, as `own` reads them: numbers, text, lists and arrays."""
    fields: dict[str, Any] = {MARKER: 1, "peak": scene.peak, "name": scene.name, "source": scene.source}
    if scene.wavelengths is not None:
        fields["wavelengths"] = scene.wavelengths
    if scene.band_names is not None:
        fields["band_names"] = list(scene.band_names)
    if scene.georeference is not None:
        fields |= {"transform": list(scene.georeference.transform), "crs": scene.georeference.crs}
    if scene.encoding is not None:
        fields["encoding"] = scene.encoding.as_json()
    return fields


def record_of(fields: dict[str, Any], valid: np.ndarray | None = None) -> str:
    """Fields as a JSON text that tells when it was changed; with it the mask, where that stands beside the text.

    The pixels are left out: a memory map of gigabytes must not be read whole when it is opened.
    """
    plain = json.loads(json.dumps(fields, default=np.ndarray.tolist))
    return json.dumps({**plain, _CHECKSUM: _checksum(plain, valid)})


def check_record(record: dict[str, Any], valid: np.ndarray | None = None) -> None:
    """Raise a ValueError where what `record_of` wrote was changed; earlier versions wrote no checksum."""
    plain = {name: value for name, value in record.items() if name != _CHECKSUM}
    if _CHECKSUM in record and record[_CHECKSUM] != _checksum(plain, valid):
        raise ValueError("its record is not what was written: a checksum differs")


def _checksum(fields: dict[str, Any], valid: np.ndarray | None) -> str:
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
    if valid is not None:
        digest.update(np.ascontiguousarray(valid).tobytes())
    return digest.hexdigest()[:16]


def good_bands(marks: list[float], what: str, path: Path) -> np.ndarray:
    """From a mark for each band, 0 for a bad one."""
    good: np.ndarray = np.array(marks) != 0
    if not good.any():
        raise ValueError(f"{path}: {what} marks every band as bad")
    return good


def scaling(scale: Any, offset: Any, bands: int, where: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Scale and offset of each band, from one for all or one each; 1 and 0 of all, with a warning that starts with
    `where`, where a scale is 0 or one of them no finite number."""
    try:
        scales, offsets = (np.broadcast_to(np.asarray(each, np.float64), bands) for each in (scale, offset))
        usable = bool(np.isfinite([scales, offsets]).all() and scales.all())
    except ValueError:  # texts, or of another number of bands
        usable = False
    if usable:
        return tuple(scales.tolist()), tuple(offsets.tolist())
    _warn(f"{where}scales are 0, or scales or offsets no finite numbers: they are left out")
    return (1.0,) * bands, (0.0,) * bands


def own(values: dict[str, Any], path: Path) -> dict[str, Any]:
    """The fields of a Scene from what `metadata` gave, as any file format gives it back."""
    with reading(path, "a scene of write_scene"):
        wavelengths, names = values.get("wavelengths"), values.get("band_names")
        fields: dict[str, Any] = {
            "peak": float(np.asarray(values["peak"]).item()),
            "wavelengths": None if wavelengths is None else np.asarray(wavelengths, np.float64).ravel(),
            "name": _text(values["name"]),
            "source": _text(values["source"]),
        }
        if names is not None:
            fields["band_names"] = tuple(_text(name) for name in np.ravel(names))
        if "transform" in values:
            a, b, c, d, e, f = np.asarray(values["transform"], np.float64).ravel().tolist()
            fields["georeference"] = Georeference((a, b, c, d, e, f), _text(values["crs"]))
        if "encoding" in values:
            fields["encoding"] = Encoding.from_json(_text(values["encoding"]))
        if "valid" in values:
            fields["valid"] = np.asarray(values["valid"]).astype(bool)
        return fields


def _text(value: Any) -> str:
    return str(np.asarray(value).item()) if np.size(value) else ""


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=5)
