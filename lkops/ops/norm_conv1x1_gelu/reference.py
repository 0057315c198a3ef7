"""What `norm_conv1x1_gelu` computes, in any floating dtype."""

import torch
import torch.nn.functional as F
from torch import Tensor


def channel_layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Layer norm over the channels of (N, C, H, W), with biased variance.

    Half precision is widened inside, as `torch.nn.functional.layer_norm` does: float16 can't hold the gradient of
    (variance + 1e-6)^(-1/2).
    """
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    centred = wide - wide.mean(1, keepdim=True)
    normed = centred * (centred.square().mean(1, keepdim=True) + eps).rsqrt()
    return (normed * weight[:, None, None] + bias[:, None, None]).to(x.dtype)


def norm_conv1x1_gelu(
    x: Tensor, norm_weight: Tensor, norm_bias: Tensor, weight: Tensor, bias: Tensor | None, eps: float = 1e-6
) -> Tensor:
    return F.gelu(F.conv2d(channel_layer_norm(x, norm_weight, norm_bias, eps), weight, bias))
