"""A whole model in channels_last memory: convs then hand images on in the form that they compute with."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree


def to_channels_last(module: nn.Module, args: Any) -> Any:
    """Forward pre-hook of a model: its images, positional arguments, in channels_last memory."""
    return pytree.tree_map(lambda value: _with(value, torch.channels_last), args)


def to_contiguous(module: nn.Module, args: Any, outputs: Any) -> Any:
    """Forward hook of that model: contiguous results."""
    return pytree.tree_map(lambda value: _with(value, torch.contiguous_format), outputs)


def _with(value: Any, memory_format: torch.memory_format) -> Any:
    return value.contiguous(memory_format=memory_format) if isinstance(value, Tensor) and value.dim() == 4 else value


def run_in_channels_last(model: nn.Module) -> list[Any]:
    """Put the hooks on a model; gives their handles."""
    return [model.register_forward_pre_hook(to_channels_last), model.register_forward_hook(to_contiguous)]


def is_worth_a_try(model: nn.Module, example: Any) -> bool:
    """Whether the example has contiguous images on a CPU and the model has dense convs."""
    images = [value for value in pytree.tree_leaves(example) if isinstance(value, Tensor) and value.dim() == 4]
    fits = images and all(image.device.type == "cpu" and image.is_contiguous() for image in images)
    return bool(fits) and any(isinstance(m, nn.Conv2d) and m.groups < m.in_channels for m in model.modules())
