"""Networks of convs in the usual styles; see `foreign`."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations


def default_conv(inputs: int, outputs: int, kernel: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


class ResBlock(nn.Module):
    def __init__(self, channels: int, res_scale: float = 0.1) -> None:
        super().__init__()
        self.body = nn.Sequential(default_conv(channels, channels), nn.ReLU(True), default_conv(channels, channels))
        self.res_scale = res_scale

    def forward(self, x: Tensor) -> Tensor:
        res = self.body(x).mul(self.res_scale)
        res += x
        return res


class Upsampler(nn.Sequential):
    """EDSR's: a x2 step for each power of two, or one of x3."""

    def __init__(self, scale: int, channels: int) -> None:
        steps = []
        for factor in [3] if scale == 3 else [2] * (scale.bit_length() - 1):
            steps += [default_conv(channels, channels * factor**2), nn.PixelShuffle(factor)]
        super().__init__(*steps)


class MeanShift(nn.Conv2d):
    def __init__(self, bands: int, sign: int) -> None:
        super().__init__(bands, bands, 1)
        self.weight.data = torch.eye(bands).view(bands, bands, 1, 1)
        assert self.bias is not None
        self.bias.data = sign * torch.full((bands,), 0.4)
        self.requires_grad_(False)


class EDSR(nn.Module):
    def __init__(self, bands: int = 3, channels: int = 16, blocks: int = 2, scale: int = 4) -> None:
        super().__init__()
        self.sub_mean, self.add_mean = MeanShift(bands, -1), MeanShift(bands, 1)
        self.head = nn.Sequential(default_conv(bands, channels))
        body = [ResBlock(channels) for _ in range(blocks)]
        self.body = nn.Sequential(*body, default_conv(channels, channels))
        self.tail = nn.Sequential(Upsampler(scale, channels), default_conv(channels, bands))

    def forward(self, x: Tensor) -> Tensor:
        x = self.sub_mean(x)
        x = self.head(x)
        res = self.body(x)
        res += x
        x = self.tail(res)
        return self.add_mean(x)


class CALayer(nn.Module):
    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.conv_du = nn.Sequential(
            nn.Conv2d(channels, channels // reduction, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // reduction, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.avg_pool(x)
        y = self.conv_du(y)
        return x * y


class SELayer(nn.Module):
    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // reduction, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(channels // reduction, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        b, c, _, _ = x.size()
        y = x.mean((2, 3), keepdim=True).view(b, c)
        y = self.fc(y).view(b, c, 1, 1)
        return x * y.expand_as(x)


class RCAB(nn.Module):
    def __init__(self, channels: int, attention: type[nn.Module]) -> None:
        super().__init__()
        convs = [default_conv(channels, channels), nn.ReLU(True), default_conv(channels, channels)]
        self.body = nn.Sequential(*convs, attention(channels))

    def forward(self, x: Tensor) -> Tensor:
        res = self.body(x)
        res += x
        return res


class RCAN(nn.Module):
    def __init__(
        self, bands: int = 3, channels: int = 16, groups: int = 2, blocks: int = 2, scale: int = 2, linear: bool = False
    ) -> None:
        super().__init__()
        attention = SELayer if linear else CALayer
        self.head = default_conv(bands, channels)
        self.body = nn.Sequential(
            *[
                nn.Sequential(*[RCAB(channels, attention) for _ in range(blocks)], default_conv(channels, channels))
                for _ in range(groups)
            ],
            default_conv(channels, channels),
        )
        self.tail = nn.Sequential(Upsampler(scale, channels), default_conv(channels, bands))

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(x)
        res = self.body(x)
        res += x
        return self.tail(res)


class VDSR(nn.Module):
    """Learns what bicubic interpolation lacks, with its convs at low resolution and a tail for many bands."""

    def __init__(self, bands: int = 5, channels: int = 16, depth: int = 3, scale: int = 4, groups: int = 1) -> None:
        super().__init__()
        self.scale = scale
        layers: list[nn.Module] = [default_conv(bands, channels), nn.ReLU(inplace=True)]
        for _ in range(depth):
            layers += [default_conv(channels, channels), nn.ReLU(inplace=True)]
        self.features = nn.Sequential(*layers)
        self.upscale = nn.Sequential(default_conv(channels, bands * scale**2, groups=groups), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        base = F.interpolate(x, scale_factor=self.scale, mode="bicubic", align_corners=False)
        return self.upscale(self.features(x)) + base


class Recursive(nn.Module):
    """DRCN's style: one block and one upsampler, used several times."""

    def __init__(self, bands: int = 3, channels: int = 16, times: int = 3, scale: int = 2) -> None:
        super().__init__()
        self.times, self.scale = times, scale
        self.embed = default_conv(bands, channels)
        self.mix = nn.Sequential(
            nn.Conv2d(channels, channels, 5, padding=2, groups=channels),
            nn.ReLU(True),
            nn.Conv2d(channels, channels, 1),
        )
        self.conv_up = default_conv(channels, bands * scale**2)
        self.shuffle = nn.PixelShuffle(scale)
        self.skip = nn.Upsample(scale_factor=scale, mode="bicubic", align_corners=False)
        self.weights = nn.Parameter(torch.full((times,), 1 / times))

    def forward(self, x: Tensor) -> Tensor:
        total: Any = 0
        f = self.embed(x)
        for i in range(self.times):
            f = f + self.mix(f)
            total = total + self.weights[i] * (self.shuffle(self.conv_up(f)) + self.skip(x))
        return total


class WDSR(nn.Module):
    """WDSR-B: weight norm on every conv, and a skip of one conv."""

    def __init__(self, bands: int = 3, channels: int = 16, blocks: int = 2, scale: int = 2) -> None:
        super().__init__()
        wn = parametrizations.weight_norm
        self.head = wn(default_conv(bands, channels))
        self.body = nn.Sequential(
            *[
                nn.Sequential(
                    wn(nn.Conv2d(channels, 4 * channels, 1)),
                    nn.ReLU(True),
                    wn(nn.Conv2d(4 * channels, channels, 1)),
                    wn(default_conv(channels, channels)),
                )
                for _ in range(blocks)
            ]
        )
        self.tail = nn.Sequential(wn(default_conv(channels, bands * scale**2)), nn.PixelShuffle(scale))
        self.skip = nn.Sequential(wn(default_conv(bands, bands * scale**2, 5)), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        s = self.skip(x)
        x = self.tail(self.body(self.head(x)))
        x += s
        return x


class Untraceable(nn.Module):
    """Decides by the data how often to refine; its parts are modules."""

    def __init__(self, bands: int = 3, channels: int = 16, blocks: int = 3, scale: int = 2) -> None:
        super().__init__()
        self.embed = default_conv(bands, channels)
        self.refine = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Conv2d(channels, channels, 7, padding=9, dilation=3, groups=channels),
                    nn.Conv2d(channels, channels, 1),
                    CALayer(channels),
                )
                for _ in range(blocks)
            ]
        )
        self.tail = nn.Sequential(default_conv(channels, bands * scale**2), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        f = self.embed(x)
        for block in self.refine:
            step = block(f)
            if step.abs().mean() < 1e-6 * f.abs().mean():
                break
            f = f + step
        return self.tail(f)
