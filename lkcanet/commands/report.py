"""`lkca report`."""

from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from . import _shared as shared
from ._drawing import Drawing
from ._options import takes_options
from ._reading import Reading
from ._run_images import images_of


@takes_options
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run of `lkca train` or `lkca distill`.")],
    scene: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[SCENE...]",
            help="What to score it on; default: what its training held out, of the scenes that its options name.",
        ),
    ] = None,
    *,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The page, .html; if left out, report.html in the run's folder.")
    ] = None,
    drawing: Drawing,
    reading: Reading,
    threads: shared.Threads = None,
) -> None:
    """Write one page on a run: settings, curves, scores beside bicubic's, pictures, errors by band and by brightness.

    Scores are those of the best checkpoint on the test region or the test images, where the training held some out,
    else on what validated. The scenes are read as the run read them. The page holds its pictures and opens without a
    network; it may be written while the run goes on.

    Example: lkca report run/

    Example: lkca report run/ scene.mat --pixel roof=40,60 --unit reflectance --out scene.html
    """
    from lkcanet.common.pages import write_page
    from lkcanet.training.run_files import read_run
    from lkcanet.training.run_page import Drawn, run_page

    page = run / "report.html" if out is None else out
    if run.is_dir() or out is not None:
        shared.check_output(page, (".html",))
    shared.set_threads(threads)
    marks = drawing.marks()
    read = read_run(run)
    chosen = images_of(read, scene or [], reading)
    first = next(chosen.images, None)
    text = run_page(
        read,
        () if first is None else chain([first], chosen.images),
        notes=chosen.notes,
        drawn=Drawn(marks.pixels, marks.names, None if first is None else drawing.bands(first.target), drawing.unit),
        ssim=chosen.ssim,
    )
    for note in chosen.notes:
        shared.note(note if note.startswith("warning") else f"note: {note}")
    write_page(page, text)
    print(page)
