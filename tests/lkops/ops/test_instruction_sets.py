"""The C++ kernels with every instruction set that this build and this CPU have."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lkops._core.extension import cpu_facts, extension_error
from tests.lkops import isas

if extension_error("_C_cpu"):
    pytest.skip(extension_error("_C_cpu"), allow_module_level=True)


@pytest.mark.exhaustive
@pytest.mark.parametrize("isa", isas.NAMES)
def test_every_instruction_set(isa: str) -> None:
    """The contract and the kernels' own tests again in a process of its own, since the choice is made once."""
    facts = cpu_facts()
    if facts["isa"] == isa or "LKOPS_CPU_ISA" in os.environ:
        pytest.skip("the other tests run with it, or this is such a process already")
    if reason := isas.why_not(isa):
        pytest.skip(reason)
    here = Path(__file__).parent
    # of the tests of single kernels, the files that call C++ ones; without what runs in Triton's interpreter
    own = [path for path in sorted(here.glob("test_*_kernel.py")) if "_cpu_fwd" in path.read_text()]
    chosen = "not reference and not triton and not cuda and not configuration"
    options = ["-q", "-x", "-p", "no:cacheprovider", "-k", chosen]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *map(str, [here / "test_contract.py", here / "test_nan.py", *own])],
        env={
            **os.environ,
            "LKOPS_CPU_ISA": isa,
            "OMP_NUM_THREADS": "1",
        },  # small problems; tests set threads themselves
        cwd=here.parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
