"""Singular values and ranks against numpy in float64, and against matrices whose rank is known."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from lkops.lowrank import cumulative_share, rank_at, spectrum


def of_values(values, rows: int = 12, columns: int = 20, seed: int = 0) -> torch.Tensor:
    """A float64 matrix with these singular values."""
    generator = np.random.default_rng(seed)
    left, _ = np.linalg.qr(generator.standard_normal((rows, len(values))))
    right, _ = np.linalg.qr(generator.standard_normal((columns, len(values))))
    return torch.from_numpy(left * np.array(values, float) @ right.T)


def conv(*args, seed: int = 0, **options) -> nn.Conv2d:
    torch.manual_seed(seed)
    return nn.Conv2d(*args, **options)


@pytest.mark.parametrize("groups", [1, 4, 8])
def test_spectrum_is_numpys_of_the_reshaped_weight(groups: int) -> None:
    layer = conv(8, 24, (3, 5), groups=groups)
    weight = layer.weight.detach().numpy().astype(np.float64)
    expected = np.linalg.svd(weight.reshape(24, 8 // groups * 15), compute_uv=False)
    values = spectrum(layer)
    assert (values.dtype, values.requires_grad, len(values)) == (torch.float64, False, min(24, 8 // groups * 15))
    np.testing.assert_allclose(values.numpy(), expected, rtol=1e-12)
    assert torch.equal(spectrum(layer.weight), values)
    assert torch.equal(spectrum(layer.weight.reshape(24, -1)), values)
    whole = np.zeros((24, 8 * 15))  # the conv as a map of all inputs: one block a group
    out, inputs = 24 // groups, 8 // groups * 15
    for group in range(groups):
        rows = slice(group * out, (group + 1) * out)
        whole[rows, group * inputs : (group + 1) * inputs] = weight.reshape(24, -1)[rows]
    expected = np.linalg.svd(whole, compute_uv=False)
    np.testing.assert_allclose(spectrum(layer, block_diagonal=True).numpy(), expected, rtol=1e-12, atol=1e-14)


def test_spectrum_of_a_weight_normalised_conv() -> None:
    layer = weight_norm(conv(6, 10, 3))
    with torch.no_grad():
        layer.parametrizations.weight.original0.mul_(torch.arange(1, 11.0).view(-1, 1, 1, 1))
    folded = layer.weight.detach().double().reshape(10, -1)
    np.testing.assert_allclose(spectrum(layer).numpy(), np.linalg.svd(folded.numpy(), compute_uv=False), rtol=1e-12)
    assert spectrum(layer)[0] > 2 * spectrum(conv(6, 10, 3))[0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_small_singular_values_of_half_precision_are_computed_in_float64(dtype: torch.dtype) -> None:
    weight = of_values([5, 4, 3, 1e-3]).to(dtype)
    expected = np.linalg.svd(weight.double().numpy(), compute_uv=False)
    np.testing.assert_allclose(spectrum(weight).numpy(), expected, rtol=1e-9, atol=1e-14)


def test_rank_at_of_known_singular_values() -> None:
    weight = of_values([5, 3, 1, 1])  # shares 0.5, 0.8, 0.9, 1; of the squares 25/36, 34/36, 35/36, 1
    ranks = [rank_at(weight, share) for share in (0.01, 0.5, 0.51, 0.8, 0.81, 0.9, 0.91, 1)]
    assert ranks == [1, 1, 2, 2, 3, 3, 4, 4]
    assert [rank_at(weight, s, energy=True) for s in (25 / 36 - 1e-9, 25 / 36 + 1e-9, 34 / 36 + 1e-9, 1)] == [
        1,
        2,
        3,
        4,
    ]
    assert [rank_at(spectrum(weight), share) for share in (0.01, 0.51, 0.9, 0.91, 1)] == [1, 2, 3, 4, 4]
    np.testing.assert_allclose(cumulative_share(torch.tensor([5.0, 3, 1, 1])), [0.5, 0.8, 0.9, 1], rtol=1e-15)
    np.testing.assert_allclose(
        cumulative_share(torch.tensor([5.0, 3, 1, 1]), energy=True), np.array([25, 34, 35, 36]) / 36, rtol=1e-15
    )


def test_equal_singular_values_reach_a_share_in_proportion() -> None:
    assert [rank_at(torch.eye(10), share / 10) for share in range(1, 11)] == list(range(1, 11))
    assert rank_at(1e-200 * torch.eye(10, dtype=torch.float64), 0.5, energy=True) == 5  # squares would underflow


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_at_a_share_of_one_it_is_the_numerical_rank(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    product = torch.randn(12, 3, dtype=torch.float64) @ torch.randn(3, 20, dtype=torch.float64)
    assert rank_at(product.to(dtype), 1) == 3
    assert rank_at(product.to(dtype), 0.97) <= 3
    assert rank_at(torch.randn(12, 20, dtype=torch.float64).to(dtype), 1) == 12


def test_groups_bound_the_rank_of_the_stacked_matrix_only() -> None:
    layer = conv(16, 64, 1, groups=8)
    assert rank_at(layer, 1) == 2  # C_in / g
    assert rank_at(layer, 1, block_diagonal=True) == 16
    assert rank_at(conv(16, 64, 1), 1) == 16


def test_a_weight_of_zeros_has_rank_0() -> None:
    layer = conv(4, 8, 3, groups=2)
    nn.init.zeros_(layer.weight)
    assert (rank_at(layer), rank_at(layer, 1), rank_at(layer, block_diagonal=True)) == (0, 0, 0)
    assert not spectrum(layer).any()
    assert cumulative_share(spectrum(layer)).tolist() == [1.0] * 8


def test_wrong_arguments() -> None:
    layer = conv(2, 4, 3)
    for wrong in (nn.ConvTranspose2d(2, 4, 3), "conv", torch.ones(3, 3, dtype=torch.int64), torch.ones(3, 3) + 1j):
        with pytest.raises(TypeError, match=r"conv_or_weight must be a torch\.nn\.Conv2d or a floating tensor, got"):
            spectrum(wrong)
    with pytest.raises(TypeError, match="its groups are unknown"):
        spectrum(layer.weight, block_diagonal=True)
    for shape in ((3,), (3, 4, 5), (0, 4), (4, 2, 0, 3)):
        with pytest.raises(ValueError, match=r"conv_or_weight must be \(outputs, inputs / groups"):
            spectrum(torch.ones(shape))
    with pytest.raises(ValueError, match="largest first"):
        rank_at(torch.tensor([1.0, 2.0]))
    with pytest.raises(TypeError, match="block_diagonal"):
        rank_at(torch.tensor([2.0, 1.0]), block_diagonal=True)
    with torch.no_grad():
        layer.weight[1, 1, 1, 1] = math.nan
    with pytest.raises(ValueError, match="the conv's weight holds NaN or infinite values"):
        rank_at(layer)
    for share in (0, -0.5, 1.5, math.nan, "0.9", True, None):
        with pytest.raises((ValueError, TypeError), match="share must be above 0 and up to 1, got"):
            rank_at(torch.eye(3), share)
    for values in ([], [[1.0]], [1.0, 2.0], [1.0, -1.0], [math.inf, 1.0]):
        with pytest.raises(ValueError, match="values must be singular values"):
            cumulative_share(torch.tensor(values))
    with pytest.raises(TypeError, match=r"values must be a floating tensor, got a tensor of torch\.int64"):
        cumulative_share(torch.tensor([2, 1]))
