"""LKCA-Net and its low-rank version LKCA-LR (arXiv 2501.18664)."""

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm as add_weight_norm

import lkops.nn
from lkops._core import checks

from . import lkcanet_parts as parts
from .capabilities import Capabilities, Compression, Upsampler
from .chain import Link, upsampler_links
from .registry import Network, check_image

__all__ = ["LKCANet", "lkca_lr", "lkca_net"]


class LKCANet(Network):
    """A low-resolution hyperspectral image in, the image `scale` times larger in both directions out.

        F0 = conv3x3(I_LR),   F = LKB_n(... LKB_1(F0)),   I_SR = PixelShuffle(conv3x3_g(F)) + bicubic(I_LR)

    A fresh network returns the bicubic image: its upsampler starts at zero (gain 0 where it is weight-normalised, since
    a zero direction would give NaN). Trained from the framework's own initialisation it stays below bicubic for
    hundreds of steps.

    Args:
        bands: B of the image.
        scale: r, whole, 1 or more.
        channels: C, the width of the features.
        blocks: n, the number of large-kernel blocks.
        upsample_groups: g of the upsampler's conv: 1 is LKCA-Net, 8 LKCA-LR. Must divide C and B r^2.
        upsample_rank: None, or factor the upsampler's conv: 3x3 to so many channels, then 1x1. Not in the paper; see
            `lkops.lowrank.to_factored`. With one group.
        kernel_sizes, dilations: of the two depthwise convs of a block.
        attention_groups: of the 1x1 conv that mixes the three maps of a block.
        reduction: of the channel attention over 3C channels.
        interleave: see `lkops.large_kernel_channel_attention`.
        drop_path: probability of dropping the last block's branch in training; rises linearly from 0 at the first.
        weight_norm: normalise the weights of conv1x1_in, both depthwise convs, conv1x1_out and the upsampler's conv.
        eps: of the layer norms.
        cubic_a, border: of the bicubic image, see `lkops.bicubic_upsample`.

    Raises:
        ValueError: a number that is out of range, or a group count that does not divide.

    Source: LKCA-Net, section III, eq. 1 to 14. Weight normalisation is our reading: it makes every parameter count
    of its tables exact. The counts do not pin the block down: kernel_sizes and attention_groups of (5, 7) and 4, (7, 5)
    and 4, (5, 11) and 16, (11, 5) and 16 all give 3.707 M and 0.867 G; these, the 1x1 output conv and the reduction of
    16 are readings.
    """

    kind = "lkcanet"

    def __init__(
        self,
        bands: int,
        scale: int = 4,
        channels: int = 128,
        blocks: int = 16,
        upsample_groups: int = 1,
        *,
        kernel_sizes: Sequence[int] = (5, 7),
        dilations: Sequence[int] = (5, 7),
        attention_groups: int = 4,
        reduction: int = 16,
        upsample_rank: int | None = None,
        interleave: bool = False,
        drop_path: float = 0.1,
        weight_norm: bool = True,
        eps: float = 1e-6,
        cubic_a: float = -0.5,
        border: str = "symmetric",
    ) -> None:
        super().__init__()
        numbers = parts.sizes(bands, scale, channels, upsample_groups, attention_groups, reduction)
        bands, scale, channels, upsample_groups, attention_groups, reduction = numbers.values()
        if upsample_rank is not None:
            upsample_rank = checks.positive("upsample_rank", upsample_rank)
            if upsample_groups != 1:
                raise ValueError(f"upsample_rank goes with upsample_groups 1, got {upsample_groups} groups")
        blocks = checks.whole("blocks", blocks, 0)
        drop_path, cubic_a = checks.number("drop_path", drop_path), checks.number("cubic_a", cubic_a)
        for name, switch in (("interleave", interleave), ("weight_norm", weight_norm)):
            checks.flag(name, switch)
        if not 0 <= drop_path < 1:
            raise ValueError(f"drop_path must be in [0, 1), got {drop_path}")
        eps = checks.above_zero("eps", eps)
        kernel_sizes, dilations = checks.pair("kernel_sizes", kernel_sizes), checks.pair("dilations", dilations)
        self._config: dict[str, Any] = {
            **numbers,
            "blocks": blocks,
            "kernel_sizes": list(kernel_sizes),
            "dilations": list(dilations),
            "interleave": interleave,
            "drop_path": drop_path,
            "weight_norm": weight_norm,
            "eps": eps,
            "cubic_a": cubic_a,
            "border": border,
        }
        self.bands, self.scale = bands, scale
        self.head = nn.Conv2d(bands, channels, 3, padding=1)
        body = [
            lkops.nn.LKBlock(
                channels,
                kernel_sizes=kernel_sizes,
                dilations=dilations,
                groups=attention_groups,
                reduction=reduction,
                interleave=interleave,
                drop_path=drop_path * index / max(blocks - 1, 1),
                eps=eps,
            )
            for index in range(blocks)
        ]
        self.blocks = nn.Sequential(*body)
        self.upsample = lkops.nn.UpsampleAdd(
            channels, bands, scale, groups=upsample_groups, rank=upsample_rank, cubic_a=cubic_a, border=border
        )
        if weight_norm:
            for block in body:
                for conv in (block.projection.conv, block.attention.dw1, block.attention.dw2, block.out):
                    add_weight_norm(conv)
            if isinstance(self.upsample.first, nn.Conv2d):
                add_weight_norm(self.upsample.first)
            add_weight_norm(self.upsample.conv)
        self._start_at_bicubic()

    @property
    def config(self) -> dict[str, Any]:  # type: ignore[override]
        """The constructor's arguments, JSON-serialisable; those of the upsampler are read off it, since
        `lkops.compress` may have changed it."""
        first = self.upsample.first
        if not (first is None or isinstance(first, nn.Conv2d)):
            raise ValueError(
                "the upsampler takes its features in another order: call lkcanet.deploy.compression.compress, which "
                "puts the order into the other weights, instead of lkops.compress"
            )
        return {**self._config, **self._upsampler()}

    @property
    def blocks_config(self) -> dict[str, Any]:
        """The arguments that tell of the blocks, also where the upsampler's can't be told any more."""
        return self._config

    def _upsampler(self) -> dict[str, Any]:
        first, conv = self.upsample.first, self.upsample.conv
        rank = first.out_channels if isinstance(first, nn.Conv2d) else None
        return {"upsample_groups": conv.groups, "upsample_rank": rank}

    @torch.no_grad()
    def _start_at_bicubic(self) -> None:
        conv = self.upsample.conv
        assert conv.bias is not None
        conv.bias.zero_()
        if parametrize.is_parametrized(conv):
            conv.get_parameter("parametrizations.weight.original0").zero_()  # the gain; the direction stays random
        else:
            conv.weight.zero_()

    def features(self, x: Tensor) -> Tensor:
        """F: (N, B, H, W) to (N, C, H, W), what the upsampler gets."""
        return self.blocks(self.head(check_image(self, x)))

    def forward(self, x: Tensor) -> Tensor:
        """I_SR, (N, B, r H, r W), of the low-resolution image (N, B, H, W)."""
        return self.upsample(self.features(x), x)

    def upsampled(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(F_UP, I_SR) of the low-resolution image (N, B, H, W), both (N, B, r H, r W).

        F_UP is what the upsampler gives before the bicubic image is added. The conv runs once, but the two images are
        written apart: where only I_SR is wanted, `forward` is quicker. They add up to its result up to rounding (under
        autocast F_UP is rounded to the autocast dtype first)."""
        features = self.upsample(self.features(x))
        bicubic = lkops.bicubic_upsample(
            x, scale=self.scale, cubic_a=self._config["cubic_a"], border=self._config["border"]
        )
        return features, features + bicubic

    def fold(self) -> "LKCANet":
        """A copy with plain weights in place of weight normalisation, for inference and export; same outputs, bit for
        bit. This network is left as it is."""
        # not a deep copy without its parametrizations: copies share a class, and removing them breaks the original
        with torch.device("meta"):  # its own values are not needed: folding draws no random numbers
            folded = LKCANet(**{**self.config, "weight_norm": False})
        state = {}
        for key in folded.state_dict():
            module, _, name = key.rpartition(".")
            state[key] = getattr(self.get_submodule(module), name).detach().clone()
        folded.load_state_dict(state, assign=True)
        with torch.enable_grad():  # a normalised weight is computed: under no_grad it would seem frozen
            for key, parameter in folded.named_parameters():
                module, _, name = key.rpartition(".")
                parameter.requires_grad_(getattr(self.get_submodule(module), name).requires_grad)
        return folded.train(self.training)

    def macs(self, height: int, width: int) -> int:
        """Multiply-adds of one low-resolution image of this size, counted as fvcore does for the paper's tables:
        convs, and one for every element that the average pool of the channel attention reads."""
        per_pixel, squeeze = parts.block_macs(self._config)
        up = (self.upsample.conv, self.upsample.first)
        upsampler = sum(conv.weight.numel() for conv in up if isinstance(conv, nn.Conv2d))
        n = self._config["blocks"]
        return height * width * (9 * self.bands * self._config["channels"] + n * per_pixel + upsampler) + n * squeeze

    def capabilities(self) -> Capabilities:
        """All of them. The receptive field alone is absent: what is local are head, blocks but for their channel
        attention, and upsampler, so that strips are made of the last, and `reach` is that of their convs."""
        body = [("head", self.head), *((f"block {i + 1} of {len(self.blocks)}", b) for i, b in enumerate(self.blocks))]
        return Capabilities(
            trains_every_parameter=True,
            receptive_field="its channel attention averages over the whole image",
            reach=parts.reach(self),
            strips=parts.strips(self.upsample, tuple(body)),
            memory=lambda shape, rows: parts.memory(self, shape, rows, rank=self.config["upsample_rank"]),
            head=self.head,
            upsampler=lambda: Upsampler.of(self.upsample),
            residual_image=self.upsampled,
            compression=Compression(upsampler=self.upsample, renumber=lambda order: parts.renumber(self, order)),
            chain=self._chain,
        )

    def _chain(self) -> list[Link]:
        modules: list[Any] = [self.head, *self.blocks]
        return upsampler_links(self.upsample, [Link(module, index) for index, module in enumerate(modules)])

    def extra_repr(self) -> str:
        return json.dumps(self._config | self._upsampler())  # also of a network that `config` refuses


def lkca_net(bands: int, scale: int = 4, **options: Any) -> LKCANet:
    """LKCA-Net as in the paper's tables: 128 channels, 16 blocks, dense upsampler. `options` go to `LKCANet`."""
    return LKCANet(bands, scale, **{"upsample_groups": 1, **options})


def lkca_lr(bands: int, scale: int = 4, **options: Any) -> LKCANet:
    """LKCA-LR as in the paper's tables: an upsampler of 8 groups bounds its rank. `options` go to `LKCANet`."""
    return LKCANet(bands, scale, **{"upsample_groups": 8, **options})
