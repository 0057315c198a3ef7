"""Every C++ source with every compiler that README promises and that is here: no error, no warning."""

import os
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


@pytest.mark.exhaustive
@every_compiler
def test_runtime(compiler: str) -> None:
    isas = ",".join(extension.build_facts()["isa_flags"])
    flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-Icsrc", f"-DLKOPS_BUILT={isas}"]
    sources = [str(path.relative_to(ROOT)) for path in ROOT.glob("csrc/runtime/*.cpp")]
    assert len(sources) > 3
    for source in sources:
        done = run(compiler, *flags, "-c", source, "-o", os.devnull)
        assert done.returncode == 0, done.stderr


CHOICE = """
#include <cstdio>
#include "common/isa.h"
namespace lkops {
struct Kernels { const char* isa; };
LKOPS_DECLARE_TABLES(Kernels, kProducts, Products);  // a room with bfloat16 products, and one without
LKOPS_DECLARE_TABLES(Kernels, kRoom, Floats);
#define TABLE(table, name) extern const Kernels table##name = {#name};
#define TABLES(name, word, ...) TABLE(kProducts, name) TABLE(kRoom, name)
LKOPS_ISAS(TABLES, )
}
int main() {
  std::printf("%s %s %s", lkops::name_of(lkops::chosen_isa()), LKOPS_CHOOSE(lkops::kProducts).isa,
              LKOPS_CHOOSE(lkops::kRoom).isa);
}
"""
NAMES = {"Portable": "portable", "Avx2": "avx2", "Avx512": "avx512", "Avx512Bf16": "avx512_bf16"}
BUILDS = ["Portable", "Portable,Avx2", "Portable,Avx512", "Portable,Avx2,Avx512", "Portable,Avx2,Avx512Bf16"]
BUILDS += ["Portable,Avx2,Avx512,Avx512Bf16", "Avx2", "Avx512Bf16", "Avx2,Avx512Bf16"]


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
@pytest.mark.parametrize("build", BUILDS)
def test_the_chosen_instruction_set_is_the_one_that_runs(build: str, tmp_path: Path) -> None:
    """Also in a build that holds some only: no set stands in for one that is chosen, and the widest of those that the
    CPU has is chosen by itself. Only where a room has no code of its own for a set, the room's widest does."""
    (tmp_path / "choice.cpp").write_text(CHOICE)
    built = build.split(",")
    have = f"-DLKOPS_BUILT={build}"
    sources = [str(tmp_path / "choice.cpp"), "csrc/common/isa.cpp"]
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-Icsrc", have]
    done = run("g++", *flags, *sources, "-o", str(tmp_path / "x"))
    assert done.returncode == 0, done.stderr
    supported = extension.cpu_facts().get("cpu_supports", ["portable"])
    usable = [isa for isa in built if NAMES[isa] in supported]
    own = {isa: "Avx512" if isa == "Avx512Bf16" else isa for isa in built}
    for isa in usable:
        assert run(str(tmp_path / "x"), LKOPS_CPU_ISA=NAMES[isa]).stdout.split() == [NAMES[isa], isa, own[isa]]
    if usable:
        widest = usable[-1]
        assert run(str(tmp_path / "x")).stdout.split() == [NAMES[widest], widest, own[widest]]


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
def test_a_build_for_a_wider_cpu_says_so(tmp_path: Path) -> None:
    """The same on a CPU that has none of the features: as where an environment is copied to another machine."""
    (tmp_path / "x.cpp").write_text(
        '#include <cstdio>\n#include "common/isa.h"\nint main() { std::puts(lkops::isa_choice().error.c_str()); }\n'
    )
    flags = ["-std=c++17", "-Icsrc", "-DLKOPS_BUILT=Avx2", "-D__builtin_cpu_supports(feature)=0"]
    done = run("g++", *flags, str(tmp_path / "x.cpp"), "csrc/common/isa.cpp", "-o", str(tmp_path / "x"))
    assert done.returncode == 0, done.stderr
    error = run(str(tmp_path / "x")).stdout
    assert error.startswith("this build holds no kernels for this CPU: compiled in (LKOPS_ISAS when it was built)")
    assert ": avx2; CPU: portable; build it on this machine, or with LKOPS_ISAS=all" in error


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
    """Its cpu.h says that it has code with products, or else with floats alone."""
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
