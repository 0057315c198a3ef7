"""Compiles the launches of the Triton kernels for GPUs that are not here, and reads what became of them."""

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

import lkops.triton
from lkops.triton import Launch

_BIN = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
_TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.int32: "i32"}


@contextmanager
def collect() -> Iterator[list[Launch]]:
    """Within the block nothing is launched; the list fills with what would be. Use tensors of the meta device."""
    launches: list[Launch] = []
    with lkops.triton.watch(launches.append, run=False):
        yield launches


def source(launch: Launch) -> ASTSource:
    """What Triton's JIT would compile for these arguments: its specialisation of ones, None and multiples of 16."""
    names = launch.kernel.arg_names
    signature: dict[str, str] = {}
    constants: dict[str, Any] = {}
    aligned: dict[tuple[int], list[list[Any]]] = {}
    for i, value in enumerate(launch.arguments):
        if isinstance(value, Tensor):
            signature[names[i]] = f"*{_TYPES[value.dtype]}"
            aligned[(i,)] = [["tt.divisibility", 16]]
        elif isinstance(value, float):
            signature[names[i]] = "fp32"
        elif value is None or value == 1:
            signature[names[i]], constants[names[i]] = "constexpr", value
        else:
            signature[names[i]] = "i32" if -(2**31) <= value < 2**31 else "i64"
            if value % 16 == 0:
                aligned[(i,)] = [["tt.divisibility", 16]]
    for name, value in launch.constants.items():
        signature[name], constants[name] = "constexpr", value
    return ASTSource(launch.kernel, signature, constants, aligned)


def facts(launch: Launch, arch: int) -> dict[str, Any]:
    """Registers, bytes spilled and of shared memory, and instructions of one launch compiled for sm_<arch>."""
    compiled = triton.compile(source(launch), target=GPUTarget("cuda", arch, 32), options=launch.options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()

        def dump(what: str) -> str:
            command: Sequence[str] = (str(_BIN / "cuobjdump"), what, file.name)
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

        usage, sass = dump("--dump-resource-usage"), dump("--dump-sass")
    numbers = {key: int(value) for key, value in re.findall(r"\b(REG|STACK|SHARED|LOCAL):(\d+)", usage)}
    opcodes = Counter(re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", sass, re.MULTILINE))

    def widths(opcode: str) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for name, count in opcodes.items():
            parts = name.split(".")
            if parts[0] == opcode:
                counts[next((p for p in parts if p in ("128", "64", "U16", "U8", "S16")), "32").lstrip("US")] += count
        return dict(sorted(counts.items(), key=lambda item: -int(item[0])))

    matrix = {n.split(".")[0] for n in opcodes} & {"HMMA", "HGMMA", "UTCHMMA", "UTCMMA", "WGMMA", "QMMA", "OMMA"}
    return {
        "registers": numbers.get("REG", 0),
        "stack": numbers.get("STACK", 0) + numbers.get("LOCAL", 0),
        "spills": sum(count for name, count in opcodes.items() if name.split(".")[0] in ("LDL", "STL")),
        "shared": compiled.metadata.shared,
        "loads": widths("LDG"),
        "stores": widths("STG"),
        "matrix": sorted(matrix),
    }
