"""Placeholder until the loader lands: no extension."""

from typing import Any

NAMES = {"cpu": "_C_cpu", "cuda": "_C_cuda"}


def extension_error(name: str) -> str:
    return "not built"


def cpu_facts() -> dict[str, Any]:
    return {}


def build_facts() -> dict[str, Any]:
    return {}
