"""A copy of a model that shares its parameters and buffers, and modules of that copy with a forward of their own."""

import copy
import functools
import importlib
import linecache
import types
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from .hooks import any_hooked

_HOOKS = tuple(name for name in nn.Module().__dict__ if name.endswith("_hooks"))


def shared_copy(model: nn.Module) -> nn.Module:
    """A copy of the module tree with the very same parameters and buffers.

    The dicts that hold them are shared too, so that a parameter or buffer that is replaced in one tree (`.to()` does
    that to buffers, `load_state_dict(assign=True)` to parameters) is replaced in both. Everything else is copied as
    `copy.deepcopy` does, which keeps references among modules right wherever they stand. Hooks are the same objects
    in dicts of their own; TorchScript modules can't be copied without their parameters, and are shared.

    Raises:
        TypeError: the model holds something that can't be copied.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        kept: list[Any] = [module._parameters, module._buffers]
        kept += [*module._parameters.values(), *module._buffers.values()]
        for value in vars(module).values():
            kept += _tensors(value)
        for name in _HOOKS:
            kept += getattr(module, name).values()
        if isinstance(module, torch.jit.ScriptModule):
            kept.append(module)
        memo.update((id(value), value) for value in kept if value is not None)
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:
        raise TypeError(f"model can't be copied: {type(error).__name__}: {error}") from error


def _tensors(value: Any) -> list[Tensor]:
    """Tensors in a plain attribute: some can't be copied, as the weight that an old weight norm computes."""
    values: Iterable[Any] = value.values() if isinstance(value, dict) else [value]
    if isinstance(value, (list, tuple)):
        values = value
    return [item for item in values if isinstance(item, Tensor)]


def own_tensors(module: nn.Module) -> None:
    """Give a module of the copy dicts of its own, so that its parameters can be replaced there only."""
    for name in ("_parameters", "_buffers", "_non_persistent_buffers_set"):
        setattr(module, name, getattr(module, name).copy())


class Source(tuple[Any, ...]):
    """(code, imports, required): what a rewritten forward is made of; hashable, and pickles.

    `code` defines `evaluating(self, ...)` and `training(self, ...)`, `imports` are (name, module, attribute) of its
    globals, and it takes the arguments of these names, if they are tensors and there are no others.
    """

    __slots__ = ()


def imports_of(names: dict[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """(name, module, attribute) of these globals.

    Raises:
        LookupError: one that can't be imported, such as a function within a function.
    """
    found = []
    for name, value in names.items():
        if isinstance(value, types.ModuleType):
            found.append((name, value.__name__, ""))
            continue
        known = getattr(value, "__qualname__", name)
        places = [(getattr(value, "__module__", None) or "builtins", known), ("torch", known), ("torch._C._nn", known)]
        places += [("operator", known), ("types", known), ("math", name)]
        place = next((place for place in places if _is_there(*place, value)), None)
        if place is None:
            raise LookupError(f"{value!r} can't be imported")
        found.append((name, *place))
    return tuple(found)


def _is_there(place: str, attribute: str, value: Any) -> bool:
    try:
        return _import(place, attribute) is value
    except (ImportError, AttributeError):
        return False


def _import(place: str, attribute: str) -> Any:
    value: Any = importlib.import_module(place)
    for part in attribute.split(".") if attribute else ():
        value = getattr(value, part)
    return value


def unchanged(module: nn.Module) -> bool:
    """Whether what shaped a rewritten forward is as it was, and the modules that it does not call have no hooks."""
    guards, parts = module.__dict__.get("_fusion_guards"), module.__dict__.get("_fusion_parts")
    if guards is None or parts is None:  # made by the class, as a slice of a Sequential is
        return False
    if parts and any_hooked(parts):
        return False
    for path, name, expected, same in guards:
        place: Any = module
        for part in path.split(".") if path else ():
            place = getattr(place, part, None)
        value = tuple(place._modules) if name == "_modules" else getattr(place, name, module)
        if value is not expected and (same or type(value) is not type(expected) or value != expected):
            return False
    return True


@functools.cache
def fused_class(base: Any, source: Source) -> type[nn.Module]:
    """A subclass of a module's class that runs `source`.

    Whenever the call is not what the source was made for (other attributes, hooks, optional arguments, something else
    than tensors), it runs the class's own forward, so that fusing can't change what is computed.
    """
    code, imports, required = source
    names: dict[str, Any] = {name: _import(place, attribute) for name, place, attribute in imports}
    file = f"<lkops.fuse of {base.__qualname__}, {abs(hash((code, required))):x}>"
    exec(compile(code, file, "exec"), names)
    linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)  # for tracebacks
    evaluating, training = names["evaluating"], names["training"]
    own: Callable[..., Any] = base.forward

    @functools.wraps(own)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        given = args
        if kwargs and set(kwargs) == set(required[len(args) :]):
            given = (*args, *[kwargs[name] for name in required[len(args) :]])
        elif kwargs:
            return own(self, *args, **kwargs)
        if len(given) != len(required) or not all(isinstance(a, Tensor) for a in given) or not unchanged(self):
            return own(self, *args, **kwargs)
        return training(self, *given) if self.training else evaluating(self, *given)

    def reduce(self: nn.Module, protocol: Any) -> Any:
        state = self.__getstate__() if hasattr(base, "__getstate__") else self.__dict__
        return _rebuild, (base, source), state

    members = {
        "forward": forward,
        "__reduce_ex__": reduce,
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        "_fusion_base": base,
    }
    return type(base.__name__, (base,), members)


def _rebuild(base: type[nn.Module], source: tuple[Any, ...]) -> nn.Module:
    cls = fused_class(base, Source(source))  # type: ignore[arg-type]
    return cls.__new__(cls)


def is_fused(module: nn.Module) -> bool:
    return hasattr(type(module), "_fusion_base")


def rewrite(
    module: nn.Module,
    source: Source,
    guards: Iterable[tuple[str, str, Any, bool]] = (),
    parts: Iterable[nn.Module] = (),
) -> None:
    """Make a module of the copy run `source` while its attributes are as `guards` (path, name, value, identity).

    Args:
        parts: the modules that `source` does not call, and the module's own forward does.
    """
    module.__class__ = fused_class(type(module), source)  # type: ignore[arg-type]
    module.__dict__["_fusion_guards"], module.__dict__["_fusion_parts"] = tuple(guards), tuple(parts)
