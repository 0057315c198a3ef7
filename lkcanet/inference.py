"""Scene in, super-resolved scene out."""

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from ._optional import require
from .models import LKCANet

if TYPE_CHECKING:
    import numpy as np

    from .data.scenes import Scene

__all__ = ["super_resolve"]

Image = TypeVar("Image", "Scene", Tensor, "np.ndarray")


def super_resolve(model: LKCANet, image: Image) -> Image:
    """Enlarge a whole image with a network, `model.scale` times in both directions.

    The image goes through as one piece: the network's channel attention averages over all of it, so tiles would give
    another result. Weight normalisation is folded away first, in a copy; `model` itself keeps its weights and its mode.

    Args:
        model: any mode, on any device.
        image: a `Scene`; or a floating tensor or array, (N, B, H, W) or (B, H, W), already divided by its peak.

    Returns:
        The kind that was given: a `Scene` with the peak, wavelengths, name and source of the given one, a tensor on
        the given one's device, or an array; in its units (normalised) and dtype, not clipped.

    Raises:
        TypeError: another kind of image, or one that is not floating.
        ValueError: another number of axes or bands than the network takes, an empty image, NaN or infinite pixels.
    """
    if isinstance(image, Tensor):
        return _run(model, image)
    np = require("numpy", extra="io")
    if isinstance(image, np.ndarray):
        if image.dtype.kind != "f":
            raise TypeError(f"image must be floating, got {image.dtype}: divide counts by their peak first")
        array: Any = _run(model, torch.tensor(image)).numpy()
        return array
    from .data.scenes import Scene

    if not isinstance(image, Scene):
        raise TypeError(f"image must be a Scene, a tensor or an array, got {type(image).__name__}")
    return dataclasses.replace(image, pixels=_run(model, image.tensor())[0].numpy())


def _run(model: LKCANet, image: Tensor) -> Tensor:
    if not image.is_floating_point():
        raise TypeError(f"image must be floating, got {image.dtype}: divide counts by their peak first")
    if image.dim() not in (3, 4) or 0 in image.shape[-3:]:
        raise ValueError(f"image must be (N, B, H, W) or (B, H, W) with pixels, got shape {tuple(image.shape)}")
    if image.shape[-3] != model.bands:
        raise ValueError(f"the network takes {model.bands} bands, the image has {image.shape[-3]}")
    if not image.isfinite().all():
        raise ValueError("the image holds NaN or infinite pixels")
    # a folded copy of its own: eval mode and removed parametrizations never touch the caller's network
    folded = model.fold().eval()
    parameter = next(folded.parameters())
    batch = image if image.dim() == 4 else image.unsqueeze(0)
    with torch.inference_mode():
        result = folded(batch.to(parameter.device, parameter.dtype)).to(image.device, image.dtype)
    # a plain tensor: one of inference mode could not be used in training later
    result = result.clone()
    return result if image.dim() == 4 else result[0]
