"""The parts of a forward that are one operator: what to call instead, or why not."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from . import calls
from .hooks import has_own_forward, hooked
from .matching import Conv, Match, Matcher, Missed, argument, operands, settled


def shuffle_factor(g: Matcher, node: Any) -> Any:
    """The factor of a PixelShuffle, or None."""
    if g.calls(node, (F.pixel_shuffle, torch.pixel_shuffle)):
        return argument(node, 1, "upscale_factor")
    child = g.module(node)
    return child.upscale_factor if child is not None and type(child) is nn.PixelShuffle else None


def interpolation(g: Matcher, node: Any) -> tuple[fx.Node, Any, Any, str] | None:
    """(image, size, scale_factor, why it is not torch's plain bicubic) of an interpolation."""
    child = g.module(node)
    if child is not None and type(child) is nn.Upsample:
        why = _not_bicubic(child.mode, child.align_corners, False, child.recompute_scale_factor)
        return g.first(node), child.size, child.scale_factor, why
    if not g.calls(node, (F.interpolate, F.upsample)):
        return None
    keys = ("size", "scale_factor", "mode", "align_corners", "recompute_scale_factor", "antialias")
    defaults = (None, None, "nearest", None, None, False)
    size, factor, mode, corners, again, antialias = (
        argument(node, i + 1, key, default) for i, (key, default) in enumerate(zip(keys, defaults, strict=True))
    )
    return g.first(node), size, factor, _not_bicubic(mode, corners, antialias, again)


def _not_bicubic(mode: Any, corners: Any, antialias: Any, again: Any) -> str:
    if mode != "bicubic":
        return f"its mode is {mode}: lkops has bicubic"
    if corners:
        return "align_corners=True"
    return "antialias=True" if antialias else "recompute_scale_factor=True" if again else ""


def _static(size: Any, factor: Any) -> bool:
    """Whether the factor is known to be no whole number."""
    factors = factor if isinstance(factor, (tuple, list)) else [factor]
    return size is None and all(isinstance(f, (int, float)) for f in factors) and any(f != int(f) for f in factors)


def upsampler(g: Matcher, node: Any, accuracy: str = "exact") -> Match | Missed | None:
    """conv -> PixelShuffle, and the sum with a bicubic image if there is one."""
    scale, child = shuffle_factor(g, node), g.called(node)
    if scale is None and type(child) is nn.PixelShuffle:
        return Missed(node, "PixelShuffle", "it has hooks, or a forward of its own")
    if scale is None or not isinstance(source := g.first(node), fx.Node):
        return None
    what = "PixelShuffle"
    conv = g.conv(source)
    if conv is None:
        return Missed(node, what, "what it shuffles is no plain conv" + _why_called(g, source))
    if why := conv.why_not():
        return Missed(node, what, why)
    if not conv.keeps_size():
        return Missed(node, what, "its conv has a stride, a dilation, an even kernel or a padding that lkops has not")
    if not isinstance(scale, int) or conv.weight.shape[0] % scale**2:
        return Missed(node, what, f"{conv.weight.shape[0]} channels do not divide by {scale}^2")
    weights = (None, *conv.layer()) if conv.module is None else (conv.layer(), None, None)
    nodes, reads = [conv.node, node], [(conv.input, conv.node)]
    pattern = f"conv {_kernel(conv)} + PixelShuffle({scale})"
    arguments: tuple[Any, ...] = (conv.input, *weights, scale, None, None, None, accuracy)
    alone = Match(nodes, calls.upsample, arguments, pattern, "upsample_add", reads, conv.node, weight=conv.weight)
    total = next(iter(node.users), None)
    if total is not None and (both := operands(g, total, "add")) and len(node.users) == 1:
        other: Any = both[1] if both[0] is node else both[0]
        image = interpolation(g, other)
        if image is not None and not image[3] and not _static(*image[1:3]):
            order = sorted([*nodes, other], key=g.order.__getitem__)
            extra, arguments = [(image[0], other)], (*alone.arguments[:5], *image[:3], accuracy)
            name = pattern + " + bicubic"
            found = settled(
                g,
                Match(
                    *([*order, total], calls.upsample, arguments, name, "upsample_add", reads + extra, conv.node),
                    weight=conv.weight,
                ),
            )
            if isinstance(found, Match):
                return found
    return settled(g, alone)


def _kernel(conv: Conv) -> str:
    sides = "x".join(str(side) for side in conv.weight.shape[2:])
    return f"{sides} g={conv.groups}" if conv.groups != 1 else sides


def _why_called(g: Matcher, node: fx.Node) -> str:
    """What else calling a child does."""
    child = g.root.get_submodule(str(node.target)) if node.op == "call_module" else None
    if child is None or not hooked(child):
        return ""
    return " (a forward of its own)" if has_own_forward(child) else " (hooks)"


def bicubic(g: Matcher, node: fx.Node) -> Match | Missed | None:
    """A bicubic image on its own."""
    image = interpolation(g, node)
    if image is None:
        return None
    source, size, factor, why = image
    if why:
        return Missed(node, "interpolation", why) if "lkops" not in why else None
    if _static(size, factor):
        return Missed(node, "bicubic", f"{factor} is no whole number")
    reads = [(source, node)]
    return Match([node], calls.bicubic, (source, size, factor), "bicubic", "bicubic_upsample", reads, node)


def depthwise(g: Matcher, node: fx.Node) -> Match | Missed | None:
    """A depthwise conv that has no class of its own to be changed: a function, or a parametrised module."""
    conv = g.conv(node)
    if conv is None or not isinstance(conv.groups, int) or conv.groups < 2 or conv.weight.shape[1] != 1:
        return None
    if conv.module is not None and not hasattr(conv.module, "parametrizations"):
        return None
    why = conv.why_not() or why_not_depthwise(conv)
    if why:
        return Missed(node, "depthwise conv", why)
    pattern, reads = f"depthwise conv {_kernel(conv).partition(' ')[0]}", [(conv.input, node)]
    target: Any
    if conv.module is not None:
        target, arguments = calls.depthwise_module, (conv.layer(), conv.input)
    else:
        padding = argument(node, 4, "padding", 0)
        padding = [d * (k // 2) for k, d in zip(conv.weight.shape[2:], conv.stride_dilation[1], strict=True)]
        target, arguments = (
            calls.depthwise_function,
            (*(conv.input, *conv.layer(), padding, conv.stride_dilation[1][0]),),
        )
    return Match([node], target, arguments, pattern, "depthwise_conv2d", reads, node, weight=conv.weight)


def why_not_depthwise(conv: Any) -> str:
    """Why a conv of one input channel a group (`Conv`, or a module) is not what `depthwise_conv2d` computes."""
    if conv.weight.shape[0] != conv.groups:
        return f"{conv.weight.shape[0] // conv.groups} outputs a channel"
    fits = conv.keeps_size(dilated=True) if isinstance(conv, Conv) else calls.keeps_size(conv, dilated=True)
    return "" if fits else "it has a stride, an even kernel, or a padding that does not keep the size"
