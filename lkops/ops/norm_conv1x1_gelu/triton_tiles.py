"""What forward and backward compute of a tile: BLOCK_P pixels of one sample with all their channels.

z is the normalised x scaled and shifted, xhat the normalised x itself, h = W z + b. Up to 256 channels are held at
once; of more, the first BLOCK_ALL, and the rest is read again where it is needed.
"""

import triton
import triton.language as tl

from ...triton.device import dot


@triton.jit
def load_tile(image_ptr, c, p, channels, plane):
    """Channels c at pixels p of the sample that starts at image_ptr; zeros outside."""
    mask = (c[:, None] < channels) & (p[None, :] < plane)
    return tl.load(image_ptr + c[:, None].to(tl.int64) * plane + p[None, :], mask=mask, other=0.0)


@triton.jit
def store_tile(image_ptr, c, p, channels, plane, values):
    """Counterpart of `load_tile`."""
    mask = (c[:, None] < channels) & (p[None, :] < plane)
    offsets = c[:, None].to(tl.int64) * plane + p[None, :]
    tl.store(image_ptr + offsets, values.to(image_ptr.dtype.element_ty), mask=mask)


@triton.jit
def moments(x, x_ptr, p, plane, eps, CHANNELS: tl.constexpr, BLOCK_ALL: tl.constexpr):
    """Mean over the channels, its rest and 1 / sqrt(variance + eps) of pixels p; `x` has the first BLOCK_ALL channels.

    xhat = (x - mean - rest) / std. The rest, the mean of what remains after subtracting the mean, corrects it for
    float32, where its rounding is felt if it is far from 0: it is less than that rounding, and added to the mean would
    be lost again. No less of the mean square is left than those roundings leave: channels that are alike would have a
    variance of noise. And a remainder whose square would overflow counts as a large number: the mean square did then,
    and infinity less infinity is none.
    """
    CORRECTED: tl.constexpr = x_ptr.dtype.element_ty == tl.float32
    c = tl.arange(0, BLOCK_ALL)
    mean = tl.sum(x, 0)
    for start in range(BLOCK_ALL, CHANNELS, BLOCK_ALL):
        mean += tl.sum(load_tile(x_ptr, start + c, p, CHANNELS, plane).to(tl.float32), 0)
    mean = mean / CHANNELS
    centred = tl.where(c[:, None] < CHANNELS, x - mean[None, :], 0.0)
    squares = tl.sum(centred * centred, 0)
    rest = tl.zeros_like(mean)
    if CORRECTED:
        rest += tl.sum(centred, 0)
    for start in range(BLOCK_ALL, CHANNELS, BLOCK_ALL):
        more = load_tile(x_ptr, start + c, p, CHANNELS, plane).to(tl.float32)
        centred = tl.where(start + c[:, None] < CHANNELS, more - mean[None, :], 0.0)
        squares += tl.sum(centred * centred, 0)
        if CORRECTED:
            rest += tl.sum(centred, 0)
    rest = rest / CHANNELS
    mean_square = squares / CHANNELS
    bounded = tl.where(tl.abs(rest) > 1.8e19, 1.8e19, rest)
    variance = mean_square - bounded * bounded
    least = 1e-6 * mean_square
    variance = tl.where(variance < least, least, variance)  # tl.maximum would hide NaN
    return mean, rest, tl.rsqrt(variance + eps)


@triton.jit
def normalised(x, mean, rest, rstd, c, CHANNELS: tl.constexpr):
    """xhat of channels c, in float32; zeros outside, where a large mean may give infinity."""
    xhat = (x.to(tl.float32) - mean[None, :] - rest[None, :]) * rstd[None, :]
    return tl.where(c[:, None] < CHANNELS, xhat, 0.0)


@triton.jit
def load_vector(ptr, i, size):
    """Parameters i in float32; zeros outside."""
    return tl.load(ptr + i, mask=i < size, other=0.0).to(tl.float32)


@triton.jit
def load_weight(w_ptr, k, c, OUTPUTS: tl.constexpr, CHANNELS: tl.constexpr):
    """W of outputs k and channels c; zeros outside."""
    mask = (k[:, None] < OUTPUTS) & (c[None, :] < CHANNELS)
    return tl.load(w_ptr + k[:, None] * CHANNELS + c[None, :], mask=mask, other=0.0)


@triton.jit
def before_gelu(
    x,
    mean,
    rest,
    rstd,
    x_ptr,
    norm_weight_ptr,
    norm_bias_ptr,
    w_ptr,
    b_ptr,
    k,
    p,
    plane,
    CHANNELS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """h = W z + b of outputs k at pixels p, in products over BLOCK_C channels; `x` is used where these are all."""
    h = tl.zeros((k.shape[0], p.shape[0]), tl.float32)
    for start in range(0, CHANNELS, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)
        if BLOCK_C < CHANNELS:
            xhat = normalised(load_tile(x_ptr, c, p, CHANNELS, plane), mean, rest, rstd, c, CHANNELS)
        else:
            xhat = normalised(x, mean, rest, rstd, c, CHANNELS)
        scale, shift = load_vector(norm_weight_ptr, c, CHANNELS), load_vector(norm_bias_ptr, c, CHANNELS)
        z = xhat * scale[:, None] + shift[:, None]
        h = dot(load_weight(w_ptr, k, c, OUTPUTS, CHANNELS), z.to(w_ptr.dtype.element_ty), h, PRECISION)
    if b_ptr is not None:
        h += load_vector(b_ptr, k, OUTPUTS)[:, None]
    return h
