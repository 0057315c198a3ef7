"""Scene in, super-resolved scene out."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from ..common.optional import require
from ..models import Network
from . import ensembles, strips, tiles
from .advice import Shortage, shortage
from .ensembles import Ensembled
from .footprint import Memory, memory, reach
from .graphs import GraphedNetwork, graphed
from .inputs import check_image, check_msi_tensor
from .resampled import Resampled, resampled

if TYPE_CHECKING:
    import numpy as np

    from ..data.scenes import Scene

__all__ = [
    "Ensembled",
    "GraphedNetwork",
    "Memory",
    "Resampled",
    "Shortage",
    "graphed",
    "memory",
    "reach",
    "resampled",
    "shortage",
    "super_resolve",
]

Progress = Callable[[float, str], None]
Image = TypeVar("Image", "Scene", Tensor, "np.ndarray")


def super_resolve(
    model: Network,
    image: Image,
    *,
    msi: Image | None = None,
    out: str | os.PathLike[str] | None = None,
    tile: tuple[int, int] | None = None,
    overlap: int | None = None,
    ensemble: bool = False,
    progress: Progress | None = None,
) -> Image:
    """Enlarge a whole image with a network, `model.scale` times in both directions.

    By default the image goes through as one piece, which is exact: LKCA-Net's channel attention averages over all of
    it. Only its output is made in strips of rows, bit for bit those of the whole, and written where it belongs.
    `memory` says beforehand what that takes. Weight normalisation is folded away first, in a copy; `model` itself keeps
    its weights and its mode. A network that is folded and in eval mode already is used as it is.

    With `tile` the network sees one tile after the other, for images that do not fit the memory otherwise. The result
    is **another one**: channel attention then averages over a tile instead of the scene, and a tile lacks what lies
    outside it (`reach` of the network). Neighbouring tiles share `overlap` pixels and are blended over the middle half
    of it, by weights that add up to 1; where each channel's gate were constant and a quarter of `overlap` at least the
    reach, the result would be that of the whole image.

    A network that is local altogether (VDSR-LR, 3D-FCNN-LR, or whatever names its receptive field) is run on strips of
    the image, with as many rows around them as it depends on: the same up to rounding, since torch's convs may add up
    in another order for other sizes, and bit for bit where the output takes 128 MiB or less, which is one strip. What
    sees the whole image in other ways (EDLGFS, CSAKD) runs as a whole; `lkcanet.models.Capabilities` says what a
    network of one's own may bring.

    Args:
        model: any mode, on any device.
        image: a `Scene`; or a floating tensor or array, (N, B, H, W) or (B, H, W), already divided by its peak.
        msi: the multispectral image that a network which fuses takes besides, of the same kind as `image` and
            `model.scale` times its rows and columns, divided by its own peak.
        out: an .npy file, in the layout of `lkcanet.data.write_scene`, into which a scene's result is written as it is
            made, so that it never is in memory as a whole. The file appears under its name only when complete; one that
            is there already is replaced then.
        tile: (rows, columns) of a tile, in low-resolution pixels, its overlap included.
        overlap: low-resolution pixels that neighbouring tiles share at least, less than a tile's sides. By default 32,
            about as far as one block reaches (the first of many, and the one through which a pixel's nearest
            surroundings act), or a quarter of the tile's shorter side where that is less.
        ensemble: the mean of the images of all eight orientations (self-ensemble), each turned back; with `tile`, of
            every tile. Mostly a little better, and eight times the work. `Ensembled` is the same as a network.
        progress: called as progress(share, what) from time to time, with the share that is done, from 0 to 1, and
            words for what is next. An exception that it raises ends the work.

    Returns:
        The kind that was given: a `Scene` as `Scene.enlarged` makes it (with `out` its pixels are a memory map of the
        file, copied on write), a tensor on the given one's device, or an array; in its units (normalised) and dtype,
        not clipped.

    Raises:
        TypeError: another kind of image, one that is not floating, or an `msi` of another kind; `out` for another kind
            than a scene.
        ValueError: another number of axes or bands than the network takes, an empty image, NaN or infinite pixels, an
            MSI that is missing, not taken or of another size, a tile or overlap that is none, `out` that is not an .npy
            file.
        FileNotFoundError: the folder of `out` does not exist.
        OSError: `out` can't be written; a disk that is too small is noticed before the work.
    """
    plan = None if tile is None else tiles.check(tile, overlap)
    if tile is None and overlap is not None:
        raise ValueError(f"overlap goes with tile only, got overlap {overlap!r} and no tile")
    if msi is not None and not isinstance(msi, type(image)):
        raise TypeError(f"msi must be a {type(image).__name__} as the image is, got {type(msi).__name__}")
    work = _Work(model, plan, ensemble, progress or (lambda share, what: None))
    if isinstance(image, Tensor):
        _check_no_file(out, image)
        assert msi is None or isinstance(msi, Tensor)
        return work.tensor(image, msi)
    np = require("numpy", extra="io")
    if isinstance(image, np.ndarray):
        _check_no_file(out, image)
        if image.dtype.kind != "f":
            raise TypeError(f"image must be floating, got {image.dtype}: divide counts by their peak first")
        # torch warns of arrays that can't be written to, and can't wrap some strides
        given = [torch.from_numpy(np.require(a, requirements=["C", "W"])) for a in (image, msi) if a is not None]
        array: Any = work.tensor(*given).numpy()
        return array
    from ..data.scenes import Scene

    if not isinstance(image, Scene):
        raise TypeError(f"image must be a Scene, a tensor or an array, got {type(image).__name__}")
    assert msi is None or isinstance(msi, Scene)
    lowres, sharp = image.tensor(), None if msi is None else msi.tensor()
    if out is None:
        return image.enlarged(work.tensor(lowres, sharp)[0].numpy(), model.scale)
    check_image(model, "image", lowres)
    check_msi_tensor(model, lowres, sharp)
    from .mapped import mapped_npy

    with mapped_npy(out, image, model.scale) as mapped:
        work.into(lowres, torch.from_numpy(mapped.pixels).unsqueeze(0), sharp, mapped.release)
    return mapped.scene()


def _check_no_file(out: Any, image: Any) -> None:
    if out is not None:
        raise TypeError(f"out goes with a Scene, whose facts the file holds; image is a {type(image).__name__}")


class _Work:
    """A folded network, how the image is cut, and whom to tell."""

    def __init__(self, model: Network, plan: tuple[int, int, int] | None, ensemble: bool, progress: Progress) -> None:
        self.model, self.plan, self.ensemble, self.progress = model, plan, ensemble, progress
        if isinstance(model, Ensembled):
            self.model, self.ensemble = model.network, True

    def tensor(self, image: Tensor, msi: Tensor | None = None) -> Tensor:
        """The image's kind of tensor."""
        check_image(self.model, "image", image)
        check_msi_tensor(self.model, image, msi)
        batch = image if image.dim() == 4 else image.unsqueeze(0)
        sharp = msi if msi is None or msi.dim() == 4 else msi.unsqueeze(0)
        scale = self.model.scale
        # not made in inference mode: such a tensor could not be used in training later. Tiles are added up; otherwise
        # no page of it is touched before the blocks' memory is free again
        new = batch.new_empty if self.plan is None and not self.ensemble else batch.new_zeros
        # half precision would round every sum of eight
        dtype = torch.promote_types(batch.dtype, torch.float32) if self.ensemble else batch.dtype
        result = new((*batch.shape[:2], scale * batch.shape[2], scale * batch.shape[3]), dtype=dtype)
        self.into(batch, result, sharp)
        result = result.to(batch.dtype)
        return result if image.dim() == 4 else result[0]

    def into(self, image: Tensor, out: Tensor, msi: Tensor | None, release: Callable[[], None] | None = None) -> None:
        """Write the result of (N, B, H, W) into `out`, which is zero where tiles or orientations are added up.

        With `release`, `out` is a map of a file: it is written band by band, and `release` called after each.
        """
        folded = folded_of(self.model)
        parameter = next(folded.parameters())

        def put(row: int, strip: Tensor) -> None:
            strips.write(Tensor.copy_, out[:, :, row : row + strip.shape[2]], strip, release)

        def add(bands: slice, rows: slice, columns: slice, part: Tensor) -> None:
            strips.write(Tensor.add_, out[:, bands, rows, columns], part.to(out.device, out.dtype), release)

        with torch.inference_mode():
            if self.plan is not None:
                tiles.forward_in_tiles(folded, image, out, *self.plan, self.progress, release, msi, self.ensemble)
                return
            lowres = image.to(parameter.device, parameter.dtype)
            sharp = None if msi is None else msi.to(parameter.device, parameter.dtype)
            if self.ensemble:
                ensembles.forward_in_orientations(folded, lowres, add, self.progress, sharp)
            else:
                strips.forward_in_strips(folded, lowres, put, self.progress, sharp)


def folded_of(model: Network) -> Network:
    """A folded copy in eval mode: what is done to it never touches the caller's network. One that is so already
    needs no copy."""
    plain = not any(parametrize.is_parametrized(module) for module in model.modules())
    return model if plain and not any(module.training for module in model.modules()) else model.fold().eval()
