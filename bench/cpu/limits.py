"""The machine's own limits, measured: how fast torch multiplies matrices and copies memory, at given sizes."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from bench.without_gpu.work import Rates, Work

Product = tuple[int, int, int]  # outputs, inputs, pixels
LARGE: Product = (1024, 1024, 1024)
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


def _matrix(product: Product, seconds: float) -> float:
    m, k, n = product
    a, b, out = torch.randn(m, k), torch.randn(k, n), torch.empty(m, n)
    return 2 * m * k * n / _fastest(lambda: torch.mm(a, b, out=out), seconds)


def _copy(size: int, seconds: float) -> float:
    source = torch.ones(size // 8)
    target = torch.empty_like(source)
    return size / _fastest(lambda: target.copy_(source), seconds)


def measure_limits(products: Iterable[Product], *, seconds: float = 0.15) -> dict[str, Any]:
    """Operations and bytes a second, the best of many calls: `matrix` by product, `peak` the best of them and of a
    large one, `copy` by bytes read and written. At most a gigabyte of copies fits in what is measured."""
    with torch.inference_mode():
        matrix = {"x".join(map(str, p)): _matrix(p, seconds) for p in sorted({*products, LARGE})}
        copies = {str(size): _copy(size, seconds) for size in COPIES}
    return {"matrix": matrix, "peak": max(matrix.values()), "copy": copies}


def best(*measured: Mapping[str, Any]) -> dict[str, Any]:
    """The highest of several measurements of each limit: other load only ever lowers one."""
    matrix, copies = (
        {key: max(limits[what][key] for limits in measured if key in limits[what]) for key in measured[0][what]}
        for what in ("matrix", "copy")
    )
    return {"matrix": matrix, "peak": max(limits["peak"] for limits in measured), "copy": copies}


def rates(limits: Mapping[str, Any], work: Work) -> Rates:
    """At the size class of this work: small tensors stay in caches, which copy faster than memory."""
    nearest = min(limits["copy"], key=lambda size: abs(math.log2(int(size) / max(work.bytes, 1))))
    return Rates(limits["copy"][nearest], {"float32": limits["peak"]})


def limit_seconds(limits: Mapping[str, Any], work: Work, product: Product | None) -> tuple[float, str]:
    """The least time for this work at the measured rates, and which of them sets it: "memory" or "products".

    Matrix products run at the rate of their shape, all others at the best rate: both use the same FMA units, so the
    times of the two add up. Bytes are moved meanwhile.
    """
    best = rates(limits, work)
    matrix = limits["matrix"]["x".join(map(str, product))] if product else limits["peak"]
    products = 2 * work.matrix / matrix + 2 * work.vector / best.operations["float32"]
    moved = work.bytes / best.bandwidth
    return max(moved, products), "memory" if moved > products else "products"
