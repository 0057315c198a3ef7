"""Loads the compiled kernels, once, and remembers why they could not be loaded; nothing raises here.

The extension only adds implementations to operators whose schemas Python owns (`lkops/_core/library.py`). The
dispatcher takes implementation and schema in either order.
"""

import functools
import importlib
import json
from pathlib import Path
from typing import Any, Literal

import torch  # noqa: F401  the extension links to torch's libraries, which must be in the process first

Name = Literal["_C_cpu", "_C_cuda"]

_FACTS = Path(__file__).parents[1] / "_build_facts.json"
_HOW_TO_BUILD = "build it with `pip install --no-build-isolation .` (torch and a C++ compiler installed)"


@functools.cache
def build_facts() -> dict[str, Any]:
    """What setup.py wrote down about this build; empty where nothing was built."""
    try:
        facts = json.loads(_FACTS.read_text())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


@functools.cache
def load(name: Name = "_C_cpu") -> BaseException | None:
    """Import the extension, once. Returns what went wrong, or None."""
    # An older build may still lie in the source tree: the facts of the last build decide.
    if not build_facts().get("built", True):
        return ImportError(f"lkops.{name}: {build_facts().get('reason', 'not built')}")
    if name == "_C_cuda" and not build_facts().get("cuda", False):
        reason = build_facts().get("why_no_cuda", "the extension was built before there were any")
        return ImportError(f"built without CUDA kernels: {reason}")
    module = f"lkops.{name}"
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            return error
        return ImportError(f"{module} not found: {_HOW_TO_BUILD}")
    except (ImportError, OSError) as error:
        return error
    return None


def extension_error(name: Name) -> str:
    """Why the extension is not loaded, in one line; empty when it is."""
    error = load(name)
    return "" if error is None else " ".join(str(error).split())


def cpu_facts() -> dict[str, Any]:
    """The chosen instruction set, those compiled in and the CPU's features; empty without the extension."""
    if load("_C_cpu") is not None:
        return {}
    return dict(json.loads(importlib.import_module("lkops._C_cpu").facts()))
