"""Whether the memory that there is suffices for an image, and which tile would."""

from dataclasses import dataclass

from ..models import Network
from . import footprint

__all__ = ["Shortage", "shortage"]

_SPARE = 0.8  # of the free memory, that an advised tile may take


@dataclass(frozen=True)
class Shortage:
    """What `shortage` finds; all in bytes but the tile.

    Attributes:
        needed: what the work takes beyond what is taken already, more than `free`.
        free: memory that is free to use.
        swap: swap space that is free.
        tile: side of the largest square tile, in LR pixels, that 80 % of `free` suffices for; None where none does, or
            where it is no smaller than the tile that was asked for.
    """

    needed: int
    free: int
    swap: int
    tile: int | None

    @property
    def hopeless(self) -> bool:
        """Whether swap space does not suffice either."""
        return self.needed > self.free + self.swap


def shortage(
    model: Network,
    height: int,
    width: int,
    *,
    tile: tuple[int, int] | None = None,
    mapped: bool = False,
    ensemble: bool = False,
    taken: int = 0,
) -> Shortage | None:
    """What lacks of memory for `super_resolve` of an image (1, B, height, width); None where nothing does, or where
    the system does not say what it has.

    Args:
        model, height, width, tile, mapped, ensemble: as for `lkcanet.inference.memory`.
        taken: bytes of its estimate that are in memory already, such as the image; below 0 for what else is needed.
    """
    there = footprint.available()
    needed = footprint.memory(model, height, width, tile=tile, mapped=mapped, ensemble=ensemble).peak - taken
    if there is None or needed <= there[0]:
        return None
    free, swap = there
    side = footprint.fitting_tile(model, height, width, int(_SPARE * free) + taken, mapped=mapped, ensemble=ensemble)
    return Shortage(needed, free, swap, None if side is None or (tile is not None and side >= min(tile)) else side)
