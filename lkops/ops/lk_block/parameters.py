"""The parameters of `lk_block`, spelled once."""

from typing import NamedTuple

from torch import Tensor

from ..large_kernel_channel_attention.parameters import AttentionParameters


class BlockParameters(NamedTuple):
    """In the function's order: norm and 1x1 conv, the attention's, the output conv."""

    norm_weight: Tensor
    norm_bias: Tensor
    in_weight: Tensor
    in_bias: Tensor | None
    dw1_weight: Tensor
    dw1_bias: Tensor | None
    dw2_weight: Tensor
    dw2_bias: Tensor | None
    reduce_weight: Tensor
    reduce_bias: Tensor | None
    expand_weight: Tensor
    expand_bias: Tensor | None
    mix_weight: Tensor
    mix_bias: Tensor | None
    out_weight: Tensor
    out_bias: Tensor | None

    @property
    def projection(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Of `norm_conv1x1_gelu`."""
        return self[:4]

    @property
    def attention(self) -> AttentionParameters:
        return AttentionParameters(*self[4:14])

    @property
    def out(self) -> tuple[Tensor, Tensor | None]:
        return self[14:]
