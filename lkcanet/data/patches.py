"""Pairs of low- and high-resolution patches, cut and degraded when asked for."""

import mmap
import os
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lkcanet.data.formats.readers import read_scene
from lkcanet.data.multispectral import degraded
from lkcanet.data.scenes import Scene
from lkcanet.data.splits import patch_grid, valid_patches

Augment = Literal["enumerate", "random"] | None


class PatchPair(NamedTuple):
    """One sample: `lowres` (B, p / scale, p / scale) and `reference` (B, p, p), float32."""

    lowres: Tensor
    reference: Tensor


class PatchTriple(NamedTuple):
    """One sample for fusion: as `PatchPair`, and `msi` (b, p, p) of the same place."""

    lowres: Tensor
    reference: Tensor
    msi: Tensor


def dihedral(x: Tensor, k: int) -> Tensor:
    """One of the eight rotations and reflections of the square, on the last two axes.

    k = 0..3 turns x by k quarter turns counter-clockwise; k = 4..7 turns its mirror image (columns reversed) by k - 4.
    Element 0 is the identity, 1 and 3 are each other's inverse, all others their own.

    Args:
        x: (..., H, W).
        k: 0 to 7.

    Returns:
        (..., H, W), or (..., W, H) for odd k; a view or a copy.

    Raises:
        ValueError: k outside 0..7.
    """
    if not 0 <= k < 8:
        raise ValueError(f"k must be 0 to 7, got {k}")
    return torch.rot90(x.flip(-1) if k >= 4 else x, k % 4, (-2, -1))


class SuperResolutionPatches(Dataset[PatchPair | PatchTriple]):
    """Patches of a scene with their low-resolution images.

    The HR patch is cut from the scene, and the LR patch is made from it by `bicubic_downsample`: cropped, then
    degraded, as SSPSR and MSDformer do, so every patch has mirror borders of its own and no pixel outside it leaks in.
    A patch with an invalid pixel is left out, of the grid and of `origins`, so `self.origins` may be fewer than given.
    Nothing is cached. The memory map of a scene from `read_scene` (.npy) is opened anew in each worker process.

    Augmentation by the eight elements of `dihedral`, the same on both images: "enumerate" makes 8 samples of each patch
    (sample i is patch i // 8 under element i % 8; an epoch of SSPSR), "random" draws one by (seed, epoch, index), the
    same in whichever worker; None leaves the patches as they are. The LR image is degraded before the transformation,
    which commutes with it.

    Args:
        scene: a Scene, or the path of a file or folder that `read_scene` reads without options.
        scale: r.
        lr_size: side of the LR patch; the HR patch is `scale * lr_size`.
        stride: step of the grid over the whole scene in HR pixels; half a patch by default. Not with `origins`.
        origins: (n, 2) row and column of each HR patch's first pixel, such as `Split.train_origins`.
        augment: "enumerate", "random" or None.
        seed: of "random".
        psf_sigma: make LR images by a Gaussian point spread function of this width, see
            `lkcanet.data.multispectral.gaussian_downsample`, in place of `bicubic_downsample`.
        msi: a multispectral scene of the same rows and columns; samples are a `PatchTriple` then, and patches with an
            invalid pixel of it are left out too.

    Raises:
        ValueError: scale, lr_size, stride or augment out of range, stride beside origins, an origin whose patch leaves
            the scene, a scene smaller than one patch, no patch without invalid pixels, or an MSI of another size.
        IndexError: on access beyond the end.
    """

    def __init__(
        self,
        scene: Scene | str | os.PathLike[str],
        *,
        scale: int,
        lr_size: int = 16,
        stride: int | None = None,
        origins: np.ndarray | None = None,
        augment: Augment = None,
        seed: int = 0,
        psf_sigma: float | None = None,
        msi: Scene | None = None,
    ) -> None:
        if scale < 1 or lr_size < 1:
            raise ValueError(f"scale and lr_size must be 1 or more, got {scale} and {lr_size}")
        if augment not in ("enumerate", "random", None):
            raise ValueError(f"augment must be 'enumerate', 'random' or None, got {augment!r}")
        if origins is not None and stride is not None:
            raise ValueError("stride and origins cannot both be given: origins are the grid")
        scene = scene if isinstance(scene, Scene) else read_scene(scene)
        if msi is not None and msi.size != scene.size:
            raise ValueError(f"msi must be of the scene's {scene.size} pixels, got {msi.size}")
        self.pixels, self.msi, self.psf_sigma = scene.pixels, None if msi is None else msi.pixels, psf_sigma
        self.scale, self.patch, self.augment, self.seed = scale, scale * lr_size, augment, seed
        if origins is None:
            origins = patch_grid(self.pixels.shape, self.patch, max(1, self.patch // 2) if stride is None else stride)
            if not len(origins):
                raise ValueError(f"no {self.patch} x {self.patch} patch fits the scene of {self._size()} pixels")
        self.origins = np.array(origins, np.int64).reshape(-1, 2)
        if ((self.origins < 0) | (self.origins + self.patch > self.pixels.shape[1:])).any():
            raise ValueError(f"origins: a {self.patch} x {self.patch} patch leaves the scene of {self._size()} pixels")
        held = len(self.origins)
        for valid in (scene.valid, None if msi is None else msi.valid):
            self.origins = valid_patches(self.origins, self.patch, valid)
        if held and not len(self.origins):
            raise ValueError(f"all {held} patches of {self.patch} x {self.patch} pixels hold invalid pixels")
        # shared memory: workers that live on between epochs see set_epoch
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.origins) * (8 if self.augment == "enumerate" else 1)

    def __getitem__(self, index: int) -> PatchPair | PatchTriple:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} samples")
        index %= len(self)
        element = 0
        if self.augment == "enumerate":
            index, element = divmod(index, 8)
        elif self.augment == "random":
            element = int(np.random.default_rng((self.seed, int(self._epoch), index)).integers(8))
        reference = self.crop(index)
        images = (self.lowres(reference), reference, *self.crop_msi(index))
        turned = [dihedral(image, element).contiguous() for image in images]
        return PatchPair(*turned) if self.msi is None else PatchTriple(*turned)

    def crop(self, index: int) -> Tensor:
        """The HR patch at `origins[index]`, (B, p, p), as it lies in the scene."""
        return self._cut(self.pixels, index)

    def crop_msi(self, index: int) -> tuple[Tensor, ...]:
        """The MSI patch at `origins[index]`, (b, p, p); nothing where there is no MSI."""
        return () if self.msi is None else (self._cut(self.msi, index),)

    def lowres(self, reference: Tensor) -> Tensor:
        """The LR image of a patch."""
        return degraded(reference.unsqueeze(0), self.scale, self.psf_sigma).squeeze(0)

    def _cut(self, pixels: np.ndarray, index: int) -> Tensor:
        row, column = self.origins[index]
        # a copy: torch must not share memory with a file or with the scene
        return torch.from_numpy(np.array(pixels[:, row : row + self.patch, column : column + self.patch]))

    def set_epoch(self, epoch: int) -> None:
        """Choose the draw of "random": call it before each epoch, with any whole number from 0."""
        self._epoch.fill_(epoch)

    def _size(self) -> str:
        return f"{self.pixels.shape[1]} x {self.pixels.shape[2]}"

    def __getstate__(self) -> dict[str, Any]:
        """A memory map travels to another process as its file's name, not as gigabytes."""
        state = self.__dict__.copy()
        for name in ("pixels", "msi"):
            pixels = state[name]
            # only a whole map: a slice keeps the file's name and offset but is not what lies there
            if isinstance(pixels, np.memmap) and isinstance(pixels.base, mmap.mmap) and pixels.filename is not None:
                state[name] = (str(pixels.filename), pixels.offset, pixels.shape)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for name in ("pixels", "msi"):
            if isinstance(state[name], tuple):
                filename, offset, shape = state[name]
                setattr(self, name, np.memmap(filename, np.float32, "c", offset, shape))
