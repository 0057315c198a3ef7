"""`lkca compress`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import _several as several
from . import _shared as shared
from ._options import takes_options
from ._progress import bar
from ._reading import Reading

if TYPE_CHECKING:
    from lkcanet.data import Scene, SuperResolutionPatches, TrainingRecord
    from lkcanet.models import Network

CALIBRATION = 64  # patches


@takes_options
def compress(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help=shared.TRAINED)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The compressed network: .safetensors.")],
    *,
    share: Annotated[
        float | None,
        typer.Option(
            help="Factor the upsampler into two convs, of the rank that holds this share of its singular "
            "values. This is the default, with 0.9."
        ),
    ] = None,
    groups: Annotated[
        int | None, typer.Option(show_default="none", help="Or: make it a conv of so many groups, as LKCA-LR has.")
    ] = None,
    rank: Annotated[
        int | None, typer.Option(show_default="none", help="Or: factor it into two convs of this rank.")
    ] = None,
    energy: Annotated[bool, typer.Option("--energy", help="--share is of the squared singular values.")] = False,
    permute: Annotated[bool, typer.Option("--permute", help="Choose which features each group gets.")] = False,
    scene: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="SCENE",
            show_default="the weights alone",
            help="Calibrate on training patches of this scene: much better, in seconds. May be repeated; or a folder "
            "of scenes, or a list (.txt): of all that trained, and none of them may fail.",
        ),
    ] = None,
    align: Annotated[int, typer.Option(metavar="STEPS", help="Then train the upsampler for so many steps.")] = 0,
    align_all: Annotated[bool, typer.Option("--align-all", help="Train all of the network in these steps.")] = False,
    learning_rate: Annotated[float, typer.Option(help="Of the alignment, at its first step.")] = 3e-4,
    floor: Annotated[
        float | None, typer.Option(help="Of its spectral angle, as in lkca train. Default: that of the training.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Patches of a step.")] = 8,
    patch: Annotated[
        int | None, typer.Option(help="Side of a patch in LR pixels; if left out, the checkpoint's, else 16.")
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(metavar="ROWS,COLUMNS", help="The test region, left unread. Default: the checkpoint's."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the order of patches.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")] = False,
    reading: Reading,
    threads: shared.Threads = None,
    json: shared.Json = False,
) -> None:
    """Give a trained network a cheaper upsampler: grouped as LKCA-LR's, or factored; no training needed.

    With a scene the approximation is the best on what reaches the upsampler there. --align then trains for a few steps
    with the paper's distillation loss, the network itself being the teacher. Regions that the checkpoint's training
    kept for test and validation are not read.

    Example: lkca compress net/best.safetensors lr.safetensors --groups 8 --scene scene.mat --align 200
    """
    import torch
    from torch.utils.data import ConcatDataset

    import lkops
    from lkcanet.deploy.compression import PatchBatches, compress_lkcanet
    from lkcanet.models import save_model
    from lkcanet.models.capabilities import compression_of

    shared.check_output(out, (".safetensors",))
    if out.exists() and not overwrite:
        raise FileExistsError(f"{out} exists: choose another name, or --overwrite")
    if align < 0:
        raise ValueError(f"--align must be 0 or more steps, got {align}")
    if not scene and align:
        raise ValueError("--align needs --scene")
    if align_all and not align:
        raise ValueError("--align-all goes with --align")
    if floor is not None and not align:
        raise ValueError("--floor goes with --align")
    shared.set_threads(threads)
    torch.manual_seed(seed)
    model, record = shared.load_able(checkpoint, compression_of)
    batches = None
    if scene:
        for option, value in (("--patch", patch), ("--batch-size", batch_size)):
            if value is not None and value < 1:
                raise ValueError(f"{option} must be 1 or more, got {value}")
        scenes = _scenes(several.scenes_of(scene), reading, model, record)
        if test is None:
            scenes = _that_trained(scenes, record)
        alone = len(scenes) == 1
        patches = [_patches(name, each, model, record, test, patch, alone=alone) for name, each in scenes]
        batches = PatchBatches(patches[0] if len(patches) == 1 else ConcatDataset(patches), batch_size, seed)
    calibration = None if batches is None else batches.calibration(CALIBRATION)
    result, report = compress_lkcanet(
        model, share=share, groups=groups, rank=rank, energy=energy, permute=permute, calibration=calibration
    )
    if not report.compressed:
        why = "; ".join(part.why for part in report.left) or "no upsampler found"
        raise ValueError(f"{checkpoint}: {why}{_choices(model)}")
    aligned: dict[str, Any] = {}
    if align and batches is not None:
        train = "all" if align_all else "upsampler"
        below = record.floor if floor is None else floor
        with bar("aligning") as draw:
            told = lkops.distill_upsampler(
                model,
                result,
                batches,
                steps=align,
                learning_rate=learning_rate,
                train=train,
                floor=below,
                progress=None if draw is None else lambda step, terms: draw(step / align, _course(step, align, terms)),
            )
        aligned = {"steps": told.steps, "trained": train, "first": told.history[0], "last": told.history[-1]}
    (part,) = report.compressed
    facts = {"from": str(checkpoint), **asdict(part), "calibrated": calibration is not None, "alignment": aligned}
    save_model(result.eval(), out, extra={**record.extra, "compression": facts})
    sizes = {"parameters": report.parameters, "macs_16x16": (model.macs(16, 16), result.macs(16, 16))}
    if json:
        shared.print_json({"out": out, **sizes, "config": result.config, "compression": facts})
        return
    (many, few), (slow, quick) = sizes["parameters"], sizes["macs_16x16"]
    print(f"upsampler: {part.before} -> {part.after}; expected error {part.error:.1%} of what it adds")
    print(f"parameters {many / 1e6:.3f} M -> {few / 1e6:.3f} M; {slow / 1e9:.3f} -> {quick / 1e9:.3f} GMAC for 16 x 16")
    if aligned:
        first, last = aligned["first"]["loss"], aligned["last"]["loss"]
        print(f"aligned in {align} steps: loss {first:.5f} -> {last:.5f}")
    print(out)


def _choices(model: "Network") -> str:
    """Which options would make the upsampler cheaper, and the parameters that the network would have."""
    from lkcanet.deploy.compression import cheaper_upsamplers

    found = cheaper_upsamplers(model)
    if found is None:
        return ""
    many = list(found.groups.items())[:4]
    options = [f"--groups {groups} makes it {total / 1e6:.3f} M" for groups, total in many]
    if found.rank:
        options.append(f"--rank 1 to {found.rank}, less than that")
    now = f"the network has {model.parameter_count() / 1e6:.3f} M parameters"
    return f": {now}; {', '.join(options)}" if options else f": {now}, and no option makes it smaller"


def _course(step: int, steps: int, terms: dict[str, float]) -> str:
    return f"step {step}/{steps}, loss {terms['loss']:.5f}"


def _scenes(
    paths: list[Path], reading: Reading, model: "Network", record: "TrainingRecord"
) -> "list[tuple[str, Scene]]":
    """What they are called in errors, and the scenes; of a prepared set those that it trains on."""
    from lkcanet.data import PreparedSet, is_prepared, load_prepared

    if len(paths) == 1 and is_prepared(paths[0]) and isinstance(made := load_prepared(paths[0]), PreparedSet):
        return [(f"{paths[0]}, {scene.name}", scene) for scene in made.train]
    return [(str(path), reading.scene_for(path, model, record)) for path in paths]


def _that_trained(scenes: "list[tuple[str, Scene]]", record: "TrainingRecord") -> "list[tuple[str, Scene]]":
    """Of several, not those that validated the training as a whole; says which."""
    held = [name for name, scene in scenes if (record.regions_among(scene) or {"train": ""})["train"] is None]
    if not held or len(held) == len(scenes):
        return scenes
    shared.note(f"note: left out, since they chose the checkpoint and did not train it: {', '.join(held)}")
    return [(name, scene) for name, scene in scenes if name not in held]


def _patches(
    name: str,
    scene: "Scene",
    model: "Network",
    record: "TrainingRecord",
    test: str | None,
    patch: int | None,
    *,
    alone: bool,
) -> "SuperResolutionPatches":
    """Training patches of a scene, where the checkpoint's training had them; errors say of which of several."""
    from lkcanet.deploy.compression import training_patches

    try:
        told = record.regions_among(scene) is not None or (record.is_of(scene) and record.test)
        if test is None and not told:
            raise ValueError(f"give --test: {scene.name!r} is not a scene that the checkpoint names a test region of")
        return training_patches(model, scene, record, test=test, lr_size=patch)
    except ValueError as error:
        if alone:
            raise
        raise ValueError(f"{name}: {error}") from error
