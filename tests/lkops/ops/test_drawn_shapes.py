"""Values and gradients of drawn problems, for each operator, backend and dtype on the CPU; the C++ kernels with one
thread and two, and with every instruction set that is here. Seeds are fixed, and a failure names its own:
`check_drawn(operator, backend, dtype, drawn(operator, seed))` repeats it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lkops._core.extension import extension_error
from tests.lkops import isas
from tests.lkops.ops.drawing import check_drawn, drawn
from tests.lkops.ops.harness import runs

pytestmark = pytest.mark.exhaustive

RUNS = [run for run in runs() if run[2] == "cpu"]
DRAWS = {"cpu": 50, "triton": 20, "reference": 20}


def name_of(value: object) -> str:
    return str(value).removeprefix("torch.")


@pytest.mark.parametrize(("operator", "backend", "device", "dtype"), RUNS, ids=name_of)
def test_drawn_problems(operator, backend, device, dtype) -> None:
    if backend == "cpu" and "LKOPS_CPU_ISA" not in os.environ:
        pytest.skip("in a process of its own for each instruction set, below")
    failed = []
    for index in range(DRAWS[backend]):
        problem = drawn(operator, f"{name_of(dtype)} {index}", tiny=backend == "triton")
        try:
            check_drawn(operator, backend, dtype, problem)
        except Exception as error:
            failed.append(f"{problem}\n    {type(error).__name__}: {error}")
    assert not failed, "\n".join([f"{len(failed)} of {DRAWS[backend]}", *failed])


@pytest.mark.skipif(bool(extension_error("_C_cpu")), reason="no C++ kernels here")
@pytest.mark.skipif("LKOPS_CPU_ISA" in os.environ, reason="one instruction set was asked for")
@pytest.mark.parametrize("isa", isas.NAMES)
def test_drawn_problems_with_every_instruction_set(isa: str) -> None:
    """In a process of its own, since the choice is made once."""
    if reason := isas.why_not(isa):
        pytest.skip(reason)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "problems and cpu-cpu", __file__],
        # threads that spin while they wait take ages where other tests have the cores
        env={**os.environ, "LKOPS_CPU_ISA": isa, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    count = len([run for run in runs() if run[1:3] == ("cpu", "cpu")])  # every operator and dtype of these kernels
    assert f"{count} passed" in done.stdout, done.stdout
