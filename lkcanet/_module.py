"""What Lightning trains: the losses of a step, the optimizer, and the checks that keep weights finite."""

import copy
import sys
import time
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from ._batches import Batches, CachedPatches, mixed
from ._log import Log
from ._options import TrainOptions
from .distillation import Distillation
from .losses import HLoss, KDLoss, decay, h_loss, kd_loss
from .models import LKCANet

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
    """The H loss of a network, with a teacher the distillation loss as well, and Adam.

    Nothing that it does in a step depends on the steps before, but through the weights and Adam's moments: the learning
    rate, the batch and the draws of drop path follow from the number of the step.
    """

    def __init__(
        self,
        model: LKCANet,
        options: TrainOptions,
        clock: Clock,
        samples: CachedPatches,
        batches: Batches,
        teacher: LKCANet | None = None,
        distillation: Distillation | None = None,
    ) -> None:
        super().__init__()
        self.model, self.teacher = model, teacher
        self.options, self.clock, self.distillation = options, clock, distillation or Distillation()
        self.samples, self.batches = samples, batches
        self.moments: dict[int, Any] | None = None  # Adam's state to start from
        self.log_file: Log | None = None  # in the process that writes
        self.train()

    def __reduce__(self) -> Any:
        """For processes of several devices: modules with normalised weights can't be pickled themselves."""
        networks = [
            None if network is None else (network.config, network.state_dict())
            for network in (self.model, self.teacher)
        ]
        rest = (self.options, self.clock, self.samples, self.batches, self.distillation, self.moments)
        return _rebuild, (*networks, *rest)

    def train(self, mode: bool = True) -> "Module":
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def loss(self, prediction: Tensor, target: Tensor) -> HLoss:
        weights = {"sam_weight": self.options.sam_weight, "gradient_weight": self.options.gradient_weight}
        return h_loss(prediction, target, **weights)

    def losses(self, lowres: Tensor, target: Tensor) -> tuple[HLoss, KDLoss | None]:
        """H of the student, and KD between it and the teacher where there is one."""
        if self.teacher is None:
            return self.loss(self.model(lowres), target), None
        features = self.distillation.on == "features"
        with torch.no_grad():
            example = self.teacher.upsampled(lowres)[0] if features else self.teacher(lowres)
        # the student's conv runs once, also where F_UP and I_SR are both needed
        compared, image = self.model.upsampled(lowres) if features else (self.model(lowres),) * 2
        kd = kd_loss(
            compared,
            example,
            cosine_weight=self.distillation.cosine_weight,
            sam_weight=self.distillation.sam_weight,
            gradient_weight=self.distillation.gradient_weight,
        )
        return self.loss(image, target), kd

    def on_train_batch_start(self, batch: Any, index: int) -> None:
        step = self.batches.start + index
        fraction = self.clock.fraction(step)
        if self.trainer.world_size > 1 and self.clock.limit is not None:
            # clocks differ: with learning rates of their own the processes' weights would part
            fraction = self.trainer.strategy.broadcast(fraction)
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            group["lr"] = self.options.rate(fraction)
        torch.manual_seed(mixed(self.options.seed, 1, step, self.trainer.global_rank))

    def training_step(self, batch: Any, index: int) -> Tensor:
        step = self.batches.start + index
        h, kd = self.losses(*batch)
        terms, total = {"l1": h.l1, "sam_loss": h.sam, "gradient": h.gradient}, h.total
        facts: dict[str, float] = {"epoch": self.batches.epoch(step)}
        if kd is not None:
            facts["decay"] = decay(self.batches.passes(step), self.distillation.decay, self.distillation.frequency)
            total = total + facts["decay"] * self.distillation.alpha * kd.total
            terms |= {"kd": kd.total, "kd_cosine": kd.cosine, "kd_sam": kd.sam, "kd_gradient": kd.gradient}
        terms = {"loss": total, **terms}
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
        return total

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """No step with a gradient that is not finite: it would spoil every weight."""
        if self.options.precision == "16-mixed":
            return  # float16 overflows now and then; its scaler leaves such steps out
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients))
        if not norm < float("inf"):
            step = self.batches.start + self.trainer.global_step
            raise FloatingPointError(f"the gradient's norm is {norm} {self._where(step)}")

    def _where(self, step: int) -> str:
        batch = self.batches.batch(step)
        patches = ", ".join(str(self.samples.where(index)) for index in batch[:SHOWN])
        more = f" and {len(batch) - SHOWN} more" if len(batch) > SHOWN else ""
        return (
            f"at step {step + 1} (epoch {self.batches.epoch(step)}), in the batch of the patches at (row, column, "
            f"orientation) {patches}{more}: lower the learning rate, clip the gradients, or look at these pixels"
        )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer = torch.optim.Adam(self.model.parameters(), lr=self.options.learning_rate)
        if self.moments is not None:
            # copied: what was sent to several processes lies in memory that they share
            optimizer.load_state_dict({**optimizer.state_dict(), "state": copy.deepcopy(self.moments)})
        return optimizer


def _rebuild(student: Any, teacher: Any, options: Any, clock: Any, samples: Any, batches: Any, *rest: Any) -> Module:
    networks = []
    for parts in (student, teacher):
        network = None
        if parts is not None:
            network = LKCANet(**parts[0])
            network.load_state_dict(parts[1])
        networks.append(network)
    distillation, moments = rest
    if networks[1] is not None:
        networks[1].requires_grad_(False)
    module = Module(networks[0], options, clock, samples, batches, networks[1], distillation)  # type: ignore[arg-type]
    module.moments = moments
    return module
