"""The C++ kernels of channel_attention: tails of vectors, gates of any size, large planes, threads, alignment."""

import math

import pytest
import torch
from torch import Tensor

from lkops._core.extension import extension_error
from lkops.ops.channel_attention import reference

if extension_error("_C_cpu"):
    pytest.skip(extension_error("_C_cpu"), allow_module_level=True)

forward = torch.ops.lkops.channel_attention_cpu_fwd
backward = torch.ops.lkops.channel_attention_cpu_bwd
ALL = [True] * 5


def draw(n: int, c: int, h: int, w: int, hidden: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """x, W1, b1, W2, b2, grad"""
    generator = torch.Generator().manual_seed(n + c + h + w + hidden)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    tensors = [random(n, c, h, w) + 0.5, random(hidden, c, 1, 1) / c**0.5, random(hidden) + 0.5]
    tensors += [random(c, hidden, 1, 1) / hidden**0.5, random(c), random(n, c, h, w)]
    return [t.to(dtype) for t in tensors]


def exact(*tensors: Tensor) -> list[Tensor]:
    """y and all gradients by the reference in float64."""
    leaves = [t.double().requires_grad_() for t in tensors[:5]]
    y = reference.channel_attention(*leaves)
    return [y.detach(), *torch.autograd.grad(y, leaves, tensors[5].double())]


def run(*tensors: Tensor, needs: list[bool] = ALL) -> list[Tensor]:
    y, mean = forward(*tensors[:5])
    return [y, *backward(tensors[5], *tensors[:5], mean, needs)]


@pytest.mark.parametrize(
    ("n", "c", "h", "w", "hidden"),
    [(2, 16, 4, 4, 16), (3, 384, 5, 7, 24), (1, 17, 9, 1, 1), (20, 33, 2, 3, 5), (2, 3, 130, 131, 40), (1, 1, 1, 1, 1)],
)
def test_values_and_gradients(n: int, c: int, h: int, w: int, hidden: int) -> None:
    tensors = draw(n, c, h, w, hidden)
    names = ("y", "dx", "dw1", "db1", "dw2", "db2")
    for name, got, right in zip(names, run(*tensors), exact(*tensors), strict=True):
        assert got.shape == right.shape
        error = (got.double() - right).abs().max().item()
        assert error <= 16 * torch.finfo(torch.float32).eps * right.abs().max().item(), name
        assert got.abs().max() > 0 or right.abs().max() == 0, name


def test_means() -> None:
    x, *rest = draw(2, 5, 90, 91, 3)
    mean = forward(x, *rest[:4])[1]
    torch.testing.assert_close(mean.double(), x.double().mean((2, 3)), rtol=2e-7, atol=1e-8)


@pytest.mark.parametrize("needed", range(5))
def test_only_what_is_needed(needed: int) -> None:
    tensors = draw(2, 6, 4, 5, 3)
    needs = [i == needed for i in range(5)]
    for i, (one, both) in enumerate(zip(run(*tensors, needs=needs)[1:], run(*tensors)[1:], strict=True)):
        assert torch.equal(one, both) if i == needed else one.shape == (0,)


def test_biases_may_be_left_out() -> None:
    x, w1, b1, w2, b2, grad = draw(2, 6, 4, 5, 3)
    y, mean = forward(x, w1, None, w2, None)
    assert torch.equal(y, forward(x, w1, 0 * b1, w2, 0 * b2)[0])
    assert not torch.equal(y, forward(x, w1, b1, w2, b2)[0])
    got = backward(grad, x, w1, None, w2, None, mean, ALL)
    expected = backward(grad, x, w1, 0 * b1, w2, 0 * b2, mean, ALL)
    for i, (one, other) in enumerate(zip(got, expected, strict=True)):
        assert one.shape == (0,) if i in (2, 4) else torch.equal(one, other)


@pytest.mark.parametrize(("c", "hidden"), [(5, 2), (40, 17)])
def test_bfloat16_is_float32_rounded_once(c: int, hidden: int) -> None:
    tensors = draw(3, c, 7, 6, hidden, torch.bfloat16)
    for got, expected in zip(run(*tensors), run(*(t.float() for t in tensors)), strict=True):
        assert got.dtype is torch.bfloat16
        assert torch.equal(got, expected.bfloat16())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("n", "c", "side", "hidden"), [(40, 130, 8, 40), (2, 9, 150, 4)])
def test_same_bits_for_any_number_of_threads_and_any_alignment(
    n: int, c: int, side: int, hidden: int, dtype: torch.dtype
) -> None:
    tensors = draw(n, c, side, side + 1, hidden, dtype)
    moved = [torch.cat([t.new_zeros(3), t.flatten()])[3:].view(t.shape) for t in tensors]
    before, results = torch.get_num_threads(), []
    try:
        for threads, arguments in ((1, tensors), (2, tensors), (3, tensors), (1, moved)):
            torch.set_num_threads(threads)
            results.append(run(*arguments))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_nan_stays_in_its_sample_and_passes_the_relu() -> None:
    tensors = draw(3, 4, 5, 6, 2)
    tensors[0][1, 2, 3, 4] = math.nan
    y = run(*tensors)[0]
    assert y[1].isnan().all()
    assert y[::2].isfinite().all()
    inf = [tensors[0].nan_to_num(0), *tensors[1:]]
    inf[4] = torch.tensor([1e4, -1e4, math.inf, -math.inf])  # scales of exactly 0 and 1
    for got, right in zip(run(*inf), exact(*inf), strict=True):
        assert got.isfinite().all()
        torch.testing.assert_close(got.double(), right, rtol=1e-4, atol=1e-5)


def test_nothing_to_do_and_nothing_written() -> None:
    tensors = draw(0, 4, 5, 6, 2)
    y, dx, *gradients = run(*tensors)
    assert y.shape == dx.shape == tensors[0].shape
    assert not any(gradient.any() for gradient in gradients)
    tensors = draw(2, 4, 5, 6, 2)
    copies = [t.clone() for t in tensors]
    run(*tensors)
    assert all(torch.equal(a, b) for a, b in zip(tensors, copies, strict=True))


@pytest.mark.parametrize(
    ("which", "value", "message"),
    [
        (0, torch.zeros(1, 4, 2, 2).double(), "x must be float32 or bfloat16"),
        (1, torch.zeros(2, 5, 1, 1), r"reduce_weight must have shape \(2, 4, 1, 1\), got \(2, 5, 1, 1\)"),
        (2, torch.zeros(3), r"reduce_bias must have shape \(2\), got \(3\)"),
        (3, torch.zeros(2, 4, 1, 1), r"expand_weight must have shape \(4, 2, 1, 1\)"),
        (4, torch.zeros(4).bfloat16(), "expand_bias must be of torch dtype"),
    ],
)
def test_arguments_that_do_not_fit(which: int, value: Tensor, message: str) -> None:
    tensors = draw(1, 4, 2, 2, 2)[:5]
    tensors[which] = value
    with pytest.raises(RuntimeError, match=message):
        forward(*tensors)
