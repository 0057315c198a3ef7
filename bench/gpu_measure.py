"""Checks and times one row of the GPU gate on every provider. What is wrong has no time."""

import copy
import functools
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

import lkops.triton
from bench.estimate import step
from bench.gpu_clock import Clock, input_sets
from bench.gpu_rows import Case, Row
from lkcanet import _graphs
from lkops import backends

Activations = tuple[Tensor, ...]
DTYPES = {"float32": False, "bfloat16": True}  # the latter under autocast
COMPILED = {
    "compile": {},
    # without its own CUDA graphs: operators are compared launch by launch, networks graph against graph
    "compile max-autotune": {"mode": "max-autotune-no-cudagraphs"},
}


class WrongOutput(Exception):
    """An output or gradient differs from the float64 reference by more than rounding."""


@contextmanager
def _which_backends() -> Iterator[set[str]]:
    """Within the block, the set fills with the backends that operators run on."""
    names: set[str] = set()
    choose = backends.choose

    def spy(*arguments: Any) -> str:
        name = choose(*arguments)
        names.add(name)
        return name

    with mock.patch.object(backends, "choose", spy):
        yield names


def _results(module: nn.Module, activations: Activations, gradients: Sequence[Tensor] | None) -> list[Tensor]:
    """Outputs, and the gradients of activations and parameters that need one."""
    if gradients is None:
        with torch.inference_mode():
            return [output.clone() for output in module(*activations)]
    outputs = module(*activations)
    leaves = [t for t in (*activations, *module.parameters()) if t.requires_grad]
    given = [gradient.to(output.dtype) for gradient, output in zip(gradients, outputs, strict=True)]
    return [*(o.detach() for o in outputs), *torch.autograd.grad(outputs, leaves, given)]


def _size(error: Tensor, row: Row) -> float:
    """The largest error, but for the fraction of values that lie at kinks; for a whole network the norm."""
    if row.network:
        return float(error.norm())
    left_out = int(row.kinks * error.numel())
    return float(error.flatten().abs().topk(left_out + 1).values[-1])


def compare(
    row: Row, ours: list[Tensor], eager: list[Tensor], exact: list[Tensor], times: float, *, half: bool = False
) -> float:
    """Raise unless all errors are at most `times` those of eager PyTorch, plus four roundings, and eager's are small;
    returns the largest error as a fraction of what is allowed."""
    worst = 0.0
    norms = [((b.double() - right).norm(), right.norm()) for b, right in zip(eager, exact, strict=True)]
    # some of a network's gradients nearly vanish: there all of them count together
    for error, norm in [torch.stack(list(map(torch.stack, norms))).norm(dim=0)] if row.network else norms:
        if not error <= (0.5 if half else 1e-2) * norm:  # or anything would be allowed
            raise WrongOutput(f"eager PyTorch and float64 differ by {float(error):.2g} of {float(norm):.2g} (norms)")
    for i, (a, b, right) in enumerate(zip(ours, eager, exact, strict=True)):
        if a.shape != right.shape:
            raise WrongOutput(f"result {i} has shape {tuple(a.shape)}, expected {tuple(right.shape)}")
        right = right.to(a.device)
        size = _size(right, row) if row.network else float(right.abs().max())
        allowed = times * _size(b.double() - right, row) + 4 * torch.finfo(a.dtype).eps * size
        error = _size(a.double() - right, row)
        if not error <= allowed:
            raise WrongOutput(f"result {i} of shape {tuple(a.shape)}: error {error:.3g}, allowed {allowed:.3g}")
        if size > 0 and not a.abs().max() > 0:
            raise WrongOutput(f"result {i} of shape {tuple(a.shape)} is all zeros")
        worst = max(worst, error / allowed if allowed else 0.0)
    return worst


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
        self.sets = [first, *(self.case.draw() for _ in range(count - 1))]

    def autocast(self) -> Any:
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.half)

    def compiled(self, name: str) -> nn.Module:
        torch.compiler.reset()
        options: dict[str, Any] = {"backend": "eager"} if self.dry else dict(COMPILED[name])
        return torch.compile(copy.deepcopy(self.case.plain), fullgraph=True, dynamic=False, **options)  # type: ignore[return-value]

    def channels_last(self) -> nn.Module:
        module: nn.Module = copy.deepcopy(self.case.plain).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return module

    def prepare(self) -> None:
        """Only compile: Triton's and torch.compile's caches on disk then have it."""
        for make in (lambda: copy.deepcopy(self.case.ours), *self._compilers().values()):
            self._call(make(), 1)

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
        with _which_backends() as names, suppress(Exception):  # not while timing; what fails, fails again below
            self._checked(self.case.ours, gradients)
        providers["lkops"] = self._provider(lambda: copy.deepcopy(self.case.ours), right, times)
        result["backends"] = sorted(names)
        if "error" not in providers["lkops"]:
            result["launches"] = self._launches(copy.deepcopy(self.case.ours))
        if names == {"triton"}:
            providers["lkops triton"] = {"same_as": "lkops"}
        else:
            # in the interpreter stores of bfloat16 are truncated, which errs twice as much as rounding
            times *= 2 if self.dry and self.half else 1
            with lkops.backend("triton"):
                providers["lkops triton"] = self._provider(lambda: copy.deepcopy(self.case.ours), right, times)
        others: dict[str, Callable[[], nn.Module]] = {
            "eager": lambda: copy.deepcopy(self.case.plain),
            "eager channels_last": self.channels_last,
            **self._compilers(),
        }
        for name, make in others.items():
            tell(result)
            providers[name] = self._provider(make, right, 10, channels_last="channels_last" in name)
            gc.collect()
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
        self, make: Callable[[], nn.Module], right: tuple[Any, ...], times: float, *, channels_last: bool = False
    ) -> dict[str, Any]:
        """Check and time one provider; the timing may change its weights."""
        exact, eager, gradients = right
        try:
            module = make()
            worst = compare(self.row, self._checked(module, gradients), eager, exact, times, half=self.half)
            found: dict[str, Any] = {"error_of_allowed": round(worst, 3)}
            found |= self._call(module, None, channels_last)
        except Exception as error:
            if "CUDA error" in str(error):  # nothing runs in this process any more
                raise
            kind = "wrong" if isinstance(error, WrongOutput) else type(error).__name__
            return {"error": f"{kind}: {' '.join(str(error).split())[:300]}"}
        return found

    def _call(self, module: nn.Module, calls: int | None, channels_last: bool = False) -> dict[str, Any]:
        """Time the row's step, or call it so many times."""
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

        if calls is not None:
            for i in range(calls):
                run(i)
            return {}
        found: dict[str, Any] = self.clock.times(run)
        found["peak_bytes"] = self.clock.peak_bytes(run)
        if self.row.graph and self.clock.on_gpu:
            tolerance = 2e-2 if self.half else 1e-3
            with torch.inference_mode():
                graph, output = _graphs.capture(lambda: run(0), torch.device("cuda", torch.cuda.current_device()))
                graph.replay()
                for a, b in zip(output, run(0), strict=True):
                    if not torch.allclose(a, b, rtol=tolerance, atol=tolerance):
                        raise WrongOutput("the graph's output is not that of a call")
            found |= {f"graph_{key}": value for key, value in self.clock.times(lambda _: graph.replay()).items()}
        return found

    def _launches(self, module: nn.Module) -> int:
        """Triton launches of one call."""
        launches: list[Any] = []
        with lkops.triton.watch(launches.append):
            self._call(module, 1)
        return len(launches)
