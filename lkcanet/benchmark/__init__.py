"""Benchmarks of problems and of the network for a shape of one's own: results are checked first, then timed in turns.

What differs from the float64 reference by more than rounding gets no time. All providers are called in turn, round by
round, so that other load on the machine meets all alike; a time is the median of many.
"""

# long: what a problem's run is made of, from its checks to its table

import copy
import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import lkops
from lkops import backends
from lkops._core import extension

from .. import models
from .checking import WrongOutput, compare
from .providers import CHANNELS_LAST, PROVIDERS, Mode, Problem, Runner, Tensors, Unavailable, network_problem, runner

__all__ = ["PROVIDERS", "Measured", "Result", "WrongOutput", "facts", "measure", "network_benchmark"]

# settings of glibc's allocator that keep memory: without them half of eager's time at 64 x 64 is page faults
RECYCLED = "glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=4294967296"


@dataclass(frozen=True)
class Measured:
    """One provider: its times, or why there are none.

    Attributes:
        milliseconds, least, iqr: median, minimum and distance of the quartiles.
        samples: how many calls were timed.
        error: largest error, or that of the norm for a network, as a fraction of what is allowed.
        reason: why it was not timed; "" if it was.
    """

    milliseconds: float | None = None
    least: float | None = None
    iqr: float | None = None
    samples: int = 0
    error: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Result:
    """One problem in one mode.

    Attributes:
        mode: "forward", "backward" (its forward is not timed), "full" (both) or "training" (both, and Adam).
        providers: name to `Measured`.
        backends: operator to the backend that lkops ran it on.
    """

    mode: Mode
    providers: dict[str, Measured]
    backends: dict[str, str] = field(default_factory=dict)

    def milliseconds(self, name: str) -> float | None:
        """Median of a provider; "eager" is the faster of its two memory formats."""
        names = ("eager", CHANNELS_LAST) if name == "eager" else (name,)
        found = [self.providers[n].milliseconds for n in names if n in self.providers]
        return min((ms for ms in found if ms is not None), default=None)

    def ratio(self, name: str, ours: str = "lkops") -> float | None:
        """How many times faster than `name` lkops is."""
        other, own = self.milliseconds(name), self.milliseconds(ours)
        return other / own if other and own else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with how many times faster than each other provider lkops is as `faster_than`, bfloat16 against
        bfloat16."""
        others = ["eager", *(name for name in self.providers if not name.startswith(("eager", "lkops")))]
        ratios = {name: self.ratio(name, "lkops bf16" if name.endswith("bf16") else "lkops") for name in others}
        return {**asdict(self), "faster_than": {name: value for name, value in ratios.items() if value}}


def _turn(own: Runner, last: float) -> list[float]:
    """Seconds of a few calls, after one that is not timed where calls are short: the turn before left other data in the
    caches and another runtime's threads awake."""
    if last < 0.1:
        own.run(own.untimed())
    taken: list[float] = []
    while not taken or (sum(taken) < 0.005 and len(taken) < 20):
        state = own.untimed()
        start = time.perf_counter()
        own.run(state)
        taken.append(time.perf_counter() - start)
    return taken


def time_in_turns(runners: Mapping[str, Runner], seconds: float, least: int = 5) -> dict[str, list[float]]:
    """Seconds of calls of each, in turn, for about `seconds` and at least `least` rounds."""
    times: dict[str, list[float]] = {name: [] for name in runners}
    gc.collect()
    enabled, end, rounds = gc.isenabled(), time.perf_counter() + seconds, 0
    gc.disable()
    try:
        order = list(runners)
        while rounds < least or time.perf_counter() < end:
            for name in order:
                times[name] += _turn(runners[name], times[name][-1] if times[name] else 0.0)
            order.reverse()  # nobody always follows the same one
            rounds += 1
    finally:
        if enabled:
            gc.enable()
    return times


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _checked(
    problem: Problem, name: str, make: Callable[[], Runner], plain: Sequence[Tensor], exact: Sequence[Tensor]
) -> tuple[Runner | None, Measured]:
    """A provider that is right, warmed up by one more call; or none and the reason."""
    try:
        own = make()
        error = compare(problem, name, own.results(), plain, exact)
        own.run(own.untimed())
    except Unavailable as reason:
        return None, Measured(reason=str(reason))
    except Exception as failed:  # a provider that fails costs no other its times
        return None, Measured(reason=_line(failed))
    return own, Measured(error=round(error, 4))


def ready(
    problem: Problem, mode: Mode, providers: Sequence[str], backend: str | None = None
) -> tuple[dict[str, Runner], dict[str, Measured], dict[str, str]]:
    """Providers with right results, warmed up by one call; all with their error or the reason why they are left out;
    and the backends of lkops.

    Raises:
        WrongOutput: eager PyTorch itself is far from the reference: the problem is wrong.
    """
    given = problem.gradients
    with torch.no_grad():
        outputs = problem.plain(*problem.activations)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        gradients: Tensors = given(outputs) if given else tuple(map(torch.randn_like, outputs))
    del outputs
    plain = runner(problem, "eager", mode, gradients).results()
    exact = plain
    if problem.double:
        double = tuple(t.detach().double().requires_grad_(t.requires_grad) for t in problem.activations)
        wide = Problem(copy.deepcopy(problem.exact or problem.ours).double(), problem.plain, double)
        exact = runner(wide, "lkops", mode, tuple(g.double() for g in gradients), "reference").results()
        compare(problem, "eager", plain, plain, exact)
    runners: dict[str, Runner] = {}
    found: dict[str, Measured] = {}
    chosen: dict[str, str] = {}
    for name in providers:
        with backends.record() as calls:
            make = partial(runner, problem, name, mode, gradients, backend)
            own = _checked(problem, name, make, plain, exact)
        found[name] = own[1]
        if own[0] is not None:
            runners[name] = own[0]
        if name == "lkops":
            chosen = {call.operator: call.backend for call in calls}
    return runners, found, chosen


def measure(
    problem: Problem,
    mode: Mode,
    providers: Sequence[str] = PROVIDERS,
    *,
    seconds: float = 5.0,
    least: int = 5,
    backend: str | None = None,
) -> Result:
    """Check all providers against the float64 reference, then time those that are right.

    Args:
        seconds: of timing, for all providers together; `least` rounds are made in any case.
        backend: of lkops; None is the automatic choice.

    Raises:
        WrongOutput: eager PyTorch itself is far from the reference: the problem is wrong.
    """
    runners, found, chosen = ready(problem, mode, providers, backend)
    for name, taken in time_in_turns(runners, seconds, least).items():
        quartiles = statistics.quantiles(taken, n=4) if len(taken) > 1 else [0.0, 0.0, 0.0]
        found[name] = Measured(
            1e3 * statistics.median(taken),
            1e3 * min(taken),
            1e3 * (quartiles[2] - quartiles[0]),
            len(taken),
            found[name].error,
        )
    return Result(mode, found, chosen)


def _status(field: str) -> int:
    """Kibibytes, of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def peak_memory(own: Runner) -> int | None:
    """Bytes that one call adds to the resident memory at its peak; None where Linux does not tell.

    Beyond what is there before: inputs, weights, an optimiser's moments. Exact only if the allocator gives freed memory
    back at once, as with GLIBC_TUNABLES=glibc.malloc.mmap_threshold=65536: recycled memory is resident already.
    """
    own.run(own.untimed())
    own.run(own.untimed())
    gc.collect()
    state = own.untimed()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # starts the peak anew
        before = _status("VmRSS")
        own.run(state)
        return 1024 * max(0, _status("VmHWM") - before)
    except OSError:
        return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def facts() -> dict[str, Any]:
    """Versions, CPU, threads and allocator: what a time says nothing without."""
    return {
        "device": "cpu",
        "lkops": lkops.__version__,
        "torch": torch.__version__,
        **{name: _version(name) for name in ("openvino", "onnxruntime", "ncnn")},
        "python": platform.python_version(),
        "cpu": _cpu(),
        "isa": extension.cpu_facts().get("isa", "no extension"),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "allocator": "recycled" if os.environ.get("GLIBC_TUNABLES") == RECYCLED else "default",
    }


def network_benchmark(
    bands: int,
    size: tuple[int, int],
    scale: int = 4,
    *,
    mode: Mode = "forward",
    batch: int = 1,
    network: str = "lkca_lr",
    providers: Sequence[str] = ("eager", CHANNELS_LAST, "lkops"),
    backend: str | None = None,
    seconds: float = 40.0,
    **options: Any,
) -> Result:
    """Time a whole network on an image of one's own size: a forward, or a training step with H loss and Adam.

    Args:
        bands, size, scale, batch: of the low-resolution image, (batch, bands, *size), and its enlargement.
        mode: "forward" or "training".
        network: "lkca_lr" or "lkca_net".
        providers: of `PROVIDERS`; what can't run here has its reason in the result.
        backend: of lkops; None is the automatic choice.
        seconds: of timing; checks and compilation come on top.
        options: of `LKCANet`.

    Raises:
        ValueError: a size or option that makes no network, or an unknown provider.
        WrongOutput: eager PyTorch and the reference differ: nothing is timed.
    """
    for name, value in {"batch": batch, "height": size[0], "width": size[1]}.items():
        if value < 1:
            raise ValueError(f"{name} must be 1 or more, got {value}")
    if unknown := [name for name in providers if name not in PROVIDERS]:
        raise ValueError(f"providers must be of {', '.join(PROVIDERS)}; got {', '.join(unknown)}")
    # torch's own bicubic is one op of eager PyTorch: MATLAB's would have to be emulated there, slowly
    fixed: dict[str, Any] = {"drop_path": 0.0, "cubic_a": -0.75, "border": "replicate"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(models, network)(bands, scale, **fixed, **options)
        problem = network_problem(model, (batch, bands, *size), training=mode == "training")
    return measure(problem, mode, providers, seconds=seconds, backend=backend)
