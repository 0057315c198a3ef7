"""`python -m bench.gpu.tune`: derive `lkops/triton/table.json` again, on a GPU.

For every entry of the table, the benchmark examples that reach it run with one setting changed at a time: a block
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
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

import lkops.triton
from bench import launchers
from bench.gpu.tune_clock import Bucket, Settings, Site, Timer, changes, neighbours, relative, run_on_meta, touched
from bench.without_gpu import ahead_of_time
from lkcanet.common.files import atomic_path
from lkops.triton import Table

MARGIN = 0.03
KINDS = ("float32", "bfloat16")  # of the table's two classes; both precisions of float32 share one


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
    """For every entry that the examples reach, at most so many calls that reach it, from the smallest to the largest.

    Args:
        only: kernels, as "<room>.<name>"; empty for all.
        sites: calls for each entry.
    """
    found: dict[Bucket, list[Site]] = {}
    for call, kind in launchers.runs():
        if kind in KINDS:
            for choice in sorted(set(run_on_meta(call, kind)[1]), key=str):
                bucket = Bucket(choice.kernel, choice.kind, choice.entry)
                if not only or choice.kernel in only:
                    found.setdefault(bucket, []).append(Site(call, kind, choice.work))
    return {bucket: spread(all_of, sites) for bucket, all_of in sorted(found.items(), key=lambda item: str(item[0]))}


def spread(sites: Sequence[Site], count: int) -> list[Site]:
    """The largest, the smallest, then what lies between; odd shapes only where there are no others."""
    sites = [site for site in sites if not site.call.odd] or sites
    sizes = [(site.work, max(map(math.prod, site.call.shapes().values()))) for site in sites]
    distinct = [sites[sizes.index(size)] for size in sorted(set(sizes), reverse=True)]
    steps = [round(i * (len(distinct) - 1) / max(count - 1, 1)) for i in range(count)]
    return [distinct[i] for i in dict.fromkeys(steps)]


def compiles(sites: Sequence[Site], bucket: Bucket, settings: Settings) -> bool:
    """Whether the launches that these settings touch pass the ahead-of-time check, in tf32 and float16 too."""
    also = {"float32": "tf32", "bfloat16": "float16"}
    reached = ahead_of_time.Reached()
    for site in sites:
        names = touched(site, bucket, settings)
        with lkops.triton.override({bucket.kernel: settings}):
            for kind in (site.kind, also[site.kind]):
                for launch in run_on_meta(site.call, kind)[0]:
                    if launch.kernel.__name__ in names:
                        reached.add(launch, kind)
    rows = ({**row, **ahead_of_time.compile_row(reached.launches[key])} for key, row in reached.rows.items())
    return not any(ahead_of_time.problems(row) for row in rows)


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
                print(f"    at {site.call}, {site.kind}: {names}")
            for other in neighbours(settings):
                print(f"    try {changes(settings, other)}")
        return
    if not torch.cuda.is_available():
        sys.exit("bench.gpu.tune needs a GPU: torch sees none (--dry-run lists what would be tried)")
    tune(buckets, arguments.out, arguments.seconds)


if __name__ == "__main__":
    main()
