"""`large_kernel_channel_attention`: the LKCA module of LKCA-Net."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..._core import checks
from ..._core.library import gradients_like, spelled
from ..._core.operator import FLOAT32_AND_BFLOAT16, FLOATS, Kernels
from ..._core.registration import register
from .. import channel_attention, depthwise_conv2d
from . import reference
from .parameters import AttentionParameters

__all__ = ["large_kernel_channel_attention", "reference"]

_TENSORS = f"Tensor u, {spelled(AttentionParameters)}"
_OPTIONS = "int dilation1, int dilation2, bool interleave"
_CASCADE = "Tensor u, Tensor w1, Tensor? b1, Tensor w2, Tensor? b2"


def _fake_forward(u: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    """y and, for backward, a1, a2, and the mean and scale (N, 3C) of the concat's channels."""
    gates = [u.new_empty((u.shape[0], 3 * u.shape[1]), dtype=torch.float32) for _ in range(2)]
    return *(u.new_empty(u.shape) for _ in range(3)), *gates


def _fake_backward(grad: Tensor, *rest: Any) -> list[Tensor]:
    return gradients_like(rest[-1], *rest[:11])


OPERATOR = register(
    "large_kernel_channel_attention",
    reference.large_kernel_channel_attention,
    kernels={
        "cpu": Kernels(FLOAT32_AND_BFLOAT16, casts=True),
        "triton": Kernels(FLOATS),
        "cuda": Kernels(
            FLOATS,
            parts={
                "attention_cascade_cuda_fwd": f"({_CASCADE}, int dilation1, int dilation2) -> (Tensor, Tensor, Tensor)",
                "attention_cascade_cuda_bwd": "(Tensor(a!) parts, Tensor(b!)? du, Tensor u, Tensor a1, Tensor w1, "
                "Tensor? b1, Tensor w2, Tensor? b2, Tensor dmean, int dilation1, int dilation2, bool[] needs)"
                " -> (Tensor, Tensor, Tensor, Tensor)",
            },
        ),
    },
    forward=f"({_TENSORS}, {_OPTIONS}) -> (Tensor y, Tensor a1, Tensor a2, Tensor mean, Tensor scale)",
    backward=f"(Tensor grad_y, {_TENSORS}, Tensor a1, Tensor a2, Tensor mean, Tensor scale, {_OPTIONS}, bool[] needs)"
    f" -> ({', '.join(['Tensor'] * 11)})",
    casts=("u", *AttentionParameters._fields),
    fake_forward=_fake_forward,
    fake_backward=_fake_backward,
)


def check(name: str, u: Tensor, *given: Any) -> None:
    """The parameters must fit `u` and each other."""
    parameters = AttentionParameters(*given)
    dw1_weight, dw1_bias, dw2_weight, dw2_bias = parameters.convs
    mix_weight, mix_bias = parameters.mix
    channels = u.shape[1]
    depthwise_conv2d.check(name, u, dw1_weight, dw1_bias, prefix="dw1_")
    depthwise_conv2d.check(name, u, dw2_weight, dw2_bias, prefix="dw2_")
    channel_attention.check(name, u, *parameters.gate, times=3)
    checks.conv_weight("mix_weight", mix_weight)
    checks.parameter("mix_weight", mix_weight, (channels, mix_weight.shape[1], 1, 1), name, u)
    checks.groups_of("mix_weight", mix_weight, 3 * channels)
    checks.optional_parameter("mix_bias", mix_bias, (channels,), name, u)


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
    *,
    dilations: Sequence[int] = (5, 7),
    interleave: bool = False,
    backend: str | Sequence[str] | None = None,
) -> Tensor:
    """Large-kernel channel attention: two dilated depthwise convs, channel attention over all three maps, product.

        a1 = depthwise conv(u),  a2 = depthwise conv(a1)     zero padding that keeps the size
        ac = cat(u, a1, a2)                                  (N, 3C, H, W)
        s  = sigmoid(W2 relu(W1 mean over pixels(ac) + b1) + b2)
        y  = grouped 1x1 conv(s ac) * u

    Args:
        u: (N, C, H, W), floating.
        dw1_weight, dw2_weight: (C, 1, kh, kw), odd kernels; dtype and device of `u`, as all parameters.
        dw1_bias, dw2_bias: (C,), or None.
        reduce_weight, reduce_bias: W1, (R, 3C, 1, 1) and b1, (R,), or None.
        expand_weight, expand_bias: W2, (3C, R, 1, 1) and b2, (3C,), or None.
        mix_weight: (C, 3C / g, 1, 1): a 1x1 conv of g groups.
        mix_bias: (C,), or None.
        dilations: of the two depthwise convs.
        interleave: False takes the channels to the groups in the paper's order (u, a1, a2), where the first group
            sees only u and the last only a2; True gives each group the same channels of all three maps, its
            C/g of u, then of a1, then of a2. The attention's parameters keep the paper's order.
        backend: see `lkops.backends`.

    Returns:
        (N, C, H, W), contiguous; under autocast in the autocast dtype.

    Raises:
        ValueError, TypeError: an argument that is not as above.
        RuntimeError: a backend was asked for that can't run these arguments.
        torch.OutOfMemoryError: memory for the output or on the way to it is not there; a RuntimeError too.

    Source: LKCA-Net (arXiv 2501.18664), eq. 9 to 14.
    """
    given = (dw1_weight, dw1_bias, dw2_weight, dw2_bias, reduce_weight, reduce_bias, expand_weight, expand_bias)

    def options() -> tuple[Any, ...]:
        return *checks.pair("dilations", dilations), checks.flag("interleave", interleave)

    return OPERATOR((u, *given, mix_weight, mix_bias), options, backend, _fit)


def _fit(tensors: Any, options: Any) -> None:
    u, *parameters = tensors
    checks.image("u", u)
    check("u", u, *parameters)
