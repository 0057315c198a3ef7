"""What `lk_block` computes, in any floating dtype."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ..large_kernel_channel_attention.reference import large_kernel_channel_attention
from ..norm_conv1x1_gelu.reference import norm_conv1x1_gelu
from .parameters import BlockParameters


def lk_block(x: Tensor, *rest: Any) -> Tensor:
    """`rest`: the parameters, keep, and dilation1, dilation2, interleave and eps."""
    *given, keep, dilation1, dilation2, interleave, eps = rest
    parameters = BlockParameters(*given)
    u = norm_conv1x1_gelu(x, *parameters.projection, eps)
    w = large_kernel_channel_attention(u, *parameters.attention, dilation1, dilation2, interleave)
    branch = F.conv2d(w, *parameters.out)
    return x + branch if keep is None else x + branch * keep[:, None, None, None]
