"""setup.py, the compiled objects and the loader."""

import importlib
import json
import re
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

from lkops._core import extension, library
from tests.lkops import isas
from tests.lkops.build.building import NVCC, ROOMS, ROOT, copy_sources, isas_of, python, run, tables_of

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None or shutil.which("nm") is None, reason="no g++ or nm")
needs_extension = pytest.mark.skipif(
    bool(extension.extension_error("_C_cpu")), reason=extension.extension_error("_C_cpu")
)
needs_sources = pytest.mark.skipif(not (ROOT / "csrc").is_dir(), reason="no csrc beside these tests")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return copy_sources(tmp_path)


# ---- what was compiled ----------------------------------------------------------------------------------------------


def check_symbols(path: Path, room: str, isa: str) -> None:
    symbols = [line.split() for line in run("nm", "-C", "--extern-only", str(path)).stdout.splitlines()]
    defined = [symbol[-1] for symbol in symbols if symbol[-2] != "U"]
    assert all(symbol[-2] in "UDR" for symbol in symbols), f"weak or unique: {symbols}"
    assert sorted(defined) == sorted(f"lkops::{table}{isa}" for table in tables_of(room)), "its tables of functions"


@pytest.mark.exhaustive
@needs_compiler
@needs_extension
@needs_sources
def test_kernel_objects_hold_no_symbol_that_could_replace_another(tmp_path: Path) -> None:
    """Those of the build, where it left them, and unoptimised ones, which keep every function that a header defines."""
    facts = extension.build_facts()
    assert ROOMS
    flags = [flag for flag in facts["kernel_flags"] if flag != "-O3"]
    for room in ROOMS:
        for isa in isas_of(room, list(facts["isa_flags"])):
            target = tmp_path / f"{room}_{isa}.o"
            command = ["g++", "-O0", "-fno-exceptions", *flags, *facts["isa_flags"][isa], f"-DLKOPS_ISA={isa}"]
            done = run(*command, "-Icsrc", "-c", f"csrc/{room}/cpu.cpp", "-o", str(target))
            assert done.returncode == 0, done.stderr
            assert not done.stderr, f"warnings: {done.stderr}"
            check_symbols(target, room, isa)
            for built in ROOT.glob(f"build/objects/*/kernels/{room}_{isa.lower()}.o"):
                check_symbols(built, room, isa)


@needs_compiler
@needs_extension
def test_extension_needs_only_the_stable_abi_of_torch_and_python() -> None:
    path = importlib.import_module("lkops._C_cpu").__file__
    assert path is not None
    assert path.endswith(".abi3.so")
    undefined = run("nm", "-D", "--undefined-only", path).stdout.split()
    assert "torch_parallel_for" in undefined
    assert not [name for name in undefined if re.match(r"_Z\w*(2at|3c10|5torch)", name)]
    exported = [line.split()[-1] for line in run("nm", "-D", "--defined-only", path).stdout.splitlines()]
    assert not [name for name in exported if "lkops" in name], "kernels are private to the extension"


@needs_extension
def test_facts() -> None:
    build, cpu = extension.build_facts(), extension.cpu_facts()
    assert build["built"] is True
    assert build["torch_target_version"] == cpu["torch_target_version"] == "0x020a000000000000"
    assert {"torch", "python", "compiler", "why_no_cuda", "isa_flags", "kernel_flags"} <= build.keys()
    assert cpu["isa"] in cpu["compiled_in"]
    assert cpu["isa"] in cpu["cpu_supports"]
    assert cpu["compiled_in"] == build["isas"] == [isa for isa in isas.NAMES if isa in build["isas"]]
    wanted = {"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512bf16", "avx512vnni"}
    assert wanted == cpu["features"].keys()


# ---- the loader -----------------------------------------------------------------------------------------------------

# an editable install's finder would find the extension of the checkout for a copy of the package that has none
REPORT = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "Editable" not in repr(finder)]
import lkops._core.extension as e
print(repr(e.extension_error('_C_cpu')), e.cpu_facts().get('isa'))
"""


@needs_extension
@pytest.mark.parametrize("isa", ["nonsense", "portable", "avx512", "avx512_bf16"])
def test_instruction_set_that_cannot_be_had(isa: str) -> None:
    if isa in isas.NAMES and not isas.why_not(isa):
        pytest.skip(f"{isa} is here")
    done = python("-c", "import lkops", LKOPS_CPU_ISA=isa)
    usable = ", ".join(name for name in isas.NAMES if not isas.why_not(name))
    assert f"ImportError: LKOPS_CPU_ISA={isa} can't be had: this build and this CPU support {usable} (" in done.stderr


@needs_extension
def test_instruction_set_that_is_asked_for() -> None:
    narrowest = extension.build_facts()["isas"][0]
    assert python("-c", REPORT, LKOPS_CPU_ISA=narrowest).stdout.split() == ["''", narrowest]


@needs_extension
def test_schema_may_come_after_the_implementation() -> None:
    code = """
import importlib, torch
importlib.import_module("lkops._C_cpu")
import lkops
if not hasattr(torch.ops.lkops, "bicubic_upsample_cpu_fwd"):
    lib = torch.library.Library("lkops", "FRAGMENT")
    lib.define("bicubic_upsample_cpu_fwd(Tensor x, int scale, float cubic_a, bool symmetric) -> Tensor")
print(torch.ops.lkops.bicubic_upsample_cpu_fwd(torch.ones(1, 1, 2, 2), 2, -0.5, True).sum().item())
"""
    assert float(python("-c", code).stdout) == pytest.approx(16)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (None, "lkops._C_cpu not found: build it with `pip install --no-build-isolation .`"),
        ({"built": False, "reason": "not built (LKOPS_BUILD=0)"}, "lkops._C_cpu: not built (LKOPS_BUILD=0)"),
    ],
)
def test_import_never_raises_and_the_reason_is_kept(tree: Path, facts: dict[str, object] | None, message: str) -> None:
    if facts is not None:  # an extension of an earlier build lies there: the facts decide
        (tree / "lkops/_build_facts.json").write_text(json.dumps(facts))
        (tree / "lkops/_C_cpu.abi3.so").write_bytes(b"must not be loaded")
    done = python("-c", REPORT, cwd=tree, PYTHONPATH=str(tree))
    assert message in done.stdout, done.stderr


def test_a_broken_extension_is_reported(tree: Path) -> None:
    (tree / "lkops/_C_cpu.abi3.so").write_bytes(b"not a library")
    done = python("-c", REPORT, cwd=tree, PYTHONPATH=str(tree))
    assert re.search(r"_C_cpu\.abi3\.so: (file too short|invalid ELF header)", done.stdout), done.stdout + done.stderr


# ---- setup.py -------------------------------------------------------------------------------------------------------


@needs_sources
@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"LKOPS_BUILD": "yes"}, "LKOPS_BUILD must be one of 0, 1; it is 'yes'"),
        ({"LKOPS_BUILD": "0", "LKOPS_CUDA": "on"}, "LKOPS_CUDA must be one of auto, 0, 1; it is 'on'"),
        (
            {"LKOPS_ISAS": "portable,sse"},
            "LKOPS_ISAS must be all, native or some of portable",
        ),
        (
            {"LKOPS_CUDA": "1", "CUDA_HOME": "/nowhere"},
            "LKOPS_CUDA=1, but CUDA kernels can't be built: no CUDA toolkit found",
        ),
    ],
)
def test_settings_that_do_not_fit(variables: dict[str, str], message: str) -> None:
    done = python("setup.py", "--version", **variables)
    assert done.returncode != 0
    assert message in done.stderr


@needs_sources
@pytest.mark.skipif(NVCC is None, reason="no nvcc on the path or in CUDA_HOME")
@pytest.mark.parametrize(
    ("archs", "message"),
    [
        ("7.5", "TORCH_CUDA_ARCH_LIST names 7.5; lkops' CUDA kernels need 8.0 or more"),
        ("Hopper", "TORCH_CUDA_ARCH_LIST must list numbers such as 8.0 or 9.0+PTX; it has 'Hopper'"),
    ],
)
def test_architectures_that_do_not_fit(archs: str, message: str) -> None:
    done = python("setup.py", "--version", LKOPS_CUDA="1", TORCH_CUDA_ARCH_LIST=archs)
    assert done.returncode != 0
    assert message in done.stderr


@needs_sources
def test_no_cuda_kernels_is_said(tree: Path) -> None:
    done = python("setup.py", "--version", cwd=tree, LKOPS_CUDA="0")
    assert "lkops: no CUDA kernels: LKOPS_CUDA=0" in done.stderr
    (tree / "lkops/_build_facts.json").write_text(
        json.dumps({"built": True, "cuda": False, "why_no_cuda": "LKOPS_CUDA=0"})
    )
    code = "import lkops.testing; print(lkops.testing.operator('depthwise_conv2d').missing['cuda'])"
    done = python("-c", code, cwd=tree, PYTHONPATH=str(tree))
    assert done.stdout == "built without CUDA kernels: LKOPS_CUDA=0\n", done.stderr


@pytest.mark.skipif(bool(extension.extension_error("_C_cuda")), reason=extension.extension_error("_C_cuda"))
def test_cuda_extension_needs_only_the_stable_abi_of_torch() -> None:
    """It loads beside a torch without CUDA, too."""
    path = importlib.import_module("lkops._C_cuda").__file__
    assert path is not None
    assert path.endswith(".abi3.so")
    undefined = run("nm", "-D", "--undefined-only", path).stdout.split()
    assert "aoti_torch_create_device_guard" in undefined
    assert not [name for name in undefined if re.match(r"_Z\w*(2at|3c10|5torch)", name) or name.startswith("cuda")]
    assert library.has_kernel("depthwise_conv2d_cuda_fwd", "CUDA")


@needs_sources
def test_torch_missing(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')")
    done = python("setup.py", "--version", PYTHONPATH=str(tmp_path))
    assert done.returncode != 0
    assert done.stderr.count("\n") == 3
    assert "Install torch first, then: pip install --no-build-isolation ." in done.stderr
    assert python("setup.py", "--version", PYTHONPATH=str(tmp_path), LKOPS_BUILD="0").returncode == 0


@needs_sources
def test_compiler_missing(tree: Path) -> None:
    done = python("setup.py", "build_ext", cwd=tree, CXX="no-such-compiler")
    assert done.returncode != 0
    assert "no C++ compiler: 'no-such-compiler' is not on the path" in done.stderr
    assert "LKOPS_BUILD=0" in done.stderr


@needs_compiler
@needs_sources
def test_failed_compile_shows_its_cause(tree: Path) -> None:
    (tree / "csrc/bicubic_upsample/cpu.cpp").write_text("#error a cause to show\n")
    done = python("setup.py", "build_ext", cwd=tree)
    assert done.returncode != 0
    assert "#error a cause to show" in done.stderr


@needs_sources
def test_source_distribution_and_pure_wheel(tree: Path) -> None:
    done = python("setup.py", "-q", "sdist", "bdist_wheel", cwd=tree, LKOPS_BUILD="0")
    assert done.returncode == 0, done.stderr
    (archive,) = (tree / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    wanted = {str(path.relative_to(ROOT)) for path in (ROOT / "csrc").rglob("*") if path.is_file()}
    assert wanted | {"LICENSE", "setup.py", "tests/lkops/build/test_build.py"} <= names
    assert "lkops/_build_facts.json" not in names
    (wheel,) = (tree / "dist").glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as zipped:
        assert not [name for name in zipped.namelist() if name.endswith(".so")]
        assert json.loads(zipped.read("lkops/_build_facts.json"))["reason"] == "not built (LKOPS_BUILD=0)"
        assert "lkops/py.typed" in zipped.namelist()


@pytest.mark.exhaustive
@needs_compiler
@needs_sources
def test_wheel_in_place_and_incremental(tree: Path) -> None:
    done = python("-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps", "-w", "out", ".", cwd=tree)
    assert done.returncode == 0, done.stderr
    (wheel,) = (tree / "out").glob("*.whl")
    assert "-cp310-abi3-" in wheel.name
    with zipfile.ZipFile(wheel) as zipped:
        assert "lkops/_C_cpu.abi3.so" in zipped.namelist()
        facts = json.loads(zipped.read("lkops/_build_facts.json"))
    assert facts["torch"] == torch.__version__
    assert not (tree / "lkops/_build_facts.json").exists(), "a wheel leaves the source tree alone"

    def build() -> dict[str, int]:
        done = python("setup.py", "build_ext", "--inplace", cwd=tree)
        assert done.returncode == 0, done.stderr
        built = [*tree.glob("build/objects/*/*/*.o"), tree / "lkops/_C_cpu.abi3.so"]
        return {path.name: path.stat().st_mtime_ns for path in built}

    first = build()
    assert build() == first, "nothing changed, nothing is built"
    (tree / "csrc/common/simd.h").touch()
    again = build()
    stale = {name for name in first if first[name] == again[name]}
    assert all(name.startswith("bindings_") or name == "common_isa.o" for name in stale), (
        "a header changed: every kernel and the extension"
    )
    assert python("setup.py", "build_ext", "--inplace", cwd=tree, LKOPS_BUILD="0").returncode == 0
    done = python("-c", REPORT, cwd=tree, PYTHONPATH=str(tree))
    assert "not built (LKOPS_BUILD=0)" in done.stdout, "the extension of the build before must not be loaded silently"
