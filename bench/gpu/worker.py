"""Runs rows of the GPU gate in a process of its own: `python -m bench.gpu.worker EVENTS --units ROW:DTYPE ...`.

Appends one line of JSON to EVENTS when it starts a row in a dtype, for what is known of it so far, for every result,
and at the end, so that whoever watches knows what it was at when it hangs or dies.
"""

import argparse
import contextlib
import gc
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from bench.gpu.clock import Clock, measured_limits
from bench.gpu.measure import Measurement
from bench.gpu.rows import rows
from bench.without_gpu.estimate import block_launches
from tests.interpreter import quicken


def work(events: Path, units: list[str], *, dry: bool, compile_only: bool, limits: bool) -> None:
    """Run these rows, "name:dtype"; see the module's docstring."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    if dry:
        quicken()
    if compile_only:  # beside the tests, the fastest is chosen by noise: compiled kernels are kept, choices are not
        from torch._inductor import config as inductor

        inductor.autotune_local_cache = False

    def tell(**event: Any) -> None:
        with events.open("a") as file:
            file.write(json.dumps(event) + "\n")

    def said(error: Exception) -> str:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"

    def end_if_dead() -> None:
        """After an error of a kernel nothing runs in this process any more."""
        try:
            if not dry:
                torch.cuda.synchronize()
        except Exception as error:
            print(said(error), flush=True)
            sys.exit(1)

    clock = Clock("cpu" if dry else "cuda")
    tell(event="ready")
    if limits:
        try:
            tell(event="limits", **asdict(measured_limits(clock)))
        except Exception as error:
            tell(event="limits_failed", error=said(error))
            end_if_dead()
        try:
            tell(event="block", launches=block_launches()["inference"]["triton"])
        except Exception as error:
            tell(event="limits_failed", error=f"launches of a block: {said(error)}")
            end_if_dead()
    by_name = {row.name: row for row in rows(tiny=dry)}
    for unit in units:
        name, _, dtype = unit.partition(":")
        tell(event="start", unit=unit)
        try:
            measurement = Measurement(by_name[name], dtype, clock, dry=dry)
            if compile_only:
                measurement.compile_only()
            else:
                tell(event="result", **measurement.run(lambda so_far: tell(event="partial", **so_far)))
        except Exception as error:
            tell(event="failed", unit=unit, error=said(error))
            end_if_dead()
        measurement = None  # type: ignore[assignment]
        torch.compiler.reset()
        gc.collect()
        if not dry:
            torch.cuda.empty_cache()
    tell(event="end")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("events", type=Path)
    parser.add_argument("--units", nargs="+", required=True, metavar="ROW:DTYPE")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--compile-only", action="store_true", help="so that torch.compile's cache has it")
    parser.add_argument("--limits", action="store_true", help="measure the card and count a block's launches first")
    a = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        work(a.events, a.units, dry=a.dry_run, compile_only=a.compile_only, limits=a.limits)


if __name__ == "__main__":
    main()
