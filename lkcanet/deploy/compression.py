"""`compress`: a trained LKCA-Net with a cheaper upsampler, without training it again."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

import lkops
from lkops.lowrank import CompressionReport, SelectChannels

from ..data.patches import SuperResolutionPatches
from ..models import Lacking, Network
from ..models.capabilities import compression_of

__all__ = ["PatchBatches", "compress"]

AnyNetwork = TypeVar("AnyNetwork", bound=Network)


def compress(
    model: AnyNetwork,
    *,
    share: float | None = None,
    groups: int | None = None,
    rank: int | None = None,
    energy: bool = False,
    permute: bool = False,
    calibration: Iterable[Tensor] | None = None,
    example_input: Tensor | None = None,
) -> tuple[AnyNetwork, CompressionReport]:
    """As `lkops.compress`, for a network that is saved, folded and trained on as any other of its kind: one whose
    config follows the upsampler (`lkcanet.models.Compression`), as LKCA-Net's does.

    Grouped, LKCA-Net has the structure of LKCA-LR. The order that `permute` chooses is put into the weights before the
    upsampler (of head and blocks), whose features it renumbers: it costs nothing at inference.

    Args, returns, raises:
        As `lkops.compress`; TypeError for another network.
    """
    try:
        compression_of(model)
    except Lacking as error:
        raise TypeError(f"model must be a network such as LKCANet: {error}; lkops.compress takes any network") from None
    result, report = lkops.compress(
        model,
        share=share,
        groups=groups,
        rank=rank,
        energy=energy,
        permute=permute,
        calibration=calibration,
        example_input=example_input,
    )
    assert isinstance(result, type(model))
    own = compression_of(result)
    if isinstance(own.upsampler.first, SelectChannels):
        own.renumber(own.upsampler.first.order)
        own.upsampler.first = None
    return result, report


class PatchBatches:
    """(LR, HR) batches of patches, for `lkops.distill_upsampler`: in a random order, anew at every pass.

    Args:
        patches: kept in memory, with their LR images.
        size: of a batch; fewer only where there are not as many patches.
        seed: of the orders.
    """

    def __init__(self, patches: SuperResolutionPatches, size: int, seed: int = 0) -> None:
        self.pairs = [patches[index] for index in range(len(patches))]
        self.size, self.random = min(size, len(self.pairs)), torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.pairs), generator=self.random).tolist()
        for first in range(0, len(order) - self.size + 1, self.size):
            chosen = [self.pairs[index] for index in order[first : first + self.size]]
            yield torch.stack([pair.lowres for pair in chosen]), torch.stack([pair.reference for pair in chosen])

    def calibration(self, count: int) -> list[Tensor]:
        """LR images (1, B, h, w) of so many patches, spread evenly over all."""
        chosen = torch.linspace(0, len(self.pairs) - 1, min(count, len(self.pairs))).long().tolist()
        return [self.pairs[index].lowres[None] for index in chosen]
