"""`lk_block`: the residual block of LKCA-Net."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..._core import checks
from ..._core.library import gradients_like, spelled
from ..._core.operator import FLOAT32_AND_BFLOAT16, FLOATS, Kernels
from ..._core.registration import register
from .. import large_kernel_channel_attention, norm_conv1x1_gelu
from . import reference
from .parameters import BlockParameters

__all__ = ["lk_block", "reference"]

_TENSORS = f"Tensor x, {spelled(BlockParameters)}, Tensor? keep"
_COUNT = len(BlockParameters._fields) + 2  # of these tensors
_OPTIONS = "int dilation1, int dilation2, bool interleave, float eps"


def _fake_forward(x: Tensor, norm_weight: Tensor, norm_bias: Tensor, in_weight: Tensor, *rest: Any) -> list[Tensor]:
    """y and, for backward, u, a1, a2, and the mean and scale (N, 3K) of the concat's channels; empty if not `saving`.

    The C++ kernel returns the pre-activation t of u = gelu(t) in the place of u.
    """
    n, width, saving = x.shape[0], in_weight.shape[0], rest[-1]
    maps, gates = ((n, width, *x.shape[2:]), (n, 3 * width)) if saving else ((0,), (0,))
    saved = [*(x.new_empty(maps) for _ in range(3)), *(x.new_empty(gates, dtype=torch.float32) for _ in range(2))]
    return [x.new_empty(x.shape), *saved]


def _fake_backward(grad: Tensor, *rest: Any) -> list[Tensor]:
    return gradients_like(rest[-1], *rest[:_COUNT])


OPERATOR = register(
    "lk_block",
    reference.lk_block,
    kernels={
        "cpu": Kernels(FLOAT32_AND_BFLOAT16, casts=True),
        "triton": Kernels(FLOATS),
        "cuda": Kernels(
            FLOATS, parts={"block_inference_cuda": f"({_TENSORS}, {_OPTIONS}, bool cooperative) -> Tensor"}
        ),
    },
    forward=f"({_TENSORS}, {_OPTIONS}, bool saving)"
    " -> (Tensor y, Tensor u, Tensor a1, Tensor a2, Tensor mean, Tensor scale)",
    backward=f"(Tensor grad_y, {_TENSORS}, Tensor u, Tensor a1, Tensor a2, Tensor mean, Tensor scale, {_OPTIONS}, "
    f"bool[] needs) -> ({', '.join(['Tensor'] * _COUNT)})",
    casts=("x", *BlockParameters._fields, "keep"),
    fake_forward=_fake_forward,
    fake_backward=_fake_backward,
)


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
    *,
    keep: Tensor | None = None,
    dilations: Sequence[int] = (5, 7),
    interleave: bool = False,
    eps: float = 1e-6,
    backend: str | Sequence[str] | None = None,
) -> Tensor:
    """The large-kernel block: projection, large-kernel channel attention and output conv around a residual.

        u = norm_conv1x1_gelu(x)                        C -> K channels
        w = large_kernel_channel_attention(u)           K -> K
        y = x + keep * conv1x1(w)                       K -> C

    Args:
        x: (N, C, H, W), floating.
        norm_weight, norm_bias: (C,); dtype and device of `x`, as all parameters.
        in_weight, in_bias: (K, C, 1, 1) and (K,), or None.
        dw1_weight ... mix_bias: as in `large_kernel_channel_attention`, over K channels.
        out_weight, out_bias: (C, K, 1, 1) and (C,), or None.
        keep: (N,), what scales each sample's branch: 0 drops it, 1 / (1 - p) keeps it (stochastic depth,
            arXiv 1603.09382); None is 1.
        dilations, interleave: as in `large_kernel_channel_attention`.
        eps: of the layer norm.
        backend: see `lkops.backends`.

    Returns:
        (N, C, H, W), contiguous; under autocast in the autocast dtype.

    Raises:
        ValueError, TypeError: an argument that is not as above.
        RuntimeError: a backend was asked for that can't run these arguments.
        torch.OutOfMemoryError: memory for the output or on the way to it is not there; a RuntimeError too.

    Source: LKCA-Net (arXiv 2501.18664), eq. 7 and fig. 3.
    """
    given = (dw1_weight, dw1_bias, dw2_weight, dw2_bias, reduce_weight, reduce_bias, expand_weight, expand_bias)
    tensors = (x, norm_weight, norm_bias, in_weight, in_bias, *given, mix_weight, mix_bias, out_weight, out_bias, keep)

    def options() -> tuple[Any, ...]:
        first, second = checks.pair("dilations", dilations)
        return first, second, checks.flag("interleave", interleave), checks.above_zero("eps", eps)

    return OPERATOR(tensors, options, backend, _fit)


def _fit(tensors: Any, options: Any) -> None:
    x, *given, keep = tensors
    parameters = BlockParameters(*given)
    checks.image("x", x)
    norm_conv1x1_gelu.check("x", x, *parameters.projection, prefix="in_")
    width = parameters.in_weight.shape[0]
    # the attention's checks read only the channels, dtype and device of what it will get
    large_kernel_channel_attention.check("x", x[:0, :1].expand(-1, width, -1, -1), *parameters.attention)
    checks.conv_weight("out_weight", parameters.out_weight)
    checks.parameter("out_weight", parameters.out_weight, (x.shape[1], width, 1, 1), "x", x)
    checks.optional_parameter("out_bias", parameters.out_bias, (x.shape[1],), "x", x)
    checks.optional_parameter("keep", keep, (x.shape[0],), "x", x)
