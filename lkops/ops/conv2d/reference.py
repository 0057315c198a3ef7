"""What `conv2d` computes, in any floating dtype."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..._core.onednn import rightly_laid_out
from .values import ACTIVATIONS, PLAIN, Options


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    prelu_weight: Tensor | None,
    residual: Tensor | None,
    *options: Any,
) -> Tensor:
    """`options`: those of `values.Options`; `relaxed` changes nothing here."""
    o = Options(*options)
    strides, dilations = (o.stride_height, o.stride_width), (o.dilation_height, o.dilation_width)
    input, weight = rightly_laid_out(input, weight, dilations)
    y = F.conv2d(input, weight, bias, strides, (o.top, o.left), dilations, o.groups)
    name = ACTIVATIONS[o.activation]
    if name == "leaky_relu":
        y = F.leaky_relu(y, o.slope)
    elif name == "prelu":
        assert prelu_weight is not None
        y = F.prelu(y, prelu_weight)
    elif name != "none":
        y = PLAIN[name](y)
    if o.residual_scale != 1:
        y = o.residual_scale * y
    y = y if residual is None else residual + y
    return y.contiguous(memory_format=torch.channels_last if o.channels_last else torch.contiguous_format)
