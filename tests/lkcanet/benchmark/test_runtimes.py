"""onnxruntime, ncnn and what is relaxed, as providers: right results, and a reason where they can't run."""

import importlib.util
import inspect
from collections.abc import Iterator

import pytest
import torch
from torch import nn

import lkops
from lkcanet.benchmark import measure, operators, providers
from lkcanet.benchmark.checking import WrongOutput, compare
from lkcanet.benchmark.operators import operator_problem
from lkcanet.benchmark.providers import RELAXED, Adapter, Problem
from lkcanet.benchmark.runtimes import Unavailable, ncnn_conv, ncnn_network
from lkops import testing

ALL = ("eager", "openvino", "openvino bf16", "onnxruntime", "ncnn", "lkops", RELAXED, "lkops bf16")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def conv(n: int = 1, **options: object) -> Problem:
    example = testing.Example("conv", (n, 16, 13, 18), options, {"outputs": 24}, without=("residual",))
    return operator_problem("conv2d", example)


@pytest.mark.parametrize("options", [{}, {"activation": "relu"}])
def test_every_provider_computes_a_conv(options) -> None:
    there = [name for name in ALL if name.startswith(("eager", "lkops")) or importlib.util.find_spec(name.split()[0])]
    result = measure(conv(**options), "forward", there, seconds=0.01, least=1)
    assert {name: measured.reason for name, measured in result.providers.items()} == dict.fromkeys(there, "")
    assert all(measured.milliseconds > 0 for measured in result.providers.values())
    assert {"onnxruntime", "ncnn"} & result.as_dict()["faster_than"].keys() == {"onnxruntime", "ncnn"} & set(there)


def test_relaxed_convs_are_the_relaxed_ones(monkeypatch) -> None:
    seen = []

    def spy(*arguments, accuracy="exact", **others):
        seen.append(accuracy)
        return lkops.ops.conv2d.conv2d(*arguments, accuracy=accuracy, **others)

    spy.__signature__ = inspect.signature(lkops.conv2d)
    monkeypatch.setattr(operators.lkops, "conv2d", spy)
    given = conv()
    for name, accuracy in (("lkops", "exact"), (RELAXED, "relaxed")):
        seen.clear()
        providers.runner(given, name, "forward", ()).results()
        assert seen == [accuracy]
    result = measure(Problem(given.ours, given.plain, given.activations), "forward", (RELAXED,), seconds=0.0, least=1)
    assert result.providers[RELAXED].reason == "nothing here can be relaxed"


def test_what_is_relaxed_may_be_off_by_a_part_and_no_more() -> None:
    given = conv()
    plain = providers.runner(given, "eager", "forward", ()).results()
    exact = [t.double() for t in plain]
    for part, allowed in ((5e-6, True), (5e-5, False)):
        off = [t + part * t.abs().max() for t in plain]
        for name in (RELAXED, "ncnn"):
            if allowed:
                assert compare(given, name, off, plain, exact) <= 1
            else:
                with pytest.raises(WrongOutput, match="result 0"):
                    compare(given, name, off, plain, exact)
        for name in ("lkops", "onnxruntime", "openvino"):
            with pytest.raises(WrongOutput, match="result 0"):
                compare(given, name, off, plain, exact)


@pytest.mark.parametrize(
    "wrong", [{"activation": "silu"}, {"residual_scale": 0.5}, {"dilation": 2}, {"groups": 2}, {"n": 2}], ids=str
)
def test_ncnn_refuses_what_is_not_one_layer_of_its_own(wrong) -> None:
    result = measure(conv(**wrong), "forward", ("ncnn",), seconds=0.0, least=1)
    assert result.providers["ncnn"].reason.startswith("only a conv of one image with a bias and at most a ReLU")


def test_ncnn_takes_no_even_kernel() -> None:
    with pytest.raises(ValueError, match="weight must be"):
        ncnn_conv(torch.zeros(1, 3, 4, 4), torch.zeros(2, 3, 2, 2), torch.zeros(2), relu=False, threads=1)


def test_pnnx_converts_a_network_for_ncnn() -> None:
    for package in ("ncnn", "pnnx"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(True), nn.Conv2d(16, 12, 3, padding=1))
    module = Adapter(nn.Sequential(module, nn.PixelShuffle(2)))
    given = Problem(module, module, (torch.rand(1, 3, 9, 10),), network=True)
    result = measure(given, "forward", ("eager", "ncnn"), seconds=0.0, least=1)
    assert result.providers["ncnn"].reason == ""
    with pytest.raises(Unavailable, match=r"pnnx was not done after 0\.001 s"):
        ncnn_network(module, given.activations, 1, patience=0.001)
    with pytest.raises(ValueError, match="activations must be"):
        ncnn_network(module, (torch.rand(2, 3, 9, 10),), 1)


@pytest.mark.parametrize("name", ["onnxruntime", "ncnn"])
def test_what_is_missing_is_named(name, monkeypatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None if module == name else find(module))
    result = measure(conv(), "forward", (name, "lkops"), seconds=0.0, least=1)
    assert result.providers[name].reason.startswith(f"{name} is not installed: pip install lkops[")
    assert result.providers["lkops"].samples


def test_runtimes_only_infer() -> None:
    for name in ("onnxruntime", "ncnn", "openvino bf16"):
        reason = measure(conv(), "full", (name,), seconds=0.0, least=1).providers[name].reason
        assert reason == f"{name.split()[0]} has no full"


def test_a_wrong_network_of_a_runtime_gets_no_time() -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    given = conv()

    class Wrong(providers.OnnxRuntimeRunner):
        def results(self):
            return [1.001 * t for t in super().results()]

    given.converted["onnxruntime"] = lambda threads: Wrong(given.plain, given.activations, threads)
    assert (
        "WrongOutput"
        in measure(given, "forward", ("onnxruntime",), seconds=0.0, least=1).providers["onnxruntime"].reason
    )


def test_float64_is_computed_with_what_defines_the_problem() -> None:
    """`ours` may be something that has no float64, or be made of what is compared."""
    torch.manual_seed(0)
    right, wrong = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
    given = Problem(Adapter(wrong), Adapter(right), (torch.rand(1, 3, 4, 4),), exact=Adapter(right))
    result = measure(given, "forward", ("eager", "lkops"), seconds=0.0, least=1)
    assert result.providers["eager"].reason == ""
    assert "WrongOutput" in result.providers["lkops"].reason
