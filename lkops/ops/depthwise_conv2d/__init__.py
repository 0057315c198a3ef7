"""`depthwise_conv2d`: one odd, possibly dilated kernel a channel, the image's size kept."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..._core import checks
from ..._core.library import gradients_like
from ..._core.operator import FLOAT32_AND_BFLOAT16, FLOATS, Kernels
from ..._core.registration import register
from . import reference

__all__ = ["depthwise_conv2d", "reference"]


def _fake_forward(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
    return x.new_empty(x.shape)


def _fake_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int, needs: Sequence[bool]
) -> list[Tensor]:
    return gradients_like(needs, x, weight, bias)


OPERATOR = register(
    "depthwise_conv2d",
    reference.depthwise_conv2d,
    kernels={
        "cpu": Kernels(FLOAT32_AND_BFLOAT16),
        "triton": Kernels(FLOATS),
        "cuda": Kernels(FLOATS),
    },
    forward="(Tensor x, Tensor weight, Tensor? bias, int dilation) -> Tensor y",
    backward="(Tensor grad_y, Tensor x, Tensor weight, Tensor? bias, int dilation, bool[] needs)"
    " -> (Tensor, Tensor, Tensor)",
    casts=("x", "weight", "bias"),
    fake_forward=_fake_forward,
    fake_backward=_fake_backward,
)


def check(x_name: str, x: Tensor, weight: Tensor, bias: Tensor | None, *, prefix: str = "") -> None:
    """Weight and bias must be those of a depthwise conv over `x`; `prefix` stands before their names in messages."""
    weight_name = f"{prefix}weight"
    checks.conv_weight(weight_name, weight)
    checks.parameter(weight_name, weight, (x.shape[1], 1, *weight.shape[2:]), x_name, x)
    checks.optional_parameter(f"{prefix}bias", bias, (x.shape[1],), x_name, x)


def depthwise_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    dilation: int = 1,
    backend: str | Sequence[str] | None = None,
) -> Tensor:
    """Convolve every channel with its own kernel; stride 1, zero padding that keeps the size.

        y[n, c, i, j] = bias[c] + sum over p, q of  weight[c, 0, p, q] x[n, c, i + d (p - kh//2), j + d (q - kw//2)]

    Args:
        x: (N, C, H, W), floating.
        weight: (C, 1, kh, kw), kh and kw odd; dtype and device of `x`.
        bias: (C,), or None.
        dilation: d, whole, 1 or more.
        backend: see `lkops.backends`.

    Returns:
        (N, C, H, W), contiguous; under autocast in the autocast dtype.

    Raises:
        ValueError, TypeError: an argument that is not as above.
        RuntimeError: a backend was asked for that can't run these arguments.
        torch.OutOfMemoryError: memory for the output or on the way to it is not there; a RuntimeError too.

    Source: LKCA-Net (arXiv 2501.18664), eq. 9 and 10.
    """

    def options() -> tuple[int]:
        return (checks.positive("dilation", dilation),)

    def fit(tensors: Any, options: Any) -> None:
        x, weight, bias = tensors
        checks.image("x", x)
        check("x", x, weight, bias)

    return OPERATOR((x, weight, bias), options, backend, fit)
