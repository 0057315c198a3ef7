"""Checks and times one row of the GPU gate on every provider. What is wrong has no time."""

import copy
import functools
import gc
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from typing import Any

import torch
from torch import Tensor, nn

import lkops.triton
from bench.gpu.clock import Clock, input_sets
from bench.gpu.rows import Case, Row, step
from lkcanet.inference import graphs
from lkops import backends
from lkops.testing import Policy, WrongResult, share_of_allowed

Activations = tuple[Tensor, ...]
DTYPES = {"float32": False, "bfloat16": True}  # the latter under autocast
COMPILED = {
    "compile": {},
    # without its own CUDA graphs: operators are compared launch by launch, networks graph against graph
    "compile max-autotune": {"mode": "max-autotune-no-cudagraphs"},
}


class WrongOutput(Exception):
    """An output or gradient differs from the float64 reference by more than rounding."""


def _results(module: nn.Module, activations: Activations, gradients: Sequence[Tensor] | None) -> list[Tensor]:
    """Outputs, and the gradients of activations and parameters that need one."""
    if gradients is None:
        with torch.inference_mode():
            return [output.clone() for output in module(*activations)]
    outputs = module(*activations)
    leaves = [t for t in (*activations, *module.parameters()) if t.requires_grad]
    given = [gradient.to(output.dtype) for gradient, output in zip(gradients, outputs, strict=True)]
    return [*(o.detach() for o in outputs), *torch.autograd.grad(outputs, leaves, given)]


def compare(
    row: Row, ours: list[Tensor], eager: list[Tensor], exact: list[Tensor], times: float, *, half: bool = False
) -> float:
    """Raise unless all errors are at most `times` those of eager PyTorch, plus four roundings, and eager's are small;
    returns the largest error as a fraction of what is allowed."""
    # a network's loss is one number, which eager may hit by luck: the roundings are those of its products
    finer = torch.finfo(torch.bfloat16).eps / torch.finfo(torch.float32).eps
    policy = Policy(
        times=times,
        kinks=row.kinks,
        norms=row.network,
        together=False,
        single=4 * finer if half and row.network else None,
        eager_within=0.5 if half else 1e-2,  # or anything would be allowed
    )
    try:
        return share_of_allowed(ours, eager, exact, policy)
    except WrongResult as wrong:
        raise WrongOutput(str(wrong)) from None


class Measurement:
    """One row in one dtype on one device.

    Args:
        row: what to run.
        dtype: of `DTYPES`.
        clock: of the device.
        dry: compile without code generation, tiny row, no graphs.
    """

    def __init__(self, row: Row, dtype: str, clock: Clock, *, dry: bool = False) -> None:
        torch.manual_seed(0)
        self.row, self.dtype, self.clock, self.dry = row, dtype, clock, dry
        self.device, self.half = "cuda" if clock.on_gpu else "cpu", DTYPES[dtype]
        self.case: Case = row.make(self.device, self.half)
        first = self.case.draw()
        # a network's input is small and its features stay in the cache in real life as well
        count = 1 if row.network else input_sets(sum(t.numel() * t.element_size() for t in first))
        self.for_graphs: dict[str, Callable[[int], Any]] = {}
        self.sets = [first, *(self.case.draw() for _ in range(count - 1))]

    def autocast(self) -> Any:
        """Without the cache of cast weights, for all providers alike: a graph can't have it, and torch.compile, which
        guards on it, would compile once more for the graph."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.half, cache_enabled=False)

    def compiled(self, name: str) -> nn.Module:
        torch.compiler.reset()
        options: dict[str, Any] = {"backend": "eager"} if self.dry else dict(COMPILED[name])
        return torch.compile(copy.deepcopy(self.case.plain), fullgraph=True, dynamic=False, **options)  # type: ignore[return-value]

    def channels_last(self) -> nn.Module:
        module: nn.Module = copy.deepcopy(self.case.plain).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return module

    def compile_only(self) -> None:
        """Only compile: Triton's and torch.compile's caches on disk then have it. What chooses by timing waits."""
        for make in (lambda: copy.deepcopy(self.case.ours), lambda: self.compiled("compile")):
            self._runner(make())(0)

    def _compilers(self) -> dict[str, Callable[[], nn.Module]]:
        names = [name for name in COMPILED if name == "compile" or self.row.autotune]
        return {name: functools.partial(self.compiled, name) for name in names}

    def run(self, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Every provider's times, or why it has none; and what lkops ran. `tell` hears what is known after each."""
        start = time.perf_counter()
        providers: dict[str, dict[str, Any]] = {}
        result: dict[str, Any] = {"row": self.row.name, "dtype": self.dtype, "providers": providers}
        activations, gradients = self.sets[0], None
        if self.case.gradients is not None:
            with self.autocast():
                gradients = self.case.gradients(tuple(o.detach() for o in self.case.plain(*activations)))
        with lkops.backend("reference"):
            double = tuple(t.detach().double().requires_grad_(t.requires_grad) for t in activations)
            exact = _results(copy.deepcopy(self.case.ours).double(), double, gradients)
        right = (exact, self._checked(self.case.plain, gradients), gradients)

        times = 3 if self.row.network else 2
        with backends.record() as calls, suppress(Exception):  # not while timing; what fails, fails again below
            self._checked(self.case.ours, gradients)
        names = {call.backend for call in calls}
        providers["lkops"] = self._provider("lkops", lambda: copy.deepcopy(self.case.ours), right, times)
        result["backends"] = sorted(names)
        if "error" not in providers["lkops"]:
            result["launches"] = self._launches(copy.deepcopy(self.case.ours))
        if names == {"triton"}:
            providers["lkops triton"] = {"same_as": "lkops"}
        else:
            # in the interpreter stores of bfloat16 are truncated, which errs twice as much as rounding, and sums of
            # them always in one direction
            times *= 4 if self.dry and self.half else 1
            with lkops.backend("triton"):
                providers["lkops triton"] = self._provider(
                    "lkops triton", lambda: copy.deepcopy(self.case.ours), right, times
                )
        others: dict[str, Callable[[], nn.Module]] = {
            "eager": lambda: copy.deepcopy(self.case.plain),
            "eager channels_last": self.channels_last,
            **self._compilers(),
        }
        for name, make in others.items():
            tell(result)
            providers[name] = self._provider(name, make, right, 10, channels_last="channels_last" in name)
            gc.collect()
        for name, run in self.for_graphs.items():
            tell(result)
            with lkops.backend("triton") if name == "lkops triton" else nullcontext():
                providers[name] |= self._graph(run)
        return result | {"seconds": round(time.perf_counter() - start, 1)}

    def _poison(self) -> None:
        """Leave NaN in the memory that the next tensors get, so that values which nothing wrote are seen."""
        if self.clock.on_gpu:
            torch.cuda.empty_cache()
            count = min(1 << 28, torch.cuda.mem_get_info()[0] // 4 // 4)
            large = torch.full((count,), torch.nan, device="cuda")
            small = [torch.full((1 << 16,), torch.nan, device="cuda") for _ in range(64)]  # from another pool
            del large, small

    def _checked(self, module: nn.Module, gradients: Sequence[Tensor] | None) -> list[Tensor]:
        self._poison()
        with self.autocast():
            return _results(module, self.sets[0], gradients)

    def _provider(
        self,
        name: str,
        make: Callable[[], nn.Module],
        right: tuple[Any, ...],
        times: float,
        *,
        channels_last: bool = False,
    ) -> dict[str, Any]:
        """Check and time one provider; the timing may change its weights. What graphs are timed of is kept for later:
        a capture that fails must cost no other provider its plain times."""
        exact, eager, gradients = right
        try:
            module = make()
            worst = compare(self.row, self._checked(module, gradients), eager, exact, times, half=self.half)
            run = self._runner(module, channels_last)
            found: dict[str, Any] = {"error_of_allowed": round(worst, 3), **self.clock.times(run)}
            found["peak_bytes"] = self.clock.peak_bytes(run)
        except Exception as error:
            return {"error": self._said(error)}
        if self.row.graph and self.clock.on_gpu:
            self.for_graphs[name] = run
        return found

    def _said(self, error: Exception) -> str:
        """The error in a line; raises where it has left a GPU on which this process can run nothing any more."""
        if self.clock.on_gpu:
            torch.cuda.synchronize()
        kind = "wrong" if isinstance(error, WrongOutput) else type(error).__name__
        return f"{kind}: {' '.join(str(error).split())[:300]}"

    def _runner(self, module: nn.Module, channels_last: bool = False) -> Callable[[int], Any]:
        """The row's step on one set of inputs after the other, for the clock."""
        sets = self.sets
        if channels_last:
            sets = [
                tuple(
                    t.detach().contiguous(memory_format=torch.channels_last).requires_grad_(t.requires_grad) for t in s
                )
                for s in sets
            ]
        steps = [step(module, self.case, activations) for activations in sets]

        def run(i: int) -> Any:
            with self.autocast():
                return steps[i % len(steps)]()

        return run

    def _graph(self, run: Callable[[int], Any]) -> dict[str, Any]:
        """Times of the first call as a CUDA graph, or why there are none."""
        tolerance = 2e-2 if self.half else 1e-3
        try:
            with torch.inference_mode():
                graph, output = graphs.capture(lambda: run(0), torch.device("cuda", torch.cuda.current_device()))
                graph.replay()
                for a, b in zip(output, run(0), strict=True):
                    if not torch.allclose(a, b, rtol=tolerance, atol=tolerance):
                        raise WrongOutput("the graph's output is not that of a call")
            taken = self.clock.times(lambda _: graph.replay())
        except Exception as error:
            return {"graph_error": self._said(error)}
        return {f"graph_{key}": value for key, value in taken.items()}

    def _launches(self, module: nn.Module) -> int:
        """Triton launches of one call."""
        launches: list[Any] = []
        with lkops.triton.watch(launches.append):
            self._runner(module)(0)
        return len(launches)
