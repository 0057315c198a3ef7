"""Networks in the usual styles of the field, none of which knows of lkops; sizes are arguments."""

from typing import Any

from tests.lkops.fusion.foreign_attention import VAN, Functional, LayerNorm2d, SwinIR
from tests.lkops.fusion.foreign_convs import EDSR, RCAN, VDSR, WDSR, Recursive, Untraceable

__all__ = ["NETWORKS", "LayerNorm2d"]

NETWORKS: dict[str, Any] = {
    "EDSR": EDSR,
    "RCAN": RCAN,
    "RCAN, linear": lambda **sizes: RCAN(linear=True, **sizes),
    "VDSR": VDSR,
    "VAN": VAN,
    "SwinIR": SwinIR,
    "functional": Functional,
    "recursive": Recursive,
    "weight norm": WDSR,
    "untraceable": Untraceable,
}
