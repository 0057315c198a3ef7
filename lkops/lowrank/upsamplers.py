"""The upsamplers of a model: convs whose outputs a PixelShuffle makes pixels of."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from ..fusion.calls import plain_conv
from ..fusion.planning import plan
from ..fusion.report import Left
from ..fusion.sharing import shared_copy
from ..nn import UpsampleAdd


@dataclass(frozen=True)
class Upsampler:
    """A conv of the model, and the paths of all modules that hold it."""

    place: str
    conv: nn.Conv2d
    paths: tuple[str, ...]
    inside: UpsampleAdd | None  # that it is the conv of


def find(model: nn.Module) -> tuple[list[Upsampler], list[Left]]:
    """Every upsampler of a model that can be put in another's place, and those that can't, with the reason."""
    planned = plan(shared_copy(model))
    places = [part.place for part in planned.replaced.values() if part.operator == "upsample_add"]
    left = [part for part in planned.left.values() if "PixelShuffle" in part.what]
    scripts = {name: part for name, part in model.named_modules() if isinstance(part, torch.jit.ScriptModule)}
    for name, module in scripts.items():
        if name.rpartition(".")[0] not in scripts or not name:
            left.append(Left(name, type(module).__name__, "TorchScript: compress a model before it is compiled to it"))
    if planned.already:
        left.append(
            Left("", "fused modules", f"{planned.already} modules are fused: compress a model before it is fused")
        )
    own = {f"{name}.conv".removeprefix("."): module for name, module in model.named_modules() if _is_own(module)}
    paths: dict[int, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        paths.setdefault(id(module), []).append(path)
    modules = dict(model.named_modules())
    found = []
    for place in [name for name in modules if name in {*places, *own}]:
        conv, inside = modules[place], own.get(place)
        if inside is not None and inside.first is not None:
            left.append(Left(place, "upsampler", "compressed already"))
        elif why := _why_not(model, conv, inside):
            left.append(Left(place, "upsampler", why))
        else:
            assert isinstance(conv, nn.Conv2d)
            found.append(Upsampler(place, conv, tuple(paths[id(conv)]), inside))
    for name, why in planned.untraced.items():
        if not any(f".{part.place}".startswith(f".{name}".rstrip(".") + ".") for part in found):
            left.append(Left(name, "forward", f"can't be traced: {why}"))
    why = "its weight is used in code, not by a conv that could be replaced"
    left += [Left(place, "upsampler", why) for place in places if place not in modules]
    return found, left


def _is_own(module: nn.Module) -> bool:
    return isinstance(module, UpsampleAdd) and type(module).forward is UpsampleAdd.forward


def _why_not(model: nn.Module, conv: nn.Module, inside: UpsampleAdd | None) -> str:
    if not plain_conv(conv):
        return f"a {type(conv).__name__} with hooks or a forward of its own"
    assert isinstance(conv, nn.Conv2d)
    norms: object = getattr(conv, "parametrizations", {})
    for each in norms.values():  # type: ignore[attr-defined]
        if not all(isinstance(norm, parametrizations._WeightNorm) for norm in each):
            return "a parametrisation that is no weight norm"
    if conv.weight.is_meta or not conv.weight.is_floating_point():
        return "on the meta device" if conv.weight.is_meta else f"its dtype is {conv.weight.dtype}"
    if not conv.weight.isfinite().all():
        return "its weight holds NaN or infinite values"
    if not conv.weight.any():
        return "its weight is all zeros: there is nothing to approximate before it is trained"
    mine = {id(parameter) for parameter in conv.parameters()}
    for name, module in model.named_modules():
        if _keeps(module, conv):
            return f"{name or 'the model'} holds it in an attribute that is no submodule too"
        if inside is not None and module is not inside and any(child is conv for child in module.children()):
            return f"{name or 'the model'} holds it too"
        if module is not conv and not _within(conv, module):
            shared = mine & {id(parameter) for parameter in module.parameters(recurse=False)}
            if shared:
                return f"its parameters belong to {name or 'the model'} too"
    return ""


def _keeps(module: nn.Module, conv: nn.Module) -> bool:
    """Whether a plain attribute refers to the conv, or a container there does: it would still be called."""
    for value in vars(module).values():
        kept = value.values() if isinstance(value, dict) and value is not module._modules else [value]
        for item in value if isinstance(value, (list, tuple)) else kept:
            if item is conv:
                return True
    return False


def _within(conv: nn.Module, module: nn.Module) -> bool:
    return any(module is part for part in conv.modules())


def weight_normalised(conv: nn.Conv2d) -> int | None:
    """The axis along which a weight norm keeps its gains, or None without one."""
    if not parametrize.is_parametrized(conv, "weight"):
        return None
    norm = conv.parametrizations.weight[0]  # type: ignore[index,union-attr]
    return norm.dim if isinstance(norm, parametrizations._WeightNorm) else None
