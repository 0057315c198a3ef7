"""Arguments of metrics, checked."""

import operator
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lkcanet.common.optional import require

if TYPE_CHECKING:
    import numpy as np

    Images = Tensor | np.ndarray[Any, Any]


def as_images(value: "Images", name: str) -> Tensor:
    """`value` as a floating-point (N, C, H, W) tensor that shares its memory where possible."""
    if not isinstance(value, Tensor):
        np = require("numpy", extra="io")
        if not isinstance(value, np.ndarray):
            raise TypeError(f"{name} is a {type(value).__name__}, expected a torch tensor or a NumPy array")
        if value.dtype.kind == "f" and value.dtype.itemsize <= 8:  # integers and others go on to the error below
            native = value.astype(value.dtype.newbyteorder("="), copy=False)
            native = native.copy() if min(native.strides, default=0) < 0 else native  # torch has no such views
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*not writable", category=UserWarning)  # only read here
                value = torch.from_numpy(native)
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise TypeError(f"{name} is {value.dtype}, expected floating point: divide counts by the scene's maximum first")
    if value.ndim not in (3, 4) or value.numel() == 0:
        raise ValueError(f"{name} has shape {tuple(value.shape)}, expected non-empty (N, C, H, W) or (C, H, W)")
    value = value.detach().cpu() if value.device.type == "mps" else value.detach()  # no float64 there
    return value if value.ndim == 4 else value.unsqueeze(0)


def positive_int(value: int, name: str) -> int:
    """`value` as an int, or a ValueError that names it."""
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if isinstance(value, bool) or number < 1:
        raise ValueError(f"{name} is {value!r}, expected a positive int")
    return number


def as_mask(valid: "Images", shape: tuple[int, ...], device: torch.device) -> Tensor:
    """`valid` as a bool tensor (N, H, W) for images of this (N, C, H, W), true somewhere in each."""
    mask = torch.as_tensor(valid, device=device)
    if mask.dtype is not torch.bool:
        raise TypeError(f"valid is {mask.dtype}, expected bool")
    images, _, *size = shape
    if tuple(mask.shape) not in (tuple(size), (images, *size)):
        raise ValueError(f"valid has shape {tuple(mask.shape)}, expected {tuple(size)} or {(images, *size)}")
    mask = mask.expand(images, *size)
    empty = ~mask.flatten(1).any(1)
    if empty.any():
        raise ValueError(f"valid is false everywhere in image {int(empty.nonzero()[0])}")
    return mask
