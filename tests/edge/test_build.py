"""The wheel without torch, and the C library."""

import ctypes
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.packages import project

from .conftest import ROOT, setup_py

BLOCKED = "import sys; sys.modules['torch'] = sys.modules['lkops'] = None  # importing them fails\n"


def python(code: str, folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Python with the package of this folder, where neither torch nor lkops can be imported."""
    env = {**os.environ, "PYTHONPATH": str(folder), **variables}
    command = [sys.executable, "-c", BLOCKED + code, *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


@pytest.mark.exhaustive
def test_wheel_runs_a_scene_without_torch(can_build: None, net: Any, tmp_path: Path) -> None:
    build = ("build", "--build-base", str(tmp_path / "base"))
    done = setup_py(*build, "bdist_wheel", "--dist-dir", str(tmp_path), "--bdist-dir", str(tmp_path / "bdist"))
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("lkedge-*.whl")
    assert wheel.stat().st_size < 5e6
    with zipfile.ZipFile(wheel) as zipped:
        zipped.extractall(tmp_path / "installed")
        facts = f"lkedge-{project('edge')['project']['version']}.dist-info"
        assert "Requires-Dist: numpy" in zipped.read(f"{facts}/METADATA").decode()
        assert "lkedge = lkedge.cli:main" in zipped.read(f"{facts}/entry_points.txt").decode()
    lowres = np.random.default_rng(1).random((6, 12, 10), np.float32)
    np.save(tmp_path / "lr.npy", lowres)
    code = "from lkedge.cli import main; sys.exit(main(sys.argv[1:]))"
    paths = (net.path, str(tmp_path / "lr.npy"), str(tmp_path / "sr.npy"))
    done = python(code, tmp_path / "installed", "run", *paths, "--threads", "1")
    assert done.returncode == 0, done.stderr
    assert "sr.npy takes" in done.stderr
    assert np.array_equal(np.load(tmp_path / "sr.npy"), net(lowres))
    loaded = python("import lkedge, lkedge.cli; print(*sorted({m.partition('.')[0] for m in sys.modules}))",
                    tmp_path / "installed")  # fmt: skip
    assert {"numpy", "lkedge"} <= set(loaded.stdout.split())


def test_no_source_distribution(can_build: None) -> None:
    done = setup_py("sdist")
    assert done.returncode
    assert "no source distribution of its own" in done.stderr


def made_library(*options: str) -> Path:
    done = setup_py("library", *options)
    assert done.returncode == 0, done.stderr
    return ROOT / done.stdout.splitlines()[-1].rpartition(":")[0]


@pytest.fixture(scope="module")
def library(can_build: None) -> Path:
    return made_library()


def test_library_is_small(library: Path) -> None:
    assert 1e5 < library.stat().st_size < 4e6


@pytest.mark.slow  # compiles
def test_library_of_one_instruction_set(can_build: None, net: Any) -> None:
    made = made_library("--widest", "portable")
    assert made.parent.name.endswith("-portable")
    assert 1e5 < made.stat().st_size < 1e6
    library = ctypes.CDLL(str(made))
    library.lkops_instruction_set.restype = ctypes.c_char_p
    assert library.lkops_instruction_set() == b"portable"
    done = setup_py("library", "--widest", "mmx")
    assert done.returncode
    assert "--widest must be one of portable" in done.stderr


def test_library_exports_its_interface_alone(library: Path) -> None:
    if shutil.which("nm") is None:
        pytest.skip("no nm")
    listed = subprocess.run(["nm", "-D", "--defined-only", str(library)], capture_output=True, text=True, check=True)
    names = {line.split()[2] for line in listed.stdout.splitlines() if line.split()[1] == "T"}
    header = (ROOT / "csrc/runtime/lkops.h").read_text()
    declared = set(re.findall(r"^LKOPS_API [^(;]*?(\w+)\(", header, re.MULTILINE))
    assert names == declared
    assert len(names) == 11


def test_c_example(library: Path, net: Any, tmp_path: Path) -> None:
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if shutil.which(compiler[0]) is None:
        pytest.skip("no C compiler")
    folder, program = str(library.parent), tmp_path / "enlarge"
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{folder}", f"-L{folder}", f"-Wl,-rpath,{folder}"]
    example = str(ROOT / "examples/edge/main.c")
    done = subprocess.run([*compiler, example, *flags, "-llkops", "-o", str(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lowres = np.random.default_rng(2).random((6, 11, 8), np.float32)
    lowres.tofile(tmp_path / "lowres.raw")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(program), *words], cwd=tmp_path, capture_output=True, text=True)

    done = run(net.path, "11", "8", "lowres.raw", "image.raw", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("6 bands, x2, ")
    made = np.fromfile(tmp_path / "image.raw", np.float32).reshape(6, 22, 16)
    assert np.array_equal(made, net(lowres))
    for words, told in (
        ((net.path, "12", "8", "lowres.raw", "image.raw", "2"), "LOWRES is not of this size"),
        (("none.lkops", "11", "8", "lowres.raw", "image.raw", "2"), "none.lkops: No such file"),
        ((net.path, "11", "8", "lowres.raw", "image.raw", "0"), "threads must be 1 to 1024, got 0"),
        ((net.path,), "give NET"),
    ):
        done = run(*words)
        assert done.returncode == 1
        assert told in done.stderr
    lowres[0, 1, 2] = np.nan
    lowres.tofile(tmp_path / "lowres.raw")
    assert "NaN or infinite pixels" in run(net.path, "11", "8", "lowres.raw", "image.raw", "2").stderr
