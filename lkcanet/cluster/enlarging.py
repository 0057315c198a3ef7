"""DataArrays through a network: in the tiles of the command, in chunks with what they depend on around, or whole."""

import hashlib
import math
import os
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from .. import inference
from ..common.optional import require
from ..data.normalise import fill_invalid
from ..data.record import TrainingRecord
from ..data.wavelengths import to_nanometres
from ..inference import tiles
from ..models import Network, load_model_and_extra, pretrained
from ..models.capabilities import capabilities_of
from ..models.pretrained import same_bands
from . import blending, labelled, stacks


def super_resolve(
    model: Network | str | os.PathLike[str],
    image: Any,
    *,
    tile: tuple[int, int] | None = None,
    overlap: int | None = None,
    ensemble: bool = False,
    peak: float | None = None,
    nodata: float | None = None,
    nodata_in: Literal["any", "all"] = "any",
    dims: Sequence[Hashable] | None = None,
) -> Any:
    """Enlarge an xarray.DataArray with a network, lazily: nothing is read or computed before it is asked for.

    Values are numbers scale_factor + add_offset, where attributes have these; the network gets values / peak, and the
    result is numbers again, in the input's dtype: integers are rounded and clipped to what it holds, and no valid pixel
    becomes nodata. How the image is cut:

    | | tasks | the same as |
    |---|---|---|
    | `tile` | its tiles, blended | `lkca super-resolve --tile`, bit for bit; with `ensemble` up to rounding |
    | no `tile`, a network that names its receptive field | chunks with that many pixels around (`map_overlap`), whose \
output takes 128 MiB or less | the whole scene at once, up to rounding |
    | no `tile`, any other network | whole scenes, one after the other | the whole scene at once, bit for bit |

    A network that looks at the whole image, as LKCA-Net does whose channel attention averages over it, has no tiles
    that are exact: `tile` is an approximation then, and its memory that of a tile; without it a worker must have that
    of a scene (`lkcanet.inference.memory`).

    Pixels without data (`nodata`, NaN in any band) are masked in the result. Before the network sees a task's pixels
    they get the spectrum of the nearest valid pixel of that task. The command looks for it in the whole scene: results
    are the same where it lies in the same tile. With a receptive field the chunks are as much wider as it takes that
    valid pixels don't depend on this. A band of nothing but nodata leaves no valid pixel: leave it out before.

    Stored as it is computed (`to_raster` with a lock, `to_zarr`), a result in tiles takes the memory of a few, whatever
    its length; in chunks dask may read ahead, up to the whole low-resolution image.

    A task depends on nothing but its inputs: what a lost worker had is computed again, with the same bits on the same
    kind of processor and number of threads. The network is in the graph once and gets to each worker once; of a path or
    name only that, and the checkpoint's checksum.

    Args:
        model: any mode; or a checkpoint's path or name, which every worker must have at that place. Such a checkpoint
            gives the peak of its training, and its wavelengths are compared with a coordinate `wavelength`, in
            nm or what its `units` say.
        image: of integers or floats, on bands, rows, columns and any other axes (time, scene), each entry of which is
            a scene of its own; on dask or in memory. Bands are gathered into one chunk, however they are chunked.
        tile: (rows, columns) of a tile, in low-resolution pixels, its overlap included.
        overlap: low-resolution pixels that neighbouring tiles share at least, see `lkcanet.inference.super_resolve`.
        ensemble: the mean of the images of all eight orientations, of every task's.
        peak: the value that becomes 1. By default that of the checkpoint, else the maximum of each scene's valid
            pixels, for which all of it is read once more.
        nodata: the number of pixels without data, in place of the one in the attributes (`_FillValue`, ...).
        nodata_in: a pixel is invalid where "any" band holds that number, or where "all" do.
        dims: names of bands, rows and columns; needed where they are not the usual ones ("band", "y", "x").

    Returns:
        A DataArray on a dask array, of the same axes, `model.scale` times the rows and columns; x and y at the centres
        of the new pixels, other coordinates and attributes kept, the transform of rioxarray's `spatial_ref` scaled.

    Raises:
        TypeError: no DataArray of integers or floats, or a network that fuses a multispectral image.
        ValueError: axes that can't be told, other bands or wavelengths than the network's, a tile, overlap, peak or
            nodata value that is none. When it is computed: infinite pixels, a scene without positive pixels and no
            `peak`, a checkpoint that is another one on the worker.
        FileNotFoundError: no such checkpoint.
        ModuleNotFoundError: dask or xarray is not installed.
    """
    plan = None if tile is None else tiles.check(tile, overlap)
    if tile is None and overlap is not None:
        raise ValueError(f"overlap goes with tile only, got overlap {overlap!r} and no tile")
    given = labelled.read(image, dims, nodata)
    network, shipped, record = _network(model)
    _check(network, record, given)
    if peak is None and record is not None:
        peak = record.peak
    field = _receptive_field(network)
    if plan is None and field is not None:
        # valid pixels depend on those so near, which are filled from others that are no farther from them
        around = field + (math.ceil(math.sqrt(2) * field) if stacks.may_be_invalid(given.encoding) else 0)
        side = stacks.side_of(4 * network.bands * network.scale**2, 4 * around)
    else:
        side = stacks.side_of(4 * network.bands, 32) if plan is None else max(plan[:2])
    pixels, peaks = stacks.normalised(stacks.at_most(given.numbers, side), given.encoding, peak, nodata_in)
    if plan is not None:
        sharp = _in_tiles(network, shipped, pixels, plan, ensemble)
    elif field is not None:
        sharp = _in_chunks(network, shipped, pixels, side, around, ensemble)
    else:
        sharp = _mapped(network, shipped, pixels.rechunk((1, -1, -1, -1)), ensemble)
    return labelled.labelled_again(given, sharp, peaks, network.scale)


def _network(model: Network | str | os.PathLike[str]) -> tuple[Network, Any, TrainingRecord | None]:
    """The folded network, what stands for it in the graph, and the record of its checkpoint."""
    delayed = require("dask", extra="cluster").delayed
    if isinstance(model, str | os.PathLike):
        file = pretrained.locate(model)
        network, extra = load_model_and_extra(file)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        shipped = delayed(_loaded, pure=False)(os.fspath(model), digest, dask_key_name=f"network-{digest}")
        return network.fold().eval(), shipped, TrainingRecord(extra, str(model))
    folded = inference.folded_of(model)
    state = hashlib.sha256(repr((type(folded).__name__, folded.config)).encode())
    for key, tensor in (*folded.named_parameters(), *folded.named_buffers()):
        state.update(key.encode() + tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return folded, delayed(folded, name=f"network-{state.hexdigest()}", traverse=False), None


def _loaded(model: str, digest: str) -> Network:
    """On a worker: the checkpoint that the graph was made for."""
    file = Path(pretrained.locate(model))
    if hashlib.sha256(file.read_bytes()).hexdigest() != digest:
        raise ValueError(f"{file} on this worker is another checkpoint than the one the work was planned for")
    return load_model_and_extra(file)[0].fold().eval()


def _check(network: Network, record: TrainingRecord | None, given: labelled.Labelled) -> None:
    if network.msi_bands:
        raise TypeError(f"{network.kind} fuses a multispectral image with each scene: give Scenes to super_resolve")
    band, bands = given.dims[0], given.numbers.shape[1]
    if bands != network.bands:
        raise ValueError(
            f"the network takes {network.bands} bands, image has {bands}: choose them by image.isel({band}=[...])"
        )
    own = None if record is None else record.wavelengths
    coordinate = given.image.coords.get("wavelength")
    if own is None or coordinate is None or coordinate.dims != (band,) or coordinate.dtype.kind not in "iuf":
        return
    told = to_nanometres(coordinate.values.tolist(), str(coordinate.attrs.get("units", "nm")), "image: ")
    wavelengths = None if told is None else told.tolist()
    if wavelengths is not None and not same_bands(own, wavelengths):
        raise ValueError(
            f"image has other bands, {min(wavelengths):g} to {max(wavelengths):g} nm, than the network, "
            f"{min(own):g} to {max(own):g} nm"
        )


def _receptive_field(network: Network) -> int | None:
    field = capabilities_of(network).receptive_field
    return field if isinstance(field, int) else None


def _in_tiles(network: Network, shipped: Any, given: Any, plan: tuple[int, int, int], ensemble: bool) -> Any:
    """As `lkcanet.inference.tiles` does it: the same tiles, weights and sums."""
    rows, columns, overlap = plan
    spans = [tiles.spans(given.shape[axis], side, overlap) for axis, side in ((2, rows), (3, columns))]
    return blending.blended(_mapped(network, shipped, stacks.gathered(given, spans), ensemble), spans, network.scale)


def _in_chunks(network: Network, shipped: Any, given: Any, side: int, around: int, ensemble: bool) -> Any:
    """As dask's `map_overlap`."""
    lengths = [stacks.cut((length,), side) for length in given.shape[2:]]
    wide, own = stacks.widened(given, lengths, around)
    own = [[(network.scale * begin, network.scale * end) for begin, end in places] for places in own]
    return stacks.trimmed(_mapped(network, shipped, wide, ensemble), own)


def _mapped(network: Network, shipped: Any, pixels: Any, ensemble: bool) -> Any:
    larger = (tuple(network.scale * length for length in lengths) for lengths in pixels.chunks[2:])
    return pixels.map_blocks(
        _enlarged, network=shipped, scale=network.scale, ensemble=ensemble,
        chunks=(*pixels.chunks[:2], *larger), dtype=np.float32, meta=np.empty((0,) * 4, np.float32),
    )  # fmt: skip


def _enlarged(block: np.ndarray, *, network: Network, scale: int, ensemble: bool) -> np.ndarray:
    """The network's image of (1, B, h, w); NaN where that is."""
    valid = ~np.isnan(block[0, 0])
    if not valid.any():
        return np.full((*block.shape[:2], *(scale * side for side in block.shape[2:])), np.nan, np.float32)
    if not valid.all():
        block = block.copy()
        fill_invalid(block[0], valid)
    sharp = inference.super_resolve(network, block, ensemble=ensemble)
    if not np.isfinite(sharp).all():
        raise ValueError("the result holds NaN or infinite pixels: the network's weights or the scene's units are off")
    if not valid.all():
        sharp[:, :, ~valid.repeat(scale, 0).repeat(scale, 1)] = np.nan
    return sharp
