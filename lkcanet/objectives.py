"""What training minimises: a network's loss, and what learns along with it."""

from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from . import _state
from ._options import TrainOptions
from .distillation import Distillation
from .losses import decay, h_loss, kd_loss
from .models import LKCANet, Network
from .models.registry import enlarge

__all__ = ["Batch", "HObjective", "KDObjective", "Objective", "objective_for"]


class Batch(NamedTuple):
    """Images of a step: `lowres` (N, B, h, w), `target` (N, B, r h, r w), and `msi` (N, b, r h, r w) or None."""

    lowres: Tensor
    target: Tensor
    msi: Tensor | None = None


class Objective(nn.Module):
    """A loss of a network on a batch.

    It may own parameters and networks that train along (an online teacher, learnable weights): those that require a
    gradient join the optimizer behind the network's. What `state` gives is kept with the run, so that it goes on to the
    bit. Frozen parameters are not: they must be the same when the run is resumed, and `facts` must tell them apart.
    It is in training mode throughout, validations included. For training on several devices it must be picklable.

    Attributes:
        terms: the names that are logged besides "loss".
    """

    terms: tuple[str, ...] = ()

    def forward(self, model: Network, batch: Batch, passes: float) -> dict[str, Tensor | float]:
        """The loss and its terms.

        Args:
            model: in training mode.
            batch: on the network's device.
            passes: passes over the training samples before this step, not rounded.

        Returns:
            "loss" first, a scalar tensor, then `terms`: scalar tensors, which must be finite, or floats, which are
            logged as they are.
        """
        raise NotImplementedError

    def after_step(self) -> None:
        """Called after each optimizer step, before anything is saved: such as a projection of learnable weights."""

    def companions(self) -> dict[str, Network]:
        """Networks to save beside `best.safetensors`, of its step, by name: "teacher" becomes teacher.safetensors."""
        return {}

    def facts(self) -> dict[str, Any]:
        """What checkpoints tell of it, JSON-serialisable; a run is resumed only with the same."""
        return {"objective": {"name": type(self).__name__}}

    def state(self) -> dict[str, Tensor]:
        """Its state dict without frozen parameters."""
        frozen = {key for key, parameter in self.named_parameters() if not parameter.requires_grad}
        return {key: tensor for key, tensor in self.state_dict().items() if key not in frozen}

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        """Take on what `state` gave, in its dtype."""
        own = self.state_dict(keep_vars=True)
        for key, tensor in state.items():
            own[key].data = tensor.clone()


class HObjective(Objective):
    """The H loss of the network's image, see `lkcanet.losses.h_loss`.

    Attributes:
        floor: below which spectra have no angle.
    """

    terms: tuple[str, ...] = ("l1", "sam_loss", "gradient")

    def __init__(self, sam_weight: float = 0.5, gradient_weight: float = 0.1, floor: float = 0.0) -> None:
        super().__init__()
        self.weights = {"sam_weight": sam_weight, "gradient_weight": gradient_weight}
        self.floor = floor

    def forward(self, model: Network, batch: Batch, passes: float) -> dict[str, Tensor | float]:
        return self.supervised(enlarge(model, batch.lowres, batch.msi), batch.target)

    def supervised(self, image: Tensor, target: Tensor) -> dict[str, Tensor | float]:
        """H and its terms."""
        h = h_loss(image, target, floor=self.floor, **self.weights)
        return {"loss": h.total, "l1": h.l1, "sam_loss": h.sam, "gradient": h.gradient}

    def facts(self) -> dict[str, Any]:
        return {}  # its weights and floor are among the options


class KDObjective(HObjective):
    """H and the distillation loss between the network and a trained teacher, see `lkcanet.distillation`.

    The teacher is a folded copy, frozen and in eval mode; `teacher` itself is left as it is.
    """

    terms = (*HObjective.terms, "kd", "kd_cosine", "kd_sam", "kd_gradient", "decay")

    def __init__(
        self,
        teacher: Network,
        distillation: Distillation | None = None,
        sam_weight: float = 0.5,
        gradient_weight: float = 0.1,
        teacher_file: str | None = None,
        floor: float = 0.0,
    ) -> None:
        super().__init__(sam_weight, gradient_weight, floor)
        self.teacher = teacher.fold().cpu().eval().requires_grad_(False)
        self.distillation = distillation or Distillation()
        digest = _state.digest(self.teacher.state_dict())
        self.told = {"file": teacher_file, "config": teacher.config, "digest": digest}

    def train(self, mode: bool = True) -> "KDObjective":
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, model: Network, batch: Batch, passes: float) -> dict[str, Tensor | float]:
        kd = self.distillation
        with torch.no_grad():
            example = self._compared(self.teacher, batch.lowres)[0]
        # the student's conv runs once, also where F_UP and I_SR are both needed
        compared, image = self._compared(model, batch.lowres)
        loss = kd_loss(
            compared,
            example,
            cosine_weight=kd.cosine_weight,
            sam_weight=kd.sam_weight,
            gradient_weight=kd.gradient_weight,
            # what it adds to the bicubic image has other units than spectra, and no darkness
            floor=self.floor if kd.on == "image" else 0.0,
        )
        terms, part = self.supervised(image, batch.target), decay(passes, kd.decay, kd.frequency)
        terms["loss"] = terms["loss"] + part * kd.alpha * loss.total
        kd_terms = {"kd": loss.total, "kd_cosine": loss.cosine, "kd_sam": loss.sam, "kd_gradient": loss.gradient}
        return {**terms, **kd_terms, "decay": part}

    def _compared(self, model: Network, lowres: Tensor) -> tuple[Tensor, Tensor]:
        """What is compared, F_UP or I_SR, and I_SR."""
        if self.distillation.on == "features":
            assert isinstance(model, LKCANet)
            return model.upsampled(lowres)
        return (model(lowres),) * 2

    def facts(self) -> dict[str, Any]:
        return {"distillation": asdict(self.distillation), "teacher": self.told}


def objective_for(model: Network, options: TrainOptions | None = None, **own: Any) -> Objective:
    """What a network of its kind is trained on: H with the weights of the options, or the kind's own objective.

    Args:
        model: the network to train.
        options: of the training.
        own: arguments of the kind's own objective: of `EdgeDistillation`; for CSAKD of `CSAKDWeights`, and `teacher`,
            the network that trains along, or `teacher_counts`, its CLRAs: the teacher is a fresh one of (6, 6, 4, 4)
            that is the network's like in all else if left out.

    Raises:
        ValueError: arguments that the objective does not take.
    """
    options = options or TrainOptions()
    try:
        if model.kind == "edlgfs":
            objective: Objective = import_module(".edge_objective", __package__).EdgeDistillation(**own)
        elif model.kind == "csakd":
            objective = _online(model, **own)
        else:
            objective = HObjective(options.sam_weight, options.gradient_weight, options.floor, **own)
    except TypeError as error:  # of Python's, that names the argument
        raise ValueError(f"the objective of {model.kind} can't be made: {error}") from error
    return objective


def _online(
    model: Network, teacher: Network | None = None, teacher_counts: Sequence[int] = (6, 6, 4, 4), **weights: Any
) -> Objective:
    if teacher is None:
        own = {key: value for key, value in model.config.items() if key != "h_groups"}
        teacher = type(model)(**{**own, "counts": list(teacher_counts)})
    told = import_module(".csakd_losses", __package__).CSAKDWeights(**weights)
    objective: Objective = import_module(".csakd_objective", __package__).OnlineDistillation(teacher, told)
    return objective
