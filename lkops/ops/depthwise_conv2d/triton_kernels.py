"""Depthwise conv on the GPU; `attention` builds on the device functions.

A tile of a plane is ROWS x COLUMNS neighbouring pixels, numbered row by row. The kernel is walked tap by tap, each a
load that the L1 cache mostly serves; rows of the kernel that miss the image for all pixels of a tile are skipped.
"""

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..._core.library import gradients_like
from ...triton import config, launch, next_power_of_2, workspace


@triton.jit
def pixels_of(tile, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """First row of a tile, and row and column of each of its pixels."""
    across = tl.cdiv(width, COLUMNS)
    top = tile // across * ROWS
    # Pixel by pixel to the lanes of a warp: a lane that owned four neighbours would, at the odd offsets of the taps,
    # load them one by one, each time four cache lines a warp instead of one or two.
    k = tl.max_contiguous(tl.arange(0, ROWS * COLUMNS), [1])
    return top, top + k // COLUMNS, tile % across * COLUMNS + k % COLUMNS


@triton.jit
def correlate(
    x_ptr,
    w_ptr,
    shift,
    top,
    i,
    j,
    height,
    width,
    KH: tl.constexpr,
    KW: tl.constexpr,
    DILATION: tl.constexpr,
    FLIP: tl.constexpr,
    ROWS: tl.constexpr,
):
    """sum over p, q of  w[p, q] (x + shift)[i + d (p - KH//2), j + d (q - KW//2)]  for the pixels (i, j) of a tile.

    The pointers are those of the plane and of its channel's kernel, which FLIP turns by 180 degrees (the gradient of
    the input). Outside the plane x + shift counts as 0; `shift` may be None.
    """
    bottom = tl.minimum(top + ROWS, height) - 1
    first = tl.maximum(KH // 2 - bottom // DILATION, 0)
    last = tl.minimum(KH // 2 + (height - 1 - top) // DILATION + 1, KH)
    result = tl.zeros(i.shape, tl.float32)
    for p in range(first, last):
        row = i + DILATION * (p - KH // 2)
        inside = (row >= 0) & (row < height) & (j < width)
        for q in tl.static_range(KW):
            column = j + DILATION * (q - KW // 2)
            mask = inside & (column >= 0) & (column < width)
            if FLIP:
                w = tl.load(w_ptr + (KH * KW - 1 - q) - p * KW).to(tl.float32)
            else:
                w = tl.load(w_ptr + p * KW + q).to(tl.float32)
            x = tl.load(x_ptr + row * width + column, mask=mask, other=0.0).to(tl.float32)
            if shift is not None:
                x = tl.where(mask, x + shift, 0.0)
            result += w * x
    return result


@triton.jit
def depthwise_kernel(
    x_ptr,
    w_ptr,
    b_ptr,
    y_ptr,
    tiles,
    channels,
    height,
    width,
    KH: tl.constexpr,
    KW: tl.constexpr,
    DILATION: tl.constexpr,
    FLIP: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """One tile of one plane of  y = b + conv(x)  or, with FLIP and no b, of the gradient of x from that of y."""
    plane = tl.program_id(0) // tiles
    c, start = plane % channels, plane.to(tl.int64) * height * width
    top, i, j = pixels_of(tl.program_id(0) % tiles, width, ROWS, COLUMNS)
    y = correlate(x_ptr + start, w_ptr + c * KH * KW, None, top, i, j, height, width, KH, KW, DILATION, FLIP, ROWS)
    if b_ptr is not None:
        y += tl.load(b_ptr + c).to(tl.float32)
    tl.store(y_ptr + start + i * width + j, y.to(y_ptr.dtype.element_ty), mask=(i < height) & (j < width))


@triton.jit
def weight_gradient(
    dy_ptr,
    x_ptr,
    shift_ptr,
    shift_stride,
    dw_ptr,
    db_ptr,
    row,
    split,
    splits,
    batch,
    channels,
    height,
    width,
    KH: tl.constexpr,
    KW: tl.constexpr,
    DILATION: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """dw[split, c, p, :], with row = c KH + p:  sum of  (dy + shift)[i, j] x[i + d (p - KH//2), j + d (q - KW//2)]

    over the tiles of all samples that are this split's. The program of the middle row also sums db[split, c]; only
    there all pixels of dy count. shift[n], at shift_stride n + c, is added to every pixel of dy; it may be None.
    """
    c, p = row // KH, row % KH
    offset = DILATION * (p - KH // 2)
    first_row, last_row = tl.maximum(-offset, 0), tl.minimum(height - offset, height)
    across = tl.cdiv(width, COLUMNS)
    tiles = across * tl.cdiv(tl.maximum(last_row - first_row, 0), ROWS)
    q = tl.arange(0, BLOCK_Q)
    taps = DILATION * (q - KW // 2)
    dw = tl.zeros((BLOCK_Q, ROWS * COLUMNS), tl.float32)
    db = tl.zeros((ROWS * COLUMNS,), tl.float32)
    part = tl.cdiv(batch * tiles, splits)
    for item in range(split * part, tl.minimum(split * part + part, batch * tiles)):
        n = item // tiles
        start = (n.to(tl.int64) * channels + c) * height * width
        _top, i, j = pixels_of(item % tiles, width, ROWS, COLUMNS)
        i += first_row
        inside = (i < last_row) & (j < width)
        dy = tl.load(dy_ptr + start + i * width + j, mask=inside, other=0.0).to(tl.float32)
        if shift_ptr is not None:
            dy = tl.where(inside, dy + tl.load(shift_ptr + n.to(tl.int64) * shift_stride + c), 0.0)
        column = j[None, :] + taps[:, None]
        mask = inside[None, :] & (column >= 0) & (column < width) & (q[:, None] < KW)
        x = tl.load(x_ptr + start + ((i + offset) * width)[None, :] + column, mask=mask, other=0.0).to(tl.float32)
        dw += dy[None, :] * x
        db += dy
    to = (split.to(tl.int64) * channels * KH + row) * KW
    tl.store(dw_ptr + to + q, tl.sum(dw, 1).to(dw_ptr.dtype.element_ty), mask=q < KW)
    if db_ptr is not None:
        if p == KH // 2:
            tl.store(db_ptr + split.to(tl.int64) * channels + c, tl.sum(db, 0).to(db_ptr.dtype.element_ty))


@triton.jit
def weight_gradient_kernel(
    dy_ptr,
    x_ptr,
    dw_ptr,
    db_ptr,
    batch,
    channels,
    height,
    width,
    KH: tl.constexpr,
    KW: tl.constexpr,
    DILATION: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Gradients of one row of a channel's kernel and, beside them, of its bias, from a part of the pixels."""
    row, split, splits = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    weight_gradient(
        dy_ptr, x_ptr, None, 0, dw_ptr, db_ptr, row, split, splits, batch, channels, height, width,
        KH, KW, DILATION, BLOCK_Q, ROWS, COLUMNS,
    )  # fmt: skip


@triton.jit
def two_sums_kernel(a_ptr, da_ptr, a_count, b_ptr, db_ptr, b_count, splits, BLOCK: tl.constexpr):
    """da[i] = sum over s of a[s, i] and the same for b, in the order of s: what `sum_of_partials_kernel` does, twice
    in one launch."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < a_count
    total = tl.zeros((BLOCK,), tl.float32)
    for s in range(0, splits):
        total += tl.load(a_ptr + s * a_count + i, mask=inside, other=0.0)
    tl.store(da_ptr + i, total.to(da_ptr.dtype.element_ty), mask=inside)
    if db_ptr is not None:
        i -= tl.cdiv(a_count, BLOCK) * BLOCK
        inside = (i >= 0) & (i < b_count)
        total = tl.zeros((BLOCK,), tl.float32)
        for s in range(0, splits):
            total += tl.load(b_ptr + s * b_count + i, mask=inside, other=0.0)
        tl.store(db_ptr + i, total.to(db_ptr.dtype.element_ty), mask=inside)


def tiling(width: int, block: int) -> dict[str, int]:
    """ROWS and COLUMNS of a tile of `block` pixels: rows of a warp's length, or of the plane's if that is shorter."""
    columns = min(32, block, next_power_of_2(width))
    return {"ROWS": block // columns, "COLUMNS": columns}


def tiles_of(height: int, width: int, ROWS: int, COLUMNS: int) -> int:
    """How many tiles cover a plane."""
    return triton.cdiv(height, ROWS) * triton.cdiv(width, COLUMNS)


def row_blocks(weight: Tensor, width: int, block: int) -> dict[str, int]:
    """Constants of `weight_gradient`: at most 4096 products at once, unless one row of the kernel is very long."""
    block_q = next_power_of_2(weight.shape[3])
    return {"BLOCK_Q": block_q, **tiling(width, max(32, min(block, 4096 // block_q)))}


class Partials:
    """Gradients of a weight and its bias that `splits` programs each add a part to, in two stages.

    A kernel stores to `weight` (splits, ...) and `bias` (splits, C), the second of which may be None, and `finish`
    adds the parts. Of one part there is no second stage: then these are the gradients themselves.

    Args:
        weight, bias: the gradients; those that are not needed are empty.
        like: the weight.
        splits: number of parts.
    """

    def __init__(self, weight: Tensor, bias: Tensor, like: Tensor, splits: int) -> None:
        self.gradients = weight if weight.numel() else torch.empty_like(like), bias if bias.numel() else None
        self.splits = splits
        self.weight, self.bias = self.gradients
        if splits > 1:
            self.counts = like.numel(), bias.numel()
            parts = workspace(like, splits * sum(self.counts))
            self.weight = parts[: splits * like.numel()]
            self.bias = parts[splits * like.numel() :] if bias.numel() else None

    def finish(self) -> None:
        """Add the parts."""
        if self.splits > 1:
            grid = (sum(triton.cdiv(count, 256) for count in self.counts),)
            (weight, bias), (count, biases) = self.gradients, self.counts
            arguments = (self.weight, weight, count, self.bias, bias, biases, self.splits)
            launch(two_sums_kernel, grid, *arguments, BLOCK=256, num_warps=4)


def convolve(x: Tensor, w: Tensor, b: Tensor | None, y: Tensor, dilation: int, *, flip: bool = False) -> None:
    """y = b + conv(x), or the transposed conv."""
    n, c, h, width = x.shape
    kh, kw = w.shape[2:]
    constants = _constants("depthwise_conv2d.tile", x)
    block = constants.pop("BLOCK")
    tile = tiling(width, block if kw <= 15 else min(block, 512))  # a row of the kernel is unrolled
    shape = {"KH": kh, "KW": kw, "DILATION": dilation, "FLIP": flip, **tile}
    tiles = tiles_of(h, width, **tile)
    launch(depthwise_kernel, (n * c * tiles,), x, w, b, y, tiles, c, h, width, **shape, **constants)


def _constants(kernel: str, x: Tensor) -> dict[str, Any]:
    return config(kernel, x.dtype, x.shape[2] * x.shape[3])


def splits_of(programs: int, wanted: int, items: int) -> int:
    """Into how many parts to split `items` so that `programs` times the parts is about `wanted`."""
    return max(1, min(triton.cdiv(wanted, programs), items, 65535))


def forward(x: Tensor, w: Tensor, b: Tensor | None, dilation: int) -> Tensor:
    """y"""
    y = torch.empty_like(x)
    convolve(x, w, b, y, dilation)
    return y


def backward(
    grad: Tensor, x: Tensor, w: Tensor, b: Tensor | None, dilation: int, needs: Sequence[bool]
) -> list[Tensor]:
    """Gradients of x, w, b."""
    dx, dw, db = gradients = gradients_like(needs, x, w, b)
    if dx.numel():
        convolve(grad, w, None, dx, dilation, flip=True)
    if dw.numel() or db.numel():
        n, c, h, width = x.shape
        kh, kw = w.shape[2:]
        constants = _constants("depthwise_conv2d.rows", x)
        wanted, block = constants.pop("PROGRAMS"), constants.pop("BLOCK")
        blocks = row_blocks(w, width, block)
        items = n * tiles_of(h, width, blocks["ROWS"], blocks["COLUMNS"])
        parts = Partials(dw, db, w, splits_of(c * kh, wanted, items))
        shape = {"KH": kh, "KW": kw, "DILATION": dilation, **blocks}
        arguments = (grad, x, parts.weight, parts.bias, n, c, h, width)
        launch(weight_gradient_kernel, (c * kh, parts.splits), *arguments, **shape, **constants)
        parts.finish()
    return gradients
