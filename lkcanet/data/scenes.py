"""A hyperspectral scene in memory: pixels divided by a normaliser that stays with them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from lkcanet.data.georeference import Georeference
from lkcanet.data.splits import Rect


def check_positive(value: Any, argument: str) -> float:
    """Return `value` as a float, or raise a ValueError naming `argument` where it is not positive and finite."""
    try:
        number = math.nan if isinstance(value, (bool, str)) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{argument} must be a positive finite number, got {value!r}")
    return number


@dataclass(frozen=True, eq=False)
class Scene:
    """A normalised scene; `pixels * peak` is what the sensor or the file gave.

    Attributes:
        pixels: (B, H, W), float32, C-contiguous: bands, rows, columns; finite; already divided by `peak`. May be a
            memory map. Below 0 (dark pixels of a corrected image) and above 1 (an explicit peak) can occur.
        peak: the normaliser, in the units of the source, positive. By default the scene's maximum.
        wavelengths: (B,) float64, the centre of each band in nm, or None where not known.
        name: what to call the scene in tables and plots.
        source: where the pixels come from: a path, or the call that generated them.
        band_names: B names, or None.
        valid: (H, W) bool, False where the sensor saw nothing; None where every pixel is valid. `pixels` hold there
            what readers fill in from the nearest valid pixel, so that no filler value bleeds into its neighbours.
        georeference: None where not known.

    Raises:
        TypeError: `pixels` is not a float32 numpy array, or `valid` not one of bool.
        ValueError: a wrong number of axes, no pixels, not contiguous, a peak that is not positive and finite,
            wavelengths that are not B positive finite numbers, not B band names, `valid` not (H, W) or nowhere true.
            Pixels are not searched for NaN here (that would read
            a whole memory map); `scene_from_array` and `read_scene` do.
    """

    pixels: np.ndarray
    peak: float
    wavelengths: np.ndarray | None = None
    name: str = ""
    source: str = ""
    band_names: tuple[str, ...] | None = None
    valid: np.ndarray | None = None
    georeference: Georeference | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.pixels, np.ndarray) or self.pixels.dtype != np.float32:
            raise TypeError(f"pixels must be a float32 numpy array, got {_describe(self.pixels)}")
        if self.pixels.ndim != 3 or 0 in self.pixels.shape:
            raise ValueError(f"pixels must be (B, H, W) with no empty axis, got shape {self.pixels.shape}")
        if not self.pixels.flags.c_contiguous:
            raise ValueError("pixels must be C-contiguous: use np.ascontiguousarray")
        object.__setattr__(self, "peak", check_positive(self.peak, "peak"))
        if self.wavelengths is not None:
            nanometres = np.array(self.wavelengths, dtype=np.float64)
            if nanometres.shape != (self.bands,) or not (np.isfinite(nanometres) & (nanometres > 0)).all():
                raise ValueError(
                    f"wavelengths must be {self.bands} positive numbers (nm), one a band, got {_describe(nanometres)}"
                )
            object.__setattr__(self, "wavelengths", nanometres)
        if self.band_names is not None:
            names = tuple(str(name) for name in self.band_names)
            if len(names) != self.bands:
                raise ValueError(f"band_names must be {self.bands} names, one a band, got {len(names)}")
            object.__setattr__(self, "band_names", names)
        if self.valid is not None:
            if not isinstance(self.valid, np.ndarray) or self.valid.dtype != np.bool_:
                raise TypeError(f"valid must be a bool numpy array, got {_describe(self.valid)}")
            if self.valid.shape != self.size or not self.valid.any():
                raise ValueError(f"valid must be {self.size} and true somewhere, got {_describe(self.valid)}")
            if self.valid.all():
                object.__setattr__(self, "valid", None)

    @property
    def bands(self) -> int:
        """B."""
        return self.pixels.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W): rows, columns."""
        return self.pixels.shape[1], self.pixels.shape[2]

    def tensor(self) -> torch.Tensor:
        """The pixels as a (1, B, H, W) float32 tensor. It shares memory with `pixels` where they can be written to."""
        pixels = self.pixels if self.pixels.flags.writeable else self.pixels.copy()
        return torch.from_numpy(np.asarray(pixels)).unsqueeze(0)

    def cropped(self, rect: Rect) -> "Scene":
        """The part inside a rectangle, with the same peak; a copy of its pixels."""
        return replace(
            self,
            pixels=np.ascontiguousarray(self.pixels[(..., *rect.slices)]),
            valid=None if self.valid is None else self.valid[rect.slices].copy(),
            georeference=self.georeference and self.georeference.shifted(rect.top, rect.left),
        )

    def enlarged(self, pixels: np.ndarray, scale: int) -> "Scene":
        """This scene with the pixels (B, scale H, scale W) of its super-resolved image: what belongs to its bands is
        kept, its transform divided by the scale; pixels inside an invalid one are invalid."""
        valid = None if self.valid is None else self.valid.repeat(scale, 0).repeat(scale, 1)
        return replace(
            self, pixels=pixels, valid=valid, georeference=self.georeference and self.georeference.scaled(scale)
        )

    def shrunk(self, pixels: np.ndarray, scale: int) -> "Scene":
        """This scene with the pixels (B, H / scale, W / scale) of its low-resolution image: valid where all of the
        scale x scale pixels are.

        Raises:
            ValueError: no pixel is valid then.
        """
        valid: np.ndarray | None = None
        if self.valid is not None:
            rows, columns = (length // scale for length in self.size)
            valid = np.all(self.valid.reshape(rows, scale, columns, scale), axis=(1, 3))
        shrunk = self.georeference and self.georeference.scaled(1 / scale)
        return replace(self, pixels=pixels, valid=valid, georeference=shrunk)


def scene_from_array(
    values: np.ndarray,
    *,
    peak: float | None = None,
    wavelengths: Sequence[float] | np.ndarray | None = None,
    name: str = "",
    source: str = "",
) -> Scene:
    """Normalise (B, H, W) values of any real dtype: pixels = values / peak, computed in float64, stored as float32.

    The default peak is the maximum of all values, as SSPSR and MSDformer divide by the maximum of the cube. Float32,
    contiguous values with peak 1 are taken as they are, without a copy.

    Args:
        values: (B, H, W) integers or floats.
        peak: the normaliser; None takes the maximum.
        wavelengths: (B,) in nm.
        name, source: see `Scene`; `source` also starts the error messages.

    Raises:
        ValueError: not real numbers, not (B, H, W), NaN or infinite pixels, no positive pixel where the peak is to be
            the maximum, a peak that is not positive and finite, a quotient too large for float32.
    """
    where = f"{source}: " if source else ""
    values = values if isinstance(values, np.ndarray) else np.asarray(values)
    if values.dtype.kind not in "iuf":
        raise ValueError(f"{where}pixels must be real integers or floats, got dtype {values.dtype}")
    if values.ndim != 3 or 0 in values.shape:
        raise ValueError(f"{where}pixels must be (bands, rows, columns), none of them 0, got shape {values.shape}")
    if values.dtype.kind == "f":
        _check_finite(values, where)
    if peak is None:
        peak = max(float(band.max()) for band in values)
        if peak <= 0:
            what = "every pixel is 0" if not any(band.any() for band in values) else f"the largest pixel is {peak:g}"
            raise ValueError(f"{where}cannot normalise by the maximum: {what}; give peak explicitly")
    peak = check_positive(peak, f"{where}peak")
    pixels = _divide(values, peak, where)
    nanometres = None if wavelengths is None else np.asarray(wavelengths)
    return Scene(pixels, peak, nanometres, name, source)


def to_bands(values: np.ndarray, axes: str, size: tuple[int, int] | None = None, *, source: str = "") -> np.ndarray:
    """Return a (bands, rows, columns) view of an array whose axes are named.

    Args:
        values: the array.
        axes: one letter an axis. For 3-D arrays any order of c (bands), h (rows), w (columns); for 2-D arrays "hw" or
            "wh" (one band), or "cp" / "pc" with p = pixels in column-major (MATLAB) order, the layout of unmixing
            papers: pixel i is row i % rows, column i // rows.
        size: (rows, columns), needed for p and only there.
        source: starts the error messages.

    Raises:
        ValueError: axes unknown or not matching the array, size missing, useless, or not matching the pixels.
    """
    where = f"{source}: " if source else ""
    letters = "".join(sorted(axes))
    if letters not in ("chw", "hw", "cp"):
        raise ValueError(
            f"{where}axes must be an order of 'chw', 'hw', 'wh', 'cp' or 'pc' "
            f"(c bands, h rows, w columns, p pixels in column-major order), got {axes!r}"
        )
    if len(axes) != values.ndim:
        raise ValueError(f"{where}axes {axes!r} do not fit shape {values.shape}{_hint(values)}")
    if axes == "chw" and size is None:
        return values  # not even a view: a memory map stays one that can be found again
    if letters != "cp":
        if size is not None:
            raise ValueError(f"{where}size goes with axes 'cp' or 'pc' only, got axes {axes!r} and size {size}")
        order = values[None] if letters == "hw" else values
        return order.transpose([("c" + axes if letters == "hw" else axes).index(letter) for letter in "chw"])
    if size is None:
        raise ValueError(f"{where}axes {axes!r} need size=(rows, columns){_hint(values)}")
    matrix = values if axes == "cp" else values.T
    rows, columns = size
    if rows < 1 or columns < 1 or rows * columns != matrix.shape[1]:
        raise ValueError(f"{where}size {size} does not make {matrix.shape[1]} pixels of shape {values.shape}")
    return matrix.reshape(matrix.shape[0], columns, rows).transpose(0, 2, 1)


def _hint(values: np.ndarray) -> str:
    """For a 2-D array: the options that would read it."""
    if values.ndim != 2:
        return ""
    axes, pixels = ("cp", values.shape[1]) if values.shape[0] <= values.shape[1] else ("pc", values.shape[0])
    side = math.isqrt(pixels)
    size = f"({side}, {side})" if side * side == pixels else "(rows, columns)"
    return f"; if it is (bands, pixels) or its transpose, try axes={axes!r}, size={size}; for one band, axes='hw'"


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return type(value).__name__


def _check_finite(values: np.ndarray, where: str) -> None:
    """Band by band, so that a memory map larger than the memory passes."""
    count, first = 0, None
    for index, band in enumerate(values):
        bad = ~np.isfinite(band)
        if bad.any():
            first = first or (index, *(int(i) for i in np.argwhere(bad)[0]))
            count += int(bad.sum())
    if first is not None:
        raise ValueError(
            f"{where}{count} of {values.size} pixels are NaN or infinite, "
            f"the first at band {first[0]}, row {first[1]}, column {first[2]}"
        )


def _divide(values: np.ndarray, peak: float, where: str) -> np.ndarray:
    if peak == 1 and values.dtype == np.float32 and values.flags.c_contiguous:
        return values
    pixels = np.empty(values.shape, np.float32)
    with np.errstate(over="ignore", under="ignore"):
        for band, quotient in zip(values, pixels, strict=True):
            np.divide(band, peak, out=quotient, dtype=np.float64, casting="unsafe")
            if not np.isfinite(quotient).all():
                raise ValueError(f"{where}pixels / peak is too large for float32 with peak {peak:g}")
    return pixels
