"""What `spectral_losses` computes. Half precision is widened to float32 first: it would round 1 - 1e-6 to 1."""

import math

import torch
from torch import Tensor

TINY = 1e-6  # a spectrum with a smaller norm has no direction
CLAMP = 1e-6  # keeps the slope of arccos finite
FLOOR = 1e-6  # keeps the slope of the square root finite


def _mean(x: Tensor) -> Tensor:
    return x.sum() / max(x.numel(), 1)  # 0, not NaN, where there is nothing to average


def _cosine(pp: Tensor, tt: Tensor, pt: Tensor) -> Tensor:
    """Cosine between spectra, from their products; 0, without gradient, where one is tiny, unless the other is NaN."""
    valid = ~(torch.minimum(pp, tt) < TINY**2)  # the minimum of NaN and anything is NaN
    one = torch.ones_like(pp)
    norms = torch.where(valid, pp, one).sqrt() * torch.where(valid, tt, one).sqrt()
    return torch.where(valid, pt / norms, torch.zeros_like(pp))


def _weight(tt: Tensor, bands: int, floor: float) -> Tensor:
    """How much a pixel's angle counts: 0 for a target's root mean square of `floor` or less, near 1 far above it."""
    tt = tt.detach()
    return (1 - bands * floor**2 / tt).clamp(min=0) if floor > 0 else torch.ones_like(tt)


def _gradient_magnitude(x: Tensor) -> Tensor:
    """Magnitude of the backward differences along bands, rows and columns, (N, C-1, H-1, W-1)."""
    here = x[:, 1:, 1:, 1:]
    bands, rows, columns = here - x[:, :-1, 1:, 1:], here - x[:, 1:, :-1, 1:], here - x[:, 1:, 1:, :-1]
    return (bands.square() + rows.square() + columns.square() + FLOOR).sqrt()


def spectral_losses(prediction: Tensor, target: Tensor, floor: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if prediction.dtype in (torch.float16, torch.bfloat16):
        prediction = prediction.float()
    if target.dtype in (torch.float16, torch.bfloat16):
        target = target.float()
    pp, tt, pt = prediction.square().sum(1), target.square().sum(1), (prediction * target).sum(1)
    cosine, weight = _cosine(pp, tt, pt), _weight(tt, target.shape[1], floor)
    l1 = _mean((prediction - target).abs())
    sam = _mean(weight * cosine.clamp(-1 + CLAMP, 1 - CLAMP).acos()) / math.pi
    gradient = _mean((_gradient_magnitude(prediction) - _gradient_magnitude(target)).abs())
    return l1, sam, _mean(weight * (1 - cosine)), gradient
