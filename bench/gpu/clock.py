"""Times of a GPU by its own events, of the CPU by the host's clock (dry runs only), and the card's measured limits."""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from bench.without_gpu.work import Rates


class Clock:
    """Times calls on one device.

    Args:
        device: "cuda"; "cpu" is for dry runs, whose times mean nothing.
        seconds: of timing for one function, at least ten calls.
    """

    def __init__(self, device: str, seconds: float = 0.4) -> None:
        self.on_gpu, self.seconds = device == "cuda", seconds

    def times(self, run: Callable[[int], Any], *, warm_up: int = 5) -> dict[str, float]:
        """Median, 20th and 80th percentile in milliseconds of `run(i)`, called with 0, 1, 2 ...

        Calls follow each other without waiting for the GPU: where launching takes longer than running, a time is that
        of launching.
        """
        if self.on_gpu:
            for i in range(warm_up):
                run(i)
            torch.cuda.synchronize()
            start = time.perf_counter()
            for i in range(3):
                run(i)
            torch.cuda.synchronize()
            once = max((time.perf_counter() - start) / 3, 1e-6)
            taken = self._events(run, min(max(int(self.seconds / once), 10), 200))
        else:
            taken = self._host(run, 2)
        deciles = statistics.quantiles(taken, n=10, method="inclusive")
        return {"ms": statistics.median(taken), "p20_ms": deciles[1], "p80_ms": deciles[7], "calls": len(taken)}

    def _events(self, run: Callable[[int], Any], calls: int) -> list[float]:
        pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(calls)]
        for i, (start, end) in enumerate(pairs):
            start.record()
            run(i)
            end.record()
        torch.cuda.synchronize()
        return [start.elapsed_time(end) for start, end in pairs]

    def _host(self, run: Callable[[int], Any], calls: int) -> list[float]:
        taken = []
        for i in range(calls):
            start = time.perf_counter()
            run(i)
            taken.append(1e3 * (time.perf_counter() - start))
        return taken

    def peak_bytes(self, run: Callable[[int], Any]) -> int | None:
        """Memory that one call takes beyond what was there before; None on the CPU."""
        if not self.on_gpu:
            return None
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run(0)
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before


def input_sets(bytes_of_one: int) -> int:
    """How many sets of inputs to go through in turn, so that none is still in the GPU's cache when its turn comes."""
    if not torch.cuda.is_available():
        return 2
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    return min(max(math.ceil(2 * cache / max(bytes_of_one, 1)), 1), 32)


def measured_limits(clock: Clock) -> Rates:
    """Of a large copy, bytes read and written, and of large matrix products of random numbers, by precision."""
    device = "cuda" if clock.on_gpu else "cpu"
    count = 1 << (28 if clock.on_gpu else 12)
    if clock.on_gpu:
        count = min(count, torch.cuda.mem_get_info()[0] // 4 // 8)
    source = torch.rand(count, device=device)
    target = torch.empty_like(source)
    bandwidth = 8 * count / (1e-3 * clock.times(lambda _: target.copy_(source))["ms"])
    rates = {}
    before = torch.backends.cuda.matmul.allow_tf32
    for name, dtype, n in (
        ("float32", torch.float32, 4096),
        ("tf32", torch.float32, 8192),
        ("bfloat16", torch.bfloat16, 8192),
    ):
        n = n if clock.on_gpu else 16
        x, y = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
        try:
            rates[name] = 2 * n**3 / (1e-3 * clock.times(lambda _, x=x, y=y: x @ y)["ms"])  # type: ignore[misc]
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before
    return Rates(bandwidth, rates)
