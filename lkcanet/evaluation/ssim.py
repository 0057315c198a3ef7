"""Structural similarity, band by band, a few rows at a time; `lkcanet.evaluation.metrics.mssim` has the formula."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lkcanet.common.ssim import SSIM

K1, K2 = 0.01, 0.03
WINDOW = 7  # pixels, side of the uniform window
RADIUS, SIGMA = 5, 1.5  # pixels, of MATLAB's Gaussian window: ssim.m takes ceil(3 sigma)


def windows_of(valid: Tensor, ssim: SSIM) -> Tensor:
    """The windows of a mask (H, W) that hold no invalid pixel: bool, one for each value of `mean_ssim`'s map."""
    if ssim == "uniform":
        return _uniform(valid.to(torch.float64).unsqueeze(0))[0] == 1
    invalid = (~valid).to(torch.float64)[None, None]
    return F.max_pool2d(F.pad(invalid, (RADIUS,) * 4, mode="replicate"), 2 * RADIUS + 1, stride=1)[0, 0] == 0


def mean_ssim(y: Tensor, x: Tensor, data_range: float, tile: int, whole: Tensor | None, ssim: SSIM) -> Tensor:
    """SSIM of each band (c,) of (c, H, W) float64 images, averaged over the windows, or those of `whole`, which
    `windows_of` made; nan where there are none. A band is cut into overlapping rows of `tile` values in all."""
    if ssim == "uniform":
        return _mean(y, x, data_range, tile, whole, WINDOW, WINDOW**2 / (WINDOW**2 - 1), _uniform)
    height, width = x.shape[1:]
    rows, columns = (torch.arange(-RADIUS, length + RADIUS, device=x.device) for length in (height, width))
    rows, columns = rows.clamp_(0, height - 1), columns.clamp_(0, width - 1)
    y, x = (image.index_select(1, rows).index_select(2, columns) for image in (y, x))
    return _mean(y, x, data_range, tile, whole, 2 * RADIUS + 1, 1.0, _gaussian)


def _mean(
    y: Tensor,
    x: Tensor,
    data_range: float,
    tile: int,
    whole: Tensor | None,
    side: int,
    sample: float,
    window_mean: Callable[[Tensor], Tensor],
) -> Tensor:
    """The mean over all windows of `side` rows and columns inside the images; (co)variances are times `sample`."""
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    windows = x.shape[1] - side + 1  # rows of windows
    step = max(1, tile // (x.shape[0] * x.shape[2]))
    total = x.new_zeros(x.shape[0])
    for first in range(0, windows, step):
        rows = slice(first, min(first + step, windows) + side - 1)
        a, b = x[:, rows], y[:, rows]
        ma, mb = window_mean(a), window_mean(b)
        product, squares = ma * mb, ma.square_().add_(mb.square_())
        covariance = window_mean(a * b).sub_(product).mul_(2 * sample).add_(c2)
        variance = window_mean((a * a).addcmul_(b, b)).sub_(squares).mul_(sample).add_(c2)
        numerator = product.mul_(2).add_(c1).mul_(covariance)
        ssim = numerator.div_(squares.add_(c1).mul_(variance))
        if whole is not None:
            ssim = ssim.where(whole[first : first + ssim.shape[1]], 0)
        total += ssim.sum((1, 2))
    return total / (windows * (x.shape[2] - side + 1) if whole is None else int(whole.sum()))


def _uniform(image: Tensor) -> Tensor:
    """Means of all 7 x 7 windows inside (c, H, W): (c, H - 6, W - 6); 7 = 2 + 2 + 2 + 1, four additions an axis."""
    for axis in (1, 2):
        size = image.shape[axis]
        two = image.narrow(axis, 0, size - 1) + image.narrow(axis, 1, size - 1)
        seven = two.narrow(axis, 0, size - 6) + two.narrow(axis, 2, size - 6)
        seven += two.narrow(axis, 4, size - 6)
        seven += image.narrow(axis, 6, size - 6)
        image = seven
    return image.div_(WINDOW**2)


def _gaussian(image: Tensor) -> Tensor:
    """Means of all 11 x 11 windows inside (c, H, W), weighted by fspecial("gaussian", 11, 1.5): (c, H - 10, W - 10)."""
    weights = [math.exp(-(offset**2) / (2 * SIGMA**2)) for offset in range(RADIUS + 1)]
    scale = 1 / (weights[0] + 2 * sum(weights[1:]))
    for axis in (1, 2):
        size = image.shape[axis] - 2 * RADIUS
        mean = image.narrow(axis, RADIUS, size) * (weights[0] * scale)
        for offset, weight in enumerate(weights[1:], 1):
            pair = image.narrow(axis, RADIUS - offset, size) + image.narrow(axis, RADIUS + offset, size)
            mean.add_(pair, alpha=weight * scale)
        image = mean
    return image
