"""What the Makefile runs to set up a fresh checkout: in which order, how often, and that a failure ends it."""

import shutil
from pathlib import Path

import pytest

from tests.lkops.build.building import ROOT, run

pytestmark = [
    pytest.mark.skipif(not (ROOT / "Makefile").exists(), reason="no Makefile beside these tests"),
    pytest.mark.skipif(shutil.which("make") is None, reason="no make"),
]
# in place of an environment's Python: writes down what it is asked to do, and fails where that holds $FAIL
PYTHON = """#!/bin/sh
echo "${LKOPS_ISAS:--} $*" >>"$(dirname "$0")/asked"
case "$*" in *"$FAIL"*) exit 3;; esac
"""


class Checkout:
    def __init__(self, folder: Path) -> None:
        self.env = folder / "env"
        self.asked = self.env / "bin/asked"
        self.asked.parent.mkdir(parents=True)
        (self.env / "bin/python").write_text(PYTHON)
        (self.env / "bin/python").chmod(0o755)

    def make(self, *words: str, fail: str = "no such words") -> tuple[int, list[str]]:
        """The status of `make`, and what Python was asked to do."""
        self.asked.unlink(missing_ok=True)
        # those of a make that runs this test are not this one's
        above = {"MAKEFLAGS": "", "MAKELEVEL": "", "MAKEOVERRIDES": "", "FAIL": fail}
        done = run("make", "-C", str(ROOT), f"VENV={self.env}", *words, **above)
        return done.returncode, self.asked.read_text().splitlines() if self.asked.exists() else []

    def stamps(self) -> set[str]:
        return {path.name for path in self.env.iterdir()} - {"bin"}


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_kernels_compile_beside_the_download_and_once(checkout: Checkout) -> None:
    ready = f"{checkout.env}/.installed-native"
    status, asked = checkout.make(ready)
    assert status == 0
    kernels, objects, torch = (
        next(index for index, line in enumerate(asked) if what in line) for what in ("kernels", "objects", "torch==")
    )
    assert max(kernels, torch) < objects
    assert "native setup.py kernels" in asked
    assert "[demo]" in "".join(asked), "no more than the demo needs"
    assert not any("[test]" in line or "[train]" in line for line in asked)
    assert checkout.make(ready) == (0, [])


@pytest.mark.parametrize("what", ["torch==", "setup.py kernels", "setup.py objects", "[demo]", "--no-deps -e ."])
def test_a_failure_ends_it_and_is_not_taken_for_done(checkout: Checkout, what: str) -> None:
    status, asked = checkout.make(f"{checkout.env}/.installed-native", fail=what)
    assert status != 0
    assert any(what in line for line in asked)
    assert not [stamp for stamp in checkout.stamps() if stamp.startswith(".installed")]


def test_all_tests_need_every_instruction_set_and_who_has_them_keeps_them(checkout: Checkout) -> None:
    status, asked = checkout.make("test-all")
    assert status == 0
    assert any(line.startswith("all -m pip") for line in asked)
    assert any("lkops[test]" in line for line in asked)
    assert ".installed-all" in checkout.stamps()
    status, asked = checkout.make("check")
    assert status == 0
    assert not any(line.startswith("native") or "-m pip" in line for line in asked)
    assert any("not slow and not exhaustive" in line for line in asked)
