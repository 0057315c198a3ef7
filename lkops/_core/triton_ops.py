"""Adds the kernels that Python launches to the library: those of Triton, and what the cuda backend composes of its own
kernels and Triton's. Nothing of Triton is imported before the first call."""

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import choice, library


def installed() -> bool:
    """Whether `import triton` would find it."""
    try:
        return importlib.util.find_spec("triton") is not None
    except ValueError:  # sys.modules["triton"] is None
        return False


def implement(operator: str, backend: str, module: str) -> None:
    """Let `forward` and `backward` of `module` serve the operator's private ops of this backend."""
    for direction, suffix in (("forward", "fwd"), ("backward", "bwd")):
        op = f"{operator}_{backend}_{suffix}"
        for device in choice.DEVICES[backend]:
            library.library.impl(op, _launcher(module, direction, library.fakes[op]), device.upper())


def _launcher(module: str, direction: str, fake: Callable[..., Any]) -> Callable[..., Any]:
    """Runs `module.direction` on the tensors' device; an empty batch gives zeros without a kernel."""

    def run(*arguments: Any) -> Any:
        image = next(a for a in arguments if isinstance(a, Tensor) and a.dim() == 4)
        if not image.shape[0]:
            results = fake(*arguments)
            for result in results if isinstance(results, (tuple, list)) else (results,):
                result.zero_()
            return results
        with torch.cuda.device_of(image):
            # a no-op for what `Operator` hands over; a compiler may have chosen other strides
            dense = [a.contiguous() if isinstance(a, Tensor) else a for a in arguments]
            return getattr(importlib.import_module(module), direction)(*dense)

    return run
