"""Which backends exist, why one can't run, and how to choose.

`reference` defines an operator in plain PyTorch and always runs; `cpu` is C++; `triton` and `cuda` serve GPUs.
The choice, from the strongest to the weakest:

1. the `backend=` argument of a function: one name, or names in order of preference;
2. `with lkops.backend("cpu", "reference"):`, for the current thread;
3. the environment variable LKOPS_BACKEND, "cpu" or "cpu,reference", read when lkops is imported;
4. automatic: the first of `AUTOMATIC[device]` that can run the arguments.

What is asked for runs or raises, with the reason; only the automatic choice falls back, and `status()` shows where;
`record()` lists what ran.
Backward runs on the backend that forward chose. What recomputes a forward in backward, as `torch.utils.checkpoint`
does, chooses again: there use `backend=` or LKOPS_BACKEND, which hold in every place and thread.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ._core.autograd import OPERATORS
from ._core.choice import AUTOMATIC, DEVICES, INTERPRETED, NAMES, automatic, backend, short
from ._core.recording import Call, record

__all__ = [
    "AUTOMATIC",
    "DEVICES",
    "INTERPRETED",
    "NAMES",
    "Call",
    "Status",
    "StatusTable",
    "backend",
    "choose",
    "dtypes",
    "operators",
    "record",
    "status",
    "why_not",
]

UNMEASURED = "cuda is not automatic: no committed result of a GPU shows that it beats triton"


def why_not(operator: str, name: str, device: str, dtypes: Iterable[torch.dtype]) -> str:
    """The reason why backend `name` can't run `operator` on tensors like these, or an empty string.

    Args:
        operator: name of a public function.
        name: of `NAMES`.
        device: device type, such as "cpu".
        dtypes: of all tensor arguments.
    """
    return str(OPERATORS[operator].why_not(name, device, dtypes))


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
    return str(OPERATORS[operator].choose(requested, tensors))


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


class StatusTable(tuple[Status, ...]):
    """Rows of `Status`. Printed: what runs each operator, * the automatic choice, and why other backends do not."""

    __slots__ = ()

    def __str__(self) -> str:
        lines = []
        for operator in dict.fromkeys(row.operator for row in self):
            runs, reasons = [], dict[str, list[str]]()
            for row in self:
                if row.operator == operator and row.available:
                    runs.append(f"{row.backend}{'*' if row.automatic else ''} ({short(row.dtypes)})")
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
    for operator in OPERATORS:
        reasons = {name: why_not(operator, name, device, [dtype]) for name in NAMES}
        chosen = next(name for name in automatic(device) if not reasons[name])
        for name in NAMES:
            note = UNMEASURED if name == "cuda" and not reasons[name] else ""
            rows.append(Status(operator, name, dtypes(operator, name), reasons[name], name == chosen, note))
    return StatusTable(rows)


def operators() -> tuple[str, ...]:
    """Names of all operators."""
    return tuple(OPERATORS)


def dtypes(operator: str, name: str) -> tuple[torch.dtype, ...]:
    """Dtypes that `operator` takes on backend `name`."""
    if name == "reference":
        return (torch.float64, torch.float32, torch.bfloat16, torch.float16)
    kernels = OPERATORS[operator].kernels.get(name)
    return () if kernels is None else tuple(kernels.dtypes)
