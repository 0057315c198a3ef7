"""Which bands of a file are read."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["BandChoice", "bands_by_number", "bands_by_wavelength", "listing"]

Numbers = str | Sequence[int]
Ranges = str | Sequence[tuple[float, float]]


@dataclass(frozen=True)
class BandChoice:
    """The bands that a scene has of a file that holds more.

    Attributes:
        of: bands of the file.
        taken: the numbers of those that were taken, from 0, in the order of the scene.

    Raises:
        ValueError: a number that is not among 0 .. of - 1, or none.
    """

    of: int
    taken: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.taken or not all(0 <= band < self.of for band in self.taken):
            raise ValueError(f"taken must be numbers from 0 to {self.of - 1}, got {self.taken!r:.80}")


def bands_by_number(text: Numbers, count: int) -> np.ndarray:
    """The numbers of bands, counted from 0, that a text such as "0:130,136:" names: first:behind the last, either may
    be left out, or single ones; or a sequence of numbers. They keep the order of the text.

    Args:
        text: see above.
        count: bands of the file.

    Raises:
        ValueError: another text, a band that is not there, or one that is named twice.
    """
    if not isinstance(text, str):
        chosen = [int(band) for band in text]
    else:
        chosen = []
        for part in text.split(","):
            match = re.fullmatch(r"\s*(\d*)\s*(:?)\s*(\d*)\s*", part)
            if match is None or not any(match.groups()):
                raise ValueError(f"bands must be numbers and ranges such as 0:130,136: (from 0), got {text!r}")
            first, colon, last = match.groups()
            if not colon:
                chosen.append(int(first))
                continue
            start, stop = int(first or 0), int(last or count)
            if not start < stop <= count:
                raise ValueError(f"bands {part.strip()} must be a range within 0:{count}, the bands that there are")
            chosen += range(start, stop)
    if not chosen:
        raise ValueError("bands must name one band at least")
    missing = [band for band in chosen if not 0 <= band < count]
    if missing:
        raise ValueError(f"bands {listing(missing)} are not there: they are numbered 0 to {count - 1}")
    twice = sorted({band for band in chosen if chosen.count(band) > 1}) if len(set(chosen)) < len(chosen) else []
    if twice:
        raise ValueError(f"bands {listing(twice)} are named twice")
    return np.array(chosen)


def bands_by_wavelength(ranges: Ranges, wavelengths: np.ndarray | None) -> np.ndarray:
    """The numbers of the bands, from 0 and in the file's order, whose centre lies in one of the ranges.

    Args:
        ranges: first and last nm of each, both included: "420:1340,1450:1790", or pairs.
        wavelengths: (B,) in nm, None where the file does not tell.

    Raises:
        ValueError: another text, a range the wrong way round, no wavelengths, or no band in a range; says which.
    """
    if wavelengths is None:
        raise ValueError("wavelengths can't choose bands: the file does not tell where its bands lie; give bands")
    chosen = np.zeros(len(wavelengths), bool)
    for low, high in _pairs(ranges):
        inside = (wavelengths >= low) & (wavelengths <= high)
        if not inside.any():
            span = f"{wavelengths.min():g} to {wavelengths.max():g} nm"
            raise ValueError(f"wavelengths {low:g}:{high:g} hold no band: those of the file lie at {span}")
        chosen |= inside
    return np.flatnonzero(chosen)


def _pairs(ranges: Ranges) -> list[tuple[float, float]]:
    pairs = []
    for part in ranges.split(",") if isinstance(ranges, str) else ranges:
        try:
            low, high = (float(end) for end in (part.split(":") if isinstance(part, str) else part))
        except (TypeError, ValueError):
            low, high = 1.0, 0.0
        if not 0 < low <= high < np.inf:
            raise ValueError(f"wavelengths must be ranges in nm such as 420:1340,1450:1790, got {ranges!r}")
        pairs.append((low, high))
    return pairs


def listing(bands: Sequence[int]) -> str:
    """Numbers in short: runs as 3:6 (behind the last), of many the first and the last."""
    runs: list[list[int]] = []
    for band in bands:
        if runs and runs[-1][1] == band:
            runs[-1][1] += 1
        else:
            runs.append([band, band + 1])
    texts = [str(first) if last == first + 1 else f"{first}:{last}" for first, last in runs]
    return ", ".join(texts if len(texts) < 9 else [*texts[:7], "...", texts[-1]])


def taken_of(values: np.ndarray, bands: np.ndarray) -> np.ndarray:
    """The bands of (B, H, W) values: a view, of a memory map too, where they follow each other."""
    if not len(bands):
        return values[:0]
    first, last = int(bands[0]), int(bands[-1]) + 1
    return values[first:last] if np.array_equal(bands, np.arange(first, last)) else values[bands]
