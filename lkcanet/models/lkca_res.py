"""LKCA-Res: LKCA-Net's blocks between plain residual ones, our variant that learns sooner."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

import lkops.nn
from lkops._core import checks

from . import lkcanet_parts as parts
from .capabilities import BICUBIC_ROWS, Capabilities, Upsampler
from .chain import Link, upsampler_links
from .registry import Network, check_image, copied

__all__ = ["LKCARes"]


class _Residual(nn.Module):
    """R(x) = x + conv3x3(relu(conv3x3(x))), (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = lkops.nn.Conv2d(channels, channels, 3, padding=1, activation="relu")
        self.second = lkops.nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return lkops.conv2d(self.first(x), self.second.weight, self.second.bias, padding=1, residual=x)


class _Body(nn.Module):
    """x + G_m(... G_1(x)), (N, C, H, W)."""

    def __init__(self, groups: Sequence[nn.Module]) -> None:
        super().__init__()
        self.groups = nn.Sequential(*groups)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.groups(x)
        return features + x


class LKCARes(Network):
    """A low-resolution hyperspectral image in, the image `scale` times larger in both directions out.

        F0 = conv3x3(I_LR),   F = F0 + G_m(... G_1(F0)),   I_SR = PixelShuffle(conv3x3_g(F)) + bicubic(I_LR)

        G(x) = LKB(R(... R(x))),   R(x) = x + conv3x3(relu(conv3x3(x)))

    with LKB the block of LKCA-Net (`lkops.nn.LKBlock`). LKCA-Net's blocks look 5 and 7 pixels away, and its only 3x3
    convs are the first and the last: it learns the detail between neighbours late. Here 3x3 convs, which `lkops.conv2d`
    computes by Winograd's algorithm, see to that; a block of large kernels after every few of them, less dilated, gives
    the channel attention and the wider view. The defaults have fewer parameters and multiply-adds than LKCA-Net of
    the same bands (31 bands, x4: 1.49 M and 0.37 G of a 16 x 16 image; LKCA-Net 1.80 M and 0.38 G).

    A fresh network returns the bicubic image: its upsampler starts at zero.

    Args:
        bands: B of the image.
        scale: r, whole, 1 or more.
        channels: C, the width of the features.
        blocks: m, the number of groups.
        residual_blocks: R in each group.
        upsample_groups: g of the upsampler's conv; must divide C and B r^2.
        kernel_sizes, dilations: of the two depthwise convs of LKB.
        attention_groups, reduction: of LKB, see `lkcanet.models.LKCANet`.
        eps: of the layer norms.
        cubic_a, border: of the bicubic image, see `lkops.bicubic_upsample`.

    Raises:
        ValueError: a number that is out of range, or a group count that does not divide.

    Source: ours. Blocks of LKCA-Net (arXiv 2501.18664), residual blocks and long skip of EDSR (arXiv 1707.02921).
    """

    kind = "lkca_res"

    def __init__(
        self,
        bands: int,
        scale: int = 4,
        channels: int = 64,
        blocks: int = 7,
        *,
        residual_blocks: int = 2,
        upsample_groups: int = 1,
        kernel_sizes: Sequence[int] = (5, 7),
        dilations: Sequence[int] = (1, 3),
        attention_groups: int = 4,
        reduction: int = 16,
        eps: float = 1e-6,
        cubic_a: float = -0.5,
        border: str = "symmetric",
    ) -> None:
        super().__init__()
        numbers = parts.sizes(bands, scale, channels, upsample_groups, attention_groups, reduction)
        bands, scale, channels, upsample_groups, attention_groups, reduction = numbers.values()
        counts = {"blocks": blocks, "residual_blocks": residual_blocks}
        counts = {name: checks.whole(name, value, 0) for name, value in counts.items()}
        kernel_sizes, dilations = checks.pair("kernel_sizes", kernel_sizes), checks.pair("dilations", dilations)
        cubic_a, eps = checks.number("cubic_a", cubic_a), checks.above_zero("eps", eps)
        self.config: dict[str, Any] = {
            **numbers,
            **counts,
            "kernel_sizes": list(kernel_sizes),
            "dilations": list(dilations),
            "eps": eps,
            "cubic_a": cubic_a,
            "border": border,
        }
        self.bands, self.scale = bands, scale
        self.head = nn.Conv2d(bands, channels, 3, padding=1)
        options: dict[str, Any] = {"kernel_sizes": kernel_sizes, "dilations": dilations, "groups": attention_groups}
        self.body = _Body(
            [
                nn.Sequential(
                    *(_Residual(channels) for _ in range(counts["residual_blocks"])),
                    lkops.nn.LKBlock(channels, reduction=reduction, eps=eps, **options),
                )
                for _ in range(counts["blocks"])
            ]
        )
        self.upsample = lkops.nn.UpsampleAdd(
            channels, bands, scale, groups=upsample_groups, cubic_a=cubic_a, border=border
        )
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        """Every branch starts small, so that the sum of all of them is not much larger than what enters."""
        for module in self.body.modules():
            last = {_Residual: "second", lkops.nn.LKBlock: "out"}.get(type(module))
            if last is not None:
                conv = module.get_submodule(last)
                conv.get_parameter("weight").mul_(0.1)
                conv.get_parameter("bias").zero_()
        for parameter in self.upsample.parameters():
            parameter.zero_()

    def features(self, x: Tensor) -> Tensor:
        """F: (N, B, H, W) to (N, C, H, W), what the upsampler gets."""
        return self.body(self.head(check_image(self, x)))

    def forward(self, x: Tensor) -> Tensor:
        """I_SR, (N, B, r H, r W), of the low-resolution image (N, B, H, W)."""
        return self.upsample(self.features(x), x)

    def upsampled(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What is added to the bicubic image, and I_SR, of the low-resolution image (N, B, H, W); both
        (N, B, r H, r W)."""
        added = self.upsample(self.features(x))
        options = {name: self.config[name] for name in ("cubic_a", "border")}
        return added, added + lkops.bicubic_upsample(x, scale=self.scale, **options)

    def fold(self) -> "LKCARes":
        """A copy; there is nothing to fold. This network is left as it is."""
        return copied(self)

    @property
    def blocks_config(self) -> dict[str, Any]:
        """The arguments that tell of the blocks."""
        return self.config

    def macs(self, height: int, width: int) -> int:
        """Multiply-adds of one low-resolution image of this size, as `LKCANet.macs` counts them."""
        c, n = self.config["channels"], self.config["blocks"]
        group, squeeze = parts.block_macs(self.config)
        group += 18 * c * c * self.config["residual_blocks"]
        per_pixel = 9 * self.bands * c + n * group + self.upsample.conv.weight.numel()
        return height * width * per_pixel + n * squeeze

    def capabilities(self) -> Capabilities:
        """As LKCA-Net's, but for compression."""
        group = 2 * self.config["residual_blocks"] + sum(parts.margins(self))
        return Capabilities(
            trains_every_parameter=True,
            receptive_field="its channel attention averages over the whole image",
            reach=max(1 + self.config["blocks"] * group + self.upsample.reach, BICUBIC_ROWS),
            strips=parts.strips(self.upsample, (("head", self.head), ("body", self.body))),
            # F0 for the long skip, and the group's input beside that of the block at hand
            memory=lambda shape, rows: parts.memory(self, shape, rows, held=2),
            head=self.head,
            upsampler=lambda: Upsampler.of(self.upsample),
            residual_image=self.upsampled,
            chain=self._chain,
        )

    def _chain(self) -> list[Link]:
        links, groups = [Link(self.head, 0)], cast(Iterable[Iterable[Any]], self.body.groups)
        for part in (part for group in groups for part in group):
            entering = len(links)
            if isinstance(part, _Residual):
                links += [Link(part.first, entering), Link(part.second, entering + 1, entering)]
            else:
                links.append(Link(part, entering))
        links.append(Link(None, len(links), 1))
        return upsampler_links(self.upsample, links)

    def extra_repr(self) -> str:
        return json.dumps(self.config)
