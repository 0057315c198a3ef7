"""The progress bar of a training run on a terminal."""

import sys
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

if TYPE_CHECKING:
    from .keeper import Keeper


class Bar(pl.Callback):
    """How far the course is, on stderr so that stdout is free for results.

    In place of Lightning's bar, which counts the steps of one epoch: a run here is one of Lightning's epochs, and may
    have no last step.
    """

    def __init__(self, keeper: "Keeper") -> None:
        self.keeper = keeper
        self.progress: Progress | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        columns = (BarColumn(bar_width=12), TextColumn("{task.description}"))
        self.progress = Progress(*columns, console=Console(file=sys.stderr))
        self.task = self.progress.add_task("", total=1.0)
        self.draw(None)
        self.progress.start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any, **__: Any) -> None:
        loss = trainer.progress_bar_metrics.get("loss")
        self.draw(None if loss is None else float(loss))

    def on_train_end(self, *_: Any) -> None:
        self.stop()

    def on_exception(self, *_: Any) -> None:
        self.stop()

    def stop(self) -> None:
        if self.progress is not None:
            self.progress.stop()
            self.progress = None

    def draw(self, loss: float | None) -> None:
        if self.progress is None:
            return
        keeper = self.keeper
        step, clock, batches = keeper.state.step, keeper.clock, keeper.module.batches
        fraction = clock.fraction(step)
        epochs = keeper.options.epochs
        if epochs is None and keeper.options.steps is None and keeper.total is not None:
            epochs = 100
        first_line = [course(step, keeper.total, clock.seconds, clock.limit, fraction)]
        if loss is not None:
            first_line.append(f"loss {loss:.5f}")
        parts = [] if epochs is None else [f"epoch {min(batches.epoch(step) + 1, epochs)}/{epochs}"]
        if keeper.history:
            latest, first = keeper.history[-1], keeper.bicubic
            parts.append(f"MPSNR {latest['mpsnr']:.3f} ({latest['mpsnr'] - first['mpsnr']:+.3f})")
            parts.append(f"SAM {latest['sam']:.3f} ({latest['sam'] - first['sam']:+.3f} to bicubic)")
        lines = ("  ".join(first_line), "  ".join(parts))
        self.progress.update(self.task, completed=fraction, description="\n".join(filter(None, lines)))


def course(step: int, total: int | None, seconds: float, limit: float | None, fraction: float) -> str:
    """Steps and time in words: of what there is an end, and what is left.

    Args:
        step: that were made.
        total: that end the run, None where only the clock does.
        seconds: that it took.
        limit: seconds that end the run, or None.
        fraction: of the course, by whichever end is nearer.
    """
    steps = f"{step} steps" if total is None else f"{step}/{total} steps"
    if limit is not None:
        steps += f"  {seconds / 60:.1f}/{limit / 60:g} min"
    elif seconds >= 1:
        steps += f"  {duration(seconds)}"
    if 0 < fraction < 1 and seconds >= 1:
        steps += f"  {duration(seconds * (1 - fraction) / fraction)} left"
    return steps


def duration(seconds: float) -> str:
    """Such as 0:05 and 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
