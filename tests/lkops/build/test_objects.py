"""Objects of the build: compiled once, by any compiler command, for every kind of installation; what is in them."""

import importlib
import re
import shutil
import sys
from pathlib import Path

import pytest

from lkops._core import extension as _extension
from tests.lkops.build.building import ROOT, copy_sources, isas_of, python, run

KEPT = ("bicubic_upsample", "channel_attention")
pytestmark = [
    pytest.mark.skipif(not (ROOT / "csrc").is_dir(), reason="no csrc beside these tests"),
    pytest.mark.skipif(shutil.which("g++") is None or shutil.which("readelf") is None, reason="no g++ or readelf"),
]
# as `ccache g++` would be: a program and the compiler that it runs
COUNTING = f"""#!{sys.executable}
import pathlib, subprocess, sys
if "-c" in sys.argv:
    with pathlib.Path(__file__).with_name("compiled").open("a") as log:
        print(sys.argv[sys.argv.index("-c") + 1], file=log)
sys.exit(subprocess.run(sys.argv[1:]).returncode)
"""


class Tree:
    """A copy of the sources with two rooms, built by a compiler of two words that counts."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "tree"
        self.path.mkdir()
        copy_sources(self.path)
        for room in (self.path / "csrc").iterdir():
            if room.name not in (*KEPT, "common", "bindings"):
                shutil.rmtree(room)
        kept = {"module", *KEPT}
        for binding in (self.path / "csrc/bindings").rglob("*.cpp"):
            if binding.stem not in kept or binding.parent.name == "cuda":
                binding.unlink()
        self.wrapper = folder / "counting"
        self.wrapper.write_text(COUNTING)
        self.wrapper.chmod(0o755)
        self.last_errors = ""

    def build(self, *command: str, **variables: str) -> list[str]:
        """Runs `python command`; returns the sources that were compiled."""
        log = self.wrapper.with_name("compiled")
        log.unlink(missing_ok=True)
        cxx = f"{self.wrapper} g++"
        done = python(*command, cwd=self.path, **{"CXX": cxx, "LKOPS_CUDA": "0", "MAX_JOBS": "2", **variables})
        assert done.returncode == 0, done.stderr
        self.last_errors = done.stderr
        return sorted(log.read_text().split()) if log.exists() else []


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def kernels(room: str) -> list[str]:
    """What compiling a room's kernels shows in the log."""
    return [f"csrc/{room}/cpu.cpp"] * len(isas_of(room, list(_extension.build_facts()["isa_flags"])))


@pytest.mark.exhaustive
@pytest.mark.skipif("isa_flags" not in _extension.build_facts(), reason="no extension was built")
def test_every_kind_of_build_compiles_only_what_changed(tree: Tree) -> None:
    in_place = ("setup.py", "build_ext", "--inplace")
    editable = ("setup.py", "-q", "editable_wheel", "--dist-dir", "out")  # what `pip install -e .` runs
    wheel = ("-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps", "-w", "out", ".")
    bindings = [f"csrc/bindings/{name}.cpp" for name in (*KEPT, "module")]
    everything = sorted([*kernels(KEPT[0]), *kernels(KEPT[1]), *bindings, "csrc/common/isa.cpp"])
    assert tree.build(*editable) == everything
    extension = tree.path / "lkops/_C_cpu.abi3.so"
    assert extension.exists(), "the compiler of two words links too"
    for name in ("setup.py", "pyproject.toml"):
        with (tree.path / name).open("a") as file:
            file.write("\n# an edit that changes nothing\n")
    assert tree.build(*editable) == []
    assert tree.build(*wheel) == []
    assert tree.build(*in_place) == []
    (tree.path / "csrc/bicubic_upsample/rows.h").touch()
    assert tree.build(*editable) == kernels(KEPT[0])
    (tree.path / "csrc/bindings/channel_attention.cpp").touch()
    assert tree.build(*wheel) == ["csrc/bindings/channel_attention.cpp"]
    assert tree.build(*in_place, CXX=f"{tree.wrapper} g++ -g") == everything, "another command, other objects"
    assert not debug_sections(extension)


RUN = """
import torch, lkops
from lkops._core.extension import cpu_facts
x = torch.randn(1, 2, 5, 7)
results = [lkops.bicubic_upsample(x, scale=2, backend=backend) for backend in ("cpu", "reference")]
torch.testing.assert_close(*results)
print(*cpu_facts()["compiled_in"])
"""


@pytest.mark.skipif("isa_flags" not in _extension.build_facts(), reason="no extension was built")
def test_native_compiles_every_room_once_and_before_torch_is_there(tree: Tree) -> None:
    (tree.path / "torch.py").write_text("raise ImportError('no torch yet')\n")
    assert tree.build("setup.py", "kernels", LKOPS_ISAS="native") == [f"csrc/{room}/cpu.cpp" for room in KEPT]
    (tree.path / "torch.py").unlink()
    bindings = [f"csrc/bindings/{name}.cpp" for name in (*KEPT, "module")]
    assert tree.build("setup.py", "objects", LKOPS_ISAS="native") == [*bindings, "csrc/common/isa.cpp"]
    assert tree.build("setup.py", "build_ext", "--inplace", LKOPS_ISAS="native") == []
    done = python("-c", RUN, cwd=tree.path, PYTHONPATH=str(tree.path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [_extension.cpu_facts()["cpu_supports"][-1]]


def test_warnings_of_a_successful_compile_are_shown(tree: Tree) -> None:
    for name in KEPT:
        (tree.path / f"csrc/bindings/{name}.cpp").unlink()
    with (tree.path / "csrc/channel_attention/cpu.cpp").open("a") as file:
        file.write("static int never_used_here() { return 1; }\n")
    tree.build("setup.py", "build_ext")
    assert re.search(r"csrc/channel_attention/cpu\.cpp:\d+:\d+: warning: .*never_used_here", tree.last_errors)


def debug_sections(path: Path) -> list[str]:
    return re.findall(r"\.debug_\w+", run("readelf", "-S", "-W", str(path)).stdout)


@pytest.mark.parametrize("name", ["_C_cpu", "_C_cuda"])
def test_the_extension_holds_no_debug_information(name: str) -> None:
    if _extension.extension_error(name):
        pytest.skip(_extension.extension_error(name))
    path = importlib.import_module(f"lkops.{name}").__file__
    assert path is not None
    assert not debug_sections(Path(path))
    assert re.search(r"\.text\b", run("readelf", "-S", "-W", path).stdout)
