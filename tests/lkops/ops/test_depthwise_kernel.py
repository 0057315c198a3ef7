"""The C++ kernels of depthwise_conv2d: kernels of several passes, chains of several blocks, tails of vectors, taps that
never touch the image, threads, alignment."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lkops._core.extension import extension_error

if extension_error("_C_cpu"):
    pytest.skip(extension_error("_C_cpu"), allow_module_level=True)

conv = torch.ops.lkops.depthwise_conv2d_cpu_fwd
backward = torch.ops.lkops.depthwise_conv2d_cpu_bwd
ALL = [True, True, True]

SHAPES = [  # height, width, kernel rows, kernel columns, dilation
    (64, 64, 5, 5, 5),  # the network's
    (64, 64, 7, 7, 7),
    (16, 16, 7, 7, 7),
    (16, 16, 5, 5, 5),
    (70, 33, 7, 7, 1),  # chains longer than a block
    (29, 17, 9, 9, 1),  # several passes over the kernel's rows
    (40, 31, 31, 31, 1),
    (12, 50, 13, 3, 2),
    (45, 15, 3, 13, 3),
    (20, 9, 1, 5, 2),
    (9, 20, 5, 1, 2),
    (30, 40, 9, 9, 7),  # several passes, of which some touch only the middle
    (5, 5, 7, 7, 1),  # the kernel is larger than the image
    (3, 70, 5, 5, 5),  # chains of one row
    (11, 13, 3, 3, 1 << 62),  # nothing but the middle tap
    (130, 67, 3, 3, 1),
]


def random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def draw(n: int, c: int, h: int, w: int, rows: int, columns: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """x, weight, bias, grad"""
    tensors = random(n, c, h, w), random(c, 1, rows, columns), random(c), random(n, c, h, w, seed=1)
    return [t.to(dtype) for t in tensors]


def exact(x: Tensor, weight: Tensor, bias: Tensor, grad: Tensor, dilation: int) -> list[Tensor]:
    """y, dx, dweight and dbias by torch in float64."""
    dilation = min(dilation, max(x.shape[2:]))
    leaves = [t.double().requires_grad_() for t in (x, weight, bias)]
    padding = [dilation * (side // 2) for side in weight.shape[2:]]
    y = F.conv2d(*leaves, padding=padding, dilation=dilation, groups=x.shape[1])
    return [y.detach(), *torch.autograd.grad(y, leaves, grad.double())]


@pytest.mark.parametrize(("height", "width", "rows", "columns", "dilation"), SHAPES)
def test_values_and_gradients(height: int, width: int, rows: int, columns: int, dilation: int) -> None:
    x, weight, bias, grad = draw(2, 3, height, width, rows, columns)
    ours = [conv(x, weight, bias, dilation), *backward(grad, x, weight, bias, dilation, ALL)]
    right = exact(x, weight, bias, grad, dilation)
    terms = exact(x.abs(), weight.abs(), bias.abs(), grad.abs(), dilation)
    for what, got, expected, most in zip(("y", "dx", "dweight", "dbias"), ours, right, terms, strict=True):
        assert got.shape == expected.shape
        error = (got.double() - expected).abs()
        assert (error <= 4 * torch.finfo(torch.float32).eps * most).all(), f"{what}: {error.max():.1e}"
        assert got.abs().max() > 0


def test_taps_that_never_touch_the_image_have_no_gradient() -> None:
    x, weight, bias, grad = draw(1, 1, 16, 16, 7, 7)
    dweight = backward(grad, x, weight, bias, 7, ALL)[1][0, 0]
    touched = torch.zeros(7, 7, dtype=torch.bool)
    touched[1:-1, 1:-1] = True
    assert not dweight[~touched].any()
    assert (dweight[touched] != 0).all()


@pytest.mark.parametrize("needed", range(3))
def test_only_what_is_needed(needed: int) -> None:
    x, weight, bias, grad = draw(2, 3, 9, 11, 5, 3)
    needs = [i == needed for i in range(3)]
    for i, (one, both) in enumerate(
        zip(backward(grad, x, weight, bias, 2, needs), backward(grad, x, weight, bias, 2, ALL), strict=True)
    ):
        assert torch.equal(one, both) if i == needed else one.shape == (0,)
    assert backward(grad, x, weight, None, 2, ALL)[2].shape == (0,)


@pytest.mark.parametrize(("rows", "dilation"), [(5, 1), (9, 2), (7, 7)])
def test_bfloat16_is_float32_rounded_once(rows: int, dilation: int) -> None:
    x, weight, bias, grad = draw(2, 3, 19, 37, rows, 7, torch.bfloat16)
    wide = [t.float() for t in (x, weight, bias, grad)]
    assert torch.equal(conv(x, weight, bias, dilation), conv(*wide[:3], dilation).bfloat16())
    assert torch.equal(conv(x, weight, None, dilation), conv(*wide[:2], None, dilation).bfloat16())
    ours = backward(grad, x, weight, bias, dilation, ALL)
    for got, expected in zip(ours, backward(wide[3], *wide[:3], dilation, ALL), strict=True):
        assert torch.equal(got, expected.bfloat16())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("n", "c", "side", "kernel", "dilation"), [(20, 9, 33, 7, 7), (3, 70, 16, 5, 1), (2, 3, 90, 9, 1)]
)
def test_same_bits_for_any_number_of_threads_and_any_alignment(
    n: int, c: int, side: int, kernel: int, dilation: int, dtype: torch.dtype
) -> None:
    tensors = draw(n, c, side, side + 2, kernel, kernel, dtype)
    moved = [torch.cat([t.new_zeros(3), t.flatten()])[3:].view(t.shape) for t in tensors]
    before, results = torch.get_num_threads(), []
    try:
        for threads, (x, weight, bias, grad) in ((1, tensors), (2, tensors), (3, tensors), (1, moved)):
            torch.set_num_threads(threads)
            results.append([conv(x, weight, bias, dilation), *backward(grad, x, weight, bias, dilation, ALL)])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_samples_do_not_see_each_other() -> None:
    x, weight, bias, _ = draw(3, 2, 20, 21, 7, 7)
    x[1] = math.nan
    y = conv(x, weight, bias, 3)
    assert y[1].isnan().all()
    assert torch.equal(y[::2], conv(x[::2].contiguous(), weight, bias, 3))


def test_nan_and_inf_reach_what_torch_lets_them_reach() -> None:
    x, weight, bias, _ = draw(1, 1, 20, 40, 5, 5)
    x[0, 0, 10, 18], x[0, 0, 3, 33], x[0, 0, 19, 0] = math.nan, math.inf, -math.inf
    y, right = conv(x, weight, bias, 3), exact(x, weight, bias, x, 3)[0]
    assert right.isnan().any()
    assert torch.equal(y.isnan(), right.isnan())
    assert torch.equal(y.isinf(), right.isinf())


def test_sums_of_many_pixels_keep_their_bits() -> None:
    x, grad = torch.full((1, 1, 700, 701), 0.1), torch.ones(1, 1, 700, 701)
    dweight, dbias = backward(grad, x, torch.zeros(1, 1, 3, 3), torch.zeros(1), 1, ALL)[1:]
    assert dweight[0, 0, 1, 1].item() == pytest.approx(x.double().sum().item(), rel=3e-6)
    assert dbias.item() == 700 * 701


def test_nothing_to_do_and_nothing_written() -> None:
    x, weight, bias, grad = draw(0, 3, 6, 7, 3, 3)
    assert conv(x, weight, bias, 1).shape == x.shape
    dx, dweight, dbias = backward(grad, x, weight, bias, 1, ALL)
    assert dx.shape == x.shape
    assert not dweight.any()
    assert not dbias.any()
    tensors = draw(2, 3, 6, 7, 3, 3)
    copies = [t.clone() for t in tensors]
    backward(tensors[3], *tensors[:3], 1, ALL)
    assert all(torch.equal(a, b) for a, b in zip(tensors, copies, strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(1, 2, 4, 4).double()}, "x must be float32 or bfloat16"),
        ({"x": torch.zeros(2, 4, 4)}, r"x must be \(N, C, H, W\), got \(2, 4, 4\)"),
        ({"x": torch.zeros(1, 2, 0, 4)}, "at least one channel, row and column"),
        ({"weight": torch.zeros(2, 1, 3, 4)}, "weight must be .* odd kernel"),
        ({"weight": torch.zeros(3, 1, 3, 3)}, r"weight must have shape \(2, 1, 3, 3\), got \(3, 1, 3, 3\)"),
        ({"weight": torch.zeros(2, 1, 3, 3).bfloat16()}, "weight must be of torch dtype"),
        ({"bias": torch.zeros(3)}, r"bias must have shape \(2\), got \(3\)"),
        ({"dilation": 0}, "dilation must be 1 or more, got 0"),
    ],
)
def test_arguments_that_do_not_fit(change: dict[str, object], message: str) -> None:
    good = {"x": torch.zeros(1, 2, 4, 4), "weight": torch.zeros(2, 1, 3, 3), "bias": torch.zeros(2), "dilation": 1}
    with pytest.raises(RuntimeError, match=message):
        conv(*{**good, **change}.values())


def test_a_gradient_that_does_not_fit() -> None:
    x, weight, bias, grad = draw(2, 3, 6, 7, 3, 3)
    with pytest.raises(RuntimeError, match=r"x must have shape"):
        backward(grad, x[:1], weight, bias, 1, ALL)
    with pytest.raises(RuntimeError, match="needs must have 3 entries, got 2"):
        backward(grad, x, weight, bias, 1, [True, True])
