"""Device functions of `upsample_add`: rows of the product, gathered features, and the gradient as rows of a product.

Output m = b r^2 + p r + q of the conv is phase (p, q) of plane b; a tile (`bicubic.triton_tiles`) holds the
BM = BB PP Q outputs of BB planes and PP phases p. A group may begin in the middle of a plane: what a tile holds of
other groups is masked.
"""

import triton
import triton.language as tl

from ..bicubic_upsample.triton_tiles import enlarged_mask, enlarged_offsets, enlarged_rows


@triton.jit
def outputs_of(b0, p0, first, last, R: tl.constexpr, BB: tl.constexpr, PP: tl.constexpr, Q: tl.constexpr):
    """The outputs m (BM,) of a tile, and which of them exist and are in first .. last - 1."""
    row = tl.arange(0, BB * PP * Q)
    q = row % Q
    m = (b0 + row // (PP * Q)) * (R * R) + (p0 + row // Q % PP) * R + q
    mask = (m >= first) & (m < last)
    if Q != R:
        mask &= q < R
    return m, mask


@triton.jit
def enlarged_tile(
    plane,
    b0,
    p0,
    first,
    last,
    pixel0,
    dy,
    dx,
    height,
    width,
    R: tl.constexpr,
    BB: tl.constexpr,
    PP: tl.constexpr,
    Q: tl.constexpr,
    P: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """Offsets and mask (BB PP, P Q) of outputs first .. last - 1 of a tile, at its pixels moved by (dy, dx).

    WHOLE: no group begins between the phases q of one p, so that the mask is one for all q and vectors stay whole.
    """
    row, x = tl.arange(0, BB * PP), tl.arange(0, P * Q)
    b, p = b0 + row // PP, p0 + row % PP
    i = enlarged_rows(pixel0, width, P, Q)
    j = pixel0 + x // Q - i * width + dx
    offsets = enlarged_offsets(plane + b, p, i + dy, pixel0 + dy * width + dx, height, width, R, P, Q)
    m = (b * (R * R) + p * R)[:, None]
    if not WHOLE:
        m += (x % Q)[None, :]
    inside = enlarged_mask(pixel0, height * width, R, P, Q) & (i + dy >= 0) & (i + dy < height) & (j >= 0) & (j < width)
    return offsets, (m >= first) & (m < last) & inside[None, :]


@triton.jit
def as_outputs(tile, BB: tl.constexpr, PP: tl.constexpr, Q: tl.constexpr, P: tl.constexpr):
    """(BB PP, P Q), as it lies in the enlarged image, to (BM, P)."""
    return tl.reshape(tl.permute(tl.reshape(tile, (BB, PP, P, Q)), (0, 1, 3, 2)), (BB * PP * Q, P))


@triton.jit
def gather(features_ptr, k, last_k, pixel0, height, width, KH: tl.constexpr, KW: tl.constexpr, P: tl.constexpr):
    """What weight k = (c KH + ty) KW + tx of an output meets at P pixels, (len(k), P): the features of channel c at
    (i + ty - KH // 2, j + tx - KW // 2), zeros outside the image."""
    pixel = pixel0 + tl.arange(0, P)
    i = pixel // width
    j = pixel - i * width
    i = tl.where(pixel < height * width, i, -KH)  # beyond the last pixel: outside for every tap
    c, tap = (k // (KH * KW)).to(tl.int64), k % (KH * KW)
    dy, dx = tap // KW - KH // 2, tap % KW - KW // 2
    row, column = i[None, :] + dy[:, None], j[None, :] + dx[:, None]
    mask = (row >= 0) & (row < height) & (column >= 0) & (column < width) & (k < last_k)[:, None]
    base = features_ptr + c * height * width + dy * width + dx
    return tl.load(base[:, None] + pixel[None, :], mask=mask, other=0.0)
