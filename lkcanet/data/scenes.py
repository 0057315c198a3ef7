"""A hyperspectral scene in memory: pixels divided by a normaliser that stays with them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from lkcanet.data.bands import BandChoice, bands_by_number, taken_of
from lkcanet.data.encoding import Encoding
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


@dataclass(frozen=True, eq=False, repr=False)
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
        band_choice: which bands of the file it was read from these are; None: all, or not from a file. It is not
            written to files: the bands of a written scene are its own.
        encoding: how the file that it was read from holds its values; None: not known. Writers of formats for images
            with units (GeoTIFF, ENVI) write such a file again.

    Raises:
        TypeError: `pixels` is not a float32 numpy array, or `valid` not one of bool.
        ValueError: a wrong number of axes, no pixels, not contiguous, a peak that is not positive and finite,
            wavelengths that are not B positive finite numbers, not B band names, `valid` not (H, W) or nowhere true.
            Pixels are not searched for NaN here (that would read a whole memory map); `scene_from_array` and
            `read_scene` do.
    """

    pixels: np.ndarray
    peak: float
    wavelengths: np.ndarray | None = None
    name: str = ""
    source: str = ""
    band_names: tuple[str, ...] | None = None
    valid: np.ndarray | None = None
    georeference: Georeference | None = None
    band_choice: BandChoice | None = None
    encoding: Encoding | None = None

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
        if self.band_choice is not None and len(self.band_choice.taken) != self.bands:
            raise ValueError(f"band_choice must take {self.bands} bands, it takes {len(self.band_choice.taken)}")
        if self.encoding is not None:
            self.encoding.check_bands(self.bands)

    @property
    def bands(self) -> int:
        """B."""
        return self.pixels.shape[0]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(B, H, W): bands, rows, columns."""
        return (self.bands, *self.size)

    def __repr__(self) -> str:
        bands, rows, columns = self.shape
        return f"<Scene {self.name!r}: {bands} bands, {rows} x {columns} pixels, peak {self.peak:g}>"

    def __str__(self) -> str:
        nanometres, place = self.wavelengths, self.georeference
        units = "" if self.encoding is None or not self.encoding.units else f" {self.encoding.units}"
        of = "" if self.band_choice is None else f" of {self.band_choice.of}"
        span = "" if nanometres is None else f", {nanometres.min():g} to {nanometres.max():g} nm"
        invalid = 0.0 if self.valid is None else 1 - float(self.valid.mean())
        return "\n".join(
            [
                f"Scene {self.name!r}, {self.source or 'of no file'}",
                f"  bands   {self.bands}{of}{span}",
                f"  pixels  {self.size[0]} x {self.size[1]}, {invalid:.1%} without data",
                f"  peak    {self.peak:g}{units}, the value that is 1 here",
                f"  place   {'not known' if place is None else place.told()}",
            ]
        )

    @property
    def size(self) -> tuple[int, int]:
        """(H, W): rows, columns."""
        return self.pixels.shape[1], self.pixels.shape[2]

    def tensor(self) -> torch.Tensor:
        """The pixels as a (1, B, H, W) float32 tensor. It shares memory with `pixels` where they can be written to."""
        pixels = self.pixels if self.pixels.flags.writeable else self.pixels.copy()
        return torch.from_numpy(np.asarray(pixels)).unsqueeze(0)

    def with_bands(self, bands: Sequence[int] | np.ndarray) -> "Scene":
        """These bands, numbers from 0, in this order, with the same peak; the scene itself where they are all of it, a
        view of its pixels where they follow each other, else a copy.

        Raises:
            ValueError: a band that is not there or named twice, or none.
        """
        chosen = bands_by_number([int(band) for band in bands], self.bands)
        if np.array_equal(chosen, np.arange(self.bands)):
            return self
        before = range(self.bands) if self.band_choice is None else self.band_choice.taken
        of = self.bands if self.band_choice is None else self.band_choice.of
        names = self.band_names
        return replace(
            self,
            pixels=taken_of(self.pixels, chosen),
            wavelengths=None if self.wavelengths is None else self.wavelengths[chosen],
            band_names=None if names is None else tuple(names[band] for band in chosen),
            band_choice=BandChoice(of, tuple(before[band] for band in chosen)),
            encoding=self.encoding and self.encoding.of_bands(chosen),
        )

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


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return type(value).__name__
