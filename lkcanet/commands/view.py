"""`lkca view`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from . import _shared as shared
from ._drawing import Drawing
from ._options import takes_options
from ._reading import Reading


@takes_options
def view(
    scene: shared.ScenePath,
    *,
    out: Annotated[
        Path, typer.Option(help="The picture: .png, .pdf or .svg; or a page with a table of all bands: .html.")
    ] = Path("view.png"),
    drawing: Drawing,
    reading: Reading,
    region: shared.Region = None,
) -> None:
    """Look at a scene, without a network: colour, spectra, histogram, masks, and what `lkca info` says.

    Spectra are of four pixels that are unlike each other, unless --pixel chooses, over the range of all; they break
    where bands are missing. Masks show where there are no data, where a band is below zero, and where one is at the
    scene's largest value, as saturated pixels are. A page (.html) holds its pictures and opens without a network.

    Example: lkca view scene.mat --out view.html

    Example: lkca view scene.hdr --rgb 860nm,650nm,550nm --pixel lake=40,60 --unit reflectance
    """
    from lkcanet.common.pages import write_page
    from lkcanet.evaluation import quicklook, quicklook_page, save_figure

    shared.check_output(out, (*shared.FIGURES, ".html"))
    shared.check_spared([scene], out)
    marks = drawing.marks()
    loaded = reading.scene(scene, region)
    title = (loaded.name or scene.name) + ("" if region is None else f", region {region}")
    shown: dict[str, Any] = {"pixels": marks.pixels, "names": marks.names, "bands": drawing.bands(loaded)}
    shown |= {"unit": drawing.unit, "title": title}
    if out.suffix.lower() == ".html":
        write_page(out, quicklook_page(loaded, **shown))
    else:
        save_figure(quicklook(loaded, **shown), out)
    print(out)
