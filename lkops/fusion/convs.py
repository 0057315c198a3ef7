"""A conv with what follows it: activation, scale and residual."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from . import conv_calls
from .conv_calls import Tail
from .matching import Attribute, Conv, Match, Matcher, argument, operands, settled

# (its functions, methods and modules) by name; in place too, since nothing else sees a conv's result
_SPELLINGS: dict[str, tuple[tuple[Any, ...], tuple[str, ...], tuple[Any, ...]]] = {
    "relu": ((F.relu, torch.relu, torch.relu_, F.relu_), ("relu", "relu_"), (nn.ReLU,)),
    "leaky_relu": ((F.leaky_relu, F.leaky_relu_), (), (nn.LeakyReLU,)),
    "gelu": ((F.gelu,), (), (nn.GELU,)),
    "silu": ((F.silu,), (), (nn.SiLU,)),
    "sigmoid": ((torch.sigmoid, F.sigmoid, torch.sigmoid_), ("sigmoid", "sigmoid_"), (nn.Sigmoid,)),
    "prelu": ((), (), (nn.PReLU,)),
}
ACTIVATIONS = tuple(module for _, _, modules in _SPELLINGS.values() for module in modules)


def conv(g: Matcher, node: fx.Node, accuracy: str) -> Match | None:
    """A conv, and as much of activation, scale and residual as only this conv's result goes through."""
    found = g.conv(node)
    if found is None or found.why_not() or is_depthwise(found) or not isinstance(found.input, fx.Node):
        return None
    stride, dilation = found.stride_dilation
    if not conv_calls.is_worth(found.weight, stride, dilation) or not found.keeps_size(dilated=True):
        return None
    steps = [_Step([node], Tail())]
    while (step := _next(g, steps[-1])) is not None:
        steps.append(step)
    for step in reversed(steps):
        if len(step.nodes) == 1 and found.module is not None and not hasattr(found.module, "parametrizations"):
            return None  # its own class does that
        match = settled(g, _match(found, step, accuracy))
        if isinstance(match, Match):
            return match
    return None


def is_depthwise(conv: Any) -> bool:
    """Whether each output is of one input channel (`Conv`, or a module)."""
    return bool(conv.weight.shape[1] == 1 and conv.weight.shape[0] > 1 and conv.groups != 1)


class _Step:
    """A conv's result after some nodes: the last of them gives it."""

    def __init__(self, nodes: list[fx.Node], tail: Tail, prelu: Any = None, residual: fx.Node | None = None) -> None:
        self.nodes, self.tail, self.prelu, self.residual = nodes, tail, prelu, residual


def _next(g: Matcher, step: _Step) -> _Step | None:
    """With one more node, or None."""
    last, tail = step.nodes[-1], step.tail
    users = list(last.users)
    if len(users) != 1 or step.residual is not None:
        return None
    (node,) = users
    nodes = [*step.nodes, node]
    is_bare = tail.activation is None and step.prelu is None and tail.scale is None
    if is_bare and (name := _activation(g, node)) is not None:
        if name == "prelu":
            return _Step(nodes, tail, Attribute(str(node.target)))
        return _Step(nodes, tail._replace(activation=name, slope=_slope(g, node) if name == "leaky_relu" else 0.01))
    if tail.scale is None and (both := operands(g, node, "mul")) is not None:
        other = both[1] if both[0] is last else both[0]
        if isinstance(other, (int, float)) and not isinstance(other, bool):
            return _Step(nodes, tail._replace(scale=float(other)), step.prelu)
    if (both := operands(g, node, "add")) is not None:
        other = both[1] if both[0] is last else both[0]
        writes_other = both[0] is not last and _in_place(node)
        if isinstance(other, fx.Node) and other is not last and not writes_other:
            return _Step(nodes, tail, step.prelu, other)
    return None


def _in_place(node: fx.Node) -> bool:
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return name in ("iadd", "add_")


def _activation(g: Matcher, node: fx.Node) -> str | None:
    for name, (functions, methods, modules) in _SPELLINGS.items():
        if not g.calls(node, functions, methods, modules):
            continue
        if name != "gelu":
            return name
        child = g.module(node)
        form = argument(node, 1, "approximate", "none") if child is None else child.approximate
        return name if form == "none" else None
    return None


def _slope(g: Matcher, node: fx.Node) -> float:
    child = g.module(node)
    return float(argument(node, 1, "negative_slope", 0.01) if child is None else child.negative_slope)  # type: ignore[arg-type]


def _match(found: Conv, step: _Step, accuracy: str) -> Match:
    stride, dilation = found.stride_dilation
    options = None
    if found.module is None:
        options = (stride, argument(found.node, 4, "padding", 0), dilation, found.groups)
    arguments = (found.input, found.layer(), options, tuple(step.tail), step.prelu, step.residual, accuracy)
    reads = [(found.input, found.node)]
    if step.residual is not None:
        reads.append((step.residual, step.nodes[-1]))
    weight = found.weight if isinstance(found.weight, Tensor) else None
    return Match(
        step.nodes, conv_calls.conv, arguments, _pattern(found, step), "conv2d", reads, found.node, weight=weight
    )


def _pattern(found: Conv, step: _Step) -> str:
    words = [f"conv {'x'.join(str(side) for side in found.weight.shape[2:])}"]
    if found.groups != 1:
        words[0] += f" g={found.groups}"
    if (dilation := found.stride_dilation[1][0]) != 1:
        words[0] += f" dilation {dilation}"
    words += [step.tail.activation] if step.tail.activation else ["prelu"] if step.prelu else []
    words += ["scale"] if step.tail.scale is not None else []
    words += ["residual"] if step.residual is not None else []
    return " + ".join(words)
