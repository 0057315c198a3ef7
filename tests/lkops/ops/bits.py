"""Bits of the C++ kernels: hashes of outputs and gradients on fixed inputs, for each instruction set.

    python -m tests.lkops.ops.bits            print those of this process' instruction set (LKOPS_CPU_ISA) as JSON
    python -m tests.lkops.ops.bits --write    those of every instruction set, into bits.json

A change of the layout, of schemas or of bindings must leave bits.json as it is; who changes what a kernel computes
writes it anew, and says so.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor

from lkops.testing import Draw, Example, arguments, cast, run
from tests.lkops import isas
from tests.lkops.ops.harness import OPERATORS, cases

FILE = Path(__file__).with_name("bits.json")
DTYPES = (torch.float32, torch.bfloat16)
# beside the small cases of every operator, sizes that reach the vectors' middle and several tasks
LARGER = {
    "interleaved",
    "dilated",
    "winograd",
    "larger",
    "apart",
    "relaxed",
    "strided",
    "grouped",
    "several_tiles_unaligned",
    "several_blocks",
    "many_pixels",
    "large",
}
SMALL = {"plain", "prime", "one_row", "no_bias", "torch", "scale_3"}


class Uniform(Draw):
    """Numbers in [-2, 2) of 24 bits, from integers: the same on every CPU, as `torch.randn` is not."""

    def __call__(self, *shape: int, scale: float = 1.0) -> Tensor:
        whole = torch.randint(0, 2**24, shape, generator=self.generator)
        return scale * (whole.double() / 2**22 - 2)


def hashed(operator: str) -> list[Example]:
    return [case for case in cases(operator) if case.name in LARGER | SMALL]


def digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()[:16]


def found() -> dict[str, dict[str, str]]:
    """Hash of every output and gradient, by operator, case and dtype."""
    result = {}
    for operator in OPERATORS:
        for case in hashed(operator):
            tensors, options = arguments(operator, case, Uniform())
            for dtype in DTYPES:
                values = run(operator, cast(tensors, dtype), options, "cpu", Uniform(1))
                key = f"{operator} {case.name} {str(dtype).removeprefix('torch.')}"
                result[key] = {what: digest(value) for what, value in values.items()}
    return result


def of(isa: str) -> dict[str, dict[str, str]]:
    """What a process of this instruction set finds."""
    env = {**os.environ, "LKOPS_CPU_ISA": isa, "OMP_NUM_THREADS": "2"}
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-m", "tests.lkops.ops.bits"], env=env, cwd=root, capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr
    result: dict[str, dict[str, str]] = json.loads(done.stdout)
    return result


if __name__ == "__main__":
    if "--write" in sys.argv:
        missing = [reason for isa in isas.NAMES if (reason := isas.why_not(isa))]
        if missing:
            raise SystemExit(f"bits.json would lose instruction sets: {'; '.join(missing)}")
        FILE.write_text(json.dumps({isa: of(isa) for isa in isas.NAMES}, indent=1) + "\n")
    else:
        json.dump(found(), sys.stdout)
