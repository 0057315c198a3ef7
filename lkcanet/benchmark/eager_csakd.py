"""CSAKD as an engineer would write it in eager PyTorch: what `lkcanet.models.CSAKD` is measured and tested against."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.csakd import CSAKD, csakd_student
from ..models.csakd_blocks import CLRA, CLRB, CrossSelfAttention, Stream
from . import eager

__all__ = ["Network", "benchmark_row"]


class Network(nn.Module):
    """A `CSAKD`, whose modules and parameters it shares, by its formulas: every dense conv on a concatenation, every
    map enlarged before it is projected, compared and weighed. Its modules run where the published network's do, so
    that hooks on them count what the paper's table counts."""

    def __init__(self, model: CSAKD) -> None:
        super().__init__()
        self.model = eager.with_plain_convs(model)
        self.up = nn.Upsample(scale_factor=model.scale)
        self.softmax = nn.Softmax(-1)

    def clrb(self, block: CLRB, x: Tensor) -> Tensor:
        one, two, three, four, five = block.convs
        x1 = F.leaky_relu(one(x), 0.2)
        x2 = F.leaky_relu(two(torch.cat((x, x1), 1)), 0.2)
        x3 = F.leaky_relu(three(torch.cat((x, x1, x2), 1)), 0.2)
        x4 = F.leaky_relu(four(torch.cat((x, x1, x2, x3), 1)), 0.2)
        return five(torch.cat((x, x1, x2, x3, x4), 1)) * 0.2 + x

    def stream(self, stream: Stream, x: Tensor) -> Tensor:
        x = F.leaky_relu(stream.stem(x), 0.2)
        for clra in stream.clras:
            assert isinstance(clra, CLRA)
            y = x
            for block in clra.blocks:
                assert isinstance(block, CLRB)
                y = self.clrb(block, y)
            x = y * 0.2 + x
        return x

    def attention(self, query: Tensor, key: Tensor, value: Tensor, other: Tensor) -> Tensor:
        layers = self.model.attention
        if not isinstance(layers, CrossSelfAttention):
            raise ValueError("model must weigh its maps by attention, got fusion='sum'")
        n, _, h, w = query.shape
        shape = (n, layers.heads, layers.width, h * w)
        q, k, v = (
            conv(x).reshape(shape) for conv, x in ((layers.query, query), (layers.key, key), (layers.value, value))
        )
        if layers.legacy_sum:
            rows = self.softmax(torch.einsum("bhqd,bhkd->bhqk", q, k) / layers.temperature).sum(-1)
            attended = torch.einsum("bhq,bhvd->bhqd", rows, v)
        else:
            attended = self.softmax(q @ k.transpose(-1, -2) / layers.temperature) @ v
        other = layers.out(attended.reshape(n, -1, h, w)) + other
        weights = layers.weights(torch.cat((query, key, value, other), 1)).sigmoid()
        parts = zip(weights.chunk(4, 1), (query, key, value, other), strict=True)
        return sum((weight * part for weight, part in parts), start=torch.zeros_like(query))

    def fused(self, lowres: Tensor, msi: Tensor) -> tuple[Tensor, Tensor]:
        model = self.model
        if model.config["upsampling"] == "bicubic":
            large = eager.bicubic_upsample(lowres, scale=model.scale)
        else:
            large = F.interpolate(lowres, scale_factor=float(model.scale), mode="bilinear")
        antialias = model.config["downsampling"] == "antialiased"
        small = F.interpolate(msi, lowres.shape[2:], mode="bicubic", antialias=antialias)
        z_hm = self.stream(model.hm, torch.cat((large, msi), 1))
        z_mh = self.up(self.stream(model.mh, torch.cat((lowres, small), 1)))
        z_m, z_h = self.stream(model.m, msi), self.up(self.stream(model.h, lowres))
        z = self.attention(z_h, z_m, z_mh, z_hm)
        y = model.last(F.leaky_relu(model.head(z), 0.2))
        if model.config["residual"]:
            y = y + eager.bicubic_upsample(lowres, scale=model.scale)
        return y, z

    def forward(self, lowres: Tensor, msi: Tensor) -> Tensor:
        return self.fused(lowres, msi)[0]


def benchmark_row(
    bands: int = 172, msi_bands: int = 4, scale: int = 4, side: int = 16, batch: int = 1, **sizes: Any
) -> tuple[str, CSAKD, tuple[Tensor, ...], Network]:
    """Name, network, inputs and the eager network of a benchmark: a student, with one set of parameters for both.

    Args:
        bands, msi_bands, scale, sizes: of `csakd_student`, whose defaults are the paper's; it measures at a side of 64.
        side, batch: of the low-resolution image of random numbers.
    """
    model = csakd_student(bands, msi_bands, scale, **sizes).eval()
    lowres, msi = torch.rand(batch, bands, side, side), torch.rand(batch, msi_bands, scale * side, scale * side)
    name = f"CSAKD student x{scale}, {batch}x{bands}x{side}x{side} + {msi_bands} bands"
    return name, model, (lowres, msi), Network(model)
