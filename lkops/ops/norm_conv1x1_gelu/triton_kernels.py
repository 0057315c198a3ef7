"""Layer norm, 1x1 conv and GELU on the GPU: forward in one launch, backward in three.

Backward needs of forward's tensors only the inputs. Its first launch writes dx, and dh = grad gelu'(h) for the
parameters, whose gradients all follow from the sums over the pixels of xhat dh^T and dh: the second launch computes
these in splits, the third adds the splits in their order.
"""

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..._core.library import gradients_like
from ...triton import config, launch, next_power_of_2, precision, workspace
from ...triton.device import gelu
from .triton_backward import parameters_kernel, pixels_backward_kernel, products_kernel
from .triton_tiles import before_gelu, load_tile, moments, store_tile


@triton.jit
def forward_kernel(
    x_ptr,
    norm_weight_ptr,
    norm_bias_ptr,
    w_ptr,
    b_ptr,
    y_ptr,
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
    """y = gelu(W z + b) of BLOCK_K outputs of one tile; the programs of a tile are neighbours and share x in L2."""
    blocks, tiles = tl.cdiv(OUTPUTS, BLOCK_K), tl.cdiv(plane, BLOCK_P)
    tile = tl.program_id(0) // blocks
    k = tl.program_id(0) % blocks * BLOCK_K + tl.arange(0, BLOCK_K)
    p = tile % tiles * BLOCK_P + tl.arange(0, BLOCK_P)
    n = (tile // tiles).to(tl.int64)
    x_ptr += n * CHANNELS * plane
    x = load_tile(x_ptr, tl.arange(0, BLOCK_ALL), p, CHANNELS, plane).to(tl.float32)
    mean, rest, rstd = moments(x, x_ptr, p, plane, eps, CHANNELS, BLOCK_ALL)
    h = before_gelu(
        x, mean, rest, rstd, x_ptr, norm_weight_ptr, norm_bias_ptr, w_ptr, b_ptr, k, p, plane,
        CHANNELS, OUTPUTS, PRECISION, BLOCK_C,
    )  # fmt: skip
    store_tile(y_ptr + n * OUTPUTS * plane, k, p, OUTPUTS, plane, gelu(h))


def block(size: int, limit: int) -> int:
    """Length of a block over `size`: a power of two that a product takes, at most `limit`."""
    return max(16, min(limit, next_power_of_2(size)))


def tile_constants(kernel: str, x: Tensor, weight: Tensor) -> dict[str, Any]:
    """Constants of the kernels that hold a tile; their work is the pixels of the batch."""
    (n, c, h, w), k = x.shape, weight.shape[0]
    constants = config(kernel, x.dtype, n * h * w)
    whole = block(c, 256) if c <= 256 else 128
    if whole > 128:  # half the pixels and twice the threads hold them
        constants["BLOCK_P"], constants["num_warps"] = max(16, constants["BLOCK_P"] // 2), 8
    constants["BLOCK_P"] = block(h * w, constants["BLOCK_P"])
    constants["BLOCK_C"] = min(constants["BLOCK_C"], whole)
    constants["BLOCK_K"] = block(k, constants["BLOCK_K"])
    return {"CHANNELS": c, "OUTPUTS": k, "PRECISION": precision(x.dtype), "BLOCK_ALL": whole, **constants}


def forward(
    x: Tensor, norm_weight: Tensor, norm_bias: Tensor, weight: Tensor, bias: Tensor | None, eps: float
) -> Tensor:
    """y (N, K, H, W)."""
    (n, _, h, w), k = x.shape, weight.shape[0]
    y = x.new_empty((n, k, h, w))
    constants = tile_constants("norm_conv1x1_gelu.forward", x, weight)
    grid = (n * triton.cdiv(h * w, constants["BLOCK_P"]) * triton.cdiv(k, constants["BLOCK_K"]),)
    launch(forward_kernel, grid, x, norm_weight, norm_bias, weight, bias, y, h * w, eps, **constants)
    return y


def backward(
    grad: Tensor,
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    eps: float,
    needs: Sequence[bool],
    *,
    residual: Tensor | None = None,
) -> list[Tensor]:
    """Gradients of x, norm_weight, norm_bias, weight, bias; `residual`, like x, is added to that of x."""
    gradients = gradients_like(needs, x, norm_weight, norm_bias, weight, bias)
    dx, *parameters = [gradient if gradient.numel() else None for gradient in gradients]
    (n, c, h, w), k = x.shape, weight.shape[0]
    constants = tile_constants("norm_conv1x1_gelu.pixels_backward", x, weight)
    of_parameters = any(gradient is not None for gradient in parameters)
    dh = torch.empty_like(grad) if of_parameters or c > constants["BLOCK_ALL"] else None
    means = workspace(x, 2, n, h * w) if of_parameters else None
    inputs = (grad, x, norm_weight, norm_bias, weight, bias, residual)
    grid = (n * triton.cdiv(h * w, constants["BLOCK_P"]),)
    launch(pixels_backward_kernel, grid, *inputs, dx, dh, means, n, h * w, eps, **constants)
    if not of_parameters:
        return gradients

    sizes = {"CHANNELS": c, "OUTPUTS": k}
    constants = config("norm_conv1x1_gelu.products", x.dtype, n * h * w)
    programs = constants.pop("PROGRAMS")
    constants["BLOCK_C"], constants["BLOCK_K"] = block(c, constants["BLOCK_C"]), block(k, constants["BLOCK_K"])
    blocks = triton.cdiv(c, constants["BLOCK_C"]) * triton.cdiv(k, constants["BLOCK_K"])
    tiles = n * triton.cdiv(h * w, constants["BLOCK_P"])
    tiles_of_split = triton.cdiv(tiles, max(1, programs // blocks))
    splits = triton.cdiv(tiles, tiles_of_split)
    partial = workspace(x, splits, c + 1, k)
    constants |= {**sizes, "PRECISION": precision(x.dtype)}
    launch(products_kernel, (splits * blocks,), x, means, dh, partial, n, h * w, tiles_of_split, **constants)

    constants = config("norm_conv1x1_gelu.parameters", x.dtype, splits)
    constants["BLOCK_K"] = block(k, constants["BLOCK_K"])
    grid = (triton.cdiv(c, constants["BLOCK_C"]),)
    launch(parameters_kernel, grid, partial, norm_weight, norm_bias, weight, *parameters, splits, **sizes, **constants)
    return gradients
