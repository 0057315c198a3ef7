"""Channel attention on the GPU: sums of each plane, the gate, and the scaled planes; `attention` shares the gate.

Plane p is channel p % C of sample p // C. Sums over a plane come in `tiles` parts, (N, C, tiles) in float32, so that a
large plane is read by several programs; whoever needs the total adds the parts in their order.
"""

# long: kernels and launchers of one stage, with the device functions that they share

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..._core.library import gradients_like
from ...triton import config, launch, next_power_of_2, workspace


@triton.jit
def total(sums_ptr, planes, mask, tiles):
    """Sum of the parts of each plane, by sixteens: rounding errors grow with the length of a chain of additions."""
    result = tl.zeros(planes.shape, tl.float32)
    for first in range(0, tiles, 16):
        some = tl.zeros(planes.shape, tl.float32)
        for t in range(first, tl.minimum(first + 16, tiles)):
            some += tl.load(sums_ptr + planes * tiles + t, mask=mask, other=0.0)
        result += some
    return result


@triton.jit
def hidden_of(
    sums_ptr,
    w1_ptr,
    b1_ptr,
    n,
    channels,
    tiles,
    pixels,
    HIDDEN: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """relu(W1 mean + b1) of sample n, (BLOCK_R,) with zeros beyond HIDDEN."""
    r = tl.arange(0, BLOCK_R)
    hidden = tl.zeros((BLOCK_R,), tl.float32)
    for start in range(0, channels, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)
        mean = total(sums_ptr, n * channels + c, c < channels, tiles) / pixels
        mask = (r[:, None] < HIDDEN) & (c[None, :] < channels)
        w1 = tl.load(w1_ptr + r[:, None] * channels + c[None, :], mask=mask, other=0.0).to(tl.float32)
        hidden += tl.sum(w1 * mean[None, :], 1)
    if b1_ptr is not None:
        hidden += tl.load(b1_ptr + r, mask=r < HIDDEN, other=0.0).to(tl.float32)
    return tl.where(hidden <= 0, 0.0, hidden)  # tl.maximum would turn NaN into 0


@triton.jit
def scale_of(hidden, w2_ptr, b2_ptr, c, mask, HIDDEN: tl.constexpr, BLOCK_R: tl.constexpr):
    """sigmoid(W2 hidden + b2) of channels c."""
    r = tl.arange(0, BLOCK_R)
    mask2 = mask[:, None] & (r[None, :] < HIDDEN)
    w2 = tl.load(w2_ptr + c[:, None] * HIDDEN + r[None, :], mask=mask2, other=0.0).to(tl.float32)
    z = tl.sum(w2 * hidden[None, :], 1)
    if b2_ptr is not None:
        z += tl.load(b2_ptr + c, mask=mask, other=0.0).to(tl.float32)
    return tl.sigmoid(z)


@triton.jit
def sums_kernel(x_ptr, y_ptr, sums_ptr, plane, TILE: tl.constexpr, BLOCK: tl.constexpr):
    """Each plane's sum, in parts of TILE pixels, of x, or of x y where y is given."""
    p, t = tl.program_id(0).to(tl.int64), tl.program_id(1)
    sums = tl.zeros((BLOCK,), tl.float32)
    for start in range(t * TILE, min(t * TILE + TILE, plane), BLOCK):
        i = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + p * plane + i, mask=i < plane, other=0.0).to(tl.float32)
        if y_ptr is not None:
            x *= tl.load(y_ptr + p * plane + i, mask=i < plane, other=0.0).to(tl.float32)
        sums += x
    tl.store(sums_ptr + p * tl.num_programs(1) + t, tl.sum(sums, 0))


@triton.jit
def total_kernel(sums_ptr, total_ptr, planes, tiles, BLOCK: tl.constexpr):
    """Sum of the parts of BLOCK planes, where there are so many that not every program of the next kernel should."""
    p = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tl.store(total_ptr + p, total(sums_ptr, p, p < planes, tiles), mask=p < planes)


@triton.jit
def scale_kernel(
    x_ptr,
    sums_ptr,
    w1_ptr,
    b1_ptr,
    w2_ptr,
    b2_ptr,
    y_ptr,
    mean_ptr,
    channels,
    tiles,
    plane,
    HIDDEN: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_R: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """y = scale of the plane * x, and the mean. Every program computes the hidden layer again: a launch costs more."""
    p, t = tl.program_id(0).to(tl.int64), tl.program_id(1)
    hidden = hidden_of(sums_ptr, w1_ptr, b1_ptr, p // channels, channels, tiles, plane, HIDDEN, BLOCK_C, BLOCK_R)
    one = tl.zeros((1,), tl.int64)
    scale = scale_of(hidden, w2_ptr, b2_ptr, p % channels + one, one == 0, HIDDEN, BLOCK_R)
    if t == 0:
        tl.store(mean_ptr + p + one, total(sums_ptr, p + one, one == 0, tiles) / plane)
    for start in range(t * TILE, min(t * TILE + TILE, plane), BLOCK):
        i = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + p * plane + i, mask=i < plane, other=0.0).to(tl.float32)
        tl.store(y_ptr + p * plane + i, (scale * x).to(y_ptr.dtype.element_ty), mask=i < plane)


@triton.jit
def gate_backward_kernel(
    dots_ptr,
    mean_ptr,
    w1_ptr,
    b1_ptr,
    w2_ptr,
    b2_ptr,
    dz_ptr,
    dhidden_ptr,
    hidden_ptr,
    scale_ptr,
    dmean_ptr,
    channels,
    dot_tiles,
    plane,
    HIDDEN: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """The gate of one sample and its gradients, from dots = sums of grad * x (the gradient of the scale).

    Writes dz (before the sigmoid), dhidden (before the ReLU), hidden and scale, and dmean / pixels: what every pixel's
    gradient gets added.
    """
    n = tl.program_id(0).to(tl.int64)
    r = tl.arange(0, BLOCK_R)
    hidden = hidden_of(mean_ptr, w1_ptr, b1_ptr, n, channels, 1, 1, HIDDEN, BLOCK_C, BLOCK_R)
    tl.store(hidden_ptr + n * HIDDEN + r, hidden, mask=r < HIDDEN)
    dhidden = tl.zeros((BLOCK_R,), tl.float32)
    for start in range(0, channels, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)
        mask = c < channels
        scale = scale_of(hidden, w2_ptr, b2_ptr, c, mask, HIDDEN, BLOCK_R)
        dz = total(dots_ptr, n * channels + c, mask, dot_tiles) * scale * (1 - scale)
        tl.store(scale_ptr + n * channels + c, scale, mask=mask)
        tl.store(dz_ptr + n * channels + c, dz, mask=mask)
        mask2 = mask[:, None] & (r[None, :] < HIDDEN)
        w2 = tl.load(w2_ptr + c[:, None] * HIDDEN + r[None, :], mask=mask2, other=0.0).to(tl.float32)
        dhidden += tl.sum(w2 * dz[:, None], 0)
    dhidden = tl.where(hidden <= 0, 0.0, dhidden)
    tl.store(dhidden_ptr + n * HIDDEN + r, dhidden, mask=r < HIDDEN)
    for start in range(0, channels, BLOCK_C):
        c = start + tl.arange(0, BLOCK_C)
        mask2 = (r[:, None] < HIDDEN) & (c[None, :] < channels)
        w1 = tl.load(w1_ptr + r[:, None] * channels + c[None, :], mask=mask2, other=0.0).to(tl.float32)
        dmean = tl.sum(w1 * dhidden[:, None], 0) / plane
        tl.store(dmean_ptr + n * channels + c, dmean, mask=c < channels)


@triton.jit
def gate_parameters_kernel(
    dz_ptr,
    dhidden_ptr,
    hidden_ptr,
    mean_ptr,
    dw1_ptr,
    db1_ptr,
    dw2_ptr,
    db2_ptr,
    batch,
    channels,
    HIDDEN: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """Gradients of the gate's parameters: dW2 = sum over n of dz hidden^T, dW1 = sum over n of dhidden mean^T."""
    c, r = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C), tl.arange(0, BLOCK_R)
    dw1 = tl.zeros((BLOCK_R, BLOCK_C), tl.float32)
    dw2 = tl.zeros((BLOCK_C, BLOCK_R), tl.float32)
    db1 = tl.zeros((BLOCK_R,), tl.float32)
    db2 = tl.zeros((BLOCK_C,), tl.float32)
    for n in range(0, batch):
        dz = tl.load(dz_ptr + n * channels + c, mask=c < channels, other=0.0)
        mean = tl.load(mean_ptr + n * channels + c, mask=c < channels, other=0.0)
        hidden = tl.load(hidden_ptr + n * HIDDEN + r, mask=r < HIDDEN, other=0.0)
        dhidden = tl.load(dhidden_ptr + n * HIDDEN + r, mask=r < HIDDEN, other=0.0)
        dw2 += dz[:, None] * hidden[None, :]
        dw1 += dhidden[:, None] * mean[None, :]
        db1 += dhidden
        db2 += dz
    mask1 = (r[:, None] < HIDDEN) & (c[None, :] < channels)
    mask2 = (c[:, None] < channels) & (r[None, :] < HIDDEN)
    tl.store(dw1_ptr + r[:, None] * channels + c[None, :], dw1.to(dw1_ptr.dtype.element_ty), mask=mask1)
    tl.store(dw2_ptr + c[:, None] * HIDDEN + r[None, :], dw2.to(dw2_ptr.dtype.element_ty), mask=mask2)
    if db2_ptr is not None:
        tl.store(db2_ptr + c, db2.to(db2_ptr.dtype.element_ty), mask=c < channels)
    if db1_ptr is not None:
        if tl.program_id(0) == 0:
            tl.store(db1_ptr + r, db1.to(db1_ptr.dtype.element_ty), mask=r < HIDDEN)


@triton.jit
def scale_backward_kernel(grad_ptr, scale_ptr, dmean_ptr, dx_ptr, plane, TILE: tl.constexpr, BLOCK: tl.constexpr):
    """dx = scale * grad + dmean / pixels"""
    p, t = tl.program_id(0).to(tl.int64), tl.program_id(1)
    scale, dmean = tl.load(scale_ptr + p), tl.load(dmean_ptr + p)
    for start in range(t * TILE, min(t * TILE + TILE, plane), BLOCK):
        i = start + tl.arange(0, BLOCK)
        grad = tl.load(grad_ptr + p * plane + i, mask=i < plane, other=0.0).to(tl.float32)
        tl.store(dx_ptr + p * plane + i, (scale * grad + dmean).to(dx_ptr.dtype.element_ty), mask=i < plane)


def gate_blocks(hidden: int) -> dict[str, int]:
    """Constants of the gate's device functions: tiles of at most 4096 weights."""
    block_r = next_power_of_2(hidden)
    return {"HIDDEN": hidden, "BLOCK_R": block_r, "BLOCK_C": max(1, min(128, 4096 // block_r))}


def inside(hidden: int) -> bool:
    """Whether the gate may be computed inside a kernel with products: Triton (3.7) fails to compile larger ones."""
    return hidden <= 64


def plane_sums(x: Tensor, y: Tensor | None = None) -> Tensor:
    """Sums of x, or of x y, over each plane, (N, C, tiles)."""
    n, c, h, w = x.shape
    constants = config("channel_attention.planes", x.dtype, h * w)
    tiles = triton.cdiv(h * w, constants["TILE"])
    sums = workspace(x, n, c, tiles)
    launch(sums_kernel, (n * c, tiles), x, y, sums, h * w, **constants)
    return sums


def gate_backward(
    dots: Tensor,
    mean: Tensor,
    parameters: Sequence[Tensor | None],
    plane: int,
    gradients: Sequence[Tensor],
) -> tuple[Tensor, Tensor]:
    """The gate's scale (N, C) and dmean / plane (N, C); fills the gradients of the parameters that are not empty.

    Args:
        dots: (N, C, tiles), parts of the gradient of the scale.
        mean: (N, C), of each plane.
        parameters: W1, b1, W2, b2.
        plane: pixels of a plane.
        gradients: of W1, b1, W2, b2; empty for what needs none.
    """
    w1, b1, w2, b2 = parameters
    assert w1 is not None
    hidden, c = w1.shape[:2]
    n = mean.shape[0]
    blocks = gate_blocks(hidden)
    dz, scale, dmean = workspace(mean, 3, n, c)
    h, dh = workspace(mean, 2, n, hidden)
    results = (dz, dh, h, scale, dmean)
    options = {"num_warps": 8, "maxnreg": 96}  # one program a sample: it is latency that counts
    numbers = (c, dots.shape[-1], plane)
    launch(gate_backward_kernel, (n,), dots, mean, w1, b1, w2, b2, *results, *numbers, **blocks, **options)
    if any(gradient.numel() for gradient in gradients):
        dw1, db1, dw2, db2 = gradients
        dw1 = dw1 if dw1.numel() else torch.empty_like(w1)
        dw2 = dw2 if dw2.numel() else torch.empty_like(w1)
        biases = (db1 if db1.numel() else None, db2 if db2.numel() else None)
        grid = (triton.cdiv(c, blocks["BLOCK_C"]),)
        launch(gate_parameters_kernel, grid, dz, dh, h, mean, dw1, biases[0], dw2, biases[1], n, c, **blocks)
    return scale, dmean


def forward(x: Tensor, w1: Tensor, b1: Tensor | None, w2: Tensor, b2: Tensor | None) -> tuple[Tensor, Tensor]:
    """y, and the means of the planes, which backward needs."""
    n, c, h, w = x.shape
    sums = plane_sums(x)
    y, mean, tiles = torch.empty_like(x), workspace(x, n, c), sums.shape[-1]
    if tiles > 16:
        sums, parts = workspace(x, n, c, 1), sums
        launch(total_kernel, (triton.cdiv(n * c, 128),), parts, sums, n * c, tiles, BLOCK=128, num_warps=4)
    constants = {**config("channel_attention.planes", x.dtype, h * w), **gate_blocks(w1.shape[0])}
    numbers = (c, sums.shape[-1], h * w)
    launch(scale_kernel, (n * c, tiles), x, sums, w1, b1, w2, b2, y, mean, *numbers, **constants)
    return y, mean


def backward(
    grad: Tensor,
    x: Tensor,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    b2: Tensor | None,
    mean: Tensor,
    needs: Sequence[bool],
) -> list[Tensor]:
    """Gradients of x, W1, b1, W2, b2."""
    gradients = gradients_like(needs, x, w1, b1, w2, b2)
    n, c, h, w = x.shape
    dots = plane_sums(grad, x)
    scale, dmean = gate_backward(dots, mean, (w1, b1, w2, b2), h * w, gradients[1:])
    if needs[0]:
        constants = config("channel_attention.planes", x.dtype, h * w)
        grid = (n * c, dots.shape[-1])
        launch(scale_backward_kernel, grid, grad, scale, dmean, gradients[0], h * w, **constants)
    return gradients
