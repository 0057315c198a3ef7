"""`conv2d`: a conv with its activation, scale and residual."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..._core import checks
from ..._core.library import gradients_like
from ..._core.operator import FLOAT32_AND_BFLOAT16, FLOATS, Kernels
from ..._core.registration import register
from . import reference, values

__all__ = ["conv2d", "reference"]

_TENSORS = "Tensor input, Tensor weight, Tensor? bias, Tensor? prelu_weight"
_OPTIONS = (
    "int stride_height, int stride_width, int top, int left, int dilation_height, int dilation_width, int groups, "
    "int activation, float slope, float residual_scale, bool relaxed, "
    "bool channels_last, bool input_channels_last, bool from_result"
)


def _image(like: Tensor, shape: Sequence[int], channels_last: bool) -> Tensor:
    """Uninitialised."""
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=memory_format)


def _fake_forward(input: Tensor, weight: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    """The result and, where there will be a backward that starts from it, conv + bias."""
    *options, saving = rest[3:]  # after bias, prelu_weight and residual
    o = values.Options(*options)
    n, _, h, w = input.shape
    h = (h + 2 * o.top - o.dilation_height * (weight.shape[2] - 1) - 1) // o.stride_height + 1
    w = (w + 2 * o.left - o.dilation_width * (weight.shape[3] - 1) - 1) // o.stride_width + 1
    shape = (n, weight.shape[0], h, w)
    y = _image(input, shape, o.channels_last)
    return y, _image(
        input, shape, o.channels_last
    ) if saving and o.activation and not o.from_result else input.new_empty(0)


def _fake_backward(
    grad: Tensor,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    prelu_weight: Tensor | None,
    before: Tensor,
    *rest: Any,
) -> list[Tensor]:
    *options, needs = rest
    o = values.Options(*options)
    gradients = gradients_like(needs, input, weight, bias, prelu_weight, grad)  # the residual's is like grad
    for i, like, channels_last in ((0, input, o.input_channels_last), (4, grad, o.channels_last)):
        if needs[i]:
            gradients[i] = _image(like, like.shape, channels_last)
    return gradients


OPERATOR = register(
    "conv2d",
    reference.conv2d,
    kernels={"cpu": Kernels(FLOAT32_AND_BFLOAT16), "triton": Kernels(FLOATS)},
    forward=f"({_TENSORS}, Tensor? residual, {_OPTIONS}, bool saving) -> (Tensor y, Tensor before)",
    backward=f"(Tensor grad_y, {_TENSORS}, Tensor before, {_OPTIONS}, bool[] needs)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    casts=("input", "weight", "bias", "prelu_weight", "residual"),
    strided=True,
    stands_in=lambda options: {"before": "y"} if values.Options(*options).from_result else {},
    fake_forward=_fake_forward,
    fake_backward=_fake_backward,
)


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
    memory_format: torch.memory_format | None = None,
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
            in float32 an error of up to 1e-5 of the conv's largest value, in other dtypes as exact; convs of 3x3 and
            larger odd kernels need fewer multiplications then.
        memory_format: of the result: torch.contiguous_format or torch.channels_last; None: like the input's.
        backend: see `lkops.backends`.

    Returns:
        (N, O, H', W'), under autocast in the autocast dtype. An input in channels_last is read where it lies and, as
        with torch's conv, gives a result in channels_last, unless it is contiguous too, as one of a single channel or
        pixel is; every other input gives a contiguous result. The gradient of the input has the input's format.

    Raises:
        ValueError, TypeError: an argument that is not as above.
        RuntimeError: a backend was asked for that can't run these arguments.
        torch.OutOfMemoryError: memory for the output or on the way to it is not there; a RuntimeError too.

    For inference the CPU kernels keep weights in the form that they compute with, at most 512 MiB in all. A change of
    the weight is noticed, however it was made. Convs of odd kernels from 3 to 9 with stride 1 are made tile by tile: a
    pixel that is infinite or NaN makes the results around it NaN, up to dilation * (k + 1) pixels away. Backward keeps
    the result where the activation is relu or sigmoid and there is no residual, as torch's own does: it must not be
    changed in place then.

    Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks (CVPR 2016), for the convs made in tiles.
    """
    if isinstance(prelu_weight, Tensor) and isinstance(weight, Tensor) and weight.dim() == 4:
        prelu_weight = prelu_weight.expand(weight.shape[0]) if tuple(prelu_weight.shape) == (1,) else prelu_weight

    def options() -> tuple[Any, ...]:
        number, scale = values.activation(activation), checks.number("residual_scale", residual_scale)
        strides, dilations = checks.one_or_two("stride", stride), checks.one_or_two("dilation", dilation)
        checks.conv_weight("weight", weight, odd=False)  # on whose kernel "same" depends
        return (
            *strides,
            *values.padding(padding, weight.shape[2:], dilations),
            *dilations,
            checks.positive("groups", groups),
            number,
            checks.number("slope", slope),
            scale,
            values.relaxed(accuracy),
            *values.formats(memory_format, input),
            values.from_result(number, residual, scale),
        )

    return OPERATOR((input, weight, bias, prelu_weight, residual), options, backend, _check)


def _check(tensors: Any, options: Any) -> None:
    input, weight, bias, prelu_weight, residual = tensors
    strides, paddings, dilations, (groups, activation) = options[:2], options[2:4], options[4:6], options[6:8]
    checks.image("input", input)
    n, channels, *sides = input.shape
    outputs, _, *kernel = weight.shape
    if channels % groups or outputs % groups:
        raise ValueError(
            f"groups must divide the {channels} channels of input and the {outputs} of weight, got {groups}"
        )
    checks.parameter("weight", weight, (outputs, channels // groups, *kernel), "input", input)
    checks.optional_parameter("bias", bias, (outputs,), "input", input)
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    room = [side + 2 * padding - r for side, padding, r in zip(sides, paddings, reach, strict=True)]
    if room[0] < 0 or room[1] < 0:
        raise ValueError(
            f"weight must have a kernel that fits into the padded input: it reaches over {reach[0]} x {reach[1]} "
            f"pixels, and input has {sides[0]} x {sides[1]} with padding {tuple(paddings)}"
        )
    name = values.ACTIVATIONS[activation]
    if (name == "prelu") != (prelu_weight is not None):
        raise ValueError(f"prelu_weight must be given for activation 'prelu' and for no other, got {name!r}")
    checks.optional_parameter("prelu_weight", prelu_weight, (outputs,), "input", input)
    shape = (n, outputs, *(r // stride + 1 for r, stride in zip(room, strides, strict=True)))
    checks.optional_parameter("residual", residual, shape, "input", input)
