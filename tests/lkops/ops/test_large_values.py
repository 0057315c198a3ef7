"""Inputs near the end of a float's range, through every operator and its gradients.

The rule: where PyTorch's own float32 gives a finite number, so does a kernel, and as good a one; where PyTorch
overflows on the way, a kernel gives no finite number either, or the right one. Kernels round and sum in another order,
so the sizes below are such that no sum ends within a factor of its terms' number of the largest float.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lkops._core.extension import cpu_facts, extension_error
from lkops.testing import Draw, arguments, cast, examples, run
from tests.lkops import isas
from tests.lkops.ops.harness import case_of, runs

SIZES = (1e10, 1e16, 1e22, 1e28, 1e33, 1e36)
COMPILED = [run for run in runs(compiled_only=True, every_dtype=False) if run[2] == "cpu"]


def large(operator: str, size: float, alike: bool) -> tuple[dict, dict]:
    """An operator's plain case with an image so large; `alike`: that is the same in all channels."""
    case = examples(operator)["plain"]
    case = case_of(case.name, (2, 12, 5, 6), case.options)
    tensors, options = arguments(operator, case)
    for name in ("prediction", "target") if operator == "spectral_losses" else tuple(tensors)[:1]:
        image = tensors[name]
        assert image is not None
        tensors[name] = size * (Draw()(image.shape[0], 1, *image.shape[2:]).expand_as(image) if alike else image)
    return tensors, options


def assert_finite_where_eager_is(what: str, ours: torch.Tensor, eager: torch.Tensor, exact: torch.Tensor) -> None:
    """The tolerance is twice the project's: this is about range, and truncation and double rounding are in it."""
    finite = eager.isfinite()
    assert ours[finite].isfinite().all(), f"{what}: not finite where eager is"
    size = float(exact.abs().max())
    roundings = 16 * torch.finfo(ours.dtype).eps * size
    if finite.any():
        bound = 4 * float((eager[finite].double() - exact[finite]).abs().max()) + roundings
        error = float((ours[finite].double() - exact[finite]).abs().max())
        assert error <= bound, f"{what}: error {error:.3e} above {bound:.3e}"
    others = ~finite & ours.isfinite()
    torch.testing.assert_close(ours[others].double(), exact[others], rtol=0.02, atol=roundings, msg=f"{what}: wrong")


@pytest.mark.parametrize("alike", [False, True], ids=["unlike", "alike"])
@pytest.mark.parametrize(("operator", "backend", "device", "dtype"), COMPILED)
def test_large_images(operator, backend, device, dtype, alike) -> None:
    if alike and operator == "spectral_losses":
        pytest.skip("the angle between parallel spectra is all cancellation")
    sizes = SIZES if backend == "cpu" else (SIZES[3], SIZES[5])  # interpreted: seconds a call
    if (operator, backend) == ("large_kernel_channel_attention", "triton"):
        # a channel's scale goes into the mix's gradient after a sum of squares of the image, which overflows; where it
        # does, so do the gate's gradients in PyTorch
        sizes = SIZES[:2]
    for size in sizes:
        tensors, options = large(operator, size, alike)
        rounded = cast(tensors, dtype)
        exact = run(operator, cast(rounded, torch.float64), options, "reference")
        eager = run(operator, rounded, options, "reference")
        for what, value in run(operator, rounded, options, backend).items():
            assert_finite_where_eager_is(f"{size:g}: {what}", value, eager[what], exact[what])


@pytest.mark.skipif(bool(extension_error("_C_cpu")), reason=extension_error("_C_cpu") or "C++ kernels")
@pytest.mark.exhaustive
@pytest.mark.parametrize("isa", isas.NAMES)
def test_large_images_with_every_instruction_set(isa: str) -> None:
    facts = cpu_facts()
    if facts["isa"] == isa or "LKOPS_CPU_ISA" in os.environ:
        pytest.skip("the test above runs with it, or this is such a process already")
    if reason := isas.why_not(isa):
        pytest.skip(reason)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", "not triton", __file__],
        env={**os.environ, "LKOPS_CPU_ISA": isa, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
