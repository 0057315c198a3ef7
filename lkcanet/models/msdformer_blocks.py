"""The parts of MSDformer: features of groups of bands, a deformable conv, attention between channels, a block."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

import lkops
import lkops.nn

from .comparator_blocks import BandGroups, SpatialResidual, SpectralResidual, conv_macs

EPS = 1e-5  # of the layer norms
DILATIONS = (1, 3, 5)


class DilatedConvs(nn.Module):
    """y = sum over dilations d = 1, 3, 5 of prelu(conv3x3_d(x)), with one slope for all: (N, B, H, W) to (N, C, H, W).

    Source: MSDformer, the dilated convs of its multiscale spectral attention module.
    """

    def __init__(self, bands: int, channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(bands, channels, 3, padding=d, dilation=d) for d in DILATIONS)
        self.slope = nn.Parameter(torch.full((1,), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        y = None
        for conv, dilation in zip(self.convs, DILATIONS, strict=True):
            weight, bias = conv.get_parameter("weight"), conv.get_parameter("bias")
            y = lkops.conv2d(
                x, weight, bias, dilation=dilation, activation="prelu", prelu_weight=self.slope, residual=y
            )
        assert y is not None
        return y


class MultiscaleSpectralAttention(nn.Module):
    """MSAM: what each group of bands tells of itself, and of all of them the features (N, C, H, W).

        Z_g = conv1x1_g(spectral_g(spatial(dilated(x[group g]))))       spectral_g and the conv are the group's own
        y   = conv1x1(mean of the Z_g where groups overlap)

    Source: MSDformer, "multiscale spectral attention module".
    """

    def __init__(self, bands: int, channels: int, group: int, overlap: int, residual_scale: float, reduction: int):
        super().__init__()
        self.groups = BandGroups(bands, group, overlap)
        self.shared = nn.Sequential(DilatedConvs(group, channels), SpatialResidual(channels, residual_scale))
        self.own = nn.ModuleList(
            nn.Sequential(SpectralResidual(channels, residual_scale, reduction), lkops.nn.Conv2d(channels, group, 1))
            for _ in range(len(self.groups))
        )
        self.tail = lkops.nn.Conv2d(bands, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.groups.mean(self._parts(x)))

    def _parts(self, x: Tensor) -> Iterator[Tensor]:
        for own, features in zip(self.own, self.groups.each(x, self.shared), strict=True):
            yield own(features)

    def macs(self, pixels: int) -> int:
        """Multiply-adds for an image of so many pixels."""
        total = pixels * (len(self.groups) * conv_macs(self.shared) + conv_macs(self.tail))
        for own in self.own:
            spectral, out = own.children()
            assert isinstance(spectral, SpectralResidual)
            total += spectral.macs(pixels) + pixels * conv_macs(out)
        return total


class DeformableConv(nn.Module):
    """A 3x3 conv without bias whose nine taps are taken where a conv says; without modulation.

        (dy_1 ... dy_9, dx_1 ... dx_9) = conv3x3(x)
        y(i, j) = sum over taps t of W_t x(i + i_t + dy_t(i, j), j + j_t + dx_t(i, j)),     i_t, j_t in -1, 0, 1

    with x interpolated bilinearly, and 0 outside of the image. Positions are computed in float32 at least. On CUDA the
    gradient is added up in no fixed order.

    Source: Dai et al., Deformable Convolutional Networks (ICCV 2017), section 2.1; at the start the conv says the same
    small offsets everywhere, as in the public code of MSDformer.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.offsets = lkops.nn.Conv2d(channels, 18, 3)
        nn.init.zeros_(self.offsets.weight)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)  # holds the weight

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        moved = rearrange(self.offsets(x).to(wide.dtype), "n (two tap) h w -> two n tap h w", two=2)
        place = torch.arange(-1, 2, dtype=wide.dtype, device=x.device)
        rows = torch.arange(height, dtype=wide.dtype, device=x.device)[:, None]
        columns = torch.arange(width, dtype=wide.dtype, device=x.device)
        i = moved[0] + place.repeat_interleave(3)[:, None, None] + rows
        j = moved[1] + place.repeat(3)[:, None, None] + columns
        # in units of half the image, as grid_sample wants them; a pixel's centre lies in its middle
        grid = torch.stack(((2 * j + 1) / width - 1, (2 * i + 1) / height - 1), -1)
        taps = F.grid_sample(wide, rearrange(grid, "n tap h w xy -> n (tap h) w xy"), align_corners=False)
        taps = rearrange(taps.to(x.dtype), "n c (tap h) w -> n (c tap) h w", tap=9)
        return lkops.conv2d(taps, rearrange(self.conv.weight, "o c i j -> o (c i j) 1 1"))


class SpectralSelfAttention(nn.Module):
    """Attention between the channels of a head, over all pixels.

        Q = deformable(x),   K, V = halves of conv1x1(x)                   (N, heads, C / heads, H W), no biases
        y = conv1x1( softmax(t Q K^T / (|Q| |K|)) V )                      norms over the pixels; t is learnt for a head

    Source: MSDformer, the attention of its deformable convolution-based transformer module.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.query = DeformableConv(channels)
        self.key_value = lkops.nn.Conv2d(channels, 2 * channels, 1, bias=False)
        self.out = lkops.nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            rearrange(part, "n (head c) h w -> n head c (h w)", head=self.heads)
            for part in (self.query(x), *self.key_value(x).chunk(2, 1))
        )
        likeness = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-2, -1)
        attended = (likeness * self.temperature).softmax(-1) @ value
        return self.out(rearrange(attended, "n head c (h w) -> n (head c) h w", h=x.shape[2]))


class DCTM(nn.Module):
    """u = x + attention(LN(x)),  y = u + conv1x1(gelu(conv1x1(LN(u)))), (N, C, H, W), 4 C inside.

    Source: MSDformer, "deformable convolution-based transformer module".
    """

    def __init__(self, channels: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=EPS)
        self.attention = SpectralSelfAttention(channels, heads)
        self.expand = lkops.nn.NormConv1x1GELU(channels, mlp_ratio * channels, eps=EPS)
        self.reduce = lkops.nn.Conv2d(mlp_ratio * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        norm = rearrange(self.norm(rearrange(x, "n c h w -> n h w c")), "n h w c -> n c h w").contiguous()
        x = x + self.attention(norm)
        return self.reduce(self.expand(x), x)

    def macs(self, pixels: int) -> int:
        """Multiply-adds for an image of so many pixels: convs and products, and 5 for every value that a LN reads."""
        c = self.reduce.out_channels
        return pixels * (conv_macs(self) + 2 * c * (c // self.attention.heads) + 2 * 5 * c)


class Body(nn.Module):
    """y = x + conv_b(DCTM_b(... conv_2(DCTM_2(DCTM_1(x))))): no conv follows the first, as in the public code."""

    def __init__(self, channels: int, blocks: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(DCTM(channels, heads, mlp_ratio) for _ in range(blocks))
        self.convs = nn.ModuleList(lkops.nn.Conv2d(channels, channels, 3) for _ in range(blocks - 1))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for number, block in enumerate(self.blocks):
            y = block(y)
            if number:
                y = self.convs[number - 1](y)
        return x + y

    def macs(self, pixels: int) -> int:
        """Multiply-adds for an image of so many pixels."""
        blocks = sum(block.macs(pixels) for block in self.blocks if isinstance(block, DCTM))
        return blocks + pixels * conv_macs(self.convs)
