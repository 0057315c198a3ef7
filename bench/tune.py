"""`python -m bench.tune`: derive `lkops/triton/table.json` again, on a GPU.

For every entry of the table, the shapes of `bench.shapes` that reach it run with one setting changed at a time: a block
halved or doubled, all blocks together, the number of warps, of stages. What gives other results than the committed
table is out; of the others the launches that the setting touches are timed, in a CUDA graph, and the fastest stays
if it gains 3 % and compiles for every target of the ahead-of-time check. That goes on from there until nothing gains.
The table is written after each entry, so a run may be stopped. Then: `make ahead-of-time`, `make test`.
"""

import argparse
import copy
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import triton
import triton.testing
from torch import Tensor

import lkops.triton
from bench import ahead_of_time, shapes
from lkcanet._files import atomic_path
from lkops.triton import Choice, Launch, Table

Settings = dict[str, Any]

MARGIN = 0.03
KINDS = ("float32", "bfloat16")  # of the table's two classes; both precisions of float32 share one
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

    shape: shapes.Shape
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


def climb(
    start: Settings,
    measure: Callable[[Settings], float | None],
    accepts: Callable[[Settings], bool] = lambda settings: True,
    rounds: int = 6,
) -> tuple[Settings, float]:
    """The best settings that steps from `start` lead to, and their time, where each step gains `MARGIN`.

    Args:
        measure: time of settings, None if they don't run or give other results.
        accepts: asked only of what would be taken.
        rounds: largest number of steps.
    """
    least = measure(start)
    if least is None:
        raise RuntimeError(f"the settings to start from do not run: {start}")
    best, tried = start, [start]
    for _ in range(rounds):
        times: list[tuple[float, int, Settings]] = []
        for settings in neighbours(best):
            if settings not in tried:
                tried.append(settings)
                if (taken := measure(settings)) is not None and taken < least * (1 - MARGIN):
                    times.append((taken, len(tried), settings))
        step = next(((t, settings) for t, _, settings in sorted(times, key=lambda x: x[:2]) if accepts(settings)), None)
        if step is None:
            break
        least, best = step
    return best, least


def plan(only: Sequence[str] = (), sites: int = 2) -> dict[Bucket, list[Site]]:
    """For every entry that the shapes reach, at most so many calls that reach it, from the smallest to the largest.

    Args:
        only: kernels, as "<room>.<name>"; empty for all.
        sites: calls for each entry.
    """
    found: dict[Bucket, list[Site]] = {}
    for shape, kind in shapes.runs():
        if kind in KINDS:
            for choice in sorted(set(_run_on_meta(shape, kind)[1]), key=str):
                bucket = Bucket(choice.kernel, choice.kind, choice.entry)
                if not only or choice.kernel in only:
                    found.setdefault(bucket, []).append(Site(shape, kind, choice.work))
    return {bucket: spread(all_of, sites) for bucket, all_of in sorted(found.items(), key=lambda item: str(item[0]))}


def spread(sites: Sequence[Site], count: int) -> list[Site]:
    """The largest, the smallest, then what lies between; odd shapes only where there are no others."""
    sites = [site for site in sites if shapes.ODD not in site.shape.tensors.values()] or sites
    sizes = [(site.work, max(math.prod(size or ()) for size in site.shape.tensors.values())) for site in sites]
    distinct = [sites[sizes.index(size)] for size in sorted(set(sizes), reverse=True)]
    steps = [round(i * (len(distinct) - 1) / max(count - 1, 1)) for i in range(count)]
    return [distinct[i] for i in dict.fromkeys(steps)]


def _run_on_meta(shape: shapes.Shape, kind: str) -> tuple[list[Launch], list[Choice]]:
    launches: list[Launch] = []
    choices: list[Choice] = []
    with shapes.precision(kind), lkops.triton.watch(launches.append, choices=choices.append, run=False):
        kernels = shapes.kernels(shape, kind)
        kernels.forward()
        kernels.backward(kernels.trained)
    return launches, choices


def _as_told(launch: Launch) -> str:
    arguments = [(a.shape, a.dtype) if isinstance(a, Tensor) else a for a in launch.arguments]
    return str((launch.grid, arguments, launch.constants, launch.options))


def touched(site: Site, bucket: Bucket, settings: Settings) -> set[str]:
    """The kernels whose launches change with the entry's settings; only they are timed."""

    def told() -> Counter[tuple[str, str]]:
        return Counter((launch.kernel.__name__, _as_told(launch)) for launch in _run_on_meta(site.shape, site.kind)[0])

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
        self.kernels = shapes.kernels(site.shape, site.kind, "cuda")
        self.expected = self._run(settings)[0]
        assert all(t.isfinite().all() for t in self.expected), f"{site.shape} gives no finite result"

    def _run(self, settings: Settings) -> tuple[list[Tensor], list[Launch]]:
        launches: list[Launch] = []
        with ExitStack() as stack:
            stack.enter_context(shapes.precision(self.site.kind))
            stack.enter_context(lkops.triton.override({self.bucket.kernel: settings}))
            stack.enter_context(lkops.triton.watch(launches.append))
            outputs = self.kernels.forward()
            gradients = self.kernels.backward(self.kernels.trained)
            torch.cuda.synchronize()
        count = lkops._operator._outputs[self.site.shape.operator]
        needed = [grad for grad, trained in zip(gradients, self.kernels.trained, strict=True) if trained]
        return [*outputs[:count], *needed], launches

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
        except (triton.runtime.errors.OutOfResources, triton.compiler.errors.CompilationError, ValueError) as error:
            print(f"    {changes({}, settings)}: {type(error).__name__}")
            return None


def equal(result: Tensor, right: Tensor) -> bool:
    """Whether two results differ by no more than another order of summation explains."""
    roundings = 64 if right.dtype is torch.float32 else 4
    bound = roundings * torch.finfo(right.dtype).eps * right.float().abs().max()
    return bool((result.float() - right.float()).abs().max() <= bound)


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


def compiles(sites: Sequence[Site], bucket: Bucket, settings: Settings) -> bool:
    """Whether the launches that these settings touch pass the ahead-of-time check, in tf32 and float16 too."""
    also = {"float32": "tf32", "bfloat16": "float16"}
    reached = ahead_of_time.Reached()
    for site in sites:
        names = touched(site, bucket, settings)
        with lkops.triton.override({bucket.kernel: settings}):
            for kind in (site.kind, also[site.kind]):
                for launch in _run_on_meta(site.shape, kind)[0]:
                    if launch.kernel.__name__ in names:
                        reached.add(launch, kind)
    rows = ({**row, **ahead_of_time.compile_row(reached.launches[key])} for key, row in reached.rows.items())
    return not any(ahead_of_time.problems(row) for row in rows)


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The settings that differ: "BLOCK 256 -> 512, num_warps 2 -> 4"."""
    words = [f"{k} {before[k]} -> {v}" if k in before else f"{k} {v}" for k, v in after.items() if before.get(k) != v]
    return ", ".join(words)


def updated(table: Table, bucket: Bucket, settings: Settings) -> Table:
    """A copy of the table with other settings in one entry."""
    table = copy.deepcopy(table)
    entry = table[bucket.kernel][bucket.kind][bucket.entry]
    table[bucket.kernel][bucket.kind][bucket.entry] = {**entry, **settings, "up_to": entry["up_to"]}
    return table


def as_text(table: Table) -> str:
    """The table as the file holds it: an entry a line."""
    kernels = []
    for kernel, kinds in table.items():
        lists = []
        for kind, entries in kinds.items():
            lines = ",\n".join(f"      {json.dumps(entry)}" for entry in entries)
            lists.append(f"    {json.dumps(kind)}: [\n{lines}\n    ]")
        kernels.append(f"  {json.dumps(kernel)}: {{\n" + ",\n".join(lists) + "\n  }")
    return "{\n" + ",\n".join(kernels) + "\n}\n"


def tune(buckets: Mapping[Bucket, list[Site]], out: Path, seconds: float, timer: Callable[..., Any] = Timer) -> Table:
    """Climb from each entry, and write the table after each that changed; the table in the end.

    Args:
        buckets: see `plan`.
        out: the file to write.
        seconds: after so many no further entry is begun.
        timer: called as timer(site, bucket, settings), gives what times settings.
    """
    start, table = time.monotonic(), copy.deepcopy(lkops.triton.table())
    for i, (bucket, sites) in enumerate(buckets.items()):
        if time.monotonic() - start > seconds:
            print(f"{seconds:.0f} s are over: {len(buckets) - i} entries of {len(buckets)} are as they were")
            break
        before = {k: v for k, v in table[bucket.kernel][bucket.kind][bucket.entry].items() if k != "up_to"}
        measure = relative([timer(site, bucket, before) for site in sites])
        best, taken = climb(before, measure, partial(compiles, sites, bucket))
        said = f"{changes(before, best)}: {100 * (1 - taken):.0f} % less time" if best != before else "stays"
        print(f"{bucket}: {said}", flush=True)
        if best != before:
            table = updated(table, bucket, best)
            with atomic_path(out) as temporary:
                temporary.write_text(as_text(table))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="KERNEL", help="kernels of the table; default: all")
    parser.add_argument("--sites", type=int, default=2, help="calls timed for each entry")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no further entry after so long")
    parser.add_argument("--dry-run", action="store_true", help="list what would be tried; needs no GPU")
    parser.add_argument("--out", type=Path, default=lkops.triton.TABLE)
    arguments = parser.parse_args()
    if unknown := set(arguments.only) - lkops.triton.table().keys():
        parser.error(f"--only: {', '.join(sorted(unknown))} not in {lkops.triton.TABLE.name}")
    buckets = plan(arguments.only, arguments.sites)
    if arguments.dry_run:
        for bucket, sites in buckets.items():
            entry = lkops.triton.table()[bucket.kernel][bucket.kind][bucket.entry]
            settings = {k: v for k, v in entry.items() if k != "up_to"}
            print(f"{bucket}: {changes({}, settings)}")
            for site in sites:
                names = ", ".join(sorted(touched(site, bucket, settings)))
                print(f"    at {site.shape}, {site.kind}: {names}")
            for other in neighbours(settings):
                print(f"    try {changes(settings, other)}")
        return
    if not torch.cuda.is_available():
        sys.exit("bench.tune needs a GPU: torch sees none (--dry-run lists what would be tried)")
    tune(buckets, arguments.out, arguments.seconds)


if __name__ == "__main__":
    main()
