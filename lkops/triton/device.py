"""Device functions that the kernels of several rooms use."""

import triton
import triton.language as tl

INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)


@triton.jit
def dot(a, b, accumulator, PRECISION: tl.constexpr):
    """accumulator + a @ b, in float32; on tensor cores unless float32 operands ask for "ieee"."""
    if INTERPRETED:  # it multiplies the bits of bfloat16
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, accumulator, input_precision=PRECISION)


@triton.jit
def gelu(t):
    """t (1 + erf(t / sqrt 2)) / 2"""
    return 0.5 * t * (1 + tl.math.erf(t * 0.7071067811865476))


@triton.jit
def gelu_slope(t):
    """Derivative of `gelu`."""
    return 0.5 * (1 + tl.math.erf(t * 0.7071067811865476)) + t * 0.3989422804014327 * tl.exp(-0.5 * t * t)


@triton.jit
def sum_of_partials_kernel(partial_ptr, total_ptr, count, splits, BLOCK: tl.constexpr):
    """total[i] = sum over s of partial[s, i], by sixteens in the order of s: the second stage of a deterministic
    reduction."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < count
    total = tl.zeros((BLOCK,), tl.float32)
    for first in range(0, splits, 16):
        some = tl.zeros((BLOCK,), tl.float32)
        for s in range(first, tl.minimum(first + 16, splits)):
            some += tl.load(partial_ptr + s * count + i, mask=inside, other=0.0)
        total += some
    tl.store(total_ptr + i, total.to(total_ptr.dtype.element_ty), mask=inside)
