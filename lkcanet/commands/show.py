"""`lkca show`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from . import _shared as shared
from ._msi import refuse_msi
from ._options import takes_options
from ._reading import Reading
from .evaluate import choose_region, part_name


@takes_options
def show(
    scene: shared.ScenePath,
    *,
    checkpoint: Annotated[Path, typer.Option("--checkpoint", "-c", metavar=shared.CHECKPOINT, help=shared.TRAINED)],
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
    reading: Reading,
    threads: shared.Threads = None,
) -> None:
    """Draw a scene before and after: false colour, error maps, spectra of pixels.

    Example: lkca show scene.mat -c run/best.safetensors --pixel 40,60 --pixel 200,31 --out show.png
    """
    from lkcanet.data import simulate_lowres
    from lkcanet.evaluation import before_and_after, save_figure

    shared.check_output(out, shared.FIGURES)
    shared.set_threads(threads)
    pixels = [shared.parse_pair(text, "--pixel") for text in pixel or ()]
    model, record = shared.load_checkpoint(checkpoint)
    refuse_msi(model, checkpoint, "show")
    loaded = reading.scene_for(scene, model, record)
    if not lowres:  # a region of the training is in HR pixels
        region = choose_region(region, checkpoint, record, loaded)
        region = shared.scored_part(region, loaded.pixels.shape, model.scale, part_name(region))
    part = loaded if region is None else shared.crop(loaded, region)
    target = None if lowres else part
    small = part if target is None else simulate_lowres(target, model.scale, psf_sigma=record.psf_sigma)
    title = f"{small.name or scene.name} x{model.scale}" + ("" if region is None else f", region {region}")
    save_figure(before_and_after(model, small, target, pixels=pixels, title=title, error=error), out)
    print(out)
