"""Where torch's own conv on the CPU is wrong, so that what the operators are defined by is not."""

from collections.abc import Sequence

import torch
from torch import Tensor


def rightly_laid_out(input: Tensor, weight: Tensor, dilation: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Input and weight of a conv, made contiguous where torch would get the weight's gradient wrong.

    In channels_last memory, on CPUs with AVX-512, oneDNN's kernel for bfloat16 (jit_bf16:avx512_core) gives the weight
    of a conv with a dilation a gradient of whatever was in memory, without an error: with groups, and without where 16
    does not divide the channels. Seen in torch 2.10 to 2.15.
    """
    if input.is_cpu and input.dtype is torch.bfloat16 and max(dilation) > 1:
        return input.contiguous(), weight.contiguous()
    return input, weight
