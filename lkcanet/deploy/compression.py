"""`compress`: a trained LKCA-Net with a cheaper upsampler, without training it again."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

import lkops
from lkops.lowrank import CompressionReport, SelectChannels

from ..data.patches import SuperResolutionPatches
from ..models import LKCANet

__all__ = ["PatchBatches", "compress"]


def compress(
    model: LKCANet,
    *,
    share: float | None = None,
    groups: int | None = None,
    rank: int | None = None,
    energy: bool = False,
    permute: bool = False,
    calibration: Iterable[Tensor] | None = None,
    example_input: Tensor | None = None,
) -> tuple[LKCANet, CompressionReport]:
    """As `lkops.compress`, for a network that is saved, folded and trained on as any other LKCA-Net.

    Grouped, it has the structure of LKCA-LR. The order that `permute` chooses is put into the weights of head and
    blocks, whose features it renumbers: it costs nothing at inference.

    Args, returns, raises:
        As `lkops.compress`; TypeError for another network.
    """
    if not isinstance(model, LKCANet):
        raise TypeError(f"model must be a LKCANet, got {type(model).__name__}; lkops.compress takes any network")
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
    assert isinstance(result, LKCANet)
    if isinstance(result.upsample.first, SelectChannels):
        _renumber(result, result.upsample.first.order)
        result.upsample.first = None
    return result, report


@torch.no_grad()
def _renumber(model: LKCANet, order: Tensor) -> None:
    """Make feature i what feature order[i] was, between the blocks. Inside of a block nothing moves."""
    _choose(model.head, 0, order)
    for block in model.blocks:
        part: Any = block
        _choose(part.projection.norm, 0, order)
        _choose(part.projection.conv, 1, order)
        _choose(part.out, 0, order)


def _choose(module: nn.Module, axis: int, order: Tensor) -> None:
    """Outputs (axis 0) or inputs (axis 1) of a layer in another order."""
    normalised = parametrize.is_parametrized(module, "weight")
    parameters = [] if normalised else [module.get_parameter("weight")]
    if normalised:  # gain and direction of a weight norm; a gain has one input
        parts = ("original0", "original1") if axis == 0 else ("original1",)
        parameters += [module.get_parameter(f"parametrizations.weight.{part}") for part in parts]
    if axis == 0:
        parameters.append(module.get_parameter("bias"))
    for parameter in parameters:
        parameter.copy_(parameter.index_select(axis, order))


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
