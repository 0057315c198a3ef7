"""Optional packages: imported where they are needed, and named clearly where they are missing."""

import importlib
from typing import Any


def require(module: str, *, extra: str) -> Any:
    """Import and return `module`; its absence names the extra of `pip install lkops[extra]` that brings it.

    Args:
        module: dotted module name, such as "scipy.io".
        extra: the optional-dependency group in pyproject.toml that holds the package.

    Raises:
        ModuleNotFoundError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise  # the package is there; something that it needs is not
        raise ModuleNotFoundError(
            f"{package} is not installed; it comes with `pip install lkops[{extra}]`", name=package
        ) from error
