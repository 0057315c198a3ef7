"""The packages that pyproject.toml and edge/pyproject.toml name, and what each is imported as."""

import re
import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

ROOT = Path(__file__).parents[1]
# of those that are not imported by their own name
IMPORTED_AS = {
    "mkdocs-material": "material",
    "pytest-xdist": "xdist",
    "pyyaml": "yaml",
    "scikit-image": "skimage",
}


def project(folder: str = ".") -> dict[str, Any]:
    """A pyproject.toml."""
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text())


def names(requirements: list[str]) -> set[str]:
    """Of packages other than this one: "dask[array]>=2024.9" is of dask."""
    found = {match[0] for match in map(re.compile(r"[\w.-]+").match, requirements) if match}
    return found - {"lkops"}


def optional() -> set[str]:
    """Of all extras."""
    extras = project()["project"]["optional-dependencies"]
    return names([requirement for requirements in extras.values() for requirement in requirements])


def every() -> set[str]:
    """Of both projects, with what builds them."""
    found = optional()
    for folder in (".", "edge"):
        here = project(folder)
        found |= names(here["build-system"]["requires"]) | names(here["project"]["dependencies"])
    return found


def imported_as(name: str) -> str:
    return IMPORTED_AS.get(name, name.replace("-", "_"))
