"""Spectra from the bands of one sensor to those of another: weights that are an approximation by nature."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

__all__ = ["resampling_weights", "seen", "spacings"]


def spacings(wavelengths: Sequence[float] | np.ndarray) -> np.ndarray:
    """(B,) float64: the distance of each band to the nearest one of another wavelength, in nm. Of a single band it is
    10 nm, a common width."""
    nanometres = np.asarray(wavelengths, np.float64)
    distinct, place = np.unique(nanometres, return_inverse=True)
    if len(distinct) == 1:
        return np.full(len(nanometres), 10.0)
    steps = np.concatenate([[np.inf], np.diff(distinct), [np.inf]])
    return np.minimum(steps[:-1], steps[1:])[place]


def seen(source: Sequence[float] | np.ndarray, target: Sequence[float] | np.ndarray) -> np.ndarray:
    """(C,) bool: which bands of the target lie within the source's range, and half a spacing of its end bands."""
    known, wanted = (np.asarray(each, np.float64) for each in (source, target))
    half = spacings(known) / 2
    low, high = known.argmin(), known.argmax()
    return (wanted >= known[low] - half[low]) & (wanted <= known[high] + half[high])


def resampling_weights(
    source: Sequence[float] | np.ndarray,
    target: Sequence[float] | np.ndarray,
    *,
    outside: Literal["nearest", "zero"] = "nearest",
) -> np.ndarray:
    """W, (C, B) float64, so that W s is the spectrum s, known at B wavelengths `source`, at the C wavelengths `target`.

    Between two bands of the source: linear interpolation. Where the source is denser than the target, so that three or
    more of its bands lie within a target band's spacing h of its centre m, the value at m of a straight line fitted to
    them by least squares in triangular weights max(0, 1 - |l - m| / h): it averages their noise, as a sensor's band of
    full width h at half maximum does, and is exact where the spectrum is straight. Spectra of the same wavelengths stay
    as they are, exactly.

    Args:
        source, target: in nm, in any order.
        outside: what target bands get that lie outside the source's range: the value of its nearest band; or with
            "zero" nothing, beyond half a spacing of the end band, within which it is the nearest band's.

    Raises:
        ValueError: wavelengths that are not positive and finite, or none.

    Source: linear interpolation of band centres is what spectral resampling does where responses are not known; the
    triangle stands for the unknown response of the target band. The local straight line: Cleveland, J. Am. Stat. Assoc.
    74 (1979).
    """
    known, wanted = (np.asarray(each, np.float64) for each in (source, target))
    for name, each in (("source", known), ("target", wanted)):
        if each.ndim != 1 or not len(each) or not (np.isfinite(each) & (each > 0)).all():
            raise ValueError(f"{name} must be positive wavelengths in nm, one or more; got {each!r:.120}")
    order = np.argsort(known, kind="stable")
    weights = np.zeros((len(wanted), len(known)))
    within = seen(known, wanted)
    for row, (centre, width) in enumerate(zip(wanted, spacings(wanted), strict=True)):
        if outside == "zero" and not within[row]:
            continue
        distance = known - centre
        triangle = np.clip(1 - np.abs(distance) / width, 0, None)
        if known[order[0]] <= centre <= known[order[-1]] and np.unique(known[triangle > 0]).size >= 3:
            weights[row] = _line(distance, triangle)
        else:
            weights[row] = _between(known, order, centre)
    return weights


def _line(distance: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weights of each value in the height at 0 of the line fitted to all."""
    total, first, second = (float((weight * distance**power).sum()) for power in range(3))
    return weight * (second - first * distance) / (total * second - first**2)


def _between(known: np.ndarray, order: np.ndarray, centre: float) -> np.ndarray:
    """Linear interpolation between the two bands around; beyond the ends the end band's value."""
    row = np.zeros(len(known))
    place = np.interp(centre, known[order], np.arange(len(known)))  # bands of equal wavelength: the last of them
    low = min(int(place), len(known) - 1)
    share = place - low
    row[order[low]] = 1 - share
    if share:
        row[order[low + 1]] = share
    return row
