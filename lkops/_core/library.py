"""The `lkops` torch library: schemas and fake kernels.

Python owns every schema, so an operator exists with or without the compiled extension, which only adds
implementations. Every (operator, backend) has a private pair of ops, `<operator>_<backend>_fwd` and `_bwd`:
under its interpreter Triton serves CPU tensors beside the C++ kernel, so a dispatch key alone can't tell them apart.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, get_type_hints

import torch
from torch import Tensor

library = torch.library.Library("lkops", "DEF")
fakes: dict[str, Callable[..., Any]] = {}  # op -> its fake kernel


class Schema(NamedTuple):
    """The names in a schema: of its arguments, with their types, and of its results."""

    arguments: dict[str, str]
    results: tuple[str, ...]


def parse(name: str, schema: str) -> Schema:
    """What a schema such as "(Tensor x, int scale) -> Tensor y" names."""
    parsed = torch._C.parse_schema(f"lkops::{name}{schema}")
    arguments = {argument.name: str(argument.type) for argument in parsed.arguments}
    return Schema(arguments, tuple(result.name for result in parsed.returns))


def spelled(parameters: type[tuple[Any, ...]]) -> str:
    """A named tuple of tensors, some of which may be None, as arguments of a schema: "Tensor weight, Tensor? bias"."""
    kinds = {name: "Tensor" if kind is Tensor else "Tensor?" for name, kind in get_type_hints(parameters).items()}
    return ", ".join(f"{kind} {name}" for name, kind in kinds.items())


def define(name: str, schema: str, fake: Callable[..., Any]) -> None:
    """Add the op `lkops::<name>` with such a schema, and its fake kernel."""
    library.define(f"{name}{schema}")
    fakes[name] = fake
    torch.library.register_fake(f"lkops::{name}", fake, lib=library)


def has_kernel(name: str, key: str) -> bool:
    """Whether something implements `lkops::<name>` for a dispatch key ("CPU", "CUDA")."""
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(f"lkops::{name}", key))


def gradients_like(needs: Sequence[bool], *tensors: Tensor | None) -> list[Tensor]:
    """What a backward kernel returns, uninitialised: for each tensor that needs a gradient a dense one of its shape,
    empty for the others."""
    some = next(tensor for tensor in tensors if tensor is not None)
    return [
        tensor.new_empty(tensor.shape) if tensor is not None and needed else some.new_empty(0)
        for tensor, needed in zip(tensors, needs, strict=True)
    ]
