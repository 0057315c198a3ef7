"""Kernels and runtime for ARM, by a cross-compiler, run under qemu: their tests without torch, and the example in C."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.lkops.build.building import ROOMS, ROOT, isa_list, isas_of, run

COMPILER, CC = "aarch64-linux-gnu-g++", "aarch64-linux-gnu-gcc"
QEMU = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static") or "qemu-aarch64"
FLAGS = ("-std=c++17", "-O1", "-ffp-contract=off", "-Wall", "-Wextra", "-Wno-psabi", "-Icsrc", "-Itests/csrc")
DOTPROD = "-march=armv8.2-a+dotprod"  # as setup.py has them: test_target_machine.py
ISAS = {"Portable": (), "NeonDotprod": (DOTPROD,), "NeonBf16": (f"{DOTPROD}+bf16+i8mm",)}
BUILT = f"-DLKOPS_BUILT={','.join(ISAS)}"
# CPUs that qemu knows, the widest that each has, and the features that it is known by
CPUS = {
    "cortex-a72": ("portable", set()),
    "cortex-a76": ("neon_dotprod", {"dotprod"}),
    "max": ("neon_bf16", {"dotprod", "bf16", "i8mm"}),
}
pytestmark = [
    pytest.mark.skipif(not (ROOT / "csrc").is_dir(), reason="no csrc beside these tests"),
    pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"no {COMPILER}"),
    pytest.mark.skipif(shutil.which(QEMU) is None, reason=f"no {QEMU}"),
]


def kernels(*rooms: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """What to compile of each: the source, the name of the object, the flags."""
    for room in rooms:
        for isa in isas_of(room, list(ISAS), "aarch64"):
            yield f"csrc/{room}/cpu.cpp", f"{room}_{isa}", (*ISAS[isa], f"-DLKOPS_ISA={isa}")


def program_of(rooms: list[str], sources: list[str], folder: Path) -> str:
    """The tests of these sources, with the kernels of these rooms."""
    others = [*sources, "tests/csrc/main.cpp", "csrc/common/isa.cpp"]
    work = [*kernels(*rooms), *((source, source.replace("/", "_"), (BUILT,)) for source in others)]

    def compiled(source: str, name: str, flags: tuple[str, ...]) -> str:
        done = run(COMPILER, *FLAGS, *flags, "-c", source, "-o", str(folder / f"{name}.o"))
        assert done.returncode == 0, done.stderr
        assert "warning" not in done.stderr
        return str(folder / f"{name}.o")

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compiled, *zip(*work, strict=True)))
    done = run(COMPILER, "-static", "-pthread", *objects, "-o", str(folder / "tests"))
    assert done.returncode == 0, done.stderr
    return str(folder / "tests")


def check(program: str, cpu: str) -> None:
    """No test fails on a CPU that qemu knows, each with every instruction set that it has."""
    done = run(QEMU, "-cpu", cpu, program)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert " 0 failures" in done.stdout.splitlines()[-1]
    widest = list(CPUS).index(cpu)
    for i, (isa, _) in enumerate(CPUS.values()):
        assert (f" {isa} " in done.stdout) == (i <= widest)


@pytest.mark.slow
def test_a_room(tmp_path: Path) -> None:
    """A small one that has shuffles, partial loads and bfloat16's products."""
    program = program_of(["norm_conv1x1_gelu"], ["tests/csrc/test_norm_conv1x1_gelu.cpp"], tmp_path)
    for cpu in CPUS:
        check(program, cpu)


def instructions(room: str, isa: str, folder: Path) -> list[str]:
    target = folder / f"{isa}.s"
    done = run(COMPILER, *FLAGS, *ISAS[isa], f"-DLKOPS_ISA={isa}", "-S", f"csrc/{room}/cpu.cpp", "-o", str(target))
    assert done.returncode == 0, done.stderr
    return re.findall(r"^\t([a-z]\w*\tv?)", target.read_text(), re.MULTILINE)


@pytest.mark.slow
def test_products_are_those_of_neon(tmp_path: Path) -> None:
    """One rounding a product, 4 lanes in one instruction, as the baseline of aarch64 has them."""
    found = instructions("norm_conv1x1_gelu", "Portable", tmp_path)
    assert found.count("fmla\tv") > 100  # none where fma is a product and a sum
    assert "fsqrt\tv" in found
    assert "bfdot\tv" not in found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("isa", "has", "lacks"),
    [
        ("Portable", (), ("sdot\tv", "usdot\tv", "bfdot\tv")),
        ("NeonDotprod", ("sdot\tv",), ("usdot\tv", "bfdot\tv")),
        ("NeonBf16", ("usdot\tv", "bfdot\tv"), ("sdot\tv",)),
    ],
)
def test_products_have_their_instructions(isa: str, has: tuple[str], lacks: tuple[str], tmp_path: Path) -> None:
    """bfloat16 and whole numbers, in the upsampler, which has both."""
    found = instructions("upsample_add", isa, tmp_path)
    assert all(found.count(name) > 20 for name in has)
    assert not any(name in found for name in lacks)


FACTS = """
#include <cstdio>
#include "common/isa.h"
int main() { std::puts(lkops::cpu_facts_json().c_str()); }
"""


@pytest.mark.slow
def test_what_a_cpu_has_is_asked_at_load(tmp_path: Path) -> None:
    (tmp_path / "facts.cpp").write_text(FACTS)
    program = str(tmp_path / "facts")
    sources = [str(tmp_path / "facts.cpp"), "csrc/common/isa.cpp"]
    done = run(COMPILER, "-static", "-std=c++17", "-Icsrc", BUILT, *sources, "-o", program)
    assert done.returncode == 0, done.stderr
    names = set(re.findall(r"^  X\((\w+), \w+, \w+, own\)", isa_list("aarch64"), re.MULTILINE))
    assert names == CPUS["max"][1]
    for cpu, (isa, features) in CPUS.items():
        told = run(QEMU, "-cpu", cpu, program).stdout
        assert f'"isa": "{isa}"' in told
        for name in names:
            assert f'"{name}": {str(name in features).lower()}' in told
    refused = run(QEMU, "-cpu", "cortex-a72", "-E", "LKOPS_CPU_ISA=neon_bf16", program).stdout
    assert '"isa": "neon_bf16"' in refused  # and whoever wants kernels gets an error
    assert '"cpu_supports": ["portable"]' in refused


@pytest.mark.exhaustive
def test_every_room_and_the_runtime(tmp_path: Path) -> None:
    runtime = [str(path.relative_to(ROOT)) for path in (ROOT / "csrc/runtime").glob("*.cpp")]
    own = [path for path in (ROOT / "tests/csrc").glob("*.cpp") if not path.name.startswith(("main", "cuda_"))]
    tests = [str(path.relative_to(ROOT)) for path in own]
    check(program_of(ROOMS, [*runtime, *tests], tmp_path), "max")


@pytest.mark.exhaustive
def test_library_and_example(tmp_path: Path) -> None:
    """The library that a drone gets makes the image that this machine's makes, up to rounding, and on every CPU the
    same: in float32 bit for bit; in whole numbers too where features are multiplied as floats."""
    np = pytest.importorskip("numpy", reason="numpy is not installed")
    torch = pytest.importorskip("torch")
    from lkcanet.deploy.edge import export_edge
    from lkcanet.models import LKCANet

    torch.manual_seed(0)
    model = LKCANet(6, 2, 64, 2, reduction=8).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    image = np.random.default_rng(0).random((6, 9, 14), np.float32)
    image.tofile(tmp_path / "lowres.raw")
    env = {**os.environ, "CXX": COMPILER, "LKOPS_ISAS": "all"}
    command = [sys.executable, "edge/setup.py", "-q", "library"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folder, program = str(ROOT / "build/edge/aarch64"), str(tmp_path / "enlarge")
    done = run(CC, "examples/edge/main.c", f"-I{folder}", f"-L{folder}", "-llkops", "-o", program)
    assert done.returncode == 0, done.stderr
    made = {}
    for dtype in ("float32", "bfloat16", "int8"):
        export_edge(model, tmp_path / "net.lkops", dtype=dtype, check=False)
        for cpu, (isa, _) in CPUS.items():
            emulated = (QEMU, "-cpu", cpu, "-L", "/usr/aarch64-linux-gnu", "-E", f"LD_LIBRARY_PATH={folder}")
            words = ("net.lkops", "9", "14", "lowres.raw", "image.raw", "2")
            done = run(*emulated, program, *words, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
            assert done.stdout == f"6 bands, x2, {isa}\n"
            made[dtype, isa] = np.fromfile(tmp_path / "image.raw", np.float32).reshape(6, 18, 28)
    with torch.no_grad():
        exact = model.fold().double()(torch.from_numpy(image)[None].double())[0].numpy()
    for (dtype, isa), result in made.items():
        largest = {"float32": 2e-6, "bfloat16": 0.02, "int8": 0.1}[dtype]
        assert np.abs(result - exact).max() < largest * np.abs(exact).max(), (dtype, isa)
        if dtype == "float32" or isa == "neon_dotprod":
            assert np.array_equal(result, made[dtype, "portable"]), (dtype, isa)
        elif isa == "neon_bf16":
            assert not np.array_equal(result, made[dtype, "portable"]), "products of bfloat16 are of another kind"
