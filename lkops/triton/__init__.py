"""What all Triton kernels share: how one is launched, its configuration for a shape, and torch's precision settings.

Kernels live in their operator's room (`lkops/<room>/triton_kernels.py`); device functions that several rooms use are
in `device.py`. `table.json` holds, for every kernel and dtype class, configurations by the amount of work;
`python -m bench.gpu.tune` derives it again on a GPU. Under TRITON_INTERPRET=1 the same kernels run on CPU tensors.
"""

import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .._core import choice

__all__ = ["Choice", "Launch", "config", "launch", "next_power_of_2", "override", "precision", "table", "watch"]

TABLE = Path(__file__).with_name("table.json")

# a kernel and dtype class -> its configurations in order of work: {"up_to": work or None, "BLOCK_...": ...}
Table = dict[str, dict[str, list[dict[str, Any]]]]


@functools.cache
def table() -> Table:
    """The committed table of configurations."""
    loaded: Table = json.loads(TABLE.read_text())
    return loaded


def config(kernel: str, dtype: torch.dtype, work: int) -> dict[str, Any]:
    """The constants and launch options of a kernel for this much work.

    Args:
        kernel: "<room>.<name>", as in table.json.
        dtype: of the tensors; float32 has one class of entries, both half precisions share the other.
        work: what the table's `up_to` counts; the launcher says what that is (pixels, planes ...).
    """
    choice = Choice(kernel, "float32" if dtype is torch.float32 else "half", work)
    if _choice_watcher is not None:
        _choice_watcher(choice)
    return {**_config(choice), **_overrides.get(kernel, {})}


@dataclass(frozen=True)
class Choice:
    """One call of `config`: what `watch` shows.

    Attributes:
        kernel: "<room>.<name>", as in table.json.
        kind: "float32" or "half".
        work: what the table's `up_to` counts.
    """

    kernel: str
    kind: str
    work: int

    @property
    def entry(self) -> int:
        """Which of the table's entries for this kernel and kind is taken."""
        bounds = [entry["up_to"] for entry in table()[self.kernel][self.kind]]
        return next(i for i, bound in enumerate(bounds) if bound is None or self.work <= bound)


@functools.cache
def _config(choice: Choice) -> dict[str, Any]:
    entry = table()[choice.kernel][choice.kind][choice.entry]
    return {key: value for key, value in entry.items() if key != "up_to"}


_overrides: dict[str, dict[str, Any]] = {}


@contextmanager
def override(configurations: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """Within the block, `config` of the kernels named takes these constants and options over those of the table.

    Args:
        configurations: "<room>.<name>" -> constants and options, whatever the dtype and the amount of work.

    Raises:
        KeyError: a kernel, or a constant, that the table does not have.
    """
    global _overrides
    for kernel, settings in configurations.items():
        known = {key for entries in table()[kernel].values() for entry in entries for key in entry}
        if unknown := settings.keys() - known | settings.keys() & {"up_to"}:
            raise KeyError(f"{kernel} has no {', '.join(sorted(unknown))} in {TABLE.name}")
    before = _overrides
    _overrides = {**before, **{kernel: dict(settings) for kernel, settings in configurations.items()}}
    try:
        yield
    finally:
        _overrides = before


def precision(dtype: torch.dtype) -> str:
    """`input_precision` of a product: tf32 only for float32, and only where torch takes it for its own convs
    (`torch.backends.cudnn.allow_tf32`, or `torch.backends.cudnn.conv.fp32_precision`)."""
    if dtype is torch.float32 and torch.backends.cudnn.conv.fp32_precision == "tf32":  # type: ignore[attr-defined]
        return "tf32"
    return "ieee"


def next_power_of_2(n: int) -> int:
    """The least power of two that is n or more; Triton's ranges have such lengths."""
    return 1 << max(n - 1, 0).bit_length()


@dataclass(frozen=True)
class Launch:
    """One kernel launch: what `watch` shows.

    Attributes:
        kernel: the JIT function.
        grid: number of programs.
        arguments: the tensors and numbers, in order.
        constants: constexpr arguments by name.
        options: num_warps, num_stages, maxnreg.
    """

    kernel: Any
    grid: tuple[int, ...]
    arguments: tuple[Any, ...]
    constants: dict[str, Any]
    options: dict[str, int]


_watcher: Callable[[Launch], None] | None = None
_choice_watcher: Callable[[Choice], None] | None = None
_running = True


@contextmanager
def watch(
    watcher: Callable[[Launch], None], *, choices: Callable[[Choice], None] | None = None, run: bool = True
) -> Iterator[None]:
    """Within the block, show every launch to `watcher`, and every call of `config` to `choices`; with `run=False`
    nothing is run, so that launchers can be called with tensors of the meta device."""
    global _watcher, _choice_watcher, _running
    before = _watcher, _choice_watcher, _running
    _watcher, _choice_watcher, _running = watcher, choices, run
    try:
        yield
    finally:
        _watcher, _choice_watcher, _running = before


_OPTIONS = ("num_warps", "num_stages", "maxnreg")  # without the last, ptxas spills a little to fit more programs


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Launch `kernel` over `grid` on the current stream.

    Args:
        kernel: a `triton.jit` function.
        grid: number of programs, the largest count first (the others are limited to 65535); nothing happens if empty.
        arguments: tensors, whole numbers and floats, in the kernel's order.
        constants: its constexpr arguments, and num_warps, num_stages and maxnreg.
    """
    if not math.prod(grid):
        return
    if _watcher is not None:
        options = {key: constants[key] for key in _OPTIONS if key in constants}
        rest = {key: value for key, value in constants.items() if key not in _OPTIONS}
        _watcher(Launch(kernel, grid, arguments, rest, options))
        if not _running:
            return
    kernel[grid](*arguments, **constants)


def interpreted() -> bool:
    """Whether kernels run on the CPU, in Triton's interpreter."""
    return choice.INTERPRETED


def workspace(like: Tensor, *shape: int) -> Tensor:
    """An uninitialised float32 tensor on the device of `like`, for partial sums."""
    return torch.empty(shape, dtype=torch.float32, device=like.device)
