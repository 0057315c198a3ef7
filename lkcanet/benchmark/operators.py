"""Operators' examples as problems: an operator of lkops beside the same in eager PyTorch, with the same parameters."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import lkops
from lkops import testing

from .providers import Problem, Tensors
from .runtimes import Runner, Unavailable, ncnn_conv

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


def _ncnn_conv2d(tensors: Mapping[str, Tensor | None], options: Mapping[str, Any], threads: int) -> Runner:
    """A conv as ncnn has it in one layer."""
    others = {name: value for name, value in options.items() if name not in ("activation", "accuracy")}
    activation = options.get("activation")
    image, weight, bias = (tensors[name] for name in ("input", "weight", "bias"))
    plain = activation in (None, "relu") and tensors["residual"] is None and not others
    if image is None or weight is None or bias is None or not plain or image.shape[0] != 1 or weight.shape[-1] % 2 == 0:
        raise Unavailable("only a conv of one image with a bias and at most a ReLU is one layer of ncnn's")
    return ncnn_conv(image, weight, bias, relu=activation == "relu", threads=threads)


# operator -> runtimes that convert no modules: name to (tensors, options, threads) -> runner
CONVERTED: Mapping[str, Mapping[str, Callable[..., Runner]]] = {"conv2d": {"ncnn": _ncnn_conv2d}}


def operator_problem(operator: str, example: testing.Example) -> Problem:
    """An operator of lkops and its eager form on one example, in float32; in its relaxed form, too, where it has one.

    Args:
        operator: name of the public function.
        example: of `lkops.testing.examples(operator)`.
    """
    known, function, options = testing.examples(operator), getattr(lkops, operator), example.options
    tensors = testing.cast(known.arguments(example), torch.float32)
    ours, plain = both_forms(operator, tensors, options)
    problem = Problem(ours, plain, activations(operator, tensors), outputs_gradients(operator), kinks=known.kinks)
    if "accuracy" in inspect.signature(function).parameters:
        problem.relaxed = Called(function, tensors, known.images, {**options, "accuracy": "relaxed"})
    for name, make in CONVERTED.get(operator, {}).items():
        problem.converted[name] = partial(make, tensors, options)
    return problem
