"""The pieces of the GPU gate: the build, the tests, and the rows in worker processes that may hang or die."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.gpu import worker as gpu_worker
from lkops._core import extension

ROOT = Path(__file__).parents[2]
LATE = "no time was left"


def _environment(dry: bool) -> dict[str, str]:
    """The caller's, without what would make operators run on another backend than users get."""
    env = {key: value for key, value in os.environ.items() if key not in ("TRITON_INTERPRET", "LKOPS_BACKEND")}
    env["OMP_NUM_THREADS"] = "1" if dry else "4"
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), env.get("PYTHONPATH"))))
    return env | ({"TRITON_INTERPRET": "1"} if dry else {})


@contextmanager
def running(command: list[str], output: Any, *, dry: bool, **more: str) -> "Iterator[subprocess.Popen[bytes]]":
    """A process whose children end with it, at the latest when the block ends; `more` goes into its environment."""
    env = _environment(dry) | more
    process = subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _last(text: str, length: int = 200) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip("= ")[:length] if lines else "no output"


def first_line(*command: str) -> str:
    """Of what a program prints; empty where it is not there."""
    try:
        lines = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.splitlines()
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return lines[0].strip() if lines else ""


def _has_nvcc() -> bool:
    """Without it the gate is one of Triton's kernels, and the cuda backend says why it is not there."""
    homes = [home for name in ("CUDA_HOME", "CUDA_PATH") if (home := os.environ.get(name))]
    folders = [str(Path(home) / "bin") for home in homes] or [os.environ.get("PATH", ""), "/usr/local/cuda/bin"]
    return shutil.which("nvcc", path=os.pathsep.join(folders)) is not None


def build(*, dry: bool) -> dict[str, Any]:
    """Use the compiled kernels that are here if they load and have CUDA, where there are sources and nvcc for it; else
    build them. A dry run builds nothing."""
    facts = {key: extension.build_facts().get(key) for key in ("torch", "cuda", "why_no_cuda")}
    error = extension.extension_error("_C_cpu")
    sources = any((ROOT / "csrc").rglob("*.cu")) and _has_nvcc()
    if not error and not facts["cuda"] and sources:
        error = f"built without CUDA: {facts['why_no_cuda']}"
    elif not error and sources:
        error = extension.extension_error("_C_cuda")
    if not error:
        return {"ok": True, "reason": "an extension is there and loads", "facts": facts}
    if dry:
        return {"ok": True, "reason": f"nothing is built in a dry run; the extension: {error}", "facts": facts}
    start = time.monotonic()
    # in place: site-packages may be read-only; without CUDA sources a toolkit need not be here
    env = {**_environment(dry), "LKOPS_CUDA": "1" if sources else "auto", "LKOPS_BUILD": "1"}
    if torch.cuda.is_available():  # for this GPU alone, in a third of the time
        env.setdefault("TORCH_CUDA_ARCH_LIST", ".".join(map(str, torch.cuda.get_device_capability())))
    code = "import json; from lkops._core import extension as e; "
    code += f"names = ['_C_cpu', *['_C_cuda'] * {sources}]; "
    code += "print(json.dumps(['; '.join(filter(None, map(e.extension_error, names))), e.build_facts()]))"
    said = ""
    for command in (["setup.py", "-q", "build_ext", "--inplace"], ["-c", code]):
        try:
            done = subprocess.run(
                [sys.executable, *command], cwd=ROOT, env=env, capture_output=True, text=True, timeout=240
            )
        except subprocess.TimeoutExpired:
            return {"ok": False, "reason": "not done within 240 s", "facts": facts}
        if done.returncode:
            return {"ok": False, "reason": _last(done.stderr), "log": done.stderr[-2000:], "facts": facts}
        said = _last(done.stdout, length=10_000)
    error, built = json.loads(said)
    facts = {key: built.get(key) for key in facts}
    took = f"built in {time.monotonic() - start:.0f} s with LKOPS_CUDA={env['LKOPS_CUDA']}"
    return {"ok": not error, "reason": error or took, "facts": facts}


def _unfinished(text: str, seconds: float) -> dict[str, Any]:
    """What pytest's dots say of tests that had no time to end: failed so far, or only late."""
    dots = "".join(re.findall(r"^[.FEsxX]+(?= *(?:\[ *\d+%\])?$)", text, re.MULTILINE))
    failed = dots.count("F") + dots.count("E")
    reason = f"not done within {seconds:.0f} s; until then {dots.count('.')} passed, {failed} failed"
    return {"reason": reason, "late": not failed}


def tests(log: Path, seconds: float, *, dry: bool) -> dict[str, Any]:
    """The contract of every backend on the GPU; what pytest prints goes into `log`."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    if dry:  # a sample, in the interpreter
        command += [
            "tests/lkops/ops/test_contract.py",
            "-k",
            "test_values_and_gradients and triton-cpu-float32-one_pixel",
        ]
    else:
        if subprocess.run([sys.executable, "-c", "import xdist"], capture_output=True).returncode == 0:
            command += ["-n", str(max(2, min(8, (os.cpu_count() or 2) // 2)))]
        command += [
            "tests/lkops",
            "tests/lkcanet/inference/test_inference.py",
            "--ignore",
            "tests/lkops/build/test_build.py",
        ]
        command += ["-m", "not slow", "-k", "cuda or any_shape"]  # what runs on the CPU only is CI's
    start = time.monotonic()
    with log.open("w") as file, running(command, file, dry=dry) as process:
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return {"ok": False, "seconds": round(seconds, 1), **_unfinished(log.read_text(), seconds)}
    last = _last(log.read_text())
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    ok = status == 0 and counts.get("passed", 0) > 0
    return {"ok": ok, "reason": last, "seconds": round(time.monotonic() - start, 1), **counts}


def cascade(seconds: float, *, dry: bool) -> dict[str, Any]:
    """The cuda backend against triton: what `bench.gpu.cascade` writes, or the reason why there is nothing."""
    if dry:
        return {"reason": "a dry run"}
    with tempfile.TemporaryDirectory() as folder:
        out, output = Path(folder) / "out.json", Path(folder) / "output"
        with (
            output.open("w") as file,
            running([sys.executable, "-m", "bench.gpu.cascade", str(out)], file, dry=dry) as process,
        ):
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                return {"reason": f"not done within {seconds:.0f} s", "late": True}
        if not out.exists():
            return {"reason": _last(output.read_text())}
        found: dict[str, Any] = json.loads(out.read_text())
        return found


def _command(
    events: Path, units: list[str], *, dry: bool, limits: bool = False, compile_only: bool = False
) -> list[str]:
    flags = {"--dry-run": dry, "--limits": limits, "--compile-only": compile_only}
    worker = [sys.executable, "-m", "bench.gpu.worker", str(events), "--units", *units]
    return [*worker, *(flag for flag, on in flags.items() if on)]


@contextmanager
def preparing(units: list[str], wanted: bool) -> Iterator[None]:
    """Within the block, fill the caches of compilers on disk in a process beside it, so that rows spend their time
    timing."""
    if not wanted:
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        command = _command(Path(folder) / "events", units, dry=False, compile_only=True)
        with running(command, subprocess.DEVNULL, dry=False):
            yield


Tell = Callable[[dict[str, Any]], None]


def bench(units: list[str], tell: Tell, deadline: float, seconds: Callable[[str], float], *, dry: bool) -> None:
    """Run the rows; `tell` hears every event of the worker, and "failed" for a row that hung, died or came too late.

    Args:
        units: "row:dtype", in order.
        tell: called with events as `bench.gpu.worker` writes them; "late" in one says that only time was missing.
        deadline: of `time.monotonic`, after which nothing is started or left running.
        seconds: of a unit ("" before the first), after which a worker that has told nothing new is ended; the next
            one goes on with the next unit.
        dry: see `bench.gpu`.
    """
    todo, limits = list(units), True
    while todo:
        with tempfile.TemporaryDirectory() as folder:
            events, output = Path(folder) / "events", Path(folder) / "output"
            events.touch()
            command = _command(events, todo, dry=dry, limits=limits)
            with output.open("w") as file, running(command, file, dry=dry) as process:
                heard = _watch(process, events, tell, deadline, seconds)
            todo = todo[heard.finished :]
            error = heard.why or f"it died: {_last(output.read_text())}"
            late = {"late": True} if heard.why == LATE else {}
            # of units that were not begun only the first, where otherwise the next worker would do the same again
            if todo and heard.unit:
                tell({"event": "failed", "unit": todo.pop(0), "error": error, **late})
            elif todo and not heard.finished and heard.ready and limits:
                tell({"event": "limits_failed", "error": error})
            elif todo and not heard.finished and not late:
                tell({"event": "failed", "unit": todo.pop(0), "error": error})
            limits = False
        if time.monotonic() > deadline:
            for unit in todo:
                tell({"event": "failed", "unit": unit, "error": LATE, "late": True})
            return


@dataclass
class _Heard:
    """What a worker told until its end: whether it came up, how many units it finished, which it was at (""
    between them), and why it had to be ended."""

    ready: bool = False
    finished: int = 0
    unit: str = ""
    why: str = ""


def _watch(
    process: "subprocess.Popen[bytes]",
    events: Path,
    tell: Tell,
    deadline: float,
    seconds: Callable[[str], float],
) -> _Heard:
    """Follow a worker to its end."""
    heard = _Heard()
    since, position = time.monotonic(), 0
    while True:
        over = process.poll() is not None
        with events.open() as file:
            file.seek(position)
            while (line := file.readline()).endswith("\n"):
                position, since = file.tell(), time.monotonic()
                event = json.loads(line)
                heard.ready = True
                if event["event"] == "start":
                    heard.unit = event["unit"]
                elif event["event"] in ("result", "failed"):
                    heard.finished, heard.unit = heard.finished + 1, ""
                tell(event)
        now = time.monotonic()
        if over:
            return heard
        if now > deadline:
            heard.why = LATE
            return heard
        if now - since > seconds(heard.unit):
            heard.why = f"nothing new within {seconds(heard.unit):.0f} s"
            return heard
        time.sleep(0.05)


def bench_here(units: list[str], tell: Tell, *, dry: bool) -> None:
    """The same in this process, without limits of time."""
    with tempfile.TemporaryDirectory() as folder:
        events = Path(folder) / "events"
        gpu_worker.work(events, units, dry=dry, compile_only=False, limits=True)
        for line in events.read_text().splitlines():
            tell(json.loads(line))
