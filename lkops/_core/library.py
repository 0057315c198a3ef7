"""The `lkops` torch library: schemas and fake kernels.

Python owns every schema, so an operator exists with or without the compiled extension, which only adds
implementations. Every (operator, backend) has a private pair of ops, `<operator>_<backend>_fwd` and `_bwd`:
under its interpreter Triton serves CPU tensors beside the C++ kernel, so a dispatch key alone can't tell them apart.
"""

from collections.abc import Callable
from typing import Any

import torch

library = torch.library.Library("lkops", "DEF")
fakes: dict[str, Callable[..., Any]] = {}  # op -> its fake kernel


def define(name: str, schema: str, fake: Callable[..., Any]) -> None:
    """Add the op `lkops::<name>` with a schema such as "(Tensor x, int scale) -> Tensor", and its fake kernel."""
    library.define(f"{name}{schema}")
    fakes[name] = fake
    torch.library.register_fake(f"lkops::{name}", fake, lib=library)


def has_kernel(name: str, key: str) -> bool:
    """Whether something implements `lkops::<name>` for a dispatch key ("CPU", "CUDA")."""
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(f"lkops::{name}", key))
