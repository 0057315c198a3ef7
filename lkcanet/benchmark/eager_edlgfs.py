"""EDLGFS as an engineer would write it in eager PyTorch: what its lkops version is measured against.

Layer norm, attention, PixelShuffle and bicubic are torch's own; see `lkcanet.benchmark.eager`, whose functions serve
here too.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.edlgfs import EDLGFS
from ..models.edlgfs_blocks import CSE, EPS, LGFS, LGFSLayer, Reconstruction, Stage
from . import eager


def select(module: LGFS, x: Tensor) -> Tensor:
    def tokens(conv: nn.Conv2d) -> Tensor:
        # with the head's axis and adjacent channels: without either torch would store the map
        return conv(x).flatten(2).transpose(1, 2).unsqueeze(1).contiguous()

    query, key, value = tokens(module.query), tokens(module.key), tokens(module.value)
    selected = F.scaled_dot_product_attention(query, key, value, scale=module.scale)
    return x + selected.squeeze(1).transpose(1, 2).view_as(x)


def spectral(module: CSE, x: Tensor) -> Tensor:
    n, _, height, width = x.shape
    query, key = module.reduce(F.pad(module.mix(x), (0, width % 2, 0, height % 2))).chunk(2, 1)
    query, key, value = (
        part.reshape(n, module.heads, -1, part[0, 0].numel()) for part in (query, key, module.value(x))
    )
    attention = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-2, -1) * module.temperature
    return module.out((attention.softmax(-1) @ value).reshape(n, -1, height, width))


def layer(module: LGFSLayer, x: Tensor) -> Tensor:
    norm = F.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), module.norm.weight, module.norm.bias, EPS)
    norm = norm.permute(0, 3, 1, 2)
    x = x + spectral(module.spectral, select(module.select, norm) if isinstance(module.select, LGFS) else norm)
    return x + module.out(eager.norm_conv1x1_gelu(x, *module.expand.arguments()))


def stage(module: Stage, x: Tensor) -> Tensor:
    deep = x
    for inner in module.layers:
        deep = layer(inner, deep)  # type: ignore[arg-type]
    branch, gate = module.spectral, module.spectral.attention
    hidden = branch.conv2(F.relu(branch.conv1(x)))
    parameters: Any = (gate.reduce.weight, gate.reduce.bias, gate.expand.weight, gate.expand.bias)
    return x + module.conv(deep) + branch.scale * eager.channel_attention(hidden, *parameters)


def reconstruct(module: Reconstruction, features: Tensor, lowres: Tensor) -> Tensor:
    features = module.body(features)
    for up in module.up:
        features = F.pixel_shuffle(up.conv(features), up.scale)  # type: ignore[operator, arg-type]
    large = eager.bicubic_upsample(lowres, scale=module.scale, cubic_a=module.cubic_a, border=module.border)
    return module.tail(features + module.skip(large))


class Network(nn.Module):
    """The main branch of an `EDLGFS` run by these functions; it shares the network's parameters."""

    def __init__(self, model: EDLGFS) -> None:
        super().__init__()
        self.model = eager.with_plain_convs(model)

    def forward(self, x: Tensor) -> Tensor:
        first = features = self.model.head(x)
        for module in self.model.stages:
            features = stage(module, features)  # type: ignore[arg-type]
        return reconstruct(self.model.reconstruct, features + first, x)


def benchmark_row(
    bands: int = 48, scale: int = 4, side: int = 16, batch: int = 1, **sizes: Any
) -> tuple[str, EDLGFS, tuple[Tensor, ...], Network]:
    """Name, network, inputs and the eager network of a benchmark: folded, with one set of parameters for both.

    Args:
        bands, scale, sizes: of `EDLGFS`, whose defaults are the paper's.
        side, batch: of the low-resolution image of random numbers.
    """
    model = EDLGFS(bands, scale, **{**sizes, "edge_branch": False})
    with torch.no_grad():
        for up in model.reconstruct.up:
            up.conv.reset_parameters()  # type: ignore[operator, union-attr]  # a fresh network returns the bicubic image
    folded = model.fold().requires_grad_(False)
    name = f"EDLGFS x{scale}, {batch}x{bands}x{side}x{side}"
    return name, folded, (torch.rand(batch, bands, side, side),), Network(folded)
