"""The C++ kernels of large_kernel_channel_attention and lk_block: what forward keeps, depths beyond a slab, tiles and
tails, threads and alignment. The contract is elsewhere."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import lkops
from lkops._core.extension import extension_error
from lkops.ops.depthwise_conv2d.reference import depthwise_conv2d
from lkops.testing import Arguments, arguments, assert_as_good_as_eager, cast, invoke
from tests.lkops.ops.harness import case_of

if extension_error("_C_cpu"):
    pytest.skip(extension_error("_C_cpu"), allow_module_level=True)

attention = torch.ops.lkops.large_kernel_channel_attention_cpu_fwd
block = torch.ops.lkops.lk_block_cpu_fwd
DTYPES = [torch.float32, torch.bfloat16]
BOTH = ["large_kernel_channel_attention", "lk_block"]


def problem(operator: str, *shape: int, **options: Any) -> tuple[Arguments, dict[str, Any]]:
    return arguments(operator, case_of("", shape, options))  # type: ignore[arg-type]


def kept(u: Tensor, tensors: Arguments, dilations: tuple[int, int]) -> tuple[Tensor, ...]:
    """a1, a2, and mean and scale of the concat's channels, by the reference's parts."""
    names = ("dw1_weight", "dw1_bias", "dw2_weight", "dw2_bias")
    dw1_weight, dw1_bias, dw2_weight, dw2_bias = (tensors[name] for name in names)
    a1 = depthwise_conv2d(u, dw1_weight, dw1_bias, dilations[0])
    a2 = depthwise_conv2d(a1, dw2_weight, dw2_bias, dilations[1])
    mean = torch.cat((u, a1, a2), dim=1).mean((2, 3), keepdim=True)
    hidden = F.conv2d(mean, tensors["reduce_weight"], tensors["reduce_bias"]).relu()
    scale = F.conv2d(hidden, tensors["expand_weight"], tensors["expand_bias"]).sigmoid()
    return a1, a2, mean.flatten(1), scale.flatten(1)


def assert_kept(got: tuple[Tensor, ...], u: Tensor, tensors: Arguments, dilations: tuple[int, int] = (5, 7)) -> None:
    exact = kept(u.double(), cast(tensors, torch.float64), dilations)
    eager = [right.to(ours.dtype) for ours, right in zip(got, kept(u, tensors, dilations), strict=True)]
    assert_as_good_as_eager(got, eager, exact)  # a1, a2, mean, scale


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((2, 128, 16, 16), {}),  # the network's
        ((1, 128, 9, 11), {"groups": 1}),  # 384 members: several slabs
        ((1, 129, 5, 7), {"groups": 1, "interleave": True}),  # and an odd number of them
        ((2, 5, 13, 4), {"groups": 5}),  # three members a group, the third without a neighbour
        ((1, 7, 40, 61), {"groups": 7, "interleave": True}),
        ((3, 12, 1, 1), {"groups": 4}),
        ((1, 6, 30, 33), {"groups": 2, "kernels": (1, 9), "dilations": (1, 1)}),
    ],
)
def test_attention_keeps_what_backward_needs(shape, options, dtype) -> None:
    tensors, options = problem("large_kernel_channel_attention", *shape, **options)
    rounded = cast(tensors, dtype)
    dilations = options.get("dilations", (5, 7))
    y, *saved = attention(*rounded.values(), *dilations, options.get("interleave", False))
    reference = "large_kernel_channel_attention", rounded, options, "reference"
    (eager,) = invoke(*reference)
    (exact,) = invoke(reference[0], cast(rounded, torch.float64), *reference[2:])
    assert_as_good_as_eager(y, eager, exact)
    assert_kept(tuple(saved), rounded["u"], rounded, dilations)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("channels", "width"), [(8, 8), (128, 128), (9, 7), (5, 150), (150, 5), (170, 165)])
def test_block_keeps_what_backward_needs_and_nothing_otherwise(channels, width, dtype) -> None:
    """Also widths inside that are not those outside, and depths of both convs beyond a slab."""
    inner, _ = problem("large_kernel_channel_attention", 2, width, 7, 9, groups=1)
    outer, _ = arguments("norm_conv1x1_gelu", case_of("", (2, channels, 7, 9), {"outputs": width}))
    last, _ = arguments("norm_conv1x1_gelu", case_of("", (2, width, 7, 9), {"outputs": channels}))
    inner.pop("u")
    tensors = {
        "x": outer["x"],
        **{name: outer[name] for name in ("norm_weight", "norm_bias")},
        "in_weight": outer["weight"],
        "in_bias": outer["bias"],
        **inner,
        "out_weight": last["weight"],
        "out_bias": last["bias"],
        "keep": torch.tensor([0.0, 1.5]),
    }
    rounded = cast(tensors, dtype)
    y, t, *saved = block(*rounded.values(), 5, 7, False, 1e-6, True)
    (eager,) = invoke("lk_block", rounded, {}, "reference")
    exact = cast(rounded, torch.float64)
    (right,) = invoke("lk_block", exact, {}, "reference")
    assert_as_good_as_eager(y, eager, right)
    assert torch.equal(y[0], rounded["x"][0])  # dropped

    def before_gelu(given: Arguments) -> Tensor:
        normal = F.layer_norm(given["x"].movedim(1, -1), (channels,), given["norm_weight"], given["norm_bias"], 1e-6)
        return F.conv2d(normal.movedim(-1, 1), given["in_weight"], given["in_bias"])

    assert_as_good_as_eager(t, before_gelu(rounded), before_gelu(exact))
    if dtype is torch.float32:  # else u was computed from what t was before it was rounded
        assert_kept(tuple(saved), F.gelu(t), rounded)

    again, *nothing = block(*rounded.values(), 5, 7, False, 1e-6, False)
    assert torch.equal(again, y)
    assert all(tensor.shape == (0,) for tensor in nothing)
    assert [tensor.dtype for tensor in nothing] == [dtype] * 3 + [torch.float32] * 2


def raw(operator: str, tensors: Arguments) -> tuple[Tensor, ...]:
    if operator == "lk_block":
        return block(*tensors.values(), 5, 7, True, 1e-6, True)
    return attention(*tensors.values(), 5, 7, True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 128, 16, 16), (5, 24, 31, 33), (3, 132, 7, 5), (1, 4, 90, 91)])
@pytest.mark.parametrize("operator", BOTH)
def test_same_bits_for_any_number_of_threads_and_any_alignment(operator, shape, dtype) -> None:
    rounded = cast(problem(operator, *shape)[0], dtype)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(raw(operator, rounded))
    finally:
        torch.set_num_threads(before)
    for odd in (1, 3):  # bfloat16 pairs of the weights then lie across words, or on them
        moved = {name: torch.cat([t.new_zeros(odd), t.flatten()])[odd:].view(t.shape) for name, t in rounded.items()}
        results.append(raw(operator, moved))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("operator", BOTH)
def test_a_sample_alone_is_what_it_is_in_a_batch(operator, dtype) -> None:
    rounded = cast(problem(operator, 6, 16, 15, 17)[0], dtype)
    together = raw(operator, rounded)
    batched = ("u", "x", "keep")
    for n in range(6):
        alone = raw(operator, {name: t[n : n + 1] if name in batched else t for name, t in rounded.items()})
        assert all(torch.equal(a[0], b[n]) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("operator", BOTH)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_spreads_as_in_torch(operator, value, dtype) -> None:
    rounded = cast(problem(operator, 2, 8, 9, 10)[0], dtype)
    rounded["x" if operator == "lk_block" else "u"][1, 3, 4, 5] = value
    y = raw(operator, rounded)[0]
    (eager,) = invoke(operator, rounded, {"interleave": True}, "reference")
    assert torch.equal(y.isnan(), eager.isnan())
    assert y[1].isnan().any()


@pytest.mark.parametrize("operator", BOTH)
def test_no_samples(operator) -> None:
    for result in raw(operator, cast(problem(operator, 0, 8, 5, 6)[0], torch.float32)):
        assert result.shape[0] == 0


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("x", lambda t: t.double(), "x must be float32 or bfloat16"),
        ("norm_weight", lambda t: t[1:], r"norm_weight must have shape \(8\), got \(7\)"),
        ("in_weight", lambda t: t[:, 1:], r"in_weight must have shape \(8, 8, 1, 1\)"),
        ("dw1_weight", lambda t: t.bfloat16(), "dw1_weight must be of torch dtype"),
        ("dw2_weight", lambda t: t[..., 1:].contiguous(), "odd sides"),
        ("reduce_weight", lambda t: t[:, :, 0], "must have four dimensions"),
        ("expand_bias", lambda t: t[None], "expand_bias must have shape"),
        ("mix_weight", lambda t: t[:, :1].contiguous(), "groups must divide"),
        ("mix_weight", lambda t: t[1:], r"mix_weight must have shape \(8, 6, 1, 1\), got \(7, 6, 1, 1\)"),
        ("out_weight", lambda t: t[1:], r"out_weight must have shape \(8, 8, 1, 1\)"),
        ("keep", lambda t: t[1:], r"keep must have shape \(2\), got \(1\)"),
    ],
)
def test_arguments_that_do_not_fit(name: str, change: Callable[[Tensor], Tensor], message: str) -> None:
    tensors = cast(problem("lk_block", 2, 8, 5, 6)[0], torch.float32)
    tensors[name] = change(tensors[name])
    with pytest.raises(RuntimeError, match=message):
        raw("lk_block", tensors)


def test_dilations_beyond_any_image() -> None:
    tensors = cast(problem("large_kernel_channel_attention", 1, 4, 6, 20)[0], torch.float32)
    huge = attention(*tensors.values(), 2**62, 2**31, False)
    assert torch.equal(huge[0], attention(*tensors.values(), 20, 20, False)[0])
    with pytest.raises(RuntimeError, match="dilations must be 1 or more"):
        attention(*tensors.values(), 0, 1, False)


def test_the_public_functions_get_here() -> None:
    for operator in BOTH:
        tensors = cast(problem(operator, 1, 8, 6, 7)[0], torch.float32)
        got = getattr(lkops, operator)(**tensors, interleave=True, backend="cpu")
        assert torch.equal(got, raw(operator, tensors)[0])
