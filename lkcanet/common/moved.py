"""Modules that stand in a room now, by the path that they had at the package's top.

Users' scripts name `lkcanet.metrics` and its like; such a module is found here and comes from where it stands, with a
DeprecationWarning.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
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


class _Moved(MetaPathFinder):
    """`lkops._core.moved.Moved`, which is imported, and torch with it, when the first old path is."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        package, _, old = name.partition(".")
        if package != self.package or old not in PLACES:
            return None
        from lkops._core.moved import Moved

        return Moved(package, PLACES).find_spec(name, path, target)


def install(package: str) -> None:
    """Let the old paths of the package's modules import."""
    sys.meta_path.insert(0, _Moved(package))
