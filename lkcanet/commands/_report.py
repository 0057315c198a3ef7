"""What a training command says at its end."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _shared as shared
from ._lines import evaluation

if TYPE_CHECKING:
    from lkcanet.training import TrainResult

    from ._training import Given


def report(
    given: "Given", result: "TrainResult", paths: list[Path], facts: dict[str, Any], config: dict[str, Any]
) -> None:
    """The result of a run, as text or JSON."""
    if result.resumed_from is not None:
        ended = result.resumed_from == result.steps
        shared.note(
            f"note: the run in {given.out} had ended with step {result.steps}: nothing was left to do"
            if ended
            else f"note: the run in {given.out} went on from step {result.resumed_from}"
        )
    if given.json:
        names = (
            "best",
            "last",
            "log",
            "steps",
            "seconds",
            "ended_by",
            "best_step",
            "bicubic",
            "validation",
            "warnings",
        )
        values = {name: getattr(result, name) for name in (*names, "resumed_from")}
        shared.print_json({**values, **facts, "config": config})
        return
    bicubic, best = result.bicubic, result.validation
    untrained = "" if result.best_step else ", the untrained network"
    below = "; below it" if best["mpsnr"] < bicubic["mpsnr"] else ""
    print(
        f"{result.steps} steps in {result.seconds:.0f} s (ended by {result.ended_by}); best on validation at step "
        f"{result.best_step}{untrained}:\n"
        f"  MPSNR {best['mpsnr']:.3f} dB (bicubic {bicubic['mpsnr']:.3f}{below})   SAM {best['sam']:.3f}° "
        f"(bicubic {bicubic['sam']:.3f})   H loss {best['loss']:.5f} (bicubic {bicubic['loss']:.5f})\n"
        f"  {result.best}\n"
        f"next: {evaluation(given, paths, result.best)}"
    )
