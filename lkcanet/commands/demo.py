"""`lkca demo`."""

import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import _shared as shared
from ._speeds import speed_table

if TYPE_CHECKING:
    from lkops.bench import OperatorSpeed


def demo(
    out: Annotated[Path, typer.Option(help="Folder for scene, checkpoints, log, result and demo.png.")] = Path("demo"),
    quick: Annotated[bool, typer.Option("--quick", help="A few seconds instead of minutes, for tests.")] = False,
    seed: Annotated[int, typer.Option(help="Of the scene and the training.")] = 0,
    threads: shared.Threads = None,
    json: shared.Json = False,
) -> None:
    """Generate a scene, train LKCA-LR on it, score the held-out part, time the operators. About three minutes.

    Where a pretrained network for CAVE is here (lkca models), it enlarges CAVE's oil painting or a generated scene too.
    Exit code 1 if the network does not beat bicubic in both MPSNR and SAM.

    Example: lkca demo --out demo
    """
    from lkcanet.training.demo import SCALE, run_demo

    start = time.perf_counter()
    shared.set_threads(threads)
    if not out.parent.is_dir():
        raise FileNotFoundError(f"{out}: the folder {out.parent} does not exist")
    numbers = itertools.count(1)
    result = run_demo(out, quick=quick, seed=seed, progress=lambda line: shared.note(f"[{next(numbers)}/4] {line}"))
    shared.note("[4/4] timing the operators against plain PyTorch")
    speeds = _speeds(quick)
    seconds = time.perf_counter() - start
    if json:
        operators = [vars(row) for row in speeds]
        training = {name: getattr(result.training, name) for name in ("steps", "seconds", "ended_by", "best")}
        training["parameters"] = result.parameters
        ready = result.pretrained
        told = ready and {"name": ready.name, "scene": ready.scene, "quality": ready.quality}
        facts = {"pretrained": told, "figure": result.figure, "seconds": seconds, "beats_bicubic": result.beats_bicubic}
        shared.print_json({"quality": result.quality, "training": training, "operators": operators, **facts})
    else:
        from lkcanet.evaluation import metrics_table

        title = f"Quality on the held-out test region, x{SCALE}"
        shared.print_table(metrics_table(result.quality, title=title))
        if result.pretrained is not None:
            title = f"The same of {result.pretrained.name}, pretrained, on {result.pretrained.scene}, x{SCALE}"
            shared.print_table(metrics_table(result.pretrained.quality, title=title))
        shared.print_table(speed_table(speeds))
        print(f"{result.figure}\n{seconds:.0f} s in all")
    if not result.beats_bicubic:
        bicubic, network = result.quality.values()
        shared.note(
            f"WARNING: the network does not beat bicubic: MPSNR {network['mpsnr']:.3f} against {bicubic['mpsnr']:.3f} "
            f"dB, SAM {network['sam']:.3f} against {bicubic['sam']:.3f} degrees"
        )
        raise typer.Exit(1)


def _speeds(quick: bool) -> "list[OperatorSpeed]":
    from lkcanet.benchmark.speed import operator_speeds

    rows = []
    for row in operator_speeds(quick=quick):
        shared.note(f"  {row.name}: {row.ratio:.2f}x")
        rows.append(row)
    return rows
