"""`norm_conv1x1_gelu`: channel layer norm, 1x1 conv, GELU."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..._core import checks
from ..._core.library import gradients_like
from ..._core.operator import FLOAT32_AND_BFLOAT16, FLOATS, Kernels
from ..._core.registration import register
from . import reference

__all__ = ["norm_conv1x1_gelu", "reference"]

_TENSORS = "Tensor x, Tensor norm_weight, Tensor norm_bias, Tensor weight, Tensor? bias"


def _fake_forward(x: Tensor, norm_weight: Tensor, norm_bias: Tensor, weight: Tensor, *rest: Any) -> Tensor:
    return x.new_empty((x.shape[0], weight.shape[0], *x.shape[2:]))


def _fake_backward(grad: Tensor, *rest: Any) -> list[Tensor]:
    *tensors, _eps, needs = rest
    return gradients_like(needs, *tensors)


OPERATOR = register(
    "norm_conv1x1_gelu",
    reference.norm_conv1x1_gelu,
    kernels={
        "cpu": Kernels(FLOAT32_AND_BFLOAT16),
        "triton": Kernels(FLOATS),
    },
    forward=f"({_TENSORS}, float eps) -> Tensor y",
    backward=f"(Tensor grad_y, {_TENSORS}, float eps, bool[] needs) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    casts=("x", "norm_weight", "norm_bias", "weight", "bias"),
    fake_forward=_fake_forward,
    fake_backward=_fake_backward,
)


def check(
    x_name: str,
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    prefix: str = "",
) -> None:
    """The parameters must fit `x`; `prefix` stands before `weight` and `bias` in error messages."""
    channels = x.shape[1]
    checks.parameter("norm_weight", norm_weight, (channels,), x_name, x)
    checks.parameter("norm_bias", norm_bias, (channels,), x_name, x)
    checks.conv_weight(f"{prefix}weight", weight)
    checks.parameter(f"{prefix}weight", weight, (weight.shape[0], channels, 1, 1), x_name, x)
    checks.optional_parameter(f"{prefix}bias", bias, (weight.shape[0],), x_name, x)


def norm_conv1x1_gelu(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    eps: float = 1e-6,
    backend: str | Sequence[str] | None = None,
) -> Tensor:
    """Layer norm over the channels, a 1x1 conv, and GELU.

        z = (x - mean_c(x)) / sqrt(var_c(x) + eps) * norm_weight + norm_bias        biased variance, per pixel
        y = gelu(W z + b),   gelu(t) = t (1 + erf(t / sqrt 2)) / 2

    Args:
        x: (N, C, H, W), floating.
        norm_weight, norm_bias: (C,); dtype and device of `x`.
        weight: W, (K, C, 1, 1).
        bias: b, (K,), or None.
        eps: added to the variance.
        backend: see `lkops.backends`.

    Returns:
        (N, K, H, W), contiguous; under autocast in the autocast dtype.

    Raises:
        ValueError, TypeError: an argument that is not as above.
        RuntimeError: a backend was asked for that can't run these arguments.
        torch.OutOfMemoryError: memory for the output or on the way to it is not there; a RuntimeError too.

    Source: LKCA-Net (arXiv 2501.18664), section III-B (LN - Conv1x1 - GELU) and fig. 3.
    """
    tensors = (x, norm_weight, norm_bias, weight, bias)

    def options() -> tuple[Any, ...]:
        return (checks.above_zero("eps", eps),)

    def fit(tensors: Any, options: Any) -> None:
        x, *parameters = tensors
        checks.image("x", x)
        check("x", x, *parameters)

    return OPERATOR(tensors, options, backend, fit)
