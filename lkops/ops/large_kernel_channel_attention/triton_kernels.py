"""Large-kernel channel attention on the GPU: what the operator launches. `block` builds on the same parts."""

from typing import Any

from torch import Tensor

from ..._core.library import gradients_like
from ..channel_attention.triton_kernels import gate_backward
from .parameters import AttentionParameters
from .triton_backward import cascade_backward, cascade_weights, mix_backward
from .triton_forward import cascade, mix


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
    """Gradients of u and the ten parameters; `product`, if given, is filled with what forward returned (for which the
    gradient of u must be needed)."""
    *saved, dilation1, dilation2, interleave, needs = rest
    parameters, (a1, a2, mean, scale) = AttentionParameters(*saved[:10]), saved[10:]
    (w1, b1, w2, b2), attention, (wm, bm) = parameters.convs, parameters.gate, parameters.mix
    gradients = gradients_like(needs, u, w1, b1, w2, b2, *attention, wm, bm)
    n, c, h, w = u.shape
    du = gradients[0] if needs[0] else None
    parts = u.new_empty(3, n, c, h, w) if any(needs[:5]) else None
    mixed_gradients = (gradients[9], gradients[10])
    dots = mix_backward(grad, (u, a1, a2), scale, wm, bm, interleave, du, parts, mixed_gradients, product)
    if any(needs[:9]):
        _, dmean = gate_backward(dots, mean, attention, h * w, gradients[5:9])
    if parts is not None:
        dilations = (dilation1, dilation2)
        if any(needs[:3]):
            cascade_backward(parts, w1, w2, dmean, du, dilations)
        if any(needs[1:5]):
            cascade_weights(parts, u, a1, dmean, (w1, w2), dilations, gradients[1:5])
    return gradients
