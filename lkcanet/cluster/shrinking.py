"""DataArrays degraded to low resolution."""

import math
from collections.abc import Hashable, Sequence
from typing import Any, Literal

import numpy as np
import torch

from ..data import multispectral
from ..data.normalise import fill_invalid
from ..data.scenes import check_positive
from . import labelled, stacks

BICUBIC_REACH = 2  # low-resolution pixels that the widened cubic reads on each side


def degrade(
    image: Any,
    scale: int,
    *,
    psf_sigma: float | None = None,
    nodata: float | None = None,
    nodata_in: Literal["any", "all"] = "any",
    dims: Sequence[Hashable] | None = None,
) -> Any:
    """The low-resolution image of an xarray.DataArray, lazily, in chunks with what they depend on around
    (`map_overlap`), in its numbers: see `lkcanet.data.bicubic_downsample` and `lkcanet.data.gaussian_downsample`.

    The same as `lkcanet.data.simulate_lowres` of the whole scene: with `psf_sigma` bit for bit, else up to rounding.
    Integers are rounded. A pixel is valid where all scale x scale are; where there are invalid ones, they get the
    spectrum of the nearest valid pixel first, as far as valid pixels depend on them.

    Args:
        image: as for `lkcanet.cluster.super_resolve`.
        scale: r, whole, dividing rows and columns.
        psf_sigma: standard deviation of a Gaussian point spread function, in pixels of the image; None: the
            MATLAB-exact bicubic.
        nodata, nodata_in, dims: as for `lkcanet.cluster.super_resolve`.

    Returns:
        A DataArray on a dask array, of 1 / r of the rows and columns: coordinates are the means of the r that a pixel
        stands for, the transform of `spatial_ref` scaled, other coordinates and attributes kept.

    Raises:
        TypeError: no DataArray of integers or floats, or a scale that is no int.
        ValueError: a scale below 1 or that does not divide rows and columns, a sigma that is not positive, axes that
            can't be told, a nodata value that the dtype can't hold; infinite pixels when it is computed.
        ModuleNotFoundError: dask or xarray is not installed.
    """
    if not isinstance(scale, int) or isinstance(scale, bool):
        raise TypeError(f"scale must be an int, got {scale!r}")
    if scale < 1:
        raise ValueError(f"scale must be 1 or more, got {scale}")
    sigma = None if psf_sigma is None else check_positive(psf_sigma, "psf_sigma")
    given = labelled.read(image, dims, nodata)
    height, width = given.numbers.shape[2:]
    if height % scale or width % scale:
        rows, columns = given.dims[1:]
        whole = f"image.isel({rows}=slice({height // scale * scale}), {columns}=slice({width // scale * scale}))"
        raise ValueError(f"scale must divide the image: {height} x {width} pixels by scale {scale}; take {whole}")
    reach = BICUBIC_REACH if sigma is None else -(-math.floor(multispectral.REACH * sigma) // scale)
    # low-resolution pixels: invalid ones within `reach` of a valid one have their nearest valid pixel no farther
    around = reach + math.ceil(math.sqrt(2) * (reach + 1))
    side = stacks.side_of(4 * given.numbers.shape[1], 4 * around * scale) // scale * scale
    lengths = [_whole(length, side) for length in (height, width)]
    pixels, peaks = stacks.normalised(stacks.at_most(given.numbers, side), given.encoding, 1.0, nodata_in)
    wide, own = stacks.widened(pixels, lengths, scale * around)
    made = wide.map_blocks(
        _degraded, scale=scale, sigma=sigma, chunks=_divided(wide.chunks, scale), dtype=np.float32,
        meta=np.empty((0,) * 4, np.float32),
    )  # fmt: skip
    own = [[(begin // scale, end // scale) for begin, end in places] for places in own]
    lowres = stacks.trimmed(made, own)
    return labelled.labelled_again(given, lowres, peaks, scale, shrink=True)


def _whole(length: int, side: int) -> tuple[int, ...]:
    """Chunks of `side`; what is left over is the last one's."""
    count = max(1, length // side)
    return (*(side,) * (count - 1), length - side * (count - 1))


def _divided(chunks: Any, scale: int) -> Any:
    return (*chunks[:2], *(tuple(length // scale for length in lengths) for lengths in chunks[2:]))


def _degraded(block: np.ndarray, *, scale: int, sigma: float | None) -> np.ndarray:
    """(1, B, h, w) degraded; NaN where one of the pixels is."""
    valid = ~np.isnan(block[0, 0])
    rows, columns = (side // scale for side in valid.shape)
    if not valid.any():
        return np.full((*block.shape[:2], rows, columns), np.nan, np.float32)
    block = np.ascontiguousarray(block)
    if not valid.all():
        block = block.copy()
        fill_invalid(block[0], valid)
    with torch.inference_mode():
        lowres: np.ndarray = multispectral.degraded(torch.from_numpy(block), scale, sigma).numpy()
    lowres[:, :, ~valid.reshape(rows, scale, columns, scale).all((1, 3))] = np.nan
    return lowres
