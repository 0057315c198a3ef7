"""What the options of `conv2d` may be, and what they mean; for its module too."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..._core import checks

__all__ = ["ACTIVATIONS", "PLAIN", "Options", "activation", "padding", "relaxed"]

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
