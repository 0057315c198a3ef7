"""`lkca prepare`."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import _shared as shared
from ._lines import command_line
from ._reading import Axes, Key

if TYPE_CHECKING:
    from lkcanet.data import PreparedSet


def prepare(
    protocol: Annotated[str, typer.Argument(metavar="PROTOCOL", help="chikusei, houston2018, pavia_center, or cave.")],
    file: Annotated[Path, typer.Argument(metavar="FILE|DIR", help="The published image; of cave the folder.")],
    to: Annotated[Path | None, typer.Argument(metavar="OUT", help="Folder to make; or give --out.")] = None,
    *,
    out: Annotated[
        Path | None, typer.Option(help="Folder to make, for protocol.json and scene.npy, or train/ and test/.")
    ] = None,
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
        str | None,
        typer.Option(
            metavar="patches|block|NAMES|FRACTION|none",
            help="patches (default): 10 % of all patches at random, as the paper; they overlap training patches. "
            "block: a region that shares no pixel with training. Of a set of scenes: those of the training scenes that "
            "validate, by name or as a share, or none; of cave by default chart_and_stuffed_toy,feathers.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of validation patches or scenes that are drawn.")] = 0,
    patches: Annotated[
        bool, typer.Option("--patches", help="Write the patches as .mat files too, as SSPSR's loaders read them.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a prepared folder that holds nothing else.")
    ] = False,
    json: shared.Json = False,
) -> None:
    """Bring a published image, or set of scenes, into a paper's protocol: test images, training patches,
    normalisation.

    protocol.json then says exactly what was done. `lkca train` and `lkca evaluate` take the folder as a scene.

    Example: lkca prepare pavia_center Pavia.mat --out pavia && lkca train pavia --out run

    Example: lkca prepare cave complete_ms_data cave4 --scale 4
    """
    from lkcanet.data.prepared import prepare as make

    if (out is None) == (to is None):
        raise ValueError("the folder to make is missing: give it after the image, or as --out, and once")
    made = out if to is None else to
    assert made is not None

    def tell(line: str) -> None:
        shared.note(f"note: {line}")

    common: dict[str, Any] = {"scale": scale, "seed": seed, "overwrite": overwrite, "progress": tell}
    if protocol == "cave":
        fixed = {"--key": key, "--axes": axes, "--columns": columns, "--peak": peak, "--patches": patches or None}
        for option, value in fixed.items():
            if value is not None:
                raise ValueError(f"{option} does not go with protocol cave, which fixes it")
        tell_set(_cave(file, made, validation, common), json)
        return
    done = make(
        protocol,
        file,
        made,
        key=key,
        axes=axes,
        columns=None if columns is None else _ranges(columns),
        peak=peak,
        validation="patches" if validation is None else validation,  # type: ignore[arg-type]
        patches=patches,
        **common,
    )
    if json:
        shared.print_json({"folder": made, **done.manifest})
        return
    counts, (bands, rows, width) = done.split.counts, done.scene.pixels.shape
    held = "a block of them" if done.split.validation else "overlapping patches drawn at random"
    print(
        f"{made}: {bands} bands, {rows} x {width} pixels, peak {done.scene.peak:g} "
        f"({done.manifest['peak']['rule']}); scale {scale}\n"
        f"  test: {len(done.tests)} images of {done.tests[0].height} x {done.tests[0].width} pixels, "
        f"{done.split.test}\n"
        f"  patches of {done.split.patch} x {done.split.patch}: {counts['train']} to train, {counts['validation']} "
        f"to validate ({held})\n"
        f"next: {command_line('train', {'scene': made, 'out': Path('run')})}"
    )


def _cave(folder: Path, out: Path, validation: str | None, common: dict[str, Any]) -> "PreparedSet":
    from lkcanet.data.prepare_sets import prepare_cave

    if validation is not None:
        common = {**common, "validation": None if validation == "none" else _names_or_share(validation)}
    return prepare_cave(folder, out, **common)


def tell_set(done: "PreparedSet", json: bool) -> None:
    """What was made."""
    if json:
        shared.print_json({"folder": done.folder, **done.manifest})
        return
    held = ", ".join(scene.name for scene in done.validation) or "none"
    print(
        f"{done.folder}: {done.bands} bands, scale {done.scale}\n"
        f"  test: {len(done.test)} scenes\n"
        f"  train: {len(done.train)} scenes, in patches of {done.patch} x {done.patch} at a step of {done.stride}\n"
        f"  validation: {held}\n"
        f"next: {command_line('train', {'scene': done.folder, 'out': Path('run')})}"
    )


def _names_or_share(text: str) -> list[str] | float:
    """ "0.1", or "feathers,face"."""
    try:
        return float(text)
    except ValueError:
        return [name.strip() for name in text.split(",") if name.strip()]


def _ranges(text: str) -> list[tuple[int, int]]:
    if re.fullmatch(r"\s*\d+\s*:\s*\d+\s*(,\s*\d+\s*:\s*\d+\s*)*", text) is None:
        raise ValueError(f"--columns must be ranges such as 0:223,604:1096; got {text!r}")
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    return list(zip(numbers[::2], numbers[1::2], strict=True))
