"""Bicubic enlargement on the GPU; `upsample` shares the tile (`triton_tiles.py`) and the backward launch."""

import triton
import triton.language as tl
from torch import Tensor

from ...triton import config, launch, next_power_of_2
from ...triton.device import dot
from .triton_tiles import bicubic_tile, border, enlarged_mask, enlarged_offsets, enlarged_rows, first_tap, tap_weights


@triton.jit
def forward_kernel(
    low_ptr,
    out_ptr,
    planes,
    height,
    width,
    pixel_tiles,
    A: tl.constexpr,
    R: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    BB: tl.constexpr,
    PP: tl.constexpr,
    Q: tl.constexpr,
    P: tl.constexpr,
):
    """The bicubic image of BB planes, PP phases p and P pixels of the small plane."""
    pid = tl.program_id(0)
    pixel0 = pid % pixel_tiles * P
    p0 = pid // pixel_tiles % (R // PP) * PP
    b0 = (pid // pixel_tiles // (R // PP)).to(tl.int64) * BB
    b = b0 + tl.arange(0, BB)
    tile = bicubic_tile(low_ptr, b, b < planes, p0, pixel0, height, width, A, R, SYMMETRIC, BB, PP, P, Q)
    row = tl.arange(0, BB * PP)
    b, p = b0 + row // PP, p0 + row % PP
    offsets = enlarged_offsets(b, p, enlarged_rows(pixel0, width, P, Q), pixel0, height, width, R, P, Q)
    mask = (b < planes)[:, None] & enlarged_mask(pixel0, height * width, R, P, Q)[None, :]
    tl.store(out_ptr + offsets, tl.reshape(tile, (BB * PP, P * Q)).to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def adjoint_weights(u, i, size, A: tl.constexpr, R: tl.constexpr, SYMMETRIC: tl.constexpr):
    """How much pixel u of the enlarged axis takes from pixel i, (len(i), len(u)), the mirrored taps too."""
    weights = tl.zeros((i.shape[0], u.shape[0]), tl.float32)
    first = u // R + first_tap(u % R, R)
    taps = tap_weights(u % R, A, R)
    for k in tl.static_range(0, 4):
        weights += tl.where(border(first + k, size, SYMMETRIC)[None, :] == i[:, None], taps[k][None, :], 0.0)
    return weights


@triton.jit
def backward_kernel(
    grad_ptr,
    dlow_ptr,
    height,
    width,
    row_tiles,
    column_tiles,
    A: tl.constexpr,
    R: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_J: tl.constexpr,
    BLOCK_U: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    """dlow = A_y^T grad A_x for BLOCK_I by BLOCK_J pixels of one plane.

    All that takes from these pixels, also by the border's rule, lies at most two pixels around them.
    """
    pid = tl.program_id(0)
    plane = (pid // column_tiles // row_tiles).to(tl.int64)
    i0, j0 = pid // column_tiles % row_tiles * BLOCK_I, pid % column_tiles * BLOCK_J
    i, j = i0 + tl.arange(0, BLOCK_I), j0 + tl.arange(0, BLOCK_J)
    wide = width * R
    first_u, last_u = tl.maximum(i0 - 2, 0) * R, tl.minimum(i0 + BLOCK_I + 2, height) * R
    first_v, last_v = tl.maximum(j0 - 2, 0) * R, tl.minimum(j0 + BLOCK_J + 2, width) * R
    dlow = tl.zeros((BLOCK_I, BLOCK_J), tl.float32)
    for v0 in range(first_v, last_v, BLOCK_V):
        v = v0 + tl.arange(0, BLOCK_V)
        sums = tl.zeros((BLOCK_I, BLOCK_V), tl.float32)
        for u0 in range(first_u, last_u, BLOCK_U):
            u = u0 + tl.arange(0, BLOCK_U)
            offsets = (plane * height * R + u)[:, None] * wide + v[None, :]
            mask = (u < last_u)[:, None] & (v < last_v)[None, :]
            grad = tl.load(grad_ptr + offsets, mask=mask, other=0.0).to(tl.float32)
            sums = dot(adjoint_weights(u, i, height, A, R, SYMMETRIC), grad, sums, "ieee")
        dlow = dot(sums, tl.trans(adjoint_weights(v, j, width, A, R, SYMMETRIC)), dlow, "ieee")
    offsets = (plane * height + i)[:, None] * width + j[None, :]
    mask = (i < height)[:, None] & (j < width)[None, :]
    tl.store(dlow_ptr + offsets, dlow.to(dlow_ptr.dtype.element_ty), mask=mask)


def tile_of(scale: int, block_m: int, block_p: int) -> dict[str, int]:
    """The sides of a tile of about block_m planes and phases by block_p pixels: R, BB, PP, Q, P.

    All p of a plane share its loads, if they are a power of two and fit; PP divides R.
    """
    q = next_power_of_2(scale)
    pp = max(1, min(scale, block_m // q)) if q == scale else 1
    bb = max(1, block_m // (pp * q))
    return {"R": scale, "BB": bb, "PP": pp, "Q": q, "P": max(16, block_p * block_m // max(bb * pp * q, block_m))}


def forward(x: Tensor, scale: int, cubic_a: float, symmetric: bool) -> Tensor:
    """(N, B, H, W) enlarged `scale` times."""
    n, b, h, w = x.shape
    out = x.new_empty((n, b, h * scale, w * scale))
    constants = config("bicubic_upsample.forward", x.dtype, h * w * scale**2)
    tile = tile_of(scale, constants.pop("BLOCK_M"), constants.pop("BLOCK_P"))
    plane_tiles, pixel_tiles = triton.cdiv(n * b, tile["BB"]), triton.cdiv(h * w, tile["P"])
    grid = (pixel_tiles * (scale // tile["PP"]) * plane_tiles,)
    constants |= {**tile, "A": cubic_a, "SYMMETRIC": symmetric}
    launch(forward_kernel, grid, x, out, n * b, h, w, pixel_tiles, **constants)
    return out


def backward_into(dlow: Tensor, grad: Tensor, scale: int, cubic_a: float, symmetric: bool) -> None:
    """dlow (N, B, H, W) from the gradient of the enlarged image; each has its own dtype."""
    n, b, h, w = dlow.shape
    constants = config("bicubic_upsample.backward", grad.dtype, h * w * scale**2)
    row_tiles, column_tiles = triton.cdiv(h, constants["BLOCK_I"]), triton.cdiv(w, constants["BLOCK_J"])
    constants |= {"R": scale, "A": cubic_a, "SYMMETRIC": symmetric}
    grid = (n * b * row_tiles * column_tiles,)
    launch(backward_kernel, grid, grad, dlow, h, w, row_tiles, column_tiles, **constants)


def backward(grad: Tensor, scale: int, cubic_a: float, symmetric: bool) -> Tensor:
    """The gradient of x."""
    n, b, h, w = grad.shape
    dlow = grad.new_empty((n, b, h // scale, w // scale))
    backward_into(dlow, grad, scale, cubic_a, symmetric)
    return dlow
