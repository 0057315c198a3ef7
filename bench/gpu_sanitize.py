"""Compute-sanitizer on a few small cases of every Triton kernel: memcheck and racecheck, side by side.

`python -m bench.gpu_sanitize` runs the cases alone; `sanitize` starts that under the tools.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import lkops
from lkops import backends

ROOT = Path(__file__).parents[1]
TOOLS = ("memcheck", "racecheck")
DONE = "all cases ran"
FOUND = 77  # exit status for errors that a tool found
_REFUSED = ("not supported", "Unable to", "not compatible", "insufficient", "InitializationError")


def cases(device: str) -> int:
    """Forward and backward of every operator that has Triton kernels, small and of odd sizes; returns how many ran."""
    sys.path.insert(0, str(ROOT))
    from tests.lkops.harness import cast, run
    from tests.lkops.problems import arguments, case_named

    ran = 0
    for operator in lkops.backends.operators():
        for dtype, case in ((torch.float32, "prime"), (torch.bfloat16, "plain")):
            if not backends.why_not(operator, "triton", device, [dtype]):
                tensors, options = arguments(operator, case_named(operator, case))
                run(operator, cast(tensors, dtype, device), options, "triton")
                ran += 1
    if device == "cuda":
        torch.cuda.synchronize()
    return ran


def _tool() -> str | None:
    homes = [os.environ.get("CUDA_HOME", ""), "/usr/local/cuda"]
    folders = [os.environ.get("PATH", ""), *(f"{home}/{sub}" for home in homes for sub in ("bin", "compute-sanitizer"))]
    return shutil.which("compute-sanitizer", path=os.pathsep.join(folders))


def verdict(tool: str, status: int | None, output: str, seconds: float) -> dict[str, Any]:
    """What became of one run: "passed", "failed" or "unavailable", with the reason."""
    lines = [line.strip("= ") for line in output.splitlines() if line.strip("= ")]
    refused = next((line for line in lines if any(word in line for word in _REFUSED)), None)
    summary = next((line for line in reversed(lines) if "SUMMARY" in line), "")
    result = {"tool": tool, "seconds": round(seconds, 1)}
    if status is None:
        return result | {"status": "unavailable", "reason": f"not done within {seconds:.0f} s"}
    if refused and DONE not in output:
        return result | {"status": "unavailable", "reason": refused[:200]}
    errors = re.search(r"SUMMARY: (\d+)", summary)
    if status == FOUND or (errors and int(errors[1])):
        return result | {"status": "failed", "reason": summary or f"exit status {status}"}
    if DONE in output and errors:
        return result | {"status": "passed", "reason": summary}
    last = lines[-1][:200] if lines else "no output"
    return result | {"status": "unavailable", "reason": f"exit status {status}: {last}"}


def sanitize(log: Path, seconds: float, *, dry: bool) -> list[dict[str, Any]]:
    """Run the cases under each tool; without a GPU alone, to see that they run. The tools' words go into `log`."""
    command = [sys.executable, "-m", "bench.gpu_sanitize"]
    if dry:
        dry_env = {**os.environ, "TRITON_INTERPRET": "1"}
        done = subprocess.run([*command, "cpu"], cwd=ROOT, env=dry_env, capture_output=True, text=True, timeout=seconds)
        log.write_text(done.stdout + done.stderr)
        if DONE not in done.stdout:
            return [{"tool": "none", "status": "failed", "reason": (done.stderr.splitlines() or ["no output"])[-1]}]
        return [
            {"tool": t, "status": "unavailable", "reason": "dry run: the cases ran without the tool"} for t in TOOLS
        ]
    if (tool := _tool()) is None:
        return [{"tool": t, "status": "unavailable", "reason": "compute-sanitizer is not installed"} for t in TOOLS]
    env = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}  # with the cache, one tensor's end is another's start
    start, runs = time.monotonic(), []
    for name in TOOLS:
        output = tempfile.TemporaryFile("w+")  # noqa: SIM115  read when the process has ended
        options = ["--tool", name, "--error-exitcode", str(FOUND), "--report-api-errors", "no"]
        process = subprocess.Popen([tool, *options, *command], cwd=ROOT, env=env, stdout=output, stderr=output)
        runs.append((name, process, output))
    results, said = [], []
    for name, process, output in runs:
        try:
            status: int | None = process.wait(max(start + seconds - time.monotonic(), 1))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            status = None
        output.seek(0)
        text = output.read()
        said.append(f"{name}\n{text}\n")
        results.append(verdict(name, status, text, time.monotonic() - start))
    log.write_text("".join(said)[-200_000:])
    return results


if __name__ == "__main__":
    print(f"{DONE}: {cases(sys.argv[1] if len(sys.argv) > 1 else 'cuda')}", flush=True)
