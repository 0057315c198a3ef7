"""The operators at sizes of one's own against eager PyTorch and torch.compile: `python -m lkops.bench --help`.

    for row in operator_speeds(sizes=Sizes(channels=64, rows=48, columns=48)):
        print(row.name, row.ratio)

Every output is compared with the float64 reference first; what is wrong is not timed. All providers are called in
turns, so that other load on the machine meets all alike; a time is the median of many.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

import lkops

from .. import testing

__all__ = ["OperatorSpeed", "Sizes", "operator_speeds"]

# examples of a block and an upsampler on 64 x 64 pixels; all others are "image_64"
EXAMPLES = {"channel_attention": "image_64_wide", "spectral_losses": "image_256"}
PLAIN = testing.Policy(times=0, roundings=0, of_size=1e-4)  # what PyTorch may be off, in any form
ATTENTION_GROUPS = 4  # of the grouped 1x1 conv, as in LKCA-Net; and its reduction
REDUCTION = 16


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What the operators' tensors follow from, as they are in LKCA-LR.

    Attributes:
        batch, rows, columns: N, H and W of the low-resolution image.
        channels: C of the features; the attention is over 3C of them, with a reduction of 16 and four groups.
        bands: B of the image, in the upsampler, the bicubic image and the losses; the latter two see (N, B, H, W) and
            (N, B, rH, rW).
        scale: r.
        groups: of the upsampler's conv; must divide C and B r^2.

    Raises:
        ValueError: a size below 1, or groups that do not divide.
    """

    batch: int = 1
    channels: int = 128
    bands: int = 128
    rows: int = 64
    columns: int = 64
    scale: int = 4
    groups: int = 8

    def __post_init__(self) -> None:
        for field in fields(self):
            if (value := getattr(self, field.name)) < 1:
                raise ValueError(f"{field.name} must be 1 or more, got {value}")
        if self.channels % ATTENTION_GROUPS:
            raise ValueError(
                f"channels must be divisible by the attention's {ATTENTION_GROUPS} groups, got {self.channels}"
            )
        for name, value in (("channels", self.channels), ("bands * scale^2", self.bands * self.scale**2)):
            if value % self.groups:
                raise ValueError(f"groups must divide {name} = {value}, got {self.groups}")

    def applied(self, name: str, case: testing.Example) -> testing.Example:
        """An operator's example, of these sizes."""
        n, c, h, w = self.batch, self.channels, self.rows, self.columns
        shape = {
            "channel_attention": (n, 3 * c, h, w),
            "bicubic_upsample": (n, self.bands, h, w),
            "spectral_losses": (n, self.bands, self.scale * h, self.scale * w),
        }.get(name, (n, c, h, w))
        told = {
            "hidden": max(1, 3 * c // REDUCTION), "outputs": c, "bands": self.bands, "groups": self.groups,
        }  # fmt: skip
        sizes = {**case.sizes, **{key: value for key, value in told.items() if key in case.sizes}}
        options = {**case.options, **({"scale": self.scale} if "scale" in case.options else {})}
        return replace(case, shape=shape, sizes=sizes, options=options)


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
        compiled_milliseconds: of plain PyTorch under torch.compile; None where it was not asked for.
    """

    name: str
    shape: tuple[int, ...]
    backend: str
    milliseconds: float
    eager_milliseconds: float
    ratio: float
    error: float
    allowed: float
    compiled_milliseconds: float | None = None

    @property
    def compiled_ratio(self) -> float | None:
        """compiled / operator."""
        return None if self.compiled_milliseconds is None else self.compiled_milliseconds / self.milliseconds


def operator_speeds(
    names: Sequence[str] | None = None,
    *,
    sizes: Sizes | None = None,
    compiled: bool = False,
    quick: bool = False,
    seconds: float = 1.5,
) -> Iterator[OperatorSpeed]:
    """Time operators one by one, without gradients, on the CPU.

    Plain PyTorch is what one would write without lkops (`lkops.testing.Examples.eager`): `F.conv2d`, `F.layer_norm`,
    `F.pixel_shuffle`; in contiguous or in channels_last memory, whichever is faster.

    Args:
        names: of `lkops.backends.operators()`; None: all.
        sizes: of the tensors; None: those of LKCA-LR with 128 bands and channels, x4, 64 x 64 pixels.
        compiled: time plain PyTorch under `torch.compile`, too; compiles for some seconds an operator.
        quick: tiny shapes, for tests; `sizes` are left aside.
        seconds: of timing for one operator; at least five calls of each are made.

    Yields:
        A row an operator.

    Raises:
        ValueError: a name that is no operator's.
        RuntimeError: an output differs from the reference by more than rounding.
    """
    automatic = {row.operator: row.backend for row in lkops.backends.status() if row.automatic}
    wanted = list(automatic) if names is None else list(names)
    if unknown := [name for name in wanted if name not in automatic]:
        raise ValueError(f"names must be of {', '.join(automatic)}; got {', '.join(unknown)}")
    for name in wanted:
        example = testing.examples(name)[EXAMPLES.get(name, "image_64")]
        example = example.tiny() if quick else (sizes or Sizes()).applied(name, example)
        with torch.inference_mode():
            row = _measure(name, example, automatic[name], 0.01 if quick else seconds, compiled=compiled)
        yield row


def _measure(name: str, example: testing.Example, backend: str, seconds: float, *, compiled: bool) -> OperatorSpeed:
    known, function = testing.examples(name), getattr(lkops, name)
    tensors = testing.cast(known.arguments(example), torch.float32)
    last = {key: _last(tensor) for key, tensor in tensors.items()}

    runs: dict[str, Callable[[], Any]] = {
        "lkops": lambda: function(**tensors, **example.options),
        "eager": lambda: known.eager(**tensors, **example.options),
        "channels_last": lambda: known.eager(**last, **example.options),
    }
    if compiled:
        fast = torch.compile(known.eager, fullgraph=True)
        runs["compiled"] = lambda: fast(**tensors, **example.options)
    exact = testing.as_tuple(function(**testing.cast(tensors, torch.float64), **example.options, backend="reference"))
    found = {provider: testing.as_tuple(run()) for provider, run in runs.items()}
    worst = _worst(f"{name} on {backend}", found["lkops"], found["eager"], exact, testing.Policy())
    for provider in found.keys() - {"lkops"}:
        _worst(f"{name} in plain PyTorch, {provider},", found[provider], found["eager"], exact, PLAIN)
    del exact, found
    times = _in_turns(runs, seconds)
    best, own = min(times["eager"], times["channels_last"]), times["lkops"]
    told = (own, best, best / own, worst.error, worst.allowed)
    return OperatorSpeed(name, example.shape, backend, *told, times.get("compiled"))


def _worst(
    what: str, own: Sequence[Tensor], eager: Sequence[Tensor], exact: Sequence[Tensor], policy: testing.Policy
) -> testing.Distance:
    """The output that is nearest to what is allowed, which none may be beyond."""
    worst = max(testing.distances(own, eager, exact, policy), key=lambda distance: distance.share)
    if not worst.error <= worst.allowed:
        raise RuntimeError(f"{what} differs from the reference by {worst.error:.3g}; allowed {worst.allowed:.3g}")
    return worst


def _in_turns(runs: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """Median milliseconds of each."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    end = time.perf_counter() + seconds
    while len(times["lkops"]) < 5 or time.perf_counter() < end:
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(taken) for name, taken in times.items()}


def _last(tensor: Tensor | None) -> Tensor | None:
    if tensor is None or tensor.dim() != 4:
        return tensor
    return tensor.contiguous(memory_format=torch.channels_last)
