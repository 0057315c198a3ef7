"""`lkca show`."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from . import _shared as shared
from ._fusion import psf_of, refuse_fusion
from .evaluate import choose_region, degraded, part_name


def show(
    scene: shared.ScenePath,
    checkpoint: Annotated[
        Path, typer.Option("--checkpoint", "-c", metavar="FILE", help="A network that `lkca train` wrote.")
    ],
    out: Annotated[Path, typer.Option(help="The figure: .png, .pdf or .svg.")] = Path("show.png"),
    lowres: Annotated[bool, typer.Option("--lowres", help="SCENE is the LR image itself; there is no target.")] = False,
    region: Annotated[
        str | None,
        typer.Option(metavar="test|ROWS,COLUMNS", help="The part to show; the default is that of `lkca evaluate`."),
    ] = None,
    pixel: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROW,COLUMN", help="Draw the spectra of this HR pixel of the shown part; may be repeated."
        ),
    ] = None,
    error: Annotated[Literal["rmse", "sam"], typer.Option(help="What the error maps show.")] = "rmse",
    key: shared.Key = None,
    axes: shared.Axes = None,
    size: shared.Size = None,
    peak: shared.Peak = None,
    nodata: shared.Nodata = None,
    drop_bad_bands: shared.DropBadBands = False,
    threads: shared.Threads = None,
) -> None:
    """Draw a scene before and after: false colour, error maps, spectra of pixels.

    Example: lkca show scene.mat -c run/best.safetensors --pixel 40,60 --pixel 200,31 --out show.png
    """
    from lkcanet.data import bicubic_upsample
    from lkcanet.evaluation.figures import comparison, save_figure
    from lkcanet.inference import super_resolve

    shared.check_output(out, shared.FIGURES)
    shared.set_threads(threads)
    pixels = [shared.parse_pair(text, "--pixel") for text in pixel or ()]
    model, extra = shared.load_checkpoint(checkpoint)
    refuse_fusion(model, checkpoint, "show")
    loaded = shared.load_for(
        scene, key, axes, size, peak, None, model, extra, nodata=nodata, drop_bad_bands=drop_bad_bands
    )
    if not lowres:  # a region of the training is in HR pixels
        region = choose_region(region, checkpoint, extra, loaded)
        region = shared.scored_part(region, loaded.pixels.shape, model.scale, part_name(region))
    part = loaded if region is None else shared.crop(loaded, region)
    target, small = (None, part) if lowres else degraded(part, model.scale, psf_of(extra))
    result = super_resolve(model, small)
    valid = result.valid if target is None else target.valid
    figure = comparison(
        _seen(small.pixels, small.valid),
        _seen(bicubic_upsample(small.tensor(), model.scale)[0].numpy(), valid),
        _seen(result.pixels, valid),
        None if target is None else _seen(target.pixels, valid),
        scale=model.scale,
        wavelengths=None if small.wavelengths is None else list(small.wavelengths),
        pixels=pixels,
        title=f"{small.name or scene.name} x{model.scale}" + ("" if region is None else f", region {region}"),
        error=error,
    )
    save_figure(figure, out)
    print(out)


def _seen(pixels: Any, valid: Any) -> Any:
    """NaN where there was no data: not drawn."""
    import numpy as np

    return pixels if valid is None else np.where(valid, pixels, np.float32(np.nan))
