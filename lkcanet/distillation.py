"""Distillation by feature alignment: how a student is drawn towards its teacher (LKCA-KD)."""

import math
from dataclasses import dataclass

from .models import LKCANet, Network

__all__ = ["Distillation", "check_pair"]


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
        if distillation.on == "features" and not isinstance(network, LKCANet):
            raise ValueError(f"on='features' needs two LKCA-Nets, the {what} is {network.kind}: give on='image'")
    for name in ("bands", "scale"):
        ours, theirs = getattr(student, name), getattr(teacher, name)
        if ours != theirs:
            raise ValueError(f"the teacher's {name} must be the student's, {ours}; got {theirs}")
    for key, parameter in teacher.named_parameters():
        if not parameter.isfinite().all():
            raise ValueError(f"the teacher's weights hold NaN or infinite values, first in {key}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
