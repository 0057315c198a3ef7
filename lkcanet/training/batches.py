"""Training batches: patches held ready, and the order in which they come."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from ..data.patches import dihedral
from .material import ScenePatches


class CachedPatches(Dataset[tuple[Tensor, ...]]):
    """Training patches (LR, HR), or (LR, HR, MSI), whose LR images are made once: making them anew takes longer
    than cutting the patches.

    Of n orientations, 8, 4 (rotations) or 1, sample i is patch i // n in orientation i % n of `dihedral`, as
    `SuperResolutionPatches` enumerates eight.
    """

    LIMIT = 1 << 30  # bytes of LR images to hold, in each worker

    def __init__(self, patches: ScenePatches, orientations: int) -> None:
        self.patches, self.elements = patches, orientations
        self.lowres: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.patches) * self.elements

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        patch, element = divmod(index, self.elements)
        reference = self.patches.crop(patch)
        if (lowres := self.lowres.get(patch)) is None:
            lowres = self.patches.lowres(reference)
            if (len(self.lowres) + 1) * lowres.nbytes <= self.LIMIT:
                self.lowres[patch] = lowres
        images = (lowres, reference, *self.patches.crop_msi(patch))
        return tuple(dihedral(image, element) for image in images)

    def where(self, index: int) -> tuple[str | int, ...]:
        """Row and column of a sample's patch in the scene, and its orientation (see `dihedral`); before them the
        scene's name where there are several."""
        patch, element = divmod(index, self.elements)
        return (*self.patches.where(patch), element)


class Batches(Sampler[list[int]]):
    """Batches of indices, all full: one shuffled pass over the samples after the other, cut without regard to passes.

    One Lightning epoch covers the whole run, so that small data sets don't pay Lightning's work between epochs. The
    order of a pass follows from the seed and its number alone, so that a run can go on at any step. Each of several
    processes gets its part of every batch.
    """

    def __init__(self, samples: int, batch_size: int, steps: int, seed: int, start: int = 0, parts: int = 1) -> None:
        self.samples, self.batch_size, self.steps, self.seed = samples, batch_size, steps, seed
        self.start, self.parts = start, parts
        self._orders: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[list[int]]:
        rank, part = torch.distributed.get_rank() if self.parts > 1 else 0, self.batch_size // self.parts
        for step in range(self.start, self.steps):
            yield self.batch(step)[rank * part : (rank + 1) * part]

    def passes(self, step: int) -> float:
        """Passes over the samples before this step, with the part of the one at hand."""
        return step * self.batch_size / self.samples

    def epoch(self, step: int) -> int:
        """Whole passes over the samples before this step (counted from 0)."""
        return step * self.batch_size // self.samples

    def batch(self, step: int) -> list[int]:
        """The samples of a step (counted from 0), of all processes."""
        first, last = self.epoch(step), ((step + 1) * self.batch_size - 1) // self.samples
        self._orders = {epoch: self._orders.get(epoch) or self._order(epoch) for epoch in range(first, last + 1)}
        begin = step * self.batch_size - first * self.samples
        order = self._orders[first] if first == last else [i for order in self._orders.values() for i in order]
        return order[begin : begin + self.batch_size]

    def _order(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(mixed(self.seed, 0, epoch))
        return torch.randperm(self.samples, generator=generator).tolist()


def mixed(*numbers: int) -> int:
    """One seed for torch out of several whole numbers, such that neighbours have nothing in common."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
