"""Validation, checkpoints and the end of a run, as a Lightning callback."""

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

import lkops

from ..common.files import atomic_path
from ..common.launched import launch
from ..evaluation.metrics import mpsnr, sam
from ..models import Network, load_model_and_extra, save_model
from ..models.registry import enlarge
from ..objectives import Batch
from . import state as _state
from .log import TERMS, VALIDATED, Log
from .material import Validation
from .module import Module
from .result import BEST, LAST, LOG


class Keeper(pl.Callback):
    """Validates, writes checkpoints and the log, and ends the run on time, on Ctrl-C or on SIGTERM.

    In place of Lightning's validation loop, which knows no validation before the first and after the last step of an
    odd number, and of its ModelCheckpoint, which writes pickles in place.

    The state is written before the checkpoints: it tells which of them belong to it, so that a run that is killed
    between two files can write the others when it goes on.
    """

    def __init__(
        self,
        module: Module,
        validation: Validation,
        out: Path,
        facts: dict[str, Any],
        state: _state.State,
        total: int | None,
    ) -> None:
        self.validation, self.out, self.facts, self.state, self.total = validation, out, facts, state, total
        self.bind(module)
        self.show = self.options.progress and not sys.stderr.isatty()
        # in shared memory: with several devices Ctrl-C may reach the main process alone
        self.flag = torch.zeros((), dtype=torch.bool).share_memory_()

    def bind(self, module: Module) -> None:
        self.module, self.options, self.clock = module, module.options, module.clock

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key not in ("module", "options", "clock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """In another process: the notes and warnings of Lightning that `fit` silences in this one."""
        vars(self).update(state)
        quiet()

    @property
    def history(self) -> list[dict[str, float]]:
        return self.state.history

    @property
    def interrupted(self) -> bool:
        return bool(self.flag)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Module)
        self.bind(pl_module)
        self.clock.start = time.monotonic() - self.state.seconds
        if trainer.world_size > 1 and launch() is None:  # the main process hears Ctrl-C and sets the flag
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            if self.options.threads is not None:
                torch.set_num_threads(self.options.threads)
        elif threading.current_thread() is threading.main_thread():
            signal.signal(
                signal.SIGTERM, self.note
            )  # again: Lightning has put its own there, which ends the run unsaved
        fresh = not self.history
        if trainer.is_global_zero:
            board = self.out / "tensorboard" if self.options.tensorboard else None
            size = None if fresh else self.state.log_bytes
            # steps that an interrupted run logged after its state are done again, and logged again
            self.log = Log(self.out / LOG, pl_module.objective.terms, size, board, self.state.step)
            pl_module.log_file = self.log
        if fresh:
            self.validate(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        self.state.step = step = self.module.batches.start + trainer.global_step
        self.module.after_step(step)
        if step % self.options.validate_every == 0 or step == self.total:
            self.validate(trainer, "steps" if step == self.total else None)
        # Lightning ends when one process says so only if all do in the same step
        decide = trainer.strategy.reduce_boolean_decision
        if decide(self.interrupted or self.clock.out_of_time, all=False):
            trainer.should_stop = True
            if decide(self.interrupted, all=False):  # whichever it was that heard of it
                self.flag.fill_(True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        state = self.state
        if not trainer.is_global_zero:
            return
        if not self.interrupted and state.ended_by is None:
            if self.history[-1]["step"] != state.step:
                self.validate(trainer, "time")
            else:
                state.ended_by = "time"
                self.save(trainer)
        elif self.history[-1]["step"] != state.step:
            self.save(trainer)  # first: another Ctrl-C, or the end of a grace period, may cut the validation short
            self.look(trainer)
        self.log.close()

    def validate(self, trainer: pl.Trainer, ended_by: str | None = None) -> None:
        """Super-resolve the validation block or patches; write the state and the checkpoints."""
        self.state.ended_by = ended_by
        if not trainer.is_global_zero:
            return  # the others wait in the next step
        step, state = self.state.step, self.state
        values = self.scores(trainer)
        if not state.history and (bicubic := self.scores(trainer, bicubic=True)) != values:
            state.bicubic = bicubic  # the network that training starts from is another
        if not abs(values["loss"]) < float("inf"):
            raise FloatingPointError(f"the loss of the validation is {values['loss']} after step {step}")
        state.history.append({"step": step, **values})
        self.log.row(step, _named(values))
        if self.better(values):
            state.best = state.history[-1]
        self.save(trainer)
        if self.show:
            first = self.bicubic
            rates = f"{self.clock.seconds:.0f} s, loss {values['loss']:.5f}"
            quality = f"validation MPSNR {values['mpsnr']:.3f} dB ({values['mpsnr'] - first['mpsnr']:+.3f})"
            angle = f"SAM {values['sam']:.3f}° ({values['sam'] - first['sam']:+.3f} to bicubic)"
            print(f"step {step}: {rates}, {quality}, {angle}", file=sys.stderr, flush=True)

    def look(self, trainer: pl.Trainer) -> None:
        """Validate where a run was interrupted between two validations, so that `best` is not older than it must be.

        The run that goes on knows nothing of it: the state keeps what it was, and the checkpoints that are replaced.
        """
        state, values = self.state, self.scores(trainer)
        if not abs(values["loss"]) < float("inf"):
            print(f"warning: the loss of the validation is {values['loss']} after step {state.step}", file=sys.stderr)
            return
        state.interim = {"step": state.step, **values}
        self.log.row(state.step, _named(values), board=False)  # a run that goes on cuts it off
        names = [name for name in self.networks() if name != LAST]
        if self.better(values):
            state.aside = {name: _bytes_of(self.out / name) for name in names}
        _state.write(self.out / _state.STATE, state)
        self.checkpoints(entry=state.interim)

    def better(self, values: dict[str, float]) -> bool:
        """Whether these are the best scores so far."""
        name, best = self.options.monitor, self.state.best
        return not best or (values[name] > best[name] if name == "mpsnr" else values[name] < best[name])

    @property
    def bicubic(self) -> dict[str, float]:
        """What bicubic scores."""
        return self.state.bicubic or self.history[0]

    def scores(self, trainer: pl.Trainer, bicubic: bool = False) -> dict[str, float]:
        """Losses and metrics, means over the images; of the network or of bicubic."""
        with self.module.averaged():
            return self._scores(trainer, bicubic)

    def _scores(self, trainer: pl.Trainer, bicubic: bool) -> dict[str, float]:
        model, plugin = self.module.model, trainer.precision_plugin
        totals, images = dict.fromkeys(VALIDATED, 0.0), 0
        model.eval()
        for images_of in self.validation:
            lowres, target, msi = Batch(*(image.to(self.module.device) for image in images_of))
            with torch.no_grad(), plugin.forward_context():
                # 64-true and bf16-true: the weights have another type than the image
                if bicubic:
                    prediction = lkops.bicubic_upsample(lowres, scale=model.scale)
                else:
                    lowres, msi = plugin.convert_input((lowres, msi))
                    prediction = enlarge(model, lowres, msi).to(target.dtype)
                terms = self.module.loss(prediction, target)
            values = dict(zip(TERMS, (float(term) for term in terms), strict=True))
            if not abs(values["loss"]) < float("inf"):
                return values
            values |= {"mpsnr": mpsnr(prediction, target), "sam": sam(prediction, target)}
            images += len(target)
            for name, value in values.items():
                totals[name] += value * len(target)
        model.train()
        return {name: total / images for name, total in totals.items()}

    def save(self, trainer: pl.Trainer) -> None:
        """The state, and the checkpoints that belong to it."""
        if not trainer.is_global_zero:
            return
        state = self.state
        state.seconds, state.log_bytes = self.clock.seconds, self.log.keep()
        state.model = self.module.model.state_dict()
        state.average = {} if self.module.average is None else self.module.average.values
        state.objective = self.module.objective.state()
        state.moments = trainer.optimizers[0].state_dict()["state"]
        learned = enumerate(self.module.trained())
        state.still = [i for i, p in learned if state.step and p.requires_grad and i not in state.moments]
        state.scaler = trainer.precision_plugin.state_dict()
        _state.write(self.out / _state.STATE, state)
        self.checkpoints()

    def checkpoints(self, name: str | None = None, entry: dict[str, float] | None = None) -> None:
        """`last`, and `best` and its companions where this step is the best; or one of them. `entry`: the scores of
        their validation, by default the latest."""
        extra = {**self.facts, "step": self.state.step, "validation": entry or self.state.history[-1]}
        with self.module.averaged():
            for file, network in self.networks().items():
                if name in (None, file) and (file == LAST or self.state.kept["step"] == self.state.step):
                    save_model(network, self.out / file, extra=extra)

    def networks(self) -> dict[str, Network]:
        """What is saved under which name, in order."""
        more = {f"{name}.safetensors": network for name, network in self.module.objective.companions().items()}
        return {BEST: self.module.model, **more, LAST: self.module.model}

    def repair(self) -> None:
        """Write the checkpoints of the state that a killed run did not come to write, and those that a validation on
        interruption replaced."""
        aside, self.state.aside, self.state.interim = self.state.aside, {}, None
        for name in self.networks():
            step = self.state.step if name == LAST else self.state.best["step"]
            if step_of(self.out / name) != step:
                if name in aside:
                    with atomic_path(self.out / name) as temporary:
                        temporary.write_bytes(aside[name].numpy().tobytes())
                    continue
                if step != self.state.step:
                    raise ValueError(f"{self.out / name} is not the checkpoint of step {step:g} that the run had kept")
                self.checkpoints(name)

    def note(self, number: int, _: Any) -> None:
        self.flag.fill_(True)
        signal.signal(number, signal.default_int_handler)

    @contextmanager
    def interrupts(self) -> Iterator[None]:
        """The first Ctrl-C lets the step finish; the next one, if that takes too long, interrupts it. SIGTERM, by which
        clusters take machines back, is heard alike."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        for number in before:
            signal.signal(number, self.note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _named(values: dict[str, float]) -> dict[str, float]:
    return {f"validation_{name}": value for name, value in values.items()}


def _bytes_of(path: Path) -> torch.Tensor:
    """A file's content, (n,) uint8."""
    return torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)


def step_of(path: Path) -> int | None:
    """The step of a checkpoint, None where there is none that can be read."""
    try:
        return load_model_and_extra(path)[1].get("step")
    except (OSError, ValueError):
        return None


def quiet() -> None:
    """No notes on devices from Lightning, and no advice to use more workers."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
