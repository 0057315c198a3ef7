"""What a training run reads of its scene: patches to train on, and what it is validated on."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.multispectral import degraded
from ..data.patches import SuperResolutionPatches
from ..data.scenes import Scene
from ..data.splits import Rect, Split, valid_patches, whole_pixels
from ..inference.msi import check_msi
from ..models import Network


@dataclass(frozen=True)
class Validation:
    """Batches of (LR, HR), (N, B, h, w) and (N, B, r h, r w), or (LR, HR, MSI): one block as it is, or patches, a few
    at a time."""

    block: tuple[Tensor, ...] | None
    patches: SuperResolutionPatches | None
    batch_size: int

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        if self.block is not None:
            yield self.block
        elif self.patches is not None:
            for first in range(0, len(self.patches), self.batch_size):
                samples = [self.patches[i] for i in range(first, min(first + self.batch_size, len(self.patches)))]
                yield tuple(torch.stack(images) for images in zip(*samples, strict=True))


@dataclass(frozen=True)
class Material:
    """The split without the patches that touch invalid pixels, how many those are, and what is read."""

    split: Split
    left_out: dict[str, int]
    patches: SuperResolutionPatches
    validation: Validation


def read_material(
    model: Network,
    scene: Scene,
    split: Split,
    batch_size: int,
    msi: Scene | None = None,
    psf_sigma: float | None = None,
) -> Material:
    """Check that network, scene and split fit each other; see `training.train` for the errors."""
    if scene.bands != model.bands:
        raise ValueError(f"the network takes {model.bands} bands, the scene {scene.name!r} has {scene.bands}")
    check_msi(model, msi, scene.size)
    if msi is not None and msi.valid is not None:
        scene = replace(scene, valid=msi.valid if scene.valid is None else scene.valid & msi.valid)
    if tuple(split.shape) != scene.size:
        raise ValueError(f"the split is of a scene of {split.shape} pixels, {scene.name!r} has {scene.size}")
    whole_pixels(split.test, model.scale, "the test region")
    if split.patch % model.scale:
        raise ValueError(f"split.patch must be a multiple of the network's scale, {model.scale}; got {split.patch}")
    if split.validation is None and not len(split.validation_origins):
        raise ValueError(
            "split.validation is None and split.validation_origins empty: training needs a validation block, or "
            "patches, to choose the best checkpoint"
        )
    in_patches = split.validation is None or _holds_invalid(scene, split.validation)
    split, left_out = _without_invalid(scene, split, in_patches)
    for read in (scene, msi):
        _check_finite(read, split.train_origins, split.patch, "training")
    given: dict[str, Any] = {"scale": model.scale, "lr_size": split.patch // model.scale}
    given |= {"psf_sigma": psf_sigma, "msi": msi}
    patches = SuperResolutionPatches(scene, **given, origins=split.train_origins)
    if in_patches:
        for read in (scene, msi):
            _check_finite(read, split.validation_origins, split.patch, "validation")
        held = SuperResolutionPatches(scene, **given, origins=split.validation_origins)
        return Material(split, left_out, patches, Validation(None, held, batch_size))
    assert split.validation is not None
    block, *more = (_block(read, split.validation, model.scale) for read in (scene, msi) if read is not None)
    images = (degraded(block, model.scale, psf_sigma), block, *more)
    return Material(split, left_out, patches, Validation(images, None, batch_size))


def _block(scene: Scene, rect: Rect, scale: int) -> Tensor:
    """The validation block (1, B, H, W), cropped to whole LR pixels."""
    rows, columns = rect.slices
    highres = torch.tensor(np.asarray(scene.pixels[:, rows, columns])).unsqueeze(0)
    height, width = (size // scale * scale for size in highres.shape[-2:])
    highres = highres[..., :height, :width].contiguous()
    if not highres.isfinite().all():
        raise ValueError("the validation block holds NaN or infinite pixels")
    return highres


def _holds_invalid(scene: Scene, rect: Rect) -> bool:
    return scene.valid is not None and not scene.valid[rect.slices].all()


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
        needed = part == "train" or validates_on_patches
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
