"""The CPU's own limit: multiply-adds on registers, by bench/conv2d_kernels/peak.cpp, which `make` and a C++ compiler
build at the first call. torch.mm is no limit: other programs may be faster, and it may be slow at a shape."""

import subprocess
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "conv2d_kernels"
PROGRAM = Path(__file__).parents[2] / "build" / "conv2d_kernels" / "peak"


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise RuntimeError(f"the FMA peak can't be measured: {error}") from None
    if done.returncode:
        raise RuntimeError(f"the FMA peak can't be measured: {' '.join(done.stderr.split())[-400:]}")
    return done.stdout


@lru_cache(maxsize=1)
def _build() -> None:
    _run("make", "-C", str(FOLDER), "peak")


def fma_peak(threads: int, seconds: float = 0.5) -> dict[str, float]:
    """GFLOP/s of all these threads by dtype, "float32" and "bfloat16" (its products where the CPU has them, else those
    of float32): the best of runs for about so many seconds each.

    Raises:
        ValueError: `threads` is less than 1.
        RuntimeError: there is no `make` or C++ compiler, or the program fails.
    """
    if threads < 1:
        raise ValueError(f"threads must be 1 or more, got {threads}")
    _build()
    lines = _run(str(PROGRAM), str(threads), str(seconds)).split()
    return {name: float(rate) for name, rate in zip(lines[::2], lines[1::2], strict=True)}


def said_of(peak: Mapping[str, float]) -> str:
    """The peak in a sentence, for the head of a table."""
    return (
        f"Measured FMA peak {peak['float32']:.0f} GFLOP/s in float32, {peak['bfloat16']:.0f} in bfloat16, all threads."
    )
