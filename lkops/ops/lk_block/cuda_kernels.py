"""The large-kernel block on the GPU: for inference of small images one launch, which csrc/lk_block/cuda.cuh describes;
else the cascade of depthwise convs by CUDA kernels and the other stages by Triton's.

`block_inference_cuda` is what csrc/bindings/cuda/lk_block.cpp implements.
"""

from typing import Any

import torch
from torch import Tensor

from ..large_kernel_channel_attention.cuda_kernels import backward as attention_backward
from ..large_kernel_channel_attention.cuda_kernels import cascade
from . import triton_kernels

# what the one launch takes, as csrc/lk_block/cuda.h: samples; rows and columns; inputs of a 1x1 conv; of the gate's
# layer
SMALL_BATCH, SMALL_SIDE, SMALL_INNER, SMALL_HIDDEN = 8, 32, 384, 128
# Whether the phases of the small path share a cooperative launch, or have one each: the same bits. To be measured.
COOPERATIVE = True


def is_small(x: Tensor, parameters: Any, dilations: tuple[int, int]) -> bool:
    """Whether the one launch takes this image and these parameters, `lk_block`'s from in_weight on.

    It has the kernels and dilations of LKCA-Net, (5, 5) and (7, 7), and tiles for small images alone.
    """
    in_weight, dw1, dw2, reduce, mix = (parameters[i] for i in (0, 2, 4, 6, 10))
    n, c, h, w = x.shape
    return (
        dilations == (5, 7)
        and tuple(dw1.shape[2:]) == (5, 5)
        and tuple(dw2.shape[2:]) == (7, 7)
        and n <= SMALL_BATCH
        and max(h, w) <= SMALL_SIDE
        and max(c, len(in_weight), mix.shape[1]) <= SMALL_INNER
        and len(reduce) <= SMALL_HIDDEN
    )


def forward(x: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    """As `triton_kernels.forward`."""
    *parameters, keep, dilation1, dilation2, interleave, eps, saving = rest
    if saving or not is_small(x, parameters[2:], (dilation1, dilation2)):
        return triton_kernels.forward(x, *rest, convs=cascade)
    options = (dilation1, dilation2, interleave, eps, COOPERATIVE)
    y = torch.ops.lkops.block_inference_cuda(x, *parameters, keep, *options)
    return y, *(x.new_empty(0) for _ in range(3)), *(x.new_empty(0, dtype=torch.float32) for _ in range(2))


def backward(grad: Tensor, *saved_and_options: Any) -> list[Tensor]:
    """As `triton_kernels.backward`."""
    return triton_kernels.backward(grad, *saved_and_options, attention=attention_backward)
