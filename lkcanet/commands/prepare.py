"""`lkca prepare`."""

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from . import _shared as shared
from ._lines import command_line
from ._reading import Axes, Key


def prepare(
    protocol: Annotated[str, typer.Argument(metavar="PROTOCOL", help="chikusei, houston2018 or pavia_center.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The published image, such as a .mat file.")],
    out: Annotated[Path, typer.Option(help="Folder to make, for scene.npy and protocol.json.")],
    scale: Annotated[int, typer.Option(help="Upsampling factor r, 4 or 8: it sets the size of the patches.")] = 4,
    key: Key = None,
    axes: Axes = None,
    columns: Annotated[
        str | None,
        typer.Option(metavar="A:B,C:D", help="Columns of the file to join, where others are blank: 0:223,604:1096."),
    ] = None,
    peak: Annotated[
        float | None,
        typer.Option(help="The value that becomes 1. Default: the maximum of the cropped image, test rows included."),
    ] = None,
    validation: Annotated[
        Literal["patches", "block"],
        typer.Option(
            help="patches: 10 % of all patches at random, as the paper; they overlap training patches. block: a region "
            "that shares no pixel with training."
        ),
    ] = "patches",
    seed: Annotated[int, typer.Option(help="Of the validation patches.")] = 0,
    patches: Annotated[
        bool, typer.Option("--patches", help="Write the patches as .mat files too, as SSPSR's loaders read them.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a prepared folder that holds nothing else.")
    ] = False,
    json: shared.Json = False,
) -> None:
    """Bring a published image into a paper's protocol: crop, test images, training patches, normalisation.

    protocol.json then says exactly what was done. `lkca train` and `lkca evaluate` take the folder as a scene.

    Example: lkca prepare pavia_center Pavia.mat --out pavia && lkca train pavia --out run
    """
    from lkcanet.data.prepared import prepare as make

    done = make(
        protocol,
        file,
        out,
        scale=scale,
        key=key,
        axes=axes,
        columns=None if columns is None else _ranges(columns),
        peak=peak,
        validation=validation,
        seed=seed,
        patches=patches,
        overwrite=overwrite,
        progress=lambda line: shared.note(f"note: {line}"),
    )
    if json:
        shared.print_json({"folder": out, **done.manifest})
        return
    counts, (bands, rows, width) = done.split.counts, done.scene.pixels.shape
    held = "a block of them" if done.split.validation else "overlapping patches drawn at random"
    print(
        f"{out}: {bands} bands, {rows} x {width} pixels, peak {done.scene.peak:g} "
        f"({done.manifest['peak']['rule']}); scale {scale}\n"
        f"  test: {len(done.tests)} images of {done.tests[0].height} x {done.tests[0].width} pixels, "
        f"{done.split.test}\n"
        f"  patches of {done.split.patch} x {done.split.patch}: {counts['train']} to train, {counts['validation']} "
        f"to validate ({held})\n"
        f"next: {command_line('train', {'scene': out, 'out': Path('run')})}"
    )


def _ranges(text: str) -> list[tuple[int, int]]:
    if re.fullmatch(r"\s*\d+\s*:\s*\d+\s*(,\s*\d+\s*:\s*\d+\s*)*", text) is None:
        raise ValueError(f"--columns must be ranges such as 0:223,604:1096; got {text!r}")
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    return list(zip(numbers[::2], numbers[1::2], strict=True))
