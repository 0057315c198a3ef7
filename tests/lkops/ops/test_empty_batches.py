"""Batches of nothing, as wide as networks are, with one thread and with two.

A kernel that divides by a share of no work ends the process: so all of it runs in a process of its own, which says
before each case what comes.
"""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.lkops.ops.harness import OPERATORS

ROOT = Path(__file__).parents[3]

PROGRAM = """
    import json, sys
    import torch
    from lkops.testing import arguments, cast, examples, run
    from tests.lkops.ops.harness import OPERATORS, case_of, runs

    threads, wanted = int(sys.argv[1]), json.loads(sys.argv[2])
    torch.set_num_threads(threads)
    assert torch.get_num_threads() == threads
    for operator, backend, device, dtype in runs():
        if operator not in wanted:
            continue
        options = examples(operator)["zero_batch"].options
        for channels in (1, 4, 64, 128, 192, 256):
            if channels == 1 and operator in ("large_kernel_channel_attention", "lk_block"):
                options = {**options, "groups": 1}
            for height, width in ((5, 7), (16, 16), (64, 64)):
                case = case_of("", (0, channels, height, width), options)
                print(operator, backend, device, dtype, channels, height, width, flush=True)
                tensors, given = arguments(operator, case)
                results = run(operator, cast(tensors, dtype, device), given, backend)
                for what, value in results.items():
                    assert not value.any(), what  # empty, or a sum or a mean over nothing
            options = examples(operator)["zero_batch"].options
    print("done")
"""


@pytest.mark.wide(most=1)
@pytest.mark.parametrize("threads", [2, 1, 3])
def test_every_operator_backend_dtype_and_width(threads: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(threads), json.dumps(list(OPERATORS))],
        env={**os.environ, "TRITON_INTERPRET": os.environ.get("TRITON_INTERPRET", "1")},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    said = done.stdout.splitlines() or ["nothing"]
    assert done.returncode == 0, f"exit status {done.returncode} at: {said[-1]}\n{done.stderr[-2000:]}"
    assert said[-1] == "done"
    assert {line.split()[0] for line in said[:-1]} == set(OPERATORS)
