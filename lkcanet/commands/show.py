"""`lkca show`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from . import _shared as shared
from ._drawing import Drawing
from ._fit import check_bands
from ._msi import refuse_msi
from ._options import takes_options
from ._prepared import short_names
from ._reading import Reading
from .evaluate import check_together

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
    error: Annotated[Literal["rmse", "sam"], typer.Option(help="What the error maps show.")] = "rmse",
    drawing: Drawing,
    reading: Reading,
    threads: shared.Threads = None,
) -> None:
    """Draw a scene before and after: colour, error maps, spectra of pixels, with scores.

    Axes are in the units of the file; spectra break where bands are missing. Of one network the spectra are those of
    the pixels where bicubic is farthest off, unless --pixel chooses.

    Of several networks, of the same bands, scale and training peak, the results stand side by side beside bicubic and
    the target, with error maps of one scale, and spectra where --pixel asks for them.

    Example: lkca show scene.mat -c run/best.safetensors --pixel roof=40,60 --pixel lake=200,31 --unit reflectance

    Example: lkca show scene.mat -c a/best.safetensors -c b/best.safetensors --rgb 31,98,61 --out both.png
    """
    from lkcanet.data import simulate_lowres
    from lkcanet.evaluation import before_and_after, save_figure

    shared.check_output(out, shared.FIGURES)
    shared.set_threads(threads)
    marks = drawing.marks()
    networks = [shared.Checkpointed(path, *shared.load_checkpoint(path)) for path in checkpoint]
    for path, model, _ in networks:
        refuse_msi(model, path, "show")
    if len({record.psf_sigma for _, _, record in networks}) > 1:
        raise ValueError("the networks were trained with other point spread functions: show them on their own")
    check_together(networks)
    first, model, record = networks[0]
    loaded = reading.scene_for(scene, model, record)
    for _, other, told in networks[1:]:
        check_bands(scene, loaded, other, told, None)
    loaded = record.with_wavelengths(loaded)
    shown: dict[str, Any] = {"bands": drawing.bands(loaded), "pixels": marks.pixels, "names": marks.names}
    if not lowres:  # a region of the training is in HR pixels
        region = shared.choose_region(region, first, record, loaded)
        region = shared.scored_part(region, loaded.pixels.shape, model.scale, shared.part_name(region))
    part = loaded if region is None else shared.crop(loaded, region)
    target = None if lowres else part
    small = part if target is None else simulate_lowres(target, model.scale, psf_sigma=record.psf_sigma)
    title = f"{small.name or scene.name} x{model.scale}" + ("" if region is None else f", region {region}")
    if len(networks) > 1:
        figure = _side_by_side(networks, small, target, drawing.unit, title=title, error=error, **shown)
    else:
        figure = before_and_after(model, small, target, title=title, error=error, unit=drawing.unit, **shown)
    save_figure(figure, out)
    print(out)


def _side_by_side(
    networks: Sequence[shared.Checkpointed], lowres: "Scene", target: "Scene | None", unit: str | None, **shown: Any
) -> "Figure":
    """Bicubic and what each network makes of the LR image; pixels that are not valid are left out."""
    from lkcanet.evaluation.side_by_side import results_of, seen, side_by_side
    from lkcanet.evaluation.spectra import Quantity

    names = short_names([path for path, _, _ in networks])
    models = {name: model for name, (_, model, _) in zip(names, networks, strict=True)}
    cubes = results_of(models, lowres, networks[0].model.scale, target)
    reference = None if target is None else seen(target.pixels, target.valid)
    taken = None if lowres.band_choice is None else lowres.band_choice.taken
    given = {**shown, "quantity": Quantity.of(lowres, unit), "taken": taken}
    return side_by_side(cubes, reference, wavelengths=lowres.wavelengths, **given)
