"""The parts of EDLGFS: attention over pixels and over channels, a stage, the edge branch, and what makes the image."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lkops
import lkops.nn

EPS = 1e-6  # of the layer norms


def conv(inputs: int, outputs: int, kernel_size: int = 3, **options: Any) -> lkops.nn.Conv2d:
    return lkops.nn.Conv2d(inputs, outputs, kernel_size, **options)


class LGFS(nn.Module):
    """Local-global feature selection: full attention between all pixels, one head, between convs of different sizes.

        Q = conv_large(x),  K = conv_small(x),  V = conv1x1(x)          each (N, C, H, W), dense, with bias
        y = x + softmax(scale Q K^T) V                                  over the H W pixels

    `scaled_dot_product_attention` computes it: in its flash and memory-efficient kernels, which it chooses for this
    layout on CPUs and GPUs, the map of H W x H W is never stored, neither at inference nor in training. Time grows
    with (H W)^2 all the same. K's bias has no effect, since softmax ignores what all keys share; the counts have it.

    Args:
        channels: C.
        kernel_sizes: of the query's and the key's conv, odd.
        scale: of the products; None is 1 / sqrt(C).

    Source: EDLGFS, section 3.2, which prints no scale.
    """

    def __init__(self, channels: int, kernel_sizes: Sequence[int], scale: float | None) -> None:
        super().__init__()
        self.query, self.key = (conv(channels, channels, size) for size in kernel_sizes)
        self.value = nn.Conv2d(channels, channels, 1)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        # (N, 1, H W, C) with adjacent channels: the kernels that store no map take no other strides
        query, key, value = (
            layer(x).permute(0, 2, 3, 1).contiguous().flatten(1, 2)[:, None]
            for layer in (self.query, self.key, self.value)
        )
        if torch.onnx.is_in_onnx_export():  # spelled out, ONNX has it in every version
            scale = self.value.out_channels**-0.5 if self.scale is None else self.scale
            selected = (scale * query @ key.transpose(-2, -1)).softmax(-1) @ value
        else:
            selected = F.scaled_dot_product_attention(query, key, value, scale=self.scale)
        return x + selected[:, 0].transpose(1, 2).reshape(x.shape)


class CSE(nn.Module):
    """Cross-scope spectral self-attention: between channels, whose likeness is taken at half the resolution.

        Q, K = the halves of depthwise2x2_stride2(conv1x1(x)),   V = conv1x1(x)             C / 2 channels each
        y = conv1x1( softmax(t Q K^T / (|Q| |K|)) V )            for each head, over its channels; t is learnt

    An odd side is padded with a zero row or column below or on the right.

    Args:
        channels: C.
        heads: must divide C / 2.

    Source: Chen et al., CST (TGRS 2023), and its public code, less a layer norm there that is never used; the bias of V
    is our reading: with it the counts of EDLGFS's table 5 come out.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        half = channels // 2
        self.heads = heads
        self.mix = nn.Conv2d(channels, 2 * half, 1, bias=False)
        self.reduce = nn.Conv2d(2 * half, 2 * half, 2, stride=2, groups=2 * half)
        self.value = nn.Conv2d(channels, half, 1)
        self.out = nn.Conv2d(half, channels, 1, bias=False)
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        # contiguous: norms along the pixels are slow where the channels are adjacent
        reduced = self.reduce(F.pad(self.mix(x), (0, width % 2, 0, height % 2))).contiguous()
        # (N, heads, channels of a head, pixels)
        query, key, value = (
            part.flatten(2).unflatten(1, (self.heads, -1)) for part in (*reduced.chunk(2, 1), self.value(x))
        )
        likeness = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-2, -1)
        attended = (likeness * self.temperature).softmax(-1) @ value
        return self.out(attended.flatten(1, 2).unflatten(2, (height, width)))


class LGFSLayer(nn.Module):
    """LGFSL: u = x + CSE(LGFS(LN(x))),  y = u + MLP(LN(u)),  MLP = conv1x1, GELU, conv1x1; without `local_global`
    LGFS is the identity.

    Source: EDLGFS, section 3.2 and fig. 2a.
    """

    def __init__(
        self,
        channels: int,
        kernel_sizes: Sequence[int],
        hidden: int,
        heads: int,
        scale: float | None,
        local_global: bool = True,
    ) -> None:
        super().__init__()
        self.norm = lkops.nn.ChannelLayerNorm(channels, eps=EPS)
        self.select: LGFS | nn.Identity = LGFS(channels, kernel_sizes, scale) if local_global else nn.Identity()
        self.spectral = CSE(channels, heads)
        self.expand = lkops.nn.NormConv1x1GELU(channels, hidden, eps=EPS)
        self.out = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        # no lkops operator ends in a layer norm; torch's leaves the channels adjacent, as the attention wants them
        norm = F.layer_norm(x.permute(0, 2, 3, 1), (self.out.out_channels,), self.norm.weight, self.norm.bias, EPS)
        x = x + self.spectral(self.select(norm.permute(0, 3, 1, 2)))
        return x + self.out(self.expand(x))


class SpectralBranch(nn.Module):
    """scale * CA(conv3x3(relu(conv3x3(x)))), CA being `lkops.channel_attention`.

    Source: EDLGFS, section 3.1; ReLU and scale from the code of CST.
    """

    def __init__(self, channels: int, reduction: int, scale: float) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(channels, channels, activation="relu"), conv(channels, channels)
        self.attention = lkops.nn.ChannelAttention(channels, reduction=reduction)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.attention(self.conv2(self.conv1(x)))


class Stage(nn.Module):
    """LGFSS: F_n = F_(n-1) + conv3x3(LGFSL_L(... LGFSL_1(F_(n-1)))) + spectral branch(F_(n-1)).

    Source: EDLGFS, section 3.1. CST's code adds F_(n-1) once more, in its spectral branch: features would double with
    every stage.
    """

    def __init__(self, layers: Sequence[LGFSLayer], channels: int, reduction: int, scale: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.conv = conv(channels, channels)
        self.spectral = SpectralBranch(channels, reduction, scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.layers(x), x) + self.spectral(x)


class Reconstruction(nn.Module):
    """Deep features and what they are of to the image: conv, progressive PixelShuffle, the bicubic skip, conv.

        U = up(... up(conv3x3(features))),   up(z) = PixelShuffle_p(conv3x3(z)) for every prime factor p of the scale
        y = conv3x3( U + conv3x3(bicubic(lowres)) )

    Where there are no more bands than channels, a fresh one returns the bicubic image: the last conv of U starts at
    zero, the two around the sum as a basis of the spectra and its inverse (cosines, smooth along the bands). With fewer
    channels than bands, what these cosines hold of it.

    Source: EDLGFS, section 3.1; the skip conv is implied by its counts, after CST. The start is ours.
    """

    def __init__(self, bands: int, channels: int, scale: int, cubic_a: float, border: str) -> None:
        super().__init__()
        self.scale, self.cubic_a, self.border = scale, cubic_a, border
        self.body = conv(channels, channels)
        up = [lkops.nn.UpsampleAdd(channels, channels, factor) for factor in primes(scale)]
        self.up = nn.ModuleList(up)
        self.skip = conv(bands, channels)
        self.tail = conv(channels, bands)
        self._start_at_bicubic(up[-1].conv if up else self.body)

    @torch.no_grad()
    def _start_at_bicubic(self, last: nn.Conv2d) -> None:
        basis = cosines(self.tail.out_channels)[: self.skip.out_channels]
        for layer in (last, self.skip, self.tail):
            assert layer.bias is not None
            layer.bias.zero_()
        last.weight.zero_()
        self.tail.weight.zero_()
        # channels beyond the basis keep torch's initialisation in the skip conv: the tail does not read them at first
        self.skip.weight[: len(basis)] = 0
        self.skip.weight[: len(basis), :, 1, 1] = basis.to(self.skip.weight)
        self.tail.weight[:, : len(basis), 1, 1] = basis.T.to(self.tail.weight)

    @property
    def first_up(self) -> lkops.nn.UpsampleAdd:
        """The first step of PixelShuffle."""
        up = self.up[0]
        assert isinstance(up, lkops.nn.UpsampleAdd)
        return up

    def forward(self, features: Tensor, lowres: Tensor) -> Tensor:
        features = self.body(features)
        for up in self.up:
            features = up(features)
        large = lkops.bicubic_upsample(lowres, scale=self.scale, cubic_a=self.cubic_a, border=self.border)
        return self.tail(self.skip(large, features))


class EdgeBranch(nn.Module):
    """The auxiliary network, from the edges of the low-resolution image to those of the large one.

        E_0 = conv3x3(edges),  E_n = E_(n-1) + conv3x3(relu(conv3x3(E_(n-1)))),  edges_SR as the main branch's image

    Returns:
        edges_SR, (N, B, r H, r W), and E_1 to E_n, (N, C, H, W) each.

    Source: EDLGFS, section 3.1, where it gets the edges at low resolution. The ReLU, without which the two convs were
    one, and the bicubic skip are ours.
    """

    def __init__(self, bands: int, channels: int, scale: int, stages: int, cubic_a: float, border: str) -> None:
        super().__init__()
        self.head = conv(bands, channels)
        self.blocks = nn.ModuleList(
            nn.Sequential(conv(channels, channels), nn.ReLU(), conv(channels, channels)) for _ in range(stages)
        )
        self.reconstruct = Reconstruction(bands, channels, scale, cubic_a, border)

    def forward(self, edges: Tensor) -> tuple[Tensor, list[Tensor]]:
        features = [self.head(edges)]
        for block in self.blocks:
            features.append(features[-1] + block(features[-1]))
        return self.reconstruct(features[-1] + features[0], edges), features[1:]


def primes(number: int) -> list[int]:
    """The prime factors, smallest first: 8 is 2, 2, 2; 1 has none."""
    factors, factor = [], 2
    while factor * factor <= number:
        if number % factor:
            factor += 1
        else:
            factors.append(factor)
            number //= factor
    return [*factors, number] if number > 1 else factors


def cosines(size: int) -> Tensor:
    """The orthonormal cosine transform (DCT-II), (size, size), lowest frequency first."""
    position = (torch.arange(size, dtype=torch.float64) + 0.5) * math.pi / size
    rows = torch.cos(torch.arange(size, dtype=torch.float64)[:, None] * position) * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    return rows
