"""Scores of DataArrays, scene by scene."""

from collections.abc import Hashable, Sequence
from typing import Any, Literal

import numpy as np

from ..common.optional import require
from ..common.ssim import SSIM, check_ssim
from ..evaluation import metrics
from ..evaluation.metric_inputs import positive_int
from . import labelled, stacks

UNITS = {"mpsnr": "dB", "sam": "degrees", "sam_above": "degrees"}
CLOSE = 1e-3  # of a pixel, by which coordinates of the same pixels may differ


def evaluate(
    prediction: Any,
    target: Any,
    scale: int,
    *,
    peak: float | None = None,
    floor: float | None = None,
    ssim: SSIM = "uniform",
    nodata: float | None = None,
    nodata_in: Literal["any", "all"] = "any",
    dims: Sequence[Hashable] | None = None,
) -> Any:
    """The six scores of `lkcanet.evaluation.metrics.evaluate`, lazily: a whole scene is one task, whose worker holds
    target and prediction in float32; pixels count that are valid in both.

    Args:
        prediction: an xarray.DataArray of the target's axes, shape and units.
        target: the reference.
        scale: r, of ERGAS.
        peak: both are divided by it; by default the maximum of the target's valid pixels, scene by scene.
        floor: score `sam_above` too, of the pixels whose root mean square over the bands is above it.
        ssim: "uniform" or "matlab", of which windows MSSIM is.
        nodata, nodata_in, dims: as for `lkcanet.cluster.super_resolve`, of both.

    Returns:
        An xarray.Dataset of mpsnr, mssim, sam, cc, rmse, ergas (and sam_above), float64, on dask arrays: a number each,
        or one for each scene, with the axes and coordinates of the scenes. NaN where no pixel of a scene is valid in
        both.

    Raises:
        TypeError: an image that is no DataArray of integers or floats.
        ValueError: images of other axes, shapes, or coordinates of rows and columns that differ; a scale, floor, peak
            or kind of SSIM that is none; and, when it is computed, what `lkcanet.evaluation.metrics.evaluate` raises.
        ModuleNotFoundError: dask or xarray is not installed.
    """
    check_ssim(ssim)
    positive_int(scale, "scale")
    own, of = (labelled.read(each, dims, nodata) for each in (prediction, target))
    _check_alike(own, of)
    xarray, da = require("xarray", extra="cluster"), require("dask.array", extra="cluster")
    pixels, peaks = stacks.normalised(of.numbers.rechunk((1, -1, -1, -1)), of.encoding, peak, nodata_in)
    # by the target's peak: lazily that of each scene
    made, _ = stacks.normalised(own.numbers.rechunk((1, -1, -1, -1)), own.encoding, peaks, nodata_in)
    names = [*metrics.NAMES, *([] if floor is None else ["sam_above"])]
    found = da.map_blocks(
        _scores, made, pixels, names=names, how={"scale": scale, "floor": floor, "ssim": ssim},
        chunks=(pixels.chunks[0], (len(names),), (1,), (1,)), dtype=np.float64, meta=np.empty((0,) * 4),
    )[:, :, 0, 0]  # fmt: skip
    image, scenes = of.image, of.scenes
    lengths = tuple(image.sizes[dim] for dim in scenes)
    kept = {name: each for name, each in image.coords.items() if set(each.dims) <= set(scenes) and each.dims}
    scores = {}
    for index, name in enumerate(names):
        attributes = {"units": UNITS[name]} if name in UNITS else {}
        scores[name] = (tuple(scenes), found[:, index].reshape(lengths), attributes)
    return xarray.Dataset(scores, coords=kept)


def _check_alike(own: labelled.Labelled, of: labelled.Labelled) -> None:
    if own.dims != of.dims or own.scenes != of.scenes or own.numbers.shape != of.numbers.shape:
        raise ValueError(
            f"prediction must be of the target's axes and shape, {dict(of.image.sizes)}, got {dict(own.image.sizes)}"
        )
    for dim in of.dims[1:]:
        mine, its = (each.image.coords[dim].values if dim in each.image.coords else None for each in (own, of))
        if mine is None or its is None or len(its) < 2 or its.dtype.kind not in "iuf" or mine.dtype.kind not in "iuf":
            continue
        if np.abs(mine - its.astype(float)).max() > CLOSE * np.abs(np.diff(its.astype(float))).min():
            raise ValueError(f"prediction and target are not of the same pixels: their coordinates {dim} differ")


def _scores(prediction: np.ndarray, target: np.ndarray, *, names: Sequence[str], how: dict[str, Any]) -> np.ndarray:
    valid = ~(np.isnan(prediction[0, 0]) | np.isnan(target[0, 0]))
    if not valid.any():
        return np.full((1, len(names), 1, 1), np.nan)
    if not valid.all():
        prediction, target = (np.where(valid, image, np.float32(0)) for image in (prediction, target))
        how = {**how, "valid": valid[None]}
    found = dict(metrics.evaluate(prediction, target, **how))
    return np.array([found[name] for name in names]).reshape(1, -1, 1, 1)
