"""What `depthwise_conv2d` computes, in any floating dtype."""

import torch.nn.functional as F
from torch import Tensor

from ..._core.onednn import rightly_laid_out


def depthwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int = 1) -> Tensor:
    padding = [dilation * (side // 2) for side in weight.shape[2:]]
    x, weight = rightly_laid_out(x, weight, [dilation])
    return F.conv2d(x, weight, bias, padding=padding, dilation=dilation, groups=x.shape[1])
