"""Self-ensemble: the mean of a network's images of an image in its eight orientations."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ..models import Network
from ..models.registry import enlarge
from . import strips
from .strips import Report

ORIENTATIONS = 8

TURNED_BYTES = 8 << 20  # of a strip that are turned back at once: a copy, or two

Put = Callable[[slice, slice, slice, Tensor], None]


class Ensembled(Network):
    """A network whose image is the mean of those of all eight orientations, as a network: where scores or figures take
    one, this gives them its ensemble. `lkcanet.inference.super_resolve` computes it in strips.

    Args:
        network: any.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.kind = network.kind  # type: ignore[misc]
        self.config = network.config
        self.bands, self.scale, self.msi_bands = network.bands, network.scale, network.msi_bands
        self.train(network.training)

    def forward(self, x: Tensor, msi: Tensor | None = None) -> Tensor:
        """(1 / 8) sum over k of D_k^-1 f(D_k x), (N, B, r H, r W)."""
        from ..data.patches import dihedral

        total: Tensor | None = None
        for k in range(ORIENTATIONS):
            sharp = None if msi is None else dihedral(msi, k).contiguous()
            image = turned_back(enlarge(self.network, dihedral(x, k).contiguous(), sharp), k) / ORIENTATIONS
            total = image if total is None else total + image
        assert total is not None
        return total

    def fold(self) -> "Ensembled":
        """Of the folded network."""
        return Ensembled(self.network.fold())

    def parameter_count(self) -> int:
        """Of the network."""
        return self.network.parameter_count()

    def macs(self, height: int, width: int) -> int:
        """Eight times the network's."""
        return ORIENTATIONS * self.network.macs(height, width)


def forward_in_orientations(
    folded: Network, image: Tensor, put: Put, report: Report, msi: Tensor | None = None
) -> None:
    """(1 / 8) sum over k = 0..7 of D_k^-1 f(D_k image), D_k being `lkcanet.data.dihedral`.

    One orientation after the other, each in strips as `lkcanet.inference.super_resolve` makes them without this, so
    that no more than a strip is there beside what is added up. Eight times the work of one image.

    Args:
        folded, image, report, msi: as for `lkcanet.inference.strips.forward_in_strips`.
        put: called as put(bands, rows, columns, part) with an eighth of D_k^-1 f(D_k image) at this place of the
            output, to be added: every place gets eight.

    Raises:
        ValueError: NaN or infinite pixels.

    Source: Timofte et al., Seven ways to improve example-based single image super resolution (CVPR 2016), section 3.6;
    EDSR (Lim et al., 2017), section 3.4.
    """
    from ..data.patches import dihedral

    size = (folded.scale * image.shape[2], folded.scale * image.shape[3])
    for k in range(ORIENTATIONS):
        strips.forward_in_strips(
            folded,
            dihedral(image, k).contiguous(),
            partial(_put_back, put, size, k),
            partial(_part, report, k),
            None if msi is None else dihedral(msi, k).contiguous(),
        )


def turned_back(x: Tensor, k: int) -> Tensor:
    """D_k^-1 x: elements 1 and 3 are each other's inverse, all others their own."""
    from ..data.patches import dihedral

    return dihedral(x, {1: 3, 3: 1}.get(k, k))


def place_of(size: tuple[int, int], k: int, row: int, height: int) -> tuple[slice, slice]:
    """Rows and columns, of an image of this size, that rows `row` to `row + height` of D_k of it come from."""
    from ..data.patches import dihedral

    first = dihedral(torch.arange(4).view(2, 2), k)[0].tolist()  # what its first row is of an image of 2 x 2
    along = 0 if sorted(first) in ([0, 1], [2, 3]) else 1
    begin = row if 0 in first else size[along] - row - height  # from the top or left, or from the other end
    span, all_of_it = slice(begin, begin + height), slice(0, size[1 - along])
    return (span, all_of_it) if along == 0 else (all_of_it, span)


def _put_back(put: Put, size: tuple[int, int], k: int, row: int, strip: Tensor) -> None:
    rows, columns = place_of(size, k, row, strip.shape[2])
    strip.mul_(1 / ORIENTATIONS)  # exact: a power of two
    bands = strip.shape[1]
    step = max(1, bands * TURNED_BYTES // (strip.numel() * strip.element_size()))
    for first in range(0, bands, step):
        some = slice(first, min(bands, first + step))
        put(some, rows, columns, turned_back(strip[:, some], k))


def _part(report: Report, k: int, share: float, what: str) -> None:
    if share < 1 or k == ORIENTATIONS - 1:
        report((k + share) / ORIENTATIONS, f"orientation {k + 1} of {ORIENTATIONS}, {what}" if share < 1 else what)
