"""ESSAformer: Zhang et al., ESSAformer: Efficient Transformer for Hyperspectral Image Super-resolution (ICCV 2023)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .parts import Upsampler, conv


class ESSA(nn.Module):
    """Attention over pixels by the square of their spectral correlation, at a cost linear in their number.

    With q and k centred over channels, correlation is a product of normalised spectra; its kernel is the product of
    their squares, so k^T v is summed first. The value itself is added.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:  # (N, pixels, C)
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k = self._kernel(q), self._kernel(k)
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-2)
        attention = q @ (k.transpose(-2, -1) @ v) / math.sqrt(x.shape[1])
        return self.proj(v + attention)

    @staticmethod
    def _kernel(t: Tensor) -> Tensor:
        square = (t - t.mean(dim=-1, keepdim=True)).pow(2)
        return square / (square.sum(dim=-1, keepdim=True) + 1e-7)


class Encoder(nn.Module):
    """Attention; then convs over what it gives beside the input; with a skip around both."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(channels), ESSA(channels)
        self.drop = nn.Dropout2d(dropout)
        self.convs = nn.Sequential(
            nn.Conv2d(2 * channels, 2 * channels, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Dropout2d(dropout),
            conv(2 * channels, 2 * channels),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Dropout2d(dropout),
            nn.Conv2d(2 * channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        tokens = self.attention(self.norm(x.flatten(2).transpose(1, 2)))
        y = self.drop(tokens.transpose(1, 2).view(n, c, h, w))
        return self.convs(torch.cat((y, x), dim=1)) + x


class Downsampler(nn.Sequential):
    """The way back of `Upsampler`: conv and PixelUnshuffle for each factor of two."""

    def __init__(self, scale: int, channels: int) -> None:
        steps: list[nn.Module] = []
        for _ in range(scale.bit_length() - 1):
            steps += [conv(channels, channels // 4), nn.PixelUnshuffle(2)]
        super().__init__(*steps)


class ESSAformer(nn.Module):
    """ESSAformer; the defaults are Chikusei's x4: 11.641 M parameters.

    Goes up and down between the two resolutions, `rounds` times down, with one encoder a resolution and one sampler a
    direction that are used again and again, and skips between the rounds. The paper does not state the dropout rate
    (0.2 chosen, as in the authors' programs) nor the number of channels (256 gives the parameters that are reported).
    """

    def __init__(
        self, bands: int = 128, scale: int = 4, channels: int = 256, rounds: int = 2, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.rounds = rounds
        self.head, self.tail = conv(bands, channels), conv(channels, bands)
        self.up, self.down = Upsampler(scale, channels), Downsampler(scale, channels)
        self.encode_large, self.encode_small = Encoder(channels, dropout), Encoder(channels, dropout)

    def forward(self, x: Tensor) -> Tensor:
        small = self.head(x)
        large = self.encode_large(self.up(small))
        for _ in range(self.rounds):
            small = self.encode_small(self.down(large) + small)
            large = self.encode_large(self.up(small) + large)
        return self.tail(large)
