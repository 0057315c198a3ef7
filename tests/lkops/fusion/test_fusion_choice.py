"""What of a model `lkops.fuse` takes back because it is not faster on the example."""

import copy
import pickle

import pytest
import torch
from torch import nn

import lkops
from lkops.fusion import fuse, measuring
from tests.lkops.fusion.foreign_convs import Upsampler
from tests.lkops.fusion.test_fusion_patterns import Net, conv, deep

X = torch.rand(1, 16, 12, 10)


def network():
    return nn.Sequential(conv(16, 16), nn.ReLU(), deep(16), Upsampler(2, 16), conv(16, 16))


@pytest.fixture
def slow(monkeypatch):
    """A function that makes the operators of these names seem to take twice, all others half of PyTorch's time; and the
    fused model `times` the model's, and `in_channels_last` in that memory."""

    def set_up(*names, times=0.5, in_channels_last=2.0):
        def of_whole(fused):
            return in_channels_last if fused._forward_pre_hooks else times

        monkeypatch.setattr(measuring, "REPEATS", 1)
        monkeypatch.setattr(measuring, "SECONDS", 0.0)

        def milliseconds(run):
            run()
            if not run.__qualname__.endswith("ours"):
                return 1.0
            return 2.0 if any(name in run.__code__.co_names for name in names) else 0.5

        monkeypatch.setattr(measuring, "_milliseconds", milliseconds)
        monkeypatch.setattr(measuring, "times", lambda models, example: [10.0, 10.0 * of_whole(models[1])])

    return set_up


def operators(report):
    return [part.operator for part in report.replaced]


def test_all_that_is_faster_stays(slow) -> None:
    slow()
    _, report = fuse(network(), X)
    assert operators(report) == ["conv2d", "depthwise_conv2d", "upsample_add", "conv2d"]
    assert not report.left
    assert [(part.before, part.after) for part in report.replaced] == [(1.0, 0.5)] * 4
    assert (report.before, report.after, report.share) == (10.0, 5.0, 4 / (4 + 5 - 2))
    assert "1.000 -> 0.500 ms" in str(report)
    assert "10.00 ms, and takes 5.00 ms: 2.00x; the replaced parts had 57% of it, so that 2.33x" in str(report)


@pytest.mark.parametrize("name", ["conv2d", "depthwise_conv2d", "upsample_add"])
def test_what_is_slower_is_pytorchs_again(slow, name) -> None:
    slow(name)
    model = network()
    fused, report = fuse(model, X)
    assert operators(report) == [
        each for each in ("conv2d", "depthwise_conv2d", "upsample_add", "conv2d") if each != name
    ]
    left = [
        part
        for part in report.left
        if part.why == "no gain at the example's size: 1.000 ms, and 2.000 ms with the operator"
    ]
    assert len(left) == (2 if name == "conv2d" else 1)
    places = {"conv2d": fused[0], "depthwise_conv2d": fused[2], "upsample_add": fused[3]}
    for each, module in places.items():
        assert hasattr(type(module), "_fusion_base") == (each != name)
    with torch.no_grad():
        torch.testing.assert_close(fused(X), model(X), rtol=1e-4, atol=1e-5)


def test_all_parts_stay_where_that_is_asked_for(slow) -> None:
    slow("conv2d", times=3)
    _, report = fuse(network(), X, keep="all")
    assert len(report.replaced) == 4
    assert report.replaced[0].after == 2.0
    assert report.after == 30.0


def test_a_model_that_is_not_faster_is_as_it_was(slow) -> None:
    slow(times=1.1)
    model = network()
    fused, report = fuse(model, X)
    assert not report.replaced
    assert len(report.left) == 4
    assert report.checked == "the fused model takes 11.000 ms on the example, the model 10.000 ms"
    assert not any(hasattr(type(module), "_fusion_base") for module in fused.modules())
    with torch.no_grad():
        assert torch.equal(fused(X), model(X))


def test_channels_last_memory_where_it_is_faster(slow) -> None:
    model = network()
    seen = []
    model[1].register_forward_hook(lambda module, args, output: seen.append(output.is_contiguous()))
    for time, chosen in ((0.4, True), (0.49, True), (0.495, False), (0.6, False)):
        slow(in_channels_last=time)
        fused, report = fuse(model, X)
        seen.clear()
        with torch.no_grad():
            result = fused(X)
            torch.testing.assert_close(result, model(X), rtol=1e-4, atol=1e-5)
        assert seen == [not chosen, True]
        assert result.is_contiguous()
        assert report.after == (10 * time if chosen else 5.0)
        assert report.notes == (["runs in channels_last memory, contiguous it takes 5.00 ms"] if chosen else [])
        leaf = X.clone().requires_grad_()
        (grad,) = torch.autograd.grad(fused(leaf).square().sum(), leaf)
        assert grad.abs().max() > 0


def test_channels_last_memory_compiles_pickles_and_copies(slow) -> None:
    slow(in_channels_last=0.1)
    model = network()
    fused, report = fuse(model, X)
    assert report.notes
    compiled = torch.compile(fused, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        for each in (compiled, pickle.loads(pickle.dumps(fused)), copy.deepcopy(fused)):
            result = each(X)
            assert result.is_contiguous()
            torch.testing.assert_close(result, model(X), rtol=1e-4, atol=1e-5)


def test_models_that_take_views_stay_contiguous(slow) -> None:
    slow(in_channels_last=0.1)
    model = Net(lambda s, x: s.c(x).view(1, -1).cumsum(1), c=conv(16, 16))
    fused, report = fuse(model, X)
    assert operators(report) == ["conv2d"]
    assert not report.notes
    with torch.no_grad():
        torch.testing.assert_close(fused(X), model(X), rtol=1e-4, atol=1e-5)


def test_accuracy_of_modules_that_call_the_operators(slow) -> None:
    slow()
    model = nn.Sequential(lkops.nn.Conv2d(16, 16, 3), lkops.nn.UpsampleAdd(16, 16, 2))
    for accuracy in ("relaxed", "exact"):
        fused, report = fuse(model, X, accuracy=accuracy)
        assert [part.accuracy for part in fused] == [accuracy] * 2
        assert ("relaxed: " in report.checked) == (accuracy == "relaxed")
    assert [part.accuracy for part in model] == ["exact"] * 2
    with torch.no_grad():
        assert torch.equal(fused(X), model(X))


def test_parts_that_do_not_come_to_the_operator_are_left(slow) -> None:
    slow()
    model = nn.Sequential(conv(16, 16), deep(16))
    _, report = fuse(model, X[:, :, :1])
    assert operators(report) == ["depthwise_conv2d"]
    assert [part.why for part in report.left] == ["not worth it, or not possible, at the example's size"]


def test_folded_weights_are_taken_back_too(slow) -> None:
    slow("conv2d")
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(conv(16, 16)), deep(16))
    fused, report = fuse(model, X, inference=True)
    assert operators(report) == ["folded", "depthwise_conv2d"]
    with torch.no_grad():
        torch.testing.assert_close(fused(X), model(X), rtol=1e-4, atol=1e-5)


def test_times_are_measured() -> None:
    """By the clock, of a model whose parts differ by a factor of several."""
    model = nn.Sequential(deep(32, 7, dilation=3), conv(32, 32), nn.ReLU())
    _, report = fuse(model, torch.rand(1, 32, 64, 64))
    assert "depthwise_conv2d" in operators(report)
    assert report.after < report.before
    assert all(0 < part.after < part.before < 2 * report.before for part in report.replaced)
    assert 0 < report.share < 1
