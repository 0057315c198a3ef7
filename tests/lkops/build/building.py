"""What the tests of the build share: a copy of the sources, and the commands that setup.py would run."""

import functools
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
SETTINGS = ("LKOPS_BUILD", "LKOPS_ISAS", "LKOPS_CUDA", "LKOPS_CPU_ISA", "CUDA_HOME", "CUDA_PATH")
SETTINGS += ("TORCH_CUDA_ARCH_LIST",)
NVCC = shutil.which("nvcc", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/cuda/bin")))
NAMES_OF_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
ROOMS = sorted(path.parent.name for path in (ROOT / "csrc").glob("*/cpu.cpp"))


def run(*command: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name not in SETTINGS} | variables
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)


def python(*arguments: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, *arguments, cwd=cwd, **variables)


def copy_sources(to: Path) -> Path:
    """What a build reads, since building writes into it; it builds without optimising, which takes a tenth of the
    time."""
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, to)
    for name in ("csrc", "lkops", "lkcanet", "tests"):
        leave = shutil.ignore_patterns("*.so", "__pycache__", "_build_facts.json")
        shutil.copytree(ROOT / name, to / name, ignore=leave)
    setup = to / "setup.py"
    text = setup.read_text()
    assert text.count('"-O3"') == text.count('"-O2"') == 1
    setup.write_text(text.replace('"-O3"', '"-O0"').replace('"-O2"', '"-O0"'))
    return to


@functools.cache
def compilers() -> dict[str, str]:
    """The C++ compilers on the path that README promises: versions by name, each once."""
    found: dict[str, str] = {}
    seen = set()
    names = ["c++", "g++", "clang++", *(f"g++-{n}" for n in range(11, 20)), *(f"clang++-{n}" for n in range(14, 30))]
    for name in names:
        if (path := shutil.which(name)) is None:
            continue
        version = run(name, "-dumpversion").stdout.strip()
        family = "clang" if "clang" in run(name, "--version").stdout else "gcc"
        major = int(version.partition(".")[0])
        if major >= {"gcc": 11, "clang": 14}[family] and (family, version) not in seen:
            seen.add((family, version))
            found[path] = f"{family} {version}"
    return found


def isa_list(machine: str | None = None) -> str:
    """What csrc/common/isas has for a machine, by default this one."""
    name = (machine or platform.machine()).lower()
    path = ROOT / "csrc/common/isas" / f"{NAMES_OF_MACHINES.get(name, name)}.h"
    return (path if path.exists() else path.with_name("other.h")).read_text()


def isas_of(room: str, isas: list[str], machine: str | None = None) -> list[str]:
    """The instruction sets among `isas`, from the narrowest, that a room of csrc has tables for on a machine."""
    (code,) = set(tables_of(room).values())
    widest = re.search(rf"^#define LKOPS_WIDEST_OF_{code} (\w+)$", isa_list(machine), re.MULTILINE)
    assert widest
    return isas[: isas.index(widest[1]) + 1]


def tables_of(room: str) -> dict[str, str]:
    """The tables that a room of csrc declares, and what code each is of: Floats or Products."""
    found: dict[str, str] = {}
    for path in (ROOT / "csrc" / room).glob("*.h"):
        declared = re.findall(r"^LKOPS_DECLARE_TABLES\(\w+, (k\w+), (\w+)\);$", path.read_text(), re.MULTILINE)
        assert path.name != "cpu.h" or declared, f"csrc/{room}/cpu.h declares no tables"
        found |= declared
    return found


def binding_command(headers: list[Path]) -> list[str]:
    """Flags to check a binding with, warnings as errors; torch's headers are those of the folders given."""
    text = (ROOT / "setup.py").read_text()
    version = re.search(r'^TORCH_TARGET_VERSION = "(\w+)"', text, re.MULTILINE)
    assert version
    isas = re.findall(r"^  X\((\w+), \w+, __VA_ARGS__\)", isa_list(), re.MULTILINE)
    flags = ["-std=c++20", "-fsyntax-only", "-fvisibility=hidden", "-Wall", "-Werror", "-DPy_LIMITED_API=0x030a0000"]
    flags += [f"-DTORCH_TARGET_VERSION={version[1]}", f"-DLKOPS_BUILT={','.join(isas)}", f"-I{ROOT / 'csrc'}"]
    return [*flags, *(f"-isystem{folder}" for folder in headers)]
