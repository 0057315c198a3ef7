"""The four losses on the GPU: one pass over both cubes for their sums, a small second stage, and one pass back.

A thread owns four pixels of a row, side by side, and walks over bands. A tile of pixels is (LANES, 4) of them: GROUPS
fours along a row, LANES / GROUPS rows. The four columns of a tile are registers of one thread, so a neighbour in the
row is another register, and only the pixel before or after the four is loaded again, from the L1 cache.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..._core.library import gradients_like
from ...triton import config, launch, next_power_of_2, workspace
from .triton_backward import backward_kernel
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

__all__ = ["backward", "forward"]


@triton.jit
def arccos(x):
    """arccos to about 2 units in the last place: through arcsin on [0, 1/2], where its polynomial is that of Cephes."""
    a = tl.abs(x)
    near_one = a > 0.5
    z = tl.where(near_one, 0.5 - 0.5 * a, a * a)
    s = tl.where(near_one, tl.sqrt_rn(z), a)
    p = 4.2163199048e-2 * z + 2.4181311049e-2
    p = p * z + 4.5470025998e-2
    p = p * z + 7.4953002686e-2
    p = p * z + 1.6666752422e-1
    arcsin = p * z * s + s
    result = tl.where(near_one, 2 * arcsin, 0.5 * PI - arcsin)
    return tl.where(x < 0, PI - result, result)


@triton.jit
def from_left(x, edge):
    """x at column j - 1; `edge` is that of the first column."""
    first, second, third, _ = columns_of(x)
    return tile_of(edge, first, second, third)


@triton.jit
def sums_kernel(
    p_ptr,
    t_ptr,
    spectra_ptr,
    partial_ptr,
    channels,
    height,
    units,
    tiles,
    tiles_x,
    floor_square,
    UNIT: tl.constexpr,
    SPLITS: tl.constexpr,
    LANES: tl.constexpr,
    GROUPS: tl.constexpr,
    UNROLL: tl.constexpr,
):
    """The four sums of one tile of pixels, and <p, p>, <t, t>, <p, t> of its spectra, which backward needs.

    Each of SPLITS groups of threads takes a part of the bands; their sums are added at the end. A row has units * UNIT
    pixels. partial is (4, programs), spectra (N, 3, H, W).
    """
    program, width = tl.program_id(0).to(tl.int64), units * UNIT
    n, tile, plane = program // tiles, (program % tiles).to(tl.int32), height * width
    chunk = (channels + SPLITS - 1) // SPLITS
    lane = tl.arange(0, SPLITS * LANES)
    i, j = place(tile, tiles_x, lane % LANES, LANES, GROUPS)
    first = lane // LANES * chunk
    pixel = n * channels * plane + first.to(tl.int64) * plane + i * width + j
    ps, ts = p_ptr + pixel, t_ptr + pixel
    inside, has_left = i < height, (i < height) & (j > 0) & (j < width)

    before = inside & (first > 0) & (first < channels)
    p_before = load_four(ps - plane, before, j, width, UNIT)
    t_before = load_four(ts - plane, before, j, width, UNIT)
    pp = tl.zeros((SPLITS * LANES, 4), tl.float32)
    tt, pt, gradient = pp, pp, pp
    l1 = tl.zeros((SPLITS * LANES,), tl.float32)
    for k in tl.range(0, chunk, loop_unroll_factor=UNROLL):
        band = first + k
        here = inside & (band < channels)
        above, left = here & (i > 0), has_left & (band < channels)
        p, t = load_four(ps, here, j, width, UNIT), load_four(ts, here, j, width, UNIT)
        p_above = load_four(ps - width, above, j, width, UNIT)
        t_above = load_four(ts - width, above, j, width, UNIT)
        p_left, t_left = load(ps - 1, left), load(ts - 1, left)
        pp += p * p
        tt += t * t
        pt += p * t
        l1 += tl.sum(tl.abs(p - t), 1)
        _, _, _, p_square = differences(p, p_before, p_above, from_left(p, p_left))
        _, _, _, t_square = differences(t, t_before, t_above, from_left(t, t_left))
        difference = tl.abs(tl.sqrt(p_square) - tl.sqrt(t_square))
        gradient += tl.where(((band > 0) & (band < channels))[:, None], difference, 0.0)
        p_before, t_before = p, t
        ps += plane
        ts += plane
    columns = columns_from(j)
    gradient = tl.where((inside & (i > 0))[:, None] & (columns > 0) & (columns < width), gradient, 0.0)
    programs = tl.num_programs(0)
    tl.store(partial_ptr + program, tl.sum(l1, 0))
    tl.store(partial_ptr + 3 * programs + program, tl.sum(tl.sum(gradient, 1), 0))

    if SPLITS > 1:
        pp = tl.sum(tl.reshape(pp, (SPLITS, LANES, 4)), 0)
        tt = tl.sum(tl.reshape(tt, (SPLITS, LANES, 4)), 0)
        pt = tl.sum(tl.reshape(pt, (SPLITS, LANES, 4)), 0)
    i, j = place(tile, tiles_x, tl.arange(0, LANES), LANES, GROUPS)
    spectra = spectra_ptr + 3 * n * plane + i * width + j
    store_four(spectra, pp, i < height, j, width, UNIT)
    store_four(spectra + plane, tt, i < height, j, width, UNIT)
    store_four(spectra + 2 * plane, pt, i < height, j, width, UNIT)
    cosine, _, _, _ = cosine_of(pp, tt, pt)
    bounded = tl.where(cosine > ACOS_BOUND, ACOS_BOUND, tl.where(cosine < -ACOS_BOUND, -ACOS_BOUND, cosine))
    weight = weight_of(tt, floor_square)
    angle = weight * arccos(bounded)  # tl.minimum and tl.maximum would hide NaN
    inside = (i < height)[:, None] & (columns_from(j) < width)
    tl.store(partial_ptr + programs + program, tl.sum(tl.sum(tl.where(inside, angle, 0.0), 1), 0))
    tl.store(partial_ptr + 2 * programs + program, tl.sum(tl.sum(tl.where(inside, weight * (1 - cosine), 0.0), 1), 0))


@triton.jit
def means_kernel(
    partial_ptr,
    l1_ptr,
    sam_ptr,
    cosine_ptr,
    gradient_ptr,
    programs,
    elements,
    pixels,
    voxels,
    BLOCK: tl.constexpr,
):
    """The four means: the programs' sums added in a fixed order."""
    l1 = tl.zeros((BLOCK,), tl.float32)
    sam, cosine, gradient = l1, l1, l1
    for start in range(0, programs, BLOCK):
        i = start + tl.arange(0, BLOCK)
        l1 += tl.load(partial_ptr + i, mask=i < programs, other=0.0)
        sam += tl.load(partial_ptr + programs + i, mask=i < programs, other=0.0)
        cosine += tl.load(partial_ptr + 2 * programs + i, mask=i < programs, other=0.0)
        gradient += tl.load(partial_ptr + 3 * programs + i, mask=i < programs, other=0.0)
    tl.store(l1_ptr, tl.div_rn(tl.sum(l1, 0), elements))
    tl.store(sam_ptr, tl.div_rn(tl.sum(sam, 0), PI * pixels))
    tl.store(cosine_ptr, tl.div_rn(tl.sum(cosine, 0), pixels))
    tl.store(gradient_ptr, tl.div_rn(tl.sum(gradient, 0), voxels))


def _tiles(x: Tensor, lanes: int) -> tuple[int, int, dict[str, int]]:
    """How many tiles cover a plane, and how many a row of it, and the constants that follow from its width."""
    _, _, h, w = x.shape
    fours = triton.cdiv(w, 4)
    groups = min(next_power_of_2(fours), 16, lanes)
    tiles_x = triton.cdiv(fours, groups)
    return tiles_x * triton.cdiv(h, lanes // groups), tiles_x, {"GROUPS": groups, "UNIT": 1 if w % 4 else 4}


def _counts(x: Tensor) -> tuple[float, float, float]:
    """Elements, pixels and voxels of the gradient maps; 1 where there is none of these."""
    n, c, h, w = x.shape
    return float(n * c * h * w), float(n * h * w), float(max(n * (c - 1) * (h - 1) * (w - 1), 1))


def _square(x: Tensor, floor: float) -> float:
    """The square of a spectrum of this root mean square over the bands of `x`, in the range of float32: beyond it,
    Triton's interpreter takes a float64 and computes all in it."""
    square = x.shape[1] * floor * floor
    return min(square, 3.4e38) if square >= 2.0**-126 else 0.0


def forward(prediction: Tensor, target: Tensor, floor: float) -> tuple[Tensor, ...]:
    """l1, sam, cosine, gradient, and what backward needs of the spectra. Work is counted in pixels of the batch."""
    n, c, h, w = prediction.shape
    constants = config("spectral_losses.sums", prediction.dtype, n * h * w)
    tiles, tiles_x, shape = _tiles(prediction, constants["LANES"])
    spectra, partial = workspace(prediction, n, 3, h, w), workspace(prediction, 4, n * tiles)
    sizes = (c, h, w // shape["UNIT"], tiles, tiles_x, _square(prediction, floor))
    launch(sums_kernel, (n * tiles,), prediction, target, spectra, partial, *sizes, **shape, **constants)
    means = [workspace(prediction) for _ in range(4)]
    constants = config("spectral_losses.means", torch.float32, n * tiles)
    launch(means_kernel, (1,), partial, *means, n * tiles, *_counts(prediction), **constants)
    return *means, spectra


def backward(
    l1: Tensor,
    sam: Tensor,
    cosine: Tensor,
    gradient: Tensor,
    prediction: Tensor,
    target: Tensor,
    spectra: Tensor,
    floor: float,
    needs: Sequence[bool],
) -> list[Tensor]:
    """Gradients of prediction and target."""
    gradients = gradients_like(needs, prediction, target)
    n, c, h, w = prediction.shape
    constants = config("spectral_losses.backward", prediction.dtype, n * h * w)
    tiles, tiles_x, shape = _tiles(prediction, constants["LANES"])
    chunks = triton.cdiv(c, constants["BANDS"])
    results = [result if needed else None for result, needed in zip(gradients, needs, strict=True)]
    tensors = (prediction, target, spectra, l1, sam, cosine, gradient, *results)
    sizes = (c, h, w // shape["UNIT"], chunks, tiles, tiles_x, *_counts(prediction), _square(prediction, floor))
    launch(backward_kernel, (n * chunks * tiles,), *tensors, *sizes, **shape, **constants)
    return gradients
