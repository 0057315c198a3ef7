"""Every operator of lkops timed on its automatic backend against plain PyTorch, outputs checked first."""

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import lkops
from lkops import testing

__all__ = ["OperatorSpeed", "operator_speeds"]

# examples of a block and an upsampler on 64 x 64 pixels; all others are "image_64"
EXAMPLES = {"channel_attention": "image_64_wide", "spectral_losses": "image_256"}


@dataclass(frozen=True)
class OperatorSpeed:
    """One operator.

    Attributes:
        name: of the function in `lkops`.
        shape: of its first argument, float32.
        backend: that was chosen automatically.
        milliseconds, eager_milliseconds: medians, of the operator and of plain PyTorch in its faster memory format.
        ratio: eager / operator; above 1 the operator is faster.
        error, allowed: largest difference to the float64 reference, of the operator, and what is taken for rounding:
            2 max|eager - reference| + 4 eps max|reference|; of the output that is nearest to what is allowed.
    """

    name: str
    shape: tuple[int, ...]
    backend: str
    milliseconds: float
    eager_milliseconds: float
    ratio: float
    error: float
    allowed: float


def operator_speeds(*, quick: bool = False, seconds: float = 1.5) -> Iterator[OperatorSpeed]:
    """Time the operators one by one, without gradients, as in LKCA-LR with 128 bands and channels, x4, 64 x 64 pixels.

    Plain PyTorch is what one would write without lkops (`lkops.testing.Examples.eager`): `F.conv2d`, `F.layer_norm`,
    `F.pixel_shuffle`; in contiguous or in channels_last memory, whichever is faster. All are called in turn, so that
    other load on the machine meets all.

    Args:
        quick: tiny shapes, for tests.
        seconds: of timing for one operator; at least five calls of each are made.

    Yields:
        A row an operator, in the order of `lkops.backends.operators()`.

    Raises:
        RuntimeError: an output differs from the reference by more than rounding.
    """
    automatic = {row.operator: row.backend for row in lkops.backends.status() if row.automatic}
    with torch.inference_mode():
        for name, backend in automatic.items():
            example = testing.examples(name)[EXAMPLES.get(name, "image_64")]
            yield _measure(name, example.tiny() if quick else example, backend, 0.01 if quick else seconds)


def _measure(name: str, example: testing.Example, backend: str, seconds: float) -> OperatorSpeed:
    known, function = testing.examples(name), getattr(lkops, name)
    tensors = testing.cast(known.arguments(example), torch.float32)

    def operator() -> Any:
        return function(**tensors, **example.options)

    def eager() -> Any:
        return known.eager(**tensors, **example.options)

    exact = function(**testing.cast(tensors, torch.float64), **example.options, backend="reference")
    exact, ours, plain = (testing.as_tuple(results) for results in (exact, operator(), eager()))
    distances = testing.distances(ours, plain, exact, testing.Policy())
    worst = max(distances, key=lambda distance: distance.share)
    if not worst.error <= worst.allowed:
        raise RuntimeError(
            f"{name} on {backend} differs from the reference by {worst.error:.3g}; allowed {worst.allowed:.3g}"
        )
    last = {key: _last(tensor) for key, tensor in tensors.items()}
    runs = (operator, eager, lambda: known.eager(**last, **example.options))
    times: tuple[list[float], ...] = tuple([] for _ in runs)
    end = time.perf_counter() + seconds
    while len(times[0]) < 5 or time.perf_counter() < end:
        for run, taken in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            taken.append(1e3 * (time.perf_counter() - start))
    own, *eagers = (statistics.median(taken) for taken in times)
    best = min(eagers)
    return OperatorSpeed(name, example.shape, backend, own, best, best / own, worst.error, worst.allowed)


def _last(tensor: Tensor | None) -> Tensor | None:
    if tensor is None or tensor.dim() != 4:
        return tensor
    return tensor.contiguous(memory_format=torch.channels_last)
