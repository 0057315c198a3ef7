"""Channel attention in its spellings."""

from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import fx, nn

from . import calls
from .matching import Attribute, Match, Matcher, Missed, argument, name_of, operands, settled

_RELU = ((F.relu, torch.relu, torch.relu_), ("relu", "relu_"), (nn.ReLU,))
_SIGMOID = ((torch.sigmoid, F.sigmoid, torch.sigmoid_), ("sigmoid", "sigmoid_"), (nn.Sigmoid,))
_FLAT = {"view", "reshape", "flatten", "squeeze"}
_DEEP = {"view", "reshape", "unsqueeze", "getitem"}


def attention(g: Matcher, node: fx.Node) -> Match | Missed | None:
    """x * sigmoid(expand(relu(reduce(mean of x)))), as convs or as linears."""
    both = operands(g, node, "mul")
    for x, gate in (both, both[::-1]) if both else ():
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
            weight=layers[1].weight,
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
    weight: Any


def _layer(g: Matcher, node: Any) -> _Layer | None:
    """A dense layer without spatial extent, as an argument of `calls.attention`."""
    conv = g.conv(node)
    if conv is not None:
        return _Layer(conv.layer(), False, conv.weight) if conv.pointwise and not conv.why_not() else None
    child = g.module(node)
    if child is not None and calls.plain_linear(child) and cast(nn.Linear, child).weight.is_floating_point():
        return _Layer(Attribute(str(node.target)), True, child.weight)
    if g.calls(node, (F.linear,)) and (weight := g.attribute(argument(node, 1, "weight"))) is not None:
        return _Layer((argument(node, 1, "weight"), argument(node, 2, "bias")), True, weight)
    return None


def _pools(g: Matcher, node: Any) -> bool:
    """Whether the node takes the mean over all pixels, as (N, C, 1, 1) or (N, C)."""
    child = g.module(node)
    if child is not None and type(child) is nn.AdaptiveAvgPool2d:
        return child.output_size in (1, (1, 1), [1, 1])
    if g.calls(node, (F.adaptive_avg_pool2d,)):
        return argument(node, 1, "output_size") in (1, (1, 1), [1, 1])
    if g.calls(node, (torch.mean,), ("mean",)):
        dims = argument(node, 1, "dim")
        if "dtype" in node.kwargs or "out" in node.kwargs:
            return False
        return isinstance(dims, (tuple, list)) and len(dims) == 2 and {d % 4 for d in dims} == {2, 3}
    return False
