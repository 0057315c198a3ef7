"""Modules that stand in a room now, by the path that they had at the package's top.

Users' scripts name `lkcanet.metrics` and its like; such a module is found here and comes from where it stands, with a
DeprecationWarning.
"""

from lkops._core import moved

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


def install(package: str) -> None:
    """Let the old paths of the package's modules import."""
    moved.install(package, PLACES)
