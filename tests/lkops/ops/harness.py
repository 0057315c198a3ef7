"""Which (operator, backend, dtype) exist here, and the arguments of the private ops; the rest is `lkops.testing`."""

from collections.abc import Mapping
from typing import Any

import torch

from lkops import backends
from lkops.testing import Arguments, Example, examples, operator

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
DEVICES = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
OPERATORS = backends.operators()
# what the other tensors' sizes follow from; all else of a case is an option of the public function
_SIZES = {"groups", "kernels", "outputs", "side", "bands", "mean", "empty_spectra", "hidden"}


def cases(name: str) -> tuple[Example, ...]:
    """The examples of an operator that tests run."""
    return examples(name).of("small", "awkward")


def case_of(
    name: str, shape: tuple[int, ...], given: Mapping[str, Any] | None = None, without: tuple[str, ...] = ()
) -> Example:
    """An example of a test's own; `given` has its options and sizes."""
    n, c, h, w = shape
    options = {key: value for key, value in (given or {}).items() if key not in _SIZES}
    sizes = {key: value for key, value in (given or {}).items() if key in _SIZES}
    return Example(name, (n, c, h, w), options, sizes, without)


def raw_arguments(name: str, tensors: Arguments, options: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What the private ops of a kernel get for these arguments: (forward, what backward gets after saved tensors)."""
    found = operator(name)
    direct = found.raw(**tensors, **options)
    needs = [tensor is not None for tensor in direct.tensors]
    return [*direct.tensors, *direct.options, *found.telling(True)], [*direct.options, *found.masking(needs)]


def runs(*, compiled_only: bool = False, every_dtype: bool = True) -> list[tuple[str, str, str, torch.dtype]]:
    """Every (operator, backend, device, dtype) that exists here.

    Without `every_dtype`, what Triton's interpreter runs is left out but for float32: it takes seconds a call, and
    what does not look at values goes the same way in every dtype.
    """
    return [
        (name, backend, device, dtype)
        for name in OPERATORS
        for backend in backends.NAMES
        for device in DEVICES
        for dtype in DTYPES
        if not backends.why_not(name, backend, device, [dtype])
        if not (compiled_only and backend == "reference")
        if every_dtype or dtype is torch.float32 or not (backend == "triton" and device == "cpu")
    ]
