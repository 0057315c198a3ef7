"""What `large_kernel_channel_attention` computes, in any floating dtype."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..channel_attention.reference import channel_attention
from ..depthwise_conv2d.reference import depthwise_conv2d


def large_kernel_channel_attention(
    u: Tensor,
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
    dilation1: int = 5,
    dilation2: int = 7,
    interleave: bool = False,
) -> Tensor:
    a1 = depthwise_conv2d(u, dw1_weight, dw1_bias, dilation1)
    a2 = depthwise_conv2d(a1, dw2_weight, dw2_bias, dilation2)
    concat = torch.cat((u, a1, a2), dim=1)
    scaled = channel_attention(concat, reduce_weight, reduce_bias, expand_weight, expand_bias)
    groups = concat.shape[1] // mix_weight.shape[1]
    if interleave:  # (part, group, channels of the group) -> (group, part, channels of the group)
        # every size spelled out: ONNX can't infer one where the batch is empty
        parts = scaled.unflatten(1, (3, groups, mix_weight.shape[1] // 3))
        scaled = parts.transpose(1, 2).reshape(concat.shape)
    return F.conv2d(scaled, mix_weight, mix_bias, groups=groups) * u
