"""What replaced parts are worth: their times by PyTorch and by the operator, within an inference on the example."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from . import ways
from .draws import same_chance
from .hooks import no_global_hooks
from .running import restored

REPEATS = 5  # of each part in each way, at least
SECONDS = 0.02  # that parts of one kind may take, once they have these
LEAST_GAIN = 1.02  # what is not faster by this factor stays PyTorch's


@dataclass
class Part:
    """Milliseconds of one inference, over all calls of a part.

    Attributes:
        eager: by PyTorch's operators.
        ours: as the fused model computes it; None where a call did not come to the operator.
    """

    eager: float = 0.0
    ours: float | None = 0.0

    @property
    def is_faster(self) -> bool:
        return self.ours is not None and self.eager >= LEAST_GAIN * self.ours

    @property
    def least(self) -> float:
        """As it is computed now."""
        return self.eager if self.ours is None else min(self.eager, self.ours)

    def said(self) -> str:
        """Why it is left."""
        if self.ours is None:
            return "not worth it, or not possible, at the example's size"
        return f"no gain at the example's size: {self.eager:.3f} ms, and {self.ours:.3f} ms with the operator"


@dataclass
class _Kind:
    """Parts of one pattern with tensors of the same shapes, which take the same time."""

    eager: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    spent: float = 0.0


class _Meter:
    """Computes parts in both ways and notes how long that takes; see `ways.metered`."""

    def __init__(self, patterns: Mapping[int, str]) -> None:
        self.patterns = patterns
        self.kinds: dict[Any, _Kind] = {}
        self.calls: list[tuple[int, Any, bool]] = []  # of which weight, kind, whether the operator computes it

    def __call__(self, weight: Tensor | None, ours: Callable[[], Tensor] | None, eager: Callable[[], Tensor]) -> Tensor:
        with ways.metered(lambda weight, ours, eager: eager()):  # parts of parts
            result = eager() if ours is None else ours()
            of_weight = None if weight is None else tuple(weight.shape)
            key = self.patterns.get(id(weight)), of_weight, tuple(result.shape), result.dtype, ours is None
            kind = self.kinds.setdefault(key, _Kind())
            self.calls.append((id(weight), key, ours is not None))
            if not kind.eager:
                eager()
            while len(kind.eager) < REPEATS or kind.spent < SECONDS:
                kind.eager.append(_milliseconds(eager))
                kind.ours.append(kind.eager[-1] if ours is None else _milliseconds(ours))
                kind.spent += 1e-3 * (kind.eager[-1] + kind.ours[-1])
        return result

    def parts(self) -> dict[int, Part]:
        """By the ids of their weights; bicubic images, which have none, are one part."""
        found: dict[int, Part] = {}
        for weight, key, is_ours in self.calls:
            part, kind = found.setdefault(weight, Part()), self.kinds[key]
            part.eager += statistics.median(kind.eager)
            part.ours = part.ours + statistics.median(kind.ours) if is_ours and part.ours is not None else None
        return found


def _milliseconds(run: Callable[[], Tensor]) -> float:
    start = time.perf_counter()
    result = run()
    if result.is_cuda:
        torch.cuda.synchronize(result.device)
    return 1e3 * (time.perf_counter() - start)


@no_global_hooks()
def parts_of(fused: nn.Module, example: tuple[Any, ...], patterns: Mapping[int, str]) -> dict[int, Part]:
    """Times of the replaced parts by the ids of their weights, in an inference; `patterns` are by these ids too."""
    meter = _Meter(patterns)
    with restored(fused), same_chance(example), torch.no_grad(), ways.metered(meter):
        fused.eval()
        _run(fused, example)
    return meter.parts()


@no_global_hooks()
def times(models: Sequence[nn.Module], example: tuple[Any, ...], seconds: float = 1.0) -> list[float]:
    """Milliseconds of an inference of each, medians of calls in turns after a first one; at least three of each."""
    found: list[list[float]] = [[] for _ in models]
    with restored(*models), same_chance(example), torch.no_grad():
        for model in models:
            model.eval()
            _run(model, example)
        start = time.perf_counter()
        while len(found[0]) < 3 or (time.perf_counter() - start < seconds and len(found[0]) < 50):
            for model, taken in zip(models, found, strict=True):
                before = time.perf_counter()
                _run(model, example)
                taken.append(1e3 * (time.perf_counter() - before))
    return [statistics.median(taken) for taken in found]


def _run(model: nn.Module, example: tuple[Any, ...]) -> None:
    try:
        model(*example)
    except Exception as error:  # without a check it is the first to run
        raise ValueError(f"model(*example_input) failed: {type(error).__name__}: {error}") from error
    if torch.cuda.is_available():
        torch.cuda.synchronize()
