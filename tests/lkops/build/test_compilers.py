"""Every C++ source with every compiler that README promises and that is here: no error, no warning."""

import shutil
import sysconfig
from pathlib import Path

import pytest
from torch.utils.cpp_extension import include_paths

from lkops._core import extension
from tests.lkops.build.building import ROOMS, ROOT, binding_command, compilers, isas_of, run

pytestmark = [
    pytest.mark.skipif(not (ROOT / "csrc").is_dir(), reason="no csrc beside these tests"),
    pytest.mark.skipif(not compilers(), reason="no g++ >= 11 and no clang++ >= 14"),
    pytest.mark.skipif("isa_flags" not in extension.build_facts(), reason="no extension was built"),
]
every_compiler = pytest.mark.parametrize("compiler", compilers(), ids=compilers().get)


@pytest.mark.exhaustive
@pytest.mark.parametrize("room", ROOMS)
@every_compiler
def test_kernels(compiler: str, room: str, tmp_path: Path) -> None:
    """For every instruction set. gcc warns of more where it optimises: the widest is compiled so."""
    facts = extension.build_facts()
    flags = [flag for flag in facts["kernel_flags"] if flag != "-O3"]
    isas = isas_of(room, list(facts["isa_flags"]))
    assert isas[0] == "Portable"
    for isa in isas:
        optimise = "-O1" if isa == isas[-1] and compilers()[compiler].startswith("gcc") else "-O0"
        command = [compiler, optimise, "-Werror", *flags, *facts["isa_flags"][isa], f"-DLKOPS_ISA={isa}", "-Icsrc"]
        done = run(*command, "-c", f"csrc/{room}/cpu.cpp", "-o", str(tmp_path / "kernel.o"))
        assert done.returncode == 0, f"{isa}: {done.stderr}"


@pytest.mark.exhaustive
@pytest.mark.skipif(not Path(sysconfig.get_path("include"), "Python.h").exists(), reason="no headers of Python")
@every_compiler
def test_bindings(compiler: str) -> None:
    """With the headers of the torch that is installed."""
    command = binding_command([*map(Path, include_paths()), Path(sysconfig.get_path("include"))])
    sources = [
        str(path) for folder in ("bindings", "bindings/cuda", "common") for path in ROOT.glob(f"csrc/{folder}/*.cpp")
    ]
    assert len(sources) > 10
    done = run(compiler, *command, *sorted(sources))
    assert done.returncode == 0, done.stderr


CHOICE = """
#include <cstdio>
#include "common/isa.h"
const char *kRoomPortable = "Portable", *kRoomAvx2 = "Avx2", *kRoomAvx512 = "Avx512", *kRoomAvx512Bf16 = "Avx512Bf16";
int main() { std::printf("%s %s", lkops::name_of(lkops::chosen_isa()), LKOPS_CHOOSE(kRoom)); }
"""


@pytest.mark.parametrize("built", [[], ["Avx2"], ["Avx512"], ["Avx2", "Avx512"], ["Avx2", "Avx512", "Avx512Bf16"]])
def test_the_chosen_instruction_set_is_the_one_that_runs(built: list[str], tmp_path: Path) -> None:
    """Also in a build that holds some only: the portable kernels stand in for none."""
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    (tmp_path / "choice.cpp").write_text(CHOICE)
    have = [f"-DLKOPS_HAVE_{isa.upper()}" for isa in built]
    sources = [str(tmp_path / "choice.cpp"), "csrc/common/isa.cpp"]
    done = run("g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-Icsrc", *have, *sources, "-o", str(tmp_path / "x"))
    assert done.returncode == 0, done.stderr
    supported = extension.cpu_facts().get("cpu_supports", ["portable"])
    for isa in ["Portable", *built]:
        name = isa.lower().replace("bf16", "_bf16")
        if name in supported:
            assert run(str(tmp_path / "x"), LKOPS_CPU_ISA=name).stdout.split() == [name, isa]


def own_text(room: str, flags: list[str]) -> list[str]:
    """What the preprocessor leaves of the files in csrc."""
    command = ["g++", "-E", "-std=c++17", *flags, "-DLKOPS_ISA=Avx512", "-Icsrc", f"csrc/{room}/cpu.cpp"]
    done = run(*command)
    assert done.returncode == 0, done.stderr
    lines, is_own = [], False
    for line in done.stdout.splitlines():
        if line.startswith("# "):
            is_own = line.split('"')[1].startswith("csrc/")
        elif is_own:
            lines.append(line)
    return lines


needs_avx512 = pytest.mark.skipif(
    "Avx512Bf16" not in extension.build_facts().get("isa_flags", {}) or shutil.which("g++") is None,
    reason="no g++, or not x86-64",
)


@needs_avx512
@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_compiled_for_bfloat16_products_if_it_has_them(room: str) -> None:
    """Declare kRoomAvx512Bf16 in its cpu.h as the others do, or as the same table as kRoomAvx512."""
    flags = extension.build_facts()["isa_flags"]
    differs = own_text(room, flags["Avx512"]) != own_text(room, flags["Avx512Bf16"])
    assert differs == ("Avx512Bf16" in isas_of(room, list(flags)))


@pytest.mark.exhaustive
@needs_avx512
@pytest.mark.parametrize("room", ROOMS)
def test_what_is_compiled_once_is_the_same_code(room: str, tmp_path: Path) -> None:
    facts = extension.build_facts()
    if "Avx512Bf16" in isas_of(room, list(facts["isa_flags"])):
        pytest.skip("compiled for both")
    code = []
    for isa in ("Avx512", "Avx512Bf16"):
        target = tmp_path / f"{isa}.s"
        command = ["g++", *facts["kernel_flags"], *facts["isa_flags"][isa], "-DLKOPS_ISA=Avx512", "-Icsrc"]
        done = run(*command, "-S", f"csrc/{room}/cpu.cpp", "-o", str(target))
        assert done.returncode == 0, done.stderr
        code.append(target.read_text())
    assert len(code[0]) > 10000
    assert code[0] == code[1]
