"""What every operator shares: registration, the autograd Function pair, autocast, and the way to a backend."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from .. import backends
from . import extension, library, memory, triton_ops

_references: dict[str, Callable[..., Any]] = {}
_saves: dict[str, tuple[int, ...]] = {}
_outputs: dict[str, int] = {}
_masked: dict[str, bool] = {}
_saving: dict[str, bool] = {}


def register(
    name: str,
    reference: Callable[..., Any],
    *,
    kernels: Mapping[str, Sequence[torch.dtype]] | None = None,
    forward: str = "",
    backward: str = "",
    fake_forward: Callable[..., Any] | None = None,
    fake_backward: Callable[..., Any] | None = None,
    saves: Sequence[int] = (),
    outputs: int = 1,
    mixed: Sequence[str] = (),
    parts: Mapping[str, str] | None = None,
) -> None:
    """Make an operator known, with the backends that have kernels for it.

    The C++ and CUDA kernels are added by the extensions. Those of Triton are the functions `forward` and `backward` of
    `triton_kernels.py` beside the reference, imported at the first call. With `parts`, those of `cuda` are likewise in
    `cuda_kernels.py`, and use Triton's kernels for what the extension has none for.

    Args:
        name: of the public function.
        reference: called as reference(*tensors, *options); defines the operator.
        kernels: backend -> dtypes that its kernels take.
        forward: schema of `<name>_<backend>_fwd`: the tensors, then the options. What it returns beyond `outputs`
            stays inside, for backward; if the schema ends in `bool saving`, that says whether there will be a backward.
        backward: schema of `<name>_<backend>_bwd`: the gradients of the outputs, the saved tensors, the options and,
            if it ends in `bool[] needs`, which tensors of `forward` need a gradient. It returns one gradient for every
            tensor of `forward`; what it returns for one that was left out or needs none (an empty tensor, since a
            schema can't return None) is dropped. `gradients_like` makes such tensors.
        fake_forward, fake_backward: shapes and dtypes of what these return. All of it is dense, whatever the strides of
            the arguments, which a compiler chooses.
        saves: positions, among the tensors and then the results of forward, of what backward needs.
        outputs: how many results the public function returns.
        mixed: backends that also take tensors of several of their dtypes at once, as far as the public function does.
        parts: private ops, by name and schema, that `cuda_kernels.py` is made of and the CUDA extension implements.
    """
    _references[name] = reference
    _saves[name], _outputs[name] = tuple(saves), outputs
    _masked[name] = "bool[] needs)" in backward
    _saving[name] = "bool saving)" in forward
    backends._operators.append(name)
    for part, schema in (parts or {}).items():
        library.library.define(f"{part}{schema}")
    room = reference.__module__.rpartition(".")[0]
    for backend, dtypes in (kernels or {}).items():
        assert fake_forward is not None, f"{name} has kernels and needs schemas and fake kernels"
        assert fake_backward is not None, f"{name} has kernels and needs schemas and fake kernels"
        library.define(f"{name}_{backend}_fwd", forward, fake_forward)
        library.define(f"{name}_{backend}_bwd", backward, fake_backward)
        backends._kernels[name, backend] = tuple(dtypes)
        if backend in mixed:
            backends._mixed.add((name, backend))
        if backend == "triton" or (backend == "cuda" and parts):
            triton_ops.implement(name, backend, f"{room}.{backend}_kernels")
        backends._missing[name, backend] = _why_missing(name, backend, tuple(parts or ()))


def gradients_like(needs: Sequence[bool], *tensors: Tensor | None) -> list[Tensor]:
    """What a backward kernel returns, uninitialised: for each tensor that needs a gradient a dense one of its shape,
    empty for the others."""
    some = next(tensor for tensor in tensors if tensor is not None)
    return [
        tensor.new_empty(tensor.shape) if tensor is not None and needed else some.new_empty(0)
        for tensor, needed in zip(tensors, needs, strict=True)
    ]


def _why_missing(name: str, backend: str, parts: Sequence[str] = ()) -> str:
    if backend == "triton" and not triton_ops.installed():
        return "triton is not installed: pip install triton"
    if backend == "cuda":
        if error := extension.extension_error("_C_cuda"):
            return error
        if parts and not triton_ops.installed():
            return "triton, which runs its other stages, is not installed: pip install triton"
        if not all(library.has_kernel(part, "CUDA") for part in parts):
            return f"the cuda backend was built from another version and lacks {name}: reinstall lkops"
    if backend == "cpu" and (error := extension.extension_error("_C_cpu")):
        if error.startswith("LKOPS_CPU_ISA"):  # asked for, so no silent fallback
            raise ImportError(error)
        return error
    if not any(library.has_kernel(f"{name}_{backend}_fwd", device.upper()) for device in backends.DEVICES[backend]):
        return f"the {backend} backend was built from another version and lacks {name}: reinstall lkops"
    return ""


class _NoDoubleBackward(torch.autograd.Function):
    """Runs the backward kernel; differentiating it again raises.

    `once_differentiable` would raise only if the incoming gradient needs one itself: in a gradient
    penalty it doesn't, and the second derivative would be silently dropped.
    """

    @staticmethod
    def forward(name: str, backend: str, options: tuple[Any, ...], *tensors: Tensor) -> Any:
        return getattr(torch.ops.lkops, f"{name}_{backend}_bwd")(*tensors, *options)  # options end in `needs`

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.name = inputs[0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise RuntimeError(f"{ctx.name} has no double backward on this backend; use backend='reference'")


class _Kernel(torch.autograd.Function):
    """Forward and backward of an operator on one compiled backend, recorded in forward for backward."""

    @staticmethod
    def forward(
        name: str,
        backend: str,
        options: tuple[Any, ...],
        saves: tuple[int, ...],
        outputs: int,
        needs: tuple[bool, ...] | None,
        saving: tuple[bool, ...],
        *tensors: Tensor,
    ) -> Any:
        return getattr(torch.ops.lkops, f"{name}_{backend}_fwd")(*tensors, *options, *saving)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.name, ctx.backend, ctx.options, saves, ctx.outputs, needs, _, *tensors = inputs
        if needs is not None:
            ctx.options = (*ctx.options, needs)
        results = _as_tuple(output)
        if len(results) > ctx.outputs:  # Dynamo can't trace this call with nothing to mark
            ctx.mark_non_differentiable(*results[ctx.outputs :])
        if not torch.compiler.is_dynamo_compiling():  # Dynamo can't trace the call, and drops such zeros by itself
            ctx.set_materialize_grads(False)  # each result that only backward sees would cost a tensor of zeros
            ctx.like = [(result.shape, result.dtype, result.device) for result in results[: ctx.outputs]]
        ctx.given = tuple(tensor is not None for tensor in tensors) if needs is None else needs
        everything = (*tensors, *results)
        ctx.save_for_backward(*[everything[i] for i in saves])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return memory.guarded(f"backward of {ctx.name}", grads, None, _Kernel._backward, ctx, *grads)

    @staticmethod
    def _backward(ctx: Any, *grads: Tensor) -> Any:
        given_grads = [_zeros(ctx, i) if grad is None else grad for i, grad in enumerate(grads[: ctx.outputs])]
        tensors = (*[grad.contiguous() for grad in given_grads], *ctx.saved_tensors)
        if _op_is_enough(tensors):
            result = getattr(torch.ops.lkops, f"{ctx.name}_{ctx.backend}_bwd")(*tensors, *ctx.options)
        else:
            result = _NoDoubleBackward.apply(ctx.name, ctx.backend, ctx.options, *tensors)
        given = zip(_as_tuple(result), ctx.given, strict=True)
        return None, None, None, None, None, None, None, *[grad if is_given else None for grad, is_given in given]


def _zeros(ctx: Any, output: int) -> Tensor:
    """The gradient of an output that took no part."""
    shape, dtype, device = ctx.like[output]
    return torch.zeros(shape, dtype=dtype, device=device)


def _op_is_enough(tensors: Sequence[Tensor | None]) -> bool:
    """Whether Dynamo traces these tensors and none of them needs a gradient, so that a Function has no part to play.

    There Dynamo (torch 2.13) tells from the number of arguments whether `forward` takes a ctx, and so calls one that
    ends in `*tensors` with a ctx before its arguments unless there is exactly one tensor. In eager mode the Function
    stays, since it refuses forward-mode derivatives, which the bare op would drop.
    """
    if not torch.compiler.is_dynamo_compiling():
        return False
    return not _needs_gradient(tensors)


def _needs_gradient(tensors: Sequence[Tensor | None]) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def unchecked(
    name: str, requested: str | Sequence[str] | None, tensors: Sequence[Any], options: Callable[[], tuple[Any, ...]]
) -> Any:
    """The C++ kernel's output where nothing stands between the arguments and it, else None.

    For small images the checks in Python take longer than the kernel, which has checks of its own. Whatever it
    refuses, and whatever needs a gradient, a cast or a choice, takes the way through the checks, which say it better.

    Args:
        name, requested, tensors: as `call` takes them.
        options: gives the options, or raises TypeError or ValueError.
    """
    if (
        torch.compiler.is_dynamo_compiling()
        or not backends.is_plain_cpu(name, requested)
        or torch.autograd.forward_ad._current_level >= 0  # the Function refuses forward-mode derivatives
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch.is_autocast_enabled("cpu")
    ):
        return None
    differentiable = torch.is_grad_enabled()
    try:
        for tensor in tensors:
            # a meta tensor among them would choose the fake kernel
            if tensor is not None and (not tensor.is_cpu or (differentiable and tensor.requires_grad)):
                return None
        arguments = (*tensors, *options(), False) if _saving[name] else (*tensors, *options())
        results = getattr(torch.ops.lkops, f"{name}_cpu_fwd")(*arguments)
    except (AttributeError, TypeError, ValueError, RuntimeError):  # no tensor, an option, or what the kernel refuses
        return None
    return results[0] if isinstance(results, (tuple, list)) else results


def call(name: str, requested: str | Sequence[str] | None, tensors: Sequence[Tensor | None], options: Any = ()) -> Any:
    """Run an operator on the backend that `backends.choose` names; outputs are contiguous.

    Where memory is not there, the error is that of `_memory`.

    Args:
        name: of the operator.
        requested: the public function's `backend=`.
        tensors: in the order of the operator's schema; None for one that was left out.
        options: further arguments of the schema.
    """
    return memory.guarded(name, tensors, options, _call, name, requested, tensors, options)


def _call(name: str, requested: str | Sequence[str] | None, tensors: Sequence[Tensor | None], options: Any) -> Any:
    chosen = backends.choose(name, requested, tensors)
    if chosen == "reference":
        with _autocast_off(tensors):
            return _contiguous(_references[name](*tensors, *options))
    dense = [None if tensor is None else tensor.contiguous() for tensor in tensors]
    outputs = _outputs[name]
    if _op_is_enough(dense):
        results = getattr(torch.ops.lkops, f"{name}_{chosen}_fwd")(*dense, *options, *([False] * _saving[name]))
    else:
        needs = tuple(t is not None and t.requires_grad for t in dense) if _masked[name] else None
        saving = (_needs_gradient(dense),) if _saving[name] else ()
        results = _Kernel.apply(name, chosen, tuple(options), _saves[name], outputs, needs, saving, *dense)
    return _as_tuple(results)[0] if outputs == 1 else results[:outputs]


def autocast(*tensors: Tensor | None) -> tuple[Any, ...]:
    """The arguments of a product as it takes them under autocast: floating tensors in the autocast dtype.

    Outside autocast they come back unchanged. float64 is left alone, as torch's own autocast does; so is what is no
    floating tensor, for the checks that follow to refuse.
    """
    device = _autocast_device(tensors)
    if device is None:
        return tensors
    dtype = torch.get_autocast_dtype(device)

    def takes_part(t: Any) -> bool:
        return isinstance(t, Tensor) and t.is_floating_point() and t.dtype is not torch.float64

    return tuple(t.to(dtype) if takes_part(t) else t for t in tensors)  # type: ignore[union-attr]


def _autocast_device(tensors: Sequence[Tensor | None]) -> str | None:
    """The device type of these tensors where autocast is on for it. Some, such as "meta", have no autocast."""
    device = next(tensor.device.type for tensor in tensors if tensor is not None)
    return device if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device) else None


def _autocast_off(tensors: Sequence[Tensor | None]) -> Any:
    """The reference computes in the dtype of its arguments; autocast would change that inside it."""
    device = _autocast_device(tensors)
    return nullcontext() if device is None else torch.autocast(device, enabled=False)


def _as_tuple(results: Any) -> tuple[Any, ...]:
    return tuple(results) if isinstance(results, (tuple, list)) else (results,)


def _contiguous(output: Any) -> Any:
    return output.contiguous() if isinstance(output, Tensor) else tuple(t.contiguous() for t in output)
