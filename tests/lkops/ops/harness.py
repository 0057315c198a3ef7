"""What every kernel is held to: how it is called, what it is compared with, which (operator, backend, dtype) exist."""

from typing import Any

import torch
from torch import Tensor

import lkops
from lkops import backends
from lkops._core import operator as _operator
from lkops._core.extension import cpu_facts
from tests.lkops.ops.problems import PROBLEMS, Arguments, Case, Draw, arguments

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
DEVICES = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


def as_tuple(output: Any) -> tuple[Tensor, ...]:
    return (output,) if isinstance(output, Tensor) else tuple(output)


def cast(tensors: Arguments, dtype: torch.dtype, device: str = "cpu") -> Arguments:
    return {name: None if t is None else t.to(device, dtype) for name, t in tensors.items()}


def invoke(operator: str, tensors: Arguments, options: dict[str, Any], backend: str | None) -> tuple[Tensor, ...]:
    """Call the public function the way a user does: tensors by name."""
    return as_tuple(getattr(lkops, operator)(**tensors, **options, backend=backend))


def run(
    operator: str, tensors: Arguments, options: dict[str, Any], backend: str | None, draw: Draw | None = None
) -> dict[str, Tensor]:
    """Outputs, and the gradients of all tensors for fixed random gradients of the outputs, by name."""
    leaves = {name: None if t is None else t.detach().clone().requires_grad_() for name, t in tensors.items()}
    outputs = invoke(operator, leaves, options, backend)
    draw = draw or Draw()
    grads = [draw(*output.shape).to(output.device, output.dtype) for output in outputs]
    torch.autograd.backward(outputs, grads)
    result = {f"output {i}": output.detach() for i, output in enumerate(outputs)}
    for name, leaf in leaves.items():
        if leaf is not None:
            assert leaf.grad is not None, f"no gradient for {name}"
            result[f"gradient of {name}"] = leaf.grad
    return result


def truncates(backend: str, device: str, dtype: torch.dtype) -> bool:
    """Whether results are truncated, not rounded: Triton's interpreter stores bfloat16 so (3.7)."""
    return backend == "triton" and device == "cpu" and dtype is torch.bfloat16


def rounds_twice(backend: str) -> bool:
    """Whether a * b + c rounds twice where eager rounds once: the portable C++ kernels do without fma."""
    return backend == "cpu" and cpu_facts()["isa"] == "portable"


def assert_as_good_as_eager(
    what: str, ours: Tensor, eager: Tensor, exact: Tensor, *, coarse: bool = False, slack: float = 1
) -> None:
    """At most twice the error of eager PyTorch in the same dtype, plus four roundings of the largest value; one more
    where results are truncated instead of rounded, or products rounded before they are added. All of it times `slack`
    in sweeps: of thousands of drawn problems, eager is better than its rounding errors in some by luck."""
    assert ours.shape == exact.shape, what
    assert ours.dtype == eager.dtype, what
    if not exact.numel():
        return
    exact = exact.to(ours.device)
    roundings = 5 if coarse else 4
    bound = 2 * (eager.double() - exact).abs().max() + roundings * torch.finfo(ours.dtype).eps * exact.abs().max()
    bound = slack * bound
    error = (ours.double() - exact).abs().max()
    assert error <= bound, f"{what}: error {error:.3e} above {bound:.3e}"
    if exact.abs().max() > 0:
        assert ours.abs().max() > 0, f"{what} is all zeros"


def raw_arguments(operator: str, tensors: Arguments, options: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What the private ops of a kernel get for these arguments: (forward, what backward gets after saved tensors)."""
    captured: list[Any] = []
    original = _operator._references[operator]

    def spy(*args: Any) -> Any:
        captured.extend(args)
        return original(*args)

    _operator._references[operator] = spy
    try:
        invoke(operator, tensors, options, "reference")
    finally:
        _operator._references[operator] = original
    needs = [[tensor is not None for tensor in tensors.values()]] if _operator._masked[operator] else []
    return [*captured, *([True] * _operator._saving[operator])], [*captured[len(tensors) :], *needs]


def runs(*, compiled_only: bool = False, every_dtype: bool = True) -> list[tuple[str, str, str, torch.dtype]]:
    """Every (operator, backend, device, dtype) that exists here.

    Without `every_dtype`, what Triton's interpreter runs is left out but for float32: it takes seconds a call, and
    what does not look at values goes the same way in every dtype.
    """
    return [
        (operator, backend, device, dtype)
        for operator in PROBLEMS
        for backend in backends.NAMES
        for device in DEVICES
        for dtype in DTYPES
        if not backends.why_not(operator, backend, device, [dtype])
        if not (compiled_only and backend == "reference")
        if every_dtype or dtype is torch.float32 or not (backend == "triton" and device == "cpu")
    ]


def check_against_float64(operator: str, backend: str, device: str, dtype: torch.dtype, case: Case) -> None:
    """Outputs and gradients of one case, by the project's tolerance."""
    tensors, options = arguments(operator, case)
    rounded = cast(tensors, dtype, device)
    exact = run(operator, cast(rounded, torch.float64, "cpu"), options, "reference")
    eager = run(operator, rounded, options, "reference")
    ours = eager if backend == "reference" else run(operator, rounded, options, backend)
    assert ours.keys() == exact.keys()
    for what, value in ours.items():
        coarse = truncates(backend, device, dtype) or rounds_twice(backend)
        assert_as_good_as_eager(what, value, eager[what], exact[what], coarse=coarse)
