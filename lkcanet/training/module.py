"""What Lightning trains: the objective of a step, the optimizer, and the checks that keep weights finite."""

import copy
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from ..common.options import TrainOptions
from ..data.multispectral import with_impulses, with_noise
from ..models import Network
from ..objectives import Batch, Objective, objective_for
from ..objectives.losses import HLoss, h_loss
from .average import Average
from .batches import Batches, CachedPatches, mixed
from .log import Log
from .muon import Muon, hidden

SHOWN = 16  # patches of a batch that an error names


class Clock:
    """How far the course is, by steps and by time."""

    def __init__(self, steps: int | None, max_minutes: float | None) -> None:
        self.steps, self.limit = steps or sys.maxsize, None if max_minutes is None else 60 * max_minutes
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
    """The objective of a network, the H loss by default, and Adam.

    Nothing that it does in a step depends on the steps before, but through the weights and Adam's moments: the learning
    rate, the batch and the draws of noise and drop path follow from the number of the step.
    """

    def __init__(
        self,
        model: Network,
        options: TrainOptions,
        clock: Clock,
        samples: CachedPatches,
        batches: Batches,
        objective: Objective | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.objective = objective_for(model, options) if objective is None else objective
        self.options, self.clock, self.samples, self.batches = options, clock, samples, batches
        self.moments: dict[int, Any] | None = None  # Adam's state to start from
        self.average = None if options.ema is None else Average(model, options.ema)
        self.log_file: Log | None = None  # in the process that writes
        self.train()

    def __reduce__(self) -> Any:
        """For processes of several devices: modules with normalised weights can't be pickled themselves."""
        network = (type(self.model), self.model.config, self.model.state_dict())
        rest = (self.options, self.clock, self.samples, self.batches, self.objective)
        return _rebuild, (network, self.moments, self.average, *rest)

    def trained(self) -> list[torch.nn.Parameter]:
        """What Adam gets, in order: the network's parameters, and those of the objective that learn."""
        return trained(self.model, self.objective)

    def after_step(self, step: int) -> None:
        """What follows the optimizer's step, the so manieth."""
        self.objective.after_step()
        if self.average is not None:
            self.average.update(self.model, step)

    def averaged(self) -> AbstractContextManager[None]:
        """The network is what is validated and kept inside: with its averaged weights, where there are any."""
        return nullcontext() if self.average is None else self.average.in_place_of(self.model)

    def loss(self, prediction: Tensor, target: Tensor) -> HLoss:
        """H, by which networks of all kinds are validated."""
        weights = {"sam_weight": self.options.sam_weight, "gradient_weight": self.options.gradient_weight}
        return h_loss(prediction, target, floor=self.options.floor, **weights)

    def on_train_batch_start(self, batch: Any, index: int) -> None:
        step = self.batches.start + index
        fraction = self.clock.fraction(step)
        if self.trainer.world_size > 1 and self.clock.limit is not None:
            # clocks differ: with learning rates of their own the processes' weights would part
            fraction = self.trainer.strategy.broadcast(fraction)
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            group["lr"] = self.options.rate(fraction, step)
        torch.manual_seed(mixed(self.options.seed, 1, step, self.trainer.global_rank))

    def training_step(self, batch: Any, index: int) -> Tensor:
        step = self.batches.start + index
        given = self.objective(self.model, self._noisy(Batch(*batch)), self.batches.passes(step))
        terms = {name: term for name, term in given.items() if isinstance(term, Tensor)}
        facts = {"epoch": self.batches.epoch(step)} | {name: given[name] for name in given if name not in terms}
        mean = torch.stack([term.detach() for term in terms.values()])
        if self.trainer.world_size > 1:  # all processes must see what is not finite, or the others would wait forever
            mean = self.trainer.strategy.reduce(mean, reduce_op="mean")
        values = dict(zip(terms, mean.tolist(), strict=True))
        if not all(abs(value) < float("inf") for value in values.values()):
            parts = ", ".join(f"{name} {value:g}" for name, value in list(values.items())[1:])
            raise FloatingPointError(f"the loss is {values['loss']} ({parts}) {self._where(step)}")
        if self.log_file is not None and (step + 1) % self.options.log_every == 0:
            rate = self.optimizers().param_groups[0]["lr"]  # type: ignore[union-attr]
            self.log_file.row(step + 1, {**facts, "learning_rate": rate, **values})
        self.log("loss", values["loss"], prog_bar=True, logger=False)
        return terms["loss"]

    def _noisy(self, batch: Batch) -> Batch:
        """With the noise of the options: other draws in every step, the same in every run."""
        lowres, msi = batch.lowres, batch.msi
        if self.options.snr is not None:
            lowres = with_noise(lowres, self.options.snr)
        if self.options.impulses is not None:
            lowres = with_impulses(lowres, self.options.impulses)
        if self.options.msi_snr is not None and msi is not None:
            msi = with_noise(msi, self.options.msi_snr)
        return Batch(lowres, batch.target, msi)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """No step with a gradient that is not finite: it would spoil every weight."""
        if self.options.precision == "16-mixed":
            return  # float16 overflows now and then; its scaler leaves such steps out
        gradients = [parameter.grad for parameter in self.trained() if parameter.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients))
        if not norm < float("inf"):
            step = self.batches.start + self.trainer.global_step
            raise FloatingPointError(f"the gradient's norm is {norm} {self._where(step)}")

    def _where(self, step: int) -> str:
        batch = self.batches.batch(step)
        places = [self.samples.where(index) for index in batch[:SHOWN]]
        patches = ", ".join(f"({', '.join(map(str, place))})" for place in places)
        what = "(row, column, orientation)" if len(places[0]) == 3 else "(scene, row, column, orientation)"
        more = f" and {len(batch) - SHOWN} more" if len(batch) > SHOWN else ""
        return (
            f"at step {step + 1} (epoch {self.batches.epoch(step)}), in the batch of the patches at {what} "
            f"{patches}{more}: lower the learning rate, clip the gradients, or look at these pixels"
        )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer
        if self.options.optimizer == "muon":
            optimizer = Muon(self.trained(), hidden(self.model), self.options.learning_rate)
        else:
            optimizer = torch.optim.Adam(self.trained(), lr=self.options.learning_rate)
        if self.moments is not None:
            # copied: what was sent to several processes lies in memory that they share
            optimizer.load_state_dict({**optimizer.state_dict(), "state": copy.deepcopy(self.moments)})
        return optimizer


def trained(model: Network, objective: Objective) -> list[torch.nn.Parameter]:
    """See `Module.trained`."""
    return [*model.parameters(), *(parameter for parameter in objective.parameters() if parameter.requires_grad)]


def _rebuild(
    network: tuple[type[Network], dict[str, Any], dict[str, Tensor]], moments: Any, average: Any, *rest: Any
) -> Module:
    kind, config, weights = network
    model = kind(**config)
    model.load_state_dict(weights)
    module = Module(model, *rest)
    module.moments = moments
    if module.average is not None:
        module.average.load(average.values)  # a copy: what was sent to several processes lies in memory that they share
    return module
