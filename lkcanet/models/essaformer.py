"""ESSAformer: attention by spectral correlation, between two resolutions in turns (Zhang et al., ICCV 2023)."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

import lkops.nn
from lkops._core import checks

from .capabilities import Capabilities, WorkingMemory, in_steps
from .comparator_blocks import Comparator, Upsampling, conv_macs, doubling, numbers
from .registry import check_image

__all__ = ["ESSAformer"]

EPS = 1e-7  # beside the sum of a spectrum's squares


class ESSA(nn.Module):
    """Efficient self-attention by the spectral correlation coefficient (SCC), at a cost linear in the pixels.

    The likeness of two pixels is the correlation of their spectra q_i and k_j over the channels c, squared channel by
    channel, which is a product of one factor of each pixel, so that the sum over the pixels j comes first:

        a(t)_c = (t_c - mean(t))^2 / (sum over c' of (t_c' - mean(t))^2 + 1e-7)       of a pixel's q, and of its k
        Q_ic = a(q_i)_c / |a(q_i)|               norm over the channels of the pixel
        K_jc = a(k_j)_c / |a(k)_c|               norm over the pixels j of the channel
        y_i  = W ( v_i + 1 / sqrt(P) sum over c of Q_ic (sum over j of K_jc v_j) ) + b            P pixels

    (N, P, C) to (N, P, C). No map of P x P is made, but one of C x C.

    Source: ESSAformer, its "efficient SCC-kernel-based self-attention", in the form of its public code, of "first
    order": the squares alone, the value added, and these norms.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).chunk(3, -1)
        # first the key's map of C x C, scaled there: no more than one map of all pixels is held besides
        of_all = F.normalize(_squares(key), dim=-2).transpose(-2, -1) @ value / x.shape[1] ** 0.5
        return self.out(torch.baddbmm(value, F.normalize(_squares(query), dim=-1), of_all))


def _squares(spectra: Tensor) -> Tensor:
    """a(t), of (N, P, C): each centred value's share in the variance of its spectrum."""
    squares = (spectra - spectra.mean(-1, keepdim=True)).square()
    return squares / (squares.sum(-1, keepdim=True) + EPS)


class Encoder(nn.Module):
    """Attention, and convs over its result beside the input, with a skip around both.

        y = x + conv1x1(lrelu(conv3x3(lrelu(conv1x1([ESSA(LN(x)), x])))))                   (N, C, H, W), 2 C inside

    lrelu has a slope of 0.2 below 0; whole channels are dropped of ESSA's result, and behind each lrelu.

    Source: ESSAformer, its encoder.
    """

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        inside = 2 * channels
        act: dict[str, Any] = {"activation": "leaky_relu", "slope": 0.2}
        self.norm = nn.LayerNorm(channels)
        self.attention = ESSA(channels)
        self.first = lkops.nn.Conv2d(inside, inside, 1, **act)
        self.second = lkops.nn.Conv2d(inside, inside, 3, **act)
        self.third = lkops.nn.Conv2d(inside, channels, 1)
        self.drop = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        attended = self.attention(self.norm(rearrange(x, "n c h w -> n (h w) c")))
        attended = rearrange(attended, "n (h w) c -> n c h w", h=x.shape[2])
        y = self.drop(self.first(torch.cat((self.drop(attended), x), 1)))
        return self.third(self.drop(self.second(y)), x)

    def macs(self, pixels: int) -> int:
        """Multiply-adds for an image of so many pixels: convs and products, and 5 for every value that LN reads."""
        c = self.third.out_channels
        return pixels * (5 * c + (3 + 1 + 2) * c * c + conv_macs(self.first, self.second, self.third))


class Downsampling(nn.Module):
    """The way back of `Upsampling`: conv3x3 to a quarter of the channels and PixelUnshuffle of 2, as many times."""

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(lkops.nn.Conv2d(channels, channels // 4, 3) for _ in range(factor.bit_length() - 1))

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            # PixelUnshuffle, which torch leaves undone for an empty batch
            x = rearrange(conv(x), "n c (h p) (w q) -> n (c p q) h w", p=2, q=2)
        return x

    def macs(self, pixels: int) -> int:
        """Multiply-adds for an image of so many pixels, before it is made smaller."""
        return sum(pixels // 4**level * conv_macs(conv) for level, conv in enumerate(self.convs))


class ESSAformer(Comparator):
    """A low-resolution hyperspectral image in, the image `scale` times larger in both directions out.

        S_0 = conv3x3(I_LR),                 L_0 = E_L(up(S_0))
        S_t = E_S(down(L_(t-1)) + S_(t-1)),  L_t = E_L(up(S_t) + L_(t-1))       for t = 1, 2
        I_SR = conv3x3(L_2)

    with the same up, down and two encoders in every turn. No bicubic image is added. Attention runs over all pixels of
    the large image; its cost grows with their number, not with its square.

    Args:
        bands: B of the image.
        scale: r, 2, 4, 8 or a higher power of two.
        channels: C, a multiple of 4.
        dropout: share of the channels that each `Encoder` drops in training, 0 or more and less than 1.

    Raises:
        ValueError, TypeError: a number that is out of range, or none.

    Source: Zhang, Zhang, Zhang, Guo, Gao and Zhang, ICCV 2023 (arXiv 2307.14010), with the settings of its public code
    (Rexzhan/ESSAformer), which give the parameters and MACs in LKCA-Net (arXiv 2501.18664), tables V to VII, to every
    printed digit, and whose images those of this network are with the same weights. How it was trained is not public;
    here, as any network that brings no objective of its own, on the H loss.
    """

    kind = "essaformer"

    def __init__(self, bands: int, scale: int = 4, channels: int = 256, *, dropout: float = 0.2) -> None:
        super().__init__()
        given = numbers(bands=bands, channels=channels)
        bands, channels = given.values()
        scale, dropout = doubling(scale), checks.at_least_zero("dropout", dropout)
        if channels % 4:
            raise ValueError(
                f"channels must be a multiple of 4, which PixelUnshuffle makes of a quarter, got {channels}"
            )
        if dropout >= 1:
            raise ValueError(f"dropout must be less than 1, got {dropout}")
        self.bands, self.scale = bands, scale
        self.config: dict[str, Any] = {**given, "scale": scale, "dropout": dropout}
        self.head, self.tail = lkops.nn.Conv2d(bands, channels, 3), lkops.nn.Conv2d(channels, bands, 3)
        self.up, self.down = Upsampling(channels, scale), Downsampling(channels, scale)
        self.large, self.small = Encoder(channels, dropout), Encoder(channels, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """I_SR, (N, B, r H, r W), of the low-resolution image (N, B, H, W)."""
        small = self.head(check_image(self, x))
        large = self.large(self.up(small))
        for _ in range(2):
            small = self.small(self.down(large) + small)
            large = self.large(self.up(small) + large)
        return self.tail(large)

    def macs(self, height: int, width: int) -> int:
        """Multiply-adds of one low-resolution image of this size, as fvcore counts them for LKCA-Net's tables: convs,
        linear layers, the products of the attention, and 5 for every value that a layer norm reads."""
        low, high = height * width, height * width * self.scale**2
        encoders = 3 * self.large.macs(high) + 2 * self.small.macs(low)
        between = 3 * self.up.macs(low) + 2 * self.down.macs(high)
        return low * conv_macs(self.head) + encoders + between + high * conv_macs(self.tail)

    def capabilities(self) -> Capabilities:
        """Memory, a head for whitening, and rank of each step's conv, which runs in each of three turns; all else sees
        the whole image, again and again."""
        return Capabilities(
            trains_every_parameter=True,
            receptive_field="its attention sees the whole image",
            memory=self.memory,
            head=self.head,
            upsampler="what enlarges runs in turns with the way back, not once",
            upsamplers=lambda: in_steps(self.up, times=3),
            residual_image="it adds no bicubic image",
        )

    def memory(self, shape: Sequence[int], _: int) -> WorkingMemory:
        """Of the image at once: in the attention at the high resolution its input and that of the turn before, the
        layer norm's result, query, key and value, and two maps on the way; at the end features and image.

            strip = e N P max(C (8 r^2 + 1), (C + B) r^2)

        Counted by torch's profiler.
        """
        batch, bands, rows, columns = shape
        c, enlarged = self.config["channels"], self.scale**2
        element = next(self.parameters()).element_size() * batch * rows * columns
        return WorkingMemory(0, element * max(c * (8 * enlarged + 1), (c + bands) * enlarged))
