"""Device functions of both directions of `spectral_losses`: where a thread's pixels are, and what one pixel gives."""

import math

import triton
import triton.language as tl

from . import reference

PI = tl.constexpr(math.pi)
FLOOR = tl.constexpr(reference.FLOOR)
TINY_SQUARE = tl.constexpr(reference.TINY**2)
ACOS_BOUND = tl.constexpr(1 - reference.CLAMP)


@triton.jit
def place(tile, tiles_x, lane, LANES: tl.constexpr, GROUPS: tl.constexpr):
    """Row and first column of each lane's four pixels."""
    i = tile // tiles_x * (LANES // GROUPS) + lane // GROUPS
    return i, (tile % tiles_x * GROUPS + lane % GROUPS) * 4


@triton.jit
def columns_from(j):
    """All four columns, (lanes, 4), of lanes that begin at column j."""
    return j[:, None] + tl.arange(0, 4)[None, :]


@triton.jit
def load(pointers, mask):
    return tl.load(pointers, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def columns_of(x):
    """The columns of a (lanes, 4) tile; a thread has all four, so nothing moves."""
    even, odd = tl.split(tl.reshape(x, (x.shape[0], 2, 2)))
    first, third = tl.split(even)
    second, fourth = tl.split(odd)
    return first, second, third, fourth


@triton.jit
def tile_of(first, second, third, fourth):
    """The (lanes, 4) tile of four columns."""
    return tl.reshape(tl.join(tl.join(first, third), tl.join(second, fourth)), (first.shape[0], 4))


@triton.jit
def load_four(pointer, lanes, j, width, UNIT: tl.constexpr):
    """(lanes, 4) in float32: the four pixels from `pointer`, of column j, on; zeros beyond `lanes` and the width.

    UNIT is 4 if 4 divides the width, so that they are aligned, and all within it or none; else 1.
    """
    if UNIT == 4:
        four = load(pointer[:, None] + tl.arange(0, 4)[None, :], (lanes & (j < width))[:, None])
    else:
        first, second = load(pointer, lanes & (j < width)), load(pointer + 1, lanes & (j + 1 < width))
        third, fourth = load(pointer + 2, lanes & (j + 2 < width)), load(pointer + 3, lanes & (j + 3 < width))
        four = tile_of(first, second, third, fourth)
    return four


@triton.jit
def store_four(pointer, x, lanes, j, width, UNIT: tl.constexpr):
    """The opposite of `load_four`."""
    x = x.to(pointer.dtype.element_ty)
    if UNIT == 4:
        tl.store(pointer[:, None] + tl.arange(0, 4)[None, :], x, mask=(lanes & (j < width))[:, None])
    else:
        first, second, third, fourth = columns_of(x)
        tl.store(pointer, first, mask=lanes & (j < width))
        tl.store(pointer + 1, second, mask=lanes & (j + 1 < width))
        tl.store(pointer + 2, third, mask=lanes & (j + 2 < width))
        tl.store(pointer + 3, fourth, mask=lanes & (j + 3 < width))


@triton.jit
def differences(x, before, above, left):
    """x minus its neighbours along bands, rows and columns, and the sum of their squares and FLOOR.

    Its roundings are spelled out: the prediction's and the target's must agree where the cubes do.
    """
    db, dh, dw = x - before, x - above, x - left
    return db, dh, dw, tl.fma(dw, dw, tl.fma(dh, dh, tl.fma(db, db, FLOOR)))


@triton.jit
def cosine_of(pp, tt, pt):
    """Cosine between two spectra, 0 where one is tiny and none NaN; their norms, 1 there; and whether it is not so."""
    both = pp + tt  # no comparison with NaN is true
    valid = ((pp >= TINY_SQUARE) & (tt >= TINY_SQUARE)) | (both != both)
    p_norm, t_norm = tl.sqrt_rn(tl.where(valid, pp, 1.0)), tl.sqrt_rn(tl.where(valid, tt, 1.0))
    return tl.where(valid, tl.div_rn(pt, p_norm * t_norm), 0.0), p_norm, t_norm, valid


@triton.jit
def weight_of(tt, floor_square):
    """How much the angle of a pixel counts, from its target's square; floor_square is channels floor^2."""
    weight = 1 - tl.div_rn(floor_square, tt)
    weight = tl.where(weight < 0, 0.0, weight)  # tl.maximum would hide NaN
    return tl.where(floor_square > 0, weight, 1.0)
