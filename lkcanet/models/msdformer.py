"""MSDformer: groups of bands at several dilations, then attention between channels (Chen et al., TGRS 2023)."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

import lkops.nn
from lkops._core import checks

from .capabilities import BICUBIC_ROWS, Capabilities, Strips, Upsampler, WorkingMemory, in_steps
from .comparator_blocks import Comparator, Upsampling, conv_macs, doubling, numbers
from .msdformer_blocks import Body, MultiscaleSpectralAttention
from .registry import check_image, copied

__all__ = ["MSDformer"]


class MSDformer(Comparator):
    """A low-resolution hyperspectral image in, the image `scale` times larger in both directions out.

        F_0  = MSAM(I_LR),   F = F_0 + conv_b(DCTM_b(... conv_2(DCTM_2(DCTM_1(F_0)))))
        I_SR = conv3x3( up(F) + conv3x3(bicubic(I_LR)) )

    MSAM is `lkcanet.models.msdformer_blocks.MultiscaleSpectralAttention`, DCTM the transformer block there.

    Args:
        bands: B of the image.
        scale: r, 2, 4, 8 or a higher power of two.
        channels: C.
        blocks: DCTMs, 1 or more.
        heads: of the attention; must divide C.
        mlp_ratio: hidden channels of a block's two 1x1 convs, in multiples of C.
        group: bands in a group.
        overlap: bands that a group shares with the next.
        residual_scale: of the residual modules in MSAM.
        reduction: of the channel attention there; must divide C.
        unused: hold what the public code holds besides, of which no result depends: a conv after the first block
            (518,640 values for 240 channels), and a query beside key and value of every block (57,600 each), which is
            computed there and thrown away. The tables' parameters and MACs have both in them. Here neither is run,
            trained or kept by `fold`; `macs` counts the queries.
        cubic_a, border: of the bicubic image, see `lkops.bicubic_upsample`.

    Raises:
        ValueError, TypeError: a number that is out of range, or none.

    Source: Chen, Zhang and Zhang, IEEE TGRS 2023, with the settings of its public code (Tomchenshi/MSDformer); with
    `unused` it has the parameters and MACs in LKCA-Net (arXiv 2501.18664), tables V to VII, to every printed digit;
    without, 749,040 parameters fewer. The images are those of the public code with the same weights, up to rounding.
    There the bicubic image comes from MATLAB with the data; here the network makes the same one. It is trained there on
    the H loss, by Adam with a rate of 5e-5.
    """

    kind = "msdformer"

    def __init__(
        self,
        bands: int,
        scale: int = 4,
        channels: int = 240,
        blocks: int = 4,
        *,
        heads: int = 6,
        mlp_ratio: int = 4,
        group: int = 8,
        overlap: int = 2,
        residual_scale: float = 0.1,
        reduction: int = 16,
        unused: bool = False,
        cubic_a: float = -0.5,
        border: str = "symmetric",
    ) -> None:
        super().__init__()
        given = numbers(bands=bands, channels=channels, blocks=blocks, heads=heads, mlp_ratio=mlp_ratio, group=group)
        given |= numbers(residual_scale=residual_scale, reduction=reduction, cubic_a=cubic_a)
        bands, channels, blocks, heads = (given[name] for name in ("bands", "channels", "blocks", "heads"))
        scale, unused = doubling(scale), checks.flag("unused", unused)
        if channels % heads:
            raise ValueError(f"heads must divide the channels, {channels}; got {heads}")
        checks.border("border", border)
        self.bands, self.scale = bands, scale
        self.head = MultiscaleSpectralAttention(
            bands, channels, given["group"], overlap, given["residual_scale"], given["reduction"]
        )
        own = {"scale": scale, "overlap": self.head.groups.overlap, "unused": unused, "border": border}
        self.config: dict[str, Any] = {**given, **own}
        self.body = Body(channels, blocks, heads, given["mlp_ratio"])
        self.skip = lkops.nn.Conv2d(bands, channels, 3)
        self.up = Upsampling(channels, scale)
        self.tail = lkops.nn.Conv2d(channels, bands, 3)
        self.unused = nn.ModuleList()
        if unused:
            self.unused.append(nn.Conv2d(channels, channels, 3, padding=1))
            self.unused.extend(nn.Conv2d(channels, channels, 1, bias=False) for _ in range(blocks))
            self.unused.requires_grad_(False)  # nothing would train them, and DDP would wait for their gradients

    def forward(self, x: Tensor) -> Tensor:
        """I_SR, (N, B, r H, r W), of the low-resolution image (N, B, H, W)."""
        return self.enlarged(self.body(self.head(check_image(self, x))), x)

    def enlarged(self, features: Tensor, x: Tensor) -> Tensor:
        """I_SR of F, (N, C, H, W), and the low-resolution image (N, B, H, W)."""
        return self.tail(self.skip(self.bicubic(x), self.up(features)))

    def fold(self) -> "MSDformer":
        """A copy in eval mode for inference and export, without what is `unused`; same image, bit for bit. This network
        is left as it is."""
        return copied(self, unused=False).eval()

    def macs(self, height: int, width: int) -> int:
        """Multiply-adds of one low-resolution image of this size, as fvcore counts them for LKCA-Net's tables: convs,
        linear layers, the products of the attention, 5 for every value that a layer norm reads, and one for every value
        that the average pool of a channel attention reads."""
        low, high = height * width, height * width * self.scale**2
        thrown_away = low * conv_macs(*self.unused[1:])
        body = self.head.macs(low) + self.body.macs(low) + self.up.macs(low)
        return body + thrown_away + high * conv_macs(self.skip, self.tail)

    def capabilities(self) -> Capabilities:
        """Strips of the output from features of the whole image, memory, and rank at a scale of 2, where PixelShuffle
        runs once."""
        seen, steps = "its attention sees the whole image", self.scale.bit_length() - 1
        return Capabilities(
            trains_every_parameter=True,
            receptive_field=seen,
            strips=Strips(
                whole=(("groups of bands", self.head), ("blocks", self.body)),
                rest=lambda features, lowres, _: self.enlarged(features, lowres),
                halo=BICUBIC_ROWS + 1,  # and 1 for two convs at the high resolution; those of `up` read 2 in all
                cost=self.up.macs(1) + self.scale**2 * conv_macs(self.skip, self.tail),
            ),
            memory=self.memory,
            upsampler=(lambda: Upsampler.of(self.up.first)) if steps == 1 else f"it enlarges in {steps} steps of 2",
            upsamplers=(lambda: in_steps(self.up)) if steps > 1 else None,
            residual_image="convs follow the sum of its features and those of the bicubic image",
        )

    def memory(self, shape: Sequence[int], made: int) -> WorkingMemory:
        """With strips of s rows: first, of the whole image, the nine taps of a deformable conv with their positions and
        the maps around it, or if more what g groups of bands hold at a time (see `BandGroups.each`); then the features,
        and of a strip those at the high resolution, their sum with the skip, and the bicubic image.

            body  = e N P max(13 C + 54, g (3 C + group))
            strip = e N (C P + W s ((2 C + B) r^2 + [s < H] (C + B)))

        Counted by torch's profiler. The taps of half precision are taken in float32: 32 C + 108 then.
        """
        batch, bands, rows, columns = shape
        c, element = self.config["channels"], next(self.parameters()).element_size()
        pixels = batch * rows * columns
        taps = 13 * c + 54 if element > 2 else 32 * c + 108
        parts = self.head.groups.at_once(pixels) * (3 * c + self.config["group"])
        row = (2 * c + bands) * self.scale**2 + (c + bands if made < rows else 0)
        return WorkingMemory(
            body=element * pixels * max(taps, parts), strip=element * (c * pixels + batch * columns * made * row)
        )
