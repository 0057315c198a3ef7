"""Counts what a call would launch and move, on tensors of the meta device: nothing is computed and no GPU is needed.

Triton launches are those that the operators' own launchers make (`lkops.triton.watch(run=False)`); everything else is
counted as torch's dispatcher sees it. A launch, or an op that is no view, moves each of its tensors once: what a kernel
reads again because it has left the cache is not counted, and a tensor that a cache still holds is.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import lkops.triton
from lkops import backends, testing

__all__ = ["Traffic", "count"]

# no schema says so, but nothing is read or written
_FREE = {"aten::_unsafe_view", "aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty"}
_FREE |= {"aten::new_empty_strided", "aten::is_same_size", "aten::_local_scalar_dense", "aten::result_type"}
_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


@dataclass
class Traffic:
    """What one call did.

    Attributes:
        kernels: Triton launches by kernel.
        ops: torch's ops that are no views, by name; each is at least one launch.
        kernel_bytes, op_bytes: of all tensors that these read and wrote.
    """

    kernels: Counter[str] = field(default_factory=Counter)
    ops: Counter[str] = field(default_factory=Counter)
    kernel_bytes: int = 0
    op_bytes: int = 0

    @property
    def launches(self) -> int:
        return sum(self.kernels.values()) + sum(self.ops.values())

    @property
    def bytes(self) -> int:
        return self.kernel_bytes + self.op_bytes


def _bytes(values: Any) -> int:
    """Of the distinct tensors among these; an expanded axis is one value long."""
    tensors = {id(value): value for value in tree_leaves(values) if isinstance(value, Tensor)}.values()
    return sum(
        t.element_size() * math.prod(n for n, stride in zip(t.shape, t.stride(), strict=True) if stride or n == 0)
        for t in tensors
    )


def _is_free(func: Any) -> bool:
    if func.namespace != "aten" or func._schema.name in _FREE:
        return True
    aliases = [r.alias_info for r in func._schema.returns]
    return bool(aliases) and all(alias is not None and not alias.is_write for alias in aliases)  # a view


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.traffic = Traffic()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "lkops":
            return self.launcher(func._schema.name.partition("::")[2])(*args, **(kwargs or {}))
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), _COMPOSITE.name):
            with self:  # in inference mode, an op that is made of others arrives whole
                return func._op_dk(_COMPOSITE, *args, **(kwargs or {}))
        result = func(*args, **(kwargs or {}))
        if not _is_free(func):
            aliases = [argument.alias_info for argument in func._schema.arguments]
            written = [a for a, alias in zip(args, aliases, strict=False) if alias is not None and alias.is_write]
            self.traffic.ops[func._schema.name.partition("::")[2]] += 1
            self.traffic.op_bytes += _bytes((args, kwargs)) + _bytes(result if result is not None else written)
        return result

    def launcher(self, op: str) -> Callable[..., Any]:
        operator, backend, direction = op.rsplit("_", 2)
        assert backend == "triton", f"{op} has no launcher for the meta device"
        function = getattr(testing.operator(operator).triton(), {"fwd": "forward", "bwd": "backward"}[direction])

        def run(*arguments: Any) -> Any:
            with self, lkops.triton.watch(self.launched, run=False):  # counts what torch does in it, too
                return function(*arguments)

        return run

    def launched(self, launch: lkops.triton.Launch) -> None:
        function = launch.kernel.fn if hasattr(launch.kernel, "fn") else launch.kernel
        room = function.__module__.split(".")[-2]
        self.traffic.kernels[f"{room}.{function.__name__.removesuffix('_kernel')}"] += 1
        self.traffic.kernel_bytes += _bytes(launch.arguments)


@contextmanager
def _triton_takes_meta_tensors() -> Iterator[None]:
    devices, automatic = dict(backends.DEVICES), dict(backends.AUTOMATIC)
    backends.DEVICES["triton"] = (*devices["triton"], "meta")
    backends.AUTOMATIC["meta"] = automatic["cuda"]
    try:
        yield
    finally:
        for table, before in ((backends.DEVICES, devices), (backends.AUTOMATIC, automatic)):
            table.clear()
            table.update(before)  # type: ignore[arg-type]


def count(run: Callable[[], Any]) -> Traffic:
    """What `run()`, which must work on meta tensors, would launch and move; operators of lkops run as on a GPU."""
    counter = _Counter()
    with _triton_takes_meta_tensors(), counter:
        run()
    return counter.traffic
