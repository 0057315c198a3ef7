"""The conv by torch (cuDNN), and behind it one launch for bias, activation, scale and residual; backward likewise: one
launch for the gradient of conv + bias and parts of the sums for bias and slopes, torch's backward of the conv.

Plane p is channel p % O of sample p // O. Sums come in a part for each sample and tile, added in their order.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from ..._core.onednn import rightly_laid_out
from ...triton import config, launch, workspace
from ...triton.device import gelu, gelu_slope, sum_of_partials_kernel
from .values import ACTIVATIONS, Options

_RELU, _LEAKY_RELU, _PRELU, _GELU, _SILU, _SIGMOID = (
    tl.constexpr(ACTIVATIONS.index(name)) for name in ("relu", "leaky_relu", "prelu", "gelu", "silu", "sigmoid")
)


@triton.jit
def act(t, slope, ACTIVATION: tl.constexpr):
    """The activation of t; NaN stays NaN."""
    if ACTIVATION == _RELU:
        t = tl.where(t <= 0, 0.0, t)
    elif ACTIVATION == _LEAKY_RELU or ACTIVATION == _PRELU:  # noqa: SIM109  Triton has no `in`
        t = tl.where(t > 0, t, slope * t)
    elif ACTIVATION == _GELU:
        t = gelu(t)
    elif ACTIVATION == _SILU:
        t = t * tl.sigmoid(t)
    elif ACTIVATION == _SIGMOID:
        t = tl.sigmoid(t)
    return t


@triton.jit
def act_slope(t, slope, ACTIVATION: tl.constexpr):
    """Derivative of `act`, as torch has it where t is 0 or NaN."""
    if ACTIVATION == _RELU:
        d = tl.where(t <= 0, 0.0, 1.0)
    elif ACTIVATION == _LEAKY_RELU or ACTIVATION == _PRELU:  # noqa: SIM109  Triton has no `in`
        d = tl.where(t > 0, 1.0, slope)
    elif ACTIVATION == _GELU:
        d = gelu_slope(t)
    elif ACTIVATION == _SILU:
        s = tl.sigmoid(t)
        d = s * (1 + t * (1 - s))
    else:
        s = tl.sigmoid(t)
        d = s * (1 - s)
    return d


@triton.jit
def epilogue_kernel(
    conv_ptr,
    bias_ptr,
    prelu_ptr,
    residual_ptr,
    before_ptr,
    y_ptr,
    outputs,
    plane,
    slope,
    scale,
    ACTIVATION: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """y = residual + scale act(conv + bias), and conv + bias where it is wanted. Each may take the place of conv."""
    p, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    bias = 0.0
    if bias_ptr is not None:
        bias = tl.load(bias_ptr + p % outputs).to(tl.float32)
    if prelu_ptr is not None:
        slope = tl.load(prelu_ptr + p % outputs).to(tl.float32)
    for start in range(tile * TILE, min(tile * TILE + TILE, plane), BLOCK):
        i = start + tl.arange(0, BLOCK)
        t = tl.load(conv_ptr + p * plane + i, mask=i < plane, other=0.0).to(tl.float32) + bias
        if before_ptr is not None:
            tl.store(before_ptr + p * plane + i, t.to(before_ptr.dtype.element_ty), mask=i < plane)
        y = scale * act(t, slope, ACTIVATION)
        if residual_ptr is not None:
            y += tl.load(residual_ptr + p * plane + i, mask=i < plane, other=0.0).to(tl.float32)
        tl.store(y_ptr + p * plane + i, y.to(y_ptr.dtype.element_ty), mask=i < plane)


@triton.jit
def epilogue_backward_kernel(
    grad_ptr,
    before_ptr,
    prelu_ptr,
    dconv_ptr,
    dbias_ptr,
    dprelu_ptr,
    outputs,
    plane,
    slope,
    scale,
    ACTIVATION: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """dconv = scale grad act'(before); its sum over the tile, and that of scale grad min(before, 0), into parts
    (N, tiles, O)."""
    p, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    channel = p % outputs
    if prelu_ptr is not None:
        slope = tl.load(prelu_ptr + channel).to(tl.float32)
    dbias = tl.zeros((BLOCK,), tl.float32)
    dprelu = tl.zeros((BLOCK,), tl.float32)
    for start in range(tile * TILE, min(tile * TILE + TILE, plane), BLOCK):
        i = start + tl.arange(0, BLOCK)
        d = scale * tl.load(grad_ptr + p * plane + i, mask=i < plane, other=0.0).to(tl.float32)
        if before_ptr is not None:
            t = tl.load(before_ptr + p * plane + i, mask=i < plane, other=0.0).to(tl.float32)
            if dprelu_ptr is not None:
                dprelu += tl.where(t > 0, 0.0, d * t)
            d *= act_slope(t, slope, ACTIVATION)
        if dconv_ptr is not None:
            tl.store(dconv_ptr + p * plane + i, d.to(dconv_ptr.dtype.element_ty), mask=i < plane)
        dbias += d
    part = (p // outputs * tl.num_programs(1) + tile) * outputs + channel
    if dbias_ptr is not None:
        tl.store(dbias_ptr + part, tl.sum(dbias, 0))
    if dprelu_ptr is not None:
        tl.store(dprelu_ptr + part, tl.sum(dprelu, 0))


def forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    prelu_weight: Tensor | None,
    residual: Tensor | None,
    *rest: Any,
) -> tuple[Tensor, Tensor]:
    """The result and, where there will be a backward that starts from it, conv + bias."""
    *options, saving = rest
    o = Options(*options)
    residual = None if residual is None else residual.contiguous()
    # where a half precision is rounded is where eager PyTorch does it: oneDNN, which serves Triton's interpreter, adds
    # the bias before, cuDNN behind
    inside, bias = (bias, None) if input.is_cpu and input.dtype is not torch.float32 else (None, bias)
    conv = F.conv2d(input, weight, inside, *_geometry(o), o.groups).contiguous()
    saves = bool(saving and o.activation and not o.from_result)
    if not o.activation and bias is None and residual is None and o.residual_scale == 1:
        return _image(conv, o.channels_last), conv.new_empty(0)
    y = torch.empty_like(conv) if saves else conv
    before = conv if saves and bias is not None else None
    grid, constants = _planes(conv)
    tensors = (conv, bias, prelu_weight, residual, before, y)
    numbers = (*conv.shape[1:2], conv.shape[2] * conv.shape[3], o.slope, o.residual_scale)
    launch(epilogue_kernel, grid, *tensors, *numbers, ACTIVATION=o.activation, **constants)
    return _image(y, o.channels_last), _image(conv, o.channels_last) if saves else conv.new_empty(0)


def backward(
    grad: Tensor,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    prelu_weight: Tensor | None,
    before: Tensor,
    *rest: Any,
) -> list[Tensor]:
    """Gradients of input, weight, bias, prelu_weight and residual; empty for what needs none."""
    *options, needs = rest
    o = Options(*options)
    grad, before = grad.contiguous(), before.contiguous()
    if o.from_result and o.activation:  # `before` is the result: what stands for conv + bias has the same derivative
        before = before.float() / o.residual_scale
        before = torch.logit(before) if ACTIVATIONS[o.activation] == "sigmoid" else before
    of_conv = needs[0] or needs[1]
    dbias, dprelu = (
        torch.empty_like(t) if t is not None and needed else None
        for t, needed in zip((bias, prelu_weight), needs[2:4], strict=True)
    )
    dconv = grad
    if of_conv and (o.activation or o.residual_scale != 1):
        dconv = torch.empty_like(grad)
    changed = None if dconv is grad else dconv
    if changed is not None or dbias is not None or dprelu is not None:
        (n, outputs, h, w), (grid, constants) = grad.shape, _planes(grad)
        parts = [None if total is None else workspace(grad, n * grid[1], outputs) for total in (dbias, dprelu)]
        tensors = (grad, before if o.activation else None, prelu_weight, changed, *parts)
        numbers = (outputs, h * w, o.slope, o.residual_scale)
        launch(epilogue_backward_kernel, grid, *tensors, *numbers, ACTIVATION=o.activation, **constants)
        for part, total in zip(parts, (dbias, dprelu), strict=True):
            if part is not None:
                programs = (triton.cdiv(outputs, 128),)
                launch(sum_of_partials_kernel, programs, part, total, outputs, n * grid[1], BLOCK=128, num_warps=4)
    dinput, dweight = None, None
    if of_conv:
        mask = [bool(needs[0]), bool(needs[1]), False]
        geometry = _geometry(o)
        input, weight = rightly_laid_out(input, weight, geometry[2])  # in Triton's interpreter, by the CPU's conv
        with _deterministic():
            dinput, dweight, _ = torch.ops.aten.convolution_backward(
                dconv, input, weight, None, *geometry, False, [0, 0], o.groups, mask
            )
    dresidual = grad.clone() if needs[4] else None
    dweight = None if dweight is None else dweight.contiguous()
    dinput, dresidual = _image(dinput, o.input_channels_last), _image(dresidual, o.channels_last)
    found = (dinput, dweight, dbias, dprelu, dresidual)
    return [grad.new_empty(0) if t is None else t for t in found]


def _image(image: Any, channels_last: bool) -> Any:
    """In the format that is asked for; None is None."""
    wanted = torch.channels_last if channels_last else torch.contiguous_format
    return None if image is None else image.contiguous(memory_format=wanted)


def _geometry(o: Options) -> tuple[list[int], list[int], list[int]]:
    """Strides, padding and dilations as torch's convs take them."""
    return [o.stride_height, o.stride_width], [o.top, o.left], [o.dilation_height, o.dilation_width]


def _planes(image: Tensor) -> tuple[tuple[int, int], dict[str, Any]]:
    """Grid and constants of the kernels over planes; their work is the pixels of one."""
    n, c, h, w = image.shape
    constants = config("conv2d.planes", image.dtype, h * w)
    return (n * c, triton.cdiv(h * w, constants["TILE"])), constants


@contextmanager
def _deterministic() -> Iterator[None]:
    """cuDNN's gradients of a conv may add in any order if they are let."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before
