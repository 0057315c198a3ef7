"""What setup.py compiles for which processor, asked with a compiler that only tells its machine."""

import json
import platform
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.lkops.build.building import ROOMS, ROOT, isas_of, python

COMPILER = f"""#!{sys.executable}
import sys
print({{"-dumpmachine": "MACHINE", "--version": "c++ 14.0.0"}}[sys.argv[1]])
"""
ASK = """
import importlib.util, json
spec = importlib.util.spec_from_file_location("lkops_setup", "setup.py")
setup = importlib.util.module_from_spec(spec)
spec.loader.exec_module(setup)
commands = [(target.name, command) for command, target in setup.cpu_kernels()]
print(json.dumps({"flags": setup.isa_flags(), "objects": str(setup.objects()), "commands": commands}))
"""
pytestmark = pytest.mark.skipif(not (ROOT / "csrc").is_dir(), reason="no csrc beside these tests")


def asked(machine: str, folder: Path) -> Any:
    compiler = folder / "c++"
    compiler.write_text(COMPILER.replace("MACHINE", machine))
    compiler.chmod(0o755)
    done = python("-c", ASK, CXX=str(compiler), LKOPS_ISAS="all")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("machine", ["aarch64-linux-gnu", "aarch64-redhat-linux", "arm64-apple-darwin"])
def test_arm_has_products_of_its_own(machine: str, tmp_path: Path) -> None:
    """The portable kernels are NEON's: what an aarch64 compiler has without an option."""
    told = asked(machine, tmp_path)
    march = "-march=armv8.2-a+dotprod"
    assert told["flags"] == {"Portable": [], "NeonDotprod": [march], "NeonBf16": [f"{march}+bf16+i8mm"]}
    assert machine.partition("-")[0] in told["objects"]
    isas = list(told["flags"])
    expected = {f"{room}_{isa.lower()}.o": isa for room in ROOMS for isa in isas_of(room, isas, "aarch64")}
    assert "conv2d_neonbf16.o" in expected
    assert "spectral_losses_neonbf16.o" not in expected
    assert dict(told["commands"]).keys() == expected.keys()
    for name, command in told["commands"]:
        assert f"-DLKOPS_ISA={expected[name]}" in command
        assert [word for word in command if word.startswith("-m")] == told["flags"][expected[name]]


def test_other_machines_have_the_portable_kernels_alone(tmp_path: Path) -> None:
    told = asked("riscv64-linux-gnu", tmp_path)
    assert told["flags"] == {"Portable": []}
    assert sorted(name for name, _ in told["commands"]) == [f"{room}_portable.o" for room in ROOMS]


@pytest.mark.parametrize("machine", ["x86_64-linux-gnu", "amd64-portbld-freebsd14.0"])
def test_x86_has_all(machine: str, tmp_path: Path) -> None:
    told = asked(machine, tmp_path)
    assert list(told["flags"]) == ["Portable", "Avx2", "Avx512", "Avx512Bf16"]
    assert told["flags"]["Portable"] == []
    assert told["flags"]["Avx2"] == ["-mavx2", "-mfma", "-mf16c"]
    assert told["flags"]["Avx512Bf16"][-2:] == ["-mavx512bf16", "-mavx512vnni"]
    by_name = dict(told["commands"])
    for room in ROOMS:
        assert {f"{room}_portable.o", f"{room}_avx2.o", f"{room}_avx512.o"} <= by_name.keys()
        assert "-mavx2" in by_name[f"{room}_avx2.o"]
        assert "-mavx512f" not in by_name[f"{room}_avx2.o"]


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="this machine has one instruction set")
def test_a_compiler_that_does_not_know_this_machine(tmp_path: Path) -> None:
    """No build of the narrowest set without a word."""
    compiler = tmp_path / "c++"
    compiler.write_text(COMPILER.replace("MACHINE", "x86_64-linux-gnu"))
    compiler.chmod(0o755)
    done = python("-c", ASK, CXX=str(compiler), LKOPS_ISAS="native")
    assert done.returncode
    assert f"LKOPS_ISAS=native: {compiler} -march=native" in done.stderr
