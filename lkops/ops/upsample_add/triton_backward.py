"""Gradients of `upsample_add` by features, weight and bias; that of the small image is `bicubic`'s."""

import triton
import triton.language as tl

from ...triton.device import dot
from .triton_tiles import as_outputs, enlarged_tile, gather, outputs_of


@triton.jit
def features_kernel(
    grad_ptr,
    packed_ptr,
    dfeatures_ptr,
    bands,
    groups,
    inputs,
    outputs,
    height,
    width,
    plane_tiles,
    channel_tiles,
    pixel_tiles,
    KH: tl.constexpr,
    KW: tl.constexpr,
    R: tl.constexpr,
    BB: tl.constexpr,
    PP: tl.constexpr,
    Q: tl.constexpr,
    P: tl.constexpr,
    BLOCK_C: tl.constexpr,
    WHOLE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dfeatures[c, pixel] = sum over outputs m of the group and taps of W[m, c, tap] grad[m, pixel - tap], for BLOCK_C
    channels of one group and P pixels; `packed` is W as (taps, inputs of a group, outputs of all)."""
    pid = tl.program_id(0)
    c = pid % channel_tiles * BLOCK_C + tl.arange(0, BLOCK_C)
    group = pid // channel_tiles % groups
    pid = pid // channel_tiles // groups
    pixel0, n = pid % pixel_tiles * P, (pid // pixel_tiles).to(tl.int64)
    first, last = group * outputs, (group + 1) * outputs
    dfeatures = tl.zeros((BLOCK_C, P), tl.float32)
    for tile in range(0, plane_tiles * (R // PP)):
        b0, p0 = first // (R * R) + tile // (R // PP) * BB, tile % (R // PP) * PP
        m, inside = outputs_of(b0, p0, first, last, R, BB, PP, Q)
        mask_w = (c < inputs)[:, None] & inside[None, :]
        for tap in range(0, KH * KW):
            dy, dx = KH // 2 - tap // KW, KW // 2 - tap % KW
            offsets, mask = enlarged_tile(
                n * bands, b0, p0, first, last, pixel0, dy, dx, height, width, R, BB, PP, Q, P, WHOLE
            )
            grad = tl.load(grad_ptr + offsets, mask=mask, other=0.0).to(packed_ptr.dtype.element_ty)
            w = tl.load(packed_ptr + (tap * inputs + c)[:, None] * (groups * outputs) + m[None, :], mask_w, other=0.0)
            dfeatures = dot(w, as_outputs(grad, BB, PP, Q, P), dfeatures, PRECISION)
    pixel = pixel0 + tl.arange(0, P)
    plane = (n * groups + group) * inputs + c
    mask = (c < inputs)[:, None] & (pixel < height * width)[None, :]
    target = dfeatures_ptr + plane[:, None] * height * width + pixel[None, :]
    tl.store(target, dfeatures.to(dfeatures_ptr.dtype.element_ty), mask=mask)


@triton.jit
def weight_kernel(
    grad_ptr,
    features_ptr,
    dweight_ptr,
    dbias_ptr,
    bands,
    groups,
    inputs,
    outputs,
    height,
    width,
    plane_tiles,
    k_tiles,
    pixel_tiles,
    all_tiles,
    split_tiles,
    stride,
    KH: tl.constexpr,
    KW: tl.constexpr,
    R: tl.constexpr,
    BB: tl.constexpr,
    PP: tl.constexpr,
    Q: tl.constexpr,
    P: tl.constexpr,
    BLOCK_K: tl.constexpr,
    WHOLE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dW[m, k] = sum over pixels of grad[m, pixel] gathered features[k, pixel], and dbias[m] = sum of grad[m, pixel],
    for BM outputs of one group, BLOCK_K weights of each and the pixel tiles of one split; split s writes at s stride.
    """
    pid, split = tl.program_id(0), tl.program_id(1)
    k_tile = pid % k_tiles
    k = k_tile * BLOCK_K + tl.arange(0, BLOCK_K)
    pid = pid // k_tiles
    p0 = pid % (R // PP) * PP
    pid = pid // (R // PP)
    group = pid // plane_tiles
    first, last = group * outputs, (group + 1) * outputs
    b0 = first // (R * R) + pid % plane_tiles * BB
    last_k = inputs * (KH * KW)
    dweight = tl.zeros((BB * PP * Q, BLOCK_K), tl.float32)
    dbias = tl.zeros((BB * PP * Q,), tl.float32)
    for tile in range(split * split_tiles, min((split + 1) * split_tiles, all_tiles)):
        pixel0, n = tile % pixel_tiles * P, (tile // pixel_tiles).to(tl.int64)
        offsets, mask = enlarged_tile(
            n * bands, b0, p0, first, last, pixel0, 0, 0, height, width, R, BB, PP, Q, P, WHOLE
        )
        grad = as_outputs(tl.load(grad_ptr + offsets, mask=mask, other=0.0), BB, PP, Q, P)
        if dweight_ptr is not None:
            base = features_ptr + (n * groups + group) * inputs * height * width
            x = gather(base, k, last_k, pixel0, height, width, KH, KW, P)
            dweight = dot(grad.to(features_ptr.dtype.element_ty), tl.trans(x), dweight, PRECISION)
        if dbias_ptr is not None:
            if k_tile == 0:
                dbias += tl.sum(grad.to(tl.float32), 1)
    m, inside = outputs_of(b0, p0, first, last, R, BB, PP, Q)
    target = split.to(tl.int64) * stride + m
    if dweight_ptr is not None:
        target_w = split.to(tl.int64) * stride + m[:, None] * last_k + k[None, :]
        mask = inside[:, None] & (k < last_k)[None, :]
        tl.store(dweight_ptr + target_w, dweight.to(dweight_ptr.dtype.element_ty), mask=mask)
    if dbias_ptr is not None:
        if k_tile == 0:
            tl.store(dbias_ptr + target, dbias.to(dbias_ptr.dtype.element_ty), mask=inside)


@triton.jit
def sums_kernel(partial_ptr, dweight_ptr, dbias_ptr, weights, stride, splits, BLOCK: tl.constexpr):
    """The sums over all splits, in their order: `weights` of dweight and then those of dbias in each."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for s in range(0, splits):
        total += tl.load(partial_ptr + s * stride + i, mask=i < stride, other=0.0)
    if dweight_ptr is not None:
        tl.store(dweight_ptr + i, total.to(dweight_ptr.dtype.element_ty), mask=i < weights)
    if dbias_ptr is not None:
        mask = (i >= weights) & (i < stride)
        tl.store(dbias_ptr + i - weights, total.to(dbias_ptr.dtype.element_ty), mask=mask)
