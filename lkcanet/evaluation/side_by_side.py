"""Several results of one scene beside each other, as papers show them: false colour, and below it error maps."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from lkcanet.common.optional import require
from lkcanet.evaluation.pictures import as_cube, display_bands, error_map, false_colour, stretch_limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from lkcanet.data import Scene
    from lkcanet.evaluation.pictures import Array, Cube
    from lkcanet.models import Network

__all__ = ["results_of", "seen", "side_by_side"]

DPI = 110


def seen(pixels: "Array", valid: "Array | None") -> "Array":
    """(C, H, W), NaN where `valid` (H, W) says that there was no data: not drawn."""
    np = require("numpy", extra="io")
    masked: Array = pixels if valid is None else np.where(valid, pixels, np.float32(np.nan))
    return masked


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
    wavelengths: "Sequence[float] | None" = None,
    error: Literal["rmse", "sam"] = "rmse",
    title: str | None = None,
) -> "Figure":
    """The target and each result in false colour, of one stretch; below each result its error, all on one scale from 0
    to the median of their 99th percentiles, with its mean.

    Args:
        results: name to (C, H, W), bicubic among them where it is wanted.
        target: (C, H, W); without one there are no error maps, and the stretch is the first result's.
        bands: three indices, shown as red, green and blue; by default `display_bands(C, wavelengths)`.
        wavelengths: nm, one a band.
        error: what the maps show, as `error_map`.
        title: above the figure.

    Raises:
        ValueError: no result, one of another shape than the target, bands that there are not.
    """
    if not results:
        raise ValueError("results is empty, expected at least one")
    np = require("numpy", extra="io")
    first = as_cube(next(iter(results.values())) if target is None else target, "target")
    cubes = {**({} if target is None else {"target": first}), **{k: as_cube(v, k) for k, v in results.items()}}
    for name, cube in cubes.items():
        if cube.shape != first.shape:
            raise ValueError(f"{name} has shape {cube.shape}, expected {first.shape}")
    chosen = display_bands(len(first), wavelengths) if bands is None else tuple(bands)
    limits = stretch_limits(first, chosen)
    rows = 1 if target is None else 2
    figure: Figure = require("matplotlib.figure", extra="io").Figure(
        figsize=(2.2 * len(cubes) + 0.8, 2.2 * rows + 0.5), dpi=DPI, layout="constrained"
    )
    axes: Any = figure.subplots(rows, len(cubes), squeeze=False)
    for (name, cube), axis in zip(cubes.items(), axes[0], strict=True):
        axis.imshow(false_colour(cube, bands=chosen, limits=limits))
        axis.set_title(name, fontsize=9)
    text = f"bands {', '.join(str(band + 1) for band in chosen)} as red, green, blue"
    if target is not None:
        axes[1][0].remove()
        errors = [error_map(cube, first, error) for name, cube in cubes.items() if name in results]
        tops = [float(np.nanpercentile(each, 99)) for each in errors if np.isfinite(each).any()]
        highest = float(np.median(tops)) if tops else 0.0  # a result that is far off must not darken all others
        highest = highest or 1.0
        for each, axis in zip(errors, axes[1][1:], strict=True):
            shown = axis.imshow(each, cmap="magma", vmin=0, vmax=highest)
            axis.set_xlabel(f"{np.nanmean(each):.2f}°" if error == "sam" else f"{np.nanmean(each):.4f}", fontsize=8)
        label = "Angle (degrees)" if error == "sam" else "RMSE over bands"
        figure.colorbar(shown, ax=list(axes[1][1:]), shrink=0.8, extend="max").set_label(label, fontsize=8)
        text += "; below: error, and its mean"
    for axis in figure.axes[: rows * len(cubes) - (rows - 1)]:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.supxlabel(text, fontsize=8)
    if title is not None:
        figure.suptitle(title, fontsize=11)
    return figure
