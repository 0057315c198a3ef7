"""`lkca show`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from . import _shared as shared
from ._fit import check_bands
from ._msi import refuse_msi
from ._options import takes_options
from ._prepared import short_names
from ._reading import Reading
from .evaluate import check_together, choose_region, part_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lkcanet.data import Scene


@takes_options
def show(
    scene: shared.ScenePath,
    *,
    checkpoint: Annotated[
        list[Path],
        typer.Option(
            "--checkpoint", "-c", metavar=shared.CHECKPOINT, help=f"{shared.TRAINED} Several are shown side by side."
        ),
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
    rgb: Annotated[
        str | None,
        typer.Option(metavar="R,G,B", help="Bands to show as red, green and blue, counted from 1: 31,98,61."),
    ] = None,
    reading: Reading,
    threads: shared.Threads = None,
) -> None:
    """Draw a scene before and after: false colour, error maps, spectra of pixels.

    Of several networks, of the same bands, scale and training peak, the results stand side by side beside bicubic and
    the target, with error maps of one scale.

    Example: lkca show scene.mat -c run/best.safetensors --pixel 40,60 --pixel 200,31 --out show.png

    Example: lkca show scene.mat -c a/best.safetensors -c b/best.safetensors --rgb 31,98,61 --out both.png
    """
    from lkcanet.data import simulate_lowres
    from lkcanet.evaluation import before_and_after, save_figure

    shared.check_output(out, shared.FIGURES)
    shared.set_threads(threads)
    pixels = [shared.parse_pair(text, "--pixel") for text in pixel or ()]
    networks = [shared.Checkpointed(path, *shared.load_checkpoint(path)) for path in checkpoint]
    for path, model, _ in networks:
        refuse_msi(model, path, "show")
    if pixels and len(networks) > 1:
        raise ValueError("--pixel goes with one checkpoint: spectra are drawn of one result")
    if len({record.psf_sigma for _, _, record in networks}) > 1:
        raise ValueError("the networks were trained with other point spread functions: show them on their own")
    check_together(networks)
    first, model, record = networks[0]
    loaded = reading.scene_for(scene, model, record)
    for _, other, told in networks[1:]:
        check_bands(scene, loaded, other, told, None)
    chosen = None if rgb is None else _bands(rgb, loaded.bands)
    if not lowres:  # a region of the training is in HR pixels
        region = choose_region(region, first, record, loaded)
        region = shared.scored_part(region, loaded.pixels.shape, model.scale, part_name(region))
    part = loaded if region is None else shared.crop(loaded, region)
    target = None if lowres else part
    small = part if target is None else simulate_lowres(target, model.scale, psf_sigma=record.psf_sigma)
    title = f"{small.name or scene.name} x{model.scale}" + ("" if region is None else f", region {region}")
    if len(networks) > 1:
        figure = _side_by_side(networks, small, target, bands=chosen, title=title, error=error)
    else:
        figure = before_and_after(model, small, target, pixels=pixels, title=title, error=error, bands=chosen)
    save_figure(figure, out)
    print(out)


def _bands(text: str, count: int) -> list[int]:
    """ "31,98,61" of a scene of so many bands, as indices."""
    found = [int(part) if part.strip().isdecimal() else 0 for part in text.split(",")]
    if len(found) != 3 or not all(1 <= band <= count for band in found):
        raise ValueError(f"--rgb must be three numbers from 1 to {count}, such as 3,2,1; got {text!r}")
    return [band - 1 for band in found]


def _side_by_side(
    networks: Sequence[shared.Checkpointed], lowres: "Scene", target: "Scene | None", **shown: Any
) -> "Figure":
    """Bicubic and what each network makes of the LR image; pixels that are not valid are left out."""
    from lkcanet.evaluation.side_by_side import results_of, seen, side_by_side

    names = short_names([path for path, _, _ in networks])
    models = {name: model for name, (_, model, _) in zip(names, networks, strict=True)}
    cubes = results_of(models, lowres, networks[0].model.scale, target)
    reference = None if target is None else seen(target.pixels, target.valid)
    waves = None if lowres.wavelengths is None else list(lowres.wavelengths)
    return side_by_side(cubes, reference, wavelengths=waves, **shown)
