"""Builds the runtime of csrc/runtime with the kernels that it needs: for Python as a part of this package, for C by

    python edge/setup.py library      build/edge/<machine>/liblkops.so and lkops.h
    python edge/setup.py library --widest portable      build/edge/<machine>-portable/..., for old or few CPUs

Compiler and objects are those of the root's setup.py, which says what the environment may hold: what lkops has compiled
already is not compiled again, and a cross-compiler is one in CXX. It builds in the repository, whose csrc it reads.
"""

import importlib.util
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import ClassVar

from setuptools import Command, Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist
from setuptools.errors import CompileError

EDGE = Path(__file__).resolve().parent
ROOT = EDGE.parent
ROOMS = ("bicubic_upsample", "conv2d", "depthwise_conv2d", "lk_block", "upsample_add")
FLAGS = ["-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-Wall", "-Wextra", "-pthread"]
FLAGS += ["-ffunction-sections", "-fdata-sections"]


def shared_with_lkops():
    """The functions of the root's setup.py."""
    if not (ROOT / "csrc" / "runtime").is_dir():
        raise SystemExit(f"lkedge is built in its repository: there is no csrc/runtime in {ROOT}")
    spec = importlib.util.spec_from_file_location("lkops_setup", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compiled(*extra, isas=None):
    """Paths of all objects, compiled where they are not current; `extra` are (command, object) besides the runtime."""
    isas = isas or lkops.built_isas()
    work = [*lkops.cpu_kernels(ROOMS, isas)]
    command = [*lkops.compiler()[0], *FLAGS, f"-DLKOPS_BUILT={','.join(isas)}"]
    sources = [*sorted(Path("csrc", "runtime").glob("*.cpp")), Path("csrc", "common", "isa.cpp")]
    work += [lkops.compilation(command, source, f"runtime-{isas[-1].lower()}", source.stem) for source in sources]
    work += extra
    lkops.compile_all(work)
    return [str(target) for _, target in work]


def link(objects, target):
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    command = [*lkops.compiler()[0], "-shared", "-pthread", "-Wl,-s", "-Wl,--gc-sections", *objects, "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CompileError(f"{' '.join(command)}\nfailed with status {done.returncode}:\n{done.stderr}")


class Build(build_ext):
    def build_extension(self, ext):
        import pybind11

        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        paths = dict.fromkeys(
            [sysconfig.get_path("include"), sysconfig.get_path("platinclude"), pybind11.get_include()]
        )
        os.chdir(ROOT)
        try:
            command = [*lkops.compiler()[0], *FLAGS, *(f"-isystem{path}" for path in paths)]
            python = f"python-{sysconfig.get_config_var('SOABI')}-pybind11-{pybind11.__version__}"
            link(compiled(lkops.compilation(command, Path("edge", "native.cpp"), python, "native")), target)
        finally:
            os.chdir(EDGE)


class Library(Command):
    """liblkops.so and its header."""

    description = "build the C library"
    user_options: ClassVar = [("widest=", None, "the widest instruction set in it, such as portable; all by default")]

    def initialize_options(self):
        self.widest = None

    def finalize_options(self):
        pass

    def run(self):
        os.chdir(ROOT)
        isas, folder = lkops.built_isas(), Path("build", "edge", lkops.target_machine())
        if self.widest is not None:
            isas = list(lkops.isa_flags())
            words = [isa.lower() for isa in isas]
            if (widest := self.widest.replace("_", "").lower()) not in words:
                raise SystemExit(f"--widest must be one of {', '.join(words)}; it is {self.widest!r}")
            isas, folder = isas[: words.index(widest) + 1], folder.with_name(f"{folder.name}-{widest}")
        link(compiled(isas=isas), folder / "liblkops.so")
        shutil.copy(Path("csrc", "runtime", "lkops.h"), folder)
        print(f"{folder / 'liblkops.so'}: {(folder / 'liblkops.so').stat().st_size / 1e6:.2f} MB")


class NoSdist(sdist):
    def run(self):
        raise SystemExit("lkedge has no source distribution of its own: its sources are those of lkops, which has one")


os.chdir(EDGE)
lkops = shared_with_lkops()
setup(
    ext_modules=[Extension("lkedge._native", [])], cmdclass={"build_ext": Build, "library": Library, "sdist": NoSdist}
)
