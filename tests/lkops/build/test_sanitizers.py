"""Kernels without torch: tests/csrc, built and run under sanitizers. Objects stay in build/sanitize between runs."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from lkops._core import extension

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "tests" / "csrc"

pytestmark = [
    pytest.mark.skipif(not (ROOT / "csrc").is_dir() or not FOLDER.is_dir(), reason="no C++ sources beside these tests"),
    pytest.mark.skipif(shutil.which("make") is None, reason="no make"),
    pytest.mark.skipif(
        shutil.which(os.environ.get("CXX", "c++").split()[0]) is None, reason="no C++ compiler on the path or in CXX"
    ),
]


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name not in ("LKOPS_CPU_ISA", "MAKEFLAGS", "MAKELEVEL")}
    return subprocess.run(["make", "-s", "-C", str(FOLDER), *arguments], env=env, capture_output=True, text=True)


@pytest.mark.exhaustive
@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_kernels_under_sanitizer(sanitizer: str) -> None:
    works = make(f"works-{sanitizer}")
    if works.returncode:
        pytest.skip(f"{sanitizer} sanitizer: {works.stderr.strip()[-300:]}")
    jobs = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
    done = make(f"-j{min(jobs, 8)}", sanitizer)
    # names of cases come before what went wrong with them
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
    assert " 0 failures" in done.stdout.splitlines()[-1]


@pytest.mark.exhaustive
def test_many_damaged_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error, or a network that runs, and nothing else: the test above tries 1000."""
    works = make("works-address")
    if works.returncode:
        pytest.skip(f"address sanitizer: {works.stderr.strip()[-300:]}")
    monkeypatch.setenv("LKOPS_FUZZ", "20000")
    done = make("-j2", "address", "ONLY=runtime_fuzz")
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
    assert "of 20000 files" in done.stdout
    assert " 0 failures" in done.stdout.splitlines()[-1]


def test_instruction_sets_are_compiled_as_in_the_extension() -> None:
    facts = extension.build_facts()
    if "isa_flags" not in facts:
        pytest.skip("no extension was built")
    lines = [line.split() for line in make("flags").stdout.splitlines()]
    assert {isa: flags for isa, *flags in lines} == facts["isa_flags"]


def test_every_room_with_kernels_has_a_test() -> None:
    rooms = {path.parent.name for path in (ROOT / "csrc").glob("*/cpu.cpp")}
    assert rooms == {path.stem.removeprefix("test_") for path in FOLDER.glob("test_*.cpp")}
