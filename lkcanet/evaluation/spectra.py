"""Spectra of pixels, in the scene's units: lines that break where bands are missing, and marks for where they are."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from lkcanet.common.optional import require
from lkcanet.common.plots import literal, plain
from lkcanet.evaluation.pictures import check_wavelengths

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lkcanet.data.scenes import Scene
    from lkcanet.evaluation.pictures import Array, Wavelengths

__all__ = ["LETTERS", "BandAxis", "Quantity", "check_pixels", "draw_spectra", "mark_pixels", "worst_pixels"]

LETTERS = "ABCDEF"
GAP, LEAST = 4.0, 30.0  # a step of more than so many median steps, and of more nm, is a gap: bands were left out there
SMALL, MEDIUM = 9, 11  # points


class Quantity(NamedTuple):
    """What a scene's numbers are, for axes: a pixel's value times `factor`, in `unit`.

    Attributes:
        factor: the scene's peak, by which its pixels were divided.
        unit: such as "reflectance" or "counts"; None where nobody has said.
    """

    factor: float = 1.0
    unit: str | None = None

    @classmethod
    def of(cls, scene: "Scene", unit: str | None = None) -> "Quantity":
        """Of a scene: what its file says that its values are, unless `unit` does."""
        encoding = scene.encoding
        said = "" if encoding is None else "counts" if encoding.raw else encoding.units
        return cls(scene.peak, unit or said or None)

    def label(self, name: str = "Value") -> str:
        """ "Value (reflectance)"; "Value (units of the file)" where the unit is not known."""
        if self.unit is None and self.factor == 1:
            return name
        return literal(f"{name} ({self.unit or 'units of the file'})")

    def text(self, value: float) -> str:
        """A pixel's value, or a difference, in these units; a dash for nan."""
        number = value * self.factor
        return "-" if math.isnan(number) else f"{number:.0f}" if abs(number) >= 100 else f"{number:#.3g}"


@dataclass(frozen=True)
class BandAxis:
    """The horizontal axis of a spectrum.

    Attributes:
        order: bands from left to right.
        places: of these, nm or the bands' numbers from 1.
        pieces: ranges of `order` between which bands are missing.
        label: of the axis.
    """

    order: "Array"
    places: "Array"
    pieces: tuple[slice, ...]
    label: str

    @classmethod
    def of(cls, bands: int, wavelengths: "Wavelengths | None" = None, taken: Sequence[int] | None = None) -> "BandAxis":
        """Of a cube.

        A piece ends where the step to the next band is of more than 4 times the median step and of more than 30 nm: the
        bands of water vapour at 1400 and 1900 nm, which files leave out. Without wavelengths it ends where the numbers
        of the bands in their file do not follow each other.

        Args:
            bands: of the cube.
            wavelengths: nm, one a band.
            taken: the bands' numbers in the file, where these were chosen.

        Raises:
            ValueError: not a wavelength for each band, or not nm.
        """
        np = require("numpy", extra="io")
        if wavelengths is not None:
            waves = np.asarray(check_wavelengths(wavelengths, bands))
            order = np.argsort(waves, kind="stable")
            places, label = waves[order], "Wavelength (nm)"
            steps = np.diff(places)
            broken = steps > max(LEAST, GAP * float(np.median(steps))) if bands > 2 else np.zeros(bands - 1, bool)
        else:
            order, places, label = np.arange(bands), np.arange(1, bands + 1), "Band"
            broken = np.diff(order if taken is None else np.asarray(taken)) != 1
        ends = [0, *(np.flatnonzero(broken) + 1), bands]
        pieces = tuple(slice(int(a), int(b)) for a, b in pairwise(ends))
        return cls(order, places, pieces, label)

    @classmethod
    def of_scene(cls, scene: "Scene") -> "BandAxis":
        """Of a scene's bands."""
        return cls.of(scene.bands, scene.wavelengths, None if scene.band_choice is None else scene.band_choice.taken)

    def line(self, values: "Array") -> "tuple[Array, Array]":
        """x and y of a line for (B,) values, with a nan between pieces, where it is not drawn."""
        np = require("numpy", extra="io")
        ordered = np.asarray(values)[self.order].astype(float)
        x, y = [self.places[self.pieces[0]]], [ordered[self.pieces[0]]]
        for piece in self.pieces[1:]:
            x += [np.array([np.nan]), self.places[piece]]
            y += [np.array([np.nan]), ordered[piece]]
        return np.concatenate(x), np.concatenate(y)

    def draw(self, axis: "Axes", values: "Array", **style: Any) -> None:
        """A line; a piece of one band, of which no line can be seen, as a dot."""
        x, y = self.line(values)
        axis.plot(x, y, **style)
        alone = [piece.start for piece in self.pieces if piece.stop - piece.start == 1]
        if alone:
            colour = axis.lines[-1].get_color()
            axis.plot(self.places[alone], values[self.order][alone], ".", color=colour, label="_alone")

    def dress(self, axis: "Axes") -> None:
        """Label, few ticks, a grid."""
        axis.set_xlabel(self.label, fontsize=SMALL)
        axis.tick_params(labelsize=SMALL)
        axis.locator_params(axis="x", nbins=5)
        plain(axis)
        axis.margins(x=0.02)


def check_pixels(pixels: Sequence[Sequence[int]], shape: Sequence[int]) -> list[tuple[int, int]]:
    """`pixels` as (row, column); ValueError for more than 6, or one outside of an image of this (H, W)."""
    marks = [(int(row), int(column)) for row, column in pixels]
    if len(marks) > len(LETTERS) or any(not (0 <= r < shape[0] and 0 <= c < shape[1]) for r, c in marks):
        raise ValueError(f"pixels is {list(pixels)}, expected at most 6 (row, column) inside {shape[0]} x {shape[1]}")
    return marks


def mark_pixels(axis: "Axes", marks: Sequence[tuple[int, int]]) -> None:
    """A ring and a letter at each pixel, outlined so that they show on any colour; the letter stays inside."""
    outline = [require("matplotlib.patheffects", extra="io").withStroke(linewidth=3, foreground="black")]
    (_, width), (height, _) = axis.get_xlim(), axis.get_ylim()
    for number, (row, column) in enumerate(marks):
        axis.plot(column, row, "o", ms=9, mfc="none", mec="white", mew=1.3, path_effects=outline, clip_on=False)
        side = -1 if column > 0.85 * width else 1
        vertical = "top" if row < 0.1 * height else "bottom" if row > 0.9 * height else "center"
        axis.annotate(
            LETTERS[number], (column, row), xytext=(8 * side, 0), textcoords="offset points", va=vertical,
            ha="right" if side < 0 else "left", color="white", fontsize=MEDIUM, fontweight="bold", path_effects=outline,
        )  # fmt: skip


def pixel_title(number: int, mark: tuple[int, int], names: Sequence[str] = ()) -> str:
    """ "A (40, 60)", or "A roof (40, 60)"."""
    name = f" {names[number]}" if number < len(names) and names[number] else ""
    return literal(f"{LETTERS[number]}{name} ({mark[0]}, {mark[1]})")


def draw_spectra(
    axes: Sequence["Axes"],
    cubes: "Mapping[str, Array]",
    marks: Sequence[tuple[int, int]],
    bands: BandAxis,
    styles: Mapping[str, Mapping[str, Any]],
    *,
    quantity: Quantity = Quantity(),  # noqa: B008 (it is immutable)
    names: Sequence[str] = (),
) -> None:
    """One panel a pixel, one line for each cube; panels left over are removed.

    Args:
        axes: panels, one a pixel or more.
        cubes: name to (C, H, W), of one shape.
        marks: (row, column) of each pixel.
        bands: the horizontal axis.
        styles: name of a cube to what `Axes.plot` takes: colour, label and width.
        quantity: what the numbers are.
        names: what to call pixels besides their letters.
    """
    for number, (axis, (row, column)) in enumerate(zip(axes, marks, strict=False)):
        for name, cube in cubes.items():
            bands.draw(axis, cube[:, row, column] * quantity.factor, **styles[name])
        axis.set_title(pixel_title(number, (row, column), names), fontsize=MEDIUM)
        bands.dress(axis)
    for axis in axes[len(marks) :]:
        axis.remove()
    axes[0].set_ylabel(quantity.label(), fontsize=SMALL)


def worst_pixels(error: "Array", count: int) -> list[tuple[int, int]]:
    """Where `error` (H, W) is largest, first to last, each at least a quarter of the shorter side from those before."""
    np = require("numpy", extra="io")
    height, width = error.shape
    left = np.nan_to_num(error, nan=0.0)
    rows, columns = np.ogrid[:height, :width]
    edge = min(height, width) // 16  # a ring on the border would be cut
    inside = (rows >= edge) & (rows < height - edge) & (columns >= edge) & (columns < width - edge)
    left = np.where(inside, left, -1.0)
    found: list[tuple[int, int]] = []
    while len(found) < count and left.max() >= 0:
        row, column = (int(i) for i in np.unravel_index(left.argmax(), left.shape))
        found.append((row, column))
        left[(rows - row) ** 2 + (columns - column) ** 2 < (min(height, width) / 4) ** 2] = -1
        left[row, column] = -1
    return found
