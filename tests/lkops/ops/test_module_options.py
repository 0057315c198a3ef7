"""Options of `lkops.nn`, `fuse`, `compress` and `lkops.lowrank`: the kinds of values, and what they mean, are those of
the operators' options."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import lkops
from lkops import lowrank
from tests.lkops.ops.options import KINDS, OF, options_of, outcome

IMAGE = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(0))


def conv() -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(4, 16, 3, padding=1)


def model() -> nn.Module:
    return nn.Sequential(conv(), nn.PixelShuffle(2))


def pair() -> dict[str, Any]:
    teacher = model()
    return {"teacher": teacher, "student": lkops.compress(teacher, groups=2)[0], "loader": [IMAGE]}


# what is called -> further arguments, made anew for each call
CALLS: dict[Callable[..., Any], Callable[[], dict[str, Any]]] = {
    lkops.nn.DepthwiseConv2d: lambda: {"channels": 2, "kernel_size": 3},
    lkops.nn.Conv2d: lambda: {"in_channels": 2, "out_channels": 2, "kernel_size": 3},
    lkops.nn.ChannelLayerNorm: lambda: {"channels": 2},
    lkops.nn.ChannelAttention: lambda: {"channels": 2, "reduction": 2},
    lkops.nn.LargeKernelChannelAttention: lambda: {"channels": 2, "groups": 2, "reduction": 2},
    lkops.nn.NormConv1x1GELU: lambda: {"in_channels": 2, "out_channels": 2},
    lkops.nn.LKBlock: lambda: {"channels": 2, "groups": 2, "reduction": 2},
    lkops.nn.BicubicUpsample: lambda: {"scale": 2},
    lkops.nn.UpsampleAdd: lambda: {"in_channels": 2, "bands": 2, "scale": 2},
    lkops.fuse: lambda: {"model": model()},
    lkops.compress: lambda: {"model": model()},
    lkops.distill_upsampler: lambda: {**pair(), "steps": 1},
    lowrank.suggest_groups: lambda: {"conv": conv(), "scale": 2},
    lowrank.to_grouped: lambda: {"conv": conv(), "groups": 2},
    lowrank.to_factored: lambda: {"conv": conv(), "rank": 2},
    lowrank.rank_at: lambda: {"conv_or_weight": conv()},
    lowrank.spectrum: lambda: {"conv_or_weight": conv()},
    lowrank.cumulative_share: lambda: {"values": torch.tensor([2.0, 1.0])},
}
WITHOUT = {(lkops.compress, "permute"): {"groups": 2}}  # what an option goes with
NONE_IS_GOOD = {(lkops.nn.UpsampleAdd, "rank"), (lkops.distill_upsampler, "frequency")}
NONE_IS_GOOD |= {(lkops.compress, name) for name in ("share", "groups", "rank")}
CASES = [(function, option) for function in CALLS for option in options_of(function)]
SIDES = ("dilations", "dilation", "stride", "padding")  # attributes that are two numbers
# beyond their kind: odd, below 1, or fitting what else is given
NARROWER = {"kernel_size", "kernel_sizes", "drop_path", "share", "decay", "reduction"}


def name_of(value: object) -> str:
    return getattr(value, "__name__", str(value))


def plain(result: Any) -> Any:
    """What can be compared of a result."""
    if isinstance(result, nn.Module):
        kept = {n: (type(v), v) for n, v in vars(result).items() if isinstance(v, (bool, int, float))}
        kept |= {n: v for n, v in vars(result).items() if isinstance(v, str) or n in SIDES}
        return type(result), kept, [(n, tuple(p.shape)) for n, p in result.named_parameters()]
    if isinstance(result, torch.Tensor):
        return tuple(result.shape)
    return tuple(map(plain, result)) if isinstance(result, tuple) else type(result)


@pytest.mark.parametrize(("function", "option"), CASES, ids=name_of)
def test_bad_values(function, option) -> None:
    for value in KINDS[OF[option]][1]:
        if value is None and (function, option) in NONE_IS_GOOD:
            continue
        given = {**CALLS[function](), **WITHOUT.get((function, option), {}), option: value}
        kind, message = outcome(lambda g=given: function(**g))
        assert kind in ("TypeError", "ValueError"), f"{value!r}: {message}"
        assert message.startswith(f"{option} must be "), f"{value!r}: {message}"
        assert repr(value)[:100] in message or isinstance(value, (tuple, list))


@pytest.mark.parametrize(("function", "option"), [case for case in CASES if case[1] not in NARROWER], ids=name_of)
def test_good_values(function, option) -> None:
    for value, meaning in KINDS[OF[option]][0]:
        if option == "block_diagonal" and meaning and function is not lowrank.spectrum:
            continue
        results = []
        for each in (value, meaning):
            given = {**CALLS[function](), **WITHOUT.get((function, option), {}), option: each}
            kind, result = outcome(lambda g=given: function(**g))
            assert kind == "returns", f"{each!r}: {result}"
            results.append(plain(result))
        assert results[0] == results[1], f"{value!r}"


def test_every_option_is_of_a_kind() -> None:
    """Of constructors and functions; what is no option is named here."""
    others = {"model", "example_input", "calibration", "teacher", "student", "loader", "train", "progress", "conv"}
    others |= {"conv_or_weight", "values", "statistics", "check"}
    public = [f for name in lkops.nn.__all__ if (f := getattr(lkops.nn, name)) is not lkops.nn.SpectralLosses]
    assert set(public) <= set(CALLS)
    for function in CALLS:
        assert set(inspect.signature(function).parameters) <= {*OF, *others}, function


def test_numbers_of_numpy_become_pythons() -> None:
    """Also of the kinds that not every value of fits."""
    numpy = lkops.nn.LKBlock(
        np.int64(4), kernel_sizes=[np.int64(3), 5], reduction=np.int8(2), drop_path=np.float32(0.5)
    )
    assert plain(numpy) == plain(lkops.nn.LKBlock(4, kernel_sizes=(3, 5), reduction=2, drop_path=0.5))
    assert plain(numpy.attention.dw1) == plain(lkops.nn.DepthwiseConv2d(4, np.uint8(3), dilation=5))
    share = outcome(lambda: lowrank.rank_at(conv(), np.float32(0.5)))
    assert share == outcome(lambda: lowrank.rank_at(conv(), 0.5))
    assert share[0] == "returns"
