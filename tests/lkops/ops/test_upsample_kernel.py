"""The C++ kernels of upsample_add: what the contract's small problems do not reach."""

import math

import pytest
import torch
from torch import Tensor

import lkops
from lkops._core.extension import extension_error
from lkops.testing import assert_as_good_as_eager

if extension_error("_C_cpu"):
    pytest.skip(extension_error("_C_cpu"), allow_module_level=True)

forward = torch.ops.lkops.upsample_add_cpu_fwd
backward = torch.ops.lkops.upsample_add_cpu_bwd
ALL = [True] * 4
NAMES = ("features", "weight", "bias", "lowres")

# (n, channels, height, width), groups, bands, scale, (kernel height, kernel width)
PROBLEMS = {
    "sums_in_parts": ((1, 40, 9, 23), 1, 7, 4, (3, 3)),  # 360 inputs, several tiles share a block of weights
    "blocks_of_outputs": ((1, 6, 7, 33), 1, 75, 2, (3, 3)),  # 300 output channels: two blocks of their gradient
    "blocks_of_inputs": ((9, 80, 5, 6), 1, 1, 2, (3, 3)),  # three parts of the channels
    "samples_in_chunks": ((6, 8, 16, 16), 2, 4, 2, (3, 3)),
    "wide_kernel": ((1, 3, 5, 40), 1, 2, 2, (1, 35)),  # taps beyond a vector, and beyond a small plane
    "tall_kernel": ((2, 4, 4, 3), 2, 2, 3, (11, 5)),
    "groups_across_bands": ((1, 12, 6, 17), 6, 5, 6, (3, 3)),  # 30 channels a group, 36 a band
    "depthwise": ((1, 16, 6, 18), 16, 4, 4, (3, 3)),
}


def tensors(name: str, dtype: torch.dtype = torch.float32, lowres: torch.dtype | None = None) -> list[Tensor]:
    (n, c, h, w), groups, bands, scale, sides = PROBLEMS[name]
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    inputs = c // groups
    weight = draw(bands * scale**2, inputs, *sides) / math.sqrt(inputs * math.prod(sides))
    drawn = [draw(n, c, h, w), weight, draw(bands * scale**2)]
    return [*(t.to(dtype) for t in drawn), draw(n, bands, h, w).to(lowres or dtype)]


def gradient(name: str, dtype: torch.dtype) -> Tensor:
    (n, _, h, w), _, bands, scale, _ = PROBLEMS[name]
    generator = torch.Generator().manual_seed(1)
    return torch.randn((n, bands, h * scale, w * scale), generator=generator, dtype=torch.float64).to(dtype)


def run(values: list[Tensor], grad: Tensor, scale: int, backend: str) -> dict[str, Tensor]:
    leaves = [t.clone().requires_grad_() for t in values]
    out = lkops.upsample_add(*leaves, scale=scale, backend=backend)
    out.backward(grad.to(out.dtype))
    return {"output": out.detach(), **{n: t.grad for n, t in zip(NAMES, leaves, strict=True) if t.grad is not None}}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", PROBLEMS)
def test_values_and_gradients(name: str, dtype: torch.dtype) -> None:
    values, grad, scale = tensors(name, dtype), gradient(name, dtype), PROBLEMS[name][3]
    exact = run([t.double() for t in values], grad.double(), scale, "reference")
    eager, ours = (run(values, grad, scale, backend) for backend in ("reference", "cpu"))
    assert_as_good_as_eager(ours, eager, exact)


@pytest.mark.parametrize(
    ("dtype", "lowres"), [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)], ids=str
)
def test_images_of_another_dtype(dtype: torch.dtype, lowres: torch.dtype) -> None:
    """The result has the wider dtype; the product of bfloat16 features is not rounded before the image is added."""
    values, scale = tensors("samples_in_chunks", dtype, lowres), 2
    grad = gradient("samples_in_chunks", torch.bfloat16)
    exact = run([t.double() for t in values], grad.double(), scale, "reference")
    ours = run(values, grad, scale, "cpu")
    assert ours["output"].dtype is torch.float32
    for name, value in zip(NAMES, values, strict=True):
        assert ours[name].dtype is value.dtype
    for what, value in ours.items():
        bound = 4 * torch.finfo(value.dtype).eps * exact[what].abs().max()
        assert (value.double() - exact[what]).abs().max() <= bound, what
        assert value.abs().max() > 0


def shifted(tensor: Tensor) -> Tensor:
    """The same numbers an odd number of elements further on."""
    return torch.cat([tensor.new_zeros(3), tensor.flatten()])[3:].view(tensor.shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", PROBLEMS)
def test_same_bits_for_any_number_of_threads_and_any_alignment(name: str, dtype: torch.dtype) -> None:
    values, grad, options = tensors(name, dtype), gradient(name, dtype), (PROBLEMS[name][3], -0.5, True, False)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append([forward(*values, *options, False), *backward(grad, *values, *options, ALL)])
    finally:
        torch.set_num_threads(before)
    moved = [shifted(t) for t in values]
    results.append([forward(*moved, *options, False), *backward(shifted(grad), *moved, *options, ALL)])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, results[0], strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_result_too_large_for_the_caches(dtype: torch.dtype) -> None:
    """Such a result is stored past the caches where a row begins on a vector; a smaller one is not."""
    generator = torch.Generator().manual_seed(0)
    n = 1 if dtype is torch.float32 else 2
    features = torch.randn((n, 2, 64, 64), generator=generator).to(dtype)
    weight = (torch.randn((1152, 2, 1, 1), generator=generator) / 2).to(dtype)
    lowres = torch.randn((n, 72, 64, 64), generator=generator).to(dtype)
    large = lkops.upsample_add(features, weight, None, lowres, scale=4, backend="cpu")
    assert large.numel() * large.element_size() > 16 << 20
    for sample in range(n):
        for half in range(2):
            bands = slice(36 * half, 36 * (half + 1))
            small = lkops.upsample_add(
                features[sample : sample + 1],
                weight[576 * half : 576 * (half + 1)],
                None,
                lowres[sample : sample + 1, bands],
                scale=4,
                backend="cpu",
            )
            assert torch.equal(large[sample : sample + 1, bands], small)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nan_stays_where_it_belongs(dtype: torch.dtype) -> None:
    """Pixels that a plane does not have, and columns beyond a row, take no part in any sum."""
    values, grad = tensors("sums_in_parts", dtype), gradient("sums_in_parts", dtype)
    values[0][0, 3, 4, 22] = math.nan  # the end of a row
    values[3][0, 2, 0, 0] = math.inf
    ours = run(values, grad, 4, "cpu")
    # in float64: torch's own conv in bfloat16 spreads it to gradients of other taps
    expected = run([t.double() for t in values], grad.double(), 4, "reference")
    for what, value in ours.items():
        assert torch.equal(value.isnan(), expected[what].isnan()), what
        assert torch.equal(value.isinf(), expected[what].isinf()), what
    assert ours["output"].isnan().any()
    assert ours["weight"].isnan().any()


def test_only_what_is_needed_is_returned() -> None:
    values, grad = tensors("depthwise"), gradient("depthwise", torch.float32)
    together = backward(grad, *values, 4, -0.5, True, False, ALL)
    for i, one in enumerate(together):
        alone = backward(grad, *values, 4, -0.5, True, False, [i == j for j in range(4)])
        assert torch.equal(alone[i], one)
        assert all(other.shape == (0,) for j, other in enumerate(alone) if j != i)


def test_inputs_are_not_written() -> None:
    values, grad = tensors("samples_in_chunks"), gradient("samples_in_chunks", torch.float32)
    copies = [t.clone() for t in (*values, grad)]
    forward(*values, 2, -0.5, True, False, False)
    backward(grad, *values, 2, -0.5, True, False, ALL)
    assert all(torch.equal(a, b) for a, b in zip((*values, grad), copies, strict=True))


Z = torch.zeros


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Z(1, 4, 5, 5).double(), Z(4, 4, 3, 3), None, None, 2), "features must be float32 or bfloat16"),
        ((Z(1, 4, 5, 5), Z(4, 4, 2, 3), None, None, 2), "an odd height and width"),
        ((Z(1, 4, 5, 5), Z(4, 3, 3, 3), None, None, 2), "does not fit 4 input channels"),
        ((Z(1, 4, 5, 5), Z(6, 4, 3, 3), None, None, 2), r"a multiple of scale\^2 = 4 outputs"),
        ((Z(1, 4, 5, 5), Z(4, 4, 3, 3).bfloat16(), None, None, 2), "weight must have the dtype of features"),
        ((Z(1, 4, 5, 5), Z(4, 4, 3, 3), Z(3), None, 2), r"bias must have shape \(4\), got \(3\)"),
        ((Z(1, 4, 5, 5), Z(4, 4, 3, 3), None, Z(1, 2, 5, 5), 2), r"lowres must have shape \(1, 1, 5, 5\)"),
        ((Z(1, 4, 5, 5), Z(4, 4, 3, 3), None, None, 0), "scale must be between 1 and"),
    ],
)
def test_arguments_that_do_not_fit(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        forward(*arguments, -0.5, True, False, False)


def test_gradients_that_do_not_fit() -> None:
    arguments = (Z(1, 4, 5, 5), Z(4, 4, 3, 3), None, None, 2, -0.5, True, False)
    with pytest.raises(RuntimeError, match=r"grad must have shape \(1, 1, 10, 10\), got \(1, 1, 5, 5\)"):
        backward(Z(1, 1, 5, 5), *arguments, ALL)
    with pytest.raises(RuntimeError, match="needs must have 4 entries, got 3"):
        backward(Z(1, 1, 10, 10), *arguments, ALL[:3])
