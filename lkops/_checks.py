"""Argument checks: each error names the argument, what it is and what was expected."""

import math
import numbers
from collections.abc import Sequence

import torch
from torch import Tensor


def image(name: str, value: Tensor) -> None:
    """`value` must be a floating (N, C, H, W) tensor whose channels and sides are not empty."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    if value.dim() != 4:
        raise ValueError(f"{name} must be (N, C, H, W), got shape {tuple(value.shape)}")
    if not value.is_floating_point():
        raise TypeError(f"{name} must be floating, got {value.dtype}")
    if value.shape[1] < 1 or value.shape[2] < 1 or value.shape[3] < 1:
        raise ValueError(f"{name} must have at least one channel, row and column, got shape {tuple(value.shape)}")


def like(name: str, value: Tensor, other_name: str, other: Tensor, *, dtype: bool = True) -> None:
    """`value` must be on the device of `other`, and have its dtype."""
    if value.device != other.device:
        raise ValueError(f"{name} must be on {other.device} as {other_name} is, got {value.device}")
    if dtype and value.dtype != other.dtype:
        raise TypeError(f"{name} must be {other.dtype} as {other_name} is, got {value.dtype}")


def optional_parameter(name: str, value: Tensor | None, shape: Sequence[int], x_name: str, x: Tensor) -> None:
    """`value` must be None, or as `parameter` says."""
    if value is not None:
        parameter(name, value, shape, x_name, x)


def parameter(name: str, value: Tensor, shape: Sequence[int], x_name: str, x: Tensor) -> None:
    """`value` must be a tensor of this shape with the device and dtype of `x`."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    if tuple(value.shape) != tuple(shape):
        raise ValueError(f"{name} must have shape {tuple(shape)}, got {tuple(value.shape)}")
    like(name, value, x_name, x)


def conv_weight(name: str, value: Tensor) -> None:
    """`value` must be a conv's weight (outputs, inputs / groups, rows, columns) with odd kernel sides."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    if value.dim() != 4 or value.numel() == 0:
        raise ValueError(f"{name} must be (outputs, inputs / groups, rows, columns), got shape {tuple(value.shape)}")
    if value.shape[2] % 2 == 0 or value.shape[3] % 2 == 0:
        raise ValueError(f"{name} must have an odd kernel, got {value.shape[2]} x {value.shape[3]}")


def groups_of(name: str, weight: Tensor, inputs: int) -> int:
    """The groups of a conv with this weight over `inputs` channels; they must divide both sides."""
    outputs, per_group = weight.shape[:2]
    if inputs % per_group or outputs % (inputs // per_group):
        raise ValueError(
            f"{name} of shape {tuple(weight.shape)} does not fit {inputs} input channels: its second size times "
            f"the groups must be {inputs}, and the groups must divide its {outputs} outputs"
        )
    return inputs // per_group


def positive(name: str, value: int) -> None:
    """`value` must be a whole number, 1 or more."""
    if isinstance(value, bool) or not isinstance(value, (int, torch.SymInt)) or value < 1:
        raise ValueError(f"{name} must be a whole number, 1 or more, got {value!r}")


def pair(name: str, value: Sequence[int]) -> tuple[int, int]:
    """`value` must be two whole numbers, 1 or more."""
    if not isinstance(value, Sequence) or len(value) != 2:
        raise ValueError(f"{name} must be two whole numbers, got {value!r}")
    for item in value:
        positive(name, item)
    return value[0], value[1]


def above_zero(name: str, value: float) -> None:
    """`value` must be a number above 0."""
    if not isinstance(value, (int, float)) or not value > 0:
        raise ValueError(f"{name} must be a number above 0, got {value!r}")


def zero_or_more(name: str, value: float) -> float:
    """`value`, a finite number of Python or NumPy, 0 or more, as a float."""
    is_number = isinstance(value, (numbers.Real, torch.SymFloat)) and not isinstance(value, bool)
    if not is_number or not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a finite number, 0 or more, got {value!r}")
    return float(value)


def border(name: str, value: str) -> bool:
    """Whether the border is "symmetric"; the other one is "replicate"."""
    if value not in ("symmetric", "replicate"):
        raise ValueError(f"{name} must be 'symmetric' or 'replicate', got {value!r}")
    return value == "symmetric"
