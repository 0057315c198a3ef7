"""What a fused forward calls for a conv with what follows it; see `calls`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.conv2d import conv2d
from . import calls, ways

__all__ = ["Tail", "conv", "is_worth", "module"]


class Tail(NamedTuple):
    """What is done to a conv's result: scale * act(y).

    Attributes:
        activation: as `lkops.conv2d` has it, or None.
        slope: of leaky_relu.
        scale: None for no product at all.
    """

    activation: str | None = None
    slope: float = 0.01
    scale: float | None = None


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
}


def is_worth(weight: Tensor, stride: Any, dilation: Any) -> bool:
    """Whether a dense or grouped conv of this kind is quicker by `conv2d` on CPUs at all: by Winograd's algorithm.

    Measured (Zen 4, 32 to 256 channels, 8x8 to 128x128), against PyTorch in the faster of its memory formats: 3x3 is
    1.4 to 2.3 times as fast, with a dilation 1.3 to 1.9, 5x5 1.2 to 1.5, 7x7 1.3 (64 channels), 9x9 2.
    """
    outputs, inputs, *kernel = weight.shape
    strides, dilations = _two(stride), _two(dilation)
    return (
        all(side in (3, 5, 7, 9) for side in kernel)
        and strides == (1, 1)
        and all(isinstance(d, int) and 1 <= d <= 4 for d in dilations)
        and inputs * outputs >= 192
    )


def _two(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


def _fits(x: Tensor, weight: Tensor, bias: Tensor | None, groups: int, residual: Tensor | None) -> bool:
    """Whether the operator computes the same, and is worth it, for these tensors."""
    if not calls.compiled("conv2d", x) or x.device.type != "cpu" or calls.autocast(x):
        return False
    if weight.dtype is not x.dtype or (bias is not None and bias.dtype is not x.dtype) or weight.shape[0] % groups:
        return False
    if x.shape[1] != groups * weight.shape[1]:
        return False
    if residual is not None and (
        residual.dtype is not x.dtype
        or residual.device != x.device
        or tuple(residual.shape) != (x.shape[0], weight.shape[0], *x.shape[2:])
    ):
        return False
    # bfloat16 takes the direct algorithm where a derivative with a jump follows
    return x.dtype is torch.float32 or not calls.gradient(x, weight)


def conv(
    x: Tensor,
    layer: Any,
    options: tuple[Any, ...] | None,
    tail: tuple[Any, ...] = (),
    prelu: Any = None,
    residual: Tensor | None = None,
    accuracy: str = "exact",
) -> Tensor:
    """residual + scale * act(conv(x)).

    Args:
        layer: a conv module, or (weight, bias) with `options`.
        options: (stride, padding, dilation, groups) of `F.conv2d`; None for a module.
        tail: `Tail`.
        prelu: a PReLU module, the activation; None for another one.
        residual: None to add nothing.
    """
    if options is not None:
        weight, bias = layer
        return _run(
            x, weight, bias, options, lambda: F.conv2d(x, weight, bias, *options), tail, prelu, residual, accuracy
        )
    if not calls.plain_conv(layer):
        return _after(layer(x), Tail(*tail), None if prelu is None else prelu.weight, residual)
    return _run_module(x, layer, tail, prelu, residual, accuracy)


def module(self: nn.Conv2d, x: Tensor, accuracy: str = "exact") -> Tensor:
    """A conv module called on x, whose class has this as its forward."""
    if "_conv_forward" in self.__dict__:
        return self._conv_forward(x, self.weight, self.bias)
    return _run_module(x, self, (), None, None, accuracy)


def _run_module(x: Tensor, conv: nn.Conv2d, *rest: Any) -> Tensor:
    weight, bias = conv.weight, conv.bias
    options = (conv.stride, conv.padding if conv.padding_mode == "zeros" else None, conv.dilation, conv.groups)
    return _run(x, weight, bias, options, lambda: conv._conv_forward(x, weight, bias), *rest)


def _run(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    options: tuple[Any, ...],
    run: Callable[[], Tensor],
    tail: tuple[Any, ...],
    prelu: Any,
    residual: Tensor | None,
    accuracy: str,
) -> Tensor:
    stride, padding, dilation, groups = options
    rest = Tail(*tail)
    slopes = None if prelu is None else prelu.weight
    fits = (
        is_worth(weight, stride, dilation)
        and _keeps_size(padding, weight.shape[2:], _two(dilation))
        and x.shape[-2] >= 2 * _two(dilation)[0]
        and x.shape[-1] >= 4 * _two(dilation)[1]
        and _fits(x, weight, bias, groups, residual)
        and (slopes is None or slopes.dtype is x.dtype)
    )

    def ours() -> Tensor:
        return conv2d(
            x,
            weight,
            bias,
            dilation=_two(dilation),
            groups=groups,
            activation=rest.activation if slopes is None else "prelu",
            slope=rest.slope,
            prelu_weight=slopes,
            residual=residual,
            residual_scale=1.0 if rest.scale is None else rest.scale,
            accuracy=ways.accuracy(accuracy),
        )

    return ways.either(weight, ours if fits else None, lambda: _after(run(), rest, slopes, residual))


def _after(y: Tensor, tail: Tail, slopes: Tensor | None, residual: Tensor | None) -> Tensor:
    """What follows the conv, by PyTorch's operators."""
    if slopes is not None:
        y = F.prelu(y, slopes)
    elif tail.activation == "leaky_relu":
        y = F.leaky_relu(y, tail.slope)
    elif tail.activation is not None:
        y = _ACTIVATIONS[tail.activation](y)
    if tail.scale is not None:
        y = y * tail.scale
    return y if residual is None else y + residual


def _keeps_size(padding: Any, kernel: Any, dilation: Any) -> bool:
    same = tuple(d * (side // 2) for side, d in zip(kernel, dilation, strict=True))
    return padding == "same" or (padding is not None and _two(padding) == same)
