"""`upsample_add`: conv, PixelShuffle, plus the bicubic image."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..._core import checks
from ..._core.library import gradients_like
from ..._core.operator import FLOAT32_AND_BFLOAT16, FLOATS, Kernels
from ..._core.registration import register
from . import reference

__all__ = ["reference", "upsample_add"]

_TENSORS = "Tensor features, Tensor weight, Tensor? bias, Tensor? lowres"
_OPTIONS = "int scale, float cubic_a, bool symmetric, bool relaxed"


def _fake_forward(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    lowres: Tensor | None,
    scale: int,
    cubic_a: float,
    symmetric: bool,
    relaxed: bool,
    saving: bool,
) -> Tensor:
    n, _, h, w = features.shape
    dtype = features.dtype if lowres is None else torch.promote_types(features.dtype, lowres.dtype)
    return features.new_empty((n, weight.shape[0] // scale**2, h * scale, w * scale), dtype=dtype)


def _fake_backward(
    grad: Tensor,
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    lowres: Tensor | None,
    scale: int,
    cubic_a: float,
    symmetric: bool,
    relaxed: bool,
    needs: Sequence[bool],
) -> list[Tensor]:
    return gradients_like(needs, features, weight, bias, lowres)


OPERATOR = register(
    "upsample_add",
    reference.upsample_add,
    kernels={
        "cpu": Kernels(FLOAT32_AND_BFLOAT16, mixes=True),
        "triton": Kernels(FLOATS, mixes=True),
    },
    forward=f"({_TENSORS}, {_OPTIONS}, bool saving) -> Tensor y",
    backward=f"(Tensor grad_y, {_TENSORS}, {_OPTIONS}, bool[] needs) -> (Tensor, Tensor, Tensor, Tensor)",
    casts=("features", "weight", "bias"),
    fake_forward=_fake_forward,
    fake_backward=_fake_backward,
)


def upsample_add(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    lowres: Tensor | None = None,
    *,
    scale: int,
    cubic_a: float = -0.5,
    border: str = "symmetric",
    accuracy: str = "exact",
    backend: str | Sequence[str] | None = None,
) -> Tensor:
    """A grouped conv, PixelShuffle, and the bicubic image of `lowres` added.

        z = conv(features)                                     (N, B r^2, H, W), zero padding that keeps the size
        y[n, b, r i + p, r j + q] = z[n, b r^2 + r p + q, i, j]  +  bicubic_upsample(lowres)[n, b, r i + p, r j + q]

    Args:
        features: (N, C, H, W), floating.
        weight: (B r^2, C / g, kh, kw), kh and kw odd: a conv of g groups; dtype and device of `features`.
        bias: (B r^2,), or None.
        lowres: (N, B, H, W) on the same device, or None to add nothing.
        scale: r, whole, 1 or more.
        cubic_a, border: of the bicubic image, see `bicubic_upsample`.
        accuracy: of the conv, as `conv2d` has it; "relaxed" makes no difference to gradients.
        backend: see `lkops.backends`.

    Returns:
        (N, B, r H, r W), contiguous, of the wider dtype of product and `lowres`: under autocast the product runs
        in the autocast dtype and `lowres` keeps its own.

    Raises:
        ValueError, TypeError: an argument that is not as above.
        RuntimeError: a backend was asked for that can't run these arguments.
        torch.OutOfMemoryError: memory for the output or on the way to it is not there; a RuntimeError too.

    Source: LKCA-Net (arXiv 2501.18664), eq. 4 to 6; Shi et al., ESPCN (CVPR 2016), eq. 4 (PixelShuffle).
    """

    def options() -> tuple[Any, ...]:
        return (
            checks.positive("scale", scale),
            checks.number("cubic_a", cubic_a),
            checks.border("border", border),
            checks.choice("accuracy", accuracy, ("exact", "relaxed")) == "relaxed",
        )

    return OPERATOR((features, weight, bias, lowres), options, backend, _check)


def _check(tensors: Any, options: Any) -> None:
    features, weight, bias, lowres = tensors
    scale = options[0]
    checks.image("features", features)
    checks.conv_weight("weight", weight)
    checks.groups_of("weight", weight, features.shape[1])
    checks.parameter("weight", weight, weight.shape, "features", features)
    checks.optional_parameter("bias", bias, (weight.shape[0],), "features", features)
    if weight.shape[0] % scale**2:
        raise ValueError(f"weight must have a multiple of scale^2 = {scale**2} outputs, got {weight.shape[0]}")
    if lowres is not None:
        checks.image("lowres", lowres)
        expected = (features.shape[0], weight.shape[0] // scale**2, *features.shape[2:])
        if tuple(lowres.shape) != expected:
            raise ValueError(f"lowres must have shape {expected}, got {tuple(lowres.shape)}")
        checks.like("lowres", lowres, "features", features, dtype=False)
