"""Versions and backends that are here."""

import platform
from importlib import metadata
from typing import Any

import torch

import lkops

__all__ = ["PACKAGES", "describe_installation"]

PACKAGES = ("torch", "lightning", "numpy", "scipy", "h5py", "safetensors", "matplotlib", "typer")


def describe_installation() -> dict[str, Any]:
    """Facts of the installation, for JSON.

    Returns:
        versions of Python, lkops and `PACKAGES` (None: not installed); threads of torch; cuda, the name of the GPU or
        None; backends, a row for each operator and backend of `lkops.backends.status()`.
    """
    versions: dict[str, Any] = {"python": platform.python_version(), "lkops": lkops.__version__}
    versions |= {package: _version(package) for package in PACKAGES}
    rows = [
        {"operator": row.operator, "backend": row.backend, "automatic": row.automatic, "reason": row.reason}
        for row in lkops.backends.status()
    ]
    return {
        "versions": versions,
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "backends": rows,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
