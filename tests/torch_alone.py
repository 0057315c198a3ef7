"""torch without CUDA's libraries, where the registry has a version only with them: 0.5 to 0.9 GB in place of four.

    python -m tests.torch_alone 2.15.0 FOLDER     into the virtual environment in FOLDER, a fresh one

Such a torch links a dozen libraries of CUDA and does not import without them, though on the CPU it calls none. CUDA's
runtime, which registers kernels at the import, and CUPTI are small and are installed. For the others stand-ins are
linked: empty, but for the names that torch looks up when it is loaded. `tests.wheel --torch-alone` tries the wheel with
such a torch; it is good for nothing on a GPU.
"""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import Requirement

RUNTIME = re.compile(r"nvidia-cuda-(runtime|cupti)-cu\d+")  # packages of their own, as torch 2.10 has them
TOOLKIT = {"cudart", "cupti"}  # extras of one package, as torch 2.14 has them
LIBRARY = re.compile(r"NEEDED.*\[(lib(?:cu|nv|nccl)[^\]]*)\]")
SYMBOL = re.compile(r"^\s*[0-9a-f]* *([A-Za-z]) (\w+)", re.MULTILINE)


def wanted(requirements: Sequence[str]) -> list[str]:
    """What torch needs on a CPU, of what it says that it needs."""
    found = []
    for requirement in map(Requirement, requirements):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        requirement.marker = None
        if requirement.name == "cuda-toolkit":
            requirement.extras &= TOOLKIT
        elif requirement.name.startswith(("nvidia-", "cuda-", "triton")) and not RUNTIME.fullmatch(requirement.name):
            continue
        found.append(str(requirement))
    return found


def said(*command: str | Path, given: str | None = None) -> str:
    """What a command prints; RuntimeError with its complaint where it fails."""
    done = subprocess.run(command, input=given, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{done.stderr}")
    return done.stdout


def link(target: Path, source: str, *more: str) -> None:
    """A library of assembler."""
    options = ("-shared", f"-Wl,-soname,{target.name}", "-Wl,-z,noexecstack", "-x", "assembler", "-", "-x", "none")
    said("cc", *options, *more, "-o", target, given=source)


def stand_in(folder: Path) -> list[str]:
    """Links what the libraries in torch/lib need of CUDA and is not there; returns what was linked."""
    libraries = [*folder.glob("*.so*"), *folder.parents[1].glob("nvidia/**/*.so*")]
    needed = {name for library in libraries for name in LIBRARY.findall(said("readelf", "-d", library))}
    symbols = [found for library in libraries for found in SYMBOL.findall(said("nm", "-D", library))]
    undefined = {name for kind, name in symbols if kind == "U" and re.match("cu|nv|nccl", name)}
    missing = undefined - {name for kind, name in symbols if kind not in "Uw"}
    # in a library of its own: the loader takes names without versions only from one for which it expects none
    data = [f".globl {name}\n.type {name}, @object\n.size {name}, 64\n{name}: .zero 64\n" for name in sorted(missing)]
    link(folder / "libstandins.so", ".data\n" + "".join(data))
    made = sorted(needed - {library.name for library in libraries})
    for name in made:
        link(folder / name, "", f"-L{folder}", "-Wl,--no-as-needed", "-lstandins", "-Wl,-rpath,$ORIGIN")
    return made


def install(version: str, python: Path) -> None:
    """Into the environment of this Python."""
    pip = (str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check")
    said(*pip, "--no-deps", f"torch=={version}")
    ask = "import importlib.metadata, json; print(json.dumps(importlib.metadata.requires('torch')))"
    said(*pip, *wanted(json.loads(said(python, "-c", ask))))
    ask = "import importlib.metadata; print(importlib.metadata.distribution('torch').locate_file('torch/lib'))"
    stand_in(Path(said(python, "-c", ask).strip()))


if __name__ == "__main__":
    install(sys.argv[1], Path(sys.argv[2]) / "bin" / "python")
