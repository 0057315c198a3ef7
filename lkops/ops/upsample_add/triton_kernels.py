"""Conv, PixelShuffle and the bicubic image on the GPU, in one kernel: an implicit product whose tile is stored
shuffled. Backward: `triton_backward.py`.

The product adds to the bicubic image: after the product Triton would hold the image in the layout of the tensor cores,
and carry every pixel of the window there through shared memory.
"""

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..._core.library import gradients_like
from ...triton import config, launch, next_power_of_2, precision, workspace
from ...triton.device import dot
from ..bicubic_upsample.triton_kernels import backward_into, tile_of
from ..bicubic_upsample.triton_tiles import bicubic_tile
from .triton_backward import features_kernel, sums_kernel, weight_kernel
from .triton_tiles import as_outputs, enlarged_tile, gather, outputs_of

PROGRAMS = 528  # a few for every multiprocessor; not the GPU's own number, so that all GPUs add in one order


@triton.jit
def forward_kernel(
    features_ptr,
    weight_ptr,
    bias_ptr,
    low_ptr,
    out_ptr,
    bands,
    groups,
    inputs,
    outputs,
    height,
    width,
    plane_tiles,
    pixel_tiles,
    KH: tl.constexpr,
    KW: tl.constexpr,
    A: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    R: tl.constexpr,
    BB: tl.constexpr,
    PP: tl.constexpr,
    Q: tl.constexpr,
    P: tl.constexpr,
    BLOCK_K: tl.constexpr,
    WHOLE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The outputs of BB planes and PP phases p of one group at P pixels: W times gathered features, bias, bicubic."""
    pid = tl.program_id(0)
    p0 = pid % (R // PP) * PP
    pid = pid // (R // PP)
    group = pid // plane_tiles % groups
    first, last = group * outputs, (group + 1) * outputs
    b0 = first // (R * R) + pid % plane_tiles * BB
    pid = pid // plane_tiles // groups
    pixel0, n = pid % pixel_tiles * P, (pid // pixel_tiles).to(tl.int64)

    m, inside = outputs_of(b0, p0, first, last, R, BB, PP, Q)
    last_k = inputs * (KH * KW)
    features_ptr += (n * groups + group) * inputs * height * width
    if low_ptr is not None:
        b = b0 + tl.arange(0, BB)
        image = bicubic_tile(
            low_ptr, n * bands + b, b < bands, p0, pixel0, height, width, A, R, SYMMETRIC, BB, PP, P, Q
        )
        acc = as_outputs(tl.reshape(image, (BB * PP, P * Q)), BB, PP, Q, P)
    else:
        acc = tl.zeros((BB * PP * Q, P), tl.float32)
    for k0 in range(0, last_k, BLOCK_K):
        k = k0 + tl.arange(0, BLOCK_K)
        mask_w = inside[:, None] & (k < last_k)[None, :]
        w = tl.load(weight_ptr + m[:, None] * last_k + k[None, :], mask=mask_w, other=0.0)
        x = gather(features_ptr, k, last_k, pixel0, height, width, KH, KW, P)
        acc = dot(w, x, acc, PRECISION)
    if bias_ptr is not None:
        acc += tl.load(bias_ptr + m, mask=inside, other=0.0).to(tl.float32)[:, None]
    tile = tl.permute(tl.reshape(acc, (BB, PP, Q, P)), (0, 1, 3, 2))
    offsets, mask = enlarged_tile(n * bands, b0, p0, first, last, pixel0, 0, 0, height, width, R, BB, PP, Q, P, WHOLE)
    tl.store(out_ptr + offsets, tl.reshape(tile, (BB * PP, P * Q)).to(out_ptr.dtype.element_ty), mask=mask)


class _Problem:
    """Sizes of one call, and what follows from them for a kernel's configuration."""

    def __init__(self, features: Tensor, weight: Tensor, scale: int) -> None:
        self.n, channels, self.h, self.w = features.shape
        outputs, self.inputs, self.kh, self.kw = weight.shape
        self.groups = channels // self.inputs
        self.outputs, self.bands = outputs // self.groups, outputs // scale**2
        self.scale, self.dtype = scale, features.dtype
        phases = scale**2
        self.planes = (
            max(((g + 1) * self.outputs - 1) // phases - g * self.outputs // phases for g in range(self.groups)) + 1
        )

    def constants(self, kernel: str) -> dict[str, Any]:
        """The table's configuration for this many pixels, and the sides of the tile."""
        found = config(f"upsample_add.{kernel}", self.dtype, self.n * self.h * self.w)
        least = max(16, next_power_of_2(self.planes * self.scale * next_power_of_2(self.scale)))
        found |= tile_of(self.scale, min(found.pop("BLOCK_M"), least), found.pop("BLOCK_P"))
        if "BLOCK_K" in found:
            found["BLOCK_K"] = min(found["BLOCK_K"], max(16, next_power_of_2(self.inputs * self.kh * self.kw)))
        if "BLOCK_C" in found:
            found["BLOCK_C"] = min(found["BLOCK_C"], max(16, next_power_of_2(self.inputs)))
        whole = self.outputs % self.scale == 0
        return {**found, "KH": self.kh, "KW": self.kw, "WHOLE": whole, "PRECISION": precision(self.dtype)}

    @property
    def sizes(self) -> tuple[int, ...]:
        """The whole numbers that every kernel takes."""
        return self.bands, self.groups, self.inputs, self.outputs, self.h, self.w


def forward(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    lowres: Tensor | None,
    scale: int,
    cubic_a: float,
    symmetric: bool,
    relaxed: bool,
    saving: bool,
) -> Tensor:
    """y (N, B, r H, r W), of the wider dtype of features and lowres."""
    problem = _Problem(features, weight, scale)
    dtype = features.dtype if lowres is None else torch.promote_types(features.dtype, lowres.dtype)
    out = features.new_empty((problem.n, problem.bands, problem.h * scale, problem.w * scale), dtype=dtype)
    constants = problem.constants("forward") | {"A": cubic_a, "SYMMETRIC": symmetric}
    if lowres is not None:  # a small scale has many planes in a tile: at most 4 pixels' windows a thread
        constants["P"] = min(constants["P"], max(16, 4 * 32 * constants["num_warps"] // constants["BB"]))
    plane_tiles = triton.cdiv(problem.planes, constants["BB"])
    pixel_tiles = triton.cdiv(problem.h * problem.w, constants["P"])
    grid = (scale // constants["PP"] * plane_tiles * problem.groups * pixel_tiles * problem.n,)
    tensors = (features, weight, bias, lowres, out)
    launch(forward_kernel, grid, *tensors, *problem.sizes, plane_tiles, pixel_tiles, **constants)
    return out


def _features_gradient(problem: _Problem, grad: Tensor, weight: Tensor, dfeatures: Tensor) -> None:
    constants = problem.constants("features")
    if problem.scale >= 8 and problem.dtype is not torch.float32:
        constants["P"] = max(16, constants["P"] // 2)  # a float32 gradient's tile, widened r^2 times, would spill
    packed = weight.flatten(2).permute(2, 1, 0).contiguous()
    plane_tiles = triton.cdiv(problem.planes, constants["BB"])
    channel_tiles = triton.cdiv(problem.inputs, constants["BLOCK_C"])
    pixel_tiles = triton.cdiv(problem.h * problem.w, constants["P"])
    grid = (channel_tiles * problem.groups * pixel_tiles * problem.n,)
    tiles = (plane_tiles, channel_tiles, pixel_tiles)
    launch(features_kernel, grid, grad, packed, dfeatures, *problem.sizes, *tiles, **constants)


def _weight_gradient(
    problem: _Problem, grad: Tensor, features: Tensor, dweight: Tensor | None, dbias: Tensor | None
) -> None:
    constants = problem.constants("weight")
    plane_tiles = triton.cdiv(problem.planes, constants["BB"])
    k_tiles = triton.cdiv(problem.inputs * problem.kh * problem.kw, constants["BLOCK_K"]) if dweight is not None else 1
    pixel_tiles = triton.cdiv(problem.h * problem.w, constants["P"])
    all_tiles = pixel_tiles * problem.n
    programs = k_tiles * (problem.scale // constants["PP"]) * plane_tiles * problem.groups
    split_tiles = triton.cdiv(all_tiles, max(1, min(all_tiles, PROGRAMS // programs)))
    splits = triton.cdiv(all_tiles, split_tiles)
    weights = dweight.numel() if dweight is not None else 0
    stride = weights + (dbias.numel() if dbias is not None else 0)
    targets = [dweight, dbias]
    if splits > 1:
        partial = workspace(grad, splits * stride)
        targets = [None if dweight is None else partial, None if dbias is None else partial[weights:]]
    tiles = (plane_tiles, k_tiles, pixel_tiles, all_tiles, split_tiles)
    launch(weight_kernel, (programs, splits), grad, features, *targets, *problem.sizes, *tiles, stride, **constants)
    if splits > 1:
        block = 1024
        launch(
            sums_kernel, (triton.cdiv(stride, block),), partial, dweight, dbias, weights, stride, splits, BLOCK=block
        )


def backward(
    grad: Tensor,
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    lowres: Tensor | None,
    scale: int,
    cubic_a: float,
    symmetric: bool,
    relaxed: bool,
    needs: Sequence[bool],
) -> list[Tensor]:
    """Gradients of features, weight, bias and lowres."""
    gradients = gradients_like(needs, features, weight, bias, lowres)
    dfeatures, dweight, dbias, dlowres = gradients
    problem = _Problem(features, weight, scale)
    if needs[0]:
        _features_gradient(problem, grad, weight, dfeatures)
    if needs[1] or (needs[2] and bias is not None):
        wanted = (dweight if needs[1] else None, dbias if needs[2] and bias is not None else None)
        _weight_gradient(problem, grad, features, *wanted)
    if needs[3] and lowres is not None:
        backward_into(dlowres, grad, scale, cubic_a, symmetric)
    return gradients
