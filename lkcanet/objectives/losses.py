"""Losses of the networks, composed from `lkops.spectral_losses`."""

import math
from typing import NamedTuple

from torch import Tensor

import lkops

__all__ = ["HLoss", "KDLoss", "decay", "h_loss", "kd_loss", "log_rmse"]

LEAST_MSE = 1e-6  # 60 dB: what is better than this needs no further push


class HLoss(NamedTuple):
    """The total and its unweighted terms, for logs."""

    total: Tensor
    l1: Tensor
    sam: Tensor
    gradient: Tensor


def h_loss(
    prediction: Tensor,
    target: Tensor,
    *,
    sam_weight: float = 0.5,
    gradient_weight: float = 0.1,
    floor: float = 0.0,
) -> HLoss:
    """The supervised loss: L1 + sam_weight * SAM + gradient_weight * gradient.

    Args:
        prediction, target: (N, B, H, W), floating, of one shape.
        sam_weight, gradient_weight: lambda 1 and lambda 2.
        floor: a pixel's angle counts by how far the root mean square over the bands of its target is above it, see
            `lkops.spectral_losses`; 0 is the paper's formula.

    Returns:
        `HLoss(total, l1, sam, gradient)`, float32 scalars. The total of identical images is 2.3e-4, the floor that
        the clamp of the spectral angle leaves.

    Source: LKCA-Net (arXiv 2501.18664), eq. 17; the terms are defined at `lkops.spectral_losses`.
    """
    l1, sam, _, gradient = lkops.spectral_losses(prediction, target, floor=floor)
    return HLoss(l1 + sam_weight * sam + gradient_weight * gradient, l1, sam, gradient)


def log_rmse(prediction: Tensor, target: Tensor) -> Tensor:
    """The mean over images and bands of ln sqrt(MSE + 1e-6): -0.115 times the MPSNR in dB of a peak of 1.

    L1 is the sum of bright images and bands for the most part; MPSNR counts a band of a dark scene as much as one of a
    bright scene. This pushes where the relative error is large.

    Args:
        prediction, target: (N, B, H, W), floating, of one shape.

    Returns:
        A scalar of their dtype; infinite or NaN where they are.

    Source: ours, over bands; of whole images: NAFNet's PSNR loss (arXiv 2204.04676, code).
    """
    return 0.5 * (prediction - target).square().mean((2, 3)).add(LEAST_MSE).log().mean()


class KDLoss(NamedTuple):
    """The total and its unweighted terms, for logs."""

    total: Tensor
    cosine: Tensor
    sam: Tensor
    gradient: Tensor


def kd_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    cosine_weight: float = 0.5,
    sam_weight: float = 0.5,
    gradient_weight: float = 0.1,
    floor: float = 0.0,
) -> KDLoss:
    """The distillation loss: cosine_weight * cosine + sam_weight * SAM + gradient_weight * gradient.

    Only the student gets a gradient: the teacher's image is a constant.

    Args:
        student, teacher: (N, B, H, W), floating, of one shape: reconstructed images, or features before the bicubic
            image is added.
        cosine_weight, sam_weight, gradient_weight: lambda 3, 4 and 5.
        floor: of the teacher's spectra, which are the target here; see `h_loss`.

    Returns:
        `KDLoss(total, cosine, sam, gradient)`, float32 scalars (float64 for float64 input).

    Source: LKCA-Net (arXiv 2501.18664), eq. 18 and 19; the terms are defined at `lkops.spectral_losses`, which reads
    the cosine of a cosine that eq. 18 prints as 1 - mean cosine.
    """
    _, sam, cosine, gradient = lkops.spectral_losses(student, teacher.detach(), floor=floor)
    total = cosine_weight * cosine + sam_weight * sam + gradient_weight * gradient
    return KDLoss(total, cosine, sam, gradient)


def decay(epoch: float, factor: float, frequency: float) -> float:
    """D = factor^floor(epoch / frequency), which lets go of the teacher. Source: LKCA-Net, eq. 20."""
    return float(factor ** math.floor(epoch / frequency))
