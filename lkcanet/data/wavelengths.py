"""Wavelengths of files in whatever unit, in nanometres."""

import re
import warnings
from collections.abc import Sequence

import numpy as np

NANOMETRES = {"nm", "nanometer", "nanometers", "nanometre", "nanometres"}
MICROMETRES = {"um", "µm", "μm", "micrometer", "micrometers", "micrometre", "micrometres", "micron", "microns"}
UNKNOWN = {"", "unknown", "none"}


def to_nanometres(values: Sequence[float], unit: str | None, where: str) -> np.ndarray | None:
    """Wavelengths in nm, float64; None, with a warning that starts with `where`, where they can't be told.

    Nanometres and micrometres are known by name. Numbers without a unit are nm where all are in 200..20000, and
    micrometres where all are in 0.2..20. Numbers in other units (wavenumbers, GHz, indices), or not all positive and
    finite, are not taken.
    """
    numbers = np.asarray(values, np.float64)
    name = (unit or "").strip().lower()
    if not (np.isfinite(numbers) & (numbers > 0)).all():
        _warn(f"{where}wavelengths are not all positive numbers: they are left out")
        return None
    if name in NANOMETRES:
        return numbers
    if name in MICROMETRES:
        return _micrometres(numbers)
    if name not in UNKNOWN:
        _warn(f"{where}wavelengths are in {unit}, neither nm nor micrometres: they are left out")
        return None
    if ((numbers >= 200) & (numbers <= 20000)).all():
        return numbers
    if ((numbers >= 0.2) & (numbers <= 20)).all():
        return _micrometres(numbers)
    low, high = numbers.min(), numbers.max()
    _warn(f"{where}wavelengths {low:g} to {high:g} have no unit and could be anything: they are left out")
    return None


def widths_in_nanometres(values: Sequence[float], unit: str | None, where: str) -> tuple[float, ...] | None:
    """Widths of bands in nm; None, with a warning that starts with `where`, where they can't be told.

    Without a unit of nm or micrometres they are micrometres where all are below 1: no sensor has bands so narrow in nm
    and none so wide in micrometres.
    """
    numbers = np.asarray(values, np.float64)
    if not (np.isfinite(numbers) & (numbers >= 0)).all():
        _warn(f"{where}fwhm are not all numbers from 0: they are left out")
        return None
    name = (unit or "").strip().lower()
    if name in MICROMETRES or (name not in NANOMETRES and numbers.max() < 1):
        numbers = _micrometres(numbers)
    elif name not in NANOMETRES | UNKNOWN:
        _warn(f"{where}fwhm are in {unit}, neither nm nor micrometres: they are left out")
        return None
    return tuple(numbers.tolist())


def from_text(text: str) -> tuple[float, str] | None:
    """A number and its unit ("" where there is none) from a text that holds nothing else, such as "705.2 nm"."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*([a-zA-Zµμ]*)\s*", text)
    if match is None or match[2].lower() not in NANOMETRES | MICROMETRES | {""}:
        return None
    return float(match[1]), match[2]


def _micrometres(numbers: np.ndarray) -> np.ndarray:
    return np.round(numbers * 1000, 9)  # 0.4005 is meant as 400.5, not as 400.50000000000006


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=4)
