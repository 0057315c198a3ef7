"""Compute-sanitizer on a few small cases that reach every Triton and every CUDA kernel: its four tools, side by side.

`python -m bench.gpu.sanitize` runs the cases alone; `sanitize` starts that under the tools.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from bench.gpu.run import ROOT, running
from lkops import backends, testing

# the options that all tools take, and each one's own
OPTIONS = ("--target-processes", "application-only", "--print-limit", "20", "--show-backtrace", "no")
TOOLS: dict[str, tuple[str, ...]] = {
    "memcheck": ("--report-api-errors", "no"),
    "racecheck": (),
    "initcheck": (),
    "synccheck": (),
}
STARTED, DONE = "the GPU is in use", "all cases ran"
FOUND = 77  # exit status for errors that a tool found
_REFUSED = ("not supported", "Unable to", "not compatible", "insufficient", "InitializationError")
_RACES = r"\((\d+) errors?, (\d+) warnings?\)"


def chosen(*, quick: bool = False) -> Iterator[tuple[str, torch.dtype, str]]:
    """Operator, dtype and the name of a case of lkops.testing: small ones of odd sizes that together reach every Triton
    kernel; `quick` ones only show that they run. Operators without kernels for a GPU are left out."""
    for operator in backends.operators():
        if "triton" not in testing.operator(operator).kernels:
            continue
        if quick:
            yield operator, torch.float32, "one_pixel"
            continue
        yield operator, torch.float32, "prime"
        yield operator, torch.bfloat16, "plain"
    if not quick:  # the kernels of planes that one program does not hold
        yield "large_kernel_channel_attention", torch.float32, "large_planes"


def cases(device: str) -> int:
    """Forward and backward of the chosen cases, as far as kernels of a GPU run them here; returns how many ran."""
    sys.path.insert(0, str(ROOT))
    from lkops.testing import arguments, cast, examples, run

    if device == "cuda":
        torch.ones(3, device=device).sum().item()
    print(STARTED, flush=True)
    ran = 0
    for operator, dtype, case in chosen(quick=device == "cpu"):
        for backend in ("triton", "cuda"):
            if not backends.why_not(operator, backend, device, [dtype]):
                tensors, options = arguments(operator, examples(operator)[case])
                run(operator, cast(tensors, dtype, device), options, backend)
                ran += 1
    if device == "cuda":
        torch.cuda.synchronize()
    return ran


def _tool() -> str | None:
    homes = [os.environ.get("CUDA_HOME", ""), "/usr/local/cuda"]
    folders = [os.environ.get("PATH", ""), *(f"{home}/{sub}" for home in homes for sub in ("bin", "compute-sanitizer"))]
    return shutil.which("compute-sanitizer", path=os.pathsep.join(folders))


def verdict(tool: str, status: int | None, output: str, seconds: float) -> dict[str, Any]:
    """What became of one run: "passed", "failed" or "unavailable", with the reason.

    What the tool found counts whatever else happened. Else a tool that refuses, or is not done, is unavailable; a case
    that raises although the GPU could be used before it has failed.

    Args:
        tool: of `TOOLS`.
        status: exit status; None if the time was over.
        output: of the tool and of the cases.
        seconds: how long it ran.
    """
    result = {"tool": tool, "seconds": round(seconds, 1)}
    lines = [line for line in output.splitlines() if line.strip("= ")]
    mine = [line for line in lines if not line.startswith("=")]
    summary = next((line.strip("= ") for line in reversed(lines) if "SUMMARY" in line), "")
    count, races = re.search(r"SUMMARY: (\d+)", summary), re.search(_RACES, summary)
    errors = int(races[1]) if races else int(count[1]) if count else 0
    warned = races is not None and not errors and int(races[2]) > 0
    report = next((n for n in lines if "Invalid __" in n or ("Race reported" in n and "Warning" not in n)), "")
    if report or errors or (status == FOUND and not warned):
        reason = summary if errors else report.strip("= ") or summary or f"exit status {status}"
        return result | {"status": "failed", "reason": reason[:200]}
    # once the GPU is in use, such words of a case's own error are not the tool's
    told = [line for line in lines if line.startswith("=")] if STARTED in output else lines
    refused = next((line.strip("= ") for line in told if any(word in line for word in _REFUSED)), None)
    if refused and DONE not in output:
        return result | {"status": "unavailable", "reason": refused[:200]}
    if status is None:
        return result | {"status": "unavailable", "reason": f"not done within {seconds:.0f} s"}
    if DONE in output and count:
        return result | {"status": "passed", "reason": summary}
    reason = f"exit status {status}: {(mine or lines or ['no output'])[-1].strip('= ')[:200]}"
    raised = STARTED in output and "Traceback" in output
    return result | {"status": "failed" if raised else "unavailable", "reason": reason}


def _dry(command: list[str], log: Path, seconds: float) -> list[dict[str, Any]]:
    with log.open("w") as file, running([*command, "cpu"], file, dry=True) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            return [{"tool": "none", "status": "failed", "reason": f"not done within {seconds:.0f} s"}]
    said = log.read_text()
    if DONE not in said:
        return [{"tool": "none", "status": "failed", "reason": (said.splitlines() or ["no output"])[-1]}]
    return [{"tool": t, "status": "unavailable", "reason": "dry run: cases ran without the tool"} for t in TOOLS]


def sanitize(log: Path, seconds: float, *, dry: bool) -> list[dict[str, Any]]:
    """Run the cases under each tool; without a GPU alone, to see that they run. The tools' words go into `log`."""
    command = [sys.executable, "-m", "bench.gpu.sanitize"]
    if dry:
        return _dry(command, log, seconds)
    if (tool := _tool()) is None:
        return [{"tool": t, "status": "unavailable", "reason": "compute-sanitizer is not installed"} for t in TOOLS]
    # with the cache of memory, one tensor's end is another's start
    start, uncached = time.monotonic(), {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    ends: dict[str, tuple[int | None, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        outputs = {name: Path(folder) / name for name in TOOLS}
        with ExitStack() as stack:
            processes = {}
            for name, own in TOOLS.items():
                file = stack.enter_context(outputs[name].open("w"))
                under = [tool, "--tool", name, "--error-exitcode", str(FOUND), *OPTIONS, *own, *command]
                processes[name] = stack.enter_context(running(under, file, dry=False, **uncached))
            for name, process in processes.items():
                try:
                    status: int | None = process.wait(max(start + seconds - time.monotonic(), 1))
                except subprocess.TimeoutExpired:
                    status = None
                ends[name] = status, time.monotonic() - start
        said = {name: path.read_text(errors="replace") for name, path in outputs.items()}
    log.write_text("".join(f"{name}\n{text[-100_000:]}\n" for name, text in said.items()))
    return [verdict(name, status, said[name], took) for name, (status, took) in ends.items()]


if __name__ == "__main__":
    print(f"{DONE}: {cases(sys.argv[1] if len(sys.argv) > 1 else 'cuda')}", flush=True)
