"""CSAKD's online distillation: teacher and student learn in the same steps."""

from dataclasses import asdict
from typing import Any

from torch import Tensor

from ..models.csakd import CSAKD
from ..models.registry import Network
from .base import Batch, Objective
from .csakd_losses import CSAKDWeights, fusion_loss, student_loss

__all__ = ["OnlineDistillation", "check_fusion_pair"]


class OnlineDistillation(Objective):
    """The student's loss and its teacher's, in one: each gives gradients to its own network alone.

        loss = student + teacher,    both as in `CSAKDWeights`

    A step thus trains both, by one optimizer with one learning rate. The teacher is kept with the run and saved beside
    the student, as teacher.safetensors. Gradients that are clipped by their norm are clipped by that of both.

    Args:
        teacher: trains along, in place. It may be fresh, as in the paper, or trained before.
        weights: of the terms, and which form of each.

    Source: CSAKD, section III-B and IV-A.2. The released code has a schedule for each network (cosine for the teacher,
    steps for the student); the paper names one, cosine, and so there is one here.
    """

    terms = (
        *("reconstruction", "beba", "sam_loss", "kd_features", "kd_image"),
        *("teacher_loss", "teacher_reconstruction", "teacher_beba", "teacher_sam_loss"),
    )

    def __init__(self, teacher: CSAKD, weights: CSAKDWeights | None = None) -> None:
        super().__init__()
        if not isinstance(teacher, CSAKD):
            raise TypeError(f"teacher must be a CSAKD network, got {type(teacher).__name__}")
        self.teacher = teacher
        self.weights = weights or CSAKDWeights()

    def forward(self, model: Network, batch: Batch, passes: float) -> dict[str, Tensor | float]:
        if not isinstance(model, CSAKD):
            raise TypeError(f"model must be a CSAKD network, got {type(model).__name__}")
        if batch.msi is None:
            raise ValueError("batch.msi must be the multispectral images that CSAKD fuses, got None")
        check_fusion_pair(model, self.teacher)
        theirs, their_features = self.teacher.fused(batch.lowres, batch.msi)
        ours, features = model.fused(batch.lowres, batch.msi)
        teacher = fusion_loss(theirs, batch.target, self.weights.of_teacher())
        student = student_loss(ours, features, batch.target, theirs, their_features, self.weights)
        values = (*student[1:], *teacher)
        return {"loss": student.total + teacher.total, **dict(zip(self.terms, values, strict=True))}

    def companions(self) -> dict[str, Network]:
        return {"teacher": self.teacher}

    def facts(self) -> dict[str, Any]:
        # without what was not there in older runs, where it is as it was then: they go on
        weights = {name: value for name, value in asdict(self.weights).items() if value is not None}
        if not weights["floor"]:
            del weights["floor"]
        told = {"name": type(self).__name__, "weights": weights, "teacher": self.teacher.config}
        return {"objective": told}


def check_fusion_pair(student: CSAKD, teacher: CSAKD) -> None:
    """Raise a ValueError where the teacher can't teach the student: images and features must have one shape."""
    if teacher is student:
        raise ValueError("teacher and student are the same object: each learns on its own")
    for name in ("bands", "msi_bands", "scale", "features"):
        ours, theirs = getattr(student, name), getattr(teacher, name)
        if ours != theirs:
            raise ValueError(f"the teacher's {name} must be the student's, {ours}; got {theirs}")
