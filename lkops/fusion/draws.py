"""What makes two runs of a model comparable: the same random numbers, and no type narrower than that of the run."""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

_DECISIONS = {"__bool__", "item", "__int__", "__index__", "__len__", "equal", "allclose", "is_nonzero"}
_NARROW = {torch.float32, torch.float16, torch.bfloat16}


class SameDraws(TorchFunctionMode):
    """Notes the route; random masks are drawn in the order of memory, which an operator may change: draw them for
    contiguous tensors. In a run in float64 it lets nothing go to a narrower type, as a `.float()` in a forward would
    (autocast leaves float64 alone by itself)."""

    def __init__(self, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.exact = dtype is torch.float64
        self.route: list[Any] = []
        self.inside = 0  # watched modules that are running

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if args and isinstance(args[0], Tensor) and (name in ("dropout", "bernoulli") or name.endswith("_like")):
            args = (args[0].contiguous(), *args[1:])
        kwargs = kwargs or {}
        result = _in_float64(name, func, args, kwargs) if self.exact else func(*args, **kwargs)
        if not self.inside and name != "__get__":
            decided = name in _DECISIONS and isinstance(result, (bool, int))
            self.route.append((name, result) if decided else name)
        return result


def _in_float64(name: str, func: Any, args: Any, kwargs: Any) -> Any:
    """What the call gives with float64 in place of every narrower floating type; `view` says how to read bits. What is
    made of no tensor, such as random numbers, has the values that it has in the model."""
    if not any(isinstance(value, Tensor) for value in pytree.tree_leaves((args, kwargs))):
        made = func(*args, **kwargs)
        return made.double() if isinstance(made, Tensor) and made.dtype in _NARROW else made
    if name in ("float", "half", "bfloat16"):
        return Tensor.double(*args, **kwargs)

    def wide(value: Any) -> Any:
        return torch.float64 if isinstance(value, torch.dtype) and value in _NARROW else value

    if name != "view":
        args, kwargs = pytree.tree_map(wide, (args, kwargs))
    return func(*args, **kwargs)


@contextmanager
def same_chance(inputs: Any) -> Iterator[None]:
    """Within the block all random numbers are those of a fixed seed; the generators' states are put back."""
    devices = {t.device for t in pytree.tree_leaves(inputs) if isinstance(t, Tensor) and t.is_cuda}
    numpy = sys.modules.get("numpy")
    state = numpy.random.get_state() if numpy else None
    python_state = random.getstate()
    with torch.random.fork_rng(devices=[device.index or 0 for device in devices]):
        try:
            torch.manual_seed(0)
            random.seed(0)
            if numpy:
                numpy.random.seed(0)
            yield
        finally:
            random.setstate(python_state)
            if numpy:
                numpy.random.set_state(state)
