"""Options that several commands take, and what they mean."""

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from ..common.launched import speaks
from ..common.plain_json import plain_json

if TYPE_CHECKING:
    from lkcanet import models
    from lkcanet.data import Scene, TrainingRecord


ScenePath = Annotated[
    Path,
    typer.Argument(
        metavar="SCENE", help="A .mat, .npy, .npz, ENVI, GeoTIFF, netCDF or HDF5 file, or a folder of an image a band."
    ),
]
ScenePaths = Annotated[
    list[Path],
    typer.Argument(
        metavar="SCENE...",
        help="A .mat, .npy, .npz, ENVI, GeoTIFF, netCDF or HDF5 file, or a folder of an image a band; several of them, "
        "a folder of them, or a list (.txt, a path a line).",
    ),
]
# wherever a checkpoint is taken: `load_checkpoint` reads both
CHECKPOINT, TRAINED = "FILE|NAME", "A network that `lkca train` wrote, or a name of `lkca models`."
Checkpoint = Annotated[Path | None, typer.Option("--checkpoint", "-c", metavar=CHECKPOINT, help=TRAINED)]
Region = Annotated[
    str | None,
    typer.Option(
        metavar="ROWS,COLUMNS", show_default="the whole", help="Crop to this rectangle, such as 0:512,320:576 or :,64:."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object on stdout.")]
Threads = Annotated[int | None, typer.Option(help="Threads of torch; default: torch's choice.")]
Ensemble = Annotated[
    bool,
    typer.Option("--ensemble", help="The mean over the image's eight orientations: mostly better, 8 times the work."),
]
NetworkName = Literal["lkca_lr", "lkca_net"]


def crop(scene: "Scene", region: str) -> "Scene":
    """The part of a scene inside "rows,columns"."""
    from lkcanet.data import parse_rect

    return scene.cropped(parse_rect(region, scene.pixels.shape))


def scored_part(
    region: str | None, shape: Sequence[int], scale: int, what: str, *, least: int | None = None, tell: bool = True
) -> str | None:
    """What of a region, or of a scene where it is None, is degraded and scored: see `lkcanet.data.whole_pixels`. Says
    what is left out; None where that is nothing of a scene."""
    from lkcanet.data import parse_rect, whole_pixels

    rect = parse_rect(":,:" if region is None else region, shape)
    part = whole_pixels(rect, scale, what) if least is None else whole_pixels(rect, scale, what, least=least)
    if part == rect:
        return region
    if tell:
        note(
            f"note: {what} {rect} is of {rect.height} x {rect.width} pixels: its first {part.height} x {part.width} "
            f"count, whole low-resolution pixels at scale {scale}"
        )
    return str(part)


def choose_region(region: str | None, checkpoint: Path, record: "TrainingRecord", scene: "Scene") -> str | None:
    """What --region means: 'test' is the test region of the checkpoint's training, and so is nothing where this is the
    scene of that training, as far as its name and shape tell; None is the whole scene."""
    if region == "test":
        if record.test is None:
            raise ValueError(f"{checkpoint} names no test region: give --region as rows,columns")
        return record.test
    if region is None and record.test is not None and record.is_of(scene, nameless=True):
        note(f"note: the scene has the name and shape of the training's; taking its test region, {record.test}")
        return record.test
    return region


def part_name(region: str | None) -> str:
    """How notes and errors call it."""
    return "the scene" if region is None else "the region"


def parse_pair(text: str, option: str) -> tuple[int, int]:
    """ "100,80" or "100x80"."""
    match = re.fullmatch(r"\s*(\d+)\s*[,x]\s*(\d+)\s*", text)
    if match is None:
        raise ValueError(f"{option} must be two whole numbers such as 100,80; got {text!r}")
    return int(match.group(1)), int(match.group(2))


class Checkpointed(NamedTuple):
    """A network, where it lies, and what its training recorded."""

    path: Path
    model: "models.Network"
    record: "TrainingRecord"


def load_checkpoint(path: Path) -> tuple["models.Network", "TrainingRecord"]:
    """The network and what its training recorded, of a file or of a pretrained network's name: a file that is there
    wins."""
    from lkcanet.data import TrainingRecord
    from lkcanet.models import load_model_and_extra, pretrained

    model, extra = load_model_and_extra(pretrained.locate(path))
    return model, TrainingRecord(extra, str(path))


def load_able(path: Path, ability: Callable[["models.Network"], object]) -> tuple["models.Network", "TrainingRecord"]:
    """As `load_checkpoint`, for a command that asks the network for what not all have; `ability`, of
    `lkcanet.models.capabilities`, raises where it has it not."""
    from lkcanet.models import Lacking

    model, record = load_checkpoint(path)
    try:
        ability(model)
    except Lacking as error:
        raise ValueError(f"{path}: {error}") from error
    return model, record


def fresh_network(name: str, bands: int, scale: int) -> "models.LKCANet":
    """An untrained network of the paper's size; says so."""
    import torch

    from lkcanet import models

    note(f"note: {name} is freshly made and untrained: its output is the bicubic image")
    torch.manual_seed(0)
    return getattr(models, name)(bands, scale).eval()


def set_threads(threads: int | None) -> None:
    """Limit torch's threads for the rest of the process."""
    if threads is not None:
        import torch

        if threads < 1:
            raise ValueError(f"--threads must be 1 or more, got {threads}")
        torch.set_num_threads(threads)


SCENES, FIGURES = (".npy", ".npz", ".mat", ".hdr", ".tif", ".tiff", ".nc"), (".png", ".pdf", ".svg")


def check_output(path: Path, suffixes: tuple[str, ...]) -> None:
    """Fail before the work, not after it, where the result can't be written."""
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{path}: unsupported suffix {path.suffix!r}, expected one of {', '.join(suffixes)}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder {path.parent} does not exist")


def check_spared(scenes: Sequence[Path], out: Path) -> None:
    """Raise a ValueError where writing `out` would replace one of the scenes; ENVI's data lie beside the header."""

    def files(path: Path) -> set[Path]:
        pair = path.suffix.lower() in (".hdr", ".img")
        return {path.resolve(), *(path.with_suffix(suffix).resolve() for suffix in (".hdr", ".img") if pair)}

    for scene in scenes:
        if files(scene) & files(out):
            raise ValueError(f"{out} would replace the scene {scene}: choose another name")


# what users can cause; anything else is ours, and shows its traceback
KNOWN_ERRORS = (ValueError, TypeError, OSError, RuntimeError, ArithmeticError, ImportError, MemoryError)


def note(text: str) -> None:
    """A line for the user that is not the result; of the processes of torchrun the first one's."""
    if speaks():
        print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """The result for a program: one object, numbers that are not finite as null (JSON has none)."""
    print(json.dumps(plain_json(value), indent=2, allow_nan=False))


def write_json(path: Path, value: Any) -> None:
    """What `print_json` prints, to a file that is whole or untouched."""
    from lkcanet.common.files import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(plain_json(value), indent=2, allow_nan=False) + "\n")


def print_table(table: Any) -> None:
    """A rich table on stdout, as wide as it needs to be where stdout is not a terminal."""
    from rich.console import Console

    console = Console()
    (console if console.is_terminal else Console(width=max(console.width, 120))).print(table)
