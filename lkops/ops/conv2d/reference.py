"""What `conv2d` computes, in any floating dtype."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

ACTIVATIONS = ("none", "relu", "leaky_relu", "prelu", "gelu", "silu", "sigmoid")
_PLAIN: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
}


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    prelu_weight: Tensor | None,
    residual: Tensor | None,
    stride_height: int,
    stride_width: int,
    top: int,
    left: int,
    dilation_height: int,
    dilation_width: int,
    groups: int,
    activation: int,
    slope: float,
    residual_scale: float,
    relaxed: bool,
) -> Tensor:
    """`activation` is a place in `ACTIVATIONS`; `relaxed` changes nothing here."""
    stride, dilation = (stride_height, stride_width), (dilation_height, dilation_width)
    y = F.conv2d(input, weight, bias, stride, (top, left), dilation, groups)
    name = ACTIVATIONS[activation]
    if name == "leaky_relu":
        y = F.leaky_relu(y, slope)
    elif name == "prelu":
        assert prelu_weight is not None
        y = F.prelu(y, prelu_weight)
    elif name != "none":
        y = _PLAIN[name](y)
    if residual_scale != 1:
        y = residual_scale * y
    return y if residual is None else residual + y
