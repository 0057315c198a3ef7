"""EDSR: Lim et al., Enhanced Deep Residual Networks for Single Image Super-Resolution (CVPRW 2017)."""

import torch
from torch import Tensor, nn

from .parts import ResidualBlock, Upsampler, conv

RGB_MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K


class MeanShift(nn.Conv2d):
    """Subtracts (sign -1) or adds the mean colour, as a fixed 1x1 conv."""

    def __init__(self, mean: tuple[float, ...], sign: int) -> None:
        bands = len(mean)
        super().__init__(bands, bands, kernel_size=1)
        assert self.bias is not None
        self.weight.data = torch.eye(bands).view(bands, bands, 1, 1)
        self.bias.data = sign * torch.tensor(mean)
        self.requires_grad_(False)


class EDSR(nn.Module):
    """EDSR; the defaults are EDSR-baseline x4: 1.52 M parameters."""

    def __init__(
        self,
        scale: int = 4,
        channels: int = 64,
        blocks: int = 16,
        res_scale: float = 1.0,
        mean: tuple[float, ...] = RGB_MEAN,
    ) -> None:
        super().__init__()
        bands = len(mean)
        self.sub_mean, self.add_mean = MeanShift(mean, -1), MeanShift(mean, 1)
        self.head = conv(bands, channels)
        body = [ResidualBlock(channels, res_scale=res_scale) for _ in range(blocks)]
        self.body = nn.Sequential(*body, conv(channels, channels))
        self.tail = nn.Sequential(Upsampler(scale, channels), conv(channels, bands))

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.sub_mean(x))
        res = self.body(x)
        res += x
        return self.add_mean(self.tail(res))
