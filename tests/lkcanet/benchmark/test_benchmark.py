"""The engine of the benchmarks: what is wrong gets no time, everything that was asked for is accounted for."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from lkcanet import benchmark
from lkcanet.benchmark import (
    Measured,
    Result,
    WrongOutput,
    facts,
    measure,
    network_benchmark,
    peak_memory,
    time_in_turns,
)
from lkcanet.benchmark.providers import FORWARD_ONLY, PROVIDERS, Adapter, Problem
from lkcanet.common.signals import signal_stack

TINY = {"channels": 16, "blocks": 1}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def problem(ours=lambda m, x: 2 * m(x), plain=lambda m, x: m(x) + m(x), **options) -> Problem:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 3, 1)
    x = torch.randn(2, 3, 5, 4).requires_grad_()
    return Problem(Adapter(conv, ours), Adapter(conv, plain), (x,), **options)


@pytest.mark.parametrize("mode", ["forward", "backward", "full"])
@pytest.mark.parametrize("double", [True, False])
def test_what_is_right_is_timed(mode, double) -> None:
    result = measure(problem(double=double), mode, ("eager", "eager channels_last", "lkops"), seconds=0.01)
    assert list(result.providers) == ["eager", "eager channels_last", "lkops"]
    for measured in result.providers.values():
        assert measured.reason == ""
        assert measured.samples >= 5
        assert 0 < measured.least <= measured.milliseconds
        assert measured.error <= 1
    assert result.ratio("eager") == result.milliseconds("eager") / result.providers["lkops"].milliseconds
    assert result.milliseconds("eager") == min(
        result.providers[name].milliseconds for name in ("eager", "eager channels_last")
    )
    json.dumps(result.as_dict(), allow_nan=False)


WRONG = {
    "one_percent": lambda m, x: 2.02 * m(x),
    "zeros": lambda m, x: 0 * m(x),
    "nan": lambda m, x: m(x) / 0,
    "shape": lambda m, x: 2 * m(x)[..., 1:],
    "more_outputs": lambda m, x: (2 * m(x), m(x)),
}


@pytest.mark.parametrize("network", [True, False])
@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("spoil", WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_not_timed(spoil, double, network) -> None:
    own = problem(double=double, network=network)
    # the reference is ours in float64: it must stay right
    own.ours = Adapter(own.ours.module, lambda m, x: (spoil if x.dtype == torch.float32 else WRONG_NOT)(m, x))
    result = measure(own, "forward", ("eager", "lkops"), seconds=0.01)
    assert result.providers["lkops"].milliseconds is None
    assert "WrongOutput" in result.providers["lkops"].reason
    assert result.providers["eager"].milliseconds > 0
    assert result.ratio("eager") is None


def WRONG_NOT(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return 2 * m(x)


@pytest.mark.parametrize("network", [True, False])
def test_a_wrong_gradient_is_not_timed(network) -> None:
    def stopped(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return 2 * m(x) if x.dtype == torch.float64 else 2 * m(x.detach()) + 0 * x

    result = measure(problem(stopped, network=network), "full", ("lkops",), seconds=0.01)
    assert "result 1" in result.providers["lkops"].reason
    assert measure(problem(stopped), "forward", ("lkops",), seconds=0.01).providers["lkops"].samples


def test_a_wrong_problem_is_refused_and_a_failure_is_one_providers() -> None:
    with pytest.raises(WrongOutput):
        measure(problem(lambda m, x: 3 * m(x)), "forward", seconds=0.01)

    def fails(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        if x.dtype == torch.float32:
            raise RuntimeError("no such kernel")
        return 2 * m(x)

    result = measure(problem(fails), "forward", ("eager", "lkops"), seconds=0.01)
    assert result.providers["lkops"] == Measured(reason="RuntimeError: no such kernel")
    assert result.providers["eager"].samples


def test_calls_are_in_turns() -> None:
    order = []

    class Own(benchmark.Runner):
        def __init__(self, name: str) -> None:
            self.name = name

        def run(self, state: object) -> None:
            if not order or order[-1] != self.name:
                order.append(self.name)

    times = time_in_turns({"a": Own("a"), "b": Own("b")}, 0.0, least=4)
    assert "".join(order) == "ababa"  # ab ba ab ba, neighbours of one name taken together
    assert all(len(taken) == 4 * 20 for taken in times.values())


def test_openvino_leaves_no_dangling_signal_stack() -> None:
    """With one, the next signal (of a child's end, of Ctrl-C) kills the process."""
    pytest.importorskip("openvino", reason="openvino is not installed")
    before = signal_stack()
    result = measure(problem(), "forward", ("eager", "openvino", "lkops"), seconds=0.01)
    assert result.ratio("openvino") is not None
    assert signal_stack() == before


def test_openvino_is_named_where_it_is_missing(monkeypatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else find(name))
    result = measure(problem(), "forward", ("eager", "openvino", "openvino bf16", "lkops"), seconds=0.01)
    for name in FORWARD_ONLY:
        assert result.providers[name].reason == "openvino is not installed: pip install lkops[openvino]"
    assert result.ratio("openvino") is None
    assert result.providers["lkops"].samples
    assert (
        measure(problem(), "full", ("openvino",), seconds=0.01).providers["openvino"].reason == "openvino has no full"
    )


@pytest.mark.exhaustive
@pytest.mark.slow  # torch.compile
def test_every_provider_runs_a_network() -> None:
    own = PROVIDERS if importlib.util.find_spec("openvino") else [p for p in PROVIDERS if p not in FORWARD_ONLY]
    result = network_benchmark(8, (6, 5), 2, providers=own, seconds=0.01, **TINY)
    assert {name: measured.reason for name, measured in result.providers.items()} == dict.fromkeys(own, "")
    assert set(result.backends) == {"lk_block", "upsample_add"}
    assert set(result.as_dict()["faster_than"]) == {name for name in own if not name.startswith(("lkops", "eager "))}
    step = network_benchmark(8, (6, 5), 2, mode="training", batch=2, seconds=0.01, **TINY)
    assert all(measured.samples for measured in step.providers.values())
    assert set(step.backends) == {"lk_block", "upsample_add", "spectral_losses"}
    with pytest.raises(ValueError, match="batch must be 1 or more, got 0"):
        network_benchmark(8, (6, 5), batch=0)
    with pytest.raises(ValueError, match="providers must be of eager"):
        network_benchmark(8, (6, 5), providers=["tensorflow"])


def test_peak_memory_counts_what_lives_at_once() -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("no /proc/self/clear_refs here")

    class Own(benchmark.Runner):
        def run(self, state: object) -> None:
            for _ in range(3):  # one after the other
                torch.ones(64 << 18)

    peak = peak_memory(Own())
    if peak is None:
        pytest.skip("/proc/self/clear_refs can't be written here")
    assert 50 << 20 < peak < 150 << 20  # 64 MiB; whether freed memory stays depends on the allocator's settings


def test_facts_say_what_was_run_where() -> None:
    here = facts()
    assert here["threads"] == 1
    assert here["torch"] == torch.__version__
    assert here["allocator"] in ("recycled", "default")
    assert Result("forward", {}).milliseconds("eager") is None
