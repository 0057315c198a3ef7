"""Device functions of enlarged images, for `bicubic_upsample` and `upsample_add`.

An enlarged plane is r^2 small ones, its phases: pixel (r i + p, r j + q) is pixel (i, j) of phase (p, q). A tile holds
BB planes, PP consecutive p of them, P consecutive pixels of the small plane and all q, padded to Q = the next power of
two. It is stored as (BB, PP, P, Q): q and then the pixel run along a row of the enlarged image.
"""

import triton
import triton.language as tl


@triton.jit
def near_weight(s, A: tl.constexpr, D: tl.constexpr):
    """Keys' cubic at the distance s / D, 0 to 1. The numerator over D^3 is a whole number, or a quarter of one, that
    float32 holds exactly up to D = 200; so the division makes the only rounding."""
    return tl.div_rn(((A + 2) * s - (A + 3) * D) * s * s + D * D * D, s * 0 + D * D * D)


@triton.jit
def far_weight(s, A: tl.constexpr, D: tl.constexpr):
    """Keys' cubic at the distance 1 + s / D: A s (1 - s)^2."""
    return tl.div_rn(A * s * (D - s) * (D - s), s * 0 + D * D * D)


@triton.jit
def tap_weights(phase, A: tl.constexpr, R: tl.constexpr):
    """The weights of the four taps of a phase."""
    D: tl.constexpr = 2 * R
    m = 2 * phase + 1 - R
    s = tl.where(m < 0, m + D, m).to(tl.float32)  # s / D is the fraction of the output's position
    return far_weight(s, A, D), near_weight(s, A, D), near_weight(D - s, A, D), far_weight(D - s, A, D)


@triton.jit
def first_tap(phase, R: tl.constexpr):
    """Where tap 0 of a phase lies, from the pixel that the phase belongs to: -2 or -1."""
    return tl.where(2 * phase + 1 < R, -2, -1)


@triton.jit
def window_weights(phase, A: tl.constexpr, R: tl.constexpr):
    """A phase's weights of the pixels -2 .. 2 from its own."""
    early = first_tap(phase, R) == -2
    w = tap_weights(phase, A, R)
    return (
        tl.where(early, w[0], 0.0),
        tl.where(early, w[1], w[0]),
        tl.where(early, w[2], w[1]),
        tl.where(early, w[3], w[2]),
        tl.where(early, 0.0, w[3]),
    )


@triton.jit
def border(t, size, SYMMETRIC: tl.constexpr):
    """The pixel of 0 .. size - 1 that stands for t, at most two pixels outside; some pixel for any other t."""
    if SYMMETRIC:
        t = tl.where(t < 0, -1 - t, t)
        t = tl.where(t >= size, 2 * size - 1 - t, t)
        return tl.maximum(t, 0)  # size 1
    return tl.minimum(tl.maximum(t, 0), size - 1)


@triton.jit
def window(t, size, SYMMETRIC: tl.constexpr):
    """The pixels that stand for t - 2 .. t + 2."""
    return (
        border(t - 2, size, SYMMETRIC),
        border(t - 1, size, SYMMETRIC),
        border(t, size, SYMMETRIC),
        border(t + 1, size, SYMMETRIC),
        border(t + 2, size, SYMMETRIC),
    )


@triton.jit
def bicubic_tile(
    low_ptr,
    plane,
    inside,
    p0,
    pixel0,
    height,
    width,
    A: tl.constexpr,
    R: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    BB: tl.constexpr,
    PP: tl.constexpr,
    P: tl.constexpr,
    Q: tl.constexpr,
):
    """The bicubic image of the planes `plane` (BB,) of low as a tile, (BB, PP, P, Q); columns of the window one by one.

    Pixels are loaded as (BB, 1, P, 1), so that all phases of a pixel are in the thread that loads it.

    The four taps of every phase lie in a window of five rows and columns; a weight that is not there is skipped, so
    that what is not finite spreads no further than it must.
    """
    pixel = pixel0 + tl.arange(0, P)[None, None, :, None]
    i = pixel // width
    j = pixel - i * width
    mask = inside[:, None, None, None] & (pixel < height * width)
    base = low_ptr + plane[:, None, None, None] * (height * width)
    weights_y = window_weights((p0 + tl.arange(0, PP))[None, :, None, None], A, R)
    weights_x = window_weights(tl.arange(0, Q)[None, None, None, :], A, R)
    tile = tl.zeros((BB, PP, P, Q), tl.float32)
    rows, columns = window(i, height, SYMMETRIC), window(j, width, SYMMETRIC)
    for dx in tl.static_range(0, 5):
        sums = tl.zeros((BB, PP, P, 1), tl.float32)
        for dy in tl.static_range(0, 5):
            value = tl.load(base + (rows[dy] * width + columns[dx]), mask=mask, other=0.0).to(tl.float32)
            sums += tl.where(weights_y[dy] != 0, weights_y[dy] * value, 0.0)
        tile += tl.where(weights_x[dx] != 0, weights_x[dx] * sums, 0.0)
    return tile


@triton.jit
def enlarged_rows(pixel0, width, P: tl.constexpr, Q: tl.constexpr):
    """Row i of the small plane for each of the P Q elements of a tile's row. Written so that Triton sees that it is
    the same for whole vectors."""
    i0 = pixel0 // width
    return i0 + ((pixel0 - i0 * width) * Q + tl.arange(0, P * Q)) // (width * Q)


@triton.jit
def enlarged_offsets(plane, p, i, pixel0, height, width, R: tl.constexpr, P: tl.constexpr, Q: tl.constexpr):
    """Offsets (rows, P Q) in the enlarged image of the rows `p` of planes `plane`.

    Pixel i W + j of phase (p, q) is at (r i + p) r W + r j + q = r W p + r W (r - 1) i + r (i W + j) + q.
    """
    x = tl.arange(0, P * Q)
    if Q != R:
        x = x // Q * R + x % Q
    row = plane * (R * R) * height * width + p * (R * width) + pixel0.to(tl.int64) * R
    return row[:, None] + (i.to(tl.int64) * (width * (R * (R - 1))) + x)[None, :]


@triton.jit
def enlarged_mask(pixel0, pixels, R: tl.constexpr, P: tl.constexpr, Q: tl.constexpr):
    """Which of the P Q elements of a tile's row are in the image."""
    x = tl.arange(0, P * Q)
    mask = x < (pixels - pixel0) * Q
    if Q != R:
        mask &= x % Q < R
    return mask
