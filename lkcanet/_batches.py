"""Training batches: patches held ready, and the order in which they come."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from .data.patches import SuperResolutionPatches, dihedral


class CachedPatches(Dataset[tuple[Tensor, Tensor]]):
    """Training patches whose LR images are made once: making them anew takes longer than cutting the patches.

    With `augment`, sample i is patch i // 8 in orientation i % 8, as `SuperResolutionPatches` enumerates them.
    """

    LIMIT = 1 << 30  # bytes of LR images to hold, in each worker

    def __init__(self, patches: SuperResolutionPatches, augment: bool) -> None:
        self.patches, self.elements = patches, 8 if augment else 1
        self.lowres: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.patches) * self.elements

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        patch, element = divmod(index, self.elements)
        if (lowres := self.lowres.get(patch)) is None:
            lowres, reference = self.patches[patch]
            if (len(self.lowres) + 1) * lowres.nbytes <= self.LIMIT:
                self.lowres[patch] = lowres
        else:
            reference = self.patches.crop(patch)
        return dihedral(lowres, element), dihedral(reference, element)


class Batches(Sampler[list[int]]):
    """Batches of indices, all full: one shuffled pass over the samples after the other, cut without regard to passes.

    One Lightning epoch covers the whole run, so that small data sets don't pay Lightning's work between epochs.
    """

    def __init__(self, samples: int, batch_size: int, steps: int, seed: int) -> None:
        self.samples, self.batch_size, self.steps, self.seed = samples, batch_size, steps, seed

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed)
        queue: list[int] = []
        for _ in range(self.steps):
            while len(queue) < self.batch_size:
                queue += torch.randperm(self.samples, generator=generator).tolist()
            yield queue[: self.batch_size]
            del queue[: self.batch_size]
