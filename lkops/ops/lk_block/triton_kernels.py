"""The large-kernel block on the GPU: the projection's and the attention's launches, and mix, output conv and residual
in one.

    w = (Wm (s c) + bm) u,    y = x + keep (Wo w + bo)          w is not written in forward
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..._core.library import gradients_like
from ...triton import config, launch, next_power_of_2, precision, workspace
from ...triton.device import dot
from ..channel_attention.triton_kernels import gate_blocks, hidden_of
from ..channel_attention.triton_kernels import inside as gate_inside
from ..large_kernel_channel_attention.triton_forward import cascade, gate, mixed, store_gate
from ..large_kernel_channel_attention.triton_kernels import backward as attention_backward
from ..norm_conv1x1_gelu.triton_kernels import backward as projection_backward
from ..norm_conv1x1_gelu.triton_kernels import forward as projection_forward
from .triton_products import input_gradient, keep_gradient, weight_gradient


@triton.jit
def mix_out_kernel(
    x_ptr,
    u_ptr,
    a1_ptr,
    a2_ptr,
    given_ptr,
    sums_ptr,
    w1_ptr,
    b1_ptr,
    w2_ptr,
    b2_ptr,
    wm_ptr,
    bm_ptr,
    wo_ptr,
    bo_ptr,
    keep_ptr,
    y_ptr,
    mean_ptr,
    scale_ptr,
    outputs,
    channels,
    per_group,
    plane,
    tiles,
    sum_tiles,
    groups,
    INTERLEAVE: tl.constexpr,
    HIDDEN: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_O: tl.constexpr,
    BLOCK_P: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """y = x + keep (Wo w + bo) for BLOCK_O outputs at BLOCK_P pixels of a sample; w passes through, BLOCK_M rows of a
    group at a time. The gate is given or computed as in `attention`'s mix_kernel.
    """
    n, tile = (tl.program_id(0) // tiles).to(tl.int64), tl.program_id(0) % tiles
    if given_ptr is None:
        hidden = hidden_of(sums_ptr, w1_ptr, b1_ptr, n, 3 * channels, sum_tiles, plane, HIDDEN, BLOCK_C, BLOCK_R)
        if tile + tl.program_id(1) == 0:
            store_gate(
                hidden, sums_ptr, w2_ptr, b2_ptr, mean_ptr, scale_ptr,
                n, channels, sum_tiles, plane, HIDDEN, BLOCK_C, BLOCK_R,
            )  # fmt: skip
    else:
        hidden = None
    o, i = tl.program_id(1) * BLOCK_O + tl.arange(0, BLOCK_O), tile * BLOCK_P + tl.arange(0, BLOCK_P)
    blocks = tl.cdiv(per_group, BLOCK_M)
    total = tl.zeros((BLOCK_O, BLOCK_P), tl.float32)
    for step in range(0, groups * blocks):
        group, rows = step // blocks, step % blocks * BLOCK_M + tl.arange(0, BLOCK_M)
        v = mixed(
            u_ptr, a1_ptr, a2_ptr, given_ptr, hidden, w2_ptr, b2_ptr, wm_ptr, bm_ptr, n, group, rows, i,
            channels, per_group, plane, INTERLEAVE, HIDDEN, BLOCK_R, BLOCK_K, PRECISION,
        )  # fmt: skip
        c = group * per_group + rows
        mask = (rows < per_group)[:, None] & (i < plane)[None, :]
        u = tl.load(u_ptr + ((n * channels + c) * plane)[:, None] + i[None, :], mask=mask, other=0.0)
        w = (v * u.to(tl.float32)).to(wo_ptr.dtype.element_ty)
        mask = (o < outputs)[:, None] & (rows < per_group)[None, :]
        total = dot(tl.load(wo_ptr + o[:, None] * channels + c[None, :], mask=mask, other=0.0), w, total, PRECISION)
    if bo_ptr is not None:
        total += tl.load(bo_ptr + o, mask=o < outputs, other=0.0).to(tl.float32)[:, None]
    if keep_ptr is not None:
        total *= tl.load(keep_ptr + n).to(tl.float32)
    at = ((n * outputs + o) * plane)[:, None] + i[None, :]
    mask = (o < outputs)[:, None] & (i < plane)[None, :]
    total += tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32)
    tl.store(y_ptr + at, total.to(y_ptr.dtype.element_ty), mask=mask)


def mix_out(
    x: Tensor,
    maps: Sequence[Tensor],
    sums: Tensor,
    gate_parameters: Sequence[Tensor | None],
    mix_and_out: Sequence[Tensor | None],
    keep: Tensor | None,
    interleave: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """y, and mean and scale of the concat's channels, (N, 3K), from the maps u, a1, a2 and their sums."""
    (n, k, h, w), outputs = maps[0].shape, x.shape[1]
    wm, reduce = mix_and_out[0], gate_parameters[0]
    assert wm is not None
    assert reduce is not None
    y, mean, scale = torch.empty_like(x), workspace(x, n, 3 * k), workspace(x, n, 3 * k)
    constants = config("lk_block.mix_out", x.dtype, n * h * w)
    inside = constants.pop("GATE") and gate_inside(len(reduce))
    if not inside:
        gate(sums, gate_parameters, h * w, mean, scale)
    members = wm.shape[1]
    constants["BLOCK_M"] = max(16, min(32, next_power_of_2(members // 3)))
    constants["BLOCK_K"] = max(16, min(32, next_power_of_2(members)))
    constants["BLOCK_O"] = max(16, min(constants["BLOCK_O"], next_power_of_2(outputs)))
    constants |= {"INTERLEAVE": interleave, "PRECISION": precision(x.dtype), **gate_blocks(len(reduce))}
    tiles = triton.cdiv(h * w, constants["BLOCK_P"])
    grid = (n * tiles, triton.cdiv(outputs, constants["BLOCK_O"]))
    tensors = (x, *maps, None if inside else scale, sums, *gate_parameters, *mix_and_out, keep, y, mean, scale)
    numbers = (outputs, k, members // 3, h * w, tiles, sums.shape[2], 3 * k // members)
    launch(mix_out_kernel, grid, *tensors, *numbers, **constants)
    return y, mean, scale


def forward(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    in_weight: Tensor,
    in_bias: Tensor | None,
    *rest: Any,
    convs: Callable[..., tuple[Tensor, ...]] = cascade,
) -> tuple[Tensor, ...]:
    """y and, for backward, u, a1, a2, and the mean and scale (N, 3K) of the concat's channels; empty if not `saving`.

    `rest`: the depthwise convs' parameters, the gate's, mix's and the output conv's, keep, the options of `lk_block`
    (dilation1, dilation2, interleave, eps), and `saving`. `convs`: what computes the cascade of depthwise convs.
    """
    *parameters, keep, dilation1, dilation2, interleave, eps, saving = rest
    u = projection_forward(x, norm_weight, norm_bias, in_weight, in_bias, eps)
    a1, a2, sums = convs(u, parameters[:4], (dilation1, dilation2))
    y, mean, scale = mix_out(x, (u, a1, a2), sums, parameters[4:8], parameters[8:], keep, interleave)
    if not saving:
        return y, *(x.new_empty(0) for _ in range(3)), *(mean.new_empty(0) for _ in range(2))
    return y, u, a1, a2, mean, scale


def backward(
    grad: Tensor, *saved_and_options: Any, attention: Callable[..., list[Tensor]] = attention_backward
) -> list[Tensor]:
    """Gradients of all tensors of `lk_block`, in its order.

    The arguments are grad, these tensors, what forward returned for it, the options, and `needs`. `attention`: the
    backward of the large-kernel channel attention.
    """
    *saved, dilation1, dilation2, interleave, eps, needs = saved_and_options
    tensors, (u, a1, a2, mean, scale) = saved[:18], saved[18:]
    x, *projection = tensors[:5]
    inner, (out_weight, out_bias, keep) = tensors[5:15], tensors[15:]
    gradients = [*(grad.new_empty(0) for _ in range(15)), *gradients_like(needs[15:], *tensors[15:])]
    need_x, need_w = any(needs[:5]), any(needs[15:])
    if not (need_x or need_w or any(needs[5:15])):
        return gradients
    dw = input_gradient(grad, out_weight, keep)
    w = torch.empty_like(u) if need_w else None  # it comes out of the same kernel as du
    needs_inner = [need_x or need_w, *needs[5:15]]
    arguments = [dw, u, *inner, a1, a2, mean, scale, dilation1, dilation2, interleave, needs_inner]
    du, *gradients[5:15] = attention(*arguments, product=w)
    if w is not None and any(needs[15:17]):
        dweight = gradients[15] if needs[15] else torch.empty_like(out_weight)
        weight_gradient(grad, w, keep, dweight, gradients[16] if needs[16] else None)
    if w is not None and needs[17]:
        keep_gradient(grad, w, out_weight, out_bias, gradients[17])
    if need_x:
        gradients[:5] = projection_backward(*[du, x, *projection, eps, needs[:5]], residual=grad)
    return gradients
