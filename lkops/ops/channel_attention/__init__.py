"""`channel_attention`: scale every channel by a gate computed from all channels' means."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..._core import checks
from ..._core.library import gradients_like
from ..._core.operator import FLOAT32_AND_BFLOAT16, FLOATS, Kernels
from ..._core.registration import register
from . import reference

__all__ = ["channel_attention", "reference"]

_PARAMETERS = "Tensor reduce_weight, Tensor? reduce_bias, Tensor expand_weight, Tensor? expand_bias"


def _fake_forward(x: Tensor, *parameters: Tensor | None) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape[:2], dtype=torch.float32)


def _fake_backward(grad: Tensor, x: Tensor, *rest: Any) -> list[Tensor]:
    *parameters, _mean, needs = rest
    return gradients_like(needs, x, *parameters)


OPERATOR = register(
    "channel_attention",
    reference.channel_attention,
    kernels={
        "cpu": Kernels(FLOAT32_AND_BFLOAT16),
        "triton": Kernels(FLOATS),
    },
    forward=f"(Tensor x, {_PARAMETERS}) -> (Tensor y, Tensor mean)",
    backward=f"(Tensor grad_y, Tensor x, {_PARAMETERS}, Tensor mean, bool[] needs)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    casts=("x", "reduce_weight", "reduce_bias", "expand_weight", "expand_bias"),
    fake_forward=_fake_forward,
    fake_backward=_fake_backward,
)


def check(
    x_name: str,
    x: Tensor,
    reduce_weight: Tensor,
    reduce_bias: Tensor | None,
    expand_weight: Tensor,
    expand_bias: Tensor | None,
    *,
    times: int = 1,
) -> None:
    """The parameters must be those of channel attention over `times` the channels of `x`, with its dtype and device."""
    channels = times * x.shape[1]
    checks.conv_weight("reduce_weight", reduce_weight)
    hidden = reduce_weight.shape[0]
    checks.parameter("reduce_weight", reduce_weight, (hidden, channels, 1, 1), x_name, x)
    checks.optional_parameter("reduce_bias", reduce_bias, (hidden,), x_name, x)
    checks.parameter("expand_weight", expand_weight, (channels, hidden, 1, 1), x_name, x)
    checks.optional_parameter("expand_bias", expand_bias, (channels,), x_name, x)


def channel_attention(
    x: Tensor,
    reduce_weight: Tensor,
    reduce_bias: Tensor | None,
    expand_weight: Tensor,
    expand_bias: Tensor | None,
    *,
    backend: str | Sequence[str] | None = None,
) -> Tensor:
    """Scale every channel by its attention.

        s = sigmoid(W2 relu(W1 m + b1) + b2),   m[n, c] = mean over pixels of x[n, c]
        y[n, c] = s[n, c] x[n, c]

    Args:
        x: (N, C, H, W), floating.
        reduce_weight: W1, (R, C, 1, 1); dtype and device of `x`.
        reduce_bias: b1, (R,), or None.
        expand_weight: W2, (C, R, 1, 1).
        expand_bias: b2, (C,), or None.
        backend: see `lkops.backends`.

    Returns:
        (N, C, H, W), contiguous; under autocast in the autocast dtype.

    Raises:
        ValueError, TypeError: an argument that is not as above.
        RuntimeError: a backend was asked for that can't run these arguments.
        torch.OutOfMemoryError: memory for the output or on the way to it is not there; a RuntimeError too.

    Source: Zhang et al., RCAN (ECCV 2018), eq. 5 to 9; LKCA-Net (arXiv 2501.18664), eq. 12.
    """
    tensors = (x, reduce_weight, reduce_bias, expand_weight, expand_bias)

    def fit(tensors: Any, options: Any) -> None:
        x, *parameters = tensors
        checks.image("x", x)
        check("x", x, *parameters)

    return OPERATOR(tensors, tuple, backend, fit)
