"""Several results of one scene beside each other, as papers show them: colour with scores, error maps, spectra."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from lkcanet.common.optional import require
from lkcanet.common.plots import COLOURS, literal
from lkcanet.evaluation.metrics import mpsnr, sam
from lkcanet.evaluation.pictures import as_cube, display_bands, error_map, false_colour, stretch_limits
from lkcanet.evaluation.spectra import BandAxis, Quantity, check_pixels, draw_spectra, mark_pixels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from lkcanet.data import Scene
    from lkcanet.evaluation.pictures import Array, Cube, Wavelengths
    from lkcanet.models import Network

__all__ = ["results_of", "scores_text", "seen", "side_by_side"]

DPI = 110


def seen(pixels: "Array", valid: "Array | None") -> "Array":
    """(C, H, W), NaN where `valid` (H, W) says that there was no data: not drawn."""
    np = require("numpy", extra="io")
    masked: Array = pixels if valid is None else np.where(valid, pixels, np.float32(np.nan))
    return masked


def scores_text(cube: "Array", target: "Array") -> str:
    """ "MPSNR 38.02 dB, SAM 3.37°" of (C, H, W) arrays in units of the peak, over the pixels that have numbers in
    both; "" where there are none."""
    np = require("numpy", extra="io")
    valid = np.isfinite(cube).all(0) & np.isfinite(target).all(0)
    if not valid.any():
        return ""
    cube, target = (each.astype(np.float32) if each.dtype.kind != "f" else each for each in (cube, target))
    return f"MPSNR {mpsnr(cube, target, valid=valid):.2f} dB, SAM {sam(cube, target, valid=valid):.2f}°"


def results_of(
    networks: "Mapping[str, Network]",
    lowres: "Scene",
    scale: int,
    target: "Scene | None" = None,
    msi: "Scene | None" = None,
) -> "dict[str, Array]":
    """What bicubic and networks make of a low-resolution scene, (C, r H, r W) by name, "bicubic" first; NaN where the
    target, or without one the scene, is not valid.

    Args:
        networks: of the scene's bands and of `scale`.
        lowres: see `lkcanet.data.simulate_lowres`.
        scale: r.
        target: of r times the rows and columns, where it is known.
        msi: for networks that fuse; others don't see it.
    """
    from lkcanet.data.degrade import bicubic_upsample
    from lkcanet.inference import super_resolve

    bicubic = lowres.enlarged(bicubic_upsample(lowres.tensor(), scale)[0].numpy(), scale)
    scenes = {"bicubic": bicubic} | {
        name: super_resolve(model, lowres, msi=msi if model.msi_bands else None) for name, model in networks.items()
    }
    valid = bicubic.valid if target is None else target.valid
    return {name: seen(scene.pixels, valid) for name, scene in scenes.items()}


def side_by_side(
    results: "Mapping[str, Cube]",
    target: "Cube | None" = None,
    *,
    bands: "Sequence[int] | None" = None,
    wavelengths: "Wavelengths | None" = None,
    error: Literal["rmse", "sam"] = "rmse",
    title: str | None = None,
    pixels: "Sequence[tuple[int, int]]" = (),
    names: "Sequence[str]" = (),
    quantity: Quantity = Quantity(),  # noqa: B008 (it is immutable)
    taken: "Sequence[int] | None" = None,
) -> "Figure":
    """The target and each result in false colour, of one stretch, with its MPSNR and SAM; below each result its error,
    all on one scale from 0 to the median of their 99th percentiles, with its mean; below them spectra.

    Args:
        results: name to (C, H, W), bicubic among them where it is wanted.
        target: (C, H, W); without one there are no scores and error maps, and the stretch is the first result's.
        bands: three indices, shown as red, green and blue; by default `display_bands(C, wavelengths)`.
        wavelengths: nm, one a band.
        error: what the maps show, as `error_map`.
        title: above the figure.
        pixels: (row, column), at most 6, whose spectra are drawn; none by default.
        names: what to call them besides A, B, ...
        quantity, taken: as for `lkcanet.evaluation.comparison`.

    Raises:
        ValueError: no result, one of another shape than the target, bands or pixels that there are not.
    """
    if not results:
        raise ValueError("results is empty, expected at least one")
    first = as_cube(next(iter(results.values())) if target is None else target, "target")
    cubes = {**({} if target is None else {"target": first}), **{k: as_cube(v, k) for k, v in results.items()}}
    for name, cube in cubes.items():
        if cube.shape != first.shape:
            raise ValueError(f"{name} has shape {cube.shape}, expected {first.shape}")
    marks = check_pixels(pixels, first.shape[1:])
    chosen = display_bands(len(first), wavelengths) if bands is None else tuple(bands)
    limits = stretch_limits(first, chosen)
    rows = 1 if target is None else 2
    width, height = 2.2 * len(cubes) + 0.8, 2.2 * rows + 0.5
    figure: Figure = require("matplotlib.figure", extra="io").Figure(
        figsize=(max(width, 3.2 * len(marks)), height + (2.6 if marks else 0)), dpi=DPI, layout="constrained"
    )
    part: Any = figure
    if marks:
        parts: Any = figure.subfigures(2, 1, height_ratios=[height, 2.6])
        part, below = parts
        styles = {name: {"label": literal(name), "color": _colour(name, number)} for number, name in enumerate(cubes)}
        panels = list(below.subplots(1, len(marks), squeeze=False)[0])
        draw_spectra(
            panels, cubes, marks, BandAxis.of(len(first), wavelengths, taken), styles, quantity=quantity, names=names
        )
        below.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=8,
                     frameon=False)  # fmt: skip
    axes: Any = part.subplots(rows, len(cubes), squeeze=False)
    for (name, cube), axis in zip(cubes.items(), axes[0], strict=True):
        axis.imshow(false_colour(cube, bands=chosen, limits=limits))
        axis.set_title(literal(name), fontsize=9)
        mark_pixels(axis, marks)
        if target is not None and name in results:
            axis.set_xlabel(scores_text(cube, first), fontsize=8)
    text = f"bands {', '.join(str(band + 1) for band in chosen)} as red, green, blue"
    if target is not None:
        axes[1][0].remove()
        _draw_errors(part, axes[1][1:], {name: cubes[name] for name in results}, first, error, quantity)
        text += "; below: error, and its mean"
    for axis in [*axes[0], *(axes[1][1:] if target is not None else ())]:
        axis.set_xticks([])
        axis.set_yticks([])
    part.supxlabel(text, fontsize=8)
    if title is not None:
        figure.suptitle(literal(title), fontsize=11)
    return figure


def _colour(name: str, number: int) -> str:
    return "#000000" if name == "target" else COLOURS[number % len(COLOURS)]


def _draw_errors(
    part: Any,
    axes: "Sequence[Any]",
    cubes: "Mapping[str, Array]",
    target: "Array",
    error: Literal["rmse", "sam"],
    quantity: Quantity,
) -> None:
    """An error map for each result, and their colour bar."""
    np = require("numpy", extra="io")
    factor = quantity.factor if error == "rmse" else 1.0
    errors = [error_map(cube, target, error) for cube in cubes.values()]
    tops = [float(np.nanpercentile(each, 99)) for each in errors if np.isfinite(each).any()]
    highest = float(np.median(tops)) if tops else 0.0  # a result that is far off must not darken all others
    for each, axis in zip(errors, axes, strict=True):
        shown = axis.imshow(factor * each, cmap="magma", vmin=0, vmax=factor * (highest or 1.0))
        mean = float(np.nanmean(each))
        axis.set_xlabel(f"{mean:.2f}°" if error == "sam" else quantity.text(mean), fontsize=8)
    label = "Angle (degrees)" if error == "sam" else quantity.label("RMSE over bands")
    part.colorbar(shown, ax=list(axes), shrink=0.8, extend="max").set_label(label, fontsize=8)
