"""Which operator ran on which backend."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Call:
    """One call of an operator: what `record` shows.

    Attributes:
        operator: name of the public function.
        backend: that ran it.
        shapes: of its tensors, by name; of those that were given.
        dtype, device: of the first.
    """

    operator: str
    backend: str
    shapes: Mapping[str, tuple[int, ...]]
    dtype: torch.dtype
    device: str


recorders: list[list[Call]] = []  # of the `record` blocks that are open


@contextmanager
def record() -> Iterator[list[Call]]:
    """Within the block, list which operator runs on which backend, for which shapes.

        with lkops.backends.record() as calls:
            model(image)
        print({(call.operator, call.backend) for call in calls})

    Calls of all threads are listed, as they begin; those that torch.compile has made part of a graph are not seen.
    """
    calls: list[Call] = []
    recorders.append(calls)
    try:
        yield calls
    finally:
        # this list, not one that is equal to it: blocks within blocks may have seen the same
        recorders[:] = [open_one for open_one in recorders if open_one is not calls]
