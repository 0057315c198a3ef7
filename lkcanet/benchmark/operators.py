"""Operators' examples as problems: an operator of lkops beside the same in eager PyTorch, with the same parameters."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import lkops
from lkops import testing

from .providers import Problem, Tensors

LOSS_GRADIENTS = (1.0, 0.5, 0.3, 0.1)  # of the four losses, fixed

__all__ = ["LOSS_GRADIENTS", "Called", "activations", "both_forms", "operator_problem", "outputs_gradients"]


class Called(nn.Module):
    """A function of named tensors as a module: the images are its inputs, all others its parameters.

    Args:
        function: called by names.
        tensors: its tensors; None for one that is left out.
        images: names of those that are inputs, of which ones that are left out stay so.
        options: keyword options.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        tensors: Mapping[str, Tensor | None],
        images: tuple[str, ...],
        options: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.function, self.options = function, dict(options)
        self.images = tuple(name for name in images if tensors[name] is not None)
        for name, tensor in tensors.items():
            if name not in images:
                self.register_parameter(name, None if tensor is None else nn.Parameter(tensor))
        self.names = tuple(name for name in tensors if name not in images)
        self.absent = {name: None for name in images if tensors[name] is None}

    def forward(self, *inputs: Tensor) -> Tensors:
        parameters = {name: getattr(self, name) for name in self.names}
        given = dict(zip(self.images, inputs, strict=True))
        result = self.function(**given, **self.absent, **parameters, **self.options)
        return testing.as_tuple(result)


def activations(
    operator: str, tensors: Mapping[str, Tensor | None], dtype: torch.dtype = torch.float32
) -> tuple[Tensor, ...]:
    """The images among these tensors, in this dtype; those that training differentiates require gradients. What needs
    none stays in its own."""
    known = testing.examples(operator)
    there = ((name, tensor) for name in known.images if (tensor := tensors[name]) is not None)
    return tuple(t if name in known.data else t.to(dtype).requires_grad_() for name, t in there)


def outputs_gradients(operator: str) -> Callable[[Tensors], Tensors] | None:
    """Gradients of the outputs, where they are not normal numbers: several outputs are losses."""
    if testing.operator(operator).outputs == 1:
        return None
    return lambda outputs: tuple(torch.full_like(o, g) for o, g in zip(outputs, LOSS_GRADIENTS, strict=True))


def both_forms(
    operator: str, tensors: Mapping[str, Tensor | None], options: Mapping[str, Any]
) -> tuple[Called, Called]:
    """The operator and its eager form, with the same parameters."""
    known = testing.examples(operator)
    ours, plain = (
        Called(function, tensors, known.images, options) for function in (getattr(lkops, operator), known.eager)
    )
    return ours, plain


def operator_problem(operator: str, example: testing.Example) -> Problem:
    """An operator of lkops and its eager form on one example, in float32.

    Args:
        operator: name of the public function.
        example: of `lkops.testing.examples(operator)`.
    """
    known = testing.examples(operator)
    tensors = testing.cast(known.arguments(example), torch.float32)
    ours, plain = both_forms(operator, tensors, example.options)
    return Problem(ours, plain, activations(operator, tensors), outputs_gradients(operator), kinks=known.kinks)
