"""What a training run reads of its scenes: patches to train on, and what it is validated on."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..data.multispectral import degraded
from ..data.patches import PatchPair, PatchTriple, SuperResolutionPatches
from ..data.scenes import Scene
from ..data.splits import Rect, Split, valid_patches, whole_pixels
from ..inference.msi import check_msi, seen_by_both
from ..models import Network


class ScenePatches(Dataset[PatchPair | PatchTriple]):
    """The patches of several scenes as one set: those of the first, of the second and so on.

    Args:
        parts: of each scene, alike but for their pixels; one at least.
        names: of the scenes.
    """

    def __init__(self, parts: Sequence[SuperResolutionPatches], names: Sequence[str]) -> None:
        self.parts, self.names = tuple(parts), tuple(names)
        self.ends = list(accumulate(len(part) for part in self.parts))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> PatchPair | PatchTriple:
        part, local = self._of(index)
        return part[local]

    def crop(self, index: int) -> Tensor:
        """The HR patch (B, p, p)."""
        part, local = self._of(index)
        return part.crop(local)

    def crop_msi(self, index: int) -> tuple[Tensor, ...]:
        """The MSI patch (b, p, p); nothing where there is no MSI."""
        part, local = self._of(index)
        return part.crop_msi(local)

    def lowres(self, reference: Tensor) -> Tensor:
        """The LR image of a patch."""
        return self.parts[0].lowres(reference)

    def where(self, index: int) -> tuple[str | int, ...]:
        """Row and column of a patch in its scene, before them the scene's name where there are several."""
        part, local = self._of(index)
        row, column = part.origins[local].tolist()
        return (row, column) if len(self.parts) == 1 else (self.names[self.parts.index(part)], row, column)

    def _of(self, index: int) -> tuple[SuperResolutionPatches, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} patches")
        number = bisect_right(self.ends, index)
        return self.parts[number], index - (self.ends[number - 1] if number else 0)


@dataclass(frozen=True)
class Validation:
    """Batches of (LR, HR), (N, B, h, w) and (N, B, r h, r w), or (LR, HR, MSI): blocks as they are, one after the
    other, then patches, a few at a time."""

    blocks: tuple[tuple[Tensor, ...], ...]
    patches: ScenePatches | None
    batch_size: int

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        yield from self.blocks
        if self.patches is not None:
            for first in range(0, len(self.patches), self.batch_size):
                samples = [self.patches[i] for i in range(first, min(first + self.batch_size, len(self.patches)))]
                yield tuple(torch.stack(images) for images in zip(*samples, strict=True))


@dataclass(frozen=True)
class Material:
    """The splits without the patches that touch invalid pixels, how many those are, and what is read."""

    splits: tuple[Split, ...]
    left_out: dict[str, int]
    patches: ScenePatches
    validation: Validation


def read_material(
    model: Network,
    scenes: Sequence[Scene],
    splits: Sequence[Split],
    batch_size: int,
    msis: Sequence[Scene | None] = (),
    psf_sigma: float | None = None,
) -> Material:
    """Check that network, scenes, their MSIs (none, or one each) and splits fit each other; see `training.train` for
    the errors."""
    if len(scenes) != len(splits) or not scenes:
        raise ValueError(f"there must be a split for every scene, got {len(scenes)} scenes and {len(splits)} splits")
    msis = msis or [None] * len(scenes)
    if len(msis) != len(scenes):
        raise ValueError(f"msi must be of every scene, got {len(msis)} for {len(scenes)} scenes")
    _check_alike(splits)
    for scene in scenes:
        if scene.bands != model.bands:
            raise ValueError(f"the network takes {model.bands} bands, the scene {scene.name!r} has {scene.bands}")
    if not any(split.validation is not None or len(split.validation_origins) for split in splits):
        raise ValueError(
            "split.validation is None and split.validation_origins empty: training needs a validation block, or "
            "patches, to choose the best checkpoint"
        )
    given: dict[str, Any] = {"scale": model.scale, "lr_size": splits[0].patch // model.scale, "psf_sigma": psf_sigma}
    kept: list[Split] = []
    counts = {"train": 0, "validation": 0}
    blocks: list[tuple[Tensor, ...]] = []
    training: list[tuple[str, SuperResolutionPatches]] = []
    held: list[tuple[str, SuperResolutionPatches]] = []
    for scene, whole, msi in zip(scenes, splits, msis, strict=True):
        scene, split, in_patches, left_out = _usable(model, scene, whole, msi)
        kept.append(split)
        for part in counts:
            counts[part] += left_out[part]
        if len(split.train_origins):
            patches = SuperResolutionPatches(scene, **given, msi=msi, origins=split.train_origins)
            training.append((scene.name, patches))
        if in_patches:
            patches = SuperResolutionPatches(scene, **given, msi=msi, origins=split.validation_origins)
            held.append((scene.name, patches))
        elif split.validation is not None:
            block, *more = (_block(read, split.validation, model.scale) for read in (scene, msi) if read is not None)
            blocks.append((degraded(block, model.scale, psf_sigma), block, *more))
    if not training:
        raise ValueError("no split has training patches")
    validation = Validation(tuple(blocks), _together(held) if held else None, batch_size)
    return Material(tuple(kept), counts, _together(training), validation)


def _together(parts: list[tuple[str, SuperResolutionPatches]]) -> ScenePatches:
    names, patches = zip(*parts, strict=True)
    return ScenePatches(patches, names)


def _check_alike(splits: Sequence[Split]) -> None:
    sides = {(split.patch, split.stride) for split in splits}
    if len(sides) > 1:
        told = ", ".join(f"{patch} with stride {stride}" for patch, stride in sorted(sides))
        raise ValueError(f"all scenes must be cut into the same patches, got sides of {told}")


def _usable(model: Network, scene: Scene, split: Split, msi: Scene | None) -> tuple[Scene, Split, bool, dict[str, int]]:
    """The scene without what its MSI does not know, the split without patches that touch invalid pixels, whether it
    validates in patches, and how many were left out."""
    check_msi(model, msi, scene.size)
    scene = seen_by_both(scene, msi)
    if tuple(split.shape) != scene.size:
        raise ValueError(f"the split is of a scene of {split.shape} pixels, {scene.name!r} has {scene.size}")
    if split.test is not None:
        whole_pixels(split.test, model.scale, "the test region")
    if split.patch % model.scale:
        raise ValueError(f"split.patch must be a multiple of the network's scale, {model.scale}; got {split.patch}")
    in_patches = bool(len(split.validation_origins)) if split.validation is None else _holds_invalid(scene, split)
    split, left_out = _without_invalid(scene, split, in_patches)
    for read in (scene, msi):
        _check_finite(read, split.train_origins, split.patch, "training")
        if in_patches:
            _check_finite(read, split.validation_origins, split.patch, "validation")
    return scene, split, in_patches, left_out


def _block(scene: Scene, rect: Rect, scale: int) -> Tensor:
    """The validation block (1, B, H, W), cropped to whole LR pixels."""
    rows, columns = rect.slices
    highres = torch.tensor(np.asarray(scene.pixels[:, rows, columns])).unsqueeze(0)
    height, width = (size // scale * scale for size in highres.shape[-2:])
    highres = highres[..., :height, :width].contiguous()
    if not highres.isfinite().all():
        raise ValueError("the validation block holds NaN or infinite pixels")
    return highres


def _holds_invalid(scene: Scene, split: Split) -> bool:
    return scene.valid is not None and split.validation is not None and not scene.valid[split.validation.slices].all()


def _without_invalid(scene: Scene, split: Split, validates_on_patches: bool) -> tuple[Split, dict[str, int]]:
    """The split's patches of valid pixels only; a Split's rectangles stay."""
    left_out = {"train": 0, "validation": 0}
    if scene.valid is None:
        return split, left_out
    kept: dict[str, Any] = {}
    for part in left_out:
        origins = getattr(split, f"{part}_origins")
        kept[f"{part}_origins"] = valid_patches(origins, split.patch, scene.valid)
        left_out[part] = len(origins) - len(kept[f"{part}_origins"])
        needed = len(origins) if part == "train" else validates_on_patches
        if needed and not len(kept[f"{part}_origins"]):
            raise ValueError(f"every {part} patch touches pixels where the scene {scene.name!r} is not valid")
    return replace(split, **kept), left_out


def _check_finite(scene: Scene | None, origins: np.ndarray, patch: int, part: str) -> None:
    """No patch may hold NaN or infinity. Patches overlap: every pixel of theirs is read once, and no other."""
    if scene is None:
        return
    windows = [(slice(row, row + patch), slice(column, column + patch)) for row, column in origins.tolist()]
    read: np.ndarray = np.zeros(scene.size, bool)
    bad: np.ndarray = np.zeros(scene.size, bool)
    for window in windows:
        read[window] = True
    for band in scene.pixels:  # band by band: a memory map may be larger than the memory
        bad[read] |= ~np.isfinite(band[read])
    if bad.any():
        rows, columns = next(window for window in windows if bad[window].any())
        raise ValueError(f"the {part} patch at row {rows.start}, column {columns.start} holds NaN or infinite pixels")
