"""The parts of a forward that are one operator: what to call instead, or why not."""

import operator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from . import calls
from .matching import Attribute, Conv, Matcher, argument, is_add, name_of


@dataclass
class Match:
    """Nodes of a graph, the last of which gives their result, and the call that computes the same."""

    nodes: list[fx.Node]
    target: Any
    arguments: tuple[Any, ...]
    pattern: str
    operator: str
    reads: list[tuple[fx.Node, fx.Node]]  # (a tensor from outside, the first node that reads it)
    anchor: fx.Node  # names the place
    guards: list[Any] = field(default_factory=list)


@dataclass
class Missed:
    """A node that looks like the heart of a pattern, and why it is none."""

    node: fx.Node
    what: str
    why: str


def settled(g: Matcher, match: Match) -> Match | Missed:
    """The match, if nobody else sees its parts and nothing changes its inputs meanwhile."""
    *inner, last = match.nodes
    if not g.alone(*inner, last):
        return Missed(match.anchor, match.pattern, "a result in between is used elsewhere too")
    for tensor, read in match.reads:
        if g.changed(tensor, read, last, match.nodes):
            return Missed(match.anchor, match.pattern, f"{tensor.name} may be changed in place in between")
    return match


# --- conv + PixelShuffle + bicubic image ---------------------------------------------------------------------------


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


def upsampler(g: Matcher, node: fx.Node) -> Match | Missed | None:
    """conv -> PixelShuffle, and the sum with a bicubic image if there is one."""
    scale = shuffle_factor(g, node)
    if scale is None or not isinstance(source := g.first(node), fx.Node):
        return None
    what = "PixelShuffle"
    conv = g.conv(source)
    if conv is None:
        return Missed(node, what, "what it shuffles is no plain conv" + (" (hooks)" if _hooked(g, source) else ""))
    if why := conv.why_not():
        return Missed(node, what, why)
    if not conv.keeps_size():
        return Missed(node, what, "its conv has a stride, a dilation, an even kernel or a padding that lkops has not")
    if not isinstance(scale, int) or conv.weight.shape[0] % scale**2:
        return Missed(node, what, f"{conv.weight.shape[0]} channels do not divide by {scale}^2")
    weights = (None, *conv.layer()) if conv.module is None else (conv.layer(), None, None)
    nodes, reads = [conv.node, node], [(conv.input, conv.node)]
    pattern = f"conv {_kernel(conv)} + PixelShuffle({scale})"
    alone = Match(nodes, calls.upsample, (conv.input, *weights, scale), pattern, "upsample_add", reads, conv.node)
    total = next(iter(node.users))
    if len(node.users) == 1 and is_add(g, total):
        other = total.args[1] if total.args[0] is node else total.args[0]
        image = interpolation(g, other)
        if image is not None and not image[3] and not _static(*image[1:3]):
            order = sorted([*nodes, other], key=g.order.__getitem__)
            extra, arguments = [(image[0], other)], (*alone.arguments, *image[:3])
            name = pattern + " + bicubic"
            match = Match(
                [*order, total], calls.upsample, arguments, name, "upsample_add", reads + extra, conv.node
            )
            found = settled(g, match)
            if isinstance(found, Match):
                return found
    return settled(g, alone)


def _kernel(conv: Conv) -> str:
    sides = "x".join(str(side) for side in conv.weight.shape[2:])
    return f"{sides} g={conv.groups}" if conv.groups != 1 else sides


def _hooked(g: Matcher, node: fx.Node) -> bool:
    return node.op == "call_module" and calls.hooked(g.root.get_submodule(str(node.target)))


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


# --- depthwise conv -------------------------------------------------------------------------------------------------


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
    if conv.module is not None:
        target, arguments = calls.depthwise_module, (conv.layer(), conv.input)
    else:
        padding = argument(node, 4, "padding", 0)
        padding = [d * (k // 2) for k, d in zip(conv.weight.shape[2:], conv.stride_dilation[1], strict=True)]
        target, arguments = calls.depthwise_function, (  # type: ignore[assignment]
            *(conv.input, *conv.layer(), padding, conv.stride_dilation[1][0]),
        )
    return Match([node], target, arguments, pattern, "depthwise_conv2d", reads, node)


def why_not_depthwise(conv: Any) -> str:
    """Why a conv of one input channel a group (`Conv`, or a module) is not what `depthwise_conv2d` computes."""
    if conv.weight.shape[0] != conv.groups:
        return f"{conv.weight.shape[0] // conv.groups} outputs a channel"
    fits = conv.keeps_size(dilated=True) if isinstance(conv, Conv) else calls.keeps_size(conv, dilated=True)
    return "" if fits else "it has a stride, an even kernel, or a padding that does not keep the size"


# --- channel attention ----------------------------------------------------------------------------------------------

_RELU = ((F.relu, torch.relu, torch.relu_), ("relu", "relu_"), (nn.ReLU,))
_SIGMOID = ((torch.sigmoid, F.sigmoid, torch.sigmoid_), ("sigmoid", "sigmoid_"), (nn.Sigmoid,))
_FLAT = {"view", "reshape", "flatten", "squeeze"}
_DEEP = {"view", "reshape", "unsqueeze", "getitem"}


def attention(g: Matcher, node: fx.Node) -> Match | Missed | None:
    """x * sigmoid(expand(relu(reduce(mean of x)))), as convs or as linears."""
    if not g.calls(node, (operator.mul, operator.imul, torch.mul), ("mul", "mul_")) or len(node.args) != 2:
        return None
    for x, gate in (node.args, node.args[::-1]):
        found = _gated(g, node, x, gate)
        if found is not None:
            return found
    return None


def _gated(g: Matcher, node: fx.Node, x: Any, gate: Any) -> Match | Missed | None:
    if not isinstance(x, fx.Node) or not isinstance(gate, fx.Node):
        return None
    chain = [node]
    if g.calls(gate, (), ("expand_as",)) and gate.args[1:] == (x,):
        chain.append(gate)
        gate = g.first(gate)
    gate = _through(g, gate, chain, _DEEP)
    if not g.calls(gate, *_SIGMOID):
        return None
    chain.append(gate)
    layers: list[Any] = []
    at: Any = _through(g, g.first(gate), chain, _DEEP)
    for step in ("expand", "reduce"):
        layer = _layer(g, at)
        if layer is None:
            return None
        layers.append(layer)
        chain.append(at)
        at = g.first(at)
        if step == "expand":
            between = at
            if isinstance(at, fx.Node):
                chain.append(at)
                at = g.first(at)
    flat = len(chain)
    at = _through(g, at, chain, _FLAT)
    if not _pools(g, at) or g.first(at) is not x:
        return None
    chain.append(at)
    if not g.calls(between, *_RELU):
        kind = type(g.module(between)).__name__ if g.module(between) is not None else name_of(between.target)
        return Missed(node, "channel attention", f"its activation is {kind}: lkops has ReLU")
    if not _right_shapes(chain, layers, flat):
        return None
    if name_of(node.target) in ("imul", "mul_"):
        return Missed(node, "channel attention", "it changes its input in place")
    nodes = sorted(chain, key=g.order.__getitem__)
    expand, reduce = (layer.argument for layer in layers)
    return settled(
        g,
        Match(
            *(nodes, calls.attention, (x, reduce, expand), "channel attention", "channel_attention"),
            reads=[(x, nodes[0])],
            anchor=node,
        ),
    )


def _right_shapes(chain: list[fx.Node], layers: list[Any], flat: int) -> bool:
    """Whether linears get (N, C) and give (N, C, 1, 1), and convs have that all along.

    Args:
        chain: from the product back to the mean.
        layers: expand and reduce.
        flat: where the reshapes before the layers begin in the chain.
    """
    names = [name_of(node.target) for node in chain]
    deep = [name for name in names[:flat] if name in _DEEP]
    pool = chain[-1]
    keeps = "mean" not in names or bool(argument(pool, 2, "keepdim", False))
    squeezes = names[flat:-1]
    if not any(layer.linear for layer in layers):
        return keeps and not squeezes and all(name in ("view", "reshape") for name in deep)
    if not all(layer.linear for layer in layers):
        return False
    flattened = (squeezes == ["squeeze"] * 2 or squeezes in (["view"], ["reshape"], ["flatten"])) == keeps
    return flattened and (deep == ["unsqueeze"] * 2 or deep in (["view"], ["reshape"], ["getitem"]))


def _through(g: Matcher, node: Any, chain: list[fx.Node], names: set[str]) -> Any:
    """Back through reshapes between (N, C, 1, 1) and (N, C), which are noted in the chain."""
    while isinstance(node, fx.Node) and node.op in ("call_method", "call_function") and name_of(node.target) in names:
        name, rest = name_of(node.target), node.args[1:]
        if len(rest) == 1 and isinstance(rest[0], (tuple, list)):
            rest = tuple(rest[0])
        if name in ("view", "reshape") and names is _DEEP and (len(rest) != 4 or rest[2:] != (1, 1)):
            break
        if name in ("view", "reshape") and names is _FLAT and len(rest) != 2:
            break
        if name == "flatten" and argument(node, 1, "start_dim", 0) != 1:
            break
        if name == "squeeze" and (not rest or any(d not in (2, 3, -1, -2) for d in rest)):
            break
        if name == "unsqueeze" and argument(node, 1, "dim") not in (2, 3, -1):
            break
        if name == "getitem" and rest != (slice(None), slice(None), None, None):
            break
        chain.append(node)
        node = g.first(node)
    return node


@dataclass(frozen=True)
class _Layer:
    argument: Any
    linear: bool


def _layer(g: Matcher, node: Any) -> _Layer | None:
    """A dense layer without spatial extent, as an argument of `calls.attention`."""
    conv = g.conv(node)
    if conv is not None:
        return _Layer(conv.layer(), False) if conv.pointwise and not conv.why_not() else None
    child = g.module(node)
    if child is not None and calls.plain_linear(child) and child.weight.is_floating_point():
        return _Layer(Attribute(str(node.target)), True)
    if g.calls(node, (F.linear,)) and g.attribute(argument(node, 1, "weight")) is not None:
        return _Layer((argument(node, 1, "weight"), argument(node, 2, "bias")), True)
    return None


def _pools(g: Matcher, node: Any) -> bool:
    """Whether the node takes the mean over all pixels, as (N, C, 1, 1) or (N, C)."""
    child = g.module(node)
    if child is not None and type(child) is nn.AdaptiveAvgPool2d:
        return child.output_size in (1, (1, 1))
    if g.calls(node, (F.adaptive_avg_pool2d,)):
        return argument(node, 1, "output_size") in (1, (1, 1), [1, 1])
    if g.calls(node, (torch.mean,), ("mean",)):
        dims = argument(node, 1, "dim")
        if "dtype" in node.kwargs or "out" in node.kwargs:
            return False
        return isinstance(dims, (tuple, list)) and len(dims) == 2 and {d % 4 for d in dims} == {2, 3}
    return False
