"""A residual network with channel attention at a width that is no power of two: not of a paper, but of a kind that many
hyperspectral networks are variants of."""

from torch import Tensor, nn

from .parts import ResidualBlock, Upsampler, conv


class AttentionResidual(nn.Module):
    """Conv, residual blocks with channel attention and a long skip, conv + PixelShuffle, conv."""

    def __init__(
        self, bands: int = 31, scale: int = 2, channels: int = 96, blocks: int = 8, reduction: int = 16
    ) -> None:
        super().__init__()
        self.head = conv(bands, channels)
        self.body = nn.Sequential(
            *[ResidualBlock(channels, res_scale=0.1, reduction=reduction) for _ in range(blocks)],
            conv(channels, channels),
        )
        self.tail = nn.Sequential(Upsampler(scale, channels), conv(channels, bands))

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(x)
        return self.tail(self.body(x) + x)
