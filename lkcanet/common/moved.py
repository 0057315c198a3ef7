"""Modules that stand in a room now, by the path that they had at the package's top: both import the same object.

Users' scripts name `lkcanet.metrics` and its like; such a module is found here and comes from where it stands.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

PLACES = {
    "compression": "deploy.compression",
    "csakd_losses": "objectives.csakd_losses",
    "csakd_objective": "objectives.csakd",
    "data.arrays": "data.formats.arrays",
    "data.envi": "data.formats.envi",
    "data.geotiff": "data.formats.geotiff",
    "data.matlab": "data.formats.matlab",
    "data.readers": "data.formats.readers",
    "data.reported": "evaluation.reported",
    "data.writers": "data.formats.writers",
    "distillation": "objectives.distillation",
    "eager": "benchmark.eager",
    "eager_csakd": "benchmark.eager_csakd",
    "eager_edlgfs": "benchmark.eager_edlgfs",
    "edge_objective": "objectives.edlgfs",
    "export": "deploy.export",
    "figures": "evaluation.figures",
    "losses": "objectives.losses",
    "metrics": "evaluation.metrics",
    "pictures": "evaluation.pictures",
    "rank": "deploy.rank",
    "scoring": "evaluation.scoring",
    "speed": "benchmark.speed",
    "tables": "evaluation.tables",
}


class Moved(MetaPathFinder, Loader):
    """Finds the old paths of a package's modules."""

    def __init__(self, package: str, places: dict[str, str]) -> None:
        self.places = {f"{package}.{old}": f"{package}.{new}" for old, new in places.items()}

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in self.places else None

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = import_module(self.places[module.__name__])  # the import system hands this out


def install(package: str) -> None:
    """Let the old paths of the package's modules import."""
    sys.meta_path.insert(0, Moved(package, PLACES))
