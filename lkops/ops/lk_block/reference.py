"""What `lk_block` computes, in any floating dtype."""

import torch.nn.functional as F
from torch import Tensor

from ..large_kernel_channel_attention.reference import large_kernel_channel_attention
from ..norm_conv1x1_gelu.reference import norm_conv1x1_gelu


def lk_block(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    in_weight: Tensor,
    in_bias: Tensor | None,
    dw1_weight: Tensor,
    dw1_bias: Tensor | None,
    dw2_weight: Tensor,
    dw2_bias: Tensor | None,
    reduce_weight: Tensor,
    reduce_bias: Tensor | None,
    expand_weight: Tensor,
    expand_bias: Tensor | None,
    mix_weight: Tensor,
    mix_bias: Tensor | None,
    out_weight: Tensor,
    out_bias: Tensor | None,
    keep: Tensor | None = None,
    dilation1: int = 5,
    dilation2: int = 7,
    interleave: bool = False,
    eps: float = 1e-6,
) -> Tensor:
    u = norm_conv1x1_gelu(x, norm_weight, norm_bias, in_weight, in_bias, eps)
    attention = (dw1_weight, dw1_bias, dw2_weight, dw2_bias, reduce_weight, reduce_bias, expand_weight, expand_bias)
    w = large_kernel_channel_attention(u, *attention, mix_weight, mix_bias, dilation1, dilation2, interleave)
    branch = F.conv2d(w, out_weight, out_bias)
    return x + branch if keep is None else x + branch * keep[:, None, None, None]
