"""CSAKD's losses: of a fused image, and of a student beside its teacher."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

import lkops

__all__ = [
    "CSAKDWeights",
    "FusionLoss",
    "StudentLoss",
    "beba_loss",
    "feature_loss",
    "fusion_loss",
    "layout_cosine_loss",
    "student_loss",
]


@dataclass(frozen=True, kw_only=True)
class CSAKDWeights:
    """What the losses of teacher and student are made of. The defaults are the paper's formulas, and where it leaves
    something open the released code's.

        teacher = R(Y_t, Y) + beba_weight BEBA(Y_t, Y) + sam_weight SAM(Y_t, Y)
        student = R(Y_s, Y) + beba_weight BEBA(Y_s, Y) + sam_weight SAM(Y_s, Y)
                  + feature_weight KD(Z_s, Z_t) + image_weight R(Y_s, Y_t)                 Y_t and Z_t are constants

    Attributes:
        reconstruction: R. "l1", the mean absolute error of the paper, or "smooth_l1" of the code with its beta of 1:
            half the squared error where the error is below 1, as it always is in images of peak 1.
        beba: "code" or "paper", see `beba_loss`.
        beba_offset: keep the constant that BEBA subtracts from each error. It changes no gradient.
        beba_eps: eps of `beba_loss`.
        legacy_layout: take the SAM term of the code, `layout_cosine_loss`, in place of 1 - mean cosine.
        beba_weight, sam_weight, feature_weight, image_weight: lambda 1 to 4, 0 or more.
        teacher_beba_weight, teacher_sam_weight: lambda 1 and 2 of the teacher, where they are others than the student's
            (Table III of the paper changes the student's alone); None is the same.
        floor: of the target's spectra in SAM, in its units, see `lkops.spectral_losses`; 0 is the paper's. The legacy
            layout has no spectra, and so no floor.

    Raises:
        ValueError: a value that is out of range, named.

    Source: CSAKD, eq. 11 to 15; eq. 15 writes KD(Y_s, Y) and means eq. 11.
    """

    reconstruction: str = "l1"
    beba: str = "code"
    beba_offset: bool = False
    beba_eps: float = 0.1
    legacy_layout: bool = False
    beba_weight: float = 0.1
    sam_weight: float = 0.1
    feature_weight: float = 0.1
    image_weight: float = 0.1
    teacher_beba_weight: float | None = None
    teacher_sam_weight: float | None = None
    floor: float = 0.0

    def __post_init__(self) -> None:
        for name, known in (("reconstruction", ("l1", "smooth_l1")), ("beba", ("code", "paper"))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}; got {getattr(self, name)!r}")
        for name in ("beba_offset", "legacy_layout"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False, got {getattr(self, name)!r}")
        own = ("beba_weight", "sam_weight", "feature_weight", "image_weight", "floor")
        theirs = ("teacher_beba_weight", "teacher_sam_weight")
        for name in (*own, *(name for name in theirs if getattr(self, name) is not None)):
            value = getattr(self, name)
            if not (_is_number(value) and 0 <= value < math.inf):
                raise ValueError(f"{name} must be a finite number, 0 or more, got {value!r}")
        _check_positive("beba_eps", self.beba_eps)

    def of_teacher(self) -> "CSAKDWeights":
        """The same, with the teacher's weights in place of the student's."""
        beba = self.beba_weight if self.teacher_beba_weight is None else self.teacher_beba_weight
        sam = self.sam_weight if self.teacher_sam_weight is None else self.teacher_sam_weight
        return replace(self, beba_weight=beba, sam_weight=sam)


class FusionLoss(NamedTuple):
    """The total and its unweighted terms, for logs."""

    total: Tensor
    reconstruction: Tensor
    beba: Tensor
    sam: Tensor


class StudentLoss(NamedTuple):
    """The total and its unweighted terms, for logs."""

    total: Tensor
    reconstruction: Tensor
    beba: Tensor
    sam: Tensor
    features: Tensor
    image: Tensor


def beba_loss(
    prediction: Tensor,
    target: Tensor,
    *,
    form: str = "code",
    alpha: float = 0.5,
    beta: float = 1.0,
    eps: float = 0.1,
    offset: bool = False,
) -> Tensor:
    """The band-energy-balance-aware loss: errors in units of the energy of their band.

        mean over images and bands of  mean(alpha e / beta + relu(d - beta) - alpha beta) / mean(t^2 + eps)  over pixels
        form "code":   d = |p - t|,    e = d^2
        form "paper":  d = (p - t)^2,  e = d

    Below errors of beta = 1 the two are the same. Neither is a Huber loss, although the paper says so: the quadratic
    term stays for large errors.

    Args:
        prediction, target: (N, B, H, W), floating, of one shape. Half precision is widened to float32.
        form: "code" or "paper".
        alpha, beta: above 0.
        eps: above 0, keeps dark bands from weighing without bound. The paper prints no value; 0.1 is the code's, on
            images that it brings to [-1, 1].
        offset: subtract alpha beta, as both forms do. It depends on the target alone, gives no gradient, and makes the
            loss of identical images negative, -alpha beta / (mean t^2 + eps); without it that is 0.

    Returns:
        A scalar in float32 (float64 for float64 input).

    Raises:
        ValueError: shapes that differ, an unknown form, or a number out of range.

    Source: CSAKD, eq. 12, and its released code.
    """
    if form not in ("code", "paper"):
        raise ValueError(f"form must be one of code, paper; got {form!r}")
    for name, value in (("alpha", alpha), ("beta", beta), ("eps", eps)):
        _check_positive(name, value)
    p, t = _pair(prediction, target)
    difference = (p - t).abs()
    squared = difference.square()
    error = alpha / beta * squared + F.relu((difference if form == "code" else squared) - beta)
    if offset:
        error = error - alpha * beta
    return (error.mean((2, 3)) / (t.square().mean((2, 3)) + eps)).mean()


def layout_cosine_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """1 - mean cosine between runs of B consecutive values in memory: what the released code of CSAKD computes as its
    SAM loss. It flattens (N, B, H, W) to rows of B without moving the bands last, so that a row is B neighbouring
    pixels of one band and no spectrum. For comparisons with that code only; the formula is `lkops.cosine_loss`.

    Args:
        prediction, target: (N, B, H, W), floating, of one shape.

    Raises:
        ValueError: shapes that differ.

    Source: CSAKD's released code; its paper's eq. 13 is `lkops.cosine_loss`.
    """
    p, t = _pair(prediction, target)
    bands = p.shape[1]
    rows = (x.reshape(-1, bands).t().reshape(1, bands, 1, -1) for x in (p, t))
    return lkops.cosine_loss(*rows)


def feature_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Binary cross-entropy between the sigmoids of two feature maps: mean of -(s_t log s_s + (1 - s_t) log(1 - s_s)).

    Its least value is the teacher's own entropy, not 0. Only the student gets a gradient.

    Args:
        student, teacher: Z of `CSAKD.fused`, floating, of one shape. Half precision is widened to float32.

    Raises:
        ValueError: shapes that differ.

    Source: CSAKD's released code. The paper's eq. 11 misses a bracket, and has student and teacher the other way round:
    linear in the student's sigmoid, it would drive that to 0 or 1 and not to the teacher's.
    """
    s, t = _pair(student, teacher.detach(), "student", "teacher")
    return F.binary_cross_entropy_with_logits(s, t.sigmoid())


def fusion_loss(prediction: Tensor, target: Tensor, weights: CSAKDWeights | None = None) -> FusionLoss:
    """R + beba_weight BEBA + sam_weight SAM, what the teacher is trained on; see `CSAKDWeights`.

    Args:
        prediction, target: (N, B, H, W), floating, of one shape.

    Source: CSAKD, eq. 14; SAM is its eq. 13, 1 - mean cosine of the spectra.
    """
    weights = weights or CSAKDWeights()
    p, t = _pair(prediction, target)
    spectral = lkops.spectral_losses(p, t, floor=weights.floor)  # one pass for both of its terms
    reconstruction = spectral.l1 if weights.reconstruction == "l1" else F.smooth_l1_loss(p, t)
    sam = layout_cosine_loss(p, t) if weights.legacy_layout else spectral.cosine
    beba = beba_loss(p, t, form=weights.beba, eps=weights.beba_eps, offset=weights.beba_offset)
    total = reconstruction + weights.beba_weight * beba + weights.sam_weight * sam
    return FusionLoss(total, reconstruction, beba, sam)


def student_loss(
    image: Tensor,
    features: Tensor,
    target: Tensor,
    teacher_image: Tensor,
    teacher_features: Tensor,
    weights: CSAKDWeights | None = None,
) -> StudentLoss:
    """`fusion_loss` + feature_weight KD(Z_s, Z_t) + image_weight R(Y_s, Y_t); see `CSAKDWeights`.

    Only the student gets a gradient: what comes from the teacher is a constant.

    Args:
        image, features: Y_s and Z_s, the student's.
        target: Y, (N, B, H, W).
        teacher_image, teacher_features: Y_t and Z_t.

    Source: CSAKD, eq. 15.
    """
    weights = weights or CSAKDWeights()
    own = fusion_loss(image, target, weights)
    kd = feature_loss(features, teacher_features)
    y, t = _pair(image, teacher_image.detach(), "image", "teacher_image")
    between = F.l1_loss(y, t) if weights.reconstruction == "l1" else F.smooth_l1_loss(y, t)
    total = own.total + weights.feature_weight * kd + weights.image_weight * between
    return StudentLoss(total, own.reconstruction, own.beba, own.sam, kd, between)


def _pair(a: Tensor, b: Tensor, a_name: str = "prediction", b_name: str = "target") -> tuple[Tensor, Tensor]:
    """Both in float32 or wider; broadcasting would hide a wrong shape."""
    if a.shape != b.shape:
        raise ValueError(f"{b_name} must have the shape of {a_name}, {tuple(a.shape)}, got {tuple(b.shape)}")
    if a.dim() != 4 or a.numel() == 0:
        raise ValueError(f"{a_name} must be (N, C, H, W) and not empty, got shape {tuple(a.shape)}")
    a, b = (x.float() if x.element_size() < 4 else x for x in (a, b))
    return a, b


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_positive(name: str, value: float) -> None:
    if not (_is_number(value) and 0 < value < math.inf):
        raise ValueError(f"{name} must be a finite number above 0, got {value!r}")
