"""Bicubic down and up against an independent re-implementation of MATLAB's imresize."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import lkops
from lkcanet.data import bicubic_downsample, bicubic_upsample

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
SIZES = [(1, 1), (1, 2), (2, 3), (3, 1), (5, 7), (12, 9), (17, 31)]  # in LR pixels


def cubic(x: float) -> float:
    """imresize.m: cubic()."""
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0


def contributions(in_length: int, out_length: int, scale: float) -> np.ndarray:
    """imresize.m: contributions(), one-based, as an (out_length, in_length) matrix."""
    width = 4.0 / scale if scale < 1 else 4.0
    matrix = np.zeros((out_length, in_length))
    mirror = [*range(1, in_length + 1), *range(in_length, 0, -1)]
    for x in range(1, out_length + 1):
        u = x / scale + 0.5 * (1 - 1 / scale)
        left = math.floor(u - width / 2)
        taps = [left + j for j in range(math.ceil(width) + 2)]
        weights = [scale * cubic(scale * (u - k)) if scale < 1 else cubic(u - k) for k in taps]
        total = sum(weights)
        for k, weight in zip(taps, weights, strict=True):
            matrix[x - 1, mirror[(k - 1) % len(mirror)] - 1] += weight / total
    return matrix


def imresize(x: Tensor, scale: float) -> np.ndarray:
    values = x.double().numpy()
    rows, columns = (round(n * scale) for n in values.shape[-2:])
    down = contributions(values.shape[-2], rows, scale)
    across = contributions(values.shape[-1], columns, scale)
    return np.einsum("ih,nchw,jw->ncij", down, values, across)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("size", SIZES)
def test_down_is_imresize(size: tuple[int, int], scale: int, dtype: torch.dtype) -> None:
    x = torch.rand(2, 3, size[0] * scale, size[1] * scale, dtype=dtype, generator=torch.Generator().manual_seed(scale))
    y = bicubic_downsample(x, scale)
    assert y.shape == (2, 3, *size)
    assert y.dtype == dtype
    assert y.is_contiguous()
    assert np.abs(y.double().numpy() - imresize(x, 1 / scale)).max() <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("size", SIZES)
def test_up_is_imresize(size: tuple[int, int], scale: int, dtype: torch.dtype) -> None:
    x = torch.rand(2, 3, *size, dtype=dtype, generator=torch.Generator().manual_seed(scale))
    y = bicubic_upsample(x, scale)
    assert y.shape == (2, 3, size[0] * scale, size[1] * scale)
    assert y.dtype == dtype
    assert np.abs(y.double().numpy() - imresize(x, scale)).max() <= TOLERANCE[dtype]
    assert torch.equal(y, lkops.bicubic_upsample(x, scale=scale))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_constants_stay_and_ramps_are_exact_inside(scale: int) -> None:
    constant = torch.full((1, 1, 6 * scale, 5 * scale), 0.375, dtype=torch.float64)
    torch.testing.assert_close(bicubic_downsample(constant, scale), constant[..., :6, :5], rtol=0, atol=1e-14)
    enlarged = torch.full((1, 1, 6 * scale**2, 5 * scale**2), 0.375, dtype=torch.float64)
    torch.testing.assert_close(bicubic_upsample(constant, scale), enlarged, rtol=0, atol=1e-14)
    length = 12 * scale
    fine = (torch.arange(length, dtype=torch.float64) + 0.5) / scale - 0.5  # HR pixel centres in LR coordinates
    coarse = torch.arange(12, dtype=torch.float64)
    ramp = fine.expand(1, 1, length, length)
    torch.testing.assert_close(bicubic_downsample(ramp, scale)[0, 0, 5, 2:-2], coarse[2:-2], rtol=0, atol=1e-12)
    up = bicubic_upsample(coarse.expand(1, 1, 12, 12), scale)[0, 0, 5]
    torch.testing.assert_close(up[2 * scale : -2 * scale], fine[2 * scale : -2 * scale], rtol=0, atol=1e-12)


def test_known_weights_of_x2() -> None:
    """x2 down of an impulse: the widened cubic at distances .25, .75, 1.25, 1.75, halved: by hand."""
    weights = torch.tensor([-3, -9, 29, 111, 111, 29, -9, -3], dtype=torch.float64) / 256
    x = torch.zeros(8, 1, 32, 8, dtype=torch.float64)
    x[torch.arange(8), 0, 11 + torch.arange(8)] = 1  # rows 11..18 around the centre 14.5 of LR row 7
    y = bicubic_downsample(x, 2)[:, 0, 7, 2]
    torch.testing.assert_close(y, weights, rtol=0, atol=1e-15)


@pytest.mark.parametrize("function", [bicubic_downsample, bicubic_upsample])
def test_gradients(function) -> None:
    x = torch.rand(1, 2, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: function(t, 2), (x,))


def test_batches_of_none_and_strided_input() -> None:
    assert bicubic_downsample(torch.zeros(0, 3, 8, 8), 4).shape == (0, 3, 2, 2)
    x = torch.rand(2, 3, 8, 12)
    turned = x.transpose(-1, -2).contiguous().transpose(-1, -2)
    torch.testing.assert_close(bicubic_downsample(turned, 4), bicubic_downsample(x, 4))
    copy = bicubic_downsample(x, 1)
    assert torch.equal(copy, x)
    assert copy.data_ptr() != x.data_ptr()


@pytest.mark.parametrize("function", [bicubic_downsample, bicubic_upsample])
@pytest.mark.parametrize(
    ("x", "scale", "error", "message"),
    [
        (torch.zeros(1, 1, 8, 8), 0, ValueError, "scale must be 1 or more"),
        (torch.zeros(1, 1, 8, 8), 2.0, TypeError, "scale must be an int"),
        (torch.zeros(1, 8, 8), 2, ValueError, r"\(N, C, H, W\)"),
        (torch.zeros(1, 1, 0, 8), 2, ValueError, "at least one pixel"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.int32), 2, TypeError, "float32 or float64"),
    ],
)
def test_bad_arguments(function, x: Tensor, scale: int, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        function(x, scale)


def test_scale_must_divide() -> None:
    with pytest.raises(ValueError, match=r"scale must divide the image: 10 x 9 pixels by scale 4"):
        bicubic_downsample(torch.zeros(1, 1, 10, 9), 4)
