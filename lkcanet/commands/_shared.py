"""Options that several commands take, and what they mean."""

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from lkcanet import models
    from lkcanet.data import Scene


ScenePath = Annotated[
    Path,
    typer.Argument(
        metavar="SCENE", help="A .mat, .npy, .npz, ENVI or GeoTIFF file, or a folder of single-band PNG images."
    ),
]
Checkpoint = Annotated[
    Path | None, typer.Option("--checkpoint", "-c", metavar="FILE", help="A network that `lkca train` wrote.")
]
Key = Annotated[str | None, typer.Option(help="The variable of a .mat or .npz file.")]
Axes = Annotated[
    str | None,
    typer.Option(help="Order of its axes, such as hwc: c bands, h rows, w columns; cp or pc: pixel lists."),
]
Size = Annotated[
    str | None, typer.Option(metavar="ROWS,COLUMNS", help="Of the image, for pixel lists (--axes cp, pc).")
]
Peak = Annotated[
    float | None, typer.Option(help="The value that becomes 1. Default: the checkpoint's, else the scene's maximum.")
]
Region = Annotated[
    str | None, typer.Option(metavar="ROWS,COLUMNS", help="Crop to this rectangle, such as 0:512,320:576 or :,64:.")
]
Nodata = Annotated[
    float | None,
    typer.Option(help="The value of pixels without data (nan too). Default: what the file declares."),
]
DropBadBands = Annotated[
    bool, typer.Option("--drop-bad-bands", help="Leave out the bands that an ENVI header marks as bad.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object on stdout.")]
Threads = Annotated[int | None, typer.Option(help="Threads of torch; default: torch's choice.")]
Network = Literal["lkca_lr", "lkca_net"]


def load_scene(
    path: Path,
    key: str | None,
    axes: str | None,
    size: str | None,
    peak: float | None,
    region: str | None = None,
    *,
    nodata: float | None = None,
    drop_bad_bands: bool = False,
) -> "Scene":
    """Read a scene with the options of the command line; crop it. A prepared folder is its scene."""
    from lkcanet.data import is_prepared, load_prepared, read_scene
    from lkcanet.data.prepared import SCENE

    if is_prepared(path):
        load_prepared(path)  # raises where the manifest and the scene don't belong together
        path = path / SCENE
    scene = read_scene(
        path,
        key=key,
        axes=axes,
        size=None if size is None else parse_pair(size, "--size"),
        peak=peak,
        nodata=nodata,
        bad_bands="drop" if drop_bad_bands else "keep",
    )
    return scene if region is None else crop(scene, region)


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


def parse_pair(text: str, option: str) -> tuple[int, int]:
    """ "100,80" or "100x80"."""
    match = re.fullmatch(r"\s*(\d+)\s*[,x]\s*(\d+)\s*", text)
    if match is None:
        raise ValueError(f"{option} must be two whole numbers such as 100,80; got {text!r}")
    return int(match.group(1)), int(match.group(2))


def load_checkpoint(path: Path) -> tuple["models.Network", dict[str, Any]]:
    """The network and what its training recorded, as far as commands rely on it."""
    from lkcanet.data.scenes import check_positive
    from lkcanet.models import load_model_and_extra

    model, extra = load_model_and_extra(path)
    if extra.get("peak") is not None:
        check_positive(extra["peak"], f"{path}: the peak in its metadata")
    for name in ("scene", "split"):
        if extra.get(name) is None:
            extra.pop(name, None)
        elif not isinstance(extra[name], dict):
            raise ValueError(f"{path}: {name} in its metadata must be an object, got {extra[name]!r:.80}")
    test = extra.get("split", {}).get("test")
    if test is not None and not isinstance(test, str):
        raise ValueError(f"{path}: the test region in its metadata must be a text, got {test!r:.80}")
    return model, extra


def floor_of(extra: dict[str, Any]) -> float:
    """The floor under the spectral angle that a checkpoint was trained with; the default where it does not say."""
    from lkcanet.training import TrainOptions

    return float(extra.get("options", {}).get("floor", TrainOptions.floor))


def load_able(path: Path, ability: Callable[["models.Network"], object]) -> tuple["models.Network", dict[str, Any]]:
    """As `load_checkpoint`, for a command that asks the network for what not all have; `ability`, of
    `lkcanet.models.capabilities`, raises where it has it not."""
    from lkcanet.models import Lacking

    model, extra = load_checkpoint(path)
    try:
        ability(model)
    except Lacking as error:
        raise ValueError(f"{path}: {error}") from error
    return model, extra


def load_for(
    path: Path,
    key: str | None,
    axes: str | None,
    size: str | None,
    peak: float | None,
    region: str | None,
    model: "models.Network",
    extra: dict[str, Any],
    *,
    nodata: float | None = None,
    drop_bad_bands: bool = False,
) -> "Scene":
    """A scene for a network: divided by the peak of its training unless another is given; bands checked."""
    peaks = extra.get("peak") if peak is None else peak
    scene = load_scene(path, key, axes, size, peaks, region, nodata=nodata, drop_bad_bands=drop_bad_bands)
    if scene.bands != model.bands:
        raise ValueError(f"{path} has {scene.bands} bands, the network takes {model.bands}")
    if peak is None and "peak" in extra and not 0.02 < float(scene.pixels.max()) < 4:
        note(
            f"warning: the scene reaches {float(scene.pixels.max()):.3g} after division by the peak of the checkpoint, "
            f"{scene.peak:g}: give --peak"
        )
    return scene


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


SCENES, FIGURES = (".npy", ".npz", ".mat", ".hdr", ".tif", ".tiff"), (".png", ".pdf", ".svg")


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


def error_text(error: Exception) -> str:
    """What went wrong, in a line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}{f': {error.filename}' if error.filename else ''}"
    if isinstance(error, MemoryError):
        return f"out of memory {error}"
    # torch appends where in its C++ it was raised
    return str(error).partition("Exception raised from ")[0].strip() or type(error).__name__


def note(text: str) -> None:
    """A line for the user that is not the result."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """The result for a program: one object, numbers that are not finite as null (JSON has none)."""
    print(json.dumps(_plain(value), indent=2, allow_nan=False))


def write_json(path: Path, value: Any) -> None:
    """What `print_json` prints, to a file that is whole or untouched."""
    from lkcanet.common.files import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(_plain(value), indent=2, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def print_table(table: Any) -> None:
    """A rich table on stdout, as wide as it needs to be where stdout is not a terminal."""
    from rich.console import Console

    console = Console()
    (console if console.is_terminal else Console(width=max(console.width, 120))).print(table)
