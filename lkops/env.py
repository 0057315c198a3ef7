"""`python -m lkops.env`: what runs here, and why the rest does not. Paste it into bug reports."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

import lkops

from . import backends
from ._core import extension

_VARIABLES = ("LKOPS_BACKEND", "LKOPS_CPU_ISA", "LKOPS_BUILD", "LKOPS_ISAS", "LKOPS_CUDA", "TRITON_INTERPRET")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def report() -> str:
    """Versions, devices, environment variables, the extension's build facts, and every operator's backends."""
    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    lines = [
        f"lkops {lkops.__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"torch {torch.__version__} ({cuda}), triton {_version('triton')}, GPU: {gpu}, "
        f"{torch.get_num_threads()} threads",
        "",
        "environment:",
        *(f"  {name:16} {os.environ.get(name, '(not set)')}" for name in _VARIABLES),
        "",
        "build:",
        *(f"  {key:16} {value}" for key, value in extension.build_facts().items()),
        f"  {'cpu extension':16} {extension.extension_error('_C_cpu') or 'loaded'}",
        *(f"  {key:16} {value}" for key, value in extension.cpu_facts().items()),
        f"  {'cuda extension':16} {extension.extension_error('_C_cuda') or 'loaded'}",
        "",
        "operators (* = automatic choice for float32 on the CPU):",
        *(f"  {line}" for line in str(backends.status()).splitlines()),
    ]
    if torch.cuda.is_available():
        lines += ["", "operators (* = automatic choice for float32 on the GPU):"]
        lines += [f"  {line}" for line in str(backends.status("cuda")).splitlines()]
    return "\n".join(lines)


if __name__ == "__main__":
    print(report())
