"""A module's own forward as an fx graph, or the reason why the graph would not say all that the forward does.

Only the forward of one module is traced: children stay calls (but for plain `nn.Sequential`s, which add nothing), so
that hooks on them, their modes and what can't be traced in them stay as they are. Tracing runs the Python code once, so
what that code decides is frozen; the checks here make sure that it decided on nothing but what can be watched.
"""

import copy
import functools
import inspect
import random
import sys
import sysconfig
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from .hooks import has_own_call, has_own_forward, hooked
from .running import restored
from .sharing import is_fused

# asked of a value in Python: a trace sees a stand-in for the tensor and would take the wrong branch
_QUESTIONS = {"isinstance", "issubclass", "type", "hasattr", "is_tensor", "is_grad_enabled", "is_autocast_enabled"}
_LOST = {"no_grad", "enable_grad", "inference_mode", "autocast", "set_grad_enabled", "checkpoint"}
_SWITCHES = {"_set_grad_enabled", "set_autocast_enabled", "set_autocast_dtype", "set_autocast_cache_enabled"}
_INTERNAL = {*vars(nn.Module()), "training", "__dict__", "__class__"}
_PLACES = (sysconfig.get_paths()["stdlib"], torch.__path__[0], str(Path(__file__).parent))
_SIMPLE = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.memory_format)

Guard = tuple[str, str, Any, bool]  # path, attribute, value, compared by identity


class CannotTrace(Exception):
    """Why a forward is left as it is."""


@dataclass
class Trace:
    """Graphs of a forward in evaluation and in training (None if it is the same), and what they rely on."""

    graph: fx.Graph
    training: fx.Graph | None
    guards: list[Guard]
    required: tuple[str, ...]


class _Tracer(fx.Tracer):
    def __init__(self, inline: Callable[[nn.Module], bool]) -> None:
        super().__init__()
        self.inline = inline

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not self.inline(m)


def is_transparent(module: nn.Module) -> bool:
    """Whether calling the module is calling its children one after the other."""
    if isinstance(module, torch.jit.ScriptModule):  # whose class has no plain forward
        return False
    return type(module).forward is nn.Sequential.forward and not has_own_call(module) and not hooked(module)


def parameters_of(module: nn.Module) -> list[str]:
    """Names of the positional arguments that forward requires.

    Raises:
        CannotTrace: none, or one that is by keyword only.
    """
    names = []
    for parameter in inspect.signature(module.forward).parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            if parameter.default is parameter.empty:
                names.append(parameter.name)
        elif parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
            raise CannotTrace(f"forward requires {parameter.name} by keyword")
        elif parameter.kind is parameter.VAR_POSITIONAL and not names:
            raise CannotTrace("forward takes any arguments")
    if not names:
        raise CannotTrace("forward requires no argument")
    return names


def trace(module: nn.Module, inline: Callable[[nn.Module], bool] = is_transparent) -> Trace:
    """Trace the forward of a module, as it is called with the required arguments only.

    Args:
        module: of the copy; it is not changed.
        inline: whether a child's forward becomes part of the graph.

    Raises:
        CannotTrace: with the reason.
    """
    if is_fused(module):
        raise CannotTrace("already fused")
    if isinstance(module, (fx.GraphModule, torch.jit.ScriptModule)) or hasattr(module, "parametrizations"):
        raise CannotTrace(f"{type(module).__name__}: its forward is not to be replaced")
    names = parameters_of(module)
    if has_own_forward(module):
        raise CannotTrace("forward is an attribute of the object, not of its class")
    reads: dict[str, Any] = {}
    evaluating, training = _trace_once(module, names, False, reads, inline), None
    if "training" in reads:
        training = _trace_once(module, names, True, reads, inline)
        if training.python_code("self").src == evaluating.python_code("self").src:
            training = None
    found = (_guard(name, value) for name, value in reads.items() if name not in _INTERNAL)
    return Trace(evaluating, training, [guard for guard in found if guard is not None], tuple(names))


class Traces:
    """Traces of the modules of a model, which does not change meanwhile; each is made once."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, frozenset[int]], Trace | str] = {}

    def __call__(self, module: nn.Module, inline: Callable[[nn.Module], bool] = is_transparent) -> Trace:
        """As `trace`; the graphs are not to be changed."""
        key = id(module), frozenset(id(child) for child in module.modules() if child is not module and inline(child))
        if key not in self._known:
            try:
                self._known[key] = trace(module, inline)
            except CannotTrace as error:
                self._known[key] = str(error)
        known = self._known[key]
        if isinstance(known, str):
            raise CannotTrace(known)
        return known


def _trace_once(
    module: nn.Module, names: list[str], training: bool, reads: dict[str, Any], inline: Callable[[nn.Module], bool]
) -> fx.Graph:
    """One graph; what is read of the module is added to `reads`."""
    seen: dict[str, Any] = {}
    replica = _recorder(module, names, seen)
    object.__setattr__(replica, "training", training)
    before = {key: id(value) for key, value in vars(replica).items()}
    with restored(replica) as changes, _watched(lambda m: m is replica or inline(m)) as problems:
        seen.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                graph = _Tracer(inline).trace(replica)
            except Exception as error:
                first = next(iter(str(error).splitlines()), "")
                raise CannotTrace(f"{type(error).__name__}: {first}") from error
        reads.update(seen)
        now = {key: id(value) for key, value in vars(replica).items()}
    if changes:
        raise CannotTrace(f"forward assigns to attributes: it changes a {changes[0]}")
    if before != now:
        raise CannotTrace("forward assigns to attributes, or makes tensors of its own")
    if problems:
        raise CannotTrace(problems[0])
    return graph


def _recorder(module: nn.Module, names: list[str], reads: dict[str, Any]) -> nn.Module:
    """A stand-in for the module that notes what is read of it, and whose forward takes the required arguments only."""
    base = type(module)

    def read(self: nn.Module, name: str) -> Any:
        value = base.__getattribute__(self, name)
        reads[name] = value
        return value

    arguments = ", ".join(names)
    space: dict[str, Any] = {"base": base}
    exec(f"def forward(self, {arguments}):\n    return base.forward(self, {arguments})", space)
    kind = type(base.__name__, (base,), {"__getattribute__": read, "forward": space["forward"]})
    replica: nn.Module = kind.__new__(kind)  # type: ignore[call-overload]
    replica.__dict__ = module.__dict__.copy()
    for name in ("_parameters", "_buffers", "_modules"):
        replica.__dict__[name] = module.__dict__[name].copy()
    return replica


def _guard(name: str, value: Any) -> Guard | None:
    if isinstance(value, (nn.Module, Tensor, fx.Proxy, types.MethodType, types.BuiltinMethodType)):
        return None
    if _simple(value):
        return "", name, copy.deepcopy(value), False
    return "", name, value, True


def _simple(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_simple(item) for item in value)
    if isinstance(value, dict):
        return all(_simple(item) for pair in value.items() for item in pair)
    return isinstance(value, _SIMPLE)


@functools.cache
def _of_the_model(file: str) -> bool:
    """Whether code in this file is neither torch's nor the standard library's nor ours."""
    if file.startswith(_PLACES[0]) and "site-packages" not in file.removeprefix(_PLACES[0]):
        return False
    return not file.startswith((*_PLACES[1:], "<frozen"))


@contextmanager
def _watched(known: Callable[[nn.Module], bool]) -> Iterator[list[str]]:
    """Gives a list of what happened in the block that a graph can't hold; puts random states back."""
    problems: list[str] = []

    def profile(frame: Any, event: str, argument: Any) -> None:
        if event == "c_call" and getattr(argument, "__name__", "") in _SWITCHES:
            problems.append("forward switches autocast or gradients on or off")
        elif event == "call":
            code = frame.f_code
            if code.co_name == "apply" and code.co_filename.endswith("autograd/function.py"):
                problems.append("forward calls an autograd.Function")
            elif not _of_the_model(code.co_filename):
                return
            elif (
                code.co_argcount
                and isinstance(owner := frame.f_locals.get(code.co_varnames[0]), nn.Module)
                and (not known(owner))
            ):
                problems.append(f"forward calls {code.co_name} of a child")  # whose attributes were not watched
            elif asked := _QUESTIONS.intersection(code.co_names):
                problems.append(f"forward asks {min(asked)}() of values")
            elif "__dict__" in code.co_names or "vars" in code.co_names:
                problems.append("forward reads __dict__")  # which is not watched
            elif lost := _LOST.intersection(code.co_names):
                problems.append(f"forward uses {min(lost)}")

    before, python_state, torch_state = sys.getprofile(), random.getstate(), torch.get_rng_state()
    numpy = sys.modules.get("numpy")
    numpy_state = numpy.random.get_state() if numpy else None
    sys.setprofile(profile)
    try:
        yield problems
    finally:
        if before is None or callable(before):
            sys.setprofile(before)
        else:  # cProfile's, which sets itself
            sys.setprofile(None)
            before.enable()
        drawn = random.getstate() != python_state or not torch.equal(torch.get_rng_state(), torch_state)
        if numpy and numpy_state is not None:
            drawn = drawn or (numpy.random.get_state()[1] != numpy_state[1]).any()
            drawn = drawn or numpy.random.get_state()[2] != numpy_state[2]
            numpy.random.set_state(numpy_state)
        random.setstate(python_state)
        torch.set_rng_state(torch_state)
        if drawn:
            problems.append("forward draws random numbers outside of tensors' operations")
