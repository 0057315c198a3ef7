"""Which backends exist, and which of them is asked for: by an argument, a `with` block, the environment, or nobody.

What is asked for runs or raises; only the automatic choice falls back. `lkops.backends` is the public face.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

NAMES = ("reference", "cpu", "triton", "cuda")
# backend -> device types whose tensors it takes; Triton's interpreter takes CPU tensors, for tests
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICES = {"cpu": ("cpu",), "triton": ("cuda", "cpu") if INTERPRETED else ("cuda",), "cuda": ("cuda",)}
# device type -> backends in order of preference. `cuda` waits for a committed result of a GPU that shows where it beats
# `triton`; until then it runs where it is named
AUTOMATIC = {"cpu": ("cpu", "reference"), "cuda": ("triton", "reference")}


def parse(names: str | Sequence[str], source: str) -> tuple[str, ...]:
    """The backends that `names` lists, "cpu,reference" or a sequence; `source` says whose they are in errors."""
    listed = names.split(",") if isinstance(names, str) else names
    if not isinstance(listed, Sequence) or not all(isinstance(n, str) for n in listed):
        raise TypeError(f"{source} must be a name or a sequence of names, got {names!r}")
    parsed = tuple(n.strip() for n in listed)
    if not parsed:
        raise ValueError(f"{source} names no backend; expected one or more of {', '.join(NAMES)}")
    for name in parsed:
        if name not in NAMES:
            raise ValueError(f"{source} names {name!r}; expected one or more of {', '.join(NAMES)}")
    return parsed


_environment = parse(os.environ["LKOPS_BACKEND"], "LKOPS_BACKEND") if os.environ.get("LKOPS_BACKEND") else None


class _Asked(threading.local):  # a context variable would break fullgraph compile
    def __init__(self) -> None:  # in every thread; torch.compile guards attributes of the instance, not of the class
        self.names = _environment


_asked = _Asked()


@contextmanager
def backend(*names: str) -> Iterator[None]:
    """Within the block, in this thread, run operators on these backends only, in this order of preference.

    Args:
        names: of `lkops.backends.NAMES`.

    Raises:
        ValueError: an unknown name, or none.
    """
    parsed = parse(names, "lkops.backend(...)")
    before, _asked.names = _asked.names, parsed
    try:
        yield
    finally:
        _asked.names = before


def asked(requested: str | Sequence[str] | None = None) -> tuple[str, ...] | None:
    """The backends that a call may run on, in order of preference; None where nobody asked for any.

    Args:
        requested: the function's `backend=`.
    """
    return _asked.names if requested is None else parse(requested, "backend")


def automatic(device: str) -> tuple[str, ...]:
    """The backends that serve tensors of this device type where nobody asked, in order of preference."""
    return AUTOMATIC.get(device, ("reference",))


def is_plain_cpu(requested: str | Sequence[str] | None) -> bool:
    """Whether the C++ kernel is what runs for tensors on the CPU, if there is one for them."""
    if requested is None:
        return _asked.names is None or _asked.names[0] == "cpu"
    return isinstance(requested, str) and requested == "cpu"  # of other names one may be none


def short(dtypes: Iterator[torch.dtype] | Sequence[torch.dtype]) -> str:
    """Names of dtypes for messages."""
    return ", ".join(str(d).removeprefix("torch.") for d in dtypes)
