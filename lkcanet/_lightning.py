"""The Lightning side of training. Imported by `training.train` only: `import lkcanet.training` needs no Lightning."""

import logging
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader

from ._batches import Batches, CachedPatches
from .data.patches import SuperResolutionPatches
from .losses import HLoss, h_loss
from .metrics import mpsnr, sam
from .models import LKCANet, save_model
from .training import BEST, LAST, LOG, TrainOptions, TrainResult


class Clock:
    """How far the course is, by steps and by time."""

    def __init__(self, steps: int, max_minutes: float | None) -> None:
        self.steps, self.limit = steps, None if max_minutes is None else 60 * max_minutes
        self.start = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start

    @property
    def out_of_time(self) -> bool:
        return self.limit is not None and self.seconds >= self.limit

    def fraction(self, step: int) -> float:
        return max(step / self.steps, 0.0 if self.limit is None else self.seconds / self.limit)


class Module(pl.LightningModule):
    """The H loss of the network, and Adam with a cosine schedule that is stepped with the batches."""

    def __init__(self, model: LKCANet, options: TrainOptions, clock: Clock) -> None:
        super().__init__()
        self.model, self.options, self.clock = model, options, clock

    def loss(self, prediction: Tensor, target: Tensor) -> HLoss:
        weights = {"sam_weight": self.options.sam_weight, "gradient_weight": self.options.gradient_weight}
        return h_loss(prediction, target, **weights)

    def training_step(self, batch: Any, index: int) -> Tensor:
        lowres, target = batch
        terms = self.loss(self.model(lowres), target)
        values = torch.stack([term.detach() for term in terms]).tolist()
        if not all(map(_finite, values)):
            raise FloatingPointError(
                f"the loss is {values[0]} at step {index + 1} (l1 {values[1]}, SAM {values[2]}, gradient {values[3]}): "
                "lower the learning rate or clip the gradients"
            )
        rate = self.optimizers().param_groups[0]["lr"]  # type: ignore[union-attr]
        self.log_dict(dict(zip(("loss", "l1", "sam_loss", "gradient"), values, strict=True)) | {"learning_rate": rate})
        self.log("loss ", values[0], prog_bar=True, logger=False)  # the bar's own entry; the log has it above
        return terms.total

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.model.parameters(), lr=self.options.learning_rate)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: self.options.rate(self.clock.fraction(step)) / self.options.learning_rate
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class Keeper(pl.Callback):
    """Validates, writes checkpoints, and ends the run on time or on Ctrl-C.

    In place of Lightning's validation loop, which knows no validation before the first and after the last step of an
    odd number, and of its ModelCheckpoint, which writes pickles in place.
    """

    def __init__(self, module: Module, validation: tuple[Tensor, Tensor], out: Path, facts: dict[str, Any]) -> None:
        self.module, self.validation, self.out, self.facts = module, validation, out, facts
        self.options, self.clock = module.options, module.clock
        self.history: list[dict[str, float]] = []
        self.best: dict[str, float] = {}
        self.interrupted = False
        self.show = self.options.progress and not sys.stderr.isatty()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.clock.start = time.monotonic()
        self.validate(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        if self.interrupted or self.clock.out_of_time:
            trainer.should_stop = True
        elif trainer.global_step % self.options.validate_every == 0:
            self.validate(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.interrupted:
            self.save(LAST, trainer.global_step)
        elif self.history[-1]["step"] != trainer.global_step:
            self.validate(trainer)

    def validate(self, trainer: pl.Trainer) -> None:
        """Super-resolve the validation block; write the checkpoints."""
        step, model = trainer.global_step, self.module.model
        model.eval()
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            lowres, target = (image.to(self.module.device) for image in self.validation)
            # 64-true and bf16-true: the weights have another type than the image
            prediction = model(trainer.precision_plugin.convert_input(lowres)).to(target.dtype)
            terms = self.module.loss(prediction, target)
        model.train()
        values = dict(zip(("loss", "l1", "sam_loss", "gradient"), (float(term) for term in terms), strict=True))
        if not _finite(values["loss"]):
            raise FloatingPointError(f"the loss of the validation block is {values['loss']} after step {step}")
        values |= {"mpsnr": mpsnr(prediction, target), "sam": sam(prediction, target)}
        self.history.append({"step": step, **values})
        for logger in trainer.loggers:
            logger.log_metrics({f"validation_{name}": value for name, value in values.items()}, step=step)
            logger.save()
        sign = -1 if self.options.monitor == "mpsnr" else 1
        if not self.best or sign * values[self.options.monitor] < sign * self.best[self.options.monitor]:
            self.best = self.history[-1]
            self.save(BEST, step)
        self.save(LAST, step)
        if self.show:
            first = self.history[0]
            rates = f"{self.clock.seconds:.0f} s, loss {values['loss']:.5f}"
            quality = f"validation MPSNR {values['mpsnr']:.3f} dB ({values['mpsnr'] - first['mpsnr']:+.3f})"
            angle = f"SAM {values['sam']:.3f}° ({values['sam'] - first['sam']:+.3f} to bicubic)"
            print(f"step {step}: {rates}, {quality}, {angle}", file=sys.stderr, flush=True)

    def save(self, name: str, step: int) -> None:
        latest = self.history[-1]
        save_model(self.module.model, self.out / name, extra={**self.facts, "step": step, "validation": latest})


class Bar(RichProgressBar):
    """Lightning's bar, on stderr so that stdout is free for results."""

    def __init__(self, keeper: Keeper) -> None:
        super().__init__(console_kwargs={"stderr": True})
        self.keeper = keeper

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        items: dict[str, Any] = dict(super().get_metrics(trainer, pl_module))
        items.pop("v_num", None)
        if self.keeper.history:
            latest, first = self.keeper.history[-1], self.keeper.history[0]
            items["MPSNR"] = f"{latest['mpsnr']:.3f} ({latest['mpsnr'] - first['mpsnr']:+.3f})"
            items["SAM"] = f"{latest['sam']:.3f} ({latest['sam'] - first['sam']:+.3f})"
        return items


def fit(
    model: LKCANet,
    patches: SuperResolutionPatches,
    validation: tuple[Tensor, Tensor],
    options: TrainOptions,
    out: Path,
    facts: dict[str, Any],
) -> TrainResult:
    """Run the training that `training.train` prepared."""
    samples = CachedPatches(patches, options.augment)
    total = options.total_steps(len(samples))
    clock = Clock(total or sys.maxsize, options.max_minutes)
    module = Module(model, options, clock)
    keeper = Keeper(module, validation, out, facts)
    callbacks: list[pl.Callback] = [keeper]
    bar = options.progress and sys.stderr.isatty()
    if bar:
        callbacks.append(Bar(keeper))
    # without an end of steps the bar would count to 10^18: a day of steps is more than any time limit meant
    steps = total or 100_000_000
    loader = DataLoader(
        samples,
        batch_sampler=Batches(len(samples), options.batch_size, steps, options.seed),
        num_workers=options.workers,
        worker_init_fn=_ignore_interrupts,
    )
    with _quiet(), _threads(options.threads), torch.random.fork_rng(), _interrupts(keeper):
        torch.manual_seed(options.seed)
        trainer = pl.Trainer(
            accelerator={"cuda": "gpu"}.get(options.device, options.device),
            devices=1,
            precision=options.precision,  # type: ignore[arg-type]
            logger=CSVLogger(out, name="", version="", flush_logs_every_n_steps=100),
            callbacks=callbacks,
            max_epochs=1,
            max_steps=steps,
            gradient_clip_val=options.gradient_clip,
            log_every_n_steps=options.log_every,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=bar,
        )
        model.train()
        try:
            trainer.fit(module, train_dataloaders=loader)
        except SystemExit:  # what Lightning makes of a KeyboardInterrupt
            raise KeyboardInterrupt from None
        finally:
            model.cpu().eval()
    if keeper.interrupted:
        raise KeyboardInterrupt(f"{out / LAST} holds step {trainer.global_step}")
    best = keeper.best
    terms = [{key: value for key, value in entry.items() if key != "step"} for entry in (keeper.history[0], best)]
    return TrainResult(
        best=out / BEST,
        last=out / LAST,
        log=out / LOG,
        steps=trainer.global_step,
        seconds=clock.seconds,
        ended_by="time" if trainer.global_step != total else "steps",
        best_step=int(best["step"]),
        bicubic=terms[0],
        validation=terms[1],
        history=tuple(keeper.history),
    )


def _finite(value: float) -> bool:
    return abs(value) < float("inf")


def _ignore_interrupts(_: int) -> None:
    """Ctrl-C reaches a terminal's every process; the main one ends its workers itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _interrupts(keeper: Keeper) -> Iterator[None]:
    """The first Ctrl-C lets the step finish; the next one, if that takes too long, interrupts it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def note(*_: Any) -> None:
        keeper.interrupted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's notes on devices and its advice to use more workers."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
