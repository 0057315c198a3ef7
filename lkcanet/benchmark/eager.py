"""The operators and the network as an engineer would write them in eager PyTorch: what lkops is measured against.

Not the references of lkops, which favour plainness: here layer norm is `F.layer_norm`, PixelShuffle and bicubic are
torch's own, and weights are folded. Each function takes the arguments of the lkops function of the same name.
"""

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

import lkops.nn
from lkops import testing

from ..models import LKCANet

__all__ = [
    "Network",
    "bicubic_upsample",
    "channel_attention",
    "depthwise_conv2d",
    "large_kernel_channel_attention",
    "lk_block",
    "norm_conv1x1_gelu",
    "spectral_losses",
    "upsample_add",
    "with_plain_convs",
]

AnyModule = TypeVar("AnyModule", bound=nn.Module)

bicubic_upsample = testing.examples("bicubic_upsample").eager
channel_attention = testing.examples("channel_attention").eager
depthwise_conv2d = testing.examples("depthwise_conv2d").eager
large_kernel_channel_attention = testing.examples("large_kernel_channel_attention").eager
lk_block = testing.examples("lk_block").eager
norm_conv1x1_gelu = testing.examples("norm_conv1x1_gelu").eager
spectral_losses = testing.examples("spectral_losses").eager
upsample_add = testing.examples("upsample_add").eager


def with_plain_convs(model: AnyModule) -> AnyModule:
    """A copy of the modules with the same parameters, whose `lkops.nn.Conv2d` are torch's: convs and nothing else."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    twin = copy.deepcopy(model, shared)
    for module in twin.modules():
        if type(module) is lkops.nn.Conv2d:
            object.__setattr__(module, "__class__", nn.Conv2d)
    return twin


class Network(torch.nn.Module):
    """A folded `LKCANet` run by these functions; it shares the network's parameters.

    With `folded=False` weight normalisation may be there, computed at every call as training does, without drop path.
    """

    def __init__(self, model: LKCANet, *, folded: bool = True) -> None:
        super().__init__()
        if folded and model.config["weight_norm"]:
            raise ValueError("model must be folded: call model.fold() first")
        fixed = {"dilations": [5, 7], "interleave": False, "eps": 1e-6}  # what the functions above compute
        for name, value in fixed.items():
            if model.config[name] != value:
                raise ValueError(f"model has {name} {model.config[name]}, here is {value} only")
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        features = self.model.head(x)
        for block in self.model.blocks:
            arguments: tuple[Any, ...] = block.arguments()  # type: ignore[operator]
            features = lk_block(features, *arguments)
        first, conv = self.model.upsample.first, self.model.upsample.conv
        if first is not None:
            features = first(features)
        assert conv.bias is not None
        bicubic = {key: self.model.config[key] for key in ("cubic_a", "border")}
        return upsample_add(features, conv.weight, conv.bias, x, scale=self.model.scale, **bicubic)
