"""Large-kernel channel attention on the GPU: cascade of depthwise convs, gate, and mix; `block` shares them.

The concat of u, a1 and a2 is never written. Its channels are numbered part C + c (parts u, a1, a2), in which order the
gate has its parameters, sums (N, 3C, tiles), mean and scale. Of the members m of a group, the 3C / g channels that the
grouped 1x1 conv takes together, `members_of` tells part and channel.
"""

# long: one stage's kernels, with the device functions that they share

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...triton import config, launch, next_power_of_2, precision, workspace
from ...triton.device import dot
from ..channel_attention.triton_kernels import gate_blocks, hidden_of, scale_of, total
from ..channel_attention.triton_kernels import inside as gate_inside
from ..depthwise_conv2d.triton_kernels import correlate, pixels_of, tiles_of, tiling


@triton.jit
def convolved(
    x_ptr,
    w_ptr,
    b_ptr,
    c,
    top,
    i,
    j,
    height,
    width,
    KH: tl.constexpr,
    KW: tl.constexpr,
    DILATION: tl.constexpr,
    ROWS: tl.constexpr,
):
    """b + depthwise conv of a tile of the plane at x_ptr, a plane of channel c; 0 at pixels outside."""
    y = correlate(x_ptr, w_ptr + c * KH * KW, None, top, i, j, height, width, KH, KW, DILATION, False, ROWS)
    if b_ptr is not None:
        y += tl.load(b_ptr + c).to(tl.float32)
    return tl.where((i < height) & (j < width), y, 0.0)


@triton.jit
def cascade_kernel(
    u_ptr,
    w1_ptr,
    b1_ptr,
    w2_ptr,
    b2_ptr,
    a1_ptr,
    a2_ptr,
    sums_ptr,
    tiles,
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
    """a1 = conv1(u), a2 = conv2(a1) and the sums of all three, of one plane: the second conv reads back the first."""
    n, c = tl.program_id(0) // channels, tl.program_id(0) % channels
    start = tl.program_id(0).to(tl.int64) * height * width
    sums_ptr += n.to(tl.int64) * 3 * channels + c
    sum_u = tl.zeros((ROWS * COLUMNS,), tl.float32)
    sum1 = tl.zeros((ROWS * COLUMNS,), tl.float32)
    sum2 = tl.zeros((ROWS * COLUMNS,), tl.float32)
    for tile in range(0, tiles):
        top, i, j = pixels_of(tile, width, ROWS, COLUMNS)
        inside, at = (i < height) & (j < width), start + i * width + j
        a1 = convolved(u_ptr + start, w1_ptr, b1_ptr, c, top, i, j, height, width, KH1, KW1, DILATION1, ROWS)
        tl.store(a1_ptr + at, a1.to(a1_ptr.dtype.element_ty), mask=inside)
        sum_u += tl.load(u_ptr + at, mask=inside, other=0.0).to(tl.float32)
        sum1 += a1
    tl.debug_barrier()
    for tile in range(0, tiles):
        top, i, j = pixels_of(tile, width, ROWS, COLUMNS)
        inside, at = (i < height) & (j < width), start + i * width + j
        a2 = convolved(a1_ptr + start, w2_ptr, b2_ptr, c, top, i, j, height, width, KH2, KW2, DILATION2, ROWS)
        tl.store(a2_ptr + at, a2.to(a2_ptr.dtype.element_ty), mask=inside)
        sum2 += a2
    tl.store(sums_ptr, tl.sum(sum_u, 0))
    tl.store(sums_ptr + channels, tl.sum(sum1, 0))
    tl.store(sums_ptr + 2 * channels, tl.sum(sum2, 0))


@triton.jit
def stage_kernel(
    x_ptr,
    w_ptr,
    b_ptr,
    y_ptr,
    sums_ptr,
    tiles,
    channels,
    height,
    width,
    PART: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    DILATION: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """One tile of one conv of the cascade, y = conv(x), for planes too large for one program.

    Its sum goes to PART of the concat; the first conv also sums its input.
    """
    plane, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    n, c = plane // channels, plane % channels
    start = plane.to(tl.int64) * height * width
    sums_ptr += (n.to(tl.int64) * 3 * channels + c) * tiles + tile
    top, i, j = pixels_of(tile, width, ROWS, COLUMNS)
    inside, at = (i < height) & (j < width), start + i * width + j
    y = convolved(x_ptr + start, w_ptr, b_ptr, c, top, i, j, height, width, KH, KW, DILATION, ROWS)
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=inside)
    tl.store(sums_ptr + PART * channels * tiles, tl.sum(y, 0))
    if PART == 1:
        x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        tl.store(sums_ptr, tl.sum(x, 0))


@triton.jit
def store_gate(
    hidden,
    sums_ptr,
    w2_ptr,
    b2_ptr,
    mean_ptr,
    scale_ptr,
    n,
    channels,
    tiles,
    pixels,
    HIDDEN: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """Mean and scale of all channels of the concat of sample n."""
    for start in range(0, 3 * channels, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)
        mask, at = c < 3 * channels, n * 3 * channels + c
        tl.store(mean_ptr + at, total(sums_ptr, at, mask, tiles) / pixels, mask=mask)
        tl.store(scale_ptr + at, scale_of(hidden, w2_ptr, b2_ptr, c, mask, HIDDEN, BLOCK_R), mask=mask)


@triton.jit
def gate_kernel(
    sums_ptr,
    w1_ptr,
    b1_ptr,
    w2_ptr,
    b2_ptr,
    mean_ptr,
    scale_ptr,
    channels,
    tiles,
    pixels,
    HIDDEN: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """scale = sigmoid(W2 relu(W1 mean + b1) + b2) of one sample, and the mean."""
    n = tl.program_id(0).to(tl.int64)
    hidden = hidden_of(sums_ptr, w1_ptr, b1_ptr, n, 3 * channels, tiles, pixels, HIDDEN, BLOCK_C, BLOCK_R)
    store_gate(
        hidden, sums_ptr, w2_ptr, b2_ptr, mean_ptr, scale_ptr, n, channels, tiles, pixels, HIDDEN, BLOCK_C, BLOCK_R
    )


@triton.jit
def members_of(group, m, channels, per_group, INTERLEAVE: tl.constexpr):
    """Part and channel of members m of a group: C/g of u, then of a1, then of a2, or 3C/g in the concat's order."""
    if INTERLEAVE:
        return m // per_group, group * per_group + m % per_group
    at = group * 3 * per_group + m
    return at // channels, at % channels


@triton.jit
def slab(u_ptr, a1_ptr, a2_ptr, n, part, c, mask, i, channels, plane):
    """Pixels i of channels (part, c) of the concat of sample n, (BLOCK_K, BLOCK_P); zeros outside."""
    first = tl.where(part == 0, u_ptr, tl.where(part == 1, a1_ptr, a2_ptr)) + (n * channels + c) * plane
    return tl.load(first[:, None] + i[None, :], mask=mask[:, None] & (i < plane)[None, :], other=0.0)


@triton.jit
def mixed(
    u_ptr,
    a1_ptr,
    a2_ptr,
    scale_ptr,
    hidden,
    w2_ptr,
    b2_ptr,
    wm_ptr,
    bm_ptr,
    n,
    group,
    rows,
    i,
    channels,
    per_group,
    plane,
    INTERLEAVE: tl.constexpr,
    HIDDEN: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """v = Wm (s c) + bm at pixels i of sample n for rows of a group, (rows, pixels) in float32.

    The scale s is loaded or, where there is no scale_ptr, computed from the gate's hidden layer. It goes into the
    weights, of which there are fewer than pixels: the maps are multiplied as they are.
    """
    members = 3 * per_group
    v = tl.zeros((rows.shape[0], i.shape[0]), tl.float32)
    for start in range(0, members, BLOCK_K):
        m = start + tl.arange(0, BLOCK_K)
        part, c = members_of(group, m, channels, per_group, INTERLEAVE)
        if scale_ptr is not None:
            scale = tl.load(scale_ptr + n * 3 * channels + part * channels + c, mask=m < members, other=0.0)
        else:
            scale = scale_of(hidden, w2_ptr, b2_ptr, part * channels + c, m < members, HIDDEN, BLOCK_R)
        mask = (rows[:, None] < per_group) & (m[None, :] < members)
        w = tl.load(wm_ptr + (group * per_group + rows)[:, None] * members + m[None, :], mask=mask, other=0.0)
        w = (w.to(tl.float32) * scale[None, :]).to(wm_ptr.dtype.element_ty)
        v = dot(w, slab(u_ptr, a1_ptr, a2_ptr, n, part, c, m < members, i, channels, plane), v, PRECISION)
    if bm_ptr is not None:
        v += tl.load(bm_ptr + group * per_group + rows, mask=rows < per_group, other=0.0).to(tl.float32)[:, None]
    return v


@triton.jit
def mix_kernel(
    u_ptr,
    a1_ptr,
    a2_ptr,
    given_ptr,
    sums_ptr,
    w1_ptr,
    b1_ptr,
    w2_ptr,
    b2_ptr,
    wm_ptr,
    bm_ptr,
    y_ptr,
    mean_ptr,
    scale_ptr,
    channels,
    per_group,
    plane,
    tiles,
    sum_tiles,
    groups,
    INTERLEAVE: tl.constexpr,
    HIDDEN: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_P: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """y = (Wm (s c) + bm) u for BLOCK_M rows of a group at BLOCK_P pixels of a sample.

    The scale is given. Where it is not, every program computes the gate again, which costs less than a launch as long
    as the programs are few, and the first of each sample stores mean and scale.
    """
    blocks = tl.cdiv(per_group, BLOCK_M)
    program = tl.program_id(0)
    group, block, tile = program % groups, program // groups % blocks, program // (groups * blocks) % tiles
    n = (program // (groups * blocks * tiles)).to(tl.int64)
    if given_ptr is None:
        hidden = hidden_of(sums_ptr, w1_ptr, b1_ptr, n, 3 * channels, sum_tiles, plane, HIDDEN, BLOCK_C, BLOCK_R)
        if program % (groups * blocks * tiles) == 0:
            store_gate(
                hidden, sums_ptr, w2_ptr, b2_ptr, mean_ptr, scale_ptr,
                n, channels, sum_tiles, plane, HIDDEN, BLOCK_C, BLOCK_R,
            )  # fmt: skip
    else:
        hidden = None
    rows = block * BLOCK_M + tl.arange(0, BLOCK_M)
    i = tile * BLOCK_P + tl.arange(0, BLOCK_P)
    v = mixed(
        u_ptr, a1_ptr, a2_ptr, given_ptr, hidden, w2_ptr, b2_ptr, wm_ptr, bm_ptr, n, group, rows, i,
        channels, per_group, plane, INTERLEAVE, HIDDEN, BLOCK_R, BLOCK_K, PRECISION,
    )  # fmt: skip
    at = ((n * channels + group * per_group + rows) * plane)[:, None] + i[None, :]
    mask = (rows < per_group)[:, None] & (i < plane)[None, :]
    u = tl.load(u_ptr + at, mask=mask, other=0.0).to(tl.float32)
    tl.store(y_ptr + at, (v * u).to(y_ptr.dtype.element_ty), mask=mask)


def kernel_constants(w1: Tensor, w2: Tensor, dilation1: int, dilation2: int) -> dict[str, int]:
    """Kernel sides and dilations of both depthwise convs."""
    (kh1, kw1), (kh2, kw2) = w1.shape[2:], w2.shape[2:]
    first = {"KH1": kh1, "KW1": kw1, "DILATION1": dilation1}
    return {**first, "KH2": kh2, "KW2": kw2, "DILATION2": dilation2}


def one_conv(constants: dict[str, int], number: int) -> dict[str, int]:
    """Those of conv 1 or 2 alone."""
    return {key[:-1]: value for key, value in constants.items() if key.endswith(str(number))}


def cascade_config(u: Tensor) -> tuple[bool, dict[str, int], dict[str, Any]]:
    """Whether one program takes a whole plane; the tile; launch options."""
    constants = config("large_kernel_channel_attention.cascade", u.dtype, u.shape[2] * u.shape[3])
    return constants.pop("WHOLE"), tiling(u.shape[3], constants.pop("BLOCK")), constants


def cascade(u: Tensor, parameters: Sequence[Tensor | None], dilations: tuple[int, int]) -> tuple[Tensor, ...]:
    """a1, a2 and the sums of u, a1, a2, (N, 3C, tiles), from the weights and biases of the two depthwise convs."""
    w1, b1, w2, b2 = parameters
    assert w1 is not None
    assert w2 is not None
    n, c, h, w = u.shape
    whole, tile, options = cascade_config(u)
    tiles = tiles_of(h, w, **tile)
    sides = kernel_constants(w1, w2, *dilations)
    a1, a2, sums = torch.empty_like(u), torch.empty_like(u), workspace(u, n, 3 * c, 1 if whole else tiles)
    if whole:
        arguments = (u, w1, b1, w2, b2, a1, a2, sums, tiles, c, h, w)
        launch(cascade_kernel, (n * c,), *arguments, **sides, **tile, **options)
    else:
        for part, (x, weight, bias, y) in enumerate(((u, w1, b1, a1), (a1, w2, b2, a2)), 1):
            constants = {"PART": part, **one_conv(sides, part), **tile, **options}
            launch(stage_kernel, (n * c * tiles,), x, weight, bias, y, sums, tiles, c, h, w, **constants)
    return a1, a2, sums


def gate(sums: Tensor, parameters: Sequence[Tensor | None], pixels: int, mean: Tensor, scale: Tensor) -> None:
    """Fill mean and scale, (N, 3C)."""
    n, c, tiles = sums.shape
    assert parameters[0] is not None
    launch(gate_kernel, (n,), sums, *parameters, mean, scale, c // 3, tiles, pixels, **gate_blocks(len(parameters[0])))


def mix(
    u: Tensor,
    a1: Tensor,
    a2: Tensor,
    sums: Tensor,
    attention: Sequence[Tensor | None],
    wm: Tensor,
    bm: Tensor | None,
    interleave: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """y, and mean and scale of the concat's channels, (N, 3C), from the maps and their sums."""
    n, c, h, w = u.shape
    assert attention[0] is not None
    y, mean, scale = torch.empty_like(u), workspace(u, n, 3 * c), workspace(u, n, 3 * c)
    constants = config("large_kernel_channel_attention.mix", u.dtype, n * h * w)
    inside = constants.pop("GATE") and gate_inside(len(attention[0]))
    if not inside:
        gate(sums, attention, h * w, mean, scale)
    members = wm.shape[1]
    groups = 3 * c // members
    block_m = max(16, min(64, next_power_of_2(members // 3)))
    blocks = {"BLOCK_M": block_m, "BLOCK_K": max(16, min(32, next_power_of_2(members)))}
    tiles = triton.cdiv(h * w, constants["BLOCK_P"])
    grid = (n * tiles * triton.cdiv(members // 3, block_m) * groups,)
    arguments = (u, a1, a2, None if inside else scale, sums, *attention, wm, bm, y, mean, scale)
    constants |= {"INTERLEAVE": interleave, "PRECISION": precision(u.dtype), **blocks}
    constants |= gate_blocks(len(attention[0]))
    launch(mix_kernel, grid, *arguments, c, members // 3, h * w, tiles, sums.shape[2], groups, **constants)
    return y, mean, scale
