"""Questions about an fx graph of a module's forward: what a node calls, and what it shares memory with."""

# long: one class, whose questions share what they remember

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from .calls import keeps_size, plain_conv, plain_linear
from .hooks import has_own_call, hooked
from .tracing import CannotTrace, Traces

# results that may share memory with their first argument
_VIEW_NAMES = (
    "view reshape permute transpose contiguous flatten unflatten unsqueeze squeeze expand expand_as view_as reshape_as "
    "chunk split tensor_split unbind narrow select detach to type type_as float half double getitem getattr movedim "
    "moveaxis swapaxes t T mT real data alias numpy dropout identity rearrange pad broadcast_to "
    "pixel_shuffle interpolate adaptive_avg_pool2d"  # these with a factor or size of 1
)
_VIEWS = set(re.findall(r"\w+", _VIEW_NAMES))
_VIEW_MODULES = (nn.Identity, nn.modules.dropout._DropoutNd, nn.Flatten, nn.Unflatten, nn.PixelShuffle, nn.Upsample)


def name_of(target: Any) -> str:
    """Of a function or method: its last name."""
    return target if isinstance(target, str) else getattr(target, "__name__", str(target))


def argument(node: fx.Node, position: int, name: str, default: Any = None) -> Any:
    """An argument of a call, wherever it stands."""
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def is_writing(node: fx.Node) -> bool:
    """Whether a function or method changes its first argument."""
    name = name_of(node.target)
    if name.endswith("_") and not name.endswith("__"):
        return True
    if node.op == "call_function" and name in ("setitem", *(f"i{op}" for op in _IN_PLACE)):
        return True
    return bool(node.kwargs.get("inplace")) or "out" in node.kwargs


_IN_PLACE = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift")


@dataclass
class Memory:
    """What is known of the modules of a model.

    Attributes:
        trace: of each.
        writes: by id, whether its forward changes its arguments.
    """

    trace: Traces = field(default_factory=Traces)
    writes: dict[int, bool] = field(default_factory=dict)


class Matcher:
    """A graph and the module that it is of.

    Args:
        root: the module.
        graph: of its forward.
        memory: what is remembered across graphs.
    """

    def __init__(self, root: nn.Module, graph: fx.Graph, memory: "Memory") -> None:
        self.root, self.graph, self._memory = root, graph, memory
        self.nodes = list(graph.nodes)
        self.order = {node: i for i, node in enumerate(self.nodes)}
        self._aliases: dict[fx.Node, fx.Node] | None = None

    def called(self, node: Any) -> nn.Module | None:
        """The child that the node calls with one argument."""
        if not isinstance(node, fx.Node) or node.op != "call_module" or node.kwargs or len(node.args) != 1:
            return None
        return self.root.get_submodule(str(node.target))

    def module(self, node: Any) -> nn.Module | None:
        """The same, if nothing hangs on that call."""
        child = self.called(node)
        return None if child is None or hooked(child) or has_own_call(child) else child

    def attribute(self, node: Any) -> Tensor | None:
        """The parameter or buffer that the node reads."""
        if not isinstance(node, fx.Node) or node.op != "get_attr":
            return None
        value: Any = self.root
        for part in str(node.target).split("."):
            value = getattr(value, part)
        return value if isinstance(value, Tensor) else None

    def calls(
        self, node: Any, functions: Sequence[Callable[..., Any]] = (), methods: Sequence[str] = (), modules: Any = ()
    ) -> bool:
        """Whether the node calls one of these functions, methods, or modules of exactly these classes."""
        if not isinstance(node, fx.Node):
            return False
        if node.op == "call_function":
            return any(node.target is function for function in functions)
        if node.op == "call_method":
            return node.target in methods
        child = self.module(node)
        return child is not None and type(child) in modules

    def first(self, node: fx.Node) -> Any:
        """The first argument of a call, the object of a method."""
        return node.args[0] if node.args else node.kwargs.get("input", node.kwargs.get("x"))

    def alone(self, *nodes: fx.Node) -> bool:
        """Whether nothing but these nodes uses all of them but the last."""
        return all(user in nodes for node in nodes[:-1] for user in node.users)

    def conv(self, node: Any) -> "Conv | None":
        """What the node convolves, if it is a 2-D conv as torch has it."""
        child = self.module(node)
        if child is not None and plain_conv(child):
            return Conv(self, node, cast(nn.Conv2d, child))
        if self.calls(node, (F.conv2d, torch.conv2d)) and self.attribute(argument(node, 1, "weight")) is not None:
            return Conv(self, node, None)
        return None

    def changed(self, tensor: fx.Node, since: fx.Node, before: fx.Node, nodes: Sequence[fx.Node]) -> bool:
        """Whether something between two places, beside `nodes`, may write into the memory of `tensor`."""
        root = self._alias(tensor)
        for node in self.nodes[self.order[since] + 1 : self.order[before]]:
            if node in nodes or not self._may_write(node):
                continue
            if any(self._alias(other) is root for other in node.all_input_nodes):
                return True
        return False

    def writes_arguments(self) -> bool:
        """Whether the forward may write into what it is given."""
        given = [node for node in self.nodes if node.op == "placeholder"]
        last = self.nodes[-1]
        return any(self.changed(node, node, last, ()) for node in given)

    def _may_write(self, node: fx.Node) -> bool:
        if node.op in ("call_function", "call_method"):
            return is_writing(node)
        if node.op != "call_module":
            return False
        child = self.root.get_submodule(str(node.target))
        writes = self._memory.writes
        if id(child) not in writes:
            writes[id(child)] = True  # as long as it is not known
            writes[id(child)] = _module_writes(child, self._memory)
        return writes[id(child)]

    def _alias(self, node: fx.Node) -> fx.Node:
        """One node that stands for all that may share memory."""
        if self._aliases is None:
            self._aliases = {}
            for n in self.nodes:
                self._aliases[n] = n
                for other in n.all_input_nodes if self._may_alias(n) else ():
                    mine, theirs = self._alias(n), self._alias(other)
                    if mine is not theirs:
                        self._aliases[theirs] = mine
        while self._aliases[node] is not node:
            node = self._aliases[node]
        return node

    def _may_alias(self, node: fx.Node) -> bool:
        if node.op in ("call_function", "call_method"):
            return name_of(node.target) in _VIEWS or is_writing(node)
        if node.op != "call_module":
            return False
        child = self.root.get_submodule(str(node.target))
        own = not type(child).__module__.startswith("torch.nn")
        return own or isinstance(child, _VIEW_MODULES) or bool(getattr(child, "inplace", False)) or hooked(child)


def _module_writes(module: nn.Module, memory: Memory) -> bool:
    if type(module).__module__.startswith(("torch.nn.", "lkops.")) and not any(module.children()):
        return bool(getattr(module, "inplace", False)) or hooked(module)
    if plain_conv(module) or plain_linear(module):
        return False
    if hooked(module):
        return True
    try:
        traced = memory.trace(module)
    except CannotTrace:
        return True
    graphs = [graph for graph in (traced.graph, traced.training) if graph is not None]
    return any(Matcher(module, graph, memory).writes_arguments() for graph in graphs)


def _pair(value: Any) -> tuple[int, int] | None:
    pair = (value, value) if isinstance(value, int) else tuple(value) if isinstance(value, (tuple, list)) else ()
    if len(pair) == 1:
        pair = pair * 2
    return pair if len(pair) == 2 and all(isinstance(v, int) for v in pair) else None


class Conv:
    """A 2-D conv in a graph: a child (`module`), or `F.conv2d` with parameters of the module."""

    def __init__(self, g: Matcher, node: fx.Node, module: nn.Conv2d | None) -> None:
        self.node, self.module, self.input = node, module, g.first(node)
        if module is not None:
            self.weight: Any = module.weight
            self.bias, self.groups = module.bias, module.groups
        else:
            weight = g.attribute(argument(node, 1, "weight"))
            assert weight is not None
            self.weight, self.bias = weight, argument(node, 2, "bias")
            self.groups = argument(node, 6, "groups", 1)

    @property
    def stride_dilation(self) -> tuple[Any, Any]:
        if self.module is not None:
            return tuple(self.module.stride), tuple(self.module.dilation)
        return _pair(argument(self.node, 3, "stride", 1)), _pair(argument(self.node, 5, "dilation", 1))

    def keeps_size(self, *, dilated: bool = False) -> bool:
        """As `calls.keeps_size`."""
        if self.module is not None:
            return keeps_size(self.module, dilated=dilated)
        stride, dilation = self.stride_dilation
        padding = argument(self.node, 4, "padding", 0)
        if stride != (1, 1) or dilation is None or dilation[0] != dilation[1] or not isinstance(self.groups, int):
            return False
        sides = self.weight.shape[2:]
        same = tuple(d * (k // 2) for k, d in zip(sides, dilation, strict=True))
        fits = padding == "same" or _pair(padding) == same
        return fits and all(k % 2 for k in sides) and (dilated or dilation == (1, 1))

    def why_not(self) -> str:
        """What of its weight rules out any operator."""
        if isinstance(self.weight, nn.parameter.UninitializedParameter):
            return "not yet initialised"
        if self.weight.is_meta:
            return "on the meta device"
        if not self.weight.is_floating_point():
            return f"its dtype is {str(self.weight.dtype).removeprefix('torch.')}"
        return ""

    @property
    def pointwise(self) -> bool:
        """Whether it is a dense 1x1 conv."""
        return tuple(self.weight.shape[2:]) == (1, 1) and self.groups == 1 and self.keeps_size()

    def layer(self) -> Any:
        """As an argument of `calls`: the module's name, or the nodes of weight and bias."""
        if self.module is not None:
            return Attribute(str(self.node.target))
        return argument(self.node, 1, "weight"), argument(self.node, 2, "bias")


class Attribute(str):
    """A name to be read from the module when the forward runs."""


def operands(g: Matcher, node: Any, name: str) -> tuple[Any, Any] | None:
    """Both arguments of a sum, product ... ("add", "mul", "sub", "div"), also one in place."""
    operators = {"div": (operator.truediv, operator.itruediv)}
    plain = operators.get(name) or (getattr(operator, name), getattr(operator, f"i{name}"))
    if not g.calls(node, (*plain, getattr(torch, name)), (name, f"{name}_")):
        return None
    return None if node.kwargs or len(node.args) != 2 else (node.args[0], node.args[1])


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
    weight: Any = None  # by which the call says which part it is


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
