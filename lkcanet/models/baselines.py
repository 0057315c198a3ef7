"""VDSR and 3D-FCNN as LKCA-Net's tables must have run them: at the low resolution, with PixelShuffle at the end."""

import itertools
import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

import lkops
from lkops._core import checks

from .capabilities import BICUBIC_ROWS, Capabilities, Upsampler, WorkingMemory
from .registry import Network, check_image, copied

__all__ = ["CNN3DLR", "VDSRLR"]


class _Baseline(Network):
    """What both have in common: convs with ReLU between them, the last one with PixelShuffle."""

    def __init__(self, bands: int, scale: int, bicubic: bool, cubic_a: float, border: str) -> None:
        super().__init__()
        bands, scale = checks.positive("bands", bands), checks.positive("scale", scale)
        bicubic, cubic_a = checks.flag("bicubic", bicubic), checks.number("cubic_a", cubic_a)
        checks.border("border", border)
        self.bands, self.scale, self.bicubic = bands, scale, bicubic
        self.options: dict[str, Any] = {"cubic_a": cubic_a, "border": border}
        self.config: dict[str, Any] = {"bands": bands, "scale": scale, "bicubic": bicubic, **self.options}
        self.convs = nn.ModuleList()

    @torch.no_grad()
    def _start_at_bicubic(self) -> None:
        """Where the bicubic image is added, a fresh network returns it."""
        if self.bicubic:
            for parameter in self.convs[-1].parameters():
                parameter.zero_()

    def kernels(self) -> list[tuple[Tensor, Tensor | None]]:
        """Weight, (out, in, k, k), and bias of every conv."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """The image, (N, B, r H, r W), of the low-resolution image (N, B, H, W)."""
        return self._upsampled(check_image(self, x), x if self.bicubic else None)

    def _upsampled(self, x: Tensor, lowres: Tensor | None) -> Tensor:
        *body, (weight, bias) = self.kernels()
        features = x
        for inner, inner_bias in body:
            features = lkops.conv2d(features, inner, inner_bias, activation="relu")
        return lkops.upsample_add(features, weight, bias, lowres, scale=self.scale, **self.options)

    def _residual_image(self, x: Tensor) -> tuple[Tensor, Tensor]:
        added = self._upsampled(x, None)
        return added, added + lkops.bicubic_upsample(x, scale=self.scale, **self.options)

    def fold(self) -> "_Baseline":
        """A copy in eval mode; there is nothing to fold. This network is left as it is."""
        return copied(self).eval()

    def macs(self, height: int, width: int) -> int:
        """Multiply-adds of one low-resolution image of this size, as fvcore counts them for the paper's tables: every
        weight of every conv, once for each pixel."""
        return height * width * sum(parameter.numel() for parameter in self.parameters() if parameter.dim() > 1)

    def capabilities(self) -> Capabilities:
        """All but compression. It is local altogether: its strips are those of the whole image up to rounding, since
        torch's convs may add up in another order for images of other sizes."""
        weight = self.kernels()[-1][0]
        last = list(self.convs[-1].parameters())
        return Capabilities(
            receptive_field=self.reach(),
            memory=self.memory,
            upsampler=lambda: Upsampler(
                weight=weight.detach(),
                groups=1,
                parameters=sum(parameter.numel() for parameter in last),
                products=last[0].numel(),
            ),
            residual_image=self._residual_image if self.bicubic else "it adds no bicubic image",
        )

    def reach(self) -> int:
        """The halves of all kernels, or bicubic's two pixels where that is more."""
        halves = sum(weight.shape[-1] // 2 for weight, _ in self.kernels())
        return max(halves, BICUBIC_ROWS if self.bicubic else 0)

    def memory(self, shape: Sequence[int], rows: int) -> WorkingMemory:
        """Of a strip of s rows, whose input is apart: what a conv of C to C' reads and writes; or at the end the last
        features and the strip of the output.

            strip = e N W s max(max over inner convs of (C + C'), C_last + B r^2)
        """
        batch, bands, height, columns = shape
        channels, seen = 0, 0  # of the input of the first conv, which is the image
        for weight, _ in self.kernels()[:-1]:
            outputs = weight.shape[0]
            channels = max(channels, seen + outputs)
            seen = outputs
        channels = max(channels, seen + bands * self.scale**2) + (bands if rows < height else 0)
        element = next(self.parameters()).element_size()
        return WorkingMemory(0, element * batch * channels * columns * rows)

    def extra_repr(self) -> str:
        return json.dumps(self.config)


class VDSRLR(_Baseline):
    """VDSR at the low resolution: conv3x3 B to C, `depth` times conv3x3 C to C, conv3x3 C to B r^2 and PixelShuffle.

        I_SR = PixelShuffle(conv(relu(conv(... relu(conv(I_LR)))))) + bicubic(I_LR)            no conv has a bias

    Args:
        bands: B of the image.
        scale: r.
        channels: C.
        depth: convs between the first and the last, 0 or more.
        bicubic: add the bicubic image, the residual learning that VDSR is known for; a fresh network then returns it.
            Neither parameters nor MACs tell whether the tables' network did.
        cubic_a, border: of the bicubic image, see `lkops.bicubic_upsample`.

    Raises:
        ValueError, TypeError: a number that is out of range, or none.

    Source: Kim et al., VDSR (CVPR 2016), reconstructed from parameters and MACs in LKCA-Net (arXiv 2501.18664), tables
    V to VII, which it gives to every printed digit; table VI has x4's in the row of 3DFCNN.
    """

    kind = "vdsr_lr"

    def __init__(
        self,
        bands: int,
        scale: int = 4,
        channels: int = 64,
        depth: int = 18,
        *,
        bicubic: bool = True,
        cubic_a: float = -0.5,
        border: str = "symmetric",
    ) -> None:
        super().__init__(bands, scale, bicubic, cubic_a, border)
        channels, depth = checks.positive("channels", channels), checks.whole("depth", depth, 0)
        self.config |= {"channels": channels, "depth": depth}
        widths = [self.bands, *[channels] * (depth + 1), self.bands * self.scale**2]
        for inputs, outputs in itertools.pairwise(widths):
            self.convs.append(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False))
            # He's, as in VDSR: torch's own would let the signal fade to 1e-8 on its way through twenty layers
            nn.init.kaiming_normal_(self.convs[-1].get_parameter("weight"), nonlinearity="relu")
        self._start_at_bicubic()

    def kernels(self) -> list[tuple[Tensor, Tensor | None]]:
        return [(conv.get_parameter("weight"), None) for conv in self.convs]


class CNN3DLR(_Baseline):
    """3D-FCNN at the low resolution, with the bands as channels and a depth of 1.

        Conv3d B to 64 (3, 9, 9), 64 to 32 (1, 1, 1), 32 to 9 (1, 1, 1), 9 to B r^2 (3, 5, 5), ReLU between them, with
        biases; I_SR = PixelShuffle of the last

    The outer two of three planes of a (3, k, k) kernel only ever meet zero padding. They are kept as parameters, so
    that the counts are the tables' (and a checkpoint is a Conv3d's), never get a gradient, and are not computed: the
    planes in the middle run as 2-D convs, with the same result.

    Args:
        bands: B of the image.
        scale: r.
        bicubic: add the bicubic image; off as published.
        cubic_a, border: of the bicubic image, see `lkops.bicubic_upsample`.

    Raises:
        ValueError, TypeError: a number that is out of range, or none.

    Source: Mei et al., 3D-FCNN (Remote Sensing 2017), reconstructed from parameters and MACs in LKCA-Net (arXiv
    2501.18664), tables V to VII, which it gives to every printed digit; table VI has x4's in the row of VDSR.
    """

    kind = "cnn3d_lr"

    def __init__(
        self,
        bands: int,
        scale: int = 4,
        *,
        bicubic: bool = False,
        cubic_a: float = -0.5,
        border: str = "symmetric",
    ) -> None:
        super().__init__(bands, scale, bicubic, cubic_a, border)
        widths = [self.bands, 64, 32, 9, self.bands * self.scale**2]
        kernels = [(3, 9, 9), (1, 1, 1), (1, 1, 1), (3, 5, 5)]
        for inputs, outputs, kernel in zip(widths, widths[1:], kernels, strict=False):
            padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
            self.convs.append(nn.Conv3d(inputs, outputs, kernel, padding=padding))
        self._start_at_bicubic()

    def kernels(self) -> list[tuple[Tensor, Tensor | None]]:
        weights = [conv.get_parameter("weight") for conv in self.convs]
        planes = [weight[:, :, weight.shape[2] // 2] for weight in weights]
        return [(plane, conv.get_parameter("bias")) for plane, conv in zip(planes, self.convs, strict=True)]
