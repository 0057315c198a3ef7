"""The parameters of `large_kernel_channel_attention`, spelled once."""

from typing import NamedTuple

from torch import Tensor


class AttentionParameters(NamedTuple):
    """In the function's order: two depthwise convs, the gate's two layers, the grouped 1x1 conv."""

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

    @property
    def convs(self) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
        """Of the two depthwise convs."""
        return self[:4]

    @property
    def gate(self) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
        return self[4:8]

    @property
    def mix(self) -> tuple[Tensor, Tensor | None]:
        return self[8:]
