"""Capturing calls in CUDA graphs."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

import torch

Result = TypeVar("Result")

WARM_UP = 3  # calls before the capture: kernels are compiled, libraries choose their algorithms and workspaces


def capture(run: Callable[[], Result], device: torch.device) -> tuple[torch.cuda.CUDAGraph, Result]:
    """`run()` as a CUDA graph, and the tensors that every replay fills.

    `run` must work on the same tensors at every call and may not wait for the GPU. What it allocates during the capture
    belongs to the graph. Autocast holds in it, without its cache of cast weights: a graph that read the cache would
    read freed memory once autocast ends.
    """

    def uncached() -> AbstractContextManager[None]:
        on, dtype = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
        return torch.autocast("cuda", dtype=dtype, enabled=on, cache_enabled=False)

    with torch.cuda.device(device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), uncached():
            for _ in range(WARM_UP):
                run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph), uncached():
            result = run()
    return graph, result
