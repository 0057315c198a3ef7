"""Networks of the field at their published sizes, in plain PyTorch, none of which knows of lkops; written from the
papers. They are what `lkops.fuse` is measured on (`python -m bench.cpu.fusion`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .attention_residual import AttentionResidual
from .edsr import EDSR
from .essaformer import ESSAformer
from .msdformer import MSDformer
from .rcan import RCAN
from .span import SPAN
from .sspsr import SSPSR

__all__ = ["NETWORKS", "Network"]

Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class Network:
    """A network and the images that it is measured on.

    Attributes:
        make: (tiny) to the model; a tiny one has all parts of the published one and takes no time.
        shapes, tiny_shapes: of its inputs.
    """

    make: Callable[[bool], nn.Module]
    shapes: tuple[Shape, ...]
    tiny_shapes: tuple[Shape, ...]

    def images(self, *, tiny: bool = False) -> tuple[Tensor, ...]:
        """Random images, from 0 to 1."""
        return tuple(torch.rand(shape) for shape in (self.tiny_shapes if tiny else self.shapes))


_RGB, _CUBE = ((1, 3, 8, 10),), ((1, 12, 6, 7), (1, 12, 24, 28))
NETWORKS: Mapping[str, Network] = {
    "EDSR-baseline x4": Network(lambda tiny: EDSR(channels=8, blocks=2) if tiny else EDSR(), ((1, 3, 48, 48),), _RGB),
    "RCAN x4": Network(
        lambda tiny: RCAN(channels=8, groups=2, blocks=2, reduction=1) if tiny else RCAN(), ((1, 3, 48, 48),), _RGB
    ),
    "SPAN x4, 48 channels": Network(lambda tiny: SPAN(channels=8) if tiny else SPAN(), ((1, 3, 96, 128),), _RGB),
    "SPAN x4, 28 channels": Network(
        lambda tiny: SPAN(channels=7) if tiny else SPAN(channels=28), ((1, 3, 96, 128),), _RGB
    ),
    "attention residual x2, 96 channels": Network(
        lambda tiny: AttentionResidual(5, channels=12, blocks=2, reduction=1) if tiny else AttentionResidual(),
        ((1, 31, 64, 64),),
        ((1, 5, 8, 9),),
    ),
    "SSPSR x4": Network(
        lambda tiny: SSPSR(12, channels=8, blocks=2, group=5, reduction=1) if tiny else SSPSR(),
        ((1, 128, 16, 16), (1, 128, 64, 64)),
        _CUBE,
    ),
    "ESSAformer x4": Network(
        lambda tiny: ESSAformer(12, channels=8) if tiny else ESSAformer(), ((1, 128, 16, 16),), _CUBE[:1]
    ),
    "MSDformer x4": Network(
        lambda tiny: MSDformer(12, channels=18, blocks=2, heads=2, group=5, reduction=1) if tiny else MSDformer(),
        ((1, 128, 32, 32), (1, 128, 128, 128)),
        _CUBE,
    ),
}
