"""Kernels and runtime for ARM, by a cross-compiler, run under qemu: their tests without torch, and the example in C."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.lkops.build.building import ROOMS, ROOT, run

COMPILER, CC, QEMU = "aarch64-linux-gnu-g++", "aarch64-linux-gnu-gcc", "qemu-aarch64"
FLAGS = ("-std=c++17", "-O1", "-ffp-contract=off", "-Wall", "-Wextra", "-Wno-psabi", "-Icsrc", "-Itests/csrc")
pytestmark = [
    pytest.mark.skipif(not (ROOT / "csrc").is_dir(), reason="no csrc beside these tests"),
    pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"no {COMPILER}"),
    pytest.mark.skipif(shutil.which(QEMU) is None, reason=f"no {QEMU}"),
]


def objects(sources: list[str], folder: Path) -> list[str]:
    def compiled(source: str) -> str:
        target = folder / source.replace("/", "_").replace(".cpp", ".o")
        isa = ("-DLKOPS_ISA=Portable", "-DLKOPS_BUILT=Portable")
        done = run(COMPILER, *FLAGS, *isa, "-c", source, "-o", str(target))
        assert done.returncode == 0, done.stderr
        assert "warning" not in done.stderr
        return str(target)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(compiled, sources))


def outcome_of(sources: list[str], folder: Path) -> str:
    """The last line of the tests of these sources."""
    program = folder / "tests"
    common = ["tests/csrc/main.cpp", "csrc/common/isa.cpp"]
    done = run(COMPILER, "-static", "-pthread", *objects([*sources, *common], folder), "-o", str(program))
    assert done.returncode == 0, done.stderr
    done = run(QEMU, str(program))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_a_room(tmp_path: Path) -> None:
    """The smallest: fma, shuffles, partial loads and bfloat16."""
    assert " 0 failures" in outcome_of(
        ["csrc/bicubic_upsample/cpu.cpp", "tests/csrc/test_bicubic_upsample.cpp"], tmp_path
    )


@pytest.mark.slow
def test_products_are_those_of_neon(tmp_path: Path) -> None:
    """One rounding a product, 4 lanes in one instruction, as the baseline of aarch64 has them."""
    target = tmp_path / "kernel.s"
    source = "csrc/norm_conv1x1_gelu/cpu.cpp"
    done = run(COMPILER, *FLAGS, "-DLKOPS_ISA=Portable", "-S", source, "-o", str(target))
    assert done.returncode == 0, done.stderr
    text = target.read_text()
    assert text.count("\tfmla\tv") > 100  # none where fma is a product and a sum
    assert "\tfsqrt\tv" in text


@pytest.mark.exhaustive
def test_every_room_and_the_runtime(tmp_path: Path) -> None:
    kernels = [f"csrc/{room}/cpu.cpp" for room in ROOMS]
    runtime = [str(path.relative_to(ROOT)) for path in (ROOT / "csrc/runtime").glob("*.cpp")]
    own = [path for path in (ROOT / "tests/csrc").glob("*.cpp") if not path.name.startswith(("main", "cuda_"))]
    tests = [str(path.relative_to(ROOT)) for path in own]
    assert " 0 failures" in outcome_of([*kernels, *runtime, *tests], tmp_path)


@pytest.mark.exhaustive
def test_library_and_example(tmp_path: Path) -> None:
    """The library that a drone gets makes the image that this machine's makes, up to rounding."""
    np = pytest.importorskip("numpy", reason="numpy is not installed")
    torch = pytest.importorskip("torch")
    from lkcanet.deploy.edge import export_edge
    from lkcanet.models import LKCANet

    torch.manual_seed(0)
    model = LKCANet(6, 2, 64, 2, reduction=8).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    export_edge(model, tmp_path / "net.lkops", check=False)
    image = np.random.default_rng(0).random((6, 9, 14), np.float32)
    image.tofile(tmp_path / "lowres.raw")
    env = {**os.environ, "CXX": COMPILER}
    command = [sys.executable, "edge/setup.py", "-q", "library"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folder, program = str(ROOT / "build/edge/aarch64"), str(tmp_path / "enlarge")
    done = run(CC, "examples/edge/main.c", f"-I{folder}", f"-L{folder}", "-llkops", "-o", program)
    assert done.returncode == 0, done.stderr
    words = ("net.lkops", "9", "14", "lowres.raw", "image.raw", "2")
    done = run(QEMU, "-L", "/usr/aarch64-linux-gnu", "-E", f"LD_LIBRARY_PATH={folder}", program, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "6 bands, x2, portable\n"
    made = np.fromfile(tmp_path / "image.raw", np.float32).reshape(6, 18, 28)
    with torch.no_grad():
        exact = model.fold().double()(torch.from_numpy(image)[None].double())[0].numpy()
    assert np.abs(made - exact).max() < 2e-6 * np.abs(exact).max()
