"""Large-kernel channel attention on the GPU: the cascade of depthwise convs by CUDA kernels, which hold whole planes in
shared memory, and gate and mix by Triton's.

`attention_cascade_cuda_fwd` and `_bwd` are what csrc/bindings/cuda/large_kernel_channel_attention.cpp implements.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..._core.library import gradients_like
from ..channel_attention.triton_kernels import gate_backward
from .parameters import AttentionParameters
from .triton_backward import mix_backward
from .triton_forward import mix


def cascade(u: Tensor, parameters: Sequence[Tensor | None], dilations: tuple[int, int]) -> tuple[Tensor, ...]:
    """a1, a2 and the sums of u, a1, a2, (N, 3C, parts), from the weights and biases of the two depthwise convs."""
    result: tuple[Tensor, ...] = torch.ops.lkops.attention_cascade_cuda_fwd(u, *parameters, *dilations)
    return result


def forward(u: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    """y and, for backward, a1, a2, and the mean and scale (N, 3C) of the concat's channels."""
    *given, dilation1, dilation2, interleave = rest
    parameters = AttentionParameters(*given)
    a1, a2, sums = cascade(u, parameters.convs, (dilation1, dilation2))
    y, mean, scale = mix(u, a1, a2, sums, parameters.gate, *parameters.mix, interleave)
    return y, a1, a2, mean, scale


def backward(
    grad: Tensor,
    u: Tensor,
    *rest: Any,
    product: Tensor | None = None,
) -> list[Tensor]:
    """As `triton_kernels.backward`."""
    *saved, dilation1, dilation2, interleave, needs = rest
    parameters, (a1, a2, mean, scale) = AttentionParameters(*saved[:10]), saved[10:]
    (w1, b1, w2, b2), attention, (wm, bm) = parameters.convs, parameters.gate, parameters.mix
    # those of the depthwise convs come with the cascade's backward
    gradients = gradients_like((needs[0], *[False] * 4, *needs[5:]), u, w1, b1, w2, b2, *attention, wm, bm)
    n, c, h, w = u.shape
    du = gradients[0] if needs[0] else None
    parts = u.new_empty(3, n, c, h, w) if any(needs[:5]) else None
    mixed_gradients = (gradients[9], gradients[10])
    dots = mix_backward(grad, (u, a1, a2), scale, wm, bm, interleave, du, parts, mixed_gradients, product)
    if any(needs[:9]):
        _, dmean = gate_backward(dots, mean, attention, h * w, gradients[5:9])
    if parts is not None:
        op = torch.ops.lkops.attention_cascade_cuda_bwd
        gradients[1:5] = op(parts, du, u, a1, w1, b1, w2, b2, dmean, dilation1, dilation2, list(needs[1:5]))
    return gradients
