"""SSPSR: Jiang et al., Learning Spatial-Spectral Prior for Super-Resolution of Hyperspectral Imagery (TCI 2020)."""

import torch
from torch import Tensor, nn

from .parts import ResidualBlock, Upsampler, band_groups, conv


class SSB(nn.Sequential):
    """Spatial-spectral block: a residual block of 3x3 convs, then one of 1x1 convs with channel attention."""

    def __init__(self, channels: int, res_scale: float, reduction: int) -> None:
        super().__init__(
            ResidualBlock(channels, 3, res_scale),
            ResidualBlock(channels, 1, res_scale, reduction),
        )


class SSPN(nn.Module):
    """Spatial-spectral prior network: blocks with a skip around all of them."""

    def __init__(self, channels: int, blocks: int, res_scale: float, reduction: int) -> None:
        super().__init__()
        self.net = nn.Sequential(*[SSB(channels, res_scale, reduction) for _ in range(blocks)])

    def forward(self, x: Tensor) -> Tensor:
        res = self.net(x)
        res += x
        return res


class SSPSR(nn.Module):
    """SSPSR; the defaults are Chikusei's x4: 13.564 M parameters.

    One branch, whose weights all groups of bands share, enlarges each group by scale / 2; where groups overlap, their
    mean is taken. The trunk doubles the size of all bands together, and the bicubic image is added in feature space.
    `forward` takes the low-resolution image and its bicubic enlargement, as the authors' loader gives them.
    """

    def __init__(
        self,
        bands: int = 128,
        scale: int = 4,
        channels: int = 256,
        blocks: int = 3,
        group: int = 8,
        overlap: int = 2,
        res_scale: float = 0.1,
        reduction: int = 16,
    ) -> None:
        super().__init__()
        self.groups, self.scale = band_groups(bands, group, overlap), scale
        self.branch = nn.Sequential(
            conv(group, channels),
            SSPN(channels, blocks, res_scale, reduction),
            Upsampler(scale // 2, channels),
            conv(channels, group),
        )
        self.trunk = nn.Sequential(
            conv(bands, channels), SSPN(channels, blocks, res_scale, reduction), Upsampler(2, channels)
        )
        self.skip_conv = conv(bands, channels)
        self.final = conv(channels, bands)

    def forward(self, x: Tensor, bicubic: Tensor) -> Tensor:
        n, c, h, w = x.shape
        step = self.scale // 2
        y = torch.zeros(n, c, step * h, step * w, dtype=x.dtype, device=x.device)
        count = torch.zeros(c, 1, 1, dtype=x.dtype, device=x.device)
        for group in self.groups:
            y[:, group] += self.branch(x[:, group])
            count[group] += 1
        y = self.trunk(y / count)
        y = y + self.skip_conv(bicubic)
        return self.final(y)
