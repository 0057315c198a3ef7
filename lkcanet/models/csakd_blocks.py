"""The blocks of CSAKD: dense residual convs (CLRB, CLRA) and the cross self-attention that fuses four feature maps."""

from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lkops.nn

SLOPE = 0.2  # of every LeakyReLU of these networks
RESIDUAL = 0.2  # what a block adds of its branch


def remembers_nothing(x: Tensor) -> bool:
    """Whether intermediate maps may be overwritten: nobody differentiates, traces, or changes dtypes on the way."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    return not autocasts(x)


def autocasts(x: Tensor) -> bool:
    """Whether autocast is on for the device of `x`; the meta device, where sizes are counted, has none."""
    device = x.device.type
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def conv3x3(inputs: int, outputs: int, **options: Any) -> lkops.nn.Conv2d:
    return lkops.nn.Conv2d(inputs, outputs, 3, **options)


def activated(inputs: int, outputs: int, **options: Any) -> lkops.nn.Conv2d:
    """LeakyReLU(conv3x3(x))."""
    return conv3x3(inputs, outputs, activation="leaky_relu", slope=SLOPE, **options)


class CLRB(nn.Module):
    """Five 3x3 convs, densely connected: each sees the input and the outputs of all convs before it.

        x_i = LeakyReLU(conv_i(x, x_1, ..., x_(i-1)))  for i = 1..4,    y = 0.2 conv_5(x, x_1, ..., x_4) + x

    Args:
        features: channels of x and y.
        growth: channels of x_1 to x_4.
        groups: of each conv; must divide features and growth.

    Source: CSAKD (Hsu et al., 2024), section III-A.3 and fig. 4; widths, slope, the 0.2 and the start (He's normal
    initialisation times 0.1, no bias) from its released code.
    """

    def __init__(self, features: int, growth: int, groups: int = 1) -> None:
        super().__init__()
        convs = [activated(features + i * growth, growth, groups=groups) for i in range(4)]
        last = conv3x3(features + 4 * growth, features, groups=groups, residual_scale=RESIDUAL)
        self.convs = nn.ModuleList([*convs, last])
        for conv in (*convs, last):
            nn.init.kaiming_normal_(conv.weight)
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)
            with torch.no_grad():
                conv.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for conv in self.convs[:-1]:
            maps.append(conv(torch.cat(maps, 1)))
        return self.convs[-1](torch.cat(maps, 1), x)

    def run_in(self, maps: Tensor, features: int) -> None:
        """The same bits without concatenations: `maps` (N, features + 4 growth, H, W) starts with x, and with y after.

        What eager PyTorch copies is 3.7 times as much: each conv's input anew."""
        filled = features
        for conv in self.convs[:-1]:
            out = conv(maps[:, :filled])
            maps[:, filled : filled + out.shape[1]] = out
            filled += out.shape[1]
        maps[:, :features] = self.convs[-1](maps, maps[:, :features])


class CLRA(nn.Module):
    """Three CLRBs in sequence around a residual connection: y = 0.2 CLRB(CLRB(CLRB(x))) + x.

    Args:
        features, growth, groups: of each `CLRB`.

    Source: CSAKD, fig. 4.
    """

    def __init__(self, features: int, growth: int, groups: int = 1) -> None:
        super().__init__()
        self.features, self.growth = features, growth
        self.blocks = nn.Sequential(*(CLRB(features, growth, groups) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        if not remembers_nothing(x):
            return torch.add(x, self.blocks(x), alpha=RESIDUAL)
        n, _, h, w = x.shape
        maps = x.new_empty((n, self.features + 4 * self.growth, h, w))
        maps[:, : self.features] = x
        for block in self.blocks:
            assert isinstance(block, CLRB)
            block.run_in(maps, self.features)
        return torch.add(x, maps[:, : self.features], alpha=RESIDUAL)


class Stream(nn.Module):
    """CLRAs(LeakyReLU(conv3x3(x))): one of the four streams.

    Args:
        inputs: channels of x.
        features, growth, groups: of each `CLRA`; the first conv has one group.
        count: of CLRAs.
    """

    def __init__(self, inputs: int, features: int, growth: int, groups: int, count: int) -> None:
        super().__init__()
        self.stem = activated(inputs, features)
        self.clras = nn.Sequential(*(CLRA(features, growth, groups) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        return self.clras(self.stem(x))


class DirectSum(nn.Module):
    """Z = up(Z_h) + Z_m + up(Z_mh) + Z_hm with equal weights, up being nearest-neighbour: what CSAKD's Fig. 12 compares
    its attention with (its eq. 6)."""

    def forward(self, z_h: Tensor, z_m: Tensor, z_mh: Tensor, z_hm: Tensor) -> Tensor:
        """Z, (N, C, r H, r W), of Z_h and Z_mh, (N, C, H, W), and Z_m and Z_hm, (N, C, r H, r W)."""
        return z_m + z_hm + F.interpolate(z_h + z_mh, z_m.shape[2:])


class CrossSelfAttention(nn.Module):
    """Weighs four feature maps against each other, pixel by pixel, and adds them up.

        Q = q(up(Z_h)),  K = k(Z_m),  V = v(up(Z_mh))                     1x1 convs to `heads` x `width` channels
        O = out(softmax(Q K^T / temperature) V) + Z_hm                    per head, over channels: width x width
        W = sigmoid(weights(up(Z_h), Z_m, up(Z_mh), O))                   a 1x1 conv to 4 channels
        Z = W_1 up(Z_h) + W_2 Z_m + W_3 up(Z_mh) + W_4 O

    up is nearest-neighbour and commutes with what works pixel by pixel, so all but W and Z is computed at low
    resolution: Q K^T needs no more of K than sums over the scale x scale pixels that share a q. That is scale^2 times
    less work, no enlarged map is concatenated, and the result is the formula's up to rounding.

    Args:
        features: channels of the four maps.
        heads, width: of the attention.
        temperature: divides Q K^T; None is sqrt(width), as the released code has it. The paper prints sqrt(r), where r
            is all projected channels, heads * width.
        legacy_sum: compute what the released code does. Its second einsum contracts nothing between the attention map
            and V: the map's rows are summed (to 1), and so are the channels of V in each head. Every channel of a
            head then is the sum of V's, and Q and K get no gradient.

    Source: CSAKD, section III-A.2, eq. 8 to 10. Eq. 8 also projects Z_hm, which would have to come back to the width of
    Z_hm to be added; the paper's parameter counts have no such conv, and neither has its code.
    """

    def __init__(
        self,
        features: int,
        heads: int = 4,
        width: int = 16,
        *,
        temperature: float | None = None,
        legacy_sum: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.width, self.legacy_sum = heads, width, legacy_sum
        self.temperature = width**0.5 if temperature is None else temperature
        self.query = nn.Conv2d(features, heads * width, 1)
        self.key = nn.Conv2d(features, heads * width, 1)
        self.value = nn.Conv2d(features, heads * width, 1)
        self.out = nn.Conv2d(heads * width, features, 1)
        self.weights = nn.Conv2d(4 * features, 4, 1)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, times: float = 1.0) -> Tensor:
        """softmax(times Q K^T / temperature) V of each head; three maps of one shape in, one out.

        In float32 at least: Q K^T is a sum over all pixels, which leaves float16's range at once."""
        n, _, h, w = query.shape
        split = (n, self.heads, self.width, h * w)
        if self.legacy_sum:
            return value.reshape(split).sum(2, keepdim=True).expand(split).reshape(query.shape)
        wide = torch.promote_types(query.dtype, torch.float32)
        with torch.autocast(query.device.type, enabled=False) if autocasts(query) else nullcontext():
            q, k, v = (x.to(wide).reshape(split) for x in (query, key, value))
            attention = torch.softmax(q @ k.transpose(-1, -2) * (times / self.temperature), -1)
            return (attention @ v).reshape(query.shape).to(query.dtype)

    def forward(self, z_h: Tensor, z_m: Tensor, z_mh: Tensor, z_hm: Tensor) -> Tensor:
        """Z, (N, C, r H, r W), of Z_h and Z_mh, (N, C, H, W), and Z_m and Z_hm, (N, C, r H, r W)."""
        size, scale = z_m.shape[2:], z_m.shape[2] // z_h.shape[2]
        key = self.key(F.avg_pool2d(z_m, scale))
        # the mean of r^2 keys stands for their sum
        attended = self.out(self.attend(self.query(z_h), key, self.value(z_mh), float(scale**2)))
        of_h, of_m, of_mh, of_o = self.weights.weight.chunk(4, 1)
        low = F.conv2d(torch.cat((z_h, z_mh, attended), 1), torch.cat((of_h, of_mh, of_o), 1), self.weights.bias)
        weights = F.conv2d(z_m, of_m) + F.conv2d(z_hm, of_o) + F.interpolate(low, size)
        w_h, w_m, w_mh, w_o = weights.sigmoid().chunk(4, 1)
        if remembers_nothing(z_m):
            total = F.interpolate(attended, size).add_(z_hm).mul_(w_o).addcmul_(z_m, w_m)
            return total.addcmul_(F.interpolate(z_h, size), w_h).addcmul_(F.interpolate(z_mh, size), w_mh)
        total = w_o * (z_hm + F.interpolate(attended, size)) + w_m * z_m
        return total + w_h * F.interpolate(z_h, size) + w_mh * F.interpolate(z_mh, size)
