"""An operator as one object: what defines it, its kernels, and the one door from a public function to a backend.

OPERATOR = register("scale", reference.scale, forward="(Tensor x, float by) -> Tensor y", ...)

def scale(x, *, by, backend=None):
    return OPERATOR((x,), lambda: (checks.number("by", by),), backend, check)
"""

import importlib
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import autograd, choice, memory, recording
from .casting import autocast, autocast_off
from .examples import Examples

FLOAT32_AND_BFLOAT16 = (torch.float32, torch.bfloat16)
FLOATS = (*FLOAT32_AND_BFLOAT16, torch.float16)


@dataclass(frozen=True)
class Kernels:
    """What one backend has for an operator.

    Attributes:
        dtypes: that its kernels take.
        mixes: whether they also take tensors of several of these at once, as far as the public function does.
        casts: whether forward also takes float32 parameters beside an image of bfloat16, and casts them itself. Only
            for autocast: the public function takes no such mixture.
        parts: private ops, by name and schema, that the room's `cuda_kernels.py` is made of and the CUDA extension
            implements; without any, the extension implements the operator's own pair.
    """

    dtypes: tuple[torch.dtype, ...]
    mixes: bool = False
    casts: bool = False
    parts: Mapping[str, str] = field(default_factory=dict)


class Direct(NamedTuple):
    """What the private ops get for a call of the public function: see `Operator.raw`."""

    tensors: tuple[Tensor | None, ...]
    options: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Operator:
    """One operator.

    Attributes:
        name: of the public function.
        reference: called as reference(*tensors, *options); defines the operator.
        tensors: names of its tensors, in order.
        results: names of what the kernels' forward returns: the public function's outputs, then what stays inside for
            backward.
        outputs: how many of them the public function returns.
        saves: names, among tensors and results, of what backward gets.
        stands_in: given the options, what is saved in the place of what: names among the results.
        masked: whether backward is told which tensors need a gradient.
        told: whether forward is told that there will be a backward.
        casts: names of the tensors that are taken in autocast's dtype, as products do.
        strided: whether kernels get tensors as they lie and an option says the format of the output, which is
            contiguous for all other operators.
        kernels: backend -> what it has.
        missing: backend -> why these can't run here; "" if they can.
    """

    name: str
    reference: Callable[..., Any]
    tensors: tuple[str, ...]
    results: tuple[str, ...]
    outputs: int
    saves: tuple[str, ...]
    stands_in: Callable[[Sequence[Any]], Mapping[str, str]]
    masked: bool
    told: bool
    casts: tuple[str, ...]
    strided: bool
    kernels: Mapping[str, Kernels]
    missing: dict[str, str]

    def __call__(
        self,
        tensors: tuple[Any, ...],
        options: Callable[[], tuple[Any, ...]],
        backend: str | Sequence[str] | None,
        check: Callable[[tuple[Any, ...], tuple[Any, ...]], None] | None = None,
    ) -> Any:
        """The public function: checks, autocast, the choice of a backend, and its kernel. Outputs are contiguous unless
        `strided`.

        Args:
            tensors: in the order of the schema, the image first; None for one that was left out.
            options: gives the further arguments of the schema, or raises TypeError or ValueError.
            backend: see `lkops.backends`.
            check: called as check(tensors, options), with the tensors as they are under autocast; raises where they do
                not fit.

        Raises:
            ValueError, TypeError: what the checks say.
            RuntimeError: a backend was asked for that can't run these arguments.
            torch.OutOfMemoryError: memory for the output or on the way to it is not there.
        """
        if (short := self._short(tensors, options, backend)) is not None:
            return short
        given = options()
        tensors = autocast(tensors, self.tensors, self.casts)
        if check is not None:
            check(tensors, given)
        if not torch.compiler.is_dynamo_compiling() and _direct.wanted:
            raise _Captured(Direct(tensors, given))
        inside = (*given, *self.telling(False))
        return memory.guarded(self.name, tensors, inside, self._run, backend, tensors, given)

    def _short(self, tensors: tuple[Any, ...], options: Callable[[], tuple[Any, ...]], backend: Any) -> Any:
        """The C++ kernel's output where there is nothing to choose, else None.

        For small images the checks in Python take longer than the kernel, which has checks of its own. Whatever it
        refuses, and whatever needs a choice, takes the way through the checks, which say it better.
        """
        if (
            torch.compiler.is_dynamo_compiling()
            or not choice.is_plain_cpu(backend)
            or self.missing.get("cpu", "none")
            or not autograd.is_plain()
            or _direct.wanted
        ):
            return None
        try:
            for tensor in tensors:
                if tensor is not None and not tensor.is_cpu:  # a meta tensor among them would choose the fake kernel
                    return None
            taken = self._cast_for_cpu(tensors)
            if taken is None:
                return None
            results = self._kernel("cpu", taken, options())
        except (AttributeError, TypeError, ValueError, RuntimeError):  # no tensor, an option, or what it refuses
            return None
        if recording.recorders:
            self._record("cpu", taken)
        return self._outputs(results)

    def _cast_for_cpu(self, tensors: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """The tensors as autocast gives them to the C++ kernel, which may cast parameters itself; None where their
        dtypes are for the checks to refuse."""
        casts = self.kernels["cpu"].casts
        if torch.is_autocast_enabled("cpu"):
            image_alone = casts and not autograd.needs_gradient(tensors)
            return autocast(tensors, self.tensors, self.casts[:1] if image_alone else self.casts)
        dtype = tensors[0].dtype
        if casts and dtype is not torch.float32 and any(t is not None and t.dtype is not dtype for t in tensors):
            return None
        return tensors

    def _run(self, backend: str | Sequence[str] | None, tensors: Sequence[Tensor | None], options: Any) -> Any:
        chosen = self.choose(backend, tensors)
        # a compiled call must not depend on whether somebody records: that would compile it again
        if not torch.compiler.is_dynamo_compiling() and recording.recorders:
            self._record(chosen, tensors)
        if chosen == "reference":
            with autocast_off(tensors):
                result = self.reference(*tensors, *options)
                return result if self.strided else _contiguous(result)
        return self._outputs(self._kernel(chosen, tensors, options))

    def _kernel(self, backend: str, tensors: Sequence[Tensor | None], options: tuple[Any, ...]) -> Any:
        """What the private op returns, recorded for backward if need be."""
        dense = [None if tensor is None else self.dense(tensor) for tensor in tensors]
        if autograd.op_is_enough(dense):
            return self.op(backend, "fwd")(*dense, *options, *self.telling(False))
        needs = tuple(t is not None and (t.requires_grad or not self.masked) for t in dense)
        saving = autograd.needs_gradient(dense)
        dense = autograd.distinct(dense)
        return autograd.apply(autograd.Kernel, self.name, backend, options, needs, saving, *dense)

    def _outputs(self, results: Any) -> Any:
        """Of what forward returns, what the public function does."""
        return autograd.as_tuple(results)[0] if self.outputs == 1 else results[: self.outputs]

    def dense(self, tensor: Tensor) -> Tensor:
        """As kernels take it."""
        return tensor if self.strided else tensor.contiguous()

    def op(self, backend: str, direction: str) -> Any:
        """The private op of a backend, "fwd" or "bwd"."""
        return getattr(torch.ops.lkops, f"{self.name}_{backend}_{direction}")

    def telling(self, saving: bool) -> tuple[bool, ...]:
        """What follows the options of forward: whether there will be a backward, if it is to know."""
        return (saving,) if self.told else ()

    def masking(self, needs: Sequence[bool]) -> tuple[Sequence[bool], ...]:
        """What follows the options of backward: which tensors need a gradient, if it is to know."""
        return (tuple(needs),) if self.masked else ()

    def saved(self, tensors: Sequence[Any], results: Sequence[Any], options: Sequence[Any]) -> list[Any]:
        """Of the tensors and results of a forward with such options, what backward gets, in its order."""
        named = dict(zip((*self.tensors, *self.results), (*tensors, *results), strict=True))
        others = self.stands_in(options)
        return [named[others.get(name, name)] for name in self.saves]

    def why_not(self, backend: str, device: str, dtypes: Iterable[torch.dtype]) -> str:
        """The reason why a backend can't run it on tensors like these, or an empty string."""
        if backend == "reference":
            return ""
        if backend not in self.kernels:
            return "no such kernel in this version"
        if self.missing[backend]:
            return self.missing[backend]
        if device not in choice.DEVICES[backend]:
            return f"it takes tensors on {' or '.join(choice.DEVICES[backend])}, not on {device}"
        kernels, dtypes = self.kernels[backend], list(dict.fromkeys(dtypes))
        if len(dtypes) > 1 and not kernels.mixes:  # each may be taken and not their mixture
            return f"it takes tensors of one dtype, not of {choice.short(dtypes)}"
        for dtype in dtypes:
            if dtype not in kernels.dtypes:
                return f"it takes {choice.short(kernels.dtypes)}, not {choice.short([dtype])}"
        return ""

    def choose(self, requested: str | Sequence[str] | None, tensors: Sequence[Tensor | None]) -> str:
        """The backend that runs it on these tensors; see `lkops.backends.choose`."""
        given = [tensor for tensor in tensors if tensor is not None]
        device, dtypes = given[0].device.type, [tensor.dtype for tensor in given]
        names = choice.asked(requested)
        names = choice.automatic(device) if names is None else names
        for name in names:
            if not self.why_not(name, device, dtypes):
                return name
        reasons = (f"backend '{n}' can't run {self.name}: {self.why_not(n, device, dtypes)}" for n in names)
        raise RuntimeError("; ".join(reasons))

    @property
    def function(self) -> Callable[..., Any]:
        """The public function."""
        found: Callable[..., Any] = getattr(sys.modules[self.reference.__module__.rpartition(".")[0]], self.name)
        return found

    def triton(self) -> Any:
        """The module of its Triton kernels, whose `forward` and `backward` its private ops call."""
        return self._module("triton_kernels")

    @property
    def examples(self) -> Examples:
        """What whoever tests or times it must know: `EXAMPLES` of the room's `examples.py`."""
        found: Examples = self._module("examples").EXAMPLES
        return found

    def _module(self, name: str) -> Any:
        return importlib.import_module(f"{self.reference.__module__.rpartition('.')[0]}.{name}")

    def raw(self, **arguments: Any) -> Direct:
        """What its kernels get for a call of the public function, whose arguments are given by name: tensors as
        autocast leaves them, and options in the order of the schema. Nothing is run.

        Raises:
            ValueError, TypeError: what the public function raises.
        """
        _direct.wanted = True
        try:
            self.function(**arguments)
        except _Captured as captured:
            return captured.direct
        finally:
            _direct.wanted = False
        raise RuntimeError(f"lkops.{self.name} did not reach its operator")

    def _record(self, backend: str, tensors: Sequence[Tensor | None]) -> None:
        given = {n: t for n, t in zip(self.tensors, tensors, strict=True) if t is not None}
        first = next(iter(given.values()))
        shapes = {name: tuple(tensor.shape) for name, tensor in given.items()}
        for calls in recording.recorders:
            calls.append(recording.Call(self.name, backend, shapes, first.dtype, first.device.type))


class _Captured(Exception):
    """Stops a public function at its operator."""

    def __init__(self, direct: Direct) -> None:
        super().__init__()
        self.direct = direct


class _Wanted(threading.local):
    """Whether this thread asks for what its next operator's kernels get."""

    wanted = False


_direct = _Wanted()


def _contiguous(output: Any) -> Any:
    return output.contiguous() if isinstance(output, Tensor) else tuple(t.contiguous() for t in output)
