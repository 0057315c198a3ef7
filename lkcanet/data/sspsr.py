"""Patches and test images as the .mat files that the loaders of SSPSR, MSDformer and CST read."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from lkcanet.common.optional import require
from lkcanet.data.degrade import bicubic_downsample, bicubic_upsample
from lkcanet.data.scenes import Scene
from lkcanet.data.splits import Rect, Split

__all__ = ["FOLDERS", "write_patches"]

FOLDERS = ("trains", "evals", "tests")
_LIMIT = 2**32 - 2**16  # bytes of a MATLAB v5 variable


def write_patches(
    folder: Path,
    scene: Scene,
    split: Split,
    tests: Sequence[Rect],
    scale: int,
    title: str,
    progress: Callable[[str], None],
) -> None:
    """Write `trains/*.mat`, `evals/*.mat` (validation) and `tests/<title>_test.mat`, MATLAB v5.

    Keys: gt (H, W, B), ms (H / r, W / r, B), ms_bicubic (H, W, B), single: the patch, its LR image by MATLAB's bicubic
    and that image enlarged again; in the test file with a leading axis, one entry an image. A patch is named after its
    first row and column in the scene. SSPSR itself looks for its patches one folder deeper, `trains/<any>/`; the others
    take them as they are.

    Patches go through memory one at a time. The test file is put together there: about 2.5 GB for Chikusei.

    Raises:
        ValueError: test images of more than 4 GB, which no v5 file holds.
        OSError: a file can't be written.
    """
    savemat = require("scipy.io", extra="io").savemat
    if sum(rect.height * rect.width for rect in tests) * scene.bands * 4 > _LIMIT:
        raise ValueError("the test images are larger than the 4 GB of a MATLAB v5 file: leave the .mat files out")
    for name, origins in (("trains", split.train_origins), ("evals", split.validation_origins)):
        (folder / name).mkdir()
        progress(f"writing {len(origins)} files to {name}/")
        for row, column in origins.tolist():
            images = _images(scene, Rect(row, row + split.patch, column, column + split.patch), scale)
            savemat(folder / name / f"r{row:05d}_c{column:05d}.mat", images)
    (folder / "tests").mkdir()
    each = [_images(scene, rect, scale) for rect in tests]
    savemat(
        folder / "tests" / f"{title}_test.mat", {key: np.stack([images[key] for images in each]) for key in each[0]}
    )


def _images(scene: Scene, rect: Rect, scale: int) -> dict[str, np.ndarray]:
    reference = torch.from_numpy(np.array(scene.pixels[(..., *rect.slices)])).unsqueeze(0)
    lowres = bicubic_downsample(reference, scale)
    images = {"gt": reference, "ms": lowres, "ms_bicubic": bicubic_upsample(lowres, scale)}
    return {key: image[0].permute(1, 2, 0).numpy() for key, image in images.items()}
