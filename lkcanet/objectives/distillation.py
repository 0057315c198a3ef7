"""Distillation by feature alignment: how a student is drawn towards its teacher (LKCA-KD)."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ..common.digest import digest
from ..common.options import TrainOptions
from ..models import Lacking, Network
from ..models.capabilities import residual_image_of
from .base import Batch
from .losses import decay, kd_loss
from .supervised import HObjective

__all__ = ["Distillation", "KDObjective", "check_pair"]


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """The distillation term of the loss; the defaults are the paper's.

        L = D alpha (cosine_weight cosine + sam_weight SAM + gradient_weight gradient)(student, teacher) + H
        D = decay^floor(epoch / frequency)

    epoch is steps * batch_size / samples of an epoch, not rounded: the same where the frequency is whole, and a
    fraction lets D fall several times within a short course of few epochs.

    Attributes:
        on: "image" compares the reconstructed images I_SR; "features" what the upsamplers give before the bicubic image
            is added, F_UP. The paper says both. F_UP of a fresh student is 0, where cosine and spectral angle have no
            gradient: they set in as soon as the H loss has moved it.
        alpha: weight of the term at the start, 0 or more.
        decay: d, in (0, 1]; 1 keeps the term at full weight.
        frequency: f, epochs between two falls of D, above 0.
        cosine_weight, sam_weight, gradient_weight: lambda 3, 4 and 5, 0 or more.

    Raises:
        ValueError: a value that is out of range, named.

    Source: LKCA-Net (arXiv 2501.18664), eq. 18 to 21.
    """

    on: str = "image"
    alpha: float = 0.01
    decay: float = 0.66
    frequency: float = 10
    cosine_weight: float = 0.5
    sam_weight: float = 0.5
    gradient_weight: float = 0.1

    def __post_init__(self) -> None:
        if self.on not in ("image", "features"):
            raise ValueError(f"on must be one of image, features; got {self.on!r}")
        for name in ("alpha", "cosine_weight", "sam_weight", "gradient_weight"):
            value = getattr(self, name)
            if not (_is_number(value) and 0 <= value < math.inf):
                raise ValueError(f"{name} must be a finite number, 0 or more, got {value!r}")
        if not (_is_number(self.decay) and 0 < self.decay <= 1):
            raise ValueError(f"decay must be above 0 and at most 1, got {self.decay!r}")
        if not (_is_number(self.frequency) and 0 < self.frequency < math.inf):
            raise ValueError(f"frequency must be a positive finite number of epochs, got {self.frequency!r}")


def check_pair(student: Network, teacher: Network, distillation: Distillation) -> None:
    """Raise a ValueError where the teacher can't teach the student: their images must have one shape."""
    if teacher is student:
        raise ValueError("teacher and student are the same object: the teacher must stay as it is")
    for what, network in (("student", student), ("teacher", teacher)):
        if network.msi_bands:
            raise ValueError(
                f"the {what} ({network.kind}) fuses an MSI: networks that do train with their own objective"
            )
        if distillation.on == "features":
            try:
                residual_image_of(network)
            except Lacking as error:
                raise ValueError(f"on='features' can't compare the {what}: {error}; give on='image'") from error
    for name in ("bands", "scale"):
        ours, theirs = getattr(student, name), getattr(teacher, name)
        if ours != theirs:
            raise ValueError(f"the teacher's {name} must be the student's, {ours}; got {theirs}")
    for key, parameter in teacher.named_parameters():
        if not parameter.isfinite().all():
            raise ValueError(f"the teacher's weights hold NaN or infinite values, first in {key}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class KDObjective(HObjective):
    """H and the distillation loss between the network and a trained teacher, see `lkcanet.objectives.distillation`.

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
        psnr_weight: float = 0.0,
    ) -> None:
        super().__init__(sam_weight, gradient_weight, floor, psnr_weight)
        self.teacher = teacher.fold().cpu().eval().requires_grad_(False)
        self.distillation = distillation or Distillation()
        self.told = {"file": teacher_file, "config": teacher.config, "digest": digest(self.teacher.state_dict())}

    @classmethod
    def taught(
        cls,
        options: TrainOptions,
        teacher: Network,
        distillation: Distillation | None = None,
        teacher_file: str | None = None,
    ) -> "KDObjective":
        """With the weights and the floor of a training's options."""
        weights = options.sam_weight, options.gradient_weight
        return cls(teacher, distillation, *weights, teacher_file, options.floor, options.psnr_weight)

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
            return residual_image_of(model)(lowres)
        return (model(lowres),) * 2

    def facts(self) -> dict[str, Any]:
        return {"distillation": asdict(self.distillation), "teacher": self.told}
