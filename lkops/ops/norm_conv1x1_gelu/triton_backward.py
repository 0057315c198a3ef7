"""Backward of layer norm, 1x1 conv and GELU: what belongs to pixels, then the sums over all of them."""

import triton
import triton.language as tl

from ...triton.device import dot, gelu_slope
from .triton_tiles import before_gelu, load_tile, load_vector, load_weight, moments, normalised, store_tile


@triton.jit
def pixels_backward_kernel(
    grad_ptr,
    x_ptr,
    norm_weight_ptr,
    norm_bias_ptr,
    w_ptr,
    b_ptr,
    residual_ptr,
    dx_ptr,
    dh_ptr,
    moments_ptr,
    batch,
    plane,
    eps,
    CHANNELS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_ALL: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """What is needed of one tile: dx (plus the residual), dh = grad gelu'(h), and mean and 1 / std of each pixel.

        dz = W^T dh,   g = dz * norm_weight,   dx = (g - mean_c(g) - xhat mean_c(g xhat)) / std

    More than BLOCK_ALL channels need dh of all outputs first: the program reads back what it wrote to dh and, between
    the two passes over the channels, its g from dx.
    """
    tiles = tl.cdiv(plane, BLOCK_P)
    n = (tl.program_id(0) // tiles).to(tl.int64)
    p = tl.program_id(0) % tiles * BLOCK_P + tl.arange(0, BLOCK_P)
    x_ptr += n * CHANNELS * plane
    grad_ptr += n * OUTPUTS * plane
    c, outputs = tl.arange(0, BLOCK_ALL), tl.arange(0, BLOCK_K)
    x = load_tile(x_ptr, c, p, CHANNELS, plane).to(tl.float32)
    mean, rest, rstd = moments(x, x_ptr, p, plane, eps, CHANNELS, BLOCK_ALL)
    if moments_ptr is not None:
        # in sums over pixels a rounding of the mean is as good as eager's
        tl.store(moments_ptr + n * plane + p, mean + rest, mask=p < plane)
        tl.store(moments_ptr + (batch + n) * plane + p, rstd, mask=p < plane)
    dz = tl.zeros((BLOCK_ALL, BLOCK_P), tl.float32)
    for start in range(0, OUTPUTS, BLOCK_K):
        k = start + outputs
        grad = load_tile(grad_ptr, k, p, OUTPUTS, plane)
        h = before_gelu(
            x, mean, rest, rstd, x_ptr, norm_weight_ptr, norm_bias_ptr, w_ptr, b_ptr, k, p, plane,
            CHANNELS, OUTPUTS, PRECISION, BLOCK_C,
        )  # fmt: skip
        dh = (grad.to(tl.float32) * gelu_slope(h)).to(w_ptr.dtype.element_ty)
        if dh_ptr is not None:
            store_tile(dh_ptr + n * OUTPUTS * plane, k, p, OUTPUTS, plane, dh)
        if dx_ptr is not None and BLOCK_ALL >= CHANNELS:
            dz = dot(tl.trans(load_weight(w_ptr, k, c, OUTPUTS, CHANNELS)), dh, dz, PRECISION)
    if dx_ptr is not None:
        dx_ptr += n * CHANNELS * plane
        if residual_ptr is not None:
            residual_ptr += n * CHANNELS * plane
        if BLOCK_ALL >= CHANNELS:
            g = dz * load_vector(norm_weight_ptr, c, CHANNELS)[:, None]
            xhat = normalised(x, mean, rest, rstd, c, CHANNELS)
            g_mean, gx_mean = tl.sum(g, 0) / CHANNELS, tl.sum(g * xhat, 0) / CHANNELS
            dx = rstd[None, :] * (g - g_mean[None, :] - xhat * gx_mean[None, :])
            if residual_ptr is not None:
                dx += load_tile(residual_ptr, c, p, CHANNELS, plane).to(tl.float32)
            store_tile(dx_ptr, c, p, CHANNELS, plane, dx)
        else:
            tl.debug_barrier()
            g_mean, gx_mean = tl.zeros((BLOCK_P,), tl.float32), tl.zeros((BLOCK_P,), tl.float32)
            for start in range(0, CHANNELS, BLOCK_ALL):
                part = tl.zeros((BLOCK_ALL, BLOCK_P), tl.float32)
                for first in range(0, OUTPUTS, BLOCK_K):
                    weight = load_weight(w_ptr, first + outputs, start + c, OUTPUTS, CHANNELS)
                    dh = load_tile(dh_ptr + n * OUTPUTS * plane, first + outputs, p, OUTPUTS, plane)
                    part = dot(tl.trans(weight), dh, part, PRECISION)
                g = part * load_vector(norm_weight_ptr, start + c, CHANNELS)[:, None]
                g = g.to(dx_ptr.dtype.element_ty).to(tl.float32)
                store_tile(dx_ptr, start + c, p, CHANNELS, plane, g)
                more = load_tile(x_ptr, start + c, p, CHANNELS, plane)
                xhat = normalised(more, mean, rest, rstd, start + c, CHANNELS)
                g_mean += tl.sum(g, 0) / CHANNELS
                gx_mean += tl.sum(g * xhat, 0) / CHANNELS
            tl.debug_barrier()
            for start in range(0, CHANNELS, BLOCK_ALL):
                g = load_tile(dx_ptr, start + c, p, CHANNELS, plane).to(tl.float32)
                more = load_tile(x_ptr, start + c, p, CHANNELS, plane)
                xhat = normalised(more, mean, rest, rstd, start + c, CHANNELS)
                dx = rstd[None, :] * (g - g_mean[None, :] - xhat * gx_mean[None, :])
                if residual_ptr is not None:
                    dx += load_tile(residual_ptr, start + c, p, CHANNELS, plane).to(tl.float32)
                store_tile(dx_ptr, start + c, p, CHANNELS, plane, dx)


@triton.jit
def products_kernel(
    x_ptr,
    moments_ptr,
    dh_ptr,
    partial_ptr,
    batch,
    plane,
    tiles_of_split,
    CHANNELS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """partial[s, c, k] = sum of xhat[c] dh[k] over the pixels of split s; partial[s, CHANNELS, k] = sum of dh[k].

    A program owns BLOCK_C channels and BLOCK_K outputs of one split; those of a split are neighbours.
    """
    k_blocks, tiles = tl.cdiv(OUTPUTS, BLOCK_K), tl.cdiv(plane, BLOCK_P)
    blocks = tl.cdiv(CHANNELS, BLOCK_C) * k_blocks
    s = tl.program_id(0) // blocks
    block = tl.program_id(0) % blocks
    c = block // k_blocks * BLOCK_C + tl.arange(0, BLOCK_C)
    k = block % k_blocks * BLOCK_K + tl.arange(0, BLOCK_K)
    products = tl.zeros((BLOCK_C, BLOCK_K), tl.float32)
    sums = tl.zeros((BLOCK_K,), tl.float32)
    for tile in range(s * tiles_of_split, tl.minimum((s + 1) * tiles_of_split, batch * tiles)):
        n = (tile // tiles).to(tl.int64)
        p = tile % tiles * BLOCK_P + tl.arange(0, BLOCK_P)
        mean = tl.load(moments_ptr + n * plane + p, mask=p < plane, other=0.0)
        rstd = tl.load(moments_ptr + (batch + n) * plane + p, mask=p < plane, other=0.0)
        x = load_tile(x_ptr + n * CHANNELS * plane, c, p, CHANNELS, plane)
        dh = load_tile(dh_ptr + n * OUTPUTS * plane, k, p, OUTPUTS, plane)
        # channels beyond the last give rows of their own, which are not stored
        xhat = ((x.to(tl.float32) - mean[None, :]) * rstd[None, :]).to(dh.dtype)
        products = dot(xhat, tl.trans(dh), products, PRECISION)
        sums += tl.sum(dh.to(tl.float32), 1)
    partial_ptr += s.to(tl.int64) * (CHANNELS + 1) * OUTPUTS
    mask = (c[:, None] < CHANNELS) & (k[None, :] < OUTPUTS)
    tl.store(partial_ptr + c[:, None] * OUTPUTS + k[None, :], products, mask=mask)
    if block // k_blocks == 0:
        tl.store(partial_ptr + CHANNELS * OUTPUTS + k, sums, mask=k < OUTPUTS)


@triton.jit
def parameters_kernel(
    partial_ptr,
    norm_weight_ptr,
    norm_bias_ptr,
    w_ptr,
    dnorm_weight_ptr,
    dnorm_bias_ptr,
    dw_ptr,
    db_ptr,
    splits,
    CHANNELS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Gradients of the parameters of BLOCK_C channels, from Q[c, k] = sum of xhat[c] dh[k] over all pixels.

    db = sum of dh,   dW = Q^T norm_weight + db norm_bias^T
    dnorm_weight[c] = sum over k of W[k, c] Q[c, k],   dnorm_bias[c] = sum over k of W[k, c] db[k]
    """
    c = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    scale, shift = load_vector(norm_weight_ptr, c, CHANNELS), load_vector(norm_bias_ptr, c, CHANNELS)
    dscale, dshift = tl.zeros((BLOCK_C,), tl.float32), tl.zeros((BLOCK_C,), tl.float32)
    for start in range(0, OUTPUTS, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        q = tl.zeros((BLOCK_C, BLOCK_K), tl.float32)
        db = tl.zeros((BLOCK_K,), tl.float32)
        inside = (c[:, None] < CHANNELS) & (k[None, :] < OUTPUTS)
        for first in range(0, splits, BLOCK_S):
            s = (first + tl.arange(0, BLOCK_S)).to(tl.int64)
            rows = s * (CHANNELS + 1) * OUTPUTS
            offsets = rows[:, None, None] + (c[:, None] * OUTPUTS + k[None, :])[None, :, :]
            mask = (s < splits)[:, None, None] & inside[None, :, :]
            q += tl.sum(tl.load(partial_ptr + offsets, mask=mask, other=0.0), 0)
            mask = (s < splits)[:, None] & (k < OUTPUTS)[None, :]
            offsets = rows[:, None] + CHANNELS * OUTPUTS + k[None, :]
            db += tl.sum(tl.load(partial_ptr + offsets, mask=mask, other=0.0), 0)
        if dw_ptr is not None:
            dw = q * scale[:, None] + db[None, :] * shift[:, None]
            tl.store(dw_ptr + k[None, :] * CHANNELS + c[:, None], dw.to(dw_ptr.dtype.element_ty), mask=inside)
        if db_ptr is not None:
            if tl.program_id(0) == 0:
                tl.store(db_ptr + k, db.to(db_ptr.dtype.element_ty), mask=k < OUTPUTS)
        w = tl.load(w_ptr + k[None, :] * CHANNELS + c[:, None], mask=inside, other=0.0).to(tl.float32)
        dscale += tl.sum(w * q, 1)
        dshift += tl.sum(w * db[None, :], 1)
    if dnorm_weight_ptr is not None:
        tl.store(dnorm_weight_ptr + c, dscale.to(dnorm_weight_ptr.dtype.element_ty), mask=c < CHANNELS)
    if dnorm_bias_ptr is not None:
        tl.store(dnorm_bias_ptr + c, dshift.to(dnorm_bias_ptr.dtype.element_ty), mask=c < CHANNELS)
