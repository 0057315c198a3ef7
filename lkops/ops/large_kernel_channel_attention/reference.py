"""What `large_kernel_channel_attention` computes, in any floating dtype."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..channel_attention.reference import channel_attention
from ..depthwise_conv2d.reference import depthwise_conv2d
from .parameters import AttentionParameters


def large_kernel_channel_attention(u: Tensor, *rest: Any) -> Tensor:
    """`rest`: the parameters, and dilation1, dilation2 and interleave."""
    *given, dilation1, dilation2, interleave = rest
    parameters = AttentionParameters(*given)
    mix_weight = parameters.mix_weight
    a1 = depthwise_conv2d(u, parameters.dw1_weight, parameters.dw1_bias, dilation1)
    a2 = depthwise_conv2d(a1, parameters.dw2_weight, parameters.dw2_bias, dilation2)
    concat = torch.cat((u, a1, a2), dim=1)
    scaled = channel_attention(concat, *parameters.gate)
    groups = concat.shape[1] // mix_weight.shape[1]
    if interleave:  # (part, group, channels of the group) -> (group, part, channels of the group)
        # every size spelled out: ONNX can't infer one where the batch is empty
        parts = scaled.unflatten(1, (3, groups, mix_weight.shape[1] // 3))
        scaled = parts.transpose(1, 2).reshape(concat.shape)
    return F.conv2d(scaled, mix_weight, parameters.mix_bias, groups=groups) * u
