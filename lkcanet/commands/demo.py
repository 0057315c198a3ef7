"""`lkca demo`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import _shared as shared

if TYPE_CHECKING:
    from rich.table import Table

    from lkcanet.benchmark.speed import OperatorSpeed

SCALE = 4


def demo(
    out: Annotated[Path, typer.Option(help="Folder for scene, checkpoints, log, result and demo.png.")] = Path("demo"),
    quick: Annotated[bool, typer.Option("--quick", help="A few seconds instead of minutes, for tests.")] = False,
    seed: Annotated[int, typer.Option(help="Of the scene and the training.")] = 0,
    threads: shared.Threads = None,
    json: shared.Json = False,
) -> None:
    """Generate a scene, train LKCA-LR on it, score the held-out part, time the operators. About three minutes.

    Exit code 1 if the network does not beat bicubic in both MPSNR and SAM.

    Example: lkca demo --out demo
    """
    start = time.perf_counter()
    shared.set_threads(threads)
    if not out.parent.is_dir():
        raise FileNotFoundError(f"{out}: the folder {out.parent} does not exist")
    out.mkdir(exist_ok=True)
    rows, training = _super_resolution(out, quick, seed)
    shared.note("[3/3] timing the operators against plain PyTorch")
    speeds = _speeds(quick)
    bicubic, network = rows.values()
    beaten = network["mpsnr"] > bicubic["mpsnr"] and network["sam"] < bicubic["sam"]
    seconds = time.perf_counter() - start
    if json:
        operators = [vars(row) for row in speeds]
        facts = {"figure": out / "demo.png", "seconds": seconds, "beats_bicubic": beaten}
        shared.print_json({"quality": rows, "training": training, "operators": operators, **facts})
    else:
        from lkcanet.evaluation.tables import metrics_table

        title = f"Quality on the held-out test region, x{SCALE}"
        shared.print_table(metrics_table(rows, title=title))
        shared.print_table(speed_table(speeds))
        print(f"{out / 'demo.png'}\n{seconds:.0f} s in all")
    if not beaten:
        shared.note(
            f"WARNING: the network does not beat bicubic: MPSNR {network['mpsnr']:.3f} against {bicubic['mpsnr']:.3f} "
            f"dB, SAM {network['sam']:.3f} against {bicubic['sam']:.3f} degrees"
        )
        raise typer.Exit(1)


def _super_resolution(out: Path, quick: bool, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train, score and draw; the scores of bicubic and of the network, and facts on the training."""
    import torch

    from lkcanet.data import bicubic_downsample, bicubic_upsample, demo_scene, region_split, write_scene
    from lkcanet.evaluation.figures import comparison, save_figure
    from lkcanet.evaluation.metrics import evaluate
    from lkcanet.inference import super_resolve
    from lkcanet.models import lkca_lr, load_model
    from lkcanet.training import TrainOptions, train

    side, bands, patch, stride = (128, 8, 32, 8) if quick else (256, 60, 64, 7)
    scene = demo_scene((side, side), bands, seed)
    write_scene(out / "scene.npy", scene)
    edge = side * 5 // 8
    # an odd stride lets patches meet every phase of the LR grid, not only that of the test region
    split = region_split(scene.pixels.shape, f":,{edge}:", patch=patch, stride=stride)
    torch.manual_seed(seed)
    model = lkca_lr(bands, SCALE, channels=32, blocks=1 if quick else 2)
    shared.note(
        f"[1/3] training LKCA-LR ({model.parameter_count():,} parameters) on columns 0 to {edge} of a generated "
        f"scene of {bands} bands, {side} x {side} pixels"
    )
    # a small network on a short course; the clock ends it on a slow machine, with the learning rate cooled down
    if quick:
        options = TrainOptions(steps=240, batch_size=4, learning_rate=3e-3, validate_every=120, seed=seed)
    else:
        options = TrainOptions(steps=1400, max_minutes=2, batch_size=8, validate_every=50, seed=seed)
    result = train(model, scene, split, options, out, overwrite=True)
    shared.note(f"[2/3] super-resolving and scoring the test region, columns {edge} to {side}")
    target = shared.crop(scene, str(split.test))
    lowres = target.shrunk(bicubic_downsample(target.tensor(), SCALE)[0].numpy(), SCALE)
    bicubic = bicubic_upsample(lowres.tensor(), SCALE)[0]
    network = super_resolve(load_model(result.best), lowres)
    write_scene(out / "super-resolved.npy", network)
    rows = {
        "bicubic": evaluate(bicubic, target.pixels, SCALE),
        "LKCA-LR": evaluate(network.pixels, target.pixels, SCALE),
    }
    figure = comparison(
        lowres.pixels,
        bicubic,
        network.pixels,
        target.pixels,
        scale=SCALE,
        wavelengths=None if scene.wavelengths is None else list(scene.wavelengths),
        title=f"LKCA-LR x{SCALE} on the held-out part of the demo scene",
    )
    save_figure(figure, out / "demo.png")
    facts = {"steps": result.steps, "seconds": result.seconds, "ended_by": result.ended_by, "best": result.best}
    return rows, facts | {"parameters": model.parameter_count()}


def _speeds(quick: bool) -> "list[OperatorSpeed]":
    from lkcanet.benchmark.speed import operator_speeds

    rows = []
    for row in operator_speeds(quick=quick):
        shared.note(f"  {row.name}: {row.ratio:.2f}x")
        rows.append(row)
    return rows


def speed_table(rows: "list[OperatorSpeed]") -> "Table":
    """The rows of `lkcanet.benchmark.speed.operator_speeds` as a rich table."""
    import torch
    from rich import box
    from rich.table import Table

    title = f"Operators, float32, CPU, {torch.get_num_threads()} threads, medians; outputs checked first"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("Operator", no_wrap=True)
    for heading in ("Input", "Backend", "Time (ms)", "Eager (ms)", "Faster", "Error"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        shape = "x".join(map(str, row.shape))
        times = (f"{row.milliseconds:.2f}", f"{row.eager_milliseconds:.2f}", f"{row.ratio:.2f}x")
        table.add_row(row.name, shape, row.backend, *times, f"{row.error:.1e}")
    return table
