"""Autocast, as operators take part in it."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor


def autocast(tensors: tuple[Any, ...], names: Sequence[str], casts: Sequence[str]) -> tuple[Any, ...]:
    """The arguments of an operator as it takes them under autocast: those of the names `casts` in the autocast dtype.

    Outside autocast they come back unchanged. float64 is left alone, as torch's own autocast does; so is what is no
    floating tensor, for the checks that follow to refuse.
    """
    device = _autocast_device(tensors) if casts else None
    if device is None:
        return tensors
    dtype = torch.get_autocast_dtype(device)

    def takes_part(t: Any) -> bool:
        return isinstance(t, Tensor) and t.is_floating_point() and t.dtype is not torch.float64

    named = zip(names, tensors, strict=True)
    return tuple(t.to(dtype) if name in casts and takes_part(t) else t for name, t in named)


def _autocast_device(tensors: Sequence[Tensor | None]) -> str | None:
    """The device type of these tensors where autocast is on for it. Some, such as "meta", have no autocast."""
    device = next((tensor.device.type for tensor in tensors if isinstance(tensor, Tensor)), None)
    if device is None:
        return None
    return device if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device) else None


def autocast_off(tensors: Sequence[Tensor | None]) -> Any:
    """The reference computes in the dtype of its arguments; autocast would change that inside it."""
    device = _autocast_device(tensors)
    return nullcontext() if device is None else torch.autocast(device, enabled=False)
