"""Which modules get which forward: every module of the tree is traced on its own, children first."""

# long: one walk over the tree of modules

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx, nn

from . import calls, conv_calls, convs, gates, norms, patterns
from .hooks import has_own_call, has_own_forward, hooked, no_global_hooks
from .matching import Attribute, Match, Matcher, Memory, Missed
from .measuring import Part
from .norms import Norm
from .owners import is_inlined, is_of_a_child, owners
from .report import Left, Replaced
from .running import restored
from .sharing import Source, imports_of, is_fused
from .tracing import CannotTrace, Guard, Trace, is_transparent

_CALL = "def evaluating(self, x):\n    return {}\n\ntraining = evaluating\n"


@dataclass(frozen=True)
class Rewrite:
    """A forward for a module.

    Attributes:
        guards: what it was made from.
        parts: the modules that it does not call, and the module's own forward does.
    """

    module: nn.Module
    source: Source
    guards: tuple[Guard, ...] = ()
    parts: tuple[nn.Module, ...] = ()


@dataclass
class Plan:
    """What is to be done to the modules of a copy; nothing is changed while planning.

    Attributes:
        rewrites: of modules, children first.
        replaced, left: by what they are about, so that a wider match of the same part takes the place of a smaller.
        accuracy: of convs, as `lkops.conv2d` has it.
        without: why the parts with these weights, by id, are to be left alone.
        weights: ids of the weights of replaced parts, as `replaced` knows these.
    """

    model: nn.Module
    accuracy: str = "exact"
    without: Mapping[int, str] = field(default_factory=dict)
    rewrites: list[Rewrite] = field(default_factory=list)
    replaced: dict[Any, Replaced] = field(default_factory=dict)
    left: dict[Any, Left] = field(default_factory=dict)
    weights: dict[Any, int] = field(default_factory=dict)
    norms: dict[int, Norm] = field(default_factory=dict)
    norm_guards: dict[int, list[Guard]] = field(default_factory=dict)
    tails: dict[int, list[Guard]] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)
    untraced: dict[str, str] = field(default_factory=dict)
    already: int = 0

    def patterns(self) -> dict[int, str]:
        """Of the replaced parts that have a weight, by its id."""
        return {weight: self.replaced[key].pattern for key, weight in self.weights.items() if key in self.replaced}

    def timed(self, part: Replaced, parts: Mapping[int, Part]) -> Replaced:
        """The part with its times."""
        key = next((key for key, value in self.replaced.items() if value is part), None)
        found = parts.get(self.weights.get(key, -1))
        return part if found is None else replace(part, before=found.eager, after=found.ours)


@no_global_hooks()
def plan(model: nn.Module, accuracy: str = "exact", without: Mapping[int, str] | None = None) -> Plan:
    """What to replace in a copy of a model; see `Plan`."""
    with restored(model):  # a weight that is computed may change buffers where it is read
        return _plan(Plan(model, accuracy, without or {}))


def _plan(result: Plan) -> Plan:
    model = result.model
    names = {id(module): name for name, module in model.named_modules()}
    for module in _children_first(model, set()):
        name = names[id(module)]
        if is_fused(module):
            result.already += 1
            for child in module.children():
                result.left.pop(id(child), None)  # what calls it was fused, and calls the operator
        elif isinstance(module, nn.Conv2d):
            _plan_conv(result, module, name)
        elif _has_heart(module) if is_transparent(module) else _own(module):
            _plan_forward(result, module, name)
    for key in result.replaced:
        result.left.pop(key, None)
    return result


def _children_first(module: nn.Module, seen: set[int]) -> Iterator[nn.Module]:
    if id(module) in seen:
        return
    seen.add(id(module))
    for child in module.children():
        yield from _children_first(child, seen)
    yield module


def _has_heart(sequence: nn.Module) -> bool:
    """Whether one of the modules that are called one after the other may be the heart of a match: most are not."""
    hearts = (nn.PixelShuffle, nn.Upsample, nn.GELU)
    before: nn.Module | None = None
    for child in sequence.children():
        if isinstance(child, hearts) or hasattr(child, "parametrizations"):
            return True
        if isinstance(before, nn.Conv2d) and _is_worth(before) and type(child) in convs.ACTIVATIONS:
            return True
        before = child
        if is_transparent(child) and _has_heart(child):
            return True
    return False


def _own(module: nn.Module) -> bool:
    """Whether the class is the model's, and has a forward."""
    if isinstance(module, torch.jit.ScriptModule) or type(module).__module__.startswith(("torch.nn.", "lkops.")):
        return False
    return type(module).forward is not nn.Module.forward


def _plan_conv(result: Plan, conv: nn.Conv2d, name: str) -> None:
    """Give a conv's class another forward: whatever calls it, then, calls the operator."""
    is_depthwise = 1 < conv.groups == conv.in_channels
    if not is_depthwise and not _is_worth(conv):
        return
    kind = "depthwise conv" if is_depthwise else "conv"
    why = _why_not_swapped(conv) or (patterns.why_not_depthwise(conv) if is_depthwise else "")
    if not why and hasattr(conv, "parametrizations"):  # its class is its own: the call is replaced, if that is seen
        why = "parametrised, and what calls it can't be traced"
    why = why or result.without.get(id(conv.weight), "")
    kernel = "x".join(str(side) for side in conv.kernel_size)
    pattern = f"{kind} {kernel}" + (f" dilation {conv.dilation[0]}" if conv.dilation[0] > 1 else "")
    if why:
        result.left[id(conv)] = Left(name, kind if is_depthwise else pattern, why)
        return
    if is_depthwise:
        code, imports = _CALL.format("depthwise(self, x)"), imports_of({"depthwise": calls.depthwise})
    else:
        code, imports = _CALL.format(f"module(self, x, {result.accuracy!r})"), imports_of({"module": conv_calls.module})
    result.rewrites.append(Rewrite(conv, Source((code, imports, ("input",)))))
    result.replaced[id(conv)] = Replaced(name, pattern, "depthwise_conv2d" if is_depthwise else "conv2d")
    result.weights[id(conv)] = id(conv.weight)


def _is_worth(conv: nn.Conv2d) -> bool:
    weight = conv._parameters.get("weight")  # a computed one is not to be computed for this
    if not isinstance(weight, nn.Parameter) or isinstance(weight, nn.parameter.UninitializedParameter):
        return False
    return conv_calls.is_worth(weight, conv.stride, conv.dilation) and calls.keeps_size(conv, dilated=True)


def _why_not_swapped(conv: nn.Conv2d) -> str:
    if type(conv).forward is not nn.Conv2d.forward or type(conv)._conv_forward is not nn.Conv2d._conv_forward:
        return f"{type(conv).__name__} has a forward of its own"
    if isinstance(conv.weight, nn.parameter.UninitializedParameter):
        return "not yet initialised"
    if has_own_forward(conv) or "_conv_forward" in vars(conv):
        return "a forward was put on the object"
    if hooked(conv):
        return "it has hooks"
    if conv.weight.is_meta:
        return "on the meta device"
    if not conv.weight.is_floating_point():
        return f"its dtype is {str(conv.weight.dtype).removeprefix('torch.')}"
    return ""


def _plan_forward(result: Plan, module: nn.Module, name: str) -> None:
    """Find matches in the forward of a module; where some reach into children, these children are inlined."""
    try:
        wide = result.memory.trace(module, lambda m: is_transparent(m) or id(m) in result.tails)
    except CannotTrace as error:
        result.untraced[name] = str(error)
        return
    _remember(result, module, wide)
    found = [_find(result, module, name, graph, report=False) for graph in _graphs(wide)]
    if any(found) and (why := _rewrite(result, module, name, wide, found)):
        result.untraced[name] = why
        return
    for graph in _graphs(wide):
        _find(result, module, name, graph, report=True)


def _rewrite(result: Plan, module: nn.Module, name: str, wide: Trace, found: list[list[Match]]) -> str:
    """Plan a forward with these matches replaced; says why it can't be."""
    inlined = {id(m) for matches, g in zip(found, _graphs(wide), strict=True) for m in owners(module, matches)}
    try:
        children = any(is_inlined(graph) for graph in _graphs(wide))
        narrow = result.memory.trace(module, lambda m: id(m) in inlined) if children else wide
    except CannotTrace as error:
        return str(error)
    sources, guards, replaced = [], list(narrow.guards), set[int]()
    for graph in map(copy.deepcopy, _graphs(narrow)):
        matches = _find(result, module, name, graph, report=False, whole=True)
        calls_of: dict[fx.Node, fx.Node] = {}
        for match in matches:
            names = [str(node.target) for node in match.nodes if node.op == "call_module"]
            replaced.update(id(module.get_submodule(name)) for name in names)
            _apply(graph, match, calls_of)
            guards += match.guards
        sources.append(graph.python_code("self"))
    parts = _not_called(module, inlined, replaced)
    for path, child in module.named_modules(remove_duplicate=False):
        if id(child) in inlined:
            guards += [(path, *guard[1:]) for guard in result.tails.get(id(child), [])]
        if child is module or id(child) in inlined or isinstance(child, (nn.ModuleList, nn.ModuleDict)):
            guards.append((path, "_modules", tuple(child._modules), False))
        if path and id(child) in parts:
            parent, _, attribute = path.rpartition(".")
            guards.append((parent, attribute, child, True))
    code = "\n".join(
        source.src.replace("def forward(", f"def {mode}(", 1)
        for source, mode in zip(sources, ("evaluating", "training"), strict=False)
    )
    if len(sources) == 1:
        code += "\ntraining = evaluating\n"
    try:
        words = set(re.findall(r"\w+", code))
        imports = imports_of({k: v for source in sources for k, v in source.globals.items() if k in words})
    except LookupError as error:
        return str(error)
    source = Source((code, imports, narrow.required))
    result.rewrites.append(Rewrite(module, source, tuple(guards), tuple(parts.values())))
    return ""


def _not_called(module: nn.Module, inlined: set[int], replaced: set[int]) -> dict[int, nn.Module]:
    """The modules that a rewritten forward does not call, by id, with those within the ones that an operator replaces.

    What computes a weight (a parametrisation) runs wherever the weight is read.
    """
    parts: dict[int, nn.Module] = {}
    for child in module.modules():
        if child is not module and id(child) in inlined:
            parts[id(child)] = child
        elif id(child) in replaced:
            for path, inner in child.named_modules():
                if "parametrizations" not in path.split("."):
                    parts[id(inner)] = inner
    return parts


def _graphs(traced: Trace) -> list[fx.Graph]:
    return [graph for graph in (traced.graph, traced.training) if graph is not None]


def _remember(result: Plan, module: nn.Module, traced: Trace) -> None:
    """Whether a forward, as seen by what calls it, is a norm, or ends in an upsampler."""
    if traced.training is not None or hooked(module) or has_own_call(module) or is_transparent(module):
        return
    g = Matcher(module, traced.graph, result.memory)
    if (norm := norms.whole_norm(g)) is not None:
        result.norms[id(module)] = norm
        result.norm_guards[id(module)] = traced.guards
    last = g.first(g.nodes[-1])
    if isinstance(last, fx.Node) and isinstance(patterns.upsampler(g, last), Match):
        result.tails[id(module)] = traced.guards


def _find(
    result: Plan, module: nn.Module, name: str, graph: fx.Graph, *, report: bool, whole: bool = False
) -> list[Match]:
    """Matches of a graph that do not share nodes, and are not wholly a child's: children that are inlined for good,
    `whole`, do not get theirs themselves."""
    g = Matcher(module, graph, result.memory)
    taken: set[fx.Node] = set()
    matches = []
    for pattern in _patterns(result):
        for node in g.nodes:
            if node in taken or (match := pattern(g, node)) is None:
                continue
            if isinstance(match, Match) and (why := result.without.get(id(match.weight))):
                match = Missed(match.anchor, match.pattern, why)
            if isinstance(match, Missed):
                key, place = _place(g, match.node, name)
                if report and key not in result.replaced:
                    result.left.setdefault(key, Left(place, match.what, match.why))
            elif not taken.intersection(match.nodes):
                taken.update(match.nodes)
                if not whole and is_of_a_child(match):
                    continue
                matches.append(match)
                if report:
                    key, place = _place(g, match.anchor, name)
                    for part in match.nodes:
                        result.left.pop(_place(g, part, name)[0], None)
                    result.replaced.pop(key, None)
                    result.replaced[key] = Replaced(place, match.pattern, match.operator)
                    if match.weight is not None:
                        result.weights[key] = id(match.weight)
    return matches


def _patterns(result: Plan) -> tuple[Callable[[Matcher, fx.Node], Match | Missed | None], ...]:
    def norm(g: Matcher, node: fx.Node) -> Match | Missed | None:
        found = norms.norm_gelu(g, node, result.norms)
        if isinstance(found, Match):
            for inner in found.nodes:
                child = g.module(inner)
                for guard in result.norm_guards.get(id(child), []) if child is not None else []:
                    found.guards.append((str(inner.target), *guard[1:]))
        return found

    def conv(g: Matcher, node: fx.Node) -> Match | None:
        return convs.conv(g, node, result.accuracy)

    def upsampler(g: Matcher, node: fx.Node) -> Match | Missed | None:
        return patterns.upsampler(g, node, result.accuracy)

    return upsampler, gates.attention, norm, patterns.bicubic, patterns.depthwise, conv


def _place(g: Matcher, node: fx.Node, name: str) -> tuple[Any, str]:
    """What a report's row is about, and its name there."""
    if node.op == "call_module":
        child = g.root.get_submodule(str(node.target))
        return id(child), ".".join(filter(None, (name, str(node.target))))
    weight = next((n for n in node.all_input_nodes if g.attribute(n) is not None), None)
    if weight is not None:
        return (id(g.attribute(weight)), ".".join(filter(None, (name, str(weight.target)))))
    return (id(g.root), node.name), ".".join(filter(None, (name, "forward"))) + f": {node.name}"


def _apply(graph: fx.Graph, match: Match, calls_of: dict[fx.Node, fx.Node]) -> None:
    """Put the call in place of the match's nodes; `calls_of` are those put in before, by the node they replaced."""
    last = match.nodes[-1]
    with graph.inserting_before(last):

        def argument(value: Any) -> Any:
            if isinstance(value, Attribute):
                return graph.create_node("get_attr", str(value))
            if isinstance(value, (tuple, list)):
                return tuple(argument(item) for item in value)
            return calls_of.get(value, value) if isinstance(value, fx.Node) else value

        call = graph.call_function(match.target, tuple(argument(value) for value in match.arguments))
    last.replace_all_uses_with(call)
    calls_of[last] = call
    for node in reversed(match.nodes):
        graph.erase_node(node)
