"""CSAKD's networks, which fuse a hyperspectral image with a sharper multispectral one (Hsu et al., 2024)."""

import copy
import json
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lkops
from lkops._core import checks

from .capabilities import Capabilities, WorkingMemory
from .csakd_blocks import CrossSelfAttention, DirectSum, Stream, activated, conv3x3
from .registry import Network

__all__ = [
    "CSAKD",
    "csakd_student",
    "csakd_student_as_described",
    "csakd_student_l",
    "csakd_student_l_as_described",
    "csakd_teacher",
    "csakd_teacher_l",
]

LARGEST_COUNT = 64  # of CLRAs in a stream; the paper's largest network has 8


class CSAKD(Network):
    """A low-resolution hyperspectral image and a multispectral one, `scale` times larger, in; the image with the bands
    of the first and the pixels of the second out.

        Z_hm = CLRAs(stem(up(X_h), X_m))      Z_m  = CLRAs(stem(X_m))              at high resolution
        Z_mh = CLRAs(stem(X_h, down(X_m)))    Z_h  = CLRAs_g(stem(X_h))            at low resolution
        Z    = CrossSelfAttention(Z_h, Z_m, Z_mh, Z_hm),    Y = conv3x3(LeakyReLU(conv3x3(Z)))

    where stem is a 3x3 conv and LeakyReLU(0.2) of the concatenated inputs.

    Args:
        bands: B of the hyperspectral image.
        msi_bands: of the multispectral image.
        scale: r, whole, 1 or more.
        counts: CLRAs in the streams (hm, mh, h, m), each 0 to 64.
        h_groups: g_c of the convs in the CLRAs of Z_h; must divide features and growth.
        features: channels of the four maps and of Z.
        growth: channels that each dense conv of a CLRB adds.
        heads, head_width: of the attention.
        upsampling: up of X_h: "bilinear" as in the released code, or "bicubic" as in the paper's text
            (`lkops.bicubic_upsample`, MATLAB's).
        downsampling: down of X_m: "bicubic" reads 4 x 4 pixels with a = -0.75 whatever the scale, as the released code
            does; "antialiased" is bicubic with a kernel as wide as the scale asks for (a = -0.5).
        temperature, legacy_sum: of the attention, see `CrossSelfAttention`.
        fusion: "attention", or "sum" of the four maps in its place, as in the paper's eq. 6 and Fig. 12.
        residual: add the bicubic image (`lkops.bicubic_upsample`) to Y, and start the last conv at zero, so that a
            fresh network returns the bicubic image. The published networks have no such path; short courses of
            training profit from it.

    Raises:
        ValueError: a number that is out of range, groups that do not divide, or an unknown option.

    Source: CSAKD (Hsu, Ni, Lee, Kang), section III-A, and its released code, where text and code differ: the widths and
    counts of the code give the paper's parameters and FLOPs to the printed digit.
    """

    kind: ClassVar[str] = "csakd"

    def __init__(
        self,
        bands: int,
        msi_bands: int,
        scale: int = 4,
        counts: Sequence[int] = (6, 6, 4, 4),
        *,
        h_groups: int = 1,
        features: int = 86,
        growth: int = 43,
        heads: int = 4,
        head_width: int = 16,
        upsampling: str = "bilinear",
        downsampling: str = "bicubic",
        temperature: float | None = None,
        legacy_sum: bool = False,
        residual: bool = False,
        fusion: str = "attention",
    ) -> None:
        super().__init__()
        numbers = {
            "bands": bands,
            "msi_bands": msi_bands,
            "scale": scale,
            "h_groups": h_groups,
            "features": features,
            "growth": growth,
            "heads": heads,
            "head_width": head_width,
        }
        numbers = {name: checks.positive(name, value) for name, value in numbers.items()}
        bands, msi_bands, scale, h_groups, features, growth, heads, head_width = numbers.values()
        counts = _four_counts(counts)
        for name, value in (("features", features), ("growth", growth)):
            if value % h_groups:
                raise ValueError(f"h_groups must divide {name}, {value}; got {h_groups}")
        for name, choice, known in (
            ("upsampling", upsampling, ("bilinear", "bicubic")),
            ("downsampling", downsampling, ("bicubic", "antialiased")),
            ("fusion", fusion, ("attention", "sum")),
        ):
            if choice not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}; got {choice!r}")
        if temperature is not None:
            temperature = checks.above_zero("temperature", temperature)
        for name, switch in (("legacy_sum", legacy_sum), ("residual", residual)):
            checks.flag(name, switch)
        self.config: dict[str, Any] = {
            **numbers,
            "counts": list(counts),
            "upsampling": upsampling,
            "downsampling": downsampling,
            "temperature": temperature,
            "legacy_sum": legacy_sum,
            "residual": residual,
            **({"fusion": fusion} if fusion != "attention" else {}),  # not there in older checkpoints
        }
        self.bands, self.msi_bands, self.scale, self.features = bands, msi_bands, scale, features

        self.hm = Stream(bands + msi_bands, features, growth, 1, counts[0])
        self.mh = Stream(bands + msi_bands, features, growth, 1, counts[1])
        self.h = Stream(bands, features, growth, h_groups, counts[2])
        self.m = Stream(msi_bands, features, growth, 1, counts[3])
        weighed = CrossSelfAttention(features, heads, head_width, temperature=temperature, legacy_sum=legacy_sum)
        self.attention: CrossSelfAttention | DirectSum = weighed if fusion == "attention" else DirectSum()
        self.head = activated(features, bands)
        self.last = conv3x3(bands, bands, bias=False)
        if residual:
            nn.init.zeros_(self.last.weight)

    def upsampled(self, lowres: Tensor) -> Tensor:
        """up(X_h), (N, B, r H, r W)."""
        if self.config["upsampling"] == "bicubic":
            return lkops.bicubic_upsample(lowres, scale=self.scale)
        return F.interpolate(lowres, scale_factor=float(self.scale), mode="bilinear")

    def downsampled(self, msi: Tensor) -> Tensor:
        """down(X_m), (N, msi_bands, H, W)."""
        size = msi.shape[2] // self.scale, msi.shape[3] // self.scale
        return F.interpolate(msi, size, mode="bicubic", antialias=self.config["downsampling"] == "antialiased")

    def check(self, lowres: Tensor, msi: Tensor) -> None:
        """Raise a ValueError or TypeError where the two images do not fit this network, or each other."""
        checks.image("lowres", lowres)
        checks.image("msi", msi)
        if lowres.shape[1] != self.bands:
            raise ValueError(f"lowres must have the {self.bands} bands of this network, got {tuple(lowres.shape)}")
        n, _, h, w = lowres.shape
        expected = (n, self.msi_bands, self.scale * h, self.scale * w)
        if tuple(msi.shape) != expected:
            raise ValueError(
                f"msi must be {expected}, {self.msi_bands} bands and {self.scale} times the sides of lowres, "
                f"{tuple(lowres.shape)}; got {tuple(msi.shape)}"
            )
        checks.like("msi", msi, "lowres", lowres)

    def fused(self, lowres: Tensor, msi: Tensor) -> tuple[Tensor, Tensor]:
        """(image, Z), (N, B, r H, r W) and (N, features, r H, r W): Z is what feature distillation compares."""
        self.check(lowres, msi)
        z_hm = self.hm(torch.cat((self.upsampled(lowres), msi), 1))
        z_mh = self.mh(torch.cat((lowres, self.downsampled(msi)), 1))
        z = self.attention(self.h(lowres), self.m(msi), z_mh, z_hm)
        return self.image(z, lowres), z

    def image(self, z: Tensor, lowres: Tensor) -> Tensor:
        """Y of Z."""
        y = self.last(self.head(z))
        return y + lkops.bicubic_upsample(lowres, scale=self.scale) if self.config["residual"] else y

    def forward(self, lowres: Tensor, msi: Tensor) -> Tensor:
        """Y, (N, B, r H, r W), of X_h, (N, B, H, W), and X_m, (N, msi_bands, r H, r W)."""
        return self.fused(lowres, msi)[0]

    def fold(self) -> "CSAKD":
        """A copy in eval mode, for inference. There is nothing to fold: the outputs are the same, bit for bit."""
        return copy.deepcopy(self).eval()

    def macs(self, height: int, width: int) -> int:
        """Multiply-adds of one low-resolution image of this size, counted as thop does for the paper's table: convs
        where the published networks have them (the projections of the enlarged maps at high resolution), one for every
        value that nearest-neighbour upsampling writes, 3n - 1 for a softmax of n values. It leaves out the other two
        interpolations, products that are no modules (the attention's two), and the bicubic image of `residual`.
        """
        config, c, bands, msi = self.config, self.features, self.bands, self.msi_bands
        low, high = height * width, height * width * self.scale**2
        inner, heads, width_of_head = config["heads"] * config["head_width"], config["heads"], config["head_width"]
        growth = config["growth"]
        dense = sum((c + i * growth) * growth for i in range(4)) + (c + 4 * growth) * c
        hm, mh, h, m = (3 * 9 * dense * count for count in config["counts"])
        at_low = 9 * c * (bands + msi) + mh + 9 * c * bands + h // config["h_groups"]
        at_high = 9 * c * (bands + msi) + hm + 9 * c * msi + m
        weighed = "fusion" not in config
        merging = 2 * c + (4 * c * inner + 16 * c if weighed else 0)
        head = 9 * c * bands + 9 * bands * bands
        softmax = heads * width_of_head * (3 * width_of_head - 1) if weighed else 0
        return low * at_low + high * (at_high + merging + head) + softmax

    def capabilities(self) -> Capabilities:
        """Memory, and ONNX but for the antialiased downsampling."""
        antialiased = self.config["downsampling"] == "antialiased"
        return Capabilities(
            receptive_field="its attention sums over the whole image",
            memory=self.memory,
            upsampler="it enlarges by interpolation, not by a conv before a PixelShuffle",
            residual_image="its last conv makes the image of features of both images",
            onnx="torch's exporter knows no antialiased interpolation: downsampling='bicubic'" if antialiased else None,
        )

    def memory(self, shape: Sequence[int], _: int) -> WorkingMemory:
        """Of the image at once, by stages: the stream hm, mh, h, m, the attention, and what makes the image. With f
        features, growth g, i channels of the attention, B and b bands and Q = r^2 P pixels of high resolution:

            A       = f without CLRAs, 3 f + 5 g with one, f more with several    of a stream: its maps, in and out
            strip   = e N max(Q max(2 B + b, B + b + A),  Q f + P (B + b + A),  Q f + P (f + A),  Q (f + A) + 2 P f,
                              Q (4 f + 8) + P (3 f + i),  Q (2 f + 2 B) + P f)    and B more in the last for `residual`

        Counted by torch's profiler; with fusion="sum" an upper bound.
        """
        batch, bands, rows, columns = shape
        f, b, low, high = self.features, self.msi_bands, rows * columns, rows * columns * self.scale**2

        def within(count: int) -> int:
            return 3 * f + 5 * self.config["growth"] + (f if count > 1 else 0) if count else f

        hm, mh, h, m = map(within, self.config["counts"])
        stages = (
            high * max(2 * bands + b, bands + b + hm),
            high * f + low * (bands + b + mh),
            high * f + low * (f + h),
            high * (f + m) + low * 2 * f,
            high * (4 * f + 8) + low * (3 * f + self.config["heads"] * self.config["head_width"]),
            high * (2 * f + (3 if self.config["residual"] else 2) * bands) + low * f,
        )
        return WorkingMemory(0, next(self.parameters()).element_size() * batch * max(stages))

    def extra_repr(self) -> str:
        return json.dumps(self.config)


def _four_counts(counts: Sequence[int]) -> tuple[int, int, int, int]:
    right = isinstance(counts, Sequence) and not isinstance(counts, str) and len(counts) == 4
    if not right or any(isinstance(n, bool) or not isinstance(n, int) or not 0 <= n <= LARGEST_COUNT for n in counts):
        raise ValueError(f"counts must be four whole numbers (hm, mh, h, m), each 0 to {LARGEST_COUNT}, got {counts!r}")
    return counts[0], counts[1], counts[2], counts[3]


def csakd_teacher(bands: int, msi_bands: int, scale: int = 4, **options: Any) -> CSAKD:
    """The teacher: (6, 6, 4, 4) CLRAs; 26.8077 M parameters with 172 and 4 bands. The paper's text groups the convs of
    Z_h here too, its code and its parameter count do not."""
    return CSAKD(bands, msi_bands, scale, **{"counts": (6, 6, 4, 4), **options})


def csakd_student(bands: int, msi_bands: int, scale: int = 4, **options: Any) -> CSAKD:
    """The student whose scores and sizes the paper publishes: (0, 4, 4, 1) CLRAs, 7,449,946 parameters with 172 and 4
    bands. In the released code the CLRA of Z_hm is there and never called."""
    return _student((0, 4, 4, 1), bands, msi_bands, scale, options)


def csakd_student_as_described(bands: int, msi_bands: int, scale: int = 4, **options: Any) -> CSAKD:
    """The student as the paper describes it: (1, 4, 4, 1) CLRAs, 8,748,718 parameters with 172 and 4 bands."""
    return _student((1, 4, 4, 1), bands, msi_bands, scale, options)


def csakd_teacher_l(bands: int, msi_bands: int, scale: int = 4, **options: Any) -> CSAKD:
    """The larger teacher: (8, 8, 6, 6) CLRAs; 37.1979 M parameters with 172 and 4 bands."""
    return CSAKD(bands, msi_bands, scale, **{"counts": (8, 8, 6, 6), **options})


def csakd_student_l(bands: int, msi_bands: int, scale: int = 4, **options: Any) -> CSAKD:
    """The larger student as published: (0, 4, 4, 4) CLRAs; 11,346,262 parameters with 172 and 4 bands."""
    return _student((0, 4, 4, 4), bands, msi_bands, scale, options)


def csakd_student_l_as_described(bands: int, msi_bands: int, scale: int = 4, **options: Any) -> CSAKD:
    """The larger student with the CLRAs of Z_hm that its code builds and never calls: (2, 4, 4, 4)."""
    return _student((2, 4, 4, 4), bands, msi_bands, scale, options)


def _student(
    counts: tuple[int, int, int, int], bands: int, msi_bands: int, scale: int, options: dict[str, Any]
) -> CSAKD:
    """A student: the convs of Z_h in as many groups as growth channels (43 of 86), if the features divide so."""
    growth = options.get("growth", 43)
    return CSAKD(bands, msi_bands, scale, **{"counts": counts, "h_groups": growth, **options})
