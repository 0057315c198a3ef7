"""SSPSR: a spatial-spectral prior, learnt for groups of bands and for all of them (Jiang et al., TCI 2020)."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

import lkops.nn
from lkops._core import checks

from .capabilities import Capabilities, Upsampler, WorkingMemory, in_steps
from .comparator_blocks import (
    BandGroups,
    Comparator,
    SpatialResidual,
    SpectralResidual,
    Upsampling,
    conv_macs,
    doubling,
    numbers,
)
from .registry import check_image

__all__ = ["SSPSR"]


class SSB(nn.Module):
    """Spatial-spectral block: a residual module of 3x3 convs, then one of 1x1 convs with channel attention.

    Source: SSPSR, "spatial-spectral block".
    """

    def __init__(self, channels: int, residual_scale: float, reduction: int) -> None:
        super().__init__()
        self.spatial = SpatialResidual(channels, residual_scale)
        self.spectral = SpectralResidual(channels, residual_scale, reduction)

    def forward(self, x: Tensor) -> Tensor:
        return self.spectral(self.spatial(x))

    def macs(self, pixels: int) -> int:
        return pixels * conv_macs(self.spatial) + self.spectral.macs(pixels)


class SSPN(nn.Module):
    """Spatial-spectral prior network, with conv and upsampling around it: what a group's branch and the trunk both are.

        F_0 = conv3x3(x),   y = up(F_0 + SSB_b(... SSB_1(F_0)))          (N, C, factor H, factor W)

    Source: SSPSR, "spatial-spectral prior network".
    """

    def __init__(
        self, bands: int, channels: int, blocks: int, factor: int, residual_scale: float, reduction: int
    ) -> None:
        super().__init__()
        self.head = lkops.nn.Conv2d(bands, channels, 3)
        self.blocks = nn.Sequential(*(SSB(channels, residual_scale, reduction) for _ in range(blocks)))
        self.upsample = Upsampling(channels, factor)

    def forward(self, x: Tensor) -> Tensor:
        features = self.head(x)
        return self.upsample(features + self.blocks(features))

    def macs(self, pixels: int) -> int:
        blocks = sum(block.macs(pixels) for block in self.blocks if isinstance(block, SSB))
        return pixels * conv_macs(self.head) + blocks + self.upsample.macs(pixels)


class SSPSR(Comparator):
    """A low-resolution hyperspectral image in, the image `scale` times larger in both directions out.

        Z_g  = conv3x3(branch(I_LR[group g]))              r / 2 times enlarged, with the weights of one branch for all
        Z    = mean of the Z_g where groups overlap
        I_SR = conv3x3( trunk(Z) + conv3x3(bicubic(I_LR)) )        trunk enlarges by 2; both are `SSPN`s

    Args:
        bands: B of the image.
        scale: r, 2, 4, 8 or a higher power of two.
        channels: C.
        blocks: SSBs in the branch, and in the trunk; 0 or more.
        group: bands in a group.
        overlap: bands that a group shares with the next.
        residual_scale: of the residual modules.
        reduction: of the channel attention; must divide C.
        cubic_a, border: of the bicubic image, see `lkops.bicubic_upsample`.

    Raises:
        ValueError, TypeError: a number that is out of range, or none.

    Source: Jiang, Sun, Liu and Ma, IEEE TCI 2020 (arXiv 2005.08752), with the settings of its public code
    (junjun-jiang/SSPSR), which give the parameters and MACs in LKCA-Net (arXiv 2501.18664), tables V to VII, to every
    printed digit, and whose images those of this network are with the same weights. There the bicubic image comes from
    MATLAB with the data; here the network makes the same one. Its branches without shared weights are left out. It is
    trained there on L1 and total variation, by Adam with a rate of 1e-4; here, as any network that brings no objective
    of its own, on the H loss.
    """

    kind = "sspsr"

    def __init__(
        self,
        bands: int,
        scale: int = 4,
        channels: int = 256,
        blocks: int = 3,
        *,
        group: int = 8,
        overlap: int = 2,
        residual_scale: float = 0.1,
        reduction: int = 16,
        cubic_a: float = -0.5,
        border: str = "symmetric",
    ) -> None:
        super().__init__()
        given = numbers(bands=bands, channels=channels, group=group, residual_scale=residual_scale)
        given |= numbers(reduction=reduction, cubic_a=cubic_a)
        bands, channels = given["bands"], given["channels"]
        scale, blocks = doubling(scale), checks.whole("blocks", blocks, 0)
        checks.border("border", border)
        self.bands, self.scale = bands, scale
        self.groups = BandGroups(bands, group, overlap)
        own = {"scale": scale, "blocks": blocks, "overlap": self.groups.overlap, "border": border}
        self.config: dict[str, Any] = {**given, **own}
        body = (given["residual_scale"], given["reduction"])
        self.branch = nn.Sequential(
            SSPN(given["group"], channels, blocks, scale // 2, *body), lkops.nn.Conv2d(channels, given["group"], 3)
        )
        self.trunk = SSPN(bands, channels, blocks, 2, *body)
        self.skip = lkops.nn.Conv2d(bands, channels, 3)
        self.tail = lkops.nn.Conv2d(channels, bands, 3)

    def forward(self, x: Tensor) -> Tensor:
        """I_SR, (N, B, r H, r W), of the low-resolution image (N, B, H, W)."""
        enlarged = self.groups.mean(self.groups.each(check_image(self, x), self.branch))
        return self.tail(self.skip(self.bicubic(x), self.trunk(enlarged)))

    def macs(self, height: int, width: int) -> int:
        """Multiply-adds of one low-resolution image of this size, as fvcore counts them for LKCA-Net's tables: convs,
        and one for every value that the average pool of a channel attention reads."""
        low, high = height * width, height * width * self.scale**2
        prior, tail = self.branch
        assert isinstance(prior, SSPN)
        branch = prior.macs(low) + high // 4 * conv_macs(tail)
        return len(self.groups) * branch + self.trunk.macs(high // 4) + high * conv_macs(self.skip, self.tail)

    def capabilities(self) -> Capabilities:
        """Memory, and rank: at a scale of 2 of the one conv that enlarges, else of each step's."""
        steps = "it enlarges groups of bands, then all of them, not by one conv"
        return Capabilities(
            trains_every_parameter=True,
            receptive_field="its channel attention averages over the whole image",
            memory=self.memory,
            upsampler=(lambda: Upsampler.of(self.trunk.upsample.first)) if self.scale == 2 else steps,
            upsamplers=self._steps if self.scale > 2 else None,
            residual_image="convs follow the sum of its features and those of the bicubic image",
        )

    def _steps(self) -> dict[str, Upsampler]:
        """Of the branch, which runs for every group of bands, then of the trunk."""
        prior = self.branch[0]
        assert isinstance(prior, SSPN)
        branch = in_steps(prior.upsample, times=len(self.groups), name="branch")
        return branch | in_steps(self.trunk.upsample, self.scale // 2, name="trunk")

    def memory(self, shape: Sequence[int], _: int) -> WorkingMemory:
        """Of the image at once: first what the branch holds of g groups at a time (see `BandGroups.each`), in a block,
        or where that is more in its last step of PixelShuffle, and the results of the groups before; then, at the high
        resolution, the trunk's features, their sum with the skip, and the bicubic image. With f = r / 2:

            body  = e N P (g (C max(5, 2 + f^2 + [f > 2] f^2 / 4) + group) + (G - g) group f^2)
            strip = e N P f^2 (8 C + 5 B)

        Counted by torch's profiler.
        """
        batch, bands, rows, columns = shape
        c, size, factor = self.config["channels"], self.config["group"], self.scale // 2
        element = next(self.parameters()).element_size() * batch * rows * columns
        g = self.groups.at_once(batch * rows * columns)
        maps = max(5, 2 + factor**2 + (factor**2 // 4 if factor > 2 else 0))
        before = (len(self.groups) - g) * size * factor**2
        return WorkingMemory(
            body=element * (g * (c * maps + size) + before), strip=element * factor**2 * (8 * c + 5 * bands)
        )
