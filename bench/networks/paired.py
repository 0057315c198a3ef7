"""Networks of `lkcanet` beside the plain PyTorch that computes the same, with the same weights."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import lkops
from lkcanet.models import Network
from lkcanet.models.baselines import CNN3DLR

from .essaformer import ESSAformer
from .msdformer import MSDformer
from .sspsr import SSPSR

__all__ = ["KINDS", "Paired"]


class Local(nn.Module):
    """VDSR-LR and 3DFCNN-LR: convs with ReLU between them, PixelShuffle, and the bicubic image if it is given."""

    def __init__(self, convs: list[nn.Module], scale: int, flat: bool) -> None:
        super().__init__()
        layers = [layer for conv in convs for layer in (conv, nn.ReLU())]
        self.layers, self.shuffle, self.flat = nn.Sequential(*layers[:-1]), nn.PixelShuffle(scale), flat

    def forward(self, x: Tensor, bicubic: Tensor | None = None) -> Tensor:
        """`flat`: the bands are the channels of a volume of depth 1."""
        y = self.layers(x[:, :, None])[:, :, 0] if self.flat else self.layers(x)
        return self.shuffle(y) if bicubic is None else self.shuffle(y) + bicubic


class Paired(nn.Module):
    """The plain network of the same sizes and weights as one of `KINDS`; weights are copied.

    Attributes:
        net: the plain network, in the other's mode and dtype.
        images: what makes further inputs of the low-resolution image: the bicubic one, which the authors' loaders give.
    """

    def __init__(self, model: Network) -> None:
        super().__init__()
        self.net, given, self.images = KINDS[model.kind](model)
        own = list(self.net.parameters())
        if len(own) != len(given):
            raise ValueError(f"the plain network has {len(own)} parameters, {model.kind} gives {len(given)}")
        with torch.no_grad():
            for parameter, value in zip(own, given, strict=True):
                parameter.copy_(value.reshape(parameter.shape))
        self.net.to(given[0].dtype).train(model.training)

    def inputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """What `net` is called with for the low-resolution image (N, B, H, W)."""
        return (x, *(image(x) for image in self.images))

    def forward(self, x: Tensor) -> Tensor:
        """The image (N, B, r H, r W) of the low-resolution one (N, B, H, W)."""
        image: Tensor = self.net(*self.inputs(x))
        return image


Found = tuple[nn.Module, list[Tensor], list[Callable[[Tensor], Tensor]]]


def _sspsr(model: Any) -> Found:
    names = ("bands", "scale", "channels", "blocks", "group", "overlap", "reduction")
    made = SSPSR(**{name: model.config[name] for name in names}, res_scale=model.config["residual_scale"])
    return made, list(model.parameters()), [model.bicubic]


def _essaformer(model: Any) -> Found:
    return ESSAformer(**model.config), list(model.parameters()), []


def _msdformer(model: Any) -> Found:
    """The plain network has a conv after its first block too, which the other has not, and a query that nothing uses,
    as the public code has."""
    names = ("bands", "scale", "channels", "blocks", "heads", "group", "overlap", "reduction")
    made = MSDformer(**{name: model.config[name] for name in names})
    first: Any = made.body[0]
    first.conv = nn.Identity()
    dilated, channels = model.head.shared[0], model.config["channels"]
    given: list[Tensor] = [*dilated.convs.parameters(), dilated.slope]
    given += [parameter for key, parameter in model.head.named_parameters() if not key.startswith("shared.0.")]
    for number, block in enumerate(model.body.blocks):
        attention = block.attention
        query = torch.full((channels, channels, 1, 1), 7.0).to(attention.key_value.weight)  # makes no difference
        given += [*block.norm.parameters(), *block.expand.norm.parameters(), attention.temperature]
        given += [*attention.query.parameters(), torch.cat((query, attention.key_value.weight)), attention.out.weight]
        given += [*block.expand.conv.parameters(), *block.reduce.parameters()]
        given += [*model.body.convs[number - 1].parameters()] if number else []
    for part in (model.skip, model.up, model.tail):
        given += [*part.parameters()]
    return made, given, [model.bicubic]


def _local(model: Any) -> Found:
    convs = []
    for conv in model.convs:
        options = {"padding": conv.padding, "bias": conv.bias is not None}
        convs.append(type(conv)(conv.in_channels, conv.out_channels, conv.kernel_size, **options))
    images = [lambda x: lkops.bicubic_upsample(x, scale=model.scale, **model.options)] if model.bicubic else []
    return Local(convs, model.scale, isinstance(model, CNN3DLR)), list(model.parameters()), images


KINDS: dict[str, Callable[[Any], Found]] = {
    "sspsr": _sspsr,
    "essaformer": _essaformer,
    "msdformer": _msdformer,
    "vdsr_lr": _local,
    "cnn3d_lr": _local,
}
