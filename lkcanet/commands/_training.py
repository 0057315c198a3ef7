"""What `lkca train` and `lkca distill` share: their options, in one place, and the way from them to a run."""

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from ..common.options import FLOOR
from . import _lines as lines
from . import _shared as shared
from ._msi import MsiOptions, PsfSigma
from ._reading import Reading

if TYPE_CHECKING:
    from lkcanet.data import Scene, Split
    from lkcanet.models import Network, Preset
    from lkcanet.objectives import Objective
    from lkcanet.training import TrainOptions

Test = Annotated[
    str | None,
    typer.Option(
        metavar="ROWS,COLUMNS",
        show_default="none",
        help="The test region, which training never reads: 0:512,320:576. Needed but for a prepared folder.",
    ),
]

LKCA_NETS = get_args(shared.NetworkName)  # the networks that --channels, --blocks, --groups and --drop-path are of


@dataclass(kw_only=True)
class Given:
    """The options of the command line, each with its help and default."""

    out: Annotated[Path, typer.Option(help="Folder for checkpoints, metrics.csv and what --resume needs.")]
    scale: Annotated[int | None, typer.Option(help="Upsampling factor r. Default: 4, or the teacher's.")] = None
    network: Annotated[shared.NetworkName, typer.Option(help="lkca_net: dense upsampler; lkca_lr: of 8 groups.")] = (
        "lkca_lr"
    )
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            show_default="that of --network",
            help="Or any other network: edlgfs, csakd-student, vdsr_lr, ... (see --set).",
        ),
    ] = None
    set: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            show_default="the network's",
            help="An argument of the network of --model, as features=32; repeatable.",
        ),
    ] = None
    objective: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE|h",
            show_default="the network's",
            help="An argument of its own loss, as teacher_counts=[2,2,1,1]; repeatable. h: the H loss in its place.",
        ),
    ] = None
    channels: Annotated[int, typer.Option(help="Width C of an LKCA-Net.")] = 128
    blocks: Annotated[int, typer.Option(help="Large-kernel blocks n of an LKCA-Net.")] = 16
    groups: Annotated[
        int | None,
        typer.Option(help="Groups g of the upsampler, dividing C and bands * scale^2; the network's if left out."),
    ] = None
    steps: Annotated[int | None, typer.Option(show_default="no end", help="End after so many steps.")] = None
    epochs: Annotated[
        int | None,
        typer.Option(show_default="no end", help="End after so many passes over all patches in 8 orientations."),
    ] = None
    max_minutes: Annotated[
        float | None,
        typer.Option(
            show_default="no end", help="End after this time; the learning rate follows the clock where that is ahead."
        ),
    ] = None
    batch_size: Annotated[int, typer.Option(help="Patches of a step, of all devices together.")] = 32
    patch: Annotated[int | None, typer.Option(help="Side of a patch in LR pixels; if left out, 16.")] = None
    stride: Annotated[
        int | None, typer.Option(help="Step between patches in HR pixels; if left out, about half a patch.")
    ] = None
    train_region: Annotated[
        str | None,
        typer.Option(
            metavar="ROWS,COLUMNS", show_default="all but the test region", help="Train inside this rectangle only."
        ),
    ] = None
    validation: Annotated[
        str | None,
        typer.Option(
            metavar="FRACTION|ROWS,COLUMNS|NAMES|patches:F",
            help="What chooses the best checkpoint: a block of this share of each scene, this part of each, whole "
            "scenes (names, with commas), or a share of the patches, drawn. Default: 0.1",
        ),
    ] = None
    one_peak: Annotated[
        bool,
        typer.Option("--one-peak", help="Divide several scenes by the largest peak, not each by its own."),
    ] = False
    init: Annotated[
        Path | None,
        typer.Option(
            metavar=shared.CHECKPOINT,
            show_default="random weights",
            help="Start from a network's weights, as far as they fit; says which don't.",
        ),
    ] = None
    optimizer: Annotated[
        Literal["adam", "muon"], typer.Option(help="muon: orthogonal steps for the weights between features.")
    ] = "adam"
    learning_rate: Annotated[float, typer.Option(help="Of the optimizer, at the start.")] = 2e-3
    final_learning_rate: Annotated[float, typer.Option(help="Of the optimizer, at the end of the cosine.")] = 2e-4
    whiten: Annotated[
        float | None,
        typer.Option(
            show_default="random weights",
            help="Start with uncorrelated features of this standard deviation, such as 0.1: learns sooner.",
        ),
    ] = None
    warmup: Annotated[int, typer.Option(help="Steps over which the learning rate rises from 0.")] = 0
    ema: Annotated[
        float | None,
        typer.Option(
            show_default="none",
            help="Validate and keep a moving average of the weights with this decay, such as 0.999.",
        ),
    ] = None
    sam_weight: Annotated[float, typer.Option(help="Weight of the spectral angle in the H loss.")] = 0.5
    gradient_weight: Annotated[float, typer.Option(help="Weight of the gradient term in the H loss.")] = 0.1
    psnr_weight: Annotated[
        float, typer.Option(help="Weight of the logarithm of each band's error, which MPSNR is, besides the H loss.")
    ] = 0.0
    floor: Annotated[
        float,
        typer.Option(
            help="A pixel's spectral angle counts by how far its root mean square over the bands is above this, in "
            "units of the scene's peak; 0: all alike, as in the paper."
        ),
    ] = FLOOR
    gradient_clip: Annotated[float | None, typer.Option(show_default="no limit", help="Largest gradient norm.")] = None
    drop_path: Annotated[float, typer.Option(help="Probability of dropping the last block's branch.")] = 0.1
    msi_options: MsiOptions
    psf_sigma: PsfSigma = None
    snr: Annotated[
        float | None, typer.Option(show_default="none", help="dB of noise that training adds to LR images.")
    ] = None
    msi_snr: Annotated[
        float | None, typer.Option(show_default="none", help="dB of noise that training adds to the MSI.")
    ] = None
    augment: Annotated[bool, typer.Option(help="Rotate and mirror the patches.")] = True
    validate_every: Annotated[int, typer.Option(help="Steps between validations and checkpoints.")] = 200
    monitor: Annotated[Literal["mpsnr", "loss"], typer.Option(help="What makes a checkpoint the best.")] = "loss"
    precision: Annotated[str, typer.Option(help="Of Lightning: 32-true, bf16-mixed, ...")] = "32-true"
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto"
    devices: Annotated[int, typer.Option(help="Train on so many devices together; on the CPU: processes.")] = 1
    workers: Annotated[int, typer.Option(help="Processes that load patches.")] = 0
    seed: Annotated[int, typer.Option(help="Of weights, order of patches and drop path.")] = 0
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Log to OUT/tensorboard too.")] = False
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the checkpoints of another run in OUT.")] = (
        False
    )
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in OUT that was interrupted; other options as then.")
    ] = False
    reading: Reading
    threads: shared.Threads = None
    json: shared.Json = False

    @property
    def name(self) -> str:
        """Of the network."""
        return self.network if self.model is None else self.model

    def options(self) -> "TrainOptions":
        from lkcanet.training import TrainOptions

        names = {field.name for field in fields(TrainOptions)} & {field.name for field in fields(self)}
        return TrainOptions(**{name: getattr(self, name) for name in names})


def says_how_to_go_on(command: Callable[..., None]) -> Callable[..., None]:
    """The command, which prints the line that resumes its run where that was interrupted."""

    @functools.wraps(command)
    def run(**values: Any) -> None:
        try:
            command(**values)
        except KeyboardInterrupt as interrupt:
            if interrupt.args:  # a run is there to go on with
                again = lines.command_line(command.__name__, {**values, "resume": True, "overwrite": False})
                shared.note(f"note: to go on: {again}")
            raise

    return run


def check_network(given: Given) -> "Preset":
    """The network that the options name; raises where they contradict each other."""
    from lkcanet.models import PRESETS

    if given.name not in PRESETS:
        raise ValueError(f"--model must be one of {', '.join(PRESETS)}; got {given.name!r}")
    preset = PRESETS[given.name]
    if given.name not in LKCA_NETS:
        own = {field.name: field.default for field in fields(given)}
        for name in ("channels", "blocks", "groups", "drop_path"):
            if getattr(given, name) != own[name]:
                option = name.replace("_", "-")
                raise ValueError(f"--{option} is of LKCA-Nets; arguments of {given.name} are given by --set NAME=VALUE")
    given.msi_options.check()
    msi, response = given.msi_options.msi, given.msi_options.response
    if preset.fuses and msi is None and response is None:
        raise ValueError(f"{given.name} fuses an MSI with the scene: give --msi FILE or --response NAME")
    if not preset.fuses:
        for option, value in (("--msi", msi), ("--response", response), ("--msi-snr", given.msi_snr)):
            if value is not None:
                raise ValueError(f"{option} goes with a fusion network, which {given.name} is not")
    return preset


def network_for(given: Given, scene: "Scene", scale: int, msi_bands: int = 0) -> "Network":
    """A fresh network of these options."""
    import torch

    preset, settings = check_network(given), parse_settings(given.set, "--set")
    if given.name in LKCA_NETS:
        own = {"channels": given.channels, "blocks": given.blocks, "drop_path": given.drop_path}
        settings = {**own, **({} if given.groups is None else {"upsample_groups": given.groups}), **settings}
    torch.manual_seed(given.seed)
    try:
        return preset.make(scene.bands, scale, msi_bands, **settings)
    except TypeError as error:  # of Python's: an argument that there is not
        raise ValueError(f"{given.name} can't be made: {error}") from error


def objective_for(given: Given, model: "Network", options: "TrainOptions") -> "Objective":
    """What these options train it on."""
    import torch

    from lkcanet import objectives

    if given.objective == ["h"]:
        return objectives.HObjective.of(options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(given.seed + 1)  # a teacher that trains along starts from the seed, too
        return objectives.objective_for(model, options, **parse_settings(given.objective, "--objective"))


def tell_what_trains(given: Given, model: "Network", splits: Sequence["Split"]) -> None:
    """A note on stderr, before a run that may take hours."""
    side = splits[0].patch // model.scale
    counts = {part: sum(split.counts[part] for split in splits) for part in splits[0].counts}
    blocks = sorted({str(split.validation) for split in splits if split.validation is not None})
    tests = sorted({str(split.test) for split in splits if split.test is not None})
    where = "" if len(splits) == 1 else f" of {sum(bool(len(split.train_origins)) for split in splits)} scenes"
    validation = f"{counts['validation']} patches drawn at random"
    if blocks:
        held = sum(split.validation is not None for split in splits)
        validation = blocks[0] if len(splits) == 1 else f"{' and '.join(blocks[:2])} of {held} scenes"
    shared.note(
        f"note: {given.name}: {model.parameter_count() / 1e6:.3f} M parameters, {model.macs(side, side) / 1e9:.3f} "
        f"GMAC for {side} x {side}; {counts['train']} training patches{where}, {side} x {side} low-resolution pixels "
        f"({splits[0].patch} x {splits[0].patch} of the scene), validation {validation}, "
        f"test {' and '.join(tests) or 'elsewhere'}"
    )


def parse_settings(texts: list[str] | None, option: str) -> dict[str, Any]:
    """ "features=32" and the like to arguments; values are JSON, or texts where they are none."""
    settings: dict[str, Any] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"{option} must be NAME=VALUE such as features=32, got {text!r}")
        try:
            settings[name] = json.loads(value)
        except ValueError:
            settings[name] = value
    return settings
