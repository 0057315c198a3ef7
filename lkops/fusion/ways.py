"""By which of two ways a part is computed, and how accurately: `measuring` and `verification` set it for a while."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

Way = Callable[[], Tensor]

_meter: Callable[[Tensor | None, Way | None, Way], Tensor] | None = None


@contextmanager
def metered(
    meter: Callable[[Tensor | None, Way | None, Way], Tensor],
) -> Iterator[None]:
    """Within the block every part is computed by `meter(weight, ours, eager)`, of which `ours` may be None."""
    global _meter
    before, _meter = _meter, meter
    try:
        yield
    finally:
        _meter = before


_accuracy = ""  # of all parts, within `with_accuracy`


@contextmanager
def with_accuracy(value: str) -> Iterator[None]:
    """Within the block all parts are computed with this accuracy, whatever they were fused with."""
    global _accuracy
    before, _accuracy = _accuracy, value
    try:
        yield
    finally:
        _accuracy = before


def accuracy(given: str) -> str:
    return _accuracy or given


def either(weight: Tensor | None, ours: Way | None, eager: Way) -> Tensor:
    """The part by the operator, or by PyTorch where there is none for it; `weight` says which part it is."""
    if _meter is not None:
        return _meter(weight, ours, eager)
    return eager() if ours is None else ours()
