"""Backward of the C++ kernels of large_kernel_channel_attention and lk_block: sums over many tiles, depths beyond a
slab, gradients that are not needed, threads and alignment. The contract is elsewhere."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lkops._core.extension import extension_error
from lkops.testing import Arguments, Draw, arguments, assert_as_good_as_eager, cast, check, run
from tests.lkops.ops.harness import case_of

if extension_error("_C_cpu"):
    pytest.skip(extension_error("_C_cpu"), allow_module_level=True)

ops = torch.ops.lkops
DTYPES = [torch.float32, torch.bfloat16]
BOTH = ["large_kernel_channel_attention", "lk_block"]
every_operator = pytest.mark.parametrize("operator", BOTH)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def problem(operator: str, dtype: torch.dtype, *shape: int, **options: Any) -> Arguments:
    return cast(arguments(operator, case_of("", shape, options))[0], dtype)  # type: ignore[arg-type]


def backward(
    operator: str, tensors: Arguments, needs: list[bool] | None = None, interleave: bool = True, odd: int = 0
) -> list[Tensor]:
    """Gradients from the private ops; `odd`: by how many elements everything is moved in memory."""

    def moved(t: Tensor) -> Tensor:
        return torch.cat([t.new_zeros(odd), t.flatten()])[odd:].view(t.shape)

    given = [None if t is None else moved(t) for t in tensors.values()]
    needs = [t is not None for t in given] if needs is None else needs
    if operator == "lk_block":
        y, *saved = ops.lk_block_cpu_fwd(*given, 5, 7, interleave, 1e-6, True)
        options: tuple[Any, ...] = (5, 7, interleave, 1e-6, needs)
    else:
        y, *saved = ops.large_kernel_channel_attention_cpu_fwd(*given, 5, 7, interleave)
        options = (5, 7, interleave, needs)
    grad = Draw()(*y.shape).to(y.dtype)
    return getattr(ops, f"{operator}_cpu_bwd")(moved(grad), *given, *map(moved, saved), *options)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((2, 128, 16, 16), {}),  # the network's
        ((1, 4, 131, 137), {}),  # chunks of more tiles than go into one sum
        ((1, 4, 150, 160), {"groups": 1, "interleave": True}),
        ((67, 6, 3, 3), {"groups": 2}),  # several samples a chunk
        ((1, 132, 9, 11), {"groups": 1}),  # members of several slabs
        ((2, 5, 13, 4), {"groups": 5}),
        ((1, 7, 40, 61), {"groups": 7, "interleave": True}),
        ((1, 6, 30, 33), {"groups": 2, "kernels": (1, 9), "dilations": (1, 1)}),
    ],
)
@every_operator
@every_dtype
def test_gradients(operator, shape, options, dtype) -> None:
    check(operator, "cpu", "cpu", dtype, case_of("", shape, options))


@every_dtype
@pytest.mark.parametrize(("channels", "width"), [(9, 6), (5, 152), (170, 168), (150, 24)])
def test_a_block_that_is_wider_or_narrower_inside(channels, width, dtype) -> None:
    inner = arguments("large_kernel_channel_attention", case_of("", (2, width, 7, 9), {"groups": 2}))[0]
    outer = arguments("norm_conv1x1_gelu", case_of("", (2, channels, 7, 9), {"outputs": width}))[0]
    last = arguments("norm_conv1x1_gelu", case_of("", (2, width, 7, 9), {"outputs": channels}))[0]
    inner.pop("u")
    tensors: Arguments = {
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
    exact = run("lk_block", cast(rounded, torch.float64), {}, "reference")
    eager, ours = (run("lk_block", rounded, {}, backend) for backend in ("reference", "cpu"))
    assert_as_good_as_eager(ours, eager, exact)


@every_operator
@every_dtype
@pytest.mark.parametrize("shape", [(1, 128, 16, 16), (5, 24, 31, 33), (3, 132, 7, 5), (1, 4, 90, 91)])
def test_same_bits_for_any_number_of_threads_and_any_alignment(operator, shape, dtype) -> None:
    tensors = problem(operator, dtype, *shape)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(backward(operator, tensors))
    finally:
        torch.set_num_threads(before)
    results += [backward(operator, tensors, odd=odd) for odd in (1, 3)]
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@every_operator
def test_each_gradient_alone_has_the_same_bits_and_the_others_are_empty(operator) -> None:
    tensors = problem(operator, torch.float32, 3, 8, 9, 11)
    together = backward(operator, tensors)
    for i, name in enumerate(tensors):
        alone = backward(operator, tensors, [j == i for j in range(len(tensors))])
        assert torch.equal(alone[i], together[i]), name
        assert [result.shape for j, result in enumerate(alone) if j != i] == [(0,)] * (len(tensors) - 1)
    assert all(result.shape == (0,) for result in backward(operator, tensors, [False] * len(tensors)))


@every_operator
@every_dtype
def test_a_gate_that_is_shut(operator, dtype) -> None:
    """Scales of exactly 0: nothing is divided by them."""
    tensors = problem(operator, dtype, 2, 8, 9, 10)
    assert tensors["expand_bias"] is not None
    tensors["expand_bias"][3:9] = -1000
    exact = run(operator, cast(tensors, torch.float64), {}, "reference")
    eager, ours = (run(operator, tensors, {}, backend) for backend in ("reference", "cpu"))
    assert_as_good_as_eager(ours, eager, exact)


@every_operator
def test_nan_spreads_as_in_torch(operator) -> None:
    """Where every tap of both kernels touches the image: others have gradients of 0 here, 0 times NaN in torch."""
    tensors = problem(operator, torch.float32, 2, 8, 23, 25)
    first = "x" if operator == "lk_block" else "u"
    assert tensors[first] is not None
    tensors[first][1, 3, 4, 5] = math.nan
    ours, eager = (run(operator, tensors, {}, backend) for backend in ("cpu", "reference"))
    for what, result in ours.items():
        assert torch.equal(result.isnan(), eager[what].isnan()), what
    assert not ours[f"gradient of {first}"][0].isnan().any()


@every_operator
@every_dtype
def test_no_samples_give_zeros(operator, dtype) -> None:
    tensors = problem(operator, dtype, 0, 8, 5, 6)
    for name, gradient in zip(tensors, backward(operator, tensors), strict=True):
        assert tensors[name] is not None
        assert gradient.shape == tensors[name].shape
        assert not gradient.any()


@pytest.mark.parametrize("name", ["grad", "t", "mean", "needs"])
def test_arguments_that_do_not_fit(name: str) -> None:
    tensors = problem("lk_block", torch.float32, 2, 8, 5, 6)
    y, *saved = ops.lk_block_cpu_fwd(*tensors.values(), 5, 7, False, 1e-6, True)
    given = dict(zip(("t", "a1", "a2", "mean", "scale"), saved, strict=True))
    needs, grad = [True] * 18, torch.ones_like(y)
    if name == "needs":
        needs.pop()
    elif name == "grad":
        grad = grad[..., 1:].contiguous()
    else:
        given[name] = F.pad(given[name], (0, 1))
    with pytest.raises(RuntimeError, match=f"{name} must have"):
        ops.lk_block_cpu_bwd(grad, *tensors.values(), *given.values(), 5, 7, False, 1e-6, needs)
