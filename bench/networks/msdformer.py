"""MSDformer: Chen et al., MSDformer: Multiscale Deformable Transformer for Hyperspectral Image Super-Resolution (TGRS
2023)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .parts import ResidualBlock, Upsampler, band_groups, conv


class DilatedConvs(nn.Module):
    """Three 3x3 convs with dilations 1, 3 and 5 and one PReLU for all, summed."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(conv(inputs, outputs, dilation=dilation) for dilation in (1, 3, 5))
        self.act = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        first, second, third = (self.act(each(x)) for each in self.convs)
        return first + second + third


class MultiscaleGroups(nn.Module):
    """Features of each group of bands (with weights that all share), attention and a 1x1 conv back (with weights of its
    own); the mean where groups overlap; a 1x1 conv to the width of the network."""

    def __init__(self, bands: int, group: int, overlap: int, channels: int, reduction: int) -> None:
        super().__init__()
        self.groups = band_groups(bands, group, overlap)
        self.shared = nn.Sequential(DilatedConvs(group, channels), ResidualBlock(channels, 3, 0.1))
        self.own = nn.ModuleList(
            nn.Sequential(ResidualBlock(channels, 1, 0.1, reduction), conv(channels, group, 1)) for _ in self.groups
        )
        self.tail = conv(bands, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        count = torch.zeros(x.shape[1], 1, 1, dtype=x.dtype, device=x.device)
        for group, own in zip(self.groups, self.own, strict=True):
            y[:, group] += own(self.shared(x[:, group]))
            count[group] += 1
        return self.tail(y / count)


class DeformableConv(nn.Module):
    """A 3x3 conv without bias whose nine taps are taken where a conv says (Dai et al. 2017), without modulation.

    In plain PyTorch: bilinear samples in an image of three times the size, of which a conv with stride 3 makes the
    result. Offsets start at 0.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.offsets = conv(channels, 18)
        nn.init.zeros_(self.offsets.weight)
        assert self.offsets.bias is not None
        nn.init.zeros_(self.offsets.bias)
        self.conv = nn.Conv2d(channels, channels, 3, stride=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        tap = torch.arange(-1, 2, dtype=x.dtype, device=x.device)
        rows = torch.arange(h, dtype=x.dtype, device=x.device).view(h, 1, 1, 1) + tap.view(1, 3, 1, 1)
        columns = torch.arange(w, dtype=x.dtype, device=x.device).view(1, 1, w, 1) + tap
        # (n, 2, tap row, tap column, h, w) -> as pixels of the large image lie: h, tap row, w, tap column
        moved = self.offsets(x).view(n, 2, 3, 3, h, w).permute(0, 1, 4, 2, 5, 3)
        y, z = moved[:, 0] + rows, moved[:, 1] + columns
        grid = torch.stack((2 * (z + 0.5) / w - 1, 2 * (y + 0.5) / h - 1), dim=-1).view(n, 3 * h, 3 * w, 2)
        return self.conv(F.grid_sample(x, grid, align_corners=False))


class SpectralAttention(nn.Module):
    """Attention between channels: q by a deformable conv, k and v by 1x1 convs, a temperature a head.

    The authors' 1x1 conv makes a third part that nothing uses; it counts among the parameters that they report.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.query = DeformableConv(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        _, k, v = self.qkv(x).chunk(3, dim=1)
        q, k, v = (t.reshape(n, self.heads, c // self.heads, h * w) for t in (self.query(x), k, v))
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        attention = (q @ k.transpose(-2, -1) * self.temperature).softmax(dim=-1)
        return self.project_out((attention @ v).reshape(n, c, h, w))


class Block(nn.Module):
    """A transformer block, with layer norm over channels and an MLP of four times the width; then a 3x3 conv."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = SpectralAttention(channels, heads)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))
        self.conv = conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        image = self.norm1(tokens).transpose(1, 2).reshape(n, c, h, w)
        tokens = tokens + self.attention(image).flatten(2).transpose(1, 2)
        tokens = tokens + self.mlp(self.norm2(tokens))
        return self.conv(tokens.transpose(1, 2).reshape(n, c, h, w))


class MSDformer(nn.Module):
    """MSDformer; the defaults are Chikusei's x4: 15.527 M parameters.

    `forward` takes the low-resolution image and its bicubic enlargement. Not stated in the paper and chosen: no dropout
    or drop path; samples beyond the border are 0. The width (240) and that the deformable conv has neither bias nor
    modulation give the parameters that are reported. The authors leave out the conv after the first block; here every
    block has its own.
    """

    def __init__(
        self,
        bands: int = 128,
        scale: int = 4,
        channels: int = 240,
        blocks: int = 4,
        heads: int = 6,
        group: int = 8,
        overlap: int = 2,
        reduction: int = 16,
    ) -> None:
        super().__init__()
        self.head = MultiscaleGroups(bands, group, overlap, channels, reduction)
        self.body = nn.Sequential(*[Block(channels, heads) for _ in range(blocks)])
        self.skip_conv = conv(bands, channels)
        self.upsample = Upsampler(scale, channels)
        self.tail = conv(channels, bands)

    def forward(self, x: Tensor, bicubic: Tensor) -> Tensor:
        x = self.head(x)
        y = self.upsample(self.body(x) + x)
        return self.tail(y + self.skip_conv(bicubic))
