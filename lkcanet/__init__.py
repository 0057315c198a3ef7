"""Hyperspectral super-resolution: LKCA-Net, its data, metrics, training and inference, built on lkops.

network = lkcanet.load("lkca-res-cave-x4")      # a pretrained network (`lkca models` lists them), or a checkpoint
sharp = lkcanet.super_resolve(network, lkcanet.data.read_scene("lr.npy", peak=65535))
"""

from typing import TYPE_CHECKING, Any

from .common.moved import install as _install

if TYPE_CHECKING:
    from .inference import super_resolve
    from .models.pretrained import load

__all__ = ["load", "super_resolve"]

_install(__name__)


def __getattr__(name: str) -> Any:
    # imported when asked for: `import lkcanet` alone is quick, and needs no optional package
    if name == "load":
        from .models.pretrained import load

        return load
    if name == "super_resolve":
        from .inference import super_resolve

        return super_resolve
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
