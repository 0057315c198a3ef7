"""Hyperspectral super-resolution: LKCA-Net, its data, metrics, training and inference, built on lkops.

network = lkcanet.load("lkca-res-cave-x4")      # a pretrained network (`lkca models` lists them), or a checkpoint
sharp = lkcanet.super_resolve(network, lkcanet.data.read_scene("lr.npy", peak=65535))

`super_resolve`, `degrade` and `evaluate` take xarray.DataArrays too, lazily: see `lkcanet.cluster`.
"""

from typing import TYPE_CHECKING, Any

from .common.moved import install as _install

if TYPE_CHECKING:
    from .cluster import degrade, evaluate, super_resolve
    from .models.pretrained import load

__all__ = ["degrade", "evaluate", "load", "super_resolve"]

_install(__name__)


def __getattr__(name: str) -> Any:
    # imported when asked for: `import lkcanet` alone is quick, and needs no optional package
    if name == "load":
        from .models.pretrained import load

        return load
    if name in ("degrade", "evaluate", "super_resolve"):
        from . import cluster

        return getattr(cluster, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
