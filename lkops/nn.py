"""`torch.nn.Module` faces of the operators.

Their convs are ordinary `torch.nn.Conv2d` children that hold parameters only, so initialisation, weight normalisation
(`torch.nn.utils.parametrizations`), optimisers and state dicts treat them as any other conv.
"""

# long: one class an operator, each of them short

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ._core import checks
from .ops.bicubic_upsample import bicubic_upsample
from .ops.channel_attention import channel_attention
from .ops.conv2d import conv2d
from .ops.conv2d import values as conv_values
from .ops.depthwise_conv2d import depthwise_conv2d
from .ops.large_kernel_channel_attention import large_kernel_channel_attention
from .ops.lk_block import lk_block
from .ops.norm_conv1x1_gelu import norm_conv1x1_gelu
from .ops.spectral_losses import SpectralLosses as _Losses
from .ops.spectral_losses import spectral_losses
from .ops.upsample_add import upsample_add

__all__ = [
    "BicubicUpsample",
    "ChannelAttention",
    "ChannelLayerNorm",
    "Conv2d",
    "DepthwiseConv2d",
    "LKBlock",
    "LargeKernelChannelAttention",
    "NormConv1x1GELU",
    "SpectralLosses",
    "UpsampleAdd",
]


def _divides(name: str, value: int, what: str, total: int) -> int:
    value = checks.positive(name, value)
    if total % value:
        raise ValueError(f"{name} must divide {what}, {total}; got {value}")
    return value


def _odd(name: str, value: int) -> int:
    value = checks.positive(name, value)
    if value % 2 == 0:
        raise ValueError(f"{name} must be odd, got {value}")
    return value


class DepthwiseConv2d(nn.Conv2d):
    """`lkops.depthwise_conv2d` with its weight (C, 1, k, k) and bias (C,)."""

    def __init__(self, channels: int, kernel_size: int, *, dilation: int = 1, bias: bool = True) -> None:
        channels, kernel_size = checks.positive("channels", channels), _odd("kernel_size", kernel_size)
        dilation, bias = checks.positive("dilation", dilation), checks.flag("bias", bias)
        padding = dilation * (kernel_size // 2)
        super().__init__(
            channels, channels, kernel_size, padding=padding, dilation=dilation, groups=channels, bias=bias
        )

    def forward(self, x: Tensor) -> Tensor:
        return depthwise_conv2d(x, self.weight, self.bias, dilation=self.dilation[0])


class Conv2d(nn.Conv2d):
    """`lkops.conv2d` with the parameters and the state dict of torch's conv; `prelu` adds `prelu_weight` (O,).

    Args:
        in_channels, out_channels, kernel_size, stride, dilation, groups, bias: as torch's.
        padding: "same" if not given; also with a stride.
        activation, slope, residual_scale, accuracy: see the function.
    """

    prelu_weight: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        *,
        stride: int | Sequence[int] = 1,
        padding: str | int | Sequence[int] = "same",
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        activation: str | None = None,
        slope: float = 0.01,
        residual_scale: float = 1.0,
        accuracy: str = "exact",
    ) -> None:
        in_channels = checks.positive("in_channels", in_channels)
        out_channels = checks.positive("out_channels", out_channels)
        groups = _divides("groups", groups, "in_channels", in_channels)
        _divides("groups", groups, "out_channels", out_channels)
        kernel_size = checks.one_or_two("kernel_size", kernel_size)
        stride, dilation = checks.one_or_two("stride", stride), checks.one_or_two("dilation", dilation)
        around = conv_values.padding(padding, kernel_size, dilation)
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=around,
            dilation=dilation,
            groups=groups,
            bias=checks.flag("bias", bias),
        )
        conv_values.activation(activation), conv_values.relaxed(accuracy)  # raise where they are none
        self.activation, self.accuracy = activation, accuracy
        self.slope, self.residual_scale = checks.number("slope", slope), checks.number("residual_scale", residual_scale)
        slopes = nn.Parameter(torch.full((out_channels,), 0.25)) if activation == "prelu" else None
        self.register_parameter("prelu_weight", slopes)

    def forward(self, input: Tensor, residual: Tensor | None = None) -> Tensor:
        return conv2d(
            input,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            activation=self.activation,
            slope=self.slope,
            prelu_weight=self.prelu_weight,
            residual=residual,
            residual_scale=self.residual_scale,
            accuracy=self.accuracy,
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, activation={self.activation!r}, accuracy={self.accuracy!r}"


class ChannelLayerNorm(nn.Module):
    """Weight and bias (C,) of a layer norm over channels; the operators that take it apply it."""

    def __init__(self, channels: int, *, eps: float = 1e-6) -> None:
        super().__init__()
        channels, self.eps = checks.positive("channels", channels), checks.above_zero("eps", eps)
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}"


class ChannelAttention(nn.Module):
    """`lkops.channel_attention`: `reduction` is how many times fewer channels its hidden layer has."""

    def __init__(self, channels: int, *, reduction: int = 16) -> None:
        super().__init__()
        channels = checks.positive("channels", channels)
        reduction = _divides("reduction", reduction, "the channels", channels)
        self.reduce = nn.Conv2d(channels, channels // reduction, 1)
        self.expand = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return channel_attention(x, self.reduce.weight, self.reduce.bias, self.expand.weight, self.expand.bias)


class LargeKernelChannelAttention(nn.Module):
    """`lkops.large_kernel_channel_attention` (LKCA-Net, eq. 9 to 14), with its parameters.

    Args:
        channels: C.
        kernel_sizes, dilations: of the two depthwise convs.
        groups: of the 1x1 conv that mixes the three maps.
        reduction: of the channel attention over 3C channels.
        interleave: see the function.
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_sizes: Sequence[int] = (5, 7),
        dilations: Sequence[int] = (5, 7),
        groups: int = 4,
        reduction: int = 16,
        interleave: bool = False,
    ) -> None:
        super().__init__()
        channels = checks.positive("channels", channels)
        groups = _divides("groups", groups, "the channels", channels)
        kernel_sizes, dilations = checks.pair("kernel_sizes", kernel_sizes), checks.pair("dilations", dilations)
        self.dilations, self.interleave = dilations, checks.flag("interleave", interleave)
        self.dw1 = DepthwiseConv2d(channels, kernel_sizes[0], dilation=dilations[0])
        self.dw2 = DepthwiseConv2d(channels, kernel_sizes[1], dilation=dilations[1])
        self.attention = ChannelAttention(3 * channels, reduction=reduction)
        self.mix = nn.Conv2d(3 * channels, channels, 1, groups=groups)

    def arguments(self) -> tuple[Any, ...]:
        """The function's ten parameters, in its order."""
        convs = (self.dw1, self.dw2, self.attention.reduce, self.attention.expand, self.mix)
        return tuple(parameter for conv in convs for parameter in (conv.weight, conv.bias))

    def forward(self, u: Tensor) -> Tensor:
        return large_kernel_channel_attention(
            u,
            *self.arguments(),
            dilations=self.dilations,
            interleave=self.interleave,
        )


class NormConv1x1GELU(nn.Module):
    """`lkops.norm_conv1x1_gelu` with its layer norm and 1x1 conv."""

    def __init__(self, in_channels: int, out_channels: int, *, eps: float = 1e-6) -> None:
        super().__init__()
        in_channels = checks.positive("in_channels", in_channels)
        out_channels = checks.positive("out_channels", out_channels)
        self.norm = ChannelLayerNorm(in_channels, eps=eps)
        self.conv = nn.Conv2d(in_channels, out_channels, 1)

    def arguments(self) -> tuple[Any, ...]:
        """The function's four parameters, in its order."""
        return (self.norm.weight, self.norm.bias, self.conv.weight, self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        return norm_conv1x1_gelu(x, *self.arguments(), eps=self.norm.eps)


class LKBlock(nn.Module):
    """`lkops.lk_block` (LKCA-Net, eq. 7): projection, large-kernel channel attention, output conv, residual.

    Args:
        channels: C of input and output, and the width inside.
        drop_path: probability with which a sample's branch is dropped in training (stochastic depth).
        eps: of the layer norm.
        The others: see `LargeKernelChannelAttention`.
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_sizes: Sequence[int] = (5, 7),
        dilations: Sequence[int] = (5, 7),
        groups: int = 4,
        reduction: int = 16,
        interleave: bool = False,
        drop_path: float = 0.0,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.drop_path = checks.number("drop_path", drop_path)
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path must be in [0, 1), got {drop_path}")
        channels = checks.positive("channels", channels)
        self.projection = NormConv1x1GELU(channels, channels, eps=eps)
        self.attention = LargeKernelChannelAttention(
            channels,
            kernel_sizes=kernel_sizes,
            dilations=dilations,
            groups=groups,
            reduction=reduction,
            interleave=interleave,
        )
        self.out = nn.Conv2d(channels, channels, 1)

    def arguments(self) -> tuple[Any, ...]:
        """The function's parameters, in its order."""
        return (*self.projection.arguments(), *self.attention.arguments(), self.out.weight, self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        keep = None
        if self.training and self.drop_path:
            kept = 1 - self.drop_path
            keep = torch.empty(x.shape[0], dtype=x.dtype, device=x.device).bernoulli_(kept) / kept
        return lk_block(
            x,
            *self.arguments(),
            keep=keep,
            dilations=self.attention.dilations,
            interleave=self.attention.interleave,
            eps=self.projection.norm.eps,
        )


class BicubicUpsample(nn.Module):
    """`lkops.bicubic_upsample`; the defaults are MATLAB's imresize."""

    def __init__(self, scale: int, *, cubic_a: float = -0.5, border: str = "symmetric") -> None:
        super().__init__()
        checks.border("border", border)
        self.scale, self.border = checks.positive("scale", scale), border
        self.cubic_a = checks.number("cubic_a", cubic_a)

    def forward(self, x: Tensor) -> Tensor:
        return bicubic_upsample(x, scale=self.scale, cubic_a=self.cubic_a, border=self.border)

    def extra_repr(self) -> str:
        return f"scale={self.scale}, cubic_a={self.cubic_a}, border={self.border!r}"


class UpsampleAdd(nn.Module):
    """`lkops.upsample_add`: conv, PixelShuffle, plus the bicubic image of `lowres` (LKCA-Net, eq. 4 to 6).

    Args:
        in_channels: C of the features.
        bands: B of the image.
        scale: r.
        kernel_size: of the conv, odd.
        groups: g of the conv; must divide C and B r^2.
        rank: None, or the channels of a conv without bias that comes first (`first`, with the kernel): the conv after
            it is 1x1 then. Both together are a conv of that rank.
        cubic_a, border: of the bicubic image.
        accuracy: of the conv, see the function.

    Attributes:
        first: None, or what the features pass before `conv`: that conv of `rank`, or `lkops.lowrank.SelectChannels`.
    """

    first: nn.Module | None

    def __init__(
        self,
        in_channels: int,
        bands: int,
        scale: int,
        *,
        kernel_size: int = 3,
        groups: int = 1,
        rank: int | None = None,
        bias: bool = True,
        cubic_a: float = -0.5,
        border: str = "symmetric",
        accuracy: str = "exact",
    ) -> None:
        super().__init__()
        in_channels = checks.positive("in_channels", in_channels)
        bands, scale = checks.positive("bands", bands), checks.positive("scale", scale)
        kernel_size, bias = _odd("kernel_size", kernel_size), checks.flag("bias", bias)
        rank = None if rank is None else checks.positive("rank", rank)
        groups = _divides(
            "groups", groups, "the channels of the features" if rank is None else "rank", rank or in_channels
        )
        _divides("groups", groups, "bands * scale^2", bands * scale**2)
        checks.border("border", border)
        self.scale, self.border, self.cubic_a = scale, border, checks.number("cubic_a", cubic_a)
        self.accuracy = checks.choice("accuracy", accuracy, ("exact", "relaxed"))
        self.first = None
        if rank is not None:
            self.first = nn.Conv2d(in_channels, rank, kernel_size, padding=kernel_size // 2, bias=False)
            in_channels, kernel_size = rank, 1
        self.conv = nn.Conv2d(
            in_channels, bands * scale**2, kernel_size, padding=kernel_size // 2, groups=groups, bias=bias
        )

    @property
    def reach(self) -> int:
        """Pixels of the features, in each direction, that the convs read around one."""
        convs = [conv for conv in (self.first, self.conv) if isinstance(conv, nn.Conv2d)]
        return sum(conv.kernel_size[0] // 2 for conv in convs)

    def forward(self, features: Tensor, lowres: Tensor | None = None) -> Tensor:
        if self.first is not None:
            features = self.first(features)
        return upsample_add(
            features,
            self.conv.weight,
            self.conv.bias,
            lowres,
            scale=self.scale,
            cubic_a=self.cubic_a,
            border=self.border,
            accuracy=self.accuracy,
        )

    def extra_repr(self) -> str:
        return f"scale={self.scale}, cubic_a={self.cubic_a}, border={self.border!r}"


class SpectralLosses(nn.Module):
    """`lkops.spectral_losses` as a module: (prediction, target) to the four losses.

    Args:
        floor: of the target's spectra, see there.
    """

    def __init__(self, floor: float = 0.0) -> None:
        super().__init__()
        self.floor = checks.at_least_zero("floor", floor)

    def forward(self, prediction: Tensor, target: Tensor) -> _Losses:
        return spectral_losses(prediction, target, floor=self.floor)

    def extra_repr(self) -> str:
        return f"floor={self.floor:g}"
