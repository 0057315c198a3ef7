"""Losses of the networks, composed from `lkops.spectral_losses`."""

from typing import NamedTuple

from torch import Tensor

import lkops

__all__ = ["HLoss", "h_loss"]


class HLoss(NamedTuple):
    """The total and its unweighted terms, for logs."""

    total: Tensor
    l1: Tensor
    sam: Tensor
    gradient: Tensor


def h_loss(prediction: Tensor, target: Tensor, *, sam_weight: float = 0.5, gradient_weight: float = 0.1) -> HLoss:
    """The supervised loss: L1 + sam_weight * SAM + gradient_weight * gradient.

    Args:
        prediction, target: (N, B, H, W), floating, of one shape.
        sam_weight, gradient_weight: lambda 1 and lambda 2.

    Returns:
        `HLoss(total, l1, sam, gradient)`, float32 scalars. The total of identical images is 2.3e-4, the floor that
        the clamp of the spectral angle leaves.

    Source: LKCA-Net (arXiv 2501.18664), eq. 17; the terms are defined at `lkops.spectral_losses`.
    """
    l1, sam, _, gradient = lkops.spectral_losses(prediction, target)
    return HLoss(l1 + sam_weight * sam + gradient_weight * gradient, l1, sam, gradient)
