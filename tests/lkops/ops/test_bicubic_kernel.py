"""The C++ kernels of bicubic_upsample, against matrices built from the formula in float64."""

import math

import pytest
import torch
from torch import Tensor

import lkops
from lkops._core.extension import extension_error

if extension_error("_C_cpu"):
    pytest.skip(extension_error("_C_cpu"), allow_module_level=True)


upsample = torch.ops.lkops.bicubic_upsample_cpu_fwd
transpose = torch.ops.lkops.bicubic_upsample_cpu_bwd

BORDERS = [(-0.5, True), (-0.75, False)]
# size 1, 2 and 3 (mirrors that reach past the other end), primes, widths around one and several vectors
SIZES = [(1, 1), (2, 3), (3, 2), (1, 31), (17, 1), (13, 16), (5, 67), (33, 8)]
SCALES = [1, 2, 3, 4, 5, 8, 17]


def matrix(n: int, scale: int, a: float, symmetric: bool) -> Tensor:
    """Upsampling along one axis as a (scale * n, n) matrix."""

    def keys(d: float) -> float:
        d = abs(d)
        if d <= 1:
            return (a + 2) * d**3 - (a + 3) * d**2 + 1
        return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0

    out = torch.zeros(scale * n, n, dtype=torch.float64)
    for i in range(scale * n):
        u = (i + 0.5) / scale - 0.5
        for t in range(math.floor(u) - 1, math.floor(u) + 3):
            if symmetric:
                m = t % (2 * n)
                source = m if m < n else 2 * n - 1 - m
            else:
                source = min(max(t, 0), n - 1)
            out[i, source] += keys(u - t)
    return out


def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64).to(dtype)


def assert_close(out: Tensor, exact: Tensor, scale_of_terms: float) -> None:
    """Within a few float32 roundings of the largest sum of absolute terms; and not zeros."""
    assert out.shape == exact.shape
    error = (out.double() - exact).abs().max().item()
    assert error <= 4 * torch.finfo(torch.float32).eps * scale_of_terms
    assert out.abs().max() > 0


@pytest.mark.parametrize(("a", "symmetric"), BORDERS)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_values_and_transpose(height: int, width: int, scale: int, a: float, symmetric: bool) -> None:
    rows, columns = matrix(height, scale, a, symmetric), matrix(width, scale, a, symmetric)
    x = random(2, 3, height, width)
    exact = rows @ x.double() @ columns.T
    terms = (rows.abs() @ x.double().abs() @ columns.abs().T).max().item()
    assert_close(upsample(x, scale, a, symmetric), exact, terms)

    grad = random(2, 3, height * scale, width * scale)
    exact = rows.T @ grad.double() @ columns
    terms = (rows.abs().T @ grad.double().abs() @ columns.abs()).max().item()
    assert_close(transpose(grad, scale, a, symmetric), exact, terms * (1 + scale / 4))  # sums of 4 * scale terms


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_torch_bicubic(scale: int) -> None:
    x = random(1, 4, 19, 23).double().requires_grad_()
    y = torch.nn.functional.interpolate(x, scale_factor=scale, mode="bicubic")
    grad = random(*y.shape)
    y.backward(grad.double())
    torch.testing.assert_close(upsample(x.detach().float(), scale, -0.75, False), y.detach().float())
    assert x.grad is not None
    torch.testing.assert_close(transpose(grad, scale, -0.75, False), x.grad.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 13), (16, 67)])
def test_bfloat16_is_float32_rounded_once_to_nearest_even(height: int, width: int, scale: int) -> None:
    x = random(2, 2, height, width, dtype=torch.bfloat16)
    assert torch.equal(upsample(x, scale, -0.5, True), upsample(x.float(), scale, -0.5, True).bfloat16())
    grad = random(2, 2, height * scale, width * scale, dtype=torch.bfloat16)
    assert torch.equal(transpose(grad, scale, -0.5, True), transpose(grad.float(), scale, -0.5, True).bfloat16())


def test_bfloat16_ties_and_special_values() -> None:
    x = torch.ones(1, 1, 8, 40, dtype=torch.bfloat16)
    x[0, 0, 2, 3], x[0, 0, 5, 20], x[0, 0, 1, 33] = math.nan, math.inf, 3.3e38
    x[0, 0, :, 10:14] = torch.tensor(1e-40).bfloat16()  # denormals
    ours, expected = upsample(x, 2, -0.5, True), upsample(x.float(), 2, -0.5, True).bfloat16()
    assert ours.isnan().any()
    assert ours.isinf().any()
    assert torch.equal(ours.isnan(), expected.isnan())
    assert torch.equal(ours.nan_to_num(), expected.nan_to_num())
    # halves between two bfloat16 values: at x4 and a = -0.5 the weights are multiples of 1/128, so sums are exact
    steps = (torch.arange(64).reshape(1, 1, 4, 16) % 7 + 128).bfloat16()
    assert torch.equal(upsample(steps, 4, -0.5, True), upsample(steps.float(), 4, -0.5, True).bfloat16())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 5, 64, 37), (1, 1, 257, 130)])
def test_same_bits_for_any_number_of_threads_and_any_alignment(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = random(*shape, dtype=dtype)
    grad = random(*shape[:2], shape[2] * 4, shape[3] * 4, dtype=dtype)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append((upsample(x, 4, -0.5, True), transpose(grad, 4, -0.5, True)))
    finally:
        torch.set_num_threads(before)
    moved = [torch.cat([t.new_zeros(3), t.flatten()])[3:].view(t.shape) for t in (x, grad)]
    results.append((upsample(moved[0], 4, -0.5, True), transpose(moved[1], 4, -0.5, True)))
    for forward, backward in results[1:]:
        assert torch.equal(forward, results[0][0])
        assert torch.equal(backward, results[0][1])


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (0, 1, 4, 5)])
def test_nothing_to_do(shape: tuple[int, ...]) -> None:
    y = upsample(torch.empty(shape), 3, -0.5, True)
    assert y.shape == (*shape[:2], 12, 15)
    assert transpose(y, 3, -0.5, True).shape == shape


def test_a_scale_larger_than_any_network_has() -> None:
    x = random(1, 1, 1, 2)
    ours, reference = (lkops.bicubic_upsample(x, scale=4500, backend=backend) for backend in ("cpu", "reference"))
    torch.testing.assert_close(ours, reference)


def test_inputs_are_not_written() -> None:
    x, grad = random(1, 2, 6, 7), random(1, 2, 12, 14)
    copies = x.clone(), grad.clone()
    upsample(x, 2, -0.5, True)
    transpose(grad, 2, -0.5, True)
    assert torch.equal(x, copies[0])
    assert torch.equal(grad, copies[1])


@pytest.mark.parametrize("op", [upsample, transpose])
@pytest.mark.parametrize(
    ("tensor", "scale", "message"),
    [
        (torch.zeros(1, 1, 4, 4).double(), 2, "must be float32 or bfloat16"),
        (torch.zeros(4, 4), 2, r"must be \(N, C, H, W\), got \(4, 4\)"),
        (torch.zeros(1, 1, 4, 4), 0, "scale must be between 1 and 1048576, got 0"),
        (torch.zeros(1, 1, 4, 4), 1 << 40, "scale must be between 1 and 1048576"),
        (torch.zeros(1, 1, 0, 4), 2, "at least one"),
    ],
)
def test_arguments_that_do_not_fit(op: torch._ops.OpOverloadPacket, tensor: Tensor, scale: int, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        op(tensor, scale, -0.5, True)


def test_scale_that_does_not_divide() -> None:
    with pytest.raises(RuntimeError, match=r"scale = 3 divides, got \(1, 1, 6, 8\)"):
        transpose(torch.zeros(1, 1, 6, 8), 3, -0.5, True)
