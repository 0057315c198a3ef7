"""What a fused forward calls: the operator where it computes the same and is faster, else PyTorch's own.

All that is known only at the call is decided here: dtypes, autocast, sizes, whether there will be a backward, and
whether the modules are still as they were (hooks, parametrisations, another module in their place). So a fused model
can be slower than it might be, and not wrong. The speeds behind `_worth...` are of bench/cpu/fusion.py on a CPU.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import backends
from .._core import choice
from ..ops.bicubic_upsample import bicubic_upsample
from ..ops.channel_attention import channel_attention
from ..ops.depthwise_conv2d import depthwise_conv2d
from ..ops.norm_conv1x1_gelu import norm_conv1x1_gelu
from ..ops.upsample_add import upsample_add
from . import ways
from .hooks import hooked


def plain_conv(conv: Any) -> bool:
    """Whether calling this module is exactly a conv with its weight and bias."""
    kind: Any = type(conv)
    kind = getattr(kind, "_fusion_base", kind)  # of a conv that calls `conv_calls.module` it is the work
    return (
        isinstance(conv, nn.Conv2d)
        and kind.forward is nn.Conv2d.forward
        and kind._conv_forward is nn.Conv2d._conv_forward
        and "_conv_forward" not in conv.__dict__
        and not hooked(conv)
    )


def plain_linear(linear: Any) -> bool:
    return isinstance(linear, nn.Linear) and type(linear).forward is nn.Linear.forward and not hooked(linear)


def keeps_size(conv: nn.Conv2d, *, dilated: bool = False) -> bool:
    """Whether the conv has stride 1, an odd kernel, and the zero padding that keeps the size."""
    dilation, padding = tuple(conv.dilation), conv.padding
    same = tuple(d * (k // 2) for k, d in zip(conv.kernel_size, dilation, strict=True))
    return (
        tuple(conv.stride) == (1, 1)
        and all(k % 2 for k in conv.kernel_size)
        and (padding == "same" or tuple(padding) == same)
        and (conv.padding_mode == "zeros" or not any(same))
        and (dilated or dilation == (1, 1))
        and dilation[0] == dilation[1]
    )


def gradient(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def autocast(x: Tensor) -> bool:
    return torch.amp.is_autocast_available(x.device.type) and torch.is_autocast_enabled(x.device.type)


def compiled(operator: str, x: Any) -> bool:
    """Whether a kernel of ours takes a tensor like x: what it would leave to plain PyTorch stays as it was."""
    if not isinstance(x, Tensor) or x.dim() != 4 or x.is_quantized or 0 in x.shape[1:]:
        return False
    if choice.asked() is not None:
        return True  # asked for: runs or raises
    return backends.choose(operator, None, (x,)) != "reference"


def depthwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A depthwise conv module called on x, whose class may have this function as its forward."""
    weight, bias = conv.weight, conv.bias
    fits = (
        compiled("depthwise_conv2d", x)
        and "_conv_forward" not in conv.__dict__
        and keeps_size(conv, dilated=True)
        and weight.dtype is x.dtype
        and (weight.shape[1], weight.shape[0]) == (1, x.shape[1])
    )

    def ours() -> Tensor:
        return depthwise_conv2d(x, weight, bias, dilation=conv.dilation[0])

    return ways.either(weight, ours if fits else None, lambda: conv._conv_forward(x, weight, bias))


def depthwise_module(conv: Any, x: Tensor) -> Tensor:
    """A depthwise conv module called from a rewritten forward."""
    return depthwise(conv, x) if plain_conv(conv) else conv(x)


def depthwise_function(x: Tensor, weight: Tensor, bias: Tensor | None, padding: Any, dilation: int) -> Tensor:
    """`F.conv2d` with as many groups as channels."""
    same = [dilation * (side // 2) for side in weight.shape[2:]]
    given = [padding, padding] if isinstance(padding, int) else list(padding)
    fits = given == same and weight.shape[2] % 2 and weight.shape[3] % 2 and weight.dtype is x.dtype
    fits = fits and compiled("depthwise_conv2d", x) and weight.shape[0] == x.shape[1]

    def ours() -> Tensor:
        return depthwise_conv2d(x, weight, bias, dilation=dilation)

    return ways.either(
        weight, ours if fits else None, lambda: F.conv2d(x, weight, bias, 1, padding, dilation, weight.shape[0])
    )


def _factor(x: Tensor, size: Any, scale_factor: Any) -> int:
    """The whole number of times that an interpolation enlarges both sides, or 0."""
    if size is not None:
        sides = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
        factors = [side // old if side % old == 0 else 0 for side, old in zip(sides, x.shape[2:], strict=True)]
    else:
        given = list(scale_factor) if isinstance(scale_factor, (tuple, list)) else [scale_factor] * 2
        factors = [int(factor) if factor == int(factor) else 0 for factor in given]
    return factors[0] if factors[0] == factors[1] else 0


def bicubic(x: Tensor, size: Any, scale_factor: Any) -> Tensor:
    """`F.interpolate(mode="bicubic", align_corners=False)`."""
    scale = _factor(x, size, scale_factor) if compiled("bicubic_upsample", x) and not autocast(x) else 0

    def ours() -> Tensor:
        return bicubic_upsample(x, scale=scale, cubic_a=-0.75, border="replicate")

    def eager() -> Tensor:
        return F.interpolate(x, size, scale_factor, mode="bicubic", align_corners=False)

    return ways.either(None, ours if scale else None, eager)


def upsample(
    features: Tensor,
    conv: Any,
    weight: Tensor | None,
    bias: Tensor | None,
    scale: int,
    lowres: Tensor | None = None,
    size: Any = None,
    scale_factor: Any = None,
    given: str = "exact",
) -> Tensor:
    """A conv (a module, or `F.conv2d` with `weight` that keeps the size), PixelShuffle, plus the bicubic image.

    `given` is the conv's accuracy.
    """
    plain = conv is None or plain_conv(conv)
    kernel, offset = (weight, bias) if conv is None else (conv.weight, conv.bias) if plain else (None, None)
    fits = plain and _fits_upsample(features, conv, kernel, scale, lowres, size, scale_factor)

    def ours() -> Tensor:
        assert kernel is not None
        options: Any = {"cubic_a": -0.75, "border": "replicate", "accuracy": ways.accuracy(given)}
        return upsample_add(features, kernel, offset, lowres, scale=scale, **options)

    def eager() -> Tensor:
        if conv is not None:
            z = conv._conv_forward(features, kernel, offset) if plain else conv(features)
        else:
            assert weight is not None
            groups = features.shape[-3] // weight.shape[1]
            z = F.conv2d(features, weight, bias, 1, [side // 2 for side in weight.shape[2:]], 1, groups)
        up = F.pixel_shuffle(z, scale)
        return up if lowres is None else up + bicubic(lowres, size, scale_factor)

    return ways.either(kernel, ours if fits else None, eager)


def _fits_upsample(
    features: Tensor, conv: Any, weight: Any, scale: int, lowres: Tensor | None, size: Any, scale_factor: Any
) -> bool:
    if not compiled("upsample_add", features) or (weight.dtype is not features.dtype and not autocast(features)):
        return False
    if (conv is not None and not keeps_size(conv)) or weight.shape[0] % scale**2:
        return False
    if lowres is None:
        return _worth_shuffling(features, weight)
    expected = (features.shape[0], weight.shape[0] // scale**2, *features.shape[2:])
    if tuple(lowres.shape) != expected or _factor(lowres, size, scale_factor) != scale:
        return False
    return lowres.dtype is torch.float32 if autocast(features) else lowres.dtype is features.dtype


def _worth_shuffling(features: Tensor, weight: Tensor) -> bool:
    """The backward of a dense conv of more than one tap is no faster than PyTorch's, and can be slower."""
    dense = weight.shape[1] == features.shape[1] and weight.shape[2] * weight.shape[3] > 1
    return not (dense and features.device.type == "cpu" and gradient(features, weight))


def attention(x: Tensor, reduce: Any, expand: Any) -> Tensor:
    """Channel attention. `reduce` and `expand` are each a 1x1 conv or linear module, or (weight, bias) of one."""
    first, second = _pointwise(reduce), _pointwise(expand)
    fits = False
    if first and second and compiled("channel_attention", x) and not autocast(x):
        fits = first[0].dtype is x.dtype and second[0].shape[0] == x.shape[1]

    def ours() -> Tensor:
        assert first is not None
        assert second is not None
        return channel_attention(x, _deep(first[0]), first[1], _deep(second[0]), second[1])

    def eager() -> Tensor:
        hidden = F.relu(_apply(reduce, first, F.adaptive_avg_pool2d(x, 1)))
        return x * torch.sigmoid(_apply(expand, second, hidden))

    return ways.either(first[0] if first else None, ours if fits else None, eager)


def _pointwise(layer: Any) -> tuple[Tensor, Tensor | None] | None:
    """Weight (out, in, 1, 1) or (out, in) and bias of a layer without spatial extent; None if it must be called.

    A weight is read once a call: what computes it (a parametrisation) may count its runs, as a spectral norm does.
    """
    if isinstance(layer, (tuple, list)):
        weight, bias = layer
    elif plain_linear(layer) or (plain_conv(layer) and keeps_size(layer) and layer.groups == 1):
        weight, bias = layer.weight, layer.bias
    else:
        return None
    return None if weight.dim() == 4 and tuple(weight.shape[2:]) != (1, 1) else (weight, bias)


def _deep(weight: Tensor) -> Tensor:
    return weight if weight.dim() == 4 else weight[:, :, None, None]


def _apply(layer: Any, pair: tuple[Tensor, Tensor | None] | None, x: Tensor) -> Tensor:
    """A 1x1 conv or linear on (N, C, 1, 1) or, as a conv, on any image; `pair` is what `_pointwise` gave for it."""
    if pair is None:
        return layer(x.flatten(-3)).unsqueeze(-1).unsqueeze(-1) if isinstance(layer, nn.Linear) else layer(x)
    if isinstance(layer, nn.Linear):
        return F.linear(x.flatten(-3), *pair).unsqueeze(-1).unsqueeze(-1)
    return F.conv2d(x, _deep(pair[0]), pair[1])


def norm_conv_gelu(x: Tensor, norm: Any, eps: float, conv: Any, spelled: bool) -> Tensor:
    """Channel layer norm, 1x1 conv, GELU.

    Args:
        x: (N, C, H, W).
        norm: (weight, bias), of C values each.
        eps: of the norm.
        conv: a 1x1 conv module, or (weight, bias) of one.
        spelled: the norm is spelled out in means and squares: then the operator is faster in backward too, which it
            is not where the norm is `F.layer_norm`.
    """
    scale, shift = (parameter.reshape(-1) for parameter in norm)
    pair = _pointwise(conv)
    fits = pair and not autocast(x) and scale.dtype is pair[0].dtype is x.dtype
    fits = pair and fits and compiled("norm_conv1x1_gelu", x) and _worth_norm(spelled, x, scale, shift, pair[0])

    def ours() -> Tensor:
        assert pair is not None
        return norm_conv1x1_gelu(x, scale, shift, _deep(pair[0]), pair[1], eps=eps)

    def eager() -> Tensor:
        normal = F.layer_norm(x.permute(0, 2, 3, 1), scale.shape, scale, shift, eps).permute(0, 3, 1, 2)
        return F.gelu(_apply(conv, pair, normal))

    return ways.either(pair[0] if pair else None, ours if fits else None, eager)


def _worth_norm(spelled: bool, x: Tensor, *parameters: Tensor) -> bool:
    """The backward is slower than that of `F.layer_norm`, and faster than that of a norm spelled out."""
    return spelled or x.device.type != "cpu" or not gradient(x, *parameters)
