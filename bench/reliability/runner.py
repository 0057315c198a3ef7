"""Runs a case and says how it ended."""

import hashlib
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from lkcanet.data import PROTOCOLS

from .inputs import TINY

REFUSED, UNAFFECTED, CHANGED, FAILED = "refused", "unaffected", "value changed", "FAILED"
LIMIT = 30.0  # seconds; the slowest takes about one on an idle machine


@dataclass(frozen=True)
class Place:
    """Where a case lives: what it damages, where it puts the result, where commands are told to write."""

    good: Path
    inputs: Path
    outputs: Path


@dataclass(frozen=True)
class Case:
    """One malformed input.

    Attributes:
        kind: the row of the table.
        name: tells the cases apart.
        make: writes the input into `place.inputs`; returns the command line.
        unaffected: whether what the command read is what it reads from the good input; for cases that may succeed.
        allowed: how it may end.
    """

    kind: str
    name: str
    make: Callable[[Place], list[Any]]
    unaffected: Callable[[Place], bool] | None = None
    allowed: frozenset[str] = frozenset({REFUSED})


@dataclass(frozen=True)
class Outcome:
    """How a case ended: one of the four above, and for FAILED the reason; otherwise the message."""

    case: Case
    end: str
    text: str
    seconds: float


def run(case: Case, good: Path, folder: Path) -> Outcome:
    """Run a case in a new folder below `folder`, which is removed after."""
    from typer.testing import CliRunner

    from lkcanet.cli import build_app

    root = Path(tempfile.mkdtemp(dir=folder))
    place = Place(good, root / "in", root / "out")
    place.inputs.mkdir()
    place.outputs.mkdir()
    try:
        arguments = [str(argument) for argument in case.make(place)]
        # a result that is there already must survive an error
        for argument in arguments:
            path = Path(argument)
            if path.parent == place.outputs and path.suffix and len(case.name) % 2:
                path.write_bytes(b"before")
        before = _files(place.inputs), _files(place.outputs)
        start = time.perf_counter()
        with _native_errors() as native, patch.dict(PROTOCOLS, {TINY.name: TINY}):
            result = CliRunner().invoke(build_app(), arguments)
        seconds = time.perf_counter() - start
        after = _files(place.inputs), _files(place.outputs)
        end, text = _judge(case, place, result, native, before, after)
        if seconds > LIMIT:
            end, text = FAILED, f"took {seconds:.0f} s"
        return Outcome(case, end, text.replace(str(root), "...").replace(str(good), "..."), seconds)
    finally:
        shutil.rmtree(root)


def _judge(
    case: Case, place: Place, result: Any, native: list[str], before: tuple[Any, Any], after: tuple[Any, Any]
) -> tuple[str, str]:
    lines = result.stderr.strip().splitlines()
    last = lines[-1] if lines else ""
    if "Traceback" in result.stderr or not isinstance(result.exception, (SystemExit, type(None))):
        return FAILED, f"traceback: {last or result.exception!r}"
    if native[0].strip():
        return FAILED, f"a library printed: {native[0].strip()[:200]}"
    if before[0] != after[0]:
        return FAILED, "changed its input"
    if result.exit_code:
        problem = ""
        if result.exit_code not in (1, 2):
            problem = f"exit code {result.exit_code}"
        elif [line.startswith("error: ") for line in lines].count(True) != 1 or not last.startswith("error: "):
            problem = "not one error line"
        elif not all(re.match("(note|warning|error): ", line) for line in lines):
            problem = "lines that are neither note, warning nor error"
        elif len(last) > 1000 or not last.removeprefix("error:").strip():
            problem = "an empty or endless message"
        elif result.stdout:
            problem = f"printed {result.stdout[:100]!r} before the error"
        elif before[1] != after[1]:
            problem = f"left {sorted(set(after[1].items()) ^ set(before[1].items()))}"
        elif REFUSED not in case.allowed:
            problem = "refused"
        return (FAILED, f"{problem}: {result.stderr[-300:]}") if problem else (REFUSED, last)
    end = UNAFFECTED if case.unaffected is not None and case.unaffected(place) else CHANGED
    if end not in case.allowed:
        return FAILED, f"succeeded: {(result.stdout or result.stderr)[:300]!r}"
    if any(path.rpartition("/")[2].startswith(".") for path in after[1]):
        return FAILED, f"left {sorted(after[1])}"
    return end, last


def _files(folder: Path) -> dict[str, str]:
    """Every file below a folder, temporary ones included, with a digest; folders with an empty one."""
    return {
        str(path.relative_to(folder)): "" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
    }


@contextmanager
def _native_errors() -> Iterator[list[str]]:
    """What libraries in C print to stderr, past Python: HDF5, PNG and TIFF libraries do."""
    found = [""]
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield found
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            found[0] = file.read().decode(errors="replace")
