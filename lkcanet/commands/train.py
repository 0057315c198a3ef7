"""`lkca train`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from . import _prepared as prepared
from . import _shared as shared


def train(
    scene: shared.ScenePath,
    out: Annotated[Path, typer.Option(help="Folder for best.safetensors, last.safetensors and metrics.csv.")],
    test: Annotated[
        str | None,
        typer.Option(
            metavar="ROWS,COLUMNS",
            help="The test region, which training never reads: 0:512,320:576. Needed but for a prepared folder.",
        ),
    ] = None,
    scale: Annotated[int | None, typer.Option(help="Upsampling factor r; if left out, 4.")] = None,
    network: Annotated[
        shared.Network, typer.Option(help="lkca_net: dense upsampler; lkca_lr: of 8 groups.")
    ] = "lkca_lr",
    channels: Annotated[int, typer.Option(help="Width C of the network.")] = 128,
    blocks: Annotated[int, typer.Option(help="Large-kernel blocks n.")] = 16,
    groups: Annotated[
        int | None,
        typer.Option(help="Groups g of the upsampler, dividing C and bands * scale^2; the network's if left out."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="End after so many steps.")] = None,
    epochs: Annotated[
        int | None, typer.Option(help="End after so many passes over all patches in 8 orientations.")
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option(help="End after this time; the learning rate follows the clock where that is ahead.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Patches of a step.")] = 32,
    patch: Annotated[int | None, typer.Option(help="Side of a patch in LR pixels; if left out, 16.")] = None,
    stride: Annotated[
        int | None, typer.Option(help="Step between patches in HR pixels; if left out, about half a patch.")
    ] = None,
    train_region: Annotated[
        str | None, typer.Option(metavar="ROWS,COLUMNS", help="Train inside this rectangle only.")
    ] = None,
    validation: Annotated[
        str | None,
        typer.Option(
            metavar="FRACTION|ROWS,COLUMNS",
            help="The validation block, that chooses the best checkpoint; if left out, 0.1.",
        ),
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="Of Adam, at the start.")] = 2e-3,
    final_learning_rate: Annotated[float, typer.Option(help="Of Adam, at the end of the cosine.")] = 2e-4,
    sam_weight: Annotated[float, typer.Option(help="Weight of the spectral angle in the H loss.")] = 0.5,
    gradient_weight: Annotated[float, typer.Option(help="Weight of the gradient term in the H loss.")] = 0.1,
    gradient_clip: Annotated[float | None, typer.Option(help="Largest gradient norm.")] = None,
    drop_path: Annotated[float, typer.Option(help="Probability of dropping the last block's branch.")] = 0.1,
    augment: Annotated[bool, typer.Option(help="Rotate and mirror the patches.")] = True,
    validate_every: Annotated[int, typer.Option(help="Steps between validations and checkpoints.")] = 200,
    monitor: Annotated[Literal["mpsnr", "loss"], typer.Option(help="What makes a checkpoint the best.")] = "loss",
    precision: Annotated[str, typer.Option(help="Of Lightning: 32-true, bf16-mixed, ...")] = "32-true",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[int, typer.Option(help="Processes that load patches.")] = 0,
    seed: Annotated[int, typer.Option(help="Of weights, order of patches and drop path.")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the checkpoints of another run in OUT.")
    ] = False,
    key: shared.Key = None,
    axes: shared.Axes = None,
    size: shared.Size = None,
    peak: shared.Peak = None,
    threads: shared.Threads = None,
    json: shared.Json = False,
) -> None:
    """Train a network on one scene, on all but its test region; or on a folder of `lkca prepare`, which has its own
    test images, patches and scale.

    Ctrl-C ends it cleanly: last.safetensors holds the last step (exit code 130).

    Example: lkca train paintings/ --peak 65535 --test 0:512,320:576 --max-minutes 45 --out run
    """
    import torch

    from lkcanet import models, training

    options = training.TrainOptions(
        steps=steps,
        epochs=epochs,
        max_minutes=max_minutes,
        batch_size=batch_size,
        learning_rate=learning_rate,
        final_learning_rate=final_learning_rate,
        sam_weight=sam_weight,
        gradient_weight=gradient_weight,
        gradient_clip=gradient_clip,
        augment=augment,
        precision=precision,
        validate_every=validate_every,
        monitor=monitor,
        seed=seed,
        workers=workers,
        threads=threads,
        device=device,
    )
    loaded, split, scale = prepared.training_input(
        scene,
        test=test,
        scale=scale,
        patch=patch,
        stride=stride,
        validation=validation,
        train_region=train_region,
        key=key,
        axes=axes,
        size=size,
        peak=peak,
    )
    torch.manual_seed(seed)
    model = getattr(models, network)(
        loaded.bands,
        scale,
        channels=channels,
        blocks=blocks,
        drop_path=drop_path,
        **({} if groups is None else {"upsample_groups": groups}),
    )
    side, patch = split.patch, split.patch // scale
    counts = split.counts
    shared.note(
        f"note: {network}: {model.parameter_count() / 1e6:.3f} M parameters, {model.macs(patch, patch) / 1e9:.3f} GMAC "
        f"for {patch} x {patch}; {counts['train']} training patches of {side} x {side} pixels, "
        f"validation {prepared.held_out(split)}, test {split.test}"
    )
    result = training.train(model, loaded, split, options, out, overwrite=overwrite)
    if json:
        names = ("best", "last", "log", "steps", "seconds", "ended_by", "best_step", "bicubic", "validation")
        facts = training.describe(loaded, split, options)
        shared.print_json({**{name: getattr(result, name) for name in names}, **facts, "config": model.config})
        return
    bicubic, best = result.bicubic, result.validation
    print(
        f"{result.steps} steps in {result.seconds:.0f} s (ended by {result.ended_by}); best on validation at step "
        f"{result.best_step}:\n"
        f"  MPSNR {best['mpsnr']:.3f} dB (bicubic {bicubic['mpsnr']:.3f})   SAM {best['sam']:.3f}° "
        f"(bicubic {bicubic['sam']:.3f})   H loss {best['loss']:.5f} (bicubic {bicubic['loss']:.5f})\n"
        f"  {result.best}\n"
        f"next: lkca evaluate {scene} -c {result.best}"
    )
