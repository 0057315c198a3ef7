"""Layer norm over channels in its spellings, and with the 1x1 conv and GELU that follow."""

import operator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from . import calls
from .matching import Attribute, Match, Matcher, Missed, argument, operands, settled


@dataclass
class Norm:
    """A layer norm over the channels of `x`.

    Attributes:
        nodes: in order; the last gives the result.
        weight, bias: nodes that read the parameters, or names of a child's.
        spelled: whether it is written out in means and squares.
    """

    x: Any
    nodes: list[fx.Node]
    weight: Any
    bias: Any
    eps: float
    spelled: bool


def norm_gelu(g: Matcher, node: fx.Node, known: dict[int, Norm]) -> Match | Missed | None:
    """GELU of a 1x1 conv of a layer norm; `known` are the modules whose forward is a norm."""
    if g.calls(node, (F.gelu,)):
        exact = argument(node, 1, "approximate", "none") == "none"
    elif g.calls(node, (), (), (nn.GELU,)):
        exact = g.module(node).approximate == "none"  # type: ignore[union-attr]
    else:
        return None
    conv = g.conv(g.first(node))
    if conv is None or not conv.pointwise or conv.why_not():
        return None
    norm = find_norm(g, conv.input, known)
    if norm is None:
        return None
    what = "layer norm + conv 1x1 + GELU"
    if not exact:
        return Missed(node, what, "its GELU is the tanh form: lkops has the erf form")
    nodes = sorted({*norm.nodes, conv.node, node}, key=g.order.__getitem__)
    arguments = (norm.x, (norm.weight, norm.bias), norm.eps, conv.layer(), norm.spelled)
    if not norm.spelled:
        what += " (where no gradient is needed)"
    reads = [(norm.x, nodes[0])]
    return settled(
        g,
        Match(nodes, calls.norm_conv_gelu, arguments, what, "norm_conv1x1_gelu", reads, conv.node, weight=conv.weight),
    )


def find_norm(g: Matcher, node: Any, known: dict[int, Norm]) -> Norm | None:
    """The layer norm over channels that gives this node."""
    if not isinstance(node, fx.Node):
        return None
    child = g.module(node)
    if child is not None and id(child) in known:
        norm, place = known[id(child)], str(node.target)
        names = (Attribute(f"{place}.{norm.weight}"), Attribute(f"{place}.{norm.bias}"))
        return Norm(g.first(node), [node], *names, norm.eps, norm.spelled)
    return _permuted(g, node) or _spelled(g, node)


def whole_norm(g: Matcher) -> Norm | None:
    """The layer norm that all of this forward is, with the parameters' names."""
    given = [node for node in g.nodes if node.op == "placeholder"]
    last = g.first(g.nodes[-1])
    norm = find_norm(g, last, {}) if len(given) == 1 else None
    if norm is None or norm.x is not given[0] or len(g.nodes) != len(set(norm.nodes)) + 2 + _parameters(g, norm):
        return None
    if (norm.nodes and not g.alone(*norm.nodes)) or not all(isinstance(n, (fx.Node, str)) for n in (norm.weight,)):
        return None
    weight, bias = (n if isinstance(n, str) else str(n.target) for n in (norm.weight, norm.bias))
    return Norm(norm.x, norm.nodes, weight, bias, norm.eps, norm.spelled)


def _parameters(g: Matcher, norm: Norm) -> int:
    return len({n for n in (norm.weight, norm.bias) if isinstance(n, fx.Node)} - set(norm.nodes))


def _permuted(g: Matcher, node: fx.Node) -> Norm | None:
    """permute, layer norm over the last dimension, permute back."""
    if g.calls(node, (), ("contiguous",)):
        inside = g.first(node)
        norm = _permuted(g, inside) if isinstance(inside, fx.Node) else None
        return None if norm is None else replace(norm, nodes=[*norm.nodes, node])
    if not g.calls(node, (torch.permute,), ("permute",)) or _dims(node) != (0, 3, 1, 2):
        return None
    inner = g.first(node)
    if not isinstance(inner, fx.Node):
        return None
    child = g.module(inner)
    if child is not None and type(child) is nn.LayerNorm:
        if len(child.normalized_shape) != 1 or child.weight is None or child.bias is None:
            return None
        place = str(inner.target)
        weight, bias, eps = Attribute(f"{place}.weight"), Attribute(f"{place}.bias"), child.eps
        source = g.first(inner)
    elif g.calls(inner, (F.layer_norm, torch.layer_norm)):
        keys = ("normalized_shape", "weight", "bias", "eps")
        shape, weight, bias, eps = (argument(inner, i + 1, key) for i, key in enumerate(keys))
        if not isinstance(shape, (tuple, list)) or len(shape) != 1 or not _is_vector(g, weight, bias):
            return None
        eps, source = 1e-5 if eps is None else eps, g.first(inner)
    else:
        return None
    if not g.calls(source, (torch.permute,), ("permute",)) or _dims(source) != (0, 2, 3, 1):
        return None
    return Norm(g.first(source), [source, inner, node], weight, bias, float(eps), False)


def _dims(node: fx.Node) -> tuple[Any, ...]:
    rest = node.args[1:] or (node.kwargs.get("dims"),)
    return tuple(rest[0]) if len(rest) == 1 and isinstance(rest[0], (tuple, list)) else tuple(rest)


def _is_vector(g: Matcher, *nodes: Any) -> bool:
    values = [g.attribute(node) for node in nodes]
    return all(value is not None and value.numel() == max(value.shape, default=1) for value in values)


def _spelled(g: Matcher, node: fx.Node) -> Norm | None:
    """weight * (x - mean) / sqrt(var + eps) + bias, in the usual orders."""
    used: list[fx.Node] = [node]
    total = operands(g, node, "add")
    for product, shift in (total, total[::-1]) if total else ():
        bias, scaled = _channelwise(g, shift, used), operands(g, product, "mul")
        if bias is None or scaled is None:
            continue
        for normal, factor in (scaled, scaled[::-1]):
            weight = _channelwise(g, factor, used)
            found = _normalised(g, normal, used) if weight is not None else None
            if found is not None:
                nodes: list[fx.Node] = sorted({*used, product}, key=g.order.__getitem__)
                x, eps = found
                return Norm(x, [n for n in nodes if n.op != "get_attr"], weight, bias, eps, True)
    return None


def _channelwise(g: Matcher, node: Any, used: list[fx.Node]) -> fx.Node | None:
    """The parameter of C values behind weight[:, None, None], weight.view(1, -1, 1, 1) or a (C, 1, 1) parameter."""
    value = g.attribute(node)
    if value is not None:
        return node if value.dim() >= 3 and value.numel() == value.shape[-3] else None
    if not isinstance(node, fx.Node) or not _is_vector(g, g.first(node)):
        return None
    first = g.first(node)
    if g.attribute(first).dim() != 1:  # type: ignore[union-attr]
        return None
    rest = tuple(node.args[1:])
    if len(rest) == 1 and isinstance(rest[0], (tuple, list)):
        rest = tuple(rest[0])
    size = g.attribute(first).numel()  # type: ignore[union-attr]
    sliced = g.calls(node, (operator.getitem,)) and rest in (
        (slice(None), None, None),
        (None, slice(None), None, None),
    )
    viewed = g.calls(node, (), ("view", "reshape")) and rest in (
        *((1, -1, 1, 1), (-1, 1, 1), (1, size, 1, 1), (size, 1, 1)),
    )
    if not (sliced or viewed):
        return None
    used.append(node)
    return first


def _normalised(g: Matcher, node: Any, used: list[fx.Node]) -> tuple[fx.Node, float] | None:
    """(x, eps) of (x - mean) / sqrt(var + eps), or (x - mean) * rsqrt(var + eps)."""
    divided, multiplied = operands(g, node, "div"), operands(g, node, "mul")
    if (both := divided or multiplied) is None:
        return None
    centred, root = both
    root_names = ((torch.sqrt,), ("sqrt",)) if divided else ((torch.rsqrt,), ("rsqrt",))
    difference = operands(g, centred, "sub")
    if not g.calls(root, *root_names) or difference is None:
        return None
    x, mean = difference
    total = g.first(root)
    variance: Any
    variance, eps = operands(g, total, "add") or (None, None)
    if not isinstance(eps, (int, float)) or eps <= 0:
        return None
    if not _mean(g, mean, x) or not (squares := _variance(g, variance, x, mean)):
        return None
    used += [node, centred, root, total, mean, variance, *squares]
    return x, float(eps)


def _mean(g: Matcher, node: Any, x: Any) -> bool:
    if not g.calls(node, (torch.mean,), ("mean",)) or g.first(node) is not x or "dtype" in node.kwargs:
        return False
    return argument(node, 1, "dim") in (1, -3, (1,), [1]) and bool(argument(node, 2, "keepdim", False))


def _variance(g: Matcher, node: Any, x: Any, mean: Any) -> list[fx.Node]:
    """The nodes of the biased variance of x over channels; empty if it is something else."""
    if g.calls(node, (torch.var,), ("var",)) and g.first(node) is x:
        dim = argument(node, 1, "dim") in (1, -3, (1,), [1])
        unbiased = argument(node, 2, "unbiased", node.kwargs.get("correction", True))
        return [node] if dim and not unbiased and argument(node, 3, "keepdim", False) else []
    square: Any = g.first(node) if isinstance(node, fx.Node) else None
    if not _mean(g, node, square):
        return []
    if g.calls(square, (operator.pow, torch.pow), ("pow",)) and square.args[1:] == (2,):
        centred = square.args[0]
    elif g.calls(square, (torch.square,), ("square",)):
        centred = g.first(square)
    elif (both := operands(g, square, "mul")) and both[0] is both[1]:
        centred = both[0]
    else:
        return []
    if operands(g, centred, "sub") != (x, mean):
        return []
    return [square, centred]
