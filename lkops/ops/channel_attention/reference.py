"""What `channel_attention` computes, in any floating dtype."""

import torch.nn.functional as F
from torch import Tensor


def channel_attention(
    x: Tensor,
    reduce_weight: Tensor,
    reduce_bias: Tensor | None,
    expand_weight: Tensor,
    expand_bias: Tensor | None,
) -> Tensor:
    hidden = F.relu(F.conv2d(F.adaptive_avg_pool2d(x, 1), reduce_weight, reduce_bias))
    return x * F.conv2d(hidden, expand_weight, expand_bias).sigmoid()
