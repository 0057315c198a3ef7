"""Argument checks: each error names the argument, what it is and what was expected."""

import math
import numbers
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_LARGEST = 2**63 - 1  # that a schema's int takes


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


def conv_weight(name: str, value: Tensor, *, odd: bool = True) -> None:
    """`value` must be a conv's weight (outputs, inputs / groups, rows, columns), with odd kernel sides if `odd`."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    if value.dim() != 4 or value.numel() == 0:
        raise ValueError(f"{name} must be (outputs, inputs / groups, rows, columns), got shape {tuple(value.shape)}")
    if odd and (value.shape[2] % 2 == 0 or value.shape[3] % 2 == 0):
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


def positive(name: str, value: Any) -> int:
    """`value` must be a whole number, 1 or more; comes back as an int, see `whole`."""
    if type(value) is int and 0 < value <= _LARGEST:  # nearly always; the rest takes longer
        return value
    return whole(name, value, 1)


def whole(name: str, value: Any, least: int) -> int:
    """`value` must be a whole number, `least` or more, and comes back as an int.

    That is what `operator.index` takes (an int, one of NumPy's integers), no bool; a `torch.SymInt` stays what it is.
    """
    if isinstance(value, torch.SymInt):
        number: Any = value
    else:
        try:
            number = None if _is_bool(value) else operator.index(value)
        except TypeError:
            number = None
        if number is None:
            raise TypeError(f"{name} must be a whole number, {least} or more, got {_shown(value)}")
    if number < least:
        raise ValueError(f"{name} must be a whole number, {least} or more, got {_shown(value)}")
    if number > _LARGEST:
        raise ValueError(f"{name} must be a whole number below 2^63, got {_shown(value)}")
    return number


def pair(name: str, value: Any) -> tuple[int, int]:
    """`value` must be two whole numbers, 1 or more; they come back as ints, see `whole`."""
    if type(value) is not tuple and (not isinstance(value, Sequence) or isinstance(value, (str, bytes))):
        raise TypeError(f"{name} must be two whole numbers, got {_shown(value)}")
    if len(value) != 2:
        raise ValueError(f"{name} must be two whole numbers, got {_shown(value)}")
    return positive(name, value[0]), positive(name, value[1])


def one_or_two(name: str, value: Any) -> tuple[int, int]:
    """`value` must be a whole number, 1 or more, or two of them; one comes back twice, see `whole`."""
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return pair(name, value)
    one = positive(name, value)
    return one, one


def number(name: str, value: Any, expected: str = "a finite number") -> float:
    """`value` must be a finite real number, no bool, and comes back as a float."""
    try:
        if type(value) not in (float, int) and not _is_real(value):  # nearly always one of them; the rest takes longer
            raise TypeError(f"{name} must be {expected}, got {_shown(value)}")
        real = float(value)
    except OverflowError:
        real = math.inf
    if not -math.inf < real < math.inf:
        raise ValueError(f"{name} must be {expected}, got {_shown(value)}")
    return real


def at_least_zero(name: str, value: Any) -> float:
    """`value` must be a finite number, 0 or more, and comes back as a float."""
    real = number(name, value, "a finite number, 0 or more")
    if not real >= 0:
        raise ValueError(f"{name} must be a finite number, 0 or more, got {_shown(value)}")
    return real


def above_zero(name: str, value: Any) -> float:
    """`value` must be a finite number above 0, and comes back as a float."""
    real = number(name, value, "a number above 0")
    if not real > 0:
        raise ValueError(f"{name} must be a number above 0, got {_shown(value)}")
    return real


def flag(name: str, value: Any) -> bool:
    """`value` must be True or False: 1, "no" or one of NumPy's is a slip more often than not."""
    if value is True or value is False:
        return value
    raise TypeError(f"{name} must be True or False, got {_shown(value)}")


def choice(name: str, value: Any, known: Sequence[str]) -> str:
    """`value` must be one of these words."""
    expected = f"{name} must be one of {', '.join(known)}; got {_shown(value)}"
    if not isinstance(value, str):
        raise TypeError(expected)
    if value not in known:
        raise ValueError(expected)
    return str(value)  # NumPy has strings of its own


def border(name: str, value: Any) -> bool:
    """Whether the border is "symmetric"; the other one is "replicate"."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be 'symmetric' or 'replicate', got {_shown(value)}")
    if value not in ("symmetric", "replicate"):
        raise ValueError(f"{name} must be 'symmetric' or 'replicate', got {_shown(value)}")
    return value == "symmetric"


def _is_real(value: Any) -> bool:
    """Also what PyTorch traces, and NumPy's scalars."""
    return isinstance(value, (torch.SymInt, torch.SymFloat, numbers.Real)) and not _is_bool(value)


def _is_bool(value: Any) -> bool:
    """Also NumPy's and a tensor's, which `operator.index` may take."""
    return isinstance(value, bool) or str(getattr(value, "dtype", "")) in ("bool", "torch.bool")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
