"""What the tests of training share: a small scene, a network, runs, and processes that are killed."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lkcanet.data import Split, demo_scene, region_split
from lkcanet.data.scenes import Scene
from lkcanet.models import LKCANet
from lkcanet.training import TrainOptions, TrainResult, train


def small_scene() -> Scene:
    return demo_scene((64, 64), 8, seed=3)


def split_of(scene: Scene, **options: Any) -> Split:
    return region_split(scene.pixels.shape, ":,40:", **{"patch": 16, "stride": 8, **options})


def network(seed: int = 0, **options: Any) -> LKCANet:
    torch.manual_seed(seed)
    return LKCANet(8, 2, 16, 2, 1, **{"reduction": 8, "drop_path": 0.4, **options})


def options_of(**given: Any) -> TrainOptions:
    defaults = {"steps": 11, "batch_size": 4, "validate_every": 3, "log_every": 1, "progress": False, "threads": 1}
    return TrainOptions(**{**defaults, **given})


def run(scene: Scene, out: Path, model: LKCANet | None = None, *, resume: bool = False, **options: Any) -> TrainResult:
    return train(model or network(), scene, split_of(scene), options_of(**options), out, resume=resume)


def at_step(step: int, act: Callable[[], Any]) -> None:
    """Have the act happen when step number `step` (from 1) has been computed, before its optimizer step."""
    from lkcanet.training.module import Module

    original = Module.on_before_optimizer_step

    def hooked(self: Module, optimizer: torch.optim.Optimizer) -> None:
        original(self, optimizer)
        if self.batches.start + self.trainer.global_step + 1 == step:
            act()

    Module.on_before_optimizer_step = hooked  # type: ignore[method-assign]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_child(work: Callable[[], Any]) -> int:
    """Start the work in a forked process, which has everything imported already; its id.

    Forked processes may not use OpenMP's threads: the tests limit torch to one.
    """
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return child


def ended(child: int) -> int:
    """Wait for the process; its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
