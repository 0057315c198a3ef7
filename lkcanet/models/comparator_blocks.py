"""Parts that SSPSR, ESSAformer and MSDformer share: groups of bands, residual blocks, steps of PixelShuffle, counts."""

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from einops import rearrange
from torch import Tensor, nn

import lkops
import lkops.nn
from lkops._core import checks

from .registry import Network, copied

PIXELS = 1 << 15  # of all images that go through a branch together: small ones fill the machine, large ones memory
LARGEST_COUNT = 4096  # of groups: a damaged config costs no time
Own = TypeVar("Own", bound="Comparator")


class Comparator(Network):
    """What the networks that LKCA-Net is compared with have in common. Each sets `config`, `bands` and `scale`."""

    def bicubic(self, x: Tensor) -> Tensor:
        """The bicubic image (N, B, r H, r W), as the config has it."""
        options = {name: self.config[name] for name in ("cubic_a", "border")}
        return lkops.bicubic_upsample(x, scale=self.scale, **options)

    def fold(self: Own) -> Own:
        """A copy in eval mode, of the same image; there is nothing else to fold. This network is left as it is."""
        return copied(self).eval()

    def extra_repr(self) -> str:
        return json.dumps(self.config)


class BandGroups:
    """Groups of neighbouring bands: each shares `overlap` with the next, and the last is moved so that it is full.

    Attributes:
        overlap: as given, a whole number.
        slices: the bands of each of the G = ceil((B - overlap) / (size - overlap)) groups.

    Source: SSPSR, its group convolution; MSDformer has the same.
    """

    def __init__(self, bands: int, size: int, overlap: int) -> None:
        size, overlap = checks.positive("group", size), checks.whole("overlap", overlap, 0)
        if size > bands:
            raise ValueError(f"group must be at most the bands of the image, {bands}; got {size}")
        if overlap >= size:
            raise ValueError(f"overlap must be less than the bands of a group, {size}; got {overlap}")
        step = size - overlap
        count = -(-(bands - overlap) // step)
        if count > LARGEST_COUNT:
            raise ValueError(f"group and overlap must make {LARGEST_COUNT} groups of the bands or fewer, got {count}")
        self.overlap = overlap
        starts = [min(step * g, bands - size) for g in range(count)]
        self.slices = [slice(start, start + size) for start in starts]

    def __len__(self) -> int:
        return len(self.slices)

    def each(self, x: Tensor, branch: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
        """branch(x[:, group]) of every group in turn, computed for as many at once as `PIXELS` allows."""
        at_once = self.at_once(x.shape[0] * x.shape[2] * x.shape[3])
        for first in range(0, len(self.slices), at_once):
            some = self.slices[first : first + at_once]
            done = branch(rearrange([x[:, group] for group in some], "g n c h w -> (g n) c h w"))
            yield from rearrange(done, "(g n) c h w -> g n c h w", g=len(some))
            del done  # not beside the next ones

    def at_once(self, pixels: int) -> int:
        """Groups that `each` computes together, of images of so many pixels in all."""
        return max(1, min(len(self.slices), PIXELS // max(1, pixels)))

    def mean(self, parts: Iterator[Tensor]) -> Tensor:
        """(N, B, H, W) of one (N, size, H, W) for each group, in their order: the mean where groups overlap."""
        cut = list(parts)
        borders = sorted({border for group in self.slices for border in (group.start, group.stop)})
        runs = []
        for start, stop in itertools.pairwise(borders):
            same = [
                part[:, start - group.start : stop - group.start]
                for part, group in zip(cut, self.slices, strict=True)
                if group.start <= start and stop <= group.stop
            ]
            runs.append(sum(same[1:], start=same[0]) / len(same))
        return torch.cat(runs, 1)


class SpatialResidual(nn.Module):
    """y = x + s conv3x3(relu(conv3x3(x))), (N, C, H, W)."""

    def __init__(self, channels: int, residual_scale: float) -> None:
        super().__init__()
        self.first = lkops.nn.Conv2d(channels, channels, 3, activation="relu")
        self.second = lkops.nn.Conv2d(channels, channels, 3, residual_scale=residual_scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x), x)


class SpectralResidual(nn.Module):
    """y = x + s CA(conv1x1(relu(conv1x1(x)))), (N, C, H, W), CA being `lkops.channel_attention`."""

    def __init__(self, channels: int, residual_scale: float, reduction: int) -> None:
        super().__init__()
        self.first = lkops.nn.Conv2d(channels, channels, 1, activation="relu")
        self.second = lkops.nn.Conv2d(channels, channels, 1)
        self.attention = lkops.nn.ChannelAttention(channels, reduction=reduction)
        self.residual_scale = residual_scale

    def forward(self, x: Tensor) -> Tensor:
        return x + self.residual_scale * self.attention(self.second(self.first(x)))

    def macs(self, pixels: int) -> int:
        """Multiply-adds for an image of so many pixels; the pool of CA counts one for each value that it reads."""
        convs = conv_macs(self.first, self.second)
        return pixels * (convs + self.first.in_channels) + conv_macs(self.attention)


class Upsampling(nn.Sequential):
    """Conv3x3 and PixelShuffle of 2, as many times as makes `factor`, a power of two: (N, C, H, W) to
    (N, C, factor H, factor W)."""

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__(*(lkops.nn.UpsampleAdd(channels, channels, 2) for _ in range(factor.bit_length() - 1)))

    @property
    def first(self) -> lkops.nn.UpsampleAdd:
        """The first step."""
        step = self[0]
        assert isinstance(step, lkops.nn.UpsampleAdd)
        return step

    def macs(self, pixels: int) -> int:
        """Multiply-adds for an image of so many pixels, before it is enlarged."""
        return sum(4**level * pixels * conv_macs(step) for level, step in enumerate(self))


def doubling(scale: int) -> int:
    """`scale` itself; raises where it is no power of two from 2 on."""
    scale = checks.positive("scale", scale)
    if scale < 2 or scale & (scale - 1):
        raise ValueError(f"scale must be 2, 4, 8 or a higher power of two for this network, got {scale}")
    return scale


def numbers(**given: Any) -> dict[str, Any]:
    """What is given, checked: whole numbers from 1 on, but for `cubic_a` and `residual_scale`, which are finite."""
    real = ("cubic_a", "residual_scale")
    return {name: (checks.number if name in real else checks.positive)(name, value) for name, value in given.items()}


def conv_macs(*parts: nn.Module) -> int:
    """Multiply-adds at a pixel of every conv in these parts, each used once for it."""
    convs = {conv for part in parts for conv in part.modules() if isinstance(conv, nn.Conv2d)}
    return sum(conv.weight.numel() for conv in convs)
