"""Compiles one launch of a Triton kernel for a GPU that is not here, and reads what became of it."""

import ast
import functools
import hashlib
import inspect
import json
import re
import subprocess
import tempfile
import textwrap
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import CUDABackend
from triton.compiler import ASTSource
from triton.runtime.jit import native_specialize_impl

from lkops.triton import Launch

_BIN = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
MATRIX = ("HMMA", "HGMMA", "UTCHMMA")  # tensor cores of sm_80 and sm_120, sm_90, sm_100; small tiles are HMMA on each


def source(launch: Launch) -> ASTSource:
    """What Triton's JIT would compile for these arguments: its specialisation of ones, None and multiples of 16."""
    signature: dict[str, str] = {}
    constants: dict[str, Any] = {}
    aligned: dict[tuple[int], list[list[Any]]] = {}
    given = launch.kernel.signature.bind(*launch.arguments, **launch.constants)
    given.apply_defaults()
    for i, (parameter, (name, value)) in enumerate(zip(launch.kernel.params, given.arguments.items(), strict=True)):
        if parameter.is_constexpr:
            signature[name], constants[name] = "constexpr", value
            continue
        specialised = not parameter.do_not_specialize
        kind, key = native_specialize_impl(CUDABackend, value, parameter.is_const, specialised, specialised)
        if isinstance(value, Tensor):  # one of the meta device lies nowhere, but it may be a view
            key = "D" if value.storage_offset() * value.itemsize % 16 == 0 else ""
        signature[name] = kind
        if kind == "constexpr":
            constants[name] = key
        elif key:
            aligned[(i,)] = CUDABackend.parse_attr(key)
    return ASTSource(launch.kernel, signature, constants, aligned)


def facts(launch: Launch, arch: int) -> dict[str, Any]:
    """Registers, bytes spilled and of shared memory, and instructions of one launch compiled for sm_<arch>.

    `products` are the operand types of its `tl.dot`s, `without` of those that do not run on tensor cores.
    """
    with tempfile.TemporaryDirectory() as folder, triton.knobs.cache.scope():
        triton.knobs.cache.dir = folder  # a full check would leave half a gigabyte
        compiled = triton.compile(source(launch), target=GPUTarget("cuda", arch, 32), options=launch.options)
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(compiled.asm["cubin"])
        command = [str(_BIN / "cuobjdump"), "--dump-resource-usage", "--dump-sass", str(cubin)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    numbers = {key: int(value) for key, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", text)}
    opcodes = Counter(re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", text, re.MULTILINE))
    assert opcodes, "cuobjdump's listing was not understood"

    def widths(*wanted: str) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for name, count in opcodes.items():
            parts = name.split(".")
            if parts[0] in wanted:
                width = next((p for p in parts if p in ("256", "128", "64", "U16", "U8", "S16", "S8")), "32")
                counts[width.lstrip("US")] += count
        return dict(sorted(counts.items(), key=lambda item: -int(item[0])))

    return {
        "registers": numbers["REG"],
        "stack": numbers["STACK"] + numbers["LOCAL"],
        "spills": sum(count for name, count in opcodes.items() if name.split(".")[0] in ("LDL", "STL")),
        "shared": compiled.metadata.shared,
        "tensor_memory": getattr(compiled.metadata, "tmem_size", None) or 0,
        "loads": widths("LDG", "LDGSTS"),
        "stores": widths("STG"),
        "products": _products(compiled.asm["ttir"]),
        # a product that has found its tensor core has operands in a layout "mma", or became another operation
        "without": _products("\n".join(line for line in compiled.asm["ttgir"].splitlines() if "#blocked" in line)),
        "matrix": sorted({name.split(".")[0] for name in opcodes} & set(MATRIX)),
    }


def _products(text: str) -> list[str]:
    """Operand types of the products in Triton's IR: "f16", "bf16", "tf32", "f32"."""
    found = set()
    for line in text.splitlines():
        if match := re.search(r"\btt\.dot\b.*?: tensor<(?:\d+x)+(\w+)", line):
            found.add("tf32" if match[1] == "f32" and "inputPrecision = tf32" in line else match[1])
    return sorted(found)


def name_of(kernel: Any) -> str:
    """ "<room>.<function>"."""
    room = ".".join(kernel.fn.__module__.split(".")[-2:-1])
    return f"{room}.{kernel.fn.__name__}"


def describe(launch: Launch) -> dict[str, str]:
    """What the compiler is told of a launch, in words that can be compared: arguments, constants, options."""
    told = source(launch)
    arguments, constants = [], []
    for i, (name, kind) in enumerate(told.signature.items()):
        value = told.constants.get((i,), "")
        if kind == "constexpr" and name in launch.constants:
            constants.append(f"{name}={value}")
        elif kind == "constexpr":
            arguments.append(f"{name}={value}")
        else:
            arguments.append(f"{name}:{kind}{'/16' if (i,) in told.attrs else ''}")
    options = [f"{key}={value}" for key, value in sorted(launch.options.items())]
    return {"arguments": " ".join(arguments), "constants": " ".join(constants), "options": " ".join(options)}


def key(launch: Launch, said: dict[str, str] | None = None) -> str:
    """Changes with whatever `facts` depend on: the kernel and all it calls, the launch, Triton, and this reader."""
    parts = [code_of(launch.kernel), said or describe(launch), triton.__version__, _reader()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@functools.cache
def _reader() -> str:
    return "\n".join(_normal(function) for function in (source, facts, _products)) + str(MATRIX)


def code_of(kernel: Any) -> str:
    """Source of a JIT function without comments and docstrings, of all that it calls, and its global constants."""
    found: dict[str, str] = {}
    _visit(kernel, found)
    return json.dumps(found, sort_keys=True)


@functools.cache
def _normal(function: Callable[..., Any]) -> str:
    """Source of a function from its `def` on, without comments, docstrings and decorators."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list = []
    for node in ast.walk(definition):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(definition)


def _visit(kernel: Any, found: dict[str, str]) -> None:
    function = kernel.fn
    name = f"{function.__module__}.{function.__qualname__}"
    if name in found:
        return
    found[name] = _normal(function)
    scope = {**function.__globals__, **inspect.getclosurevars(function).nonlocals}
    for node in ast.walk(ast.parse(found[name])):
        path = _dotted(node)
        value: Any = _look_up(path, scope) if path else None
        if isinstance(value, (triton.language.constexpr, bool, int, float, str, tuple)):
            found[".".join((function.__module__, *path))] = repr(value)
        elif callable(getattr(value, "fn", None)) and not value.fn.__module__.startswith("triton."):
            _visit(value, found)


def _dotted(node: ast.AST) -> tuple[str, ...]:
    """("device", "dot") of the expression device.dot; () of what is no such path."""
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute) and (inner := _dotted(node.value)):
        return (*inner, node.attr)
    return ()


def _look_up(path: tuple[str, ...], scope: dict[str, Any]) -> Any:
    value = scope.get(path[0])
    for name in path[1:]:
        if not isinstance(value, ModuleType):
            return None
        value = getattr(value, name, None)
    return value
