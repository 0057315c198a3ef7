"""Where results are wrong: by band, and by how bright a pixel is; summed over as many images as there are."""

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lkcanet.common.optional import require
from lkcanet.common.plots import COLOURS, literal, plain
from lkcanet.evaluation.pictures import as_cube, error_map
from lkcanet.evaluation.spectra import BandAxis, Quantity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lkcanet.evaluation.pictures import Cube

__all__ = ["EDGES", "ByBrightness", "ErrorSums", "draw_band_errors", "draw_brightness_errors"]

# of the root mean square over the bands, in units of the peak: finer where it is dark, as water and shadow are
EDGES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, float("inf"))
DPI = 110


class ByBrightness(NamedTuple):
    """Of each bin of brightness, (len(EDGES) - 1,) each, nan where no pixel is in it.

    Attributes:
        share: of the pixels, 0 to 1.
        rmse: over bands and pixels, units of the data.
        sam: mean angle, degrees, of the pixels whose spectra are not zero.
    """

    share: np.ndarray
    rmse: np.ndarray
    sam: np.ndarray


class ErrorSums:
    """Errors of one method over images of the same bands, of pixels that have numbers in both.

    sums = ErrorSums()
    for prediction, target in images:
        sums.add(prediction, target)
    sums.by_band()        # (B,): sqrt(mean over pixels of (x - y)^2)
    sums.by_brightness()  # the same, and SAM, of the pixels with sqrt(mean over bands of x^2) in each of EDGES' bins
    """

    def __init__(self) -> None:
        bins = len(EDGES) - 1
        self.squares: np.ndarray | None = None
        self.pixels = 0
        self.counts, self.binned, self.angles, self.angled = (np.zeros(bins) for _ in range(4))

    def add(self, prediction: "Cube", target: "Cube") -> None:
        """Count an image.

        Args:
            prediction: (B, H, W), in units of the peak.
            target: of the same shape.

        Raises:
            ValueError: of another shape, or of other bands than the images before.
        """
        y, x = as_cube(prediction, "prediction"), as_cube(target, "target")
        if y.shape != x.shape or (self.squares is not None and len(self.squares) != len(x)):
            raise ValueError(f"prediction has shape {y.shape}, expected that of target, {x.shape}, and equal bands")
        error = error_map(y, x)
        seen = np.isfinite(error)
        if self.squares is None:
            self.squares = np.zeros(len(x))
        power = np.zeros(x.shape[1:])
        for number, (a, b) in enumerate(zip(y, x, strict=True)):  # a band at a time: no float64 copy of the cube
            self.squares[number] += float(np.square(a[seen].astype(np.float64) - b[seen]).sum())
            power += np.square(b.astype(np.float64))
        self.pixels += int(seen.sum())
        brightness = np.sqrt(power[seen] / len(x))
        place = np.clip(np.digitize(brightness, EDGES) - 1, 0, len(EDGES) - 2)
        angle = error_map(y, x, "sam")[seen]
        known = np.isfinite(angle)
        bins = len(self.counts)
        self.counts += np.bincount(place, minlength=bins)
        self.binned += np.bincount(place, np.square(error[seen]), bins)
        self.angles += np.bincount(place[known], angle[known], bins)
        self.angled += np.bincount(place[known], minlength=bins)

    def by_band(self) -> np.ndarray:
        """(B,) RMSE, units of the data; nan where no pixel was counted."""
        if self.squares is None:
            raise ValueError("no image was added")
        with np.errstate(invalid="ignore"):
            return np.sqrt(self.squares / self.pixels)

    def by_brightness(self) -> ByBrightness:
        """See `ByBrightness`."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return ByBrightness(
                self.counts / max(1, self.pixels), np.sqrt(self.binned / self.counts), self.angles / self.angled
            )


def draw_band_errors(sums: Mapping[str, ErrorSums], bands: BandAxis, quantity: Quantity) -> "Figure":
    """The RMSE of each band, a line for each method, in the scene's units; lines break where bands are missing."""
    figure: Figure = require("matplotlib.figure", extra="io").Figure(figsize=(8, 4), dpi=DPI, layout="constrained")
    axis: Any = figure.subplots()
    for number, (name, errors) in enumerate(sums.items()):
        bands.draw(axis, errors.by_band() * quantity.factor, color=_colour(number), label=literal(name))
    bands.dress(axis)
    axis.set_ylabel(quantity.label("RMSE"))
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, fontsize=8)
    return figure


def draw_brightness_errors(sums: Mapping[str, ErrorSums], quantity: Quantity) -> "Figure":
    """RMSE and SAM of pixels by their brightness, a line for each method, over the share of pixels in each bin."""
    figure: Figure = require("matplotlib.figure", extra="io").Figure(figsize=(11, 4), dpi=DPI, layout="constrained")
    panels: Any = figure.subplots(1, 2)
    names = brightness_bins(quantity)
    places = np.arange(len(names))
    share = 100 * next(iter(sums.values())).by_brightness().share
    for axis, key, label in ((panels[0], "rmse", quantity.label("RMSE")), (panels[1], "sam", "SAM (°)")):
        behind = axis.twinx()
        behind.bar(places, share, color="#e4e4e4", width=0.9)
        behind.set_ylabel("Share of pixels (%)", color="#888888")
        behind.tick_params(colors="#888888")
        behind.spines[["top"]].set_visible(False)
        axis.set_zorder(behind.get_zorder() + 1)
        axis.patch.set_visible(False)
        for number, (name, errors) in enumerate(sums.items()):
            values = getattr(errors.by_brightness(), key) * (quantity.factor if key == "rmse" else 1)
            axis.plot(places, values, marker="o", markersize=4, color=_colour(number), label=literal(name))
        plain(axis)
        axis.set_xticks(places, names, rotation=40, ha="right", fontsize=8)
        axis.set_xlabel(quantity.label("Root mean square over the bands"))
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
    panels[0].legend(frameon=False, fontsize=8)
    return figure


def brightness_bins(quantity: Quantity) -> list[str]:
    """What the bins of brightness are, in the scene's units: "0-50", ..., "4000 or more"."""
    whole = EDGES[-2] * quantity.factor >= 1000
    edges = [f"{edge * quantity.factor:.0f}" if whole else f"{edge * quantity.factor:.3g}" for edge in EDGES[:-1]]
    return [*(f"{a}-{b}" for a, b in pairwise(edges)), f"{edges[-1]} or more"]


def _colour(number: int) -> str:
    """Bicubic, which is the first, is orange as in `lkcanet.evaluation.comparison`."""
    return (COLOURS[1], COLOURS[0], *COLOURS[2:])[number % len(COLOURS)]
