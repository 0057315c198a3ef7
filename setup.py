"""Builds the compiled kernels. Everything else about the package is in pyproject.toml.

Environment:
    LKOPS_BUILD  1 (default), or 0 for a pure Python package on purpose.
    LKOPS_ISAS   all (default), native: this machine's widest instruction set alone, or names of csrc/common/isas/*.h
                 such as "portable,avx2".
    LKOPS_CUDA   auto (default: CUDA kernels where torch has CUDA and nvcc is found), 0, or 1: with nvcc alone, whatever
                 this torch is, since the extension needs only torch's stable ABI; raises where nvcc is missing.
    TORCH_CUDA_ARCH_LIST  GPUs that CUDA kernels are compiled for, such as "8.9;9.0+PTX"; default CUDA_ARCHS below.
    CUDA_HOME    the CUDA toolkit, else nvcc on the path.
    CXX          the C++ compiler, a command of one or more words; MAX_JOBS: how many run at once.

Objects stay in build/objects between builds of every kind; what is current is not compiled again.
`python setup.py kernels` compiles what needs no torch, `python setup.py objects` the rest of _C_cpu too: the Makefile
does so beside downloads.
"""

import concurrent.futures
import functools
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools import __version__ as setuptools_version
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import CompileError

ROOT = Path(__file__).parent
TORCH_TARGET_VERSION = "0x020a000000000000"  # the oldest torch whose stable ABI serves: 2.10

# -ffp-contract=off: whether a * b + c rounds once or twice is written in the source (csrc/common/simd.h).
# -f*-sections: edge/setup.py leaves out the gradients.
KERNEL_FLAGS = ["-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-Wall", "-Wextra"]
KERNEL_FLAGS += ["-ffunction-sections", "-fdata-sections"]

# C++20 is what newer torch asks for; no -g, which Python's own flags have: it would be half of the extension
BINDING_FLAGS = ["-std=c++20", "-O2", "-fPIC", "-fvisibility=hidden", "-Wall", "-DNDEBUG"]
BINDING_MACROS = {"Py_LIMITED_API": "0x030a0000", "TORCH_TARGET_VERSION": TORCH_TARGET_VERSION}

# for device code nvcc optimises (-O3) and contracts a * b + c by itself, which is what kernels want; no --use_fast_math
CUDA_FLAGS = ["-std=c++17", "-Xcompiler=-fPIC,-fvisibility=hidden"]
CUDA_ARCHS = "8.0;9.0;10.0+PTX"  # A100, H100 and B200, which serve their whole generations, and what comes later


def choice(variable, default, *allowed):
    value = os.environ.get(variable) or default
    if value not in allowed:
        raise SystemExit(f"{variable} must be one of {', '.join(allowed)}; it is {value!r}")
    return value


def import_torch():
    try:
        import torch
    except ImportError as error:
        raise SystemExit(
            f"lkops compiles its kernels against the torch that will run them, and `import torch` failed: {error}\n"
            "Install torch first, then: pip install --no-build-isolation .\n"
            "(or, without compiled kernels: LKOPS_BUILD=0 pip install .)"
        ) from error
    return torch


@functools.cache
def nvcc():
    """nvcc of CUDA_HOME or CUDA_PATH, else the one on the path, and its version; None where there is none."""
    homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    folders = [str(Path(home) / "bin") for home in homes] or [os.environ.get("PATH", ""), "/usr/local/cuda/bin"]
    found = shutil.which("nvcc", path=os.pathsep.join(folders))
    if found is None:
        return None
    try:
        said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    version = re.search(r"release (\S+),", said)
    return os.path.realpath(found), version[1] if version else "unknown"


def why_no_cuda(wanted, torch):
    """Why CUDA kernels are not built; empty if they are."""
    if wanted == "0":
        return "LKOPS_CUDA=0"
    if nvcc() is None:
        reason = "no CUDA toolkit found: no nvcc on the path or in CUDA_HOME"
    elif wanted == "auto" and torch.version.cuda is None:
        return f"torch {torch.__version__} has no CUDA (LKOPS_CUDA=1 builds them all the same)"
    elif os.name != "posix":
        reason = "CUDA kernels build on Linux only"
    else:
        return ""
    if wanted == "1":
        raise SystemExit(f"LKOPS_CUDA=1, but CUDA kernels can't be built: {reason}")
    return reason


def cuda_libraries():
    """Folders of the toolkit's libraries, by what nvcc would do: it may be a script that runs another."""
    command = [nvcc()[0], "--dryrun", "-x", "cu", os.devnull]
    said = subprocess.run(command, capture_output=True, text=True).stderr
    found = re.search(r"^#\$ LIBRARIES=(.*)$", said, re.MULTILINE)
    folders = [word[2:] for word in shlex.split(found[1]) if word.startswith("-L")] if found else []
    return [os.path.realpath(folder) for folder in folders if not folder.endswith("stubs")]


def cuda_archs():
    """What TORCH_CUDA_ARCH_LIST or CUDA_ARCHS names, as (compute capability such as "90", whether with PTX)."""
    asked = os.environ.get("TORCH_CUDA_ARCH_LIST")
    archs = []
    for name in re.split(r"[;,\s]+", (asked or CUDA_ARCHS).strip()):
        found = re.fullmatch(r"(\d+)\.(\d+[af]?)(\+PTX)?", name)
        if found is None:
            raise SystemExit(f"TORCH_CUDA_ARCH_LIST must list numbers such as 8.0 or 9.0+PTX; it has {name!r}")
        if int(found[1]) < 8:
            raise SystemExit(f"TORCH_CUDA_ARCH_LIST names {name}; lkops' CUDA kernels need 8.0 or more")
        archs.append((found[1] + found[2], bool(found[3])))
    if asked:
        return archs
    done = subprocess.run([nvcc()[0], "--list-gpu-code"], capture_output=True, text=True)
    known = [(arch, ptx) for arch, ptx in archs if f"sm_{arch}" in done.stdout.split()]
    if not known:
        raise SystemExit(f"this nvcc knows none of {CUDA_ARCHS}: set TORCH_CUDA_ARCH_LIST")
    return [*known[:-1], (known[-1][0], True)]  # an older toolkit: PTX of the newest that it knows


@functools.cache
def compiler():
    """The C++ compiler, as torch's own build helper chooses it, and its version."""
    name = os.environ.get("CXX", "c++")
    words = shlex.split(name) or [name]  # "ccache g++" has two
    if shutil.which(words[0]) is None:
        raise SystemExit(
            f"no C++ compiler: {name!r} is not on the path. Install one (such as g++) or name it in CXX,\n"
            "or build without compiled kernels: LKOPS_BUILD=0 pip install --no-build-isolation ."
        )
    version = subprocess.run([*words, "--version"], capture_output=True, text=True, check=True).stdout
    return words, version.splitlines()[0]


def jobs():
    """Compilers at once: one per CPU, and 1.5 GB each (torch's headers need about 1 GB)."""
    if asked := os.environ.get("MAX_JOBS"):
        return int(asked)
    count = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # Linux: the CPUs that this process may use, and the memory that is free
        memory = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        count = min(len(os.sched_getaffinity(0)), int(memory / 1.5e9))
    return max(1, count)


def write_facts(facts, folder):
    """lkops/_build_facts.json: what the loader, `python -m lkops.env` and the tests know about this build."""
    target = Path(folder) / "lkops" / "_build_facts.json"
    temporary = target.with_name(f"{target.name}.{os.getpid()}")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text(json.dumps(facts, indent=2) + "\n")
    temporary.replace(target)


def made_by(command):
    """What an object file depends on besides its inputs: the command, and which compiler that runs."""
    return json.dumps([*command, nvcc()[1] if nvcc() and command[0] == nvcc()[0] else compiler()[1]])


def is_current(target, command):
    """Whether `target` came from this very command and is newer than all that the compiler read for it."""
    try:
        if target.with_suffix(".cmd").read_text() != made_by(command):
            return False
        inputs = target.with_suffix(".d").read_text().replace("\\\n", " ").partition(":")[2].split()
        return all(Path(path).stat().st_mtime <= target.stat().st_mtime for path in inputs)
    except OSError:
        return False


def compile_object(command, target):
    if is_current(target, command):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.with_suffix(".cmd").unlink(missing_ok=True)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CompileError(f"{' '.join(command)}\nfailed with status {done.returncode}:\n{done.stdout}{done.stderr}")
    print(done.stdout, done.stderr, sep="", end="", file=sys.stderr)  # warnings
    target.with_suffix(".cmd").write_text(made_by(command))


def compile_all(work):
    """Runs these (command, object) pairs where an object is not current, several at once."""
    with concurrent.futures.ThreadPoolExecutor(jobs()) as pool:
        list(pool.map(compile_object, *zip(*work, strict=True)))  # list(): raises what a compiler raised


def objects():
    """The folder of this compiler's objects, the same for every way to build and every Python."""
    key = hashlib.sha256(json.dumps(compiler()).encode()).hexdigest()[:8]
    return Path("build", "objects", f"{platform.system()}-{target_machine()}-{key}".lower())


def compilation(command, source, folder, name):
    """What compile_all takes: the command of an object, which also lists what the compiler read, and the object."""
    target = objects() / folder / f"{name}.o"
    files = ["-MMD", "-MF", str(target.with_suffix(".d")), "-c", str(source), "-o", str(target)]
    return [*command, "-Icsrc", *files], target


def cuda_kernels():
    """Every csrc/*/cuda.cu once, for all GPUs."""
    codes = []
    for arch, ptx in cuda_archs():
        codes += [f"-gencode=arch=compute_{arch},code=sm_{arch}"]
        codes += [f"-gencode=arch=compute_{arch},code=compute_{arch}"] if ptx else []
    command = [nvcc()[0], *CUDA_FLAGS, *codes]
    for source in sorted(Path("csrc").glob("*/cuda.cu")):
        yield compilation(command, source, "kernels", f"{source.parent.name}_cuda")


@functools.cache
def target_machine():
    """What the compiler compiles for, such as x86_64: not this machine where it is a cross-compiler."""
    done = subprocess.run([*compiler()[0], "-dumpmachine"], capture_output=True, text=True, check=True)
    return done.stdout.partition("-")[0].strip().lower()


def usual_name(machine):
    """Linux' name of what other systems call otherwise."""
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)


@functools.cache
def isa_list():
    """csrc/common/isas/*.h of the machine that is compiled for."""
    path = Path("csrc", "common", "isas", f"{usual_name(target_machine())}.h")
    return (path if path.exists() else path.with_name("other.h")).read_text()


@functools.cache
def known_isas():
    """The instruction sets of that machine: C++'s names to users' words."""
    return dict(re.findall(r"^  X\((\w+), (\w+), __VA_ARGS__\)", isa_list(), re.MULTILINE))


def features():
    """(feature, the instruction set that needs it first, what a compiler defines that may use it)."""
    return re.findall(r"^  X\((\w+), (\w+), (\w+), (?:builtin|own)\)", isa_list(), re.MULTILINE)


def features_of(isa):
    known = list(known_isas())
    return [feature for feature in features() if feature[1] in known[: known.index(isa) + 1]]


@functools.cache
def isa_flags():
    """The flags for each of `known_isas`."""
    names = {isa: [name for name, _, _ in features_of(isa)] for isa in known_isas()}
    if usual_name(target_machine()) == "aarch64":
        return {isa: ["+".join(["-march=armv8.2-a", *words])] if words else [] for isa, words in names.items()}
    return {isa: [f"-m{word}" for word in words] for isa, words in names.items()}


def native_isa():
    """The widest of `known_isas` that this machine has, by what the compiler finds here."""
    machine = platform.machine().lower()
    if usual_name(machine) != usual_name(target_machine()):
        raise SystemExit(f"LKOPS_ISAS=native: {compiler()[0]} compiles for {target_machine()}, this is {machine}")
    if len(known_isas()) == 1:
        return next(iter(known_isas()))
    command = [*compiler()[0], "-march=native", "-dM", "-E", "-x", "c++", os.devnull]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"LKOPS_ISAS=native: {' '.join(command)} failed; name the instruction sets\n{done.stderr}")
    has = set(re.findall(r"^#define (\w+) 1$", done.stdout, re.MULTILINE))
    return [isa for isa in known_isas() if all(macro in has for _, _, macro in features_of(isa))][-1]


@functools.cache
def built_isas():
    """The instruction sets that this build is to hold, from the narrowest, as LKOPS_ISAS says."""
    known, asked = known_isas(), os.environ.get("LKOPS_ISAS") or "all"
    if asked == "all":
        return list(known)
    if asked == "native":
        return [native_isa()]
    words = [word.strip() for word in asked.split(",")]
    for word in words:
        if word not in known.values():
            raise SystemExit(f"LKOPS_ISAS must be all, native or some of {','.join(known.values())}; it has {word!r}")
    return [isa for isa, word in known.items() if word in words]


def isas_of(room):
    """What a room is compiled for: the widest instruction set with an effect on its code stands in for wider ones."""
    code = re.search(r"^LKOPS_DECLARE_TABLES\(\w+, \w+, (\w+)\);$", (room / "cpu.h").read_text(), re.MULTILINE)[1]
    widest = re.search(rf"^#define LKOPS_WIDEST_OF_{code} (\w+)$", isa_list(), re.MULTILINE)[1]
    isas = list(known_isas())
    reach = isas[: isas.index(widest) + 1]
    return list(dict.fromkeys(isa if isa in reach else widest for isa in built_isas()))


def cpu_kernels(rooms=("*",)):
    """Every csrc/*/cpu.cpp, or those of some rooms, once per instruction set."""
    for source in sorted(path for room in rooms for path in Path("csrc").glob(f"{room}/cpu.cpp")):
        for isa in isas_of(source.parent):
            command = [*compiler()[0], *KERNEL_FLAGS, *isa_flags()[isa], f"-DLKOPS_ISA={isa}"]
            yield compilation(command, source, "kernels", f"{source.parent.name}_{isa.lower()}")


def bindings(torch, pattern):
    """What knows torch and Python. .d files leave out headers of the system, so torch's version names the folder."""
    from torch.utils.cpp_extension import include_paths

    macros = BINDING_MACROS | {"LKOPS_BUILT": ",".join(built_isas())}
    paths = [*include_paths(), *dict.fromkeys(sysconfig.get_path(name) for name in ("include", "platinclude"))]
    command = [*compiler()[0], *BINDING_FLAGS, *(f"-D{name}={value}" for name, value in macros.items())]
    command += [f"-isystem{path}" for path in paths]
    for source in sorted(Path("csrc").glob(pattern)):
        yield compilation(command, source, f"torch-{torch.__version__}", "_".join(source.with_suffix("").parts[1:]))


def cpu_objects(torch):
    """All that _C_cpu links."""
    return [*cpu_kernels(), *bindings(torch, "bindings/*.cpp"), *bindings(torch, "common/*.cpp")]


def extensions(torch, cuda):
    """_C_cpu and, where CUDA kernels are built, _C_cuda: objects that compile_all makes are all that they link."""
    from torch.utils.cpp_extension import library_paths

    cudart = ["cudart_static", "dl", "rt", "pthread"]
    wanted = {"lkops._C_cpu": ([], []), **({"lkops._C_cuda": (cuda_libraries(), cudart)} if cuda else {})}
    return [
        Extension(
            name,
            [],
            language="c++",
            libraries=["c10", "torch", "torch_cpu", *libraries],
            library_dirs=[*library_paths(), *folders],
            extra_link_args=["-Wl,-S"],  # no debug information, whatever it came from
            py_limited_api=True,
        )
        for name, (folders, libraries) in wanted.items()
    ]


def commands(facts, torch=None):
    """The build commands. Facts go where the package goes: into the source tree in place, else into the build."""

    class Build(build_ext):
        def build_extensions(self):
            facts["compiler"] = compiler()[1]
            work = [cpu_objects(torch)]
            work += [[*cuda_kernels(), *bindings(torch, "bindings/cuda/*.cpp")]] if len(self.extensions) > 1 else []
            compile_all([pair for pairs in work for pair in pairs])
            for ext, pairs in zip(self.extensions, work, strict=True):
                ext.extra_objects = [str(target) for _, target in pairs]
                ext.depends = [*ext.extra_objects, "setup.py"]  # links again when one of them changed
            super().build_extensions()

        def run(self):
            if self.extensions:  # links as well, in place of the compiler that this Python was built with
                os.environ["CXX"] = shlex.join(compiler()[0])
            super().run()
            write_facts(facts, ROOT if self.inplace else self.build_lib)

    class BuildPython(build_py):
        def run(self):
            super().run()
            if not facts["built"]:  # without extensions the command above never runs
                write_facts(facts, ROOT if self.editable_mode else self.build_lib)

    return {"build_ext": Build, "build_py": BuildPython}


def main():
    if int(setuptools_version.partition(".")[0]) < 77:  # without build isolation pip does not see to it
        raise SystemExit(
            f"lkops needs setuptools>=77 to build, found {setuptools_version}: pip install -U setuptools wheel"
        )
    if sys.argv[1:] in (["kernels"], ["objects"]):
        compile_all(cpu_kernels() if sys.argv[1] == "kernels" else cpu_objects(import_torch()))
        return
    cuda = choice("LKOPS_CUDA", "auto", "auto", "0", "1")
    if choice("LKOPS_BUILD", "1", "0", "1") == "0":
        setup(cmdclass=commands({"built": False, "reason": "not built (LKOPS_BUILD=0)"}))
    else:
        torch = import_torch()
        reason = why_no_cuda(cuda, torch)
        if reason:
            print(f"lkops: no CUDA kernels: {reason}", file=sys.stderr)
        facts = {
            "built": True,
            "torch": torch.__version__,
            "torch_target_version": TORCH_TARGET_VERSION,
            "python": platform.python_version(),
            "kernel_flags": KERNEL_FLAGS,
            "isa_flags": isa_flags(),
            "isas": [known_isas()[isa] for isa in built_isas()],
            "cuda": not reason,
            "why_no_cuda": reason,
        }
        if not reason:
            facts["nvcc"] = nvcc()[1]
            facts["cuda_archs"] = [f"sm_{arch}{' and PTX' if ptx else ''}" for arch, ptx in cuda_archs()]
            facts["cuda_flags"] = CUDA_FLAGS
        setup(
            ext_modules=extensions(torch, cuda=not reason),
            cmdclass=commands(facts, torch),
            options={"bdist_wheel": {"py_limited_api": "cp310"}},
        )


if __name__ == "__main__":  # edge/setup.py takes the functions
    main()
