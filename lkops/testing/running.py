"""Runs operators on their examples: outputs and gradients by name, and the whole comparison with float64."""

import platform
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .._core.autograd import OPERATORS, as_tuple
from .._core.examples import Arguments, Draw, Example, Examples
from .._core.extension import cpu_facts
from .._core.operator import Operator
from .closeness import Policy, check_dtypes, share_of_allowed

__all__ = [
    "arguments",
    "as_tuple",
    "cast",
    "check",
    "compare",
    "examples",
    "invoke",
    "operator",
    "policy_of",
    "run",
]


def operator(name: str) -> Operator:
    """The operator of a public function.

    Raises:
        KeyError: there is none of this name.
    """
    if name not in OPERATORS:
        raise KeyError(f"no operator {name!r}; there are {', '.join(OPERATORS)}")
    found: Operator = OPERATORS[name]
    return found


def examples(name: str) -> Examples:
    """All examples of an operator, and what else is known of it: `examples(name)["plain"]`, `.cases`, `.of(use)`."""
    return operator(name).examples


def arguments(name: str, case: Example | str, draw: Draw | None = None) -> tuple[Arguments, dict[str, Any]]:
    """Of one example of an operator, or the one of a name: tensors by name and in order, in float64; and options."""
    known = examples(name)
    found = known[case] if isinstance(case, str) else case
    return known.arguments(found, draw), dict(found.options)


def cast(tensors: Arguments, dtype: torch.dtype, device: str = "cpu") -> Arguments:
    """The same tensors in a dtype, on a device."""
    return {name: None if t is None else t.to(device, dtype) for name, t in tensors.items()}


def invoke(name: str, tensors: Arguments, options: Mapping[str, Any], backend: str | None = None) -> tuple[Tensor, ...]:
    """The outputs of the public function, called by names as a user does."""
    return as_tuple(operator(name).function(**tensors, **options, backend=backend))


def run(
    name: str, tensors: Arguments, options: Mapping[str, Any], backend: str | None = None, draw: Draw | None = None
) -> dict[str, Tensor]:
    """Outputs ("output 0", ...), and the gradients of all tensors ("gradient of x") for gradients of the outputs that
    `draw` draws.

    Raises:
        AssertionError: a tensor got no gradient.
    """
    leaves = {key: None if t is None else t.detach().clone().requires_grad_() for key, t in tensors.items()}
    outputs = invoke(name, leaves, options, backend)
    draw = draw or Draw()
    grads = [draw(*output.shape).to(output.device, output.dtype) for output in outputs]
    torch.autograd.backward(outputs, grads)
    result = {f"output {i}": output.detach() for i, output in enumerate(outputs)}
    for key, leaf in leaves.items():
        if leaf is not None:
            assert leaf.grad is not None, f"no gradient for {key}"
            result[f"gradient of {key}"] = leaf.grad
    return result


def policy_of(backend: str, device: str = "cpu") -> Policy:
    """Twice eager's error and four roundings. One more where bfloat16 is truncated instead of rounded, as Triton's
    interpreter (3.7) stores it, or products are rounded before they are added: the portable C++ kernels of x86 do
    without fma. Where eager itself is off by half of a result (oneDNN is in places), it says nothing of the other."""
    has_fma = platform.machine().lower() in ("aarch64", "arm64") or cpu_facts()["isa"] != "portable"
    rounds_twice = backend == "cpu" and not has_fma
    roundings, truncated = 5 if rounds_twice else 4, backend == "triton" and device == "cpu"
    return Policy(roundings=roundings, truncated=truncated, eager_within=0.5)


def compare(
    name: str, backend: str, device: str, dtype: torch.dtype, tensors: Arguments, options: Mapping[str, Any]
) -> float:
    """Outputs and gradients of a backend for some arguments: the largest error as a fraction of what is allowed.

    Args:
        name: of the operator.
        backend: "reference" is held to be within its own tolerance of float64 too.
        device, dtype: to which the tensors are rounded first.

    Raises:
        WrongResult: it is more than 1.
    """
    rounded = cast(tensors, dtype, device)
    exact = run(name, cast(rounded, torch.float64, "cpu"), options, "reference")
    eager = run(name, rounded, options, "reference")
    ours = eager if backend == "reference" else run(name, rounded, options, backend)
    check_dtypes(ours, eager)
    policy = replace(policy_of(backend, device), of_size=examples(name).of_size(options))
    return share_of_allowed(ours, eager, exact, policy)


def check(name: str, backend: str, device: str, dtype: torch.dtype, case: Example | str) -> None:
    """`compare` for an example of the operator.

    Raises:
        WrongResult: an AssertionError: an output or gradient is off by more than eager PyTorch allows, all zeros, of
            another shape, or not finite.
    """
    tensors, options = arguments(name, case)
    compare(name, backend, device, dtype, tensors, options)
