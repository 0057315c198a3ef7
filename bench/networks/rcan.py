"""RCAN: Zhang et al., Image Super-Resolution Using Very Deep Residual Channel Attention Networks (ECCV 2018)."""

from torch import Tensor, nn

from .edsr import RGB_MEAN, MeanShift
from .parts import ResidualBlock, Upsampler, conv


class ResidualGroup(nn.Module):
    """Blocks with channel attention and a conv, with a short skip around them."""

    def __init__(self, channels: int, blocks: int, reduction: int) -> None:
        super().__init__()
        body = [ResidualBlock(channels, reduction=reduction) for _ in range(blocks)]
        self.body = nn.Sequential(*body, conv(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        res = self.body(x)
        res += x
        return res


class RCAN(nn.Module):
    """RCAN; the defaults are the published x4: 15.6 M parameters."""

    def __init__(
        self,
        scale: int = 4,
        channels: int = 64,
        groups: int = 10,
        blocks: int = 20,
        reduction: int = 16,
        mean: tuple[float, ...] = RGB_MEAN,
    ) -> None:
        super().__init__()
        bands = len(mean)
        self.sub_mean, self.add_mean = MeanShift(mean, -1), MeanShift(mean, 1)
        self.head = conv(bands, channels)
        body = [ResidualGroup(channels, blocks, reduction) for _ in range(groups)]
        self.body = nn.Sequential(*body, conv(channels, channels))
        self.tail = nn.Sequential(Upsampler(scale, channels), conv(channels, bands))

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.sub_mean(x))
        res = self.body(x)
        res += x
        return self.add_mean(self.tail(res))
