"""The output conv of the large-kernel block, backward: with g the gradient of y = x + keep (Wo w + bo),

dw = keep Wo^T g      dWo = sum over n, pixels of keep g w^T      dbo = sum of keep g
dkeep[n] = sum over outputs and pixels of g (Wo w + bo)
"""

import triton
import triton.language as tl
from torch import Tensor

from ...triton import config, launch, precision, workspace
from ...triton.device import dot, sum_of_partials_kernel


@triton.jit
def input_gradient_kernel(
    weight_ptr,
    grad_ptr,
    keep_ptr,
    dw_ptr,
    outputs,
    inputs,
    plane,
    tiles,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """dw = keep Wo^T grad for BLOCK_K inputs and BLOCK_P pixels of one sample."""
    n, tile = (tl.program_id(0) // tiles).to(tl.int64), tl.program_id(0) % tiles
    k, p = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K), tile * BLOCK_P + tl.arange(0, BLOCK_P)
    dw = tl.zeros((BLOCK_K, BLOCK_P), tl.float32)
    for start in range(0, outputs, BLOCK_M):
        m = start + tl.arange(0, BLOCK_M)
        mask = (m[:, None] < outputs) & (p[None, :] < plane)
        grad = tl.load(grad_ptr + (n * outputs + m[:, None]) * plane + p[None, :], mask=mask, other=0.0)
        mask = (m[:, None] < outputs) & (k[None, :] < inputs)
        weight = tl.load(weight_ptr + m[:, None] * inputs + k[None, :], mask=mask, other=0.0)
        dw = dot(tl.trans(weight), grad, dw, PRECISION)
    if keep_ptr is not None:
        dw *= tl.load(keep_ptr + n).to(tl.float32)
    mask = (k[:, None] < inputs) & (p[None, :] < plane)
    tl.store(dw_ptr + (n * inputs + k[:, None]) * plane + p[None, :], dw.to(dw_ptr.dtype.element_ty), mask=mask)


@triton.jit
def weight_gradient_kernel(
    grad_ptr,
    in_ptr,
    keep_ptr,
    partial_ptr,
    outputs,
    inputs,
    plane,
    tiles,
    work,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """Split s of the sums over its (sample, pixel tile) pairs of keep grad in^T and of keep grad.

    A split's part is that of dWo, (outputs, inputs), and then that of dbo.
    """
    s, splits = tl.program_id(0), tl.num_programs(0)
    m, k = (tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M), tl.program_id(2) * BLOCK_K + tl.arange(0, BLOCK_K))
    total = tl.zeros((BLOCK_M, BLOCK_K), tl.float32)
    bias = tl.zeros((BLOCK_M,), tl.float32)
    share = tl.cdiv(work, splits)
    for item in range(s * share, min(s * share + share, work)):
        n, p = tl.cast(item // tiles, tl.int64), item % tiles * BLOCK_P + tl.arange(0, BLOCK_P)
        mask = (m[:, None] < outputs) & (p[None, :] < plane)
        grad = tl.load(grad_ptr + (n * outputs + m[:, None]) * plane + p[None, :], mask=mask, other=0.0)
        if keep_ptr is not None:
            grad = (grad.to(tl.float32) * tl.load(keep_ptr + n).to(tl.float32)).to(grad.dtype)
        mask = (k[:, None] < inputs) & (p[None, :] < plane)
        x = tl.load(in_ptr + (n * inputs + k[:, None]) * plane + p[None, :], mask=mask, other=0.0)
        total = dot(grad, tl.trans(x), total, PRECISION)
        bias += tl.sum(grad.to(tl.float32), 1)
    partial_ptr += tl.cast(s, tl.int64) * outputs * (inputs + 1)
    mask = (m[:, None] < outputs) & (k[None, :] < inputs)
    tl.store(partial_ptr + m[:, None] * inputs + k[None, :], total, mask=mask)
    if tl.program_id(2) == 0:
        tl.store(partial_ptr + outputs * inputs + m, bias, mask=m < outputs)


@triton.jit
def sum_weight_gradient_kernel(partial_ptr, dweight_ptr, dbias_ptr, outputs, inputs, splits, BLOCK: tl.constexpr):
    """Adds the splits in their order."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    count = tl.cast(outputs, tl.int64) * (inputs + 1)
    total = tl.zeros((BLOCK,), tl.float32)
    for s in range(0, splits):
        total += tl.load(partial_ptr + s * count + i, mask=i < count, other=0.0)
    weights = outputs * inputs
    tl.store(dweight_ptr + i, total.to(dweight_ptr.dtype.element_ty), mask=i < weights)
    if dbias_ptr is not None:
        tl.store(dbias_ptr + i - weights, total.to(dbias_ptr.dtype.element_ty), mask=(i >= weights) & (i < count))


@triton.jit
def keep_gradient_kernel(
    grad_ptr,
    weight_ptr,
    bias_ptr,
    in_ptr,
    partial_ptr,
    batch,
    outputs,
    inputs,
    plane,
    tiles,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """Sum over outputs and the pixels of one tile of grad (W in + bias), for one sample; partial is (tiles, N)."""
    n, tile = (tl.program_id(0) // tiles).to(tl.int64), tl.program_id(0) % tiles
    p = tile * BLOCK_P + tl.arange(0, BLOCK_P)
    dots = tl.zeros((BLOCK_M, BLOCK_P), tl.float32)
    for first in range(0, outputs, BLOCK_M):
        m = first + tl.arange(0, BLOCK_M)
        total = tl.zeros((BLOCK_M, BLOCK_P), tl.float32)
        for start in range(0, inputs, BLOCK_K):
            k = start + tl.arange(0, BLOCK_K)
            mask = (k[:, None] < inputs) & (p[None, :] < plane)
            x = tl.load(in_ptr + (n * inputs + k[:, None]) * plane + p[None, :], mask=mask, other=0.0)
            mask = (m[:, None] < outputs) & (k[None, :] < inputs)
            weight = tl.load(weight_ptr + m[:, None] * inputs + k[None, :], mask=mask, other=0.0)
            total = dot(weight, x, total, PRECISION)
        if bias_ptr is not None:
            total += tl.load(bias_ptr + m, mask=m < outputs, other=0.0).to(tl.float32)[:, None]
        mask = (m[:, None] < outputs) & (p[None, :] < plane)
        grad = tl.load(grad_ptr + (n * outputs + m[:, None]) * plane + p[None, :], mask=mask, other=0.0)
        dots += grad.to(tl.float32) * total
    tl.store(partial_ptr + tile * batch + n, tl.sum(tl.sum(dots, 1), 0))


def input_gradient(grad: Tensor, weight: Tensor, keep: Tensor | None) -> Tensor:
    """keep Wo^T grad, (N, K, H, W)."""
    n, outputs, h, w = grad.shape
    inputs = weight.shape[1]
    constants = config("lk_block.input_gradient", grad.dtype, n * h * w)
    tiles = triton.cdiv(h * w, constants["BLOCK_P"])
    dw = grad.new_empty((n, inputs, h, w))
    grid = (n * tiles, triton.cdiv(inputs, constants["BLOCK_K"]))
    constants["PRECISION"] = precision(grad.dtype)
    launch(input_gradient_kernel, grid, weight, grad, keep, dw, outputs, inputs, h * w, tiles, **constants)
    return dw


def weight_gradient(grad: Tensor, x: Tensor, keep: Tensor | None, dweight: Tensor, dbias: Tensor | None) -> None:
    """Fill dweight = sum over n, pixels of keep grad x^T and dbias = sum of keep grad."""
    n, outputs, h, w = grad.shape
    inputs = x.shape[1]
    constants = config("lk_block.weight_gradient", x.dtype, n * h * w)
    splits_at_most = constants.pop("SPLITS")
    tiles = triton.cdiv(h * w, constants["BLOCK_P"])
    splits = min(splits_at_most, n * tiles)
    partial = workspace(x, splits, outputs, inputs + 1)
    grid = (splits, triton.cdiv(outputs, constants["BLOCK_M"]), triton.cdiv(inputs, constants["BLOCK_K"]))
    constants["PRECISION"] = precision(x.dtype)
    launch(weight_gradient_kernel, grid, grad, x, keep, partial, outputs, inputs, h * w, tiles, n * tiles, **constants)
    sums = (triton.cdiv(outputs * (inputs + 1), 256),)
    launch(sum_weight_gradient_kernel, sums, partial, dweight, dbias, outputs, inputs, splits, BLOCK=256, num_warps=4)


def keep_gradient(grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, dkeep: Tensor) -> None:
    """Fill dkeep[n] = sum of grad (Wo x + bo)."""
    n, outputs, h, w = grad.shape
    constants = config("lk_block.keep_gradient", x.dtype, n * h * w)
    tiles = triton.cdiv(h * w, constants["BLOCK_P"])
    partial = workspace(x, tiles, n)
    arguments = (grad, weight, bias, x, partial, n, outputs, x.shape[1], h * w, tiles)
    launch(keep_gradient_kernel, (n * tiles,), *arguments, PRECISION=precision(x.dtype), **constants)
    launch(sum_of_partials_kernel, (triton.cdiv(n, 128),), partial, dkeep, n, tiles, BLOCK=128, num_warps=4)
