"""The pair of autograd Functions behind every operator with kernels."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import memory

# Every `operator.Operator`, by name, in the order in which they were registered. The Functions get names: Dynamo takes
# no object of ours as a Function's argument.
OPERATORS: dict[str, Any] = {}


class Kernel(torch.autograd.Function):
    """Forward and backward of an operator on one compiled backend, recorded in forward for backward."""

    @staticmethod
    def forward(
        name: str,
        backend: str,
        options: tuple[Any, ...],
        needs: tuple[bool, ...],
        saving: bool,
        *tensors: Tensor,
    ) -> Any:
        operator = OPERATORS[name]
        return operator.op(backend, "fwd")(*tensors, *options, *operator.telling(saving))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.name, ctx.backend, ctx.options, ctx.needs, _, *tensors = inputs
        operator, results = OPERATORS[ctx.name], as_tuple(output)
        outputs = operator.outputs
        if len(results) > outputs:  # Dynamo can't trace this call with nothing to mark
            ctx.mark_non_differentiable(*results[outputs:])
        if not torch.compiler.is_dynamo_compiling():  # Dynamo can't trace the call, and drops such zeros by itself
            ctx.set_materialize_grads(False)  # each result that only backward sees would cost a tensor of zeros
            ctx.like = [(result.shape, result.dtype, result.device) for result in results[:outputs]]
        ctx.save_for_backward(*operator.saved(tensors, results, ctx.options))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return memory.guarded(f"backward of {ctx.name}", grads, None, Kernel._backward, ctx, *grads)

    @staticmethod
    def _backward(ctx: Any, *grads: Tensor) -> Any:
        operator = OPERATORS[ctx.name]
        given = [_zeros(ctx, i) if grad is None else grad for i, grad in enumerate(grads[: operator.outputs])]
        tensors = (*[operator.dense(grad) for grad in given], *ctx.saved_tensors)
        options = (*ctx.options, *operator.masking(ctx.needs))
        if op_is_enough(tensors):
            result = operator.op(ctx.backend, "bwd")(*tensors, *options)
        else:
            result = apply(_NoDoubleBackward, ctx.name, ctx.backend, options, *tensors)
        found = zip(as_tuple(result), ctx.needs, strict=True)
        return None, None, None, None, None, *[grad if needed else None for grad, needed in found]


class _NoDoubleBackward(torch.autograd.Function):
    """Runs the backward kernel; differentiating it again raises.

    `once_differentiable` would raise only if the incoming gradient needs one itself: in a gradient
    penalty it doesn't, and the second derivative would be silently dropped.
    """

    @staticmethod
    def forward(name: str, backend: str, options: tuple[Any, ...], *tensors: Tensor) -> Any:
        return OPERATORS[name].op(backend, "bwd")(*tensors, *options)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.name = inputs[0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise RuntimeError(f"{ctx.name} has no double backward on this backend; use backend='reference'")


def _zeros(ctx: Any, output: int) -> Tensor:
    """The gradient of an output that took no part."""
    shape, dtype, device = ctx.like[output]
    return torch.zeros(shape, dtype=dtype, device=device)


def apply(function: type[torch.autograd.Function], *arguments: Any) -> Any:
    """`function.apply(*arguments)`, which reads the signature of `forward` at every call to fill in defaults: that
    takes longer than small kernels do, and ours have no defaults."""
    if torch.compiler.is_dynamo_compiling() or not is_plain():
        return function.apply(*arguments)
    return super(torch.autograd.Function, function).apply(*arguments)  # type: ignore[misc]


def is_plain() -> bool:
    """Whether neither forward-mode derivatives nor one of torch.func's transforms are under way, in eager mode."""
    return torch.autograd.forward_ad._current_level < 0 and torch._C._functorch.peek_interpreter_stack() is None


def distinct(tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Where code is compiled, views of those that stand twice, such as an image that is its own residual: a Function
    that is given one tensor twice can't be traced."""
    if not torch.compiler.is_dynamo_compiling():
        return list(tensors)
    found: list[Tensor | None] = []
    for tensor in tensors:
        again = tensor is not None and any(tensor is other for other in found)
        found.append(tensor.view_as(tensor) if tensor is not None and again else tensor)
    return found


def op_is_enough(tensors: Sequence[Tensor | None]) -> bool:
    """Whether none of these tensors needs a gradient, so that a Function has no part to play.

    Dynamo (torch 2.13) tells from the number of arguments whether `forward` takes a ctx, and so calls one that ends in
    `*tensors` with a ctx before its arguments unless there is exactly one tensor. In eager mode the Function stays
    where forward-mode derivatives may be asked for: it refuses them, and the bare op would drop them.
    """
    return not needs_gradient(tensors) and (torch.compiler.is_dynamo_compiling() or is_plain())


def needs_gradient(tensors: Sequence[Tensor | None]) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def as_tuple(results: Any) -> tuple[Any, ...]:
    """One or several results as a tuple."""
    return tuple(results) if isinstance(results, (tuple, list)) else (results,)
