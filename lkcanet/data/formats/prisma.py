"""PRISMA's products of level 2 (.he5): surface reflectance on a grid (L2D), or as the sensor saw it (L2B, L2C).

The cubes VNIR_Cube and SWIR_Cube are (rows, bands, columns), uint16, the longest wavelength first, and hold

    value = L2Scale..Min + number (L2Scale..Max - L2Scale..Min) / 65535

with a scale for each. Where a pixel has no data both are 0 in all bands.

Source: ASI, "PRISMA Products Specification Document", issue 2.3.
"""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lkcanet.data.encoding import Encoding
from lkcanet.data.formats.raw import Raw, scaling
from lkcanet.data.georeference import Georeference

_SWATH = re.compile(r"PRS_L2[BCD]_HCO")
_SIDE = 30.0  # of a pixel of L2D, metres
_ROWS = 64  # that are read at once
_DETECTORS = ("Vnir", "Swir")


def swath_of(file: Any) -> str | None:
    """The path of the swath in an open file of PRISMA's, None in others."""
    swaths = file.get("HDFEOS/SWATHS")
    names = [name for name in (swaths or ()) if _SWATH.fullmatch(name)]
    return f"HDFEOS/SWATHS/{names[0]}" if names else None


def cubes(swath: str) -> list[str]:
    """The paths of its cubes."""
    return [f"{swath}/Data Fields/{detector.upper()}_Cube" for detector in _DETECTORS]


class _Bands(NamedTuple):
    """Of one detector, those that it delivers, the shortest wavelength first."""

    name: str
    numbers: np.ndarray
    wavelengths: np.ndarray
    widths: np.ndarray
    scale: float
    offset: float


class Swath:
    """An open file's hyperspectral cubes.

    Args:
        file: h5py's.
        swath: of `swath_of`.
        path: for messages.
    """

    def __init__(self, file: Any, swath: str, path: Path) -> None:
        self._file, self._path = file, path
        self._cubes = dict(zip(_DETECTORS, cubes(swath), strict=True))
        self._level = swath[-7:-4]

    def read(self, key: str | None) -> Raw:
        """One cube by its path, or both joined in order of wavelength.

        Bands that the detector does not deliver (flag 0, or no wavelength) are left out. Where VNIR and SWIR overlap
        the bands of SWIR are taken and a warning says which of VNIR are not. Rows are read in pieces; the result is in
        memory, uint16.
        """
        wanted = [name for name, path in self._cubes.items() if key is None or path == key.strip("/")]
        detectors = [self._bands(name) for name in wanted]
        if len(detectors) == 2:
            detectors = self._apart(*detectors)
        data = [self._file[self._cubes[bands.name]] for bands in detectors]
        rows, _, columns = data[0].shape
        counts = [len(bands.numbers) for bands in detectors]
        values = np.empty((rows, sum(counts), columns), np.uint16)
        for top in range(0, rows, _ROWS):
            piece, first = slice(top, top + _ROWS), 0
            for bands, cube in zip(detectors, data, strict=True):
                last = first + len(bands.numbers)
                values[piece, first:last] = cube[piece][:, bands.numbers]
                first = last
        facts: dict[str, Any] = {
            "wavelengths": np.concatenate([bands.wavelengths for bands in detectors]),
            "band_names": [f"{bands.name.upper()} {number + 1}" for bands in detectors for number in bands.numbers],
            "georeference": self._georeference(rows, columns) if self._level == "L2D" else None,
        }
        scales, offsets = (np.repeat([getattr(b, name) for b in detectors], counts) for name in ("scale", "offset"))
        encoding = Encoding(
            "uint16",
            *scaling(scales, offsets, sum(counts), f"{self._path}: "),
            units="W m-2 sr-1 um-1" if self._level == "L2B" else "reflectance",
            fwhm=tuple(np.concatenate([bands.widths for bands in detectors]).tolist()),
        )
        return Raw(values, "hcw", facts=facts, valid=np.asarray(values.any(axis=1)), encoding=encoding)

    def _bands(self, name: str) -> _Bands:
        told: Mapping[str, Any] = self._file.attrs
        wavelengths = np.ravel(told[f"List_Cw_{name}"]).astype(np.float64)
        flags = np.ravel(told.get(f"List_Cw_{name}_Flags", np.ones(len(wavelengths))))
        numbers = np.flatnonzero((wavelengths > 0) & (flags != 0))
        numbers = numbers[np.argsort(wavelengths[numbers], kind="stable")]
        low, high = (float(np.ravel(told[f"L2Scale{name}{end}"])[0]) for end in ("Min", "Max"))
        count = self._file[self._cubes[name]].shape[1]
        if count != len(wavelengths) or not len(numbers):
            raise ValueError(f"{name} has {count} bands and {len(wavelengths)} wavelengths")
        widths = np.ravel(told[f"List_Fwhm_{name}"]).astype(np.float64)
        return _Bands(name, numbers, wavelengths[numbers], widths[numbers], (high - low) / 65535, low)

    def _apart(self, vnir: _Bands, swir: _Bands) -> list[_Bands]:
        """VNIR below the first band of SWIR, and SWIR."""
        below = vnir.wavelengths < swir.wavelengths[0]
        if not below.all():
            left = vnir.wavelengths[~below]
            warnings.warn(
                f"{self._path}: VNIR and SWIR overlap: {len(left)} bands of VNIR ({left[0]:g} to {left[-1]:g} nm) are "
                f"left out, SWIR begins at {swir.wavelengths[0]:g} nm; key {self._cubes['Vnir']!r} reads all of VNIR",
                UserWarning,
                stacklevel=6,
            )
        fields = vnir._asdict() | {name: getattr(vnir, name)[below] for name in ("numbers", "wavelengths", "widths")}
        return [_Bands(**fields), swir]

    def _georeference(self, rows: int, columns: int) -> Georeference | None:
        """Of L2D: the corners are the centres of the outer pixels, as the distances between them say."""
        told = self._file.attrs

        def corners(ends: str, axis: str) -> list[float]:
            return [float(np.ravel(told[f"Product_{end}corner_{axis}"])[0]) for end in ends.split()]

        try:
            west, east = min(corners("UL LL", "easting")), max(corners("UR LR", "easting"))
            south, north = min(corners("LL LR", "northing")), max(corners("UL UR", "northing"))
            code = int(np.ravel(told["Epsg_Code"])[0])
        except KeyError as error:
            warnings.warn(f"{self._path}: has no place: {error.args[0]}", UserWarning, stacklevel=6)
            return None
        (a, c), (e, f) = _edge(west, east, columns), _edge(north, south, rows)
        return Georeference((a, 0.0, c, 0.0, e, f), f"EPSG:{code}")


def _edge(first: float, last: float, count: int) -> tuple[float, float]:
    """The step from pixel to pixel and the outer edge of the first: `first` and `last` are centres, or edges where that
    makes pixels nearer to 30 m."""
    between, within = (last - first) / max(count - 1, 1), (last - first) / count
    if abs(abs(within) - _SIDE) < abs(abs(between) - _SIDE):
        return within, first
    return between, first - between / 2
