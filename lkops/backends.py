"""Which backends exist, why one can't run, and how to choose.

`reference` defines an operator in plain PyTorch and always runs; `cpu` is C++; `triton` and `cuda` serve GPUs.
The choice, from the strongest to the weakest:

1. the `backend=` argument of a function: one name, or names in order of preference;
2. `with lkops.backend("cpu", "reference"):`, for the current thread;
3. the environment variable LKOPS_BACKEND, "cpu" or "cpu,reference", read when lkops is imported;
4. automatic: the first of `AUTOMATIC[device]` that can run the arguments; on a GPU `cuda` before it for the shapes
   where committed measurements show that it beats `triton` (`lkops._measured` has the rule).

What is asked for runs or raises, with the reason; only the automatic choice falls back, and `status()` shows where.
Backward runs on the backend that forward chose. What recomputes a forward in backward, as `torch.utils.checkpoint`
does, chooses again: there use `backend=` or LKOPS_BACKEND, which hold in every place and thread.
"""

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from . import _measured

NAMES = ("reference", "cpu", "triton", "cuda")
# backend -> device types whose tensors it takes; Triton's interpreter takes CPU tensors, for tests
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICES = {"cpu": ("cpu",), "triton": ("cuda", "cpu") if INTERPRETED else ("cuda",), "cuda": ("cuda",)}
AUTOMATIC = {"cpu": ("cpu", "reference"), "cuda": ("triton", "reference")}

# (operator, backend) -> dtypes of its kernels; an operator without an entry has the reference only
_kernels: dict[tuple[str, str], tuple[torch.dtype, ...]] = {}
# (operator, backend) -> why the kernel is not there although this version has one; "" if it is there
_missing: dict[tuple[str, str], str] = {}
# (operator, backend) of kernels that take tensors of several dtypes at once
_mixed: set[tuple[str, str]] = set()
_operators: list[str] = []


def _parse(names: str | Sequence[str], source: str) -> tuple[str, ...]:
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


_environment = _parse(os.environ["LKOPS_BACKEND"], "LKOPS_BACKEND") if os.environ.get("LKOPS_BACKEND") else None


class _Choice(threading.local):  # a context variable would break fullgraph compile
    def __init__(self) -> None:  # in every thread; torch.compile guards attributes of the instance, not of the class
        self.names = _environment


_choice = _Choice()


@contextmanager
def backend(*names: str) -> Iterator[None]:
    """Within the block, in this thread, run operators on these backends only, in this order of preference.

    Args:
        names: of `lkops.backends.NAMES`.

    Raises:
        ValueError: an unknown name, or none.
    """
    parsed = _parse(names, "lkops.backend(...)")
    before, _choice.names = _choice.names, parsed
    try:
        yield
    finally:
        _choice.names = before


def why_not(operator: str, name: str, device: str, dtypes: Iterable[torch.dtype]) -> str:
    """The reason why backend `name` can't run `operator` on tensors like these, or an empty string.

    Args:
        operator: name of a public function.
        name: of `NAMES`.
        device: device type, such as "cpu".
        dtypes: of all tensor arguments.
    """
    if name == "reference":
        return ""
    key = (operator, name)
    if key not in _kernels:
        return "no such kernel in this version"
    if _missing[key]:
        return _missing[key]
    if device not in DEVICES[name]:
        return f"it takes tensors on {' or '.join(DEVICES[name])}, not on {device}"
    dtypes = list(dict.fromkeys(dtypes))
    if (
        len(dtypes) > 1 and key not in _mixed
    ):  # each may be taken and not their mixture, as of a float32 image and bfloat16 features
        return f"it takes tensors of one dtype, not of {_short(dtypes)}"
    for dtype in dtypes:
        if dtype not in _kernels[key]:
            return f"it takes {_short(_kernels[key])}, not {_short([dtype])}"
    return ""


def choose(operator: str, requested: str | Sequence[str] | None, tensors: Sequence[Tensor | None]) -> str:
    """The backend that runs `operator` on these tensors.

    Args:
        operator: name of a public function.
        requested: the `backend=` argument; None takes the thread's choice, LKOPS_BACKEND or the automatic one.
        tensors: the arguments, all on one device; None for one that was left out.

    Raises:
        ValueError: an unknown backend.
        RuntimeError: no backend that was asked for can run; the message says why for each.
    """
    names = _choice.names if requested is None else _parse(requested, "backend")
    given = [tensor for tensor in tensors if tensor is not None]
    device, dtypes = given[0].device.type, [tensor.dtype for tensor in given]
    if names is None:
        names = AUTOMATIC.get(device, ("reference",))
        if device == "cuda" and (operator, "cuda") in _kernels and _measured.wins(operator, given[0]):
            names = ("cuda", *names)
    for name in names:
        if not why_not(operator, name, device, dtypes):
            return name
    raise RuntimeError(
        "; ".join(f"backend '{n}' can't run {operator}: {why_not(operator, n, device, dtypes)}" for n in names)
    )


def is_plain_cpu(operator: str, requested: str | Sequence[str] | None) -> bool:
    """Whether `choose` plainly takes the cpu backend for every tensor on the CPU whose dtype that has a kernel for."""
    if requested is None:
        if _choice.names is not None and _choice.names[0] != "cpu":
            return False
    elif not (isinstance(requested, str) and requested == "cpu"):  # other names, of which one may be none
        return False
    return _missing.get((operator, "cpu")) == ""


@dataclass(frozen=True)
class Status:
    """One operator on one backend: `reason` is why it can't run here ("" if it can), `automatic` whether it is chosen
    when nobody asks for a backend, `note` what decides that where two backends could be."""

    operator: str
    backend: str
    dtypes: tuple[torch.dtype, ...]
    reason: str
    automatic: bool
    note: str = ""

    @property
    def available(self) -> bool:
        return not self.reason


def _short(dtypes: Iterable[torch.dtype]) -> str:
    return ", ".join(str(d).removeprefix("torch.") for d in dtypes)


class StatusTable(tuple[Status, ...]):
    """Rows of `Status`. Printed: what runs each operator, * the automatic choice, and why other backends do not."""

    __slots__ = ()

    def __str__(self) -> str:
        lines = []
        for operator in dict.fromkeys(row.operator for row in self):
            runs, reasons = [], dict[str, list[str]]()
            for row in self:
                if row.operator == operator and row.available:
                    runs.append(f"{row.backend}{'*' if row.automatic else ''} ({_short(row.dtypes)})")
                elif row.operator == operator:
                    reasons.setdefault(row.reason, []).append(row.backend)
            lines.append(f"{operator:32}{', '.join(runs)}")
            lines += [f"    not {', '.join(names)}: {reason}" for reason, names in reasons.items()]
            lines += [f"    {row.note}" for row in self if row.operator == operator and row.note]
        return "\n".join(lines)


def status(device: str = "cpu", dtype: torch.dtype = torch.float32) -> StatusTable:
    """What would run each operator for tensors of this device type and dtype, and why other backends would not.

    Returns:
        A tuple of `Status`, one for every operator and backend; print it for a table.
    """
    rows = []
    for operator in _operators:
        reasons = {name: why_not(operator, name, device, [dtype]) for name in NAMES}
        automatic = next(name for name in AUTOMATIC.get(device, ("reference",)) if not reasons[name])
        for name in NAMES:
            note = _measured.why(operator) if name == "cuda" and not reasons[name] else ""
            rows.append(Status(operator, name, dtypes(operator, name), reasons[name], name == automatic, note))
    return StatusTable(rows)


def operators() -> tuple[str, ...]:
    """Names of all operators."""
    return tuple(_operators)


def dtypes(operator: str, name: str) -> tuple[torch.dtype, ...]:
    """Dtypes that `operator` takes on backend `name`."""
    if name == "reference":
        return (torch.float64, torch.float32, torch.bfloat16, torch.float16)
    return _kernels.get((operator, name), ())
