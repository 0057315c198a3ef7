"""A run on Lightning's Trainer. Imported by `training` when it trains: `import lkcanet.training` needs no Lightning."""

import builtins
import logging
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader

from ..common.launched import Launch, launch, speaks
from ..common.options import TrainOptions
from ..models import Network
from ..models.capabilities import capabilities_of
from ..objectives import Objective
from . import state as _state
from .batches import Batches, CachedPatches
from .keeper import Keeper, quiet, step_of
from .log import check as check_log
from .material import Material
from .module import Clock, Module
from .result import BEST, LAST, LOG, TrainResult


def fit(
    model: Network,
    objective: Objective,
    material: Material,
    options: TrainOptions,
    out: Path,
    facts: dict[str, Any],
    state: _state.State,
) -> TrainResult:
    """Run the training that `training` prepared, from `state` on: of step 0, or what an interrupted run left."""
    samples = CachedPatches(material.patches, options.orientations)
    total = options.total_steps(len(samples))
    # without an end of steps the bar would count to 10^18: a day of steps is more than any time limit meant
    steps, start = total or 100_000_000, state.step
    clock = Clock(total, options.max_minutes)
    batches = Batches(len(samples), options.batch_size, steps, options.seed, start, options.devices)
    if state.model:
        model.to(next(iter(state.model.values())).dtype).load_state_dict(state.model)
        objective.restore(state.objective)
    module = Module(model, options, clock, samples, batches, objective)
    if state.moments:
        module.moments = {**state.moments}
    if module.average is not None and state.average:
        module.average.load(state.average)
    keeper = Keeper(module, material.validation, out, facts, state, total)
    if state.history:
        check_log(out / LOG, state.log_bytes)
        if speaks():
            keeper.repair()
    if state.ended_by is not None:
        if module.average is not None:
            module.average.put_into(model)
        model.eval()
        objective.eval()
        tell(state, options)
        return _result(state, options, out, start)
    callbacks: list[pl.Callback] = [keeper]
    bar = options.progress and sys.stderr.isatty()
    if bar:
        from .bar import Bar  # needs rich

        callbacks.append(Bar(keeper))
    started = launch()
    loader = DataLoader(samples, batch_sampler=batches, num_workers=options.workers, worker_init_fn=_ignore_interrupts)
    with _quiet(), _threads(options.threads), torch.random.fork_rng(), keeper.interrupts():
        trainer = pl.Trainer(
            accelerator={"cuda": "gpu"}.get(options.device, options.device),
            devices=options.devices if started is None else started.local,
            num_nodes=1 if started is None else started.nodes,
            strategy=_strategy(model) if options.devices > 1 else "auto",
            use_distributed_sampler=False,
            precision=options.precision,  # type: ignore[arg-type]
            logger=False,
            callbacks=callbacks,
            max_epochs=1,
            max_steps=steps - start,
            gradient_clip_val=options.gradient_clip,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
        if started is not None and started.restarts:
            _meet_again(started, trainer.strategy.root_device)
        if state.scaler:
            trainer.precision_plugin.load_state_dict(state.scaler)
        model.train()
        try:
            trainer.fit(module, train_dataloaders=loader)
        except SystemExit:  # what Lightning makes of a KeyboardInterrupt, here of the second
            step = step_of(out / LAST)
            told = [] if step is None else [f"{out / LAST} holds step {step}"]
            raise KeyboardInterrupt(*told) from None
        except torch.multiprocessing.ProcessRaisedException as error:
            raise _error_of(error) from error
        finally:
            if module.average is not None:
                module.average.put_into(model)
            model.cpu().eval()
            objective.cpu().eval()
    if options.devices > 1:  # it is the other processes that know
        if started is not None:
            torch.distributed.barrier()  # the first may still be writing
        state = _state.read(out / _state.STATE)
        model.load_state_dict({**state.model, **state.average})
        objective.restore(state.objective)
    tell(state, options)
    if state.ended_by is None and (keeper.interrupted or started is not None):
        raise KeyboardInterrupt(f"{out / LAST} holds step {state.step}")
    return _result(state, options, out, start)


def _strategy(model: Network) -> DDPStrategy:
    # spawned, not forked: OpenMP's and CUDA's threads don't survive a fork. "popen" starts none where torchrun has
    start: Literal["spawn", "popen"] = "spawn" if launch() is None else "popen"
    # a network may hold what a loss does not use, which DDP looks for at some cost
    unused = not capabilities_of(model).trains_every_parameter
    return DDPStrategy(start_method=start, find_unused_parameters=unused)


def _meet_again(started: Launch, device: torch.device) -> None:
    """Let the processes find each other after a restart. What those before them left in torchrun's store stands there
    still, under the same keys: a process could look for the others at addresses where nobody is any more."""
    distributed = torch.distributed
    store, rank, world = next(distributed.rendezvous("env://"))
    backend = "nccl" if device.type == "cuda" else "gloo"
    store = distributed.PrefixStore(f"attempt-{started.restarts}", store)
    distributed.init_process_group(backend, store=store, rank=rank, world_size=world)


def _result(state: _state.State, options: TrainOptions, out: Path, start: int) -> TrainResult:
    entries = (state.bicubic or state.history[0], state.best)
    terms = [{key: value for key, value in entry.items() if key != "step"} for entry in entries]
    assert state.ended_by is not None
    return TrainResult(
        best=out / BEST,
        last=out / LAST,
        log=out / LOG,
        steps=state.step,
        seconds=state.seconds,
        ended_by=state.ended_by,
        best_step=int(state.best["step"]),
        bicubic=terms[0],
        validation=terms[1],
        history=tuple(state.history),
        resumed_from=start if start else None,
        warnings=warnings_of(state, options),
    )


def warnings_of(state: _state.State, options: TrainOptions) -> tuple[str, ...]:
    """What a user should know before using `best`."""
    told, best, bicubic = [], state.kept, state.bicubic or state.history[0]
    if best["step"] == 0 < state.step:
        later = len(state.history) - 1 + (state.interim is not None)
        why = f"none of {later} later validations had a better {options.monitor}" if later else "no validation followed"
        told.append(f"{BEST} is of step 0, the untrained network: {why}")
    if best["mpsnr"] < bicubic["mpsnr"]:
        told.append(
            f"{BEST} is worse than bicubic on the validation: MPSNR {best['mpsnr']:.3f} dB, bicubic's is "
            f"{bicubic['mpsnr']:.3f}"
        )
    return tuple(told)


def tell(state: _state.State, options: TrainOptions) -> None:
    """Say it, where progress is shown."""
    for line in warnings_of(state, options) if options.progress else ():
        print(f"warning: {line}", file=sys.stderr, flush=True)


def _error_of(error: torch.multiprocessing.ProcessRaisedException) -> Exception:
    """The error of another process, of its own type where that is a builtin."""
    name, _, message = str(error).strip().splitlines()[-1].partition(": ")
    kind = getattr(builtins, name, RuntimeError)
    return kind(message) if isinstance(kind, type) and issubclass(kind, Exception) else RuntimeError(message)


def _ignore_interrupts(_: int) -> None:
    """Ctrl-C reaches a terminal's every process; the main one ends its workers itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


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
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    try:
        with warnings.catch_warnings():
            quiet()
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
