"""Whether calling a module does more than the forward of its class.

A rewritten forward does not call the modules whose work an operator does. What they would have done besides (hooks of
theirs, hooks of all modules, a forward that was put on the object) can come and go at any time, so it is asked at each
call, and the model's own forward runs while there is any.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules import module as registry

_GLOBAL = (
    "_global_forward_hooks",
    "_global_forward_hooks_with_kwargs",
    "_global_forward_hooks_always_called",
    "_global_forward_pre_hooks",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
)


def has_own_forward(module: nn.Module) -> bool:
    """Whether a forward was put on the module itself, as accelerate does."""
    return "forward" in module.__dict__


def hooked(module: nn.Module) -> bool:
    """Whether calling the module does more than the forward of its class; hooks of all modules are not asked for."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or has_own_forward(module)
    )


def has_own_call(module: nn.Module) -> bool:
    """Whether the class says itself what a call is: such a module is called, whatever its forward."""
    return type(module).__call__ is not nn.Module.__call__


def any_hooked(modules: Iterable[nn.Module]) -> bool:
    """Whether calling these modules does more than their forwards at the moment, by hooks of all modules too."""
    if (
        registry._global_forward_hooks
        or registry._global_forward_pre_hooks
        or registry._global_backward_hooks
        or registry._global_backward_pre_hooks
    ):
        return True
    return any(hooked(module) for module in modules)


@contextmanager
def no_global_hooks() -> Iterator[None]:
    """Within the block there are no hooks of all modules: they are not for tracers, nor for what `fuse` tries out."""
    kept: list[tuple[Any, Any]] = [(getattr(registry, name), getattr(registry, name).copy()) for name in _GLOBAL]
    for hooks, _ in kept:
        hooks.clear()
    try:
        yield
    finally:
        for hooks, before in kept:
            hooks.update(before)
