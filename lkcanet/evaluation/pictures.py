"""Cubes as pictures: false colour with a stretch that images can share, and maps of the error.

Cubes are (C, H, W), tensors or arrays; a batch axis of one is dropped.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from lkcanet.common.optional import require

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]
    Cube = Tensor | Array
    Wavelengths = Sequence[float] | Array

__all__ = [
    "as_cube",
    "check_bands",
    "check_wavelengths",
    "colour_note",
    "display_bands",
    "error_map",
    "false_colour",
    "stretch_limits",
]

RED_GREEN_BLUE = (640.0, 550.0, 460.0)  # nm
VISIBLE = (400.0, 700.0)  # nm


def display_bands(count: int, wavelengths: "Wavelengths | None" = None) -> tuple[int, int, int]:
    """Indices of the bands to show as red, green and blue.

    With wavelengths (nm, one a band) those nearest 640, 550 and 460 nm. Without, or where these are not three distinct
    bands or all lie outside the visible, the bands at 3/4, 1/2 and 1/4 of the range, longer wavelengths first.
    """
    if count < 1:
        raise ValueError(f"count is {count}, expected at least one band")
    order = list(range(count))
    if wavelengths is not None:
        waves = check_wavelengths(wavelengths, count)
        order.sort(key=lambda band: waves[band])
        nearest = [min(order, key=lambda band: abs(waves[band] - colour)) for colour in RED_GREEN_BLUE]
        visible = all(VISIBLE[0] <= waves[band] <= VISIBLE[1] for band in nearest)
        if visible and len(set(nearest)) == 3:
            return nearest[0], nearest[1], nearest[2]
    return order[count * 3 // 4], order[count // 2], order[count // 4]


def stretch_limits(cube: "Cube", bands: Sequence[int]) -> "Array":
    """The 2nd and 98th percentile of each of `bands`: (len(bands), 2), for `false_colour(limits=...)`."""
    np = require("numpy", extra="io")
    values = as_cube(cube, "cube")
    return np.stack([np.nanpercentile(values[_band(band, len(values))], (2, 98)) for band in bands])


def false_colour(
    cube: "Cube",
    *,
    bands: Sequence[int] | None = None,
    wavelengths: "Wavelengths | None" = None,
    limits: "Array | None" = None,
) -> "Array":
    """Three bands as red, green and blue: clip((v - low) / (high - low), 0, 1) for each, (H, W, 3) float32.

    Args:
        cube: (C, H, W).
        bands: three indices; `display_bands(C, wavelengths)` if None.
        wavelengths: nm, one a band; only used to choose bands.
        limits: (3, 2) low and high of each band; `stretch_limits(cube, bands)` if None. Share one cube's limits to
            make several images comparable. Where low = high the image is 0, and so it is
            where the cube is NaN (no data).

    Raises:
        ValueError: not a (C, H, W) cube, not three valid bands, or limits of another shape.
    """
    np = require("numpy", extra="io")
    values = as_cube(cube, "cube")
    chosen = display_bands(len(values), wavelengths) if bands is None else check_bands(bands, len(values))
    low_high = np.asarray(stretch_limits(values, chosen) if limits is None else limits, dtype=np.float32)
    if low_high.shape != (3, 2):
        raise ValueError(f"limits has shape {low_high.shape}, expected (3, 2)")
    low, high = low_high[:, 0], low_high[:, 1]
    image = np.moveaxis(values[list(chosen)], 0, -1).astype(np.float32) - low
    return np.nan_to_num(np.clip(image / np.where(high > low, high - low, np.inf), 0, 1), nan=0.0)


def colour_note(bands: Sequence[int], wavelengths: "Wavelengths | None" = None) -> str:
    """What an image of `false_colour` shows, in a sentence; "natural colour" where the bands are red, green and blue
    light."""
    if wavelengths is None:
        shown = "bands " + " / ".join(str(band + 1) for band in bands)
    else:
        shown = " / ".join(f"{float(wavelengths[band]):.0f}" for band in bands) + " nm"
    natural = wavelengths is not None and all(
        abs(float(wavelengths[band]) - colour) <= 30 for band, colour in zip(bands, RED_GREEN_BLUE, strict=True)
    )
    kind = "Natural colour" if natural else "False colour"
    return f"{kind}: {shown} as red / green / blue, each with one 2-98 % stretch for all images. Pixels: (row, column)."


def error_map(prediction: "Cube", target: "Cube", kind: Literal["rmse", "sam"] = "rmse") -> "Array":
    """Error of each pixel, (H, W) float64: RMSE over bands (units of the data) or the spectral angle (degrees).

    The angle is arccos(clamp(<x, y> / (|x| |y|), -1, 1)), and nan where a spectrum is zero.
    """
    np = require("numpy", extra="io")
    y, x = as_cube(prediction, "prediction"), as_cube(target, "target")
    if y.shape != x.shape:
        raise ValueError(f"prediction has shape {y.shape}, expected that of target, {x.shape}")
    if kind not in ("rmse", "sam"):
        raise ValueError(f"kind is {kind!r}, expected 'rmse' or 'sam'")
    dot, xx, yy, squares = (np.zeros(x.shape[1:]) for _ in range(4))
    for a, b in zip(y, x, strict=True):  # a band at a time: no float64 copy of the cube
        p, t = a.astype(np.float64), b.astype(np.float64)
        dot, xx, yy, squares = dot + p * t, xx + t * t, yy + p * p, squares + (p - t) ** 2
    if kind == "rmse":
        return np.sqrt(squares / len(x))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.degrees(np.arccos(np.clip(dot / xx * np.sqrt(xx / yy), -1, 1)))


def check_wavelengths(values: "Wavelengths", count: int) -> list[float]:
    """`values` as floats; ValueError unless there is one for each of `count` bands, in nanometres."""
    waves = [float(value) for value in values]
    if len(waves) != count:
        raise ValueError(f"wavelengths has {len(waves)} values, expected one for each of {count} bands")
    if not all(100 <= wave < math.inf for wave in waves):
        raise ValueError("wavelengths must be finite and in nanometres (at least 100)")
    return waves


def check_bands(bands: Sequence[int], count: int) -> tuple[int, int, int]:
    """`bands` as three indices of `count` bands; ValueError where they are none."""
    if len(bands) != 3:
        raise ValueError(f"bands is {bands}, expected three indices")
    return _band(bands[0], count), _band(bands[1], count), _band(bands[2], count)


def _band(index: int, count: int) -> int:
    if not 0 <= index < count:
        raise ValueError(f"bands holds {index}, expected 0 to {count - 1}")
    return int(index)


def as_cube(value: "Cube", name: str) -> "Array":
    """`value` as an array (C, H, W), float32 unless it is an array already."""
    np = require("numpy", extra="io")
    array = value.detach().cpu().float().numpy() if isinstance(value, Tensor) else np.asarray(value)
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 3 or array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}, expected non-empty (C, H, W)")
    return array
