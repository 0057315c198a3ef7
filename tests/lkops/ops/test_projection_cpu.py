"""norm_conv1x1_gelu's C++ kernels: what the contract's small cases leave out."""

import pytest
import torch
from torch import Tensor

from lkops._core.extension import extension_error
from lkops.testing import Draw, arguments, cast, check
from tests.lkops.ops.harness import case_of

if extension_error("_C_cpu"):
    pytest.skip(extension_error("_C_cpu"), allow_module_level=True)

OPERATOR = "norm_conv1x1_gelu"
DTYPES = [torch.float32, torch.bfloat16]
forward = torch.ops.lkops.norm_conv1x1_gelu_cpu_fwd
backward = torch.ops.lkops.norm_conv1x1_gelu_cpu_bwd
ALL = [True] * 5


def drawn(shape: tuple[int, ...], dtype: torch.dtype, outputs: int) -> tuple[list[Tensor], Tensor]:
    """The tensors of the operator and a gradient of its output."""
    tensors, _ = arguments(OPERATOR, case_of("", shape, {"outputs": outputs}))  # type: ignore[arg-type]
    draw = Draw()
    grad = draw(shape[0], outputs, *shape[2:]).to(dtype)
    return [t for t in cast(tensors, dtype).values() if t is not None], grad


def everything(tensors: list[Tensor], grad: Tensor) -> list[Tensor]:
    return [forward(*tensors, 1e-6), *backward(grad, *tensors, 1e-6, ALL)]


# vectors of 4, 8 and 16 lanes: one less, one, one more; blocks of outputs and of channels that end early; depths in
# parts; more chunks of tiles than one
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("shape", "outputs"),
    [
        ((1, 15, 1, 3), 1),
        ((1, 16, 1, 17), 31),
        ((2, 17, 3, 5), 32),
        ((1, 33, 7, 7), 33),
        ((1, 161, 5, 11), 5),
        ((1, 330, 2, 5), 37),
        ((3, 24, 31, 33), 65),
    ],
    ids=str,
)
def test_sizes(shape: tuple[int, int, int, int], outputs: int, dtype: torch.dtype) -> None:
    check(OPERATOR, "cpu", "cpu", dtype, case_of("", shape, {"outputs": outputs}))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_sums_of_many_pixels(dtype: torch.dtype) -> None:
    check(OPERATOR, "cpu", "cpu", dtype, case_of("", (4, 8, 128, 127), {"outputs": 5}))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "outputs"), [((2, 37, 19, 23), 41), ((3, 64, 16, 16), 64)], ids=str)
def test_same_bits_for_any_number_of_threads_and_any_alignment(
    shape: tuple[int, ...], outputs: int, dtype: torch.dtype
) -> None:
    tensors, grad = drawn(shape, dtype, outputs)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(everything(tensors, grad))
    finally:
        torch.set_num_threads(before)
    for offset in (1, 2, 3):
        moved = [torch.cat([t.new_zeros(offset), t.flatten()])[offset:].view(t.shape) for t in (*tensors, grad)]
        results.append(everything(moved[:-1], moved[-1]))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, results[0], strict=True))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_only_what_is_needed(dtype: torch.dtype) -> None:
    tensors, grad = drawn((2, 20, 5, 7), dtype, 21)
    together = backward(grad, *tensors, 1e-6, ALL)
    for asked in (0, 1, 2, 3, 4):
        alone = backward(grad, *tensors, 1e-6, [i == asked for i in range(5)])
        assert torch.equal(alone[asked], together[asked])
        assert all(alone[i].shape == (0,) for i in range(5) if i != asked)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gelu_as_the_bias_goes_through_all_of_it(dtype: torch.dtype) -> None:
    """With a weight of zeros the output is gelu(bias) and the bias's gradient its slope, to the last roundings."""
    bias = torch.linspace(-9, 9, 4001, dtype=torch.float64).to(dtype)
    tensors = [torch.ones(1, 1, 1, 1), torch.ones(1), torch.zeros(1), torch.zeros(len(bias), 1, 1, 1)]
    tensors = [t.to(dtype) for t in tensors]
    exact = bias.double().requires_grad_()
    out = torch.nn.functional.gelu(exact)
    out.sum().backward()
    y = forward(*tensors, bias, 1e-6).flatten()
    slope = backward(torch.ones(1, len(bias), 1, 1, dtype=dtype), *tensors, bias, 1e-6, ALL)[4]
    assert exact.grad is not None
    eps = torch.finfo(torch.float32).eps
    rounding = 0.0 if dtype is torch.float32 else torch.finfo(dtype).eps / 2
    for ours, right in ((y, out.detach()), (slope, exact.grad)):
        bound = 3 * eps * bias.double().abs().clamp(min=1) + rounding * right.abs()
        assert ((ours.double() - right).abs() <= bound).all()
        assert ours.abs().max() > 1


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nan_stays_with_its_pixel(dtype: torch.dtype) -> None:
    tensors, grad = drawn((2, 6, 4, 21), dtype, 5)
    clean = everything(tensors, grad)
    tensors[0][1, 2, 3, 20] = float("nan")
    y, dx, *rest = everything(tensors, grad)
    for ours, expected in ((y, clean[0]), (dx, clean[1])):
        hit = ours.isnan()
        assert hit[1, :, 3, 20].all()
        assert hit.sum() == ours.shape[1]
        assert torch.equal(ours[~hit], expected[~hit])
    assert all(gradient.isnan().any() for gradient in rest)


def test_nothing_to_do() -> None:
    tensors, grad = drawn((0, 6, 4, 5), torch.float32, 7)
    y, dx, *rest = everything(tensors, grad)
    assert y.shape == (0, 7, 4, 5)
    assert dx.shape == (0, 6, 4, 5)
    assert all((gradient == 0).all() and gradient.numel() for gradient in rest)


def test_inputs_are_not_written() -> None:
    tensors, grad = drawn((2, 20, 5, 7), torch.float32, 21)
    copies = [t.clone() for t in (*tensors, grad)]
    everything(tensors, grad)
    assert all(torch.equal(a, b) for a, b in zip((*tensors, grad), copies, strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: torch.zeros(1, 4, 2, 2).double()}, "x must be float32 or bfloat16"),
        ({0: torch.zeros(4, 2, 2)}, r"x must be \(N, C, H, W\), got \(4, 2, 2\)"),
        ({0: torch.zeros(1, 4, 0, 3)}, "at least one channel, row and column"),
        ({1: torch.zeros(5)}, r"norm_weight must have shape \(4\), got \(5\)"),
        ({3: torch.zeros(3, 5, 1, 1)}, r"weight must have shape \(3, 4, 1, 1\)"),
        ({3: torch.zeros(0, 4, 1, 1)}, r"weight must be \(outputs, channels, 1, 1\)"),
        ({4: torch.zeros(3).bfloat16()}, "bias must be of torch dtype number"),
    ],
    ids=str,
)
def test_arguments_that_do_not_fit(change: dict[int, Tensor], message: str) -> None:
    tensors, grad = drawn((1, 4, 2, 2), torch.float32, 3)
    changed = [change.get(i, t) for i, t in enumerate(tensors)]
    with pytest.raises(RuntimeError, match=message):
        forward(*changed, 1e-6)
    with pytest.raises(RuntimeError, match=message):
        backward(grad, *changed, 1e-6, ALL)


def test_gradient_and_options_that_do_not_fit() -> None:
    tensors, grad = drawn((1, 4, 2, 2), torch.float32, 3)
    with pytest.raises(RuntimeError, match=r"grad must have shape \(1, 3, 2, 2\)"):
        backward(grad[:, :2].contiguous(), *tensors, 1e-6, ALL)
    with pytest.raises(RuntimeError, match="needs must have 5 entries, got 4"):
        backward(grad, *tensors, 1e-6, ALL[:4])
    with pytest.raises(RuntimeError, match="eps must be above 0"):
        forward(*tensors, 0.0)
