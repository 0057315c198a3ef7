"""`conv2d`: a conv with its activation, scale and residual."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _checks, _operator
from . import reference

__all__ = ["conv2d", "reference"]

_TENSORS = "Tensor input, Tensor weight, Tensor? bias, Tensor? prelu_weight"
_OPTIONS = (
    "int stride_height, int stride_width, int top, int left, int dilation_height, int dilation_width, int groups, "
    "int activation, float slope, float residual_scale, bool relaxed"
)


def _fake_forward(
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
    saving: bool,
) -> tuple[Tensor, Tensor]:
    """The result and, for backward, conv + bias."""
    n, _, h, w = input.shape
    h = (h + 2 * top - dilation_height * (weight.shape[2] - 1) - 1) // stride_height + 1
    w = (w + 2 * left - dilation_width * (weight.shape[3] - 1) - 1) // stride_width + 1
    shape = (n, weight.shape[0], h, w)
    return input.new_empty(shape), input.new_empty(shape if saving and activation else (0,))


def _fake_backward(
    grad: Tensor,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    prelu_weight: Tensor | None,
    before: Tensor,
    *rest: Any,
) -> list[Tensor]:
    return _operator.gradients_like(rest[-1], input, weight, bias, prelu_weight, grad)


_operator.register(
    "conv2d",
    reference.conv2d,
    kernels={"cpu": (torch.float32, torch.bfloat16)},
    forward=f"({_TENSORS}, Tensor? residual, {_OPTIONS}, bool saving) -> (Tensor, Tensor)",
    backward=f"(Tensor grad, {_TENSORS}, Tensor before, {_OPTIONS}, bool[] needs)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    fake_forward=_fake_forward,
    fake_backward=_fake_backward,
    saves=(0, 1, 2, 3, 6),
)


def _two(name: str, value: int | Sequence[int]) -> tuple[int, int]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return _checks.pair(name, value)
    _checks.positive(name, value)
    return value, value


def _padding(value: str | int | Sequence[int], kernel: Sequence[int], dilation: tuple[int, int]) -> tuple[int, int]:
    if value == "valid":
        return 0, 0
    if value == "same":
        if kernel[0] % 2 == 0 or kernel[1] % 2 == 0:
            raise ValueError(f"padding 'same' needs a weight with an odd kernel, got {kernel[0]} x {kernel[1]}")
        return dilation[0] * (kernel[0] // 2), dilation[1] * (kernel[1] // 2)
    sides = (value, value) if isinstance(value, (int, torch.SymInt)) else value
    if (
        isinstance(sides, str)
        or not isinstance(sides, Sequence)
        or len(sides) != 2
        or any(isinstance(side, bool) or not isinstance(side, (int, torch.SymInt)) or side < 0 for side in sides)
    ):
        raise ValueError(f"padding must be 'same', 'valid', or one or two whole numbers, 0 or more, got {value!r}")
    return sides[0], sides[1]


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = "same",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    activation: str | None = None,
    slope: float = 0.01,
    prelu_weight: Tensor | None = None,
    residual: Tensor | None = None,
    residual_scale: float = 1.0,
    accuracy: str = "exact",
    backend: str | Sequence[str] | None = None,
) -> Tensor:
    """A conv, its activation, a scale and a residual.

        y = residual + residual_scale * act(conv(input, weight) + bias)

    Args:
        input: (N, C, H, W), floating.
        weight: (O, C / g, kh, kw); dtype and device of `input`.
        bias: (O,), or None.
        stride, dilation: whole, 1 or more; one number or two (rows, columns).
        padding: zeros on every side of the image, one number or two; "valid" is 0; "same" is dilation * (k // 2), which
            keeps the size where the stride is 1, and needs an odd kernel.
        groups: g, which divides C and O.
        activation: None, "relu", "leaky_relu", "prelu", "gelu" (with erf), "silu" or "sigmoid".
        slope: of "leaky_relu" below 0.
        prelu_weight: (O,) or (1,), slopes of "prelu" below 0; None with any other activation.
        residual: like the result, or None to add nothing.
        residual_scale: a number, also without `residual`.
        accuracy: "exact": at most twice the error of eager PyTorch plus four roundings of the largest value. "relaxed":
            in float32 an error of up to 1e-5 of the conv's largest value; 3x3 convs need fewer multiplications then.
        backend: see `lkops.backends`.

    Returns:
        (N, O, H', W'), contiguous; under autocast in the autocast dtype.

    Raises:
        ValueError, TypeError: an argument that is not as above.
        RuntimeError: a backend was asked for that can't run these arguments.

    For inference the CPU kernels keep weights in the form that they compute with, at most 512 MiB in all. A change of
    the weight is noticed, however it was made.

    Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks (CVPR 2016), for the 3x3 convs.
    """
    _checks.image("input", input)
    input, weight, bias, prelu_weight, residual = _operator.autocast(input, weight, bias, prelu_weight, residual)
    if not isinstance(weight, Tensor):
        raise TypeError(f"weight must be a tensor, got {type(weight).__name__}")
    if weight.dim() != 4 or weight.numel() == 0:
        raise ValueError(f"weight must be (outputs, inputs / groups, rows, columns), got shape {tuple(weight.shape)}")
    _checks.positive("groups", groups)
    n, channels, *sides = input.shape
    outputs, _, *kernel = weight.shape
    if channels % groups or outputs % groups:
        raise ValueError(f"groups must divide {channels} channels of input and {outputs} of weight, got {groups}")
    _checks.parameter("weight", weight, (outputs, channels // groups, *kernel), "input", input)
    _checks.optional_parameter("bias", bias, (outputs,), "input", input)
    strides, dilations = _two("stride", stride), _two("dilation", dilation)
    paddings = _padding(padding, kernel, dilations)
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    out_sides = [(h + 2 * p - r) // s + 1 for h, p, r, s in zip(sides, paddings, reach, strides, strict=True)]
    if any(side < 1 for side in out_sides):
        raise ValueError(
            f"weight's kernel must fit into the padded input: it reaches over {tuple(reach)} pixels, and input has "
            f"{tuple(sides)} with padding {paddings}"
        )
    name = "none" if activation is None else activation
    if name not in reference.ACTIVATIONS:
        raise ValueError(f"activation must be None or one of {reference.ACTIVATIONS[1:]}, got {activation!r}")
    if (name == "prelu") != (prelu_weight is not None):
        raise ValueError(f"prelu_weight must be given for activation='prelu' and for no other, got {activation!r}")
    if prelu_weight is not None:
        if isinstance(prelu_weight, Tensor) and tuple(prelu_weight.shape) == (1,):
            prelu_weight = prelu_weight.expand(outputs)
        _checks.parameter("prelu_weight", prelu_weight, (outputs,), "input", input)
    if residual is not None:
        _checks.parameter("residual", residual, (n, outputs, *out_sides), "input", input)
    for what, number in (("slope", slope), ("residual_scale", residual_scale)):
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise TypeError(f"{what} must be a number, got {type(number).__name__}")
    if accuracy not in ("exact", "relaxed"):
        raise ValueError(f"accuracy must be 'exact' or 'relaxed', got {accuracy!r}")
    tensors = (input, weight, bias, prelu_weight, residual)
    options = (
        *(*strides, *paddings, *dilations, groups),
        reference.ACTIVATIONS.index(name),
        *(float(slope), float(residual_scale), accuracy == "relaxed"),
    )
    return _operator.call("conv2d", backend, tensors, options)
