"""Spectral responses: what the bands of a multispectral sensor see of a hyperspectral scene."""

import csv
import itertools
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["RESPONSES", "SpectralResponse", "named_response", "read_response"]


@dataclass(frozen=True)
class SpectralResponse:
    """Bands of a multispectral sensor, as ranges, as curves, or as groups of neighbouring bands.

    Attributes:
        name: what to call it.
        band_names: one a band.
        ranges: (low, high) in nm, both included: a band is the plain mean of the scene's bands whose centres lie in it.
            Empty where there are curves or groups.
        nanometres, curves: sampled curves, b lists of as many numbers as `nanometres`: a band is the mean of the
            scene's bands, weighted by its curve at their centres, interpolated linearly, and 0 outside.
        Without any of these a band is the mean of a group of neighbouring bands of the scene; the groups are as equal
        as can be (numpy.array_split), and need no wavelengths.
    """

    name: str
    band_names: tuple[str, ...]
    ranges: tuple[tuple[float, float], ...] = ()
    nanometres: tuple[float, ...] = ()
    curves: tuple[tuple[float, ...], ...] = ()

    @property
    def bands(self) -> int:
        """b."""
        return len(self.band_names)

    def weights(self, bands: int, wavelengths: np.ndarray | None, scene: str = "the scene") -> np.ndarray:
        """(b, B) float64, each row summing to 1, for a scene of these bands; `scene` is its name in errors.

        Raises:
            ValueError: there are no wavelengths and they are needed, or a band sees none of the scene's.
        """
        if not self.ranges and not self.curves:
            if bands < self.bands:
                raise ValueError(f"response {self.name} makes {self.bands} bands of {scene}, which has only {bands}")
            groups = np.array_split(np.arange(bands), self.bands)
            return np.stack([np.isin(np.arange(bands), group) / len(group) for group in groups])
        if wavelengths is None:
            raise ValueError(
                f"response {self.name} needs wavelengths, and {scene} has none: take a format that holds them, or "
                "average-4, which averages groups of neighbouring bands"
            )
        rows = []
        for index, name in enumerate(self.band_names):
            if self.ranges:
                low, high = self.ranges[index]
                row = ((wavelengths >= low) & (wavelengths <= high)).astype(np.float64)
                where = f"{low:g} to {high:g} nm"
            else:
                row = np.interp(wavelengths, self.nanometres, self.curves[index], left=0.0, right=0.0)
                where = f"within {self.nanometres[0]:g} to {self.nanometres[-1]:g} nm"
            if not row.sum() > 0:
                spans = f"{wavelengths.min():g} to {wavelengths.max():g} nm"
                raise ValueError(f"band {name} of response {self.name}, {where}, sees no band of {scene} ({spans})")
            rows.append(row / row.sum())
        return np.stack(rows)

    def centres(self, wavelengths: np.ndarray | None, bands: int) -> np.ndarray | None:
        """(b,) in nm: the middle of a range, or the mean wavelength of what a band sees; None where not known."""
        if self.ranges:
            return np.array([(low + high) / 2 for low, high in self.ranges])
        return None if wavelengths is None else self.weights(bands, wavelengths) @ wavelengths


_TM = {"TM1": (450, 520), "TM2": (520, 600), "TM3": (630, 690), "TM4": (770, 900), "TM5": (1550, 1750),
       "TM7": (2090, 2350)}  # fmt: skip


def _landsat(name: str, bands: Sequence[str]) -> SpectralResponse:
    return SpectralResponse(name, tuple(bands), tuple((float(_TM[band][0]), float(_TM[band][1])) for band in bands))


# ranges as CSAKD prints them (section IV-A); the sensor's own band 4 begins at 760 nm
RESPONSES = {
    "landsat-tm-4": _landsat("landsat-tm-4", ("TM1", "TM2", "TM3", "TM4")),
    "landsat-tm-6": _landsat("landsat-tm-6", tuple(_TM)),
}


def named_response(text: str) -> SpectralResponse:
    """A built-in response, "average-4" (of 4 groups of neighbouring bands, or another number), or a CSV file.

    Built in are landsat-tm-4, Landsat TM 1 to 4 (450-520, 520-600, 630-690, 770-900 nm), and landsat-tm-6, TM 1 to 5
    and 7 (1550-1750 and 2090-2350 nm too).

    Raises:
        ValueError: none of these; what `read_response` raises.
        FileNotFoundError: the file is not there.
    """
    if text in RESPONSES:
        return RESPONSES[text]
    if match := re.fullmatch(r"average-([1-9]\d{0,3})", text):
        return SpectralResponse(text, tuple(f"mean {i + 1}" for i in range(int(match[1]))))
    if not text.lower().endswith(".csv"):
        raise ValueError(f"a response is {', '.join(RESPONSES)}, average-N such as average-4, or a .csv; got {text!r}")
    return read_response(text)


def read_response(path: str | os.PathLike[str]) -> SpectralResponse:
    """A response from a CSV file with a line of headings, wavelengths in nm; one of

        name,low,high                 a line a band: its range
        wavelength,NAME,NAME,...      a line a wavelength, ascending: each band's response there, 0 or more

    Raises:
        FileNotFoundError: no such file.
        ValueError: another heading, a line of other length, numbers that are none, an empty range, no band.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no response at {path}")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [[cell.strip() for cell in line] for line in csv.reader(file) if any(map(str.strip, line))]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no CSV file: {error}") from error
    head = [cell.lower() for cell in lines[0]] if lines else []
    if head != ["name", "low", "high"] and (len(head) < 2 or head[0] != "wavelength"):
        raise ValueError(f"{path}: the first line must be name,low,high or wavelength,NAME,...; got {','.join(head)!r}")
    if len(lines) < 2:
        raise ValueError(f"{path} holds no band")
    ranged = head[0] == "name"
    numbers = [_numbers(path, line, len(head), skip=ranged) for line in lines[1:]]
    if ranged:
        for line, (low, high) in zip(lines[1:], numbers, strict=True):
            if not 0 < low < high:
                raise ValueError(f"{path}: band {line[0]} must have 0 < low < high, got {low:g} and {high:g}")
        return SpectralResponse(path.stem, tuple(line[0] for line in lines[1:]), tuple((a, b) for a, b in numbers))
    nanometres, *curves = zip(*numbers, strict=True)
    if any(b <= a for a, b in itertools.pairwise(nanometres)) or nanometres[0] <= 0:
        raise ValueError(f"{path}: wavelengths must be positive and ascending")
    if min(map(min, curves)) < 0:
        raise ValueError(f"{path}: responses must be 0 or more")
    return SpectralResponse(path.stem, tuple(lines[0][1:]), nanometres=tuple(nanometres), curves=tuple(curves))


def _numbers(path: Path, line: list[str], length: int, *, skip: bool) -> list[float]:
    try:
        numbers = [float(cell) for cell in (line[1:] if skip else line)]
    except ValueError:
        numbers = [math.nan]
    if len(line) != length or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{path}: expected {length} cells, numbers all{' but the first' if skip else ''}; got {line}")
    return numbers
