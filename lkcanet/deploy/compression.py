"""`compress_lkcanet`: a trained LKCA-Net with a cheaper upsampler, without training it again."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset

import lkops
from lkops.lowrank import CompressionReport, SelectChannels
from lkops.lowrank.compression import possible_groups

from ..data.patches import PatchPair, SuperResolutionPatches
from ..data.record import TrainingRecord
from ..data.scenes import Scene
from ..data.splits import default_stride, overlap, parse_rect, region_split, whole_pixels
from ..models import Lacking, Network
from ..models.capabilities import compression_of

__all__ = [
    "CheaperUpsamplers",
    "PatchBatches",
    "cheaper_upsamplers",
    "compress",
    "compress_lkcanet",
    "training_patches",
]

AnyNetwork = TypeVar("AnyNetwork", bound=Network)


def compress_lkcanet(
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


compress = compress_lkcanet  # by the name of `lkops.compress`, which takes any network: for scripts that have it


class PatchBatches:
    """(LR, HR) batches of patches, for `lkops.distill_upsampler`: in a random order, anew at every pass.

    Args:
        patches: of one scene, or of several as a `ConcatDataset`; each is made when its turn comes.
        size: of a batch; fewer only where there are not as many patches.
        seed: of the orders.
    """

    def __init__(self, patches: SuperResolutionPatches | ConcatDataset[PatchPair], size: int, seed: int = 0) -> None:
        self.patches = patches
        self.size, self.random = min(size, len(patches)), torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.patches), generator=self.random).tolist()
        for first in range(0, len(order) - self.size + 1, self.size):
            chosen = [self.patches[index] for index in order[first : first + self.size]]
            yield torch.stack([pair.lowres for pair in chosen]), torch.stack([pair.reference for pair in chosen])

    def calibration(self, count: int) -> list[Tensor]:
        """LR images (1, B, h, w) of so many patches, spread evenly over all."""
        chosen = torch.linspace(0, len(self.patches) - 1, min(count, len(self.patches))).long().tolist()
        return [self.patches[index].lowres[None] for index in chosen]


def training_patches(
    model: Network,
    scene: Scene,
    record: TrainingRecord | None = None,
    *,
    test: str | None = None,
    lr_size: int | None = None,
) -> SuperResolutionPatches:
    """Patches to calibrate or align a network on: those of a scene which its training had, or might have had.

    LR images are made as in the training. Of the scene that the network was trained on, its test region and validation
    block aren't read, and nothing beyond its training region; of another, `test` is not. So it is of each scene that a
    training on several had; those that validated as a whole are refused.

    Args:
        model: for its bands and scale.
        scene: divided by the peak of the training.
        record: what the network's checkpoint tells; None is nothing.
        test: the region to leave unread; None is that of the training, for its scene.
        lr_size: side of a patch in LR pixels; by default that of the training, or 16.

    Raises:
        ValueError: no test region, or one that is too small; no patch fits; `lr_size` below 1.
    """
    record = TrainingRecord({}) if record is None else record
    side, scale = record.patch, model.scale
    if lr_size is None:
        lr_size = side // scale if isinstance(side, int) and side >= scale else 16
    if lr_size < 1:
        raise ValueError(f"lr_size must be 1 or more, got {lr_size}")
    own = test is None and record.is_of(scene)
    among = record.regions_among(scene) if test is None else None
    train: str | None
    if among is not None:
        if among["train"] is None:
            raise ValueError(f"{record.where} was not trained on {scene.name!r}, which chose its checkpoint")
        held_out, validation, train = among["test"], among["validation"] or 0.0, among["train"]
        if held_out is not None and overlap(*(parse_rect(text, scene.pixels.shape) for text in (held_out, train))):
            train = None  # patches on several sides of the test region
    else:
        held_out, validation = (record.test, record.validation or 0.0) if own else (test, 0.0)
        around = record.train_region(scene.pixels.shape) if own else None
        train = None if around is None else str(around)
    if among is None and held_out is None:
        raise ValueError(f"test is None, and {scene.name!r} is not a scene that {record.where} names a test region of")
    if held_out is not None:
        whole_pixels(parse_rect(held_out, scene.pixels.shape), scale, "the test region")
    found = region_split(
        scene.pixels.shape,
        held_out,
        patch=lr_size * scale,
        stride=default_stride(lr_size * scale, scale),
        validation=validation,
        train=train,
        valid=scene.valid,
        scale=scale,
    )
    return SuperResolutionPatches(
        scene, scale=scale, lr_size=lr_size, origins=found.train_origins, psf_sigma=record.psf_sigma
    )


class CheaperUpsamplers(NamedTuple):
    """What `cheaper_upsamplers` finds.

    Attributes:
        groups: numbers of groups that the upsampler's conv could have, ascending, to the parameters that the network
            would have then.
        rank: the largest rank at which two convs have fewer weights than the one; 0 where it can't be factored.
    """

    groups: dict[int, int]
    rank: int


def cheaper_upsamplers(model: Network) -> CheaperUpsamplers | None:
    """What `compress_lkcanet` could make of a network; None where its upsampler is factored already, or still zero.

    Raises:
        ValueError: a network that can't be compressed.
    """
    upsampler = compression_of(model).upsampler
    conv = upsampler.conv
    if upsampler.first is not None or not conv.weight.any():
        return None
    count, weights = model.parameter_count(), conv.weight.numel()
    groups = {groups: count - weights + weights * conv.groups // groups for groups in possible_groups(conv)}
    rank = (weights - 1) // (conv.weight[0].numel() + conv.out_channels) if conv.groups == 1 else 0
    return CheaperUpsamplers(groups, rank)
