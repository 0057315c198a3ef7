"""bicubic_upsample on the CPU against torch's own bicubic, outputs checked before timing.

    pytest bench/test_bicubic.py                 pytest-benchmark
    python bench/test_bicubic.py                 ratios, interleaved in one run

Run with recycled memory, or the page faults of fresh allocations are what is measured:
GLIBC_TUNABLES=glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=4294967296
"""

import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import lkops  # noqa: F401  defines the ops
from lkops._extension import cpu_facts, extension_error

SHAPE, SCALE = (1, 128, 64, 64), 4
CUBIC_A, SYMMETRIC = -0.75, False  # torch's own
CASES = [(direction, dtype) for direction in ("forward", "backward") for dtype in (torch.float32, torch.bfloat16)]
PROVIDERS = ("eager", "lkops")


def arguments(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    large = (*SHAPE[:2], SHAPE[2] * SCALE, SHAPE[3] * SCALE)
    return torch.randn(SHAPE, generator=generator).to(dtype), torch.randn(large, generator=generator).to(dtype)


def call(provider: str, direction: str, x: Tensor, grad: Tensor) -> Tensor:
    """Forward reads `x`, backward reads `grad`; neither goes through autograd."""
    if direction == "forward":
        if provider == "eager":
            return F.interpolate(x, scale_factor=SCALE, mode="bicubic")
        return torch.ops.lkops.bicubic_upsample_cpu_fwd(x, SCALE, CUBIC_A, SYMMETRIC)
    if provider == "eager":
        return torch.ops.aten.upsample_bicubic2d_backward(
            grad, grad.shape[2:], x.shape, False, float(SCALE), float(SCALE)
        )
    return torch.ops.lkops.bicubic_upsample_cpu_bwd(grad, SCALE, CUBIC_A, SYMMETRIC)


def check(direction: str, x: Tensor, grad: Tensor) -> None:
    """The project's tolerance, against torch in float64."""
    exact = call("eager", direction, x.double(), grad.double())
    eager, ours = call("eager", direction, x, grad).double(), call("lkops", direction, x, grad).double()
    eps = torch.finfo(x.dtype).eps
    bound = 2 * (eager - exact).abs().max() + 4 * eps * exact.abs().max()
    error = (ours - exact).abs().max()
    if not error <= bound:
        raise AssertionError(f"{direction} {x.dtype}: error {error} above {bound}")


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(("direction", "dtype"), CASES, ids=str)
def test_bicubic(benchmark: Any, direction: str, dtype: torch.dtype, provider: str) -> None:
    if extension_error("_C_cpu"):
        pytest.skip(extension_error("_C_cpu"))
    x, grad = arguments(dtype)
    check(direction, x, grad)
    benchmark.group = f"bicubic x{SCALE} {SHAPE} {direction} {dtype}"
    benchmark.extra_info.update(backend="cpu")
    benchmark(call, provider, direction, x, grad)


def measure(functions: list[Callable[[], object]], rounds: int = 41) -> list[tuple[float, float]]:
    """Median and least milliseconds, measured in turns, so that other load on the machine meets all alike."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for function, own in zip(functions, times, strict=True):
            function()  # the turn before left other data in the caches
            start = time.perf_counter()
            function()
            own.append(1e3 * (time.perf_counter() - start))
    return [(statistics.median(own), min(own)) for own in times]


def main() -> None:
    if reason := extension_error("_C_cpu"):
        raise SystemExit(reason)
    print(f"bicubic x{SCALE} of {SHAPE}, {torch.get_num_threads()} threads, {cpu_facts()['isa']}")
    print("memory:", "recycled" if "mmap_threshold" in os.environ.get("GLIBC_TUNABLES", "") else "default")
    for direction, dtype in CASES:
        x, grad = arguments(dtype)
        check(direction, x, grad)
        written = grad if direction == "forward" else x
        functions: list[Callable[[], object]] = [
            partial(call, "eager", direction, x, grad),
            partial(call, "lkops", direction, x, grad),
            lambda like=written: torch.empty_like(like).fill_(1),  # type: ignore[misc]
        ]
        # when other jobs hold a core, its time slices are what the medians show: then the least tells more
        for name, eager, ours, write in zip(("median", "least"), *measure(functions), strict=True):
            print(
                f"{direction:8} {dtype!s:14} {name:6}  eager {eager:6.2f} ms  lkops {ours:6.2f} ms  "
                f"ratio {eager / ours:5.1f}  (just writing the result: {write:.2f} ms)"
            )


if __name__ == "__main__":
    main()
