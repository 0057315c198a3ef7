"""Scenes of any kind, xarray.DataArrays among them: these are computed lazily, by dask, on one machine or many.

    from dask.distributed import Client, Lock
    client = Client("scheduler:8786")
    scene = rioxarray.open_rasterio("lr.tif", chunks=True)
    sharp = lkcanet.super_resolve("run/best.safetensors", scene, tile=(256, 256))
    sharp.rio.to_raster("sr.tif", tiled=True, lock=Lock("sr.tif"))

Nothing here imports numpy, dask or xarray before a DataArray is given.
"""

import os
from typing import TYPE_CHECKING, Any, TypeVar

from .kinds import is_labelled

if TYPE_CHECKING:
    from ..models import Network

Image = TypeVar("Image")

__all__ = ["degrade", "evaluate", "super_resolve"]


def super_resolve(model: "Network | str | os.PathLike[str]", image: Image, **options: Any) -> Image:
    """Enlarge an image with a network.

    Args:
        model: a network, or a checkpoint's path or name.
        image: a `lkcanet.data.Scene`, tensor or array: see `lkcanet.inference.super_resolve` for its options. An
            xarray.DataArray: see `lkcanet.cluster.enlarging.super_resolve`.

    Returns:
        The kind that was given; a DataArray is lazy.
    """
    if is_labelled(image):
        from . import enlarging

        return enlarging.super_resolve(model, image, **options)
    from .. import inference
    from ..models import pretrained

    if isinstance(model, str | os.PathLike):
        model = pretrained.load(model)
    enlarged: Any = inference.super_resolve(model, image, **options)
    return enlarged


def degrade(image: Image, scale: int, **options: Any) -> Image:
    """The low-resolution image, by the MATLAB-exact bicubic or a Gaussian point spread function (`psf_sigma`).

    Args:
        image: a `lkcanet.data.Scene`: see `lkcanet.data.simulate_lowres` for its options. A tensor (N, C, H, W): see
            `lkcanet.data.bicubic_downsample` and `lkcanet.data.gaussian_downsample`. An xarray.DataArray: see
            `lkcanet.cluster.shrinking.degrade`.
        scale: r, whole, dividing rows and columns.

    Returns:
        The kind that was given; a DataArray is lazy.

    Raises:
        TypeError: another kind of image.
    """
    if is_labelled(image):
        from . import shrinking

        return shrinking.degrade(image, scale, **options)
    import torch

    from ..data import Scene, simulate_lowres
    from ..data.multispectral import degraded

    made: Any
    if isinstance(image, Scene):
        made = simulate_lowres(image, scale, **options)
    elif isinstance(image, torch.Tensor):
        made = degraded(image, scale, **options)
    else:
        raise TypeError(f"image must be a Scene, a tensor or an xarray.DataArray, got {type(image).__name__}")
    return made


def evaluate(prediction: Any, target: Any, scale: int, **options: Any) -> Any:
    """MPSNR, MSSIM, SAM, CC, RMSE and ERGAS.

    Args:
        prediction, target: tensors or arrays: see `lkcanet.evaluation.evaluate` for options and result. Two
            xarray.DataArrays: see `lkcanet.cluster.scores.evaluate`.
        scale: r, of ERGAS.

    Raises:
        TypeError: one DataArray alone.
    """
    if is_labelled(prediction) != is_labelled(target):
        kinds = f"{type(prediction).__name__} and {type(target).__name__}"
        raise TypeError(f"prediction and target must both be DataArrays, or neither; got {kinds}")
    if is_labelled(target):
        from . import scores

        return scores.evaluate(prediction, target, scale, **options)
    from .. import evaluation

    return evaluation.evaluate(prediction, target, scale, **options)
