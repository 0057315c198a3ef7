"""Pictures of cubes and of a super-resolved scene beside bicubic and the target; no display and no global state.

Cubes are (C, H, W), tensors or arrays; a batch axis of one is dropped. Figures are matplotlib `Figure` objects made
without pyplot, so nothing here opens a window or keeps a figure alive.
"""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lkcanet.common.files import atomic_path
from lkcanet.common.optional import require
from lkcanet.common.plots import literal
from lkcanet.evaluation.pictures import (
    as_cube,
    colour_note,
    display_bands,
    error_map,
    false_colour,
    stretch_limits,
)
from lkcanet.evaluation.side_by_side import results_of, scores_text, seen
from lkcanet.evaluation.spectra import BandAxis, Quantity, check_pixels, draw_spectra, mark_pixels, worst_pixels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure, SubFigure

    from lkcanet.data.scenes import Scene
    from lkcanet.evaluation.pictures import Array, Cube, Wavelengths
    from lkcanet.models import Network

__all__ = [
    "before_and_after",
    "comparison",
    "display_bands",
    "error_map",
    "false_colour",
    "save_figure",
    "stretch_limits",
]

# Okabe and Ito's palette, told apart by colour-blind readers too; the lines differ in style as well
STYLES: dict[str, dict[str, Any]] = {
    "target": {"label": "Target", "color": "#000000", "linewidth": 2.2},
    "bicubic": {"label": "Bicubic", "color": "#e69f00", "linewidth": 1.5, "linestyle": (0, (4, 1.5))},
    "prediction": {"label": "Super-resolved", "color": "#0072b2", "linewidth": 1.5},
}
NAMES = {"lowres": "Low resolution", **{name: style["label"] for name, style in STYLES.items()}}
WIDTH = 12.8  # inches; 1600 pixels at 125 dpi
DPI = 125
SMALL, MEDIUM, LARGE = 9, 11, 14  # points


def comparison(
    lowres: "Cube",
    bicubic: "Cube",
    prediction: "Cube",
    target: "Cube | None" = None,
    *,
    scale: int,
    wavelengths: "Wavelengths | None" = None,
    pixels: Sequence[tuple[int, int]] = (),
    title: str | None = None,
    error: Literal["rmse", "sam"] = "rmse",
    bands: Sequence[int] | None = None,
    quantity: Quantity = Quantity(),  # noqa: B008 (it is immutable)
    names: Sequence[str] = (),
    taken: Sequence[int] | None = None,
) -> "Figure":
    """False colour of low resolution, bicubic, prediction and target; error maps; spectra of a few pixels.

    Bicubic and prediction have their MPSNR and SAM below them, over the pixels that are not NaN; spectra and error maps
    are in the units of the scene, and spectra break where bands are missing.

    All false-colour images share the bands and the stretch of the target (of bicubic without one); both error maps
    share one colour scale from 0 to the 99.5th percentile of the two. Without a target there are no error maps.

    Args:
        lowres: (C, H, W), shown enlarged without interpolation.
        bicubic, prediction, target: (C, scale H, scale W).
        scale: upsampling factor, a positive int.
        wavelengths: nm, one a band; without them spectra are drawn over the band's number.
        pixels: (row, column) in high resolution, at most 6; by default 2 (3 without a target) far-apart places where
            bicubic differs most from the target (from the prediction without one).
        title: line above the figure; names the scale if None.
        error: what the maps show, as `error_map`.
        bands: three indices to show as red, green and blue; `display_bands` chooses if None.
        quantity: what the numbers of axes are; the cubes' own by default.
        names: what to call `pixels` besides A, B, ...
        taken: numbers of the bands in their file, where these were chosen: without wavelengths, spectra break where
            they do not follow each other.

    Raises:
        ValueError: shapes that don't fit, a pixel outside the image, more than 6 pixels, `scale` or `error` unknown.
    """
    if isinstance(scale, bool) or not isinstance(scale, int) or scale < 1:
        raise ValueError(f"scale is {scale!r}, expected a positive int")
    cubes: dict[str, Array] = {"lowres": as_cube(lowres, "lowres"), "bicubic": as_cube(bicubic, "bicubic")}
    cubes["prediction"] = as_cube(prediction, "prediction")
    if target is not None:
        cubes["target"] = as_cube(target, "target")
    count, *small = cubes["lowres"].shape
    expected = (count, small[0] * scale, small[1] * scale)
    for name, cube in cubes.items():
        if name != "lowres" and cube.shape != expected:
            raise ValueError(f"{name} has shape {cube.shape}, expected {expected} for lowres x{scale}")
    shape = expected[1:]
    best = "prediction" if target is None else "target"
    axis_of_bands = BandAxis.of(count, wavelengths, taken)
    marks = check_pixels(pixels, shape)
    marks = marks or worst_pixels(error_map(cubes["bicubic"], cubes[best], error), 3 if target is None else 2)

    # heights of the two rows in inches: the images' own (a title above), then error maps and spectra
    cell = WIDTH / len(cubes) - 0.15
    spectra_rows = 1 if len(marks) <= (3 if target is None else 2) else 2
    heights = [min(1.6 * cell, cell * shape[0] / shape[1]) + 0.4]
    heights.append(max(heights[0], 2.6 if spectra_rows == 1 else 4.4) if target is not None else 2.6 * spectra_rows)
    figure: Figure = require("matplotlib.figure", extra="io").Figure(
        figsize=(WIDTH, sum(heights) + 0.9), dpi=DPI, layout="constrained"
    )
    parts: Any = figure.subfigures(2, 1, height_ratios=heights)
    top, bottom = parts
    image_axes = list(top.subplots(1, len(cubes), squeeze=False)[0])
    spectra_figure: SubFigure = bottom
    if target is not None:
        halves: Any = bottom.subfigures(1, 2)
        spectra_figure = halves[1]
        stacked = shape[0] < 0.45 * shape[1]  # wide strips above one another fill the space better
        error_axes = list(halves[0].subplots(*((2, 1) if stacked else (1, 2))))
        shown = _draw_errors(error_axes, cubes, error, quantity)
        place = {"ax": error_axes} if stacked else {"cax": error_axes[1].inset_axes((1.03, 0, 0.045, 1))}
        bar = halves[0].colorbar(shown, extend="max", **place)
        bar.set_label(quantity.label("RMSE") if error == "rmse" else "Angle (degrees)", fontsize=SMALL)
        bar.ax.tick_params(labelsize=SMALL)
        image_axes += error_axes

    chosen = display_bands(count, wavelengths) if bands is None else tuple(bands)
    limits = stretch_limits(cubes["bicubic" if target is None else "target"], chosen)
    extent = (-0.5, shape[1] - 0.5, shape[0] - 0.5, -0.5)
    for axis, (name, cube) in zip(image_axes, cubes.items(), strict=False):
        interpolation = "nearest" if name == "lowres" else "auto"
        axis.imshow(false_colour(cube, bands=chosen, limits=limits), extent=extent, interpolation=interpolation)
        axis.set_title(f"{NAMES[name]} ({cube.shape[2]} x {cube.shape[1]})", fontsize=MEDIUM)
        if target is not None and name in ("bicubic", "prediction"):
            axis.set_xlabel(scores_text(cube, cubes["target"]), fontsize=SMALL)
    for axis in image_axes:
        axis.set_xticks([])
        axis.set_yticks([])
    for axis in image_axes[1:]:
        mark_pixels(axis, marks)

    grid = spectra_figure.subplots(spectra_rows, math.ceil(len(marks) / spectra_rows), squeeze=False).ravel()
    large = {name: cubes[name] for name in STYLES if name in cubes}
    draw_spectra(list(grid), large, marks, axis_of_bands, STYLES, quantity=quantity, names=names)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower right", ncols=len(labels), fontsize=MEDIUM, frameon=False)
    figure.suptitle(literal(title or f"Super-resolution x{scale}"), fontsize=LARGE, fontweight="bold")
    figure.supxlabel(colour_note(chosen, wavelengths), fontsize=SMALL, x=0.01, ha="left", color="#444444")
    return figure


def before_and_after(
    model: "Network",
    lowres: "Scene",
    target: "Scene | None" = None,
    *,
    pixels: Sequence[tuple[int, int]] = (),
    title: str | None = None,
    error: Literal["rmse", "sam"] = "rmse",
    bands: Sequence[int] | None = None,
    unit: str | None = None,
    names: Sequence[str] = (),
) -> "Figure":
    """`comparison` of a low-resolution scene, its bicubic image, and what a network makes of it.

    Args:
        model: a network that takes no MSI, of the scene's bands.
        lowres: the scene that it super-resolves, see `lkcanet.data.simulate_lowres`.
        target: of `model.scale` times the rows and columns, where it is known.
        pixels, title, error, bands, names: as for `comparison`.
        unit: of the scene's values, such as "reflectance".

    Returns:
        The figure; pixels that are not valid (in the target, else in `lowres`) are left out of it.

    Raises:
        ValueError: as `comparison` and `lkcanet.inference.super_resolve`.
    """
    bicubic, result = results_of({"result": model}, lowres, model.scale, target).values()
    return comparison(
        seen(lowres.pixels, lowres.valid),
        bicubic,
        result,
        None if target is None else seen(target.pixels, target.valid),
        scale=model.scale,
        wavelengths=lowres.wavelengths,
        pixels=pixels,
        title=title,
        error=error,
        bands=bands,
        quantity=Quantity.of(lowres, unit),
        names=names,
        taken=None if lowres.band_choice is None else lowres.band_choice.taken,
    )


def save_figure(figure: "Figure", path: str | os.PathLike[str], *, dpi: float = DPI) -> Path:
    """Write `figure` in the format of the path's suffix (.png, .pdf, .svg), whole or not at all; returns the path.

    Raises:
        ValueError: no suffix, or one that matplotlib can't write.
        OSError: the folder is missing or can't be written.
    """
    target = Path(path)
    formats = figure.canvas.get_supported_filetypes()
    if target.suffix.lstrip(".").lower() not in formats:
        raise ValueError(f"path is {str(target)!r}, expected a suffix among {', '.join(sorted(formats))}")
    with atomic_path(target) as temporary:
        figure.savefig(temporary, dpi=dpi)
    return target


def _draw_errors(
    axes: Sequence["Axes"], cubes: Mapping[str, "Array"], error: Literal["rmse", "sam"], quantity: Quantity
) -> "ScalarMappable":
    """The error maps of bicubic and prediction on one colour scale, which is returned."""
    np = require("numpy", extra="io")
    factor = quantity.factor if error == "rmse" else 1.0
    maps = {name: factor * error_map(cubes[name], cubes["target"], error) for name in ("bicubic", "prediction")}
    finite = np.concatenate([values[np.isfinite(values)] for values in maps.values()])
    highest = float(np.percentile(finite, 99.5)) if finite.size else 0.0
    for axis, (name, values) in zip(axes, maps.items(), strict=True):
        shown = axis.imshow(values, cmap="magma", vmin=0, vmax=highest or 1.0)
        axis.set_title(f"{NAMES[name]}: error", fontsize=MEDIUM)
        mean = float(np.nanmean(values)) / factor
        axis.set_xlabel(f"mean {mean:.2f}°" if error == "sam" else f"mean {quantity.text(mean)}", fontsize=SMALL)
    return shown
