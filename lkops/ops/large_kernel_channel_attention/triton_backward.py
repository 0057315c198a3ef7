"""Backward of large-kernel channel attention on the GPU.

With v = Wm (s c) + bm and dv = grad u, for each group:

    du = grad v + ds_u        ds_c = s Wm^T dv, the direct gradient of each part of the concat c = (u, a1, a2)
    G[m, k] = sum over pixels of dv[m] c[k], a sample's; then dWm = sum over n of s G, and ds = sum over m of Wm G

`ds_c` of all parts is one tensor (3, N, C, H, W). Through the gate comes `dmean`, (N, 3C), which every pixel of a
channel gets added; the cascade's backward adds it where it reads or completes a part.
"""

# long: one stage's kernels, with the device functions that they share

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...triton import config, launch, next_power_of_2, precision, workspace
from ...triton.device import dot
from ..depthwise_conv2d.triton_kernels import (
    Partials,
    correlate,
    pixels_of,
    row_blocks,
    splits_of,
    tiles_of,
    weight_gradient,
)
from . import wide
from .triton_forward import cascade_config, kernel_constants, members_of, mixed, one_conv, slab


@triton.jit
def mix_backward_kernel(
    grad_ptr,
    u_ptr,
    a1_ptr,
    a2_ptr,
    scale_ptr,
    wm_ptr,
    bm_ptr,
    du_ptr,
    y_ptr,
    parts_ptr,
    dots_ptr,
    dwm_ptr,
    dbm_ptr,
    batch,
    channels,
    per_group,
    plane,
    groups,
    chunks,
    shares,
    samples,
    tiles,
    INTERLEAVE: tl.constexpr,
    ONE_CHUNK: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_P: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """What the grouped 1x1 conv and the product pass back, from a share of the pixels of some samples.

    A program owns BLOCK_K members of a group (all of them if ONE_CHUNK), `samples` samples, and `tiles` tiles of
    BLOCK_P pixels of each. It writes its members' ds_c; du = grad v, for which the programs of a group take
    turns with the tiles; its part of ds, (N, 3C, shares); and its parts of dWm and dbm.
    """
    program = tl.program_id(0)
    group, chunk, split = program % groups, program // groups % chunks, program // (groups * chunks)
    share, first = split % shares, (split // shares * samples).to(tl.int64)
    members = 3 * per_group
    rows, m = tl.arange(0, BLOCK_M), chunk * BLOCK_K + tl.arange(0, BLOCK_K)
    is_row, is_member = rows < per_group, m < members
    outputs = group * per_group + rows
    part, c = members_of(group, m, channels, per_group, INTERLEAVE)
    at_w, mask_w = outputs[:, None] * members + m[None, :], is_row[:, None] & is_member[None, :]
    dwm = tl.zeros((BLOCK_M, BLOCK_K), tl.float32)
    dbm = tl.zeros((BLOCK_M,), tl.float32)
    for sample in range(0, tl.minimum(samples, batch - first)):
        n = first + sample
        at_gate = n * 3 * channels + part * channels + c
        scale = tl.load(scale_ptr + at_gate, mask=is_member, other=0.0)
        scaled = tl.load(wm_ptr + at_w, mask=mask_w, other=0.0).to(tl.float32) * scale[None, :]
        scaled = scaled.to(wm_ptr.dtype.element_ty)
        products = tl.zeros((BLOCK_M, BLOCK_K), tl.float32)
        for tile in range(share * tiles, tl.minimum(share * tiles + tiles, tl.cdiv(plane, BLOCK_P))):
            i = tile * BLOCK_P + tl.arange(0, BLOCK_P)
            at = ((n * channels + outputs) * plane)[:, None] + i[None, :]
            mask = is_row[:, None] & (i < plane)[None, :]
            grad = tl.load(grad_ptr + at, mask=mask, other=0.0).to(tl.float32)
            u = tl.load(u_ptr + at, mask=mask, other=0.0).to(tl.float32)
            dv = grad * u
            dbm += tl.sum(dv, 1)
            dv = dv.to(wm_ptr.dtype.element_ty)
            maps = slab(u_ptr, a1_ptr, a2_ptr, n, part, c, is_member, i, channels, plane)
            if du_ptr is not None:
                if ONE_CHUNK:
                    v = dot(scaled, maps, tl.zeros((BLOCK_M, BLOCK_P), tl.float32), PRECISION)
                    if bm_ptr is not None:
                        v += tl.load(bm_ptr + outputs, mask=is_row, other=0.0).to(tl.float32)[:, None]
                    tl.store(du_ptr + at, (grad * v).to(du_ptr.dtype.element_ty), mask=mask)
                    if y_ptr is not None:
                        tl.store(y_ptr + at, (v * u).to(y_ptr.dtype.element_ty), mask=mask)
                elif tile % chunks == chunk:
                    v = mixed(
                        u_ptr, a1_ptr, a2_ptr, scale_ptr, None, None, None, wm_ptr, bm_ptr, n, group, rows, i,
                        channels, per_group, plane, INTERLEAVE, 1, 1, BLOCK_K, PRECISION,
                    )  # fmt: skip
                    tl.store(du_ptr + at, (grad * v).to(du_ptr.dtype.element_ty), mask=mask)
                    if y_ptr is not None:
                        tl.store(y_ptr + at, (v * u).to(y_ptr.dtype.element_ty), mask=mask)
            if parts_ptr is not None:
                back = dot(tl.trans(scaled), dv, tl.zeros((BLOCK_K, BLOCK_P), tl.float32), PRECISION)
                to = ((part * batch + n) * channels + c) * plane
                mask = is_member[:, None] & (i < plane)[None, :]
                tl.store(parts_ptr + to[:, None] + i[None, :], back.to(parts_ptr.dtype.element_ty), mask=mask)
            products = dot(dv, tl.trans(maps), products, PRECISION)
        if dots_ptr is not None:
            w = tl.load(wm_ptr + at_w, mask=mask_w, other=0.0).to(tl.float32)
            tl.store(dots_ptr + at_gate * shares + share, tl.sum(products * w, 0), mask=is_member)
        dwm += products * scale[None, :]
    if dwm_ptr is not None:
        to = split.to(tl.int64) * channels
        tl.store(dwm_ptr + to * members + at_w, dwm.to(dwm_ptr.dtype.element_ty), mask=mask_w)
        if dbm_ptr is not None:
            if chunk == 0:
                tl.store(dbm_ptr + to + outputs, dbm.to(dbm_ptr.dtype.element_ty), mask=is_row)


@triton.jit
def complete(
    dy_ptr,
    shift,
    w_ptr,
    dx_ptr,
    more_ptr,
    dmean_ptr,
    start,
    c,
    tile,
    height,
    width,
    KH: tl.constexpr,
    KW: tl.constexpr,
    DILATION: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """dx += more + dmean + transposed conv of (dy + shift), for a tile of the plane that begins at `start`."""
    top, i, j = pixels_of(tile, width, ROWS, COLUMNS)
    inside, at = (i < height) & (j < width), start + i * width + j
    dx = correlate(dy_ptr + start, w_ptr + c * KH * KW, shift, top, i, j, height, width, KH, KW, DILATION, True, ROWS)
    dx += tl.load(dx_ptr + at, mask=inside, other=0.0).to(tl.float32) + tl.load(dmean_ptr)
    if more_ptr is not None:
        dx += tl.load(more_ptr + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(dx_ptr + at, dx.to(dx_ptr.dtype.element_ty), mask=inside)


@triton.jit
def cascade_backward_kernel(
    parts_ptr,
    w1_ptr,
    w2_ptr,
    dmean_ptr,
    du_ptr,
    tiles,
    batch,
    channels,
    height,
    width,
    KH1: tl.constexpr,
    KW1: tl.constexpr,
    DILATION1: tl.constexpr,
    KH2: tl.constexpr,
    KW2: tl.constexpr,
    DILATION2: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Completes da1, in the place of its direct part, and then du, of one plane."""
    n, c = tl.program_id(0) // channels, tl.program_id(0) % channels
    start = tl.program_id(0).to(tl.int64) * height * width
    part = tl.cast(batch, tl.int64) * channels * height * width
    dmean_ptr += n.to(tl.int64) * 3 * channels + c
    da1_ptr, da2_ptr = parts_ptr + part, parts_ptr + 2 * part
    shift = tl.load(dmean_ptr + 2 * channels)
    for tile in range(0, tiles):
        complete(
            da2_ptr, shift, w2_ptr, da1_ptr, None, dmean_ptr + channels, start, c, tile, height, width,
            KH2, KW2, DILATION2, ROWS, COLUMNS,
        )  # fmt: skip
    if du_ptr is not None:
        tl.debug_barrier()
        for tile in range(0, tiles):
            complete(
                da1_ptr, None, w1_ptr, du_ptr, parts_ptr, dmean_ptr, start, c, tile, height, width,
                KH1, KW1, DILATION1, ROWS, COLUMNS,
            )  # fmt: skip


@triton.jit
def stage_backward_kernel(
    parts_ptr,
    w_ptr,
    dmean_ptr,
    du_ptr,
    tiles,
    batch,
    channels,
    height,
    width,
    KH: tl.constexpr,
    KW: tl.constexpr,
    DILATION: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """One tile of du from da1 or, where there is no du_ptr, of da1 from da2, for planes too large for one program."""
    plane, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    n, c = plane // channels, plane % channels
    start = plane.to(tl.int64) * height * width
    part = tl.cast(batch, tl.int64) * channels * height * width
    dmean_ptr += n.to(tl.int64) * 3 * channels + c
    if du_ptr is None:
        complete(
            parts_ptr + 2 * part, tl.load(dmean_ptr + 2 * channels), w_ptr, parts_ptr + part, None,
            dmean_ptr + channels, start, c, tile, height, width, KH, KW, DILATION, ROWS, COLUMNS,
        )  # fmt: skip
    else:
        complete(
            parts_ptr + part, None, w_ptr, du_ptr, parts_ptr, dmean_ptr, start, c, tile, height, width,
            KH, KW, DILATION, ROWS, COLUMNS,
        )  # fmt: skip


@triton.jit
def cascade_weights_kernel(
    parts_ptr,
    u_ptr,
    a1_ptr,
    dmean_ptr,
    dw1_ptr,
    db1_ptr,
    dw2_ptr,
    db2_ptr,
    batch,
    channels,
    height,
    width,
    KH1: tl.constexpr,
    KW1: tl.constexpr,
    DILATION1: tl.constexpr,
    KH2: tl.constexpr,
    KW2: tl.constexpr,
    DILATION2: tl.constexpr,
    BLOCK_Q1: tl.constexpr,
    BLOCK_Q2: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Gradients of one row of a channel's kernel, of conv 1 for the first C KH1 programs and of conv 2 for the others,
    and of the biases, from a part of the pixels."""
    row, split, splits = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    part = tl.cast(batch, tl.int64) * channels * height * width
    if row < channels * KH1:
        weight_gradient(
            parts_ptr + part, u_ptr, None, 0, dw1_ptr, db1_ptr, row, split, splits, batch, channels, height, width,
            KH1, KW1, DILATION1, BLOCK_Q1, ROWS, COLUMNS,
        )  # fmt: skip
    else:
        weight_gradient(
            parts_ptr + 2 * part, a1_ptr, dmean_ptr + 2 * channels, 3 * channels, dw2_ptr, db2_ptr,
            row - channels * KH1, split, splits, batch, channels, height, width,
            KH2, KW2, DILATION2, BLOCK_Q2, ROWS, COLUMNS,
        )  # fmt: skip


def mix_backward(
    grad: Tensor,
    maps: tuple[Tensor, Tensor, Tensor],
    scale: Tensor,
    wm: Tensor,
    bm: Tensor | None,
    interleave: bool,
    du: Tensor | None,
    parts: Tensor | None,
    gradients: tuple[Tensor, Tensor],
    product: Tensor | None = None,
) -> Tensor:
    """Fills du = grad v, ds_c of all parts (either may be None), and the gradients of Wm and bm that are not empty;
    beside du also the product v u, where one is given.

    Returns:
        The parts of ds, (N, 3C, shares).
    """
    u = maps[0]
    n, c, h, w = u.shape
    members = wm.shape[1]
    groups = 3 * c // members
    if members > 3 * wide.WIDEST:
        return wide.mix_backward(grad, maps, scale, wm, bm, interleave, du, parts, gradients, product)
    constants = config("large_kernel_channel_attention.mix_backward", u.dtype, n * h * w)
    wanted, largest = constants.pop("PROGRAMS"), constants.pop("BLOCK_K")
    # A product on FMA units holds whole rows of its factors in registers. On tensor cores one program takes a whole
    # group of usual size, such as 32 rows and 96 members, so that it reads everything once.
    block_m = max(16, next_power_of_2(members // 3))
    if u.dtype is torch.float32 and precision(u.dtype) == "ieee":
        largest = 32
    block_k = max(16, min(largest, next_power_of_2(members), 4096 // block_m))
    block_p = max(16, min(constants.pop("BLOCK_P"), 4096 // block_m))
    if u.dtype is torch.float32 and h * w % 16:
        block_p = 16  # addresses of planes that are not aligned take the registers
    chunks, all_tiles = triton.cdiv(members, block_k), triton.cdiv(h * w, block_p)
    splits = splits_of(groups * chunks, wanted, n * all_tiles)
    samples = triton.cdiv(n, min(splits, n))
    tiles = triton.cdiv(all_tiles, max(1, round(splits / n)))
    shares = triton.cdiv(all_tiles, tiles)
    splits = shares * triton.cdiv(n, samples)
    dots = workspace(u, n, 3 * c, shares)
    results = Partials(*gradients, wm, splits) if any(g.numel() for g in gradients) else None
    pair = (results.weight, results.bias) if results else (None, None)
    arguments = (grad, *maps, scale, wm, bm, du, product, parts, dots, *pair)
    numbers = (n, c, members // 3, h * w, groups, chunks, shares, samples, tiles)
    blocks = {"ONE_CHUNK": chunks == 1, "BLOCK_M": block_m, "BLOCK_K": block_k, "BLOCK_P": block_p}
    constants |= {"INTERLEAVE": interleave, "PRECISION": precision(u.dtype), **blocks}
    launch(mix_backward_kernel, (splits * chunks * groups,), *arguments, *numbers, **constants)
    if results:
        results.finish()
    return dots


def cascade_backward(
    parts: Tensor, w1: Tensor, w2: Tensor, dmean: Tensor, du: Tensor | None, dilations: tuple[int, int]
) -> None:
    """Completes da1 in `parts` and, if it is given, du."""
    _, n, c, h, w = parts.shape
    whole, tile, options = cascade_config(parts[0])
    tiles = tiles_of(h, w, **tile)
    sides = kernel_constants(w1, w2, *dilations)
    if whole:
        arguments = (parts, w1, w2, dmean, du, tiles, n, c, h, w)
        launch(cascade_backward_kernel, (n * c,), *arguments, **sides, **tile, **options)
        return
    for number, weight, to in ((2, w2, None), (1, w1, du)):
        if number == 2 or du is not None:
            constants = {**one_conv(sides, number), **tile, **options}
            launch(stage_backward_kernel, (n * c * tiles,), parts, weight, dmean, to, tiles, n, c, h, w, **constants)


def cascade_weights(
    parts: Tensor,
    u: Tensor,
    a1: Tensor,
    dmean: Tensor,
    weights: tuple[Tensor, Tensor],
    dilations: tuple[int, int],
    gradients: list[Tensor],
) -> None:
    """Fills the gradients of the weights and biases of the two depthwise convs that are not empty."""
    n, c, h, w = u.shape
    constants = config("depthwise_conv2d.rows", u.dtype, h * w)
    wanted, block = constants.pop("PROGRAMS"), constants.pop("BLOCK")
    both = [row_blocks(weight, w, block) for weight in weights]
    smaller = min(both, key=lambda blocks: blocks["ROWS"] * blocks["COLUMNS"])
    tile = {"ROWS": smaller["ROWS"], "COLUMNS": smaller["COLUMNS"]}
    rows = sum(c * weight.shape[2] for weight in weights)
    splits = splits_of(rows, wanted, n * tiles_of(h, w, **tile))
    first = Partials(gradients[0], gradients[1], weights[0], splits)
    second = Partials(gradients[2], gradients[3], weights[1], splits)
    results = (first.weight, first.bias, second.weight, second.bias)
    blocks = {"BLOCK_Q1": both[0]["BLOCK_Q"], "BLOCK_Q2": both[1]["BLOCK_Q"], **tile}
    sides = kernel_constants(*weights, *dilations)
    arguments = (parts, u, a1, dmean, *results, n, c, h, w)
    launch(cascade_weights_kernel, (rows, splits), *arguments, **sides, **blocks, **constants)
    first.finish()
    second.finish()
