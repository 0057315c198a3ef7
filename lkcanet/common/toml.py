"""TOML, whichever Python reads it."""

import sys
from typing import Any

from .optional import require

__all__ = ["toml_content"]


def toml_content(text: str) -> dict[str, Any]:
    """What a TOML text holds.

    Raises:
        ValueError: no TOML.
        ModuleNotFoundError: Python 3.10 without tomli.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        tomllib = require("tomli", extra="io")
    return tomllib.loads(text)
