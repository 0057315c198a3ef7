"""What the options of `conv2d` may be, and what they mean; for its module too."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..._core import checks

__all__ = ["ACTIVATIONS", "PLAIN", "Options", "activation", "formats", "from_result", "padding", "relaxed"]

ACTIVATIONS = ("none", "relu", "leaky_relu", "prelu", "gelu", "silu", "sigmoid")
# those that take nothing but the image
PLAIN: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
}


class Options(NamedTuple):
    """As the schema has them; `activation` is a place in `ACTIVATIONS`."""

    stride_height: int
    stride_width: int
    top: int
    left: int
    dilation_height: int
    dilation_width: int
    groups: int
    activation: int
    slope: float
    residual_scale: float
    relaxed: bool
    channels_last: bool  # the result, and the gradient of `residual`
    input_channels_last: bool  # the gradient of `input`
    from_result: bool  # backward starts from the result, and conv + bias is not stored


def padding(value: Any, kernel: Sequence[int], dilations: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of zeros on each side; `kernel` has its rows and columns, of which only "same" asks."""
    expected = "'same', 'valid', or one or two whole numbers, 0 or more"
    if isinstance(value, str):
        if value == "valid":
            return 0, 0
        if value != "same":
            raise ValueError(f"padding must be {expected}, got {value!r}")
        if kernel[0] % 2 == 0 or kernel[1] % 2 == 0:
            raise ValueError(f"padding must be numbers or 'valid' for an even kernel, got {kernel[0]} x {kernel[1]}")
        return dilations[0] * (kernel[0] // 2), dilations[1] * (kernel[1] // 2)
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        if len(value) != 2:
            raise ValueError(f"padding must be {expected}, got {value!r}")
        return checks.whole("padding", value[0], 0), checks.whole("padding", value[1], 0)
    one = checks.whole("padding", value, 0)
    return one, one


def activation(value: Any) -> int:
    """Its place in the reference's `ACTIVATIONS`."""
    if value is None:
        return 0
    names = ACTIVATIONS[1:]
    expected = f"activation must be None or one of {', '.join(names)}; got {value!r}"
    if not isinstance(value, str):
        raise TypeError(expected)
    if value not in names:
        raise ValueError(expected)
    return 1 + names.index(value)


def relaxed(accuracy: Any) -> bool:
    """Whether accuracy is "relaxed"; the other one is "exact"."""
    expected = f"accuracy must be 'exact' or 'relaxed', got {accuracy!r}"
    if not isinstance(accuracy, str):
        raise TypeError(expected)
    if accuracy not in ("exact", "relaxed"):
        raise ValueError(expected)
    return accuracy == "relaxed"


def formats(value: Any, input: Any) -> tuple[bool, bool]:
    """Whether the result is channels_last, for a `memory_format` asked for, and whether the input is and nothing else:
    where channels or pixels are one, both formats are the same, which counts as contiguous."""
    is_last = (
        isinstance(input, Tensor)
        and input.dim() == 4
        and not input.is_contiguous()
        and input.is_contiguous(memory_format=torch.channels_last)
    )
    if value is None:
        return is_last, is_last
    expected = f"memory_format must be None, torch.contiguous_format or torch.channels_last, got {value!r}"
    if not isinstance(value, torch.memory_format):
        raise TypeError(expected)
    if value not in (torch.contiguous_format, torch.channels_last):
        raise ValueError(expected)
    return value == torch.channels_last, is_last


def from_result(activation: int, residual: Any, residual_scale: float) -> bool:
    """Whether the activation's derivative follows from the result, which eager PyTorch keeps for it too."""
    return ACTIVATIONS[activation] in ("relu", "sigmoid") and residual is None and residual_scale != 0
