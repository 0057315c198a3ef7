"""A torch whose libraries of CUDA are missing loads with the stand-ins of tests/torch_alone.py."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.lkops.build.building import run

packaging = pytest.importorskip("packaging")
from tests import torch_alone  # noqa: E402

TOOLS = ("cc", "nm", "readelf")


def test_what_is_installed_is_what_a_cpu_needs() -> None:
    old = ["filelock", "nvidia-cuda-runtime-cu12==12.8.90; sys_platform == 'linux'", "nvidia-cudnn-cu12==9.10.2.21"]
    assert torch_alone.wanted([*old, "triton==3.6.0", "jinja2", "optree>=0.13; extra == 'optree'"]) == [
        *("filelock", "nvidia-cuda-runtime-cu12==12.8.90", "jinja2")
    ]
    new = ["cuda-toolkit[cublas,cudart,cupti,nvrtc]==13.2.2", "cuda-bindings<14", "nvidia-nccl-cu13==2.30.7", "sympy"]
    assert torch_alone.wanted(new) == ["cuda-toolkit[cudart,cupti]==13.2.2", "sympy"]


@pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason=f"no {' or '.join(TOOLS)}")
def test_stand_ins_let_a_library_load(tmp_path: Path) -> None:
    """One that needs a function and data with a version, from a library that is gone."""
    lib = tmp_path / "site-packages" / "torch" / "lib"
    lib.mkdir(parents=True)
    (lib / "names").write_text("FAKE_1 { global: *; };\n")
    (lib / "cuda.c").write_text("int cublasState = 1; int cublasCall(void) { return 2; }\n")
    (lib / "torch.c").write_text(
        "extern int cublasState, cublasCall(void);\n"
        "int *state = &cublasState, (*call)(void) = cublasCall; int answer(void) { return 3; }\n"
    )
    options = ("cc", "-shared", "-fPIC", "-Wl,-rpath,$ORIGIN")
    named = ("-Wl,-soname,libcublas.so.9", "-Wl,--version-script=names", "-o", "libcublas.so.9")
    for command in ((*options, "cuda.c", *named), (*options, "torch.c", "libcublas.so.9", "-o", "libtorch.so")):
        done = run(*command, cwd=lib)
        assert done.returncode == 0, done.stderr
    (lib / "libcublas.so.9").unlink()
    load = (sys.executable, "-c", "import ctypes; print(ctypes.CDLL('./libtorch.so').answer())")
    assert "libcublas.so.9" in run(*load, cwd=lib).stderr
    assert torch_alone.stand_in(lib) == ["libcublas.so.9"]
    done = run(*load, cwd=lib)
    assert done.stdout == "3\n", done.stderr
