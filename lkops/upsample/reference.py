"""What `upsample_add` computes, in any floating dtype."""

import torch.nn.functional as F
from torch import Tensor

from ..bicubic.reference import bicubic_upsample


def upsample_add(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    lowres: Tensor | None,
    scale: int,
    cubic_a: float = -0.5,
    symmetric: bool = True,
) -> Tensor:
    padding = [side // 2 for side in weight.shape[2:]]
    groups = features.shape[1] // weight.shape[1]
    up = F.pixel_shuffle(F.conv2d(features, weight, bias, padding=padding, groups=groups), scale)
    return up if lowres is None else up + bicubic_upsample(lowres, scale, cubic_a, symmetric)
