"""Processes of `bench.cpu.edge`: an environment with lkedge's wheel, a provider at work, the program in C."""

import fcntl
import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bench.cpu.edge_worker import PROVIDERS

ROOT = Path(__file__).parents[2]
PATIENCE = 300.0  # seconds for a provider's answer
PAUSE = 0.01  # seconds until the threads of the provider before have gone to sleep


def setup_py(*arguments: str) -> str:
    """The last line of what `python edge/setup.py ...` says.

    Raises:
        RuntimeError: it failed.
    """
    with tempfile.TemporaryDirectory() as elsewhere:
        command = [sys.executable, str(ROOT / "edge" / "setup.py"), "-q", "egg_info", "--egg-base", elsewhere]
        done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"edge/setup.py failed: {' '.join(done.stderr.split())[-400:]}")
    return (done.stdout.splitlines() or [""])[-1]


def library(*options: str) -> Path:
    """liblkops.so, built where it is not current."""
    return ROOT / setup_py("library", *options).rpartition(":")[0]


def wheel(folder: Path) -> Path:
    """lkedge's, built into a folder."""
    base = ("build", "--build-base", str(folder / "base"))
    setup_py(*base, "bdist_wheel", "--dist-dir", str(folder), "--bdist-dir", str(folder / "bdist"))
    (made,) = folder.glob("lkedge-*.whl")
    return made


def fresh_python(folder: Path, made: Path) -> Path:
    """Python of an environment with this wheel, which finds the packages of this one, but runs nothing of theirs."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip())
    with zipfile.ZipFile(made) as zipped:
        zipped.extractall(packages)
    (packages / "others.pth").write_text(f"{Path(np.__file__).parents[1]}\n")
    return python


def installed_bytes(folder: Path) -> int:
    """Of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class Worker:
    """A provider in a process of its own (`bench.cpu.edge_worker`), which has made its first image.

    Args:
        python: the interpreter.
        provider: a name of `bench.cpu.edge_worker.PROVIDERS`, or of lkedge.
        network, lowres: its files.
        threads: of a call.
        tunables: of glibc's allocator.

    Attributes:
        marks: what the worker says of its start; "started" is when the process was.
        image: its first.

    Raises:
        RuntimeError: it ended, with the end of what it said, or gave no answer in `PATIENCE`.
    """

    def __init__(
        self, python: Path, provider: str, network: str, lowres: Path, threads: int, tunables: str | None = None
    ) -> None:
        self.provider = provider
        name = provider if provider in PROVIDERS else provider.split()[0]
        env = {key: value for key, value in os.environ.items() if key not in ("GLIBC_TUNABLES", "PYTHONPATH")}
        env |= {"OMP_NUM_THREADS": str(threads)} | ({"GLIBC_TUNABLES": tunables} if tunables else {})
        if name.startswith("torch"):
            env["PYTHONPATH"] = str(ROOT)
        script = str(Path(__file__).with_name("edge_worker.py"))
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  as long as the process
        with tempfile.TemporaryDirectory() as folder:
            image = Path(folder) / "image.npy"
            command = [str(python), script, name, network, str(lowres), str(image), str(threads)]
            started = time.monotonic()
            self._process: Any = subprocess.Popen(
                command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
            )
            self.marks: dict[str, float] = {"started": started, **self._answer()}
            self.image = np.load(image)

    def _answer(self) -> Any:
        timer = threading.Timer(PATIENCE, self._process.kill)
        timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        if not line:
            self.close()
            self._errors.seek(0)
            said = " ".join(self._errors.read().decode(errors="replace").split())[-300:]
            raise RuntimeError(f"{self.provider} ended with {self._process.returncode}: {said}")
        return json.loads(line)

    def turn(self, seconds: float) -> list[float]:
        """The times of some calls."""
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        taken: list[float] = self._answer()
        return taken

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Timed(Protocol):
    """What `in_turns` times."""

    def turn(self, seconds: float) -> list[float]: ...


def in_turns(workers: Mapping[str, Timed], seconds: float, *, turn: float = 0.03, least: int = 3) -> dict[str, Any]:
    """Times of the calls of each, in turns, the order turned round, for about so many seconds together."""
    times: dict[str, list[float]] = {name: [] for name in workers}
    order, end, rounds = list(workers), time.monotonic() + seconds, 0
    while rounds < least or time.monotonic() < end:
        for name in order:
            times[name] += workers[name].turn(turn)
            time.sleep(PAUSE)
        order.reverse()
        rounds += 1
    return times


def compiled_example(folder: Path, own: Path) -> Path:
    """examples/edge/main.c with this liblkops.so.

    Raises:
        RuntimeError: there is no C compiler, or it fails.
    """
    program, where = folder / "enlarge", str(own.parent)
    flags = ["-O2", f"-I{where}", f"-L{where}", f"-Wl,-rpath,{where}", "-llkops", "-o", str(program)]
    try:
        done = subprocess.run(["cc", str(ROOT / "examples/edge/main.c"), *flags], capture_output=True, text=True)
    except OSError as error:
        raise RuntimeError(f"no C compiler: {error}") from None
    if done.returncode:
        raise RuntimeError(f"the example in C does not compile: {' '.join(done.stderr.split())[-300:]}")
    return program


def run_example(program: Path, network: str, lowres: np.ndarray, folder: Path, threads: int) -> tuple[float, int, Any]:
    """Seconds from the start of the process until it writes its image, resident bytes at the peak, and the image.

    Raises:
        RuntimeError: it ended without an image.
    """
    raw, pipe = folder / "lowres.raw", folder / "image.fifo"
    lowres.tofile(raw)
    if not pipe.exists():
        os.mkfifo(pipe)
    rows, columns = lowres.shape[1:]
    words: Sequence[str] = (network, str(rows), str(columns), str(raw), str(pipe), str(threads))
    start = time.monotonic()
    process = subprocess.Popen([str(program), *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, 4096)  # the smallest: no image fits
    try:
        while True:  # it opens the pipe, and writes when it is done: then it waits for what reads
            ready = select.select([descriptor], [], [], 0.05)[0]
            first = _some(descriptor) if ready else b""
            seconds = time.monotonic() - start
            if first:
                break
            if process.poll() is not None or seconds > PATIENCE:
                process.kill()
                _, said = process.communicate()
                raise RuntimeError(f"the example in C ended with {process.returncode}: {said.decode()[-300:]}")
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))
        os.set_blocking(descriptor, True)
        parts = [first]
        while part := os.read(descriptor, 1 << 20):
            parts.append(part)
    finally:
        os.close(descriptor)
    process.communicate()
    return seconds, peak, np.frombuffer(b"".join(parts), np.float32)


def _some(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except BlockingIOError:
        return b""
