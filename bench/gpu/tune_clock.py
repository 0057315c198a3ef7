"""The clock of `bench.gpu.tune`: what a setting of the table changes, and how long those launches take on the GPU."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
import triton.testing
from torch import Tensor

import lkops.triton
from bench import launchers
from lkops.testing import Policy, WrongResult, share_of_allowed
from lkops.triton import Choice, Launch

Settings = dict[str, Any]

WARPS, STAGES, LARGEST = 16, 4, 1 << 15
OPTIONS = ("num_warps", "num_stages", "maxnreg")
REGISTERS = 1 << 16  # of a multiprocessor, which one program must leave enough of


@dataclass(frozen=True)
class Bucket:
    """One entry of the table."""

    kernel: str
    kind: str
    entry: int

    def __str__(self) -> str:
        up_to = lkops.triton.table()[self.kernel][self.kind][self.entry]["up_to"]
        return f"{self.kernel} {self.kind} {'above' if up_to is None else f'up to {up_to}'}"


@dataclass(frozen=True)
class Site:
    """One call of an operator that reaches an entry with this much work."""

    call: launchers.Call
    kind: str
    work: int


def neighbours(settings: Mapping[str, Any]) -> list[Settings]:
    """Settings one step away: a block or the warps halved or doubled, all blocks together, with and without the warps,
    another number of stages."""
    blocks = [key for key, value in settings.items() if key not in ("up_to", *OPTIONS)]
    blocks = [key for key in blocks if _is_power_of_2(settings[key])]
    warps = ["num_warps"] * ("num_warps" in settings)
    groups = [[key] for key in (*blocks, *warps)] + [blocks, blocks + warps]
    found: list[Settings] = []
    for group in groups:
        for halve in (True, False):
            step = {key: settings[key] // 2 if halve else settings[key] * 2 for key in group}
            other = {**settings, **step}
            fits = other.get("maxnreg", 1) * 32 * other.get("num_warps", 1) <= REGISTERS
            if fits and all(1 <= value <= (WARPS if key == "num_warps" else LARGEST) for key, value in step.items()):
                found.append(other)
    if "num_stages" in settings:
        found += [{**settings, "num_stages": stages} for stages in range(1, STAGES + 1)]
    return [other for i, other in enumerate(found) if other != settings and other not in found[:i]]


def _is_power_of_2(value: Any) -> bool:
    return type(value) is int and value > 0 and value & (value - 1) == 0


def run_on_meta(call: launchers.Call, kind: str) -> tuple[list[Launch], list[Choice]]:
    launches: list[Launch] = []
    choices: list[Choice] = []
    with launchers.precision(kind), lkops.triton.watch(launches.append, choices=choices.append, run=False):
        kernels = launchers.kernels(call, kind)
        kernels.forward()
        kernels.backward(kernels.trained)
    return launches, choices


def _as_told(launch: Launch) -> str:
    arguments = [(a.shape, a.dtype) if isinstance(a, Tensor) else a for a in launch.arguments]
    return str((launch.grid, arguments, launch.constants, launch.options))


def touched(site: Site, bucket: Bucket, settings: Settings) -> set[str]:
    """The kernels whose launches change with the entry's settings; only they are timed."""

    def told() -> Counter[tuple[str, str]]:
        return Counter((launch.kernel.__name__, _as_told(launch)) for launch in run_on_meta(site.call, site.kind)[0])

    before, found = told(), set[str]()
    for other in neighbours(settings):
        with lkops.triton.override({bucket.kernel: other}):
            after = told()
        found |= {name for name, _ in ((before - after) + (after - before))}
    return found


class Timer:
    """Times the settings of one entry at one site, on the current GPU."""

    def __init__(self, site: Site, bucket: Bucket, settings: Settings) -> None:
        self.site, self.bucket = site, bucket
        self.names = touched(site, bucket, settings)
        torch.manual_seed(0)
        self.kernels = launchers.kernels(site.call, site.kind, "cuda")
        self.expected = self._run(settings)[0]
        assert all(t.isfinite().all() for t in self.expected), f"{site.call} gives no finite result"

    def _run(self, settings: Settings) -> tuple[list[Tensor], list[Launch]]:
        launches: list[Launch] = []
        with ExitStack() as stack:
            stack.enter_context(launchers.precision(self.site.kind))
            stack.enter_context(lkops.triton.override({self.bucket.kernel: settings}))
            stack.enter_context(lkops.triton.watch(launches.append))
            outputs = self.kernels.forward()
            gradients = self.kernels.backward(self.kernels.trained)
            torch.cuda.synchronize()
        needed = [grad for grad, trained in zip(gradients, self.kernels.trained, strict=True) if trained]
        return [*outputs[: self.kernels.outputs], *needed], launches

    def __call__(self, settings: Settings) -> float | None:
        """Milliseconds, or None if these settings do not run or give other results."""
        try:
            results, launches = self._run(settings)
            if not all(equal(result, right) for result, right in zip(results, self.expected, strict=True)):
                return None
            mine = [launch for launch in launches if launch.kernel.__name__ in self.names]

            def replay() -> None:
                for launch in mine:
                    launch.kernel[launch.grid](*launch.arguments, **launch.constants, **launch.options)

            return float(triton.testing.do_bench_cudagraph(replay, rep=5, return_mode="median"))
        except Exception as error:  # a compiler may fail in many ways
            print(f"    {changes({}, settings)}: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
        torch.cuda.synchronize()  # raises where the error has left a GPU that runs nothing any more
        return None


def equal(result: Tensor, right: Tensor) -> bool:
    """Whether two results differ by no more than another order of summation explains."""
    policy = Policy(times=0, roundings=64 if right.dtype is torch.float32 else 4)
    try:
        share_of_allowed(result, right, right, policy)
    except WrongResult:
        return False
    return True


def relative(timers: Sequence[Callable[[Settings], float | None]]) -> Callable[[Settings], float | None]:
    """The geometric mean over several sites of the time relative to the first settings that it is asked for."""
    first: list[float] = []

    def measure(settings: Settings) -> float | None:
        times: list[float] = []
        for timer in timers:
            if (taken := timer(settings)) is None:
                return None
            times.append(taken)
        first[:] = first or times
        return math.exp(sum(math.log(t / f) for t, f in zip(times, first, strict=True)) / len(times))

    return measure


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The settings that differ: "BLOCK 256 -> 512, num_warps 2 -> 4"."""
    words = [f"{k} {before[k]} -> {v}" if k in before else f"{k} {v}" for k, v in after.items() if before.get(k) != v]
    return ", ".join(words)
