"""The gradient of the four losses on the GPU: every element gathers what its neighbours owe it.

The gradient loss has a voxel at (b, i, j) for b, i, j >= 1. With its differences d of a cube, and of both cubes the
sums q of their squares and FLOOR, the magnitude is g = sqrt(q), and

    e = sign(g(p) - g(t)) / g(p) * weight

is what every difference of p is multiplied with: p(b, i, j) gets e (db + dh + dw) of its own voxel, -e db of the voxel
at b + 1, -e dh of that at i + 1 and -e dw of that at j + 1. For the target e is -sign(...) / g(t) * weight. The
magnitudes are computed again rather than stored: for four pixels theirs, the four below and the one right of them.
"""

import triton
import triton.language as tl

from .triton_pixels import (
    ACOS_BOUND,
    PI,
    columns_from,
    columns_of,
    cosine_of,
    differences,
    load,
    load_four,
    place,
    store_four,
    tile_of,
    weight_of,
)


@triton.jit
def from_right(x, edge):
    """x at column j + 1; `edge` is that of the last column."""
    _, second, third, fourth = columns_of(x)
    return tile_of(second, third, fourth, edge)


@triton.jit
def left_and_last(x, edge):
    """x at column j - 1, of which `edge` is the first, and the last column of x."""
    first, second, third, fourth = columns_of(x)
    return tile_of(edge, first, second, third), fourth


@triton.jit
def factors(p_square, t_square, weight, voxel):
    """e of the prediction and of the target; 0 where there is no voxel."""
    e = tl.where(p_square > t_square, weight, tl.where(p_square < t_square, -weight, 0.0))
    e = tl.where(voxel, e, 0.0)
    return e * tl.rsqrt(p_square), -e * tl.rsqrt(t_square)


@triton.jit
def spectral_slopes(pp, tt, pt, sam, cosine, channels, floor_square):
    """a, x, y such that the angle's part of the gradients is a (t - x p) for p and a (p - y t) for t.

    The angle between spectra of one band is constant, where both differences would leave their roundings, over |p|.
    """
    c, p_norm, t_norm, valid = cosine_of(pp, tt, pt)
    bent = valid & (tl.abs(c) <= ACOS_BOUND)
    slope = -sam * tl.where(bent, tl.rsqrt(tl.where(bent, (1 - c) * (1 + c), 1.0)), 0.0) - cosine
    slope = tl.where(valid & (channels > 1), slope, 0.0) * weight_of(tt, floor_square)
    return slope / (p_norm * t_norm), c * tl.div_rn(t_norm, p_norm), c * tl.div_rn(p_norm, t_norm)


@triton.jit
def backward_kernel(
    p_ptr,
    t_ptr,
    spectra_ptr,
    l1_ptr,
    sam_ptr,
    cosine_ptr,
    gradient_ptr,
    dp_ptr,
    dt_ptr,
    channels,
    height,
    units,
    chunks,
    tiles,
    tiles_x,
    elements,
    pixels,
    voxels,
    floor_square,
    UNIT: tl.constexpr,
    BANDS: tl.constexpr,
    LANES: tl.constexpr,
    GROUPS: tl.constexpr,
):
    """Both gradients of one tile of pixels and BANDS bands; that of a band is complete, and stored, one band later."""
    program, width = tl.program_id(0).to(tl.int64), units * UNIT
    tile, plane = (program % tiles).to(tl.int32), height * width
    start, n = (program // tiles % chunks).to(tl.int32) * BANDS, program // tiles // chunks
    i, j = place(tile, tiles_x, tl.arange(0, LANES), LANES, GROUPS)
    pixel, columns = i * width + j, columns_from(j)
    inside, above, below = i < height, (i > 0) & (i < height), i + 1 < height
    left, left_below = inside & (j > 0) & (j < width), below & (j > 0) & (j < width)
    right, above_right = inside & (j + 4 < width), above & (j + 4 < width)
    voxel = above[:, None] & (columns > 0) & (columns < width)
    voxel_below = below[:, None] & (columns > 0) & (columns < width)

    l1, gradient = tl.load(l1_ptr) / elements, tl.load(gradient_ptr) / voxels
    sam, cosine = tl.load(sam_ptr) / (PI * pixels), tl.load(cosine_ptr) / pixels
    spectra = spectra_ptr + 3 * n * plane + pixel
    pp, tt = load_four(spectra, inside, j, width, UNIT), load_four(spectra + plane, inside, j, width, UNIT)
    pt = load_four(spectra + 2 * plane, inside, j, width, UNIT)
    a, x, y = spectral_slopes(pp, tt, pt, sam, cosine, channels, floor_square)

    band_before = (n * channels + start - 1) * plane
    ps, ts = p_ptr + band_before + pixel, t_ptr + band_before + pixel
    had = start > 0
    p_before = load_four(ps, inside & had, j, width, UNIT)
    t_before = load_four(ts, inside & had, j, width, UNIT)
    p_before_below = load_four(ps + width, below & had, j, width, UNIT)
    t_before_below = load_four(ts + width, below & had, j, width, UNIT)
    p_before_right, t_before_right = load(ps + 4, right & had), load(ts + 4, right & had)
    dp = tl.zeros((LANES, 4), tl.float32)  # of the band before, but for what this band's voxels owe it
    dt = dp
    for band in range(start, min(start + BANDS, channels) + 1):
        ps += plane
        ts += plane
        here = band < channels
        weight = tl.where((band > 0) & here, gradient, 0.0)
        p = load_four(ps, inside & here, j, width, UNIT)
        t = load_four(ts, inside & here, j, width, UNIT)
        p_above = load_four(ps - width, above & here, j, width, UNIT)
        t_above = load_four(ts - width, above & here, j, width, UNIT)
        p_below = load_four(ps + width, below & here, j, width, UNIT)
        t_below = load_four(ts + width, below & here, j, width, UNIT)
        p_edge, t_edge = load(ps - 1, left & here), load(ts - 1, left & here)
        p_edge_below = load(ps + width - 1, left_below & here)
        t_edge_below = load(ts + width - 1, left_below & here)
        p_right, t_right = load(ps + 4, right & here), load(ts + 4, right & here)
        p_above_right = load(ps - width + 4, above_right & here)
        t_above_right = load(ts - width + 4, above_right & here)

        p_left, p_last = left_and_last(p, p_edge)
        t_left, t_last = left_and_last(t, t_edge)
        pb, ph, pw, p_square = differences(p, p_before, p_above, p_left)
        tb, th, tw, t_square = differences(t, t_before, t_above, t_left)
        ep, et = factors(p_square, t_square, weight, voxel)
        finished, to = inside & (band > start), band_before + pixel
        if dp_ptr is not None:
            store_four(dp_ptr + to, dp - ep * pb, finished, j, width, UNIT)
        if dt_ptr is not None:
            store_four(dt_ptr + to, dt - et * tb, finished, j, width, UNIT)
        sign = tl.where(p > t, l1, tl.where(p < t, -l1, 0.0))
        dp = sign + a * tl.fma(-x, p, t) + ep * (pb + ph + pw)
        dt = -sign + a * tl.fma(-y, t, p) + et * (tb + th + tw)
        p_columns, t_columns = ep * pw, et * tw

        p_left, _ = left_and_last(p_below, p_edge_below)
        t_left, _ = left_and_last(t_below, t_edge_below)
        _, ph, _, p_square = differences(p_below, p_before_below, p, p_left)
        _, th, _, t_square = differences(t_below, t_before_below, t, t_left)
        ep, et = factors(p_square, t_square, weight, voxel_below)
        dp -= ep * ph
        dt -= et * th

        _, _, pw, p_square = differences(p_right, p_before_right, p_above_right, p_last)
        _, _, tw, t_square = differences(t_right, t_before_right, t_above_right, t_last)
        ep, et = factors(p_square, t_square, weight, above_right)
        dp -= from_right(p_columns, ep * pw)
        dt -= from_right(t_columns, et * tw)

        p_before, p_before_below, p_before_right = p, p_below, p_right
        t_before, t_before_below, t_before_right = t, t_below, t_right
        band_before += plane
