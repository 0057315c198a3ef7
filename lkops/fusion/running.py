"""One run of a model on an example: outputs, gradients, and the way it took; it leaves the model as it was."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.utils import _pytree as pytree

from .draws import SameDraws, same_chance

Results = dict[str, Tensor]
_SHARED = ("_buffers", "_modules", "_non_persistent_buffers_set")  # not to be rebound: the copy has the same dicts
_KEPT = {*vars(nn.Module())}  # not plain attributes


@dataclass
class Run:
    """What a model gave.

    Attributes:
        results: outputs of the model and of the modules that were watched, and gradients, by what they are.
        graph: of the backward: names of its nodes, and how they hang together.
        route: names of torch's functions in the order of their calls, outside of the modules that were watched, with
            what they said where Python may decide by it.
        repeats: that all but the gradients is what another run gave, to the bit, so that they were not computed again.
    """

    results: Results = field(default_factory=dict)
    graph: list[Any] = field(default_factory=list)
    route: list[Any] = field(default_factory=list)
    repeats: bool = False

    def like(self, other: "Run") -> bool:
        """Whether the backward would be the other's: the same graph of the same values."""
        mine, theirs = self.values(), other.values()
        same = self.graph == other.graph and self.route == other.route and mine.keys() == theirs.keys()
        return same and all(_equal(value, theirs[name]) for name, value in mine.items())

    def values(self) -> Results:
        """All but the gradients."""
        return {name: value for name, value in self.results.items() if not name.startswith("gradient")}


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.dtype is b.dtype and a.shape == b.shape and a.device == b.device and torch.equal(a, b)


@contextmanager
def restored(*models: nn.Module) -> Iterator[list[str]]:
    """Put modes, plain attributes, and values of buffers back, which forwards may change.

    A list, dict or set in an attribute gets its items back; what is deeper stays changed. Gives a list that says, after
    the block, what items and values were changed.
    """
    changes: list[str] = []
    every = list({id(module): module for model in models for module in model.modules()}.values())
    modes = [(module, module.training) for module in every]
    modules = [module for module in every if not isinstance(module, torch.jit.ScriptModule)]
    before = [(module, {k: v for k, v in vars(module).items() if k not in _KEPT}) for module in modules]
    holders = [value for _, attributes in before for value in attributes.values() if type(value) in (list, dict, set)]
    holders += [vars(module)[name] for module in modules for name in _SHARED]
    contents = [(value, value.copy()) for value in holders]
    buffers = {id(buffer): buffer for model in models for buffer in model.buffers() if not _is_empty(buffer)}
    values = [(buffer, buffer.clone()) for buffer in buffers.values()]
    try:
        yield changes
    finally:
        for module, attributes in before:
            for name in [name for name in vars(module) if name not in _KEPT and name not in attributes]:
                del vars(module)[name]
            vars(module).update(attributes)
        for module, mode in modes:
            module.training = mode
        changes += [type(held).__name__ for held, items in contents if _put_back(held, items)]
        with torch.no_grad():
            for buffer, value in values:
                if not _same_values(buffer, value):
                    changes.append("buffer")
                    buffer.copy_(value)


def _put_back(held: Any, items: Any) -> bool:
    """Give a list, dict or set its items again; says whether it had others."""
    try:
        same = bool(held == items)  # what is the same object is not asked whether it is equal
    except Exception:  # tensors
        same = False
    if not same:
        held.clear()
        held.extend(items) if isinstance(held, list) else held.update(items)
    return not same


def _same_values(a: Tensor, b: Tensor) -> bool:
    same = a.shape == b.shape and (torch.equal(a, b) or bool(((a == b) | (a != a) & (b != b)).all()))
    return same and a.dtype is b.dtype


def _is_empty(tensor: Tensor) -> bool:
    return tensor.is_meta or torch.nn.parameter.is_lazy(tensor)


class _Watch:
    """Notes what goes into the modules at some places of a model, as edges of its graph, and what comes out."""

    def __init__(self, model: nn.Module, places: Sequence[str], mode: SameDraws) -> None:
        self.mode, self.outputs, self.edges = mode, Results(), dict[str, GradientEdge]()
        self._count = dict.fromkeys(places, 0)
        self._handles: list[Any] = []
        for place in places:
            module = model.get_submodule(place)
            self._handles.append(module.register_forward_pre_hook(self._before(place), with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._after(place), always_call=True))

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _before(self, place: str) -> Callable[..., None]:
        def note(module: nn.Module, args: Any, kwargs: Any) -> None:
            self.mode.inside += 1
            self._count[place] += 1
            for i, value in enumerate(pytree.tree_leaves((args, kwargs))):
                if isinstance(value, Tensor) and value.requires_grad and torch.is_grad_enabled():
                    # an edge, not the tensor: this is of the value that goes in, if it is changed in place afterwards
                    self.edges[f"gradient of input {i} of {self._name(place)}"] = get_gradient_edge(value)

        return note

    def _after(self, place: str) -> Callable[..., None]:
        def note(module: nn.Module, args: Any, outputs: Any) -> None:
            self.mode.inside -= 1
            for i, value in enumerate(t for t in pytree.tree_leaves(outputs) if isinstance(t, Tensor)):
                self.outputs[f"output {i} of {self._name(place)}"] = real(value.detach().clone())

        return note

    def _name(self, place: str) -> str:
        return place if self._count[place] == 1 else f"{place} (call {self._count[place]})"


def run(
    model: nn.Module,
    example: tuple[Any, ...],
    *,
    gradients: bool = True,
    places: Sequence[str] = (),
    leaves: Iterable[str] = (),
    dtype: torch.dtype | None = None,
    like: Run | None = None,
    only: Iterable[str] | None = None,
) -> Run:
    """Run a model; its buffers and attributes are put back.

    Args:
        gradients: compute those of a fixed weighted sum of the outputs, by the floating tensors of the example, what
            goes into the modules at `places`, and `leaves`.
        places: paths of modules that are watched.
        leaves: names of parameters.
        dtype: that the floating tensors of the example are converted to.
        like: a run whose gradients are not to be computed again, where this one gives the same.
        only: names of the gradients that are wanted of these; all.
    """

    def fresh(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        value = value.detach().clone()
        if value.is_floating_point():
            value = value.to(dtype or value.dtype).requires_grad_(gradients)
        return value

    inputs, mode = pytree.tree_map(fresh, example), SameDraws(dtype)
    found = Run(route=mode.route)
    with restored(model):
        watch = _Watch(model, places, mode)
        try:
            with same_chance(inputs), torch.set_grad_enabled(gradients), mode:
                outputs = [t for t in pytree.tree_leaves(model(*inputs)) if isinstance(t, Tensor)]
        finally:
            watch.remove()
        found.results |= {f"output {i}": real(output.detach().clone()) for i, output in enumerate(outputs)}
        found.results |= watch.outputs
        if not gradients:
            return found
        wanted: dict[str, Tensor] = {f"gradient of {name}": model.get_parameter(name) for name in leaves}
        for i, value in enumerate(pytree.tree_leaves(inputs)):
            if isinstance(value, Tensor) and value.requires_grad:
                wanted[f"gradient of input {i}"] = value
        found.graph = _graph([output for output in outputs if output.requires_grad], wanted)
        if like is not None and found.like(like):
            found.repeats = True
            return found
        edges, names = {**wanted, **watch.edges}, None if only is None else set(only)
        found.results |= _gradients(outputs, {name: edges[name] for name in edges if names is None or name in names})
    return found


def _gradients(outputs: list[Tensor], wanted: dict[str, Any]) -> Results:
    draw = torch.Generator().manual_seed(1)
    total = sum(
        (output * torch.randn(output.shape, generator=draw, dtype=torch.float64).to(output)).sum().double()
        for output in map(real, outputs)
        if output.requires_grad
    )
    if not isinstance(total, Tensor) or not wanted:
        return {}
    grads = torch.autograd.grad(total, list(wanted.values()), allow_unused=True)
    return {name: real(grad) for name, grad in zip(wanted, grads, strict=True) if grad is not None}


def real(value: Tensor) -> Tensor:
    return torch.view_as_real(value) if value.is_complex() else value


def _graph(outputs: list[Tensor], leaves: dict[str, Any]) -> list[Any]:
    """The graph of a backward in a form that can be compared: (name, (number of a node before it, ...)) in order."""
    names = {id(tensor): name for name, tensor in leaves.items()}
    numbers: dict[Any, int] = {}
    described: list[Any] = []
    ahead = [output.grad_fn for output in outputs]
    while ahead:
        node = ahead.pop()
        if node is None or node in numbers:
            continue
        numbers[node] = len(numbers)
        variable = getattr(node, "variable", None)
        described.append((node, type(node).__name__, names.get(id(variable), "")))
        ahead += [inner for inner, _ in node.next_functions]
    return [
        (name, leaf, tuple((numbers.get(inner), place) for inner, place in node.next_functions))
        for node, name, leaf in described
    ]
