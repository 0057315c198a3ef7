"""The machine's own limits, measured: multiply-adds on registers, and copies of memory at given sizes."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from bench.cpu.peak import fma_peak
from bench.without_gpu.work import Rates, Work

COPIES = tuple(1 << shift for shift in range(18, 31, 3))  # bytes read and written: 256 KB to 1 GB


def _fastest(run: Callable[[], object], seconds: float) -> float:
    run()
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return min(taken)


def _copy(size: int, seconds: float) -> float:
    source = torch.ones(size // 8)
    target = torch.empty_like(source)
    return size / _fastest(lambda: target.copy_(source), seconds)


def measure_limits(*, seconds: float = 0.15) -> dict[str, Any]:
    """Operations and bytes a second of all of torch's threads, the best of many calls: `peak` of float32 multiply-adds
    (two operations) on registers, `copy` by bytes read and written. At most a gigabyte of copies fits in what is
    measured."""
    with torch.inference_mode():
        copies = {str(size): _copy(size, seconds) for size in COPIES}
    peak = fma_peak(torch.get_num_threads(), seconds)
    return {"peak": 1e9 * peak["float32"], "copy": copies}


def best(*measured: Mapping[str, Any]) -> dict[str, Any]:
    """The highest of several measurements of each limit: other load only ever lowers one."""
    copies = {size: max(limits["copy"][size] for limits in measured) for size in measured[0]["copy"]}
    return {"peak": max(limits["peak"] for limits in measured), "copy": copies}


def rates(limits: Mapping[str, Any], work: Work) -> Rates:
    """At the size class of this work: small tensors stay in caches, which copy faster than memory."""
    nearest = min(limits["copy"], key=lambda size: abs(math.log2(int(size) / max(work.bytes, 1))))
    return Rates(limits["copy"][nearest], {"float32": limits["peak"]})


def limit_seconds(limits: Mapping[str, Any], work: Work) -> tuple[float, str]:
    """The least time for this work at the measured rates, and which of them sets it: "memory" or "products".

    All products run on the same FMA units, so their times add up; bytes are moved meanwhile.
    """
    moved, products = rates(limits, work).seconds(work, "float32")
    return max(moved, products), "memory" if moved > products else "products"
