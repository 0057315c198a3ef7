"""`lkca prepare`."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import _shared as shared
from ._lines import command_line
from ._reading import Axes, Key

_UNSEEN = 21  # LR pixels: the outer taps of a 7 x 7 kernel of dilation 7 lie as far from its centre

if TYPE_CHECKING:
    from lkcanet.data import PreparedSet


def prepare(
    protocol: Annotated[
        str,
        typer.Argument(
            metavar="PROTOCOL", help="chikusei, houston2018, pavia_center, cave, or folder for a set of your own."
        ),
    ],
    file: Annotated[
        Path, typer.Argument(metavar="FILE|DIR", help="The published image; of cave and folder the folder of scenes.")
    ],
    to: Annotated[Path | None, typer.Argument(metavar="OUT", help="Folder to make; or give --out.")] = None,
    *,
    out: Annotated[
        Path | None, typer.Option(help="Folder to make, for protocol.json and scene.npy, or train/ and test/.")
    ] = None,
    scale: Annotated[
        int, typer.Option(help="Upsampling factor r, 4 or 8 (of folder any): it sets the size of the patches.")
    ] = 4,
    key: Key = None,
    axes: Axes = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="A:B,C:D",
            show_default="the protocol's",
            help="Columns of the file to join, where others are blank: 0:223,604:1096.",
        ),
    ] = None,
    peak: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER|common|each",
            help="The value that becomes 1. Default: the maximum of the cropped image, test rows included. Of folder: "
            "one number for all; each: every scene's own maximum; common (default): the largest of those of the "
            "scenes that are not tested on, for all. Of cave it is the full scale of the images.",
        ),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES|FRACTION", help="Of folder, needed: the scenes to be tested on, or a share of all."
        ),
    ] = None,
    validation: Annotated[
        str | None,
        typer.Option(
            metavar="patches|block|NAMES|FRACTION|none",
            help="patches (default): 10 % of all patches at random, as the paper; they overlap training patches. "
            "block: a region that shares no pixel with training. Of a set of scenes: those of the training scenes that "
            "validate, by name or as a share, or none; default: of cave chart_and_stuffed_toy,feathers, of folder 0.1.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of validation patches or scenes that are drawn.")] = 0,
    patch: Annotated[
        int | None,
        typer.Option(
            help="Side of a training patch in LR pixels. Default: 16 in the published protocols of one image, where "
            "half of the taps of the widest kernel never see a pixel; 32 of cave and folder."
        ),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(
            help="Step between training patches in HR pixels. Default: the published one with published patches; else "
            "half a patch, or the next number without a common factor with the scale, so that patches meet every "
            "phase of the sampling."
        ),
    ] = None,
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

    Example: lkca prepare folder scenes/ set --test a,b --validation 0.1 --peak 10000
    """
    from lkcanet.data import PROTOCOLS
    from lkcanet.data.prepared import prepare as make

    if (out is None) == (to is None):
        raise ValueError("the folder to make is missing: give it after the image, or as --out, and once")
    made = out if to is None else to
    assert made is not None

    def tell(line: str) -> None:
        shared.note(f"note: {line}")

    for option, number in (("--patch", patch), ("--stride", stride)):
        if number is not None and number < 1:
            raise ValueError(f"{option} must be 1 or more, got {number}")
    common: dict[str, Any] = {"scale": scale, "seed": seed, "overwrite": overwrite, "progress": tell}
    common |= {"stride": stride} | ({} if patch is None else {"lr_size": patch})
    fixed = {"--columns": columns, "--patches": patches or None}
    if protocol == "cave":
        _refuse(protocol, {**fixed, "--key": key, "--axes": axes, "--peak": peak, "--test": test})
        _tell_set(_cave(file, made, validation, common), json)
        return
    if protocol == "folder":
        _refuse(protocol, fixed)
        reading = {"key": key, "axes": axes}
        _tell_set(_folder(file, made, test, validation, peak, {**common, **reading}), json)
        return
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, cave, folder; got {protocol!r}")
    _refuse(protocol, {"--test": test})
    done = make(
        protocol,
        file,
        made,
        key=key,
        axes=axes,
        columns=None if columns is None else _ranges(columns),
        peak=None if peak is None else _number(peak, "--peak must be a number"),
        validation="patches" if validation is None else validation,  # type: ignore[arg-type]
        patches=patches,
        **common,
    )
    if json:
        shared.print_json({"folder": made, **done.manifest})
        return
    counts, (bands, rows, width) = done.split.counts, done.scene.pixels.shape
    held = "a block of them" if done.split.validation else "overlapping patches drawn at random"
    if patch is None and done.split.patch // scale <= _UNSEEN:
        shared.note(
            f"note: patches of {done.split.patch // scale} LR pixels, step {done.split.stride}, as published: in "
            "patches of 16 half of the taps of a 7 x 7 kernel of dilation 7 never see a pixel; --patch and --stride "
            "are free"
        )
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
        common = {**common, "validation": _names_or_share(validation)}
    return prepare_cave(folder, out, **common)


def _folder(
    folder: Path, out: Path, test: str | None, validation: str | None, peak: str | None, common: dict[str, Any]
) -> "PreparedSet":
    from lkcanet.data.prepare_sets import prepare_folder

    tested = None if test is None else _names_or_share(test)
    if tested is None:
        raise ValueError("--test must name the scenes to be tested on, or be a share of all of them")
    if validation is not None:
        common = {**common, "validation": _names_or_share(validation)}
    if peak is not None:
        known = peak in ("common", "each")
        common = {**common, "peak": peak if known else _number(peak, "--peak must be a number, common or each")}
    return prepare_folder(folder, out, test=tested, **common)


def _tell_set(done: "PreparedSet", json: bool) -> None:
    """What was made."""
    if json:
        shared.print_json({"folder": done.folder, **done.manifest})
        return
    held = ", ".join(scene.name for scene in done.validation) or "none"
    following = {"scene": done.folder, "out": Path("run"), "validation": None if done.validation else "patches:0.1"}
    peak = "of their own" if done.peak is None else f"{done.peak:g}"
    print(
        f"{done.folder}: {done.bands} bands, peak {peak} ({done.manifest['peak']['rule']}), scale {done.scale}\n"
        f"  test: {len(done.test)} scenes\n"
        f"  train: {len(done.train)} scenes, in patches of {done.patch} x {done.patch} at a step of {done.stride}\n"
        f"  validation: {held}\n"
        f"next: {command_line('train', following)}"
    )


def _refuse(protocol: str, fixed: dict[str, Any]) -> None:
    for option, value in fixed.items():
        if value is not None:
            raise ValueError(f"{option} does not go with protocol {protocol}")


def _names_or_share(text: str) -> str | float | None:
    """ "0.1", "feathers,face", or "none"."""
    if text == "none":
        return None
    try:
        return float(text)
    except ValueError:
        return text


def _number(text: str, expected: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{expected}, got {text!r}") from None


def _ranges(text: str) -> list[tuple[int, int]]:
    if re.fullmatch(r"\s*\d+\s*:\s*\d+\s*(,\s*\d+\s*:\s*\d+\s*)*", text) is None:
        raise ValueError(f"--columns must be ranges such as 0:223,604:1096; got {text!r}")
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    return list(zip(numbers[::2], numbers[1::2], strict=True))
