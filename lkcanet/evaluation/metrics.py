"""Six quality scores of hyperspectral super-resolution, as SSPSR and MSDformer define them.

x is the target, y the prediction, both (C, H, W); b runs over the C bands, p over the H*W pixels. Images are scored one
at a time and the scores of a batch are the plain mean over its images. Predictions are not clipped, borders not shaved.

Sources: the released metrics.py of SSPSR (Jiang et al., 2020) and of MSDformer (Chen et al., 2023; the clamp of the
cosine). They hard-code r = 4 in ERGAS; here it is the true scale, as in the tables of LKCA-Net (arXiv 2501.18664).
PSNR by each band's own peak and RMSE in counts are CSAKD's (section IV-A.3).

Why not a library: skimage's SSIM is the reference here and in the tests, but takes 15 ms for a 512 x 512 band where the
running sums below take 2.5 ms (2 CPU cores) for the same numbers to 5e-16; `torch.avg_pool2d` takes 11 ms, and
torchmetrics 218 ms with an error of 4e-9 (its window is not exactly 1/49). torchmetrics' SAM and ERGAS don't skip zero
spectra or zero-mean bands.

Memory: besides the inputs, about 12 float64 planes of H x W whatever the number of bands (three of them hold the sums
of SAM), and a few MiB of tiles: 380 MiB for 2048 x 2048 pixels, where one band takes 32 MiB and a 128-band cube 4 GiB.
"""

# long: the scores share their passes over the cubes

import math
import warnings
from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, TypedDict

import torch
from torch import Tensor

from lkcanet.common.ssim import SSIM, check_ssim
from lkcanet.evaluation.metric_inputs import as_images, as_mask, positive_int
from lkcanet.evaluation.ssim import RADIUS, WINDOW, mean_ssim, windows_of

if TYPE_CHECKING:
    import numpy as np

    Images = Tensor | np.ndarray[Any, Any]

__all__ = ["Metrics", "cc", "ergas", "evaluate", "mpsnr", "mssim", "rmse", "sam"]

NAMES = ("mpsnr", "mssim", "sam", "cc", "rmse", "ergas")
OPTIONAL = ("sam_above", "psnr_peak", "rmse_counts")
TILE = {"cpu": 1 << 18}  # elements computed at once: 2 MiB of float64 stays in a core's cache
GPU_TILE = 1 << 24  # elsewhere the launches cost more than the memory


class _Six(TypedDict):
    mpsnr: float  # dB, higher is better
    mssim: float  # at most 1, higher is better
    sam: float  # degrees, lower is better
    cc: float  # -1 to 1, higher is better
    rmse: float  # units of the data, lower is better
    ergas: float  # no unit, lower is better


class Metrics(_Six, total=False):
    """Scores of a prediction: a dict of plain floats (JSON writes a perfect MPSNR as `Infinity`)."""

    sam_above: float  # degrees, lower is better: SAM of the pixels above a floor, where one was given
    psnr_peak: float  # dB, higher is better: of each band's own peak, where a unit was given
    rmse_counts: float  # in the units of the file, lower is better: RMSE times that unit


def evaluate(
    prediction: "Images",
    target: "Images",
    scale: int,
    data_range: float = 1.0,
    valid: "Images | None" = None,
    floor: float | None = None,
    ssim: SSIM = "uniform",
    unit: float | None = None,
) -> Metrics:
    """All six scores in one pass over the bands; see the functions of the same names for the formulas.

    Args:
        prediction: (N, C, H, W) or (C, H, W), tensor or array of a floating-point type, any memory layout.
        target: same shape (and device). H and W at least 7.
        scale: upsampling factor r, a positive int; only ERGAS uses it.
        data_range: R, the largest value the data can take (1 for scenes divided by their maximum).
        valid: bool, (H, W) for all images or (N, H, W), such as `Scene.valid`; None: every pixel. Invalid pixels count
            in no score, whatever they hold (NaN too): all means and sums are over valid pixels, and SSIM's over the
            windows that hold nothing else.
        floor: also score `sam_above`, the SAM of the pixels where the root mean square over the bands of the target is
            above this (units of the data, 0 or more); nan where there are none. Dark pixels (water, shadow) have an
            angle that is all noise, and can hide or make the differences between methods in `sam`, which counts all.
        ssim: of which windows MSSIM is, see `mssim`: papers differ, and so do their numbers.
        unit: what the data was divided by (`Scene.peak`); also score CSAKD's `psnr_peak`, the mean over bands of
            10 log10(max x_b^2 / mse_b), and `rmse_counts`, `rmse` times this.

    Everything is computed in float64. In float32 all scores but SAM agree to 4 decimals; SAM does not, because the
    float below 1 is already 0.0198 degrees (4.4838 against 4.4821 degrees on one cube), so published scores from
    float32 code differ in the third decimal. In float64 that floor is 1e-6 degrees, and identical cubes give exactly 0.

    Raises:
        TypeError: an argument is neither tensor nor array, or not floating-point (integer counts must be scaled first),
            or `valid` is not bool.
        ValueError: shapes differ or aren't 3-D or 4-D, an image is empty or smaller than 7 x 7, a valid value is NaN or
            infinite, `scale` is not a positive int, `data_range` or `unit` is not positive and finite, `floor` is
            not finite or below 0, `ssim` is none of the two, or `valid` has another shape or is nowhere true.

    Warns:
        RuntimeWarning: bands were left out of CC or ERGAS, or of `psnr_peak` since they are zero in the target, every
            spectrum of an image out of SAM, or an image has no window of valid pixels (MSSIM is then nan).
    """
    names = [*NAMES, *([] if floor is None else ["sam_above"])]
    above = 0.0 if floor is None else floor
    if unit is not None:
        if isinstance(unit, bool) or not (0 < float(unit) < math.inf):
            raise ValueError(f"unit is {unit!r}, expected a positive finite number")
        names.append("psnr_peak")
    scores = _measure(
        prediction, target, names, scale=scale, data_range=data_range, valid=valid, floor=above, ssim=ssim
    )
    if unit is not None:
        scores["rmse_counts"] = scores["rmse"] * float(unit)
    return Metrics(**scores)  # type: ignore[typeddict-item]


def mpsnr(prediction: "Images", target: "Images", data_range: float = 1.0, valid: "Images | None" = None) -> float:
    """Mean over bands of 10 log10(R^2 / mse_b), dB; inf if any band is exact. Arguments and errors as `evaluate`."""
    return _measure(prediction, target, ["mpsnr"], data_range=data_range, valid=valid)["mpsnr"]


def mssim(prediction: "Images", target: "Images", data_range: float = 1.0, ssim: SSIM = "uniform") -> float:
    """Mean over bands of the structural similarity. Arguments and errors as `evaluate`.

    SSIM(x, y) = (2 mx my + C1)(2 sxy + C2) / ((mx^2 + my^2 + C1)(sx^2 + sy^2 + C2)), C1 = (0.01 R)^2, C2 = (0.03 R)^2,
    with means m, variances s^2 and covariances over windows, averaged over all of them.

    - "uniform": 7 x 7 windows of equal weights, with sample (co)variances (49/48), that lie wholly inside the image:
      the defaults of `skimage.metrics.structural_similarity`, which crops 3 pixels on each side.
    - "matlab": 11 x 11 windows around every pixel, with Gaussian weights of standard deviation 1.5 that sum to 1, the
      border repeated outside the image: MATLAB's ssim(y, x) of a band, as SSPSR's table of CAVE has it. (Wang et al.,
      "Image quality assessment", 2004, whose own code leaves out windows that cross the border.)
    """
    return _measure(prediction, target, ["mssim"], data_range=data_range, ssim=ssim)["mssim"]


def sam(prediction: "Images", target: "Images", floor: float = 0.0, valid: "Images | None" = None) -> float:
    """Spectral angle: mean over p of arccos(clamp(<x_p, y_p> / (|x_p| |y_p|), -1, 1)), degrees.

    Pixels where either spectrum is exactly zero are not counted, nor, with a floor, those where the root mean square
    over the bands of x_p is at or below it; an image of nothing else gives nan and a warning. Arguments and errors as
    `evaluate`.
    """
    name = "sam_above" if floor else "sam"
    return _measure(prediction, target, [name], floor=floor, valid=valid)[name]


def cc(prediction: "Images", target: "Images") -> float:
    """Mean over bands of Pearson's correlation over the pixels of x_b and y_b.

    Bands that are constant in the prediction or the target have none and are left out, with a warning that counts them
    (the reference code returns nan for the whole cube); nan if no band is left. Arguments and errors as `evaluate`.
    """
    return _measure(prediction, target, ["cc"])["cc"]


def rmse(prediction: "Images", target: "Images", valid: "Images | None" = None) -> float:
    """sqrt(mean over the whole cube of (x - y)^2), units of the data: not the mean of the bands' RMSE."""
    return _measure(prediction, target, ["rmse"], valid=valid)["rmse"]


def ergas(prediction: "Images", target: "Images", scale: int) -> float:
    """Relative global error (100 / r) sqrt(mean_b(mse_b / mean(x_b)^2)), no unit.

    Bands of the target whose mean is zero (below 1e-12 of the band's largest magnitude) are left out, with a warning
    that counts them; nan if no band is left. Arguments and errors as `evaluate`.
    """
    return _measure(prediction, target, ["ergas"], scale=scale)["ergas"]


@torch.no_grad()
def _measure(
    prediction: "Images",
    target: "Images",
    names: Collection[str],
    *,
    scale: int = 1,
    data_range: float = 1.0,
    valid: "Images | None" = None,
    floor: float = 0.0,
    ssim: SSIM = "uniform",
) -> dict[str, float]:
    """The named scores, each the mean over images; validates, and warns once for each kind of thing left out."""
    y, x = as_images(prediction, "prediction"), as_images(target, "target")
    if y.shape != x.shape:
        raise ValueError(f"prediction has shape {tuple(y.shape)}, expected that of target, {tuple(x.shape)}")
    if y.device != x.device:
        raise ValueError(f"prediction is on {y.device}, expected the device of target, {x.device}")
    if "mssim" in names and min(x.shape[-2:]) < WINDOW:
        raise ValueError(
            f"prediction and target are {x.shape[-2]} x {x.shape[-1]} pixels, SSIM needs at least {WINDOW} x {WINDOW}"
        )
    check_ssim(ssim)
    factor = positive_int(scale, "scale")
    if isinstance(data_range, bool) or not (0 < float(data_range) < math.inf):
        raise ValueError(f"data_range is {data_range!r}, expected a positive finite number")
    if isinstance(floor, bool) or not (0 <= float(floor) < math.inf):
        raise ValueError(f"floor is {floor!r}, expected a finite number, 0 or more")

    masks = [None] * len(x) if valid is None else list(as_mask(valid, tuple(x.shape), x.device))
    omitted: Counter[str] = Counter()
    per_image = [
        _score_image(y[i], x[i], i, names, factor, float(data_range), omitted, masks[i], float(floor), ssim)
        for i in range(x.shape[0])
    ]
    bands, side = x.shape[0] * x.shape[1], WINDOW if ssim == "uniform" else 2 * RADIUS + 1
    reasons = {
        "cc": f"of {bands} bands are constant in prediction or target and were left out of CC",
        "ergas": f"of {bands} bands of target have zero mean and were left out of ERGAS",
        "psnr_peak": f"of {bands} bands of target are zero and were left out of the PSNR of each band's peak",
        "mssim": f"of {x.shape[0]} images have no {side} x {side} window of valid pixels: their MSSIM is nan",
        "sam": f"of {x.shape[0]} images have only pixels with a zero spectrum: their SAM is nan",
        "sam_above": f"of {x.shape[0]} images have no pixel above the floor of {floor:g}: their SAM is nan",
    }
    for name, count in omitted.items():
        warnings.warn(f"{count} {reasons[name]}", RuntimeWarning, stacklevel=4)  # past no_grad's wrapper
    return {name: sum(scores[name] for scores in per_image) / len(per_image) for name in names}


def _score_image(
    y: Tensor,
    x: Tensor,
    image: int,
    names: Collection[str],
    scale: int,
    data_range: float,
    omitted: Counter[str],
    valid: Tensor | None,
    floor: float,
    ssim: SSIM,
) -> dict[str, float]:
    """The named scores of one image, from per-band values gathered a few bands at a time."""
    bands, height, width = x.shape
    tile = TILE.get(x.device.type, GPU_TILE)
    step = max(1, tile // (height * width))
    angles = [name for name in ("sam", "sam_above") if name in names]
    parts: dict[str, list[Tensor]] = {"mse": [], "mean": [], "peak": [], "cc": [], "ssim": []}
    products = [x.new_zeros(height, width, dtype=torch.float64) for _ in range(3)] if angles else []
    whole = None if valid is None else windows_of(valid, ssim)
    for first in range(0, bands, step):
        # views where the input is float64 already: nothing below writes into them
        ys, xs = (cube[first : first + step].to(torch.float64).contiguous() for cube in (y, x))
        # (c, pixels that count); the maps of SSIM and SAM hold zeros in the others' places
        y_flat, x_flat = (cube.flatten(1) if valid is None else cube[:, valid] for cube in (ys, xs))
        if valid is not None:
            ys, xs = ys.where(valid, 0), xs.where(valid, 0)
        (y_low, y_high), (x_low, x_high) = (
            _extremes(y_flat, "prediction", image, first),
            _extremes(x_flat, "target", image, first),
        )
        if not {"mpsnr", "rmse", "ergas", "psnr_peak"}.isdisjoint(names):
            parts["mse"].append((y_flat - x_flat).square_().mean(1))
        if "ergas" in names:
            parts["mean"].append(x_flat.mean(1))
        if not {"ergas", "psnr_peak"}.isdisjoint(names):
            parts["peak"].append(torch.maximum(x_low.abs(), x_high.abs()))
        if "cc" in names:
            parts["cc"].append(_correlation(y_flat, x_flat).where((y_low < y_high) & (x_low < x_high), math.nan))
        if "mssim" in names:
            parts["ssim"].append(mean_ssim(ys, xs, data_range, tile, whole, ssim))
        if products:
            for y_band, x_band in zip(ys, xs, strict=True):
                for total, a, b in zip(products, (x_band, x_band, y_band), (y_band, x_band, y_band), strict=True):
                    total.addcmul_(a, b)

    values = {key: torch.cat(pieces) for key, pieces in parts.items() if pieces}
    scores: dict[str, float] = {}
    if "mpsnr" in names:
        scores["mpsnr"] = (10 * (data_range**2 / values["mse"]).log10()).mean().item()
    if "psnr_peak" in names:
        ratio = values["peak"].square() / values["mse"]
        scores["psnr_peak"] = _mean_of_kept(10 * ratio.log10(), values["peak"] > 0, "psnr_peak", omitted)
    if "mssim" in names:
        scores["mssim"] = values["ssim"].mean().item()
        omitted.update({"mssim": 1} if math.isnan(scores["mssim"]) else {})
    for name in angles:
        scores[name] = _mean_angle(bands * floor**2 if name == "sam_above" else 0.0, *products)
        omitted.update({name: 1} if math.isnan(scores[name]) else {})
    if "cc" in names:
        scores["cc"] = _mean_of_kept(values["cc"], ~values["cc"].isnan(), "cc", omitted)
    if "rmse" in names:
        scores["rmse"] = values["mse"].mean().sqrt().item()  # all bands have the same number of pixels
    if "ergas" in names:
        kept = values["mean"].abs() > 1e-12 * values["peak"]
        relative = values["mse"] / values["mean"].square()
        scores["ergas"] = 100 / scale * math.sqrt(_mean_of_kept(relative, kept, "ergas", omitted))
    return scores


def _correlation(y: Tensor, x: Tensor) -> Tensor:
    """Pearson's correlation of each band of (c, pixels), nan for a constant one; two passes, so no cancellation."""
    y, x = (bands - bands.mean(1, keepdim=True) for bands in (y, x))
    xy, xx, yy = (torch.linalg.vecdot(a, b) for a, b in ((x, y), (x, x), (y, y)))
    return ((xy / xx) * (xx / yy).sqrt()).clamp(-1, 1)  # exactly 1 for y = x, unlike xy / (sqrt(xx) sqrt(yy))


def _mean_angle(least: float, xy: Tensor, xx: Tensor, yy: Tensor) -> float:
    """Mean angle in degrees from the maps of <x, y>, |x|^2, which must be above `least`, and |y|^2 (H, W); nan if no
    pixel counts."""
    counted = (xx > least) & (yy > 0)
    xy, xx, yy = (total[counted] for total in (xy, xx, yy))
    cosine = (xy / xx) * (xx / yy).sqrt()  # exactly 1 for y = x, and the product of the norms can't underflow
    return cosine.clamp_(-1, 1).acos_().rad2deg_().mean().item()


def _mean_of_kept(values: Tensor, kept: Tensor, name: str, omitted: Counter[str]) -> float:
    """Mean of the kept bands' values; the others are counted under `name`."""
    left_out = int((~kept).sum())
    if left_out:
        omitted[name] += left_out
    return values[kept].mean().item()


def _extremes(bands: Tensor, name: str, image: int, first: int) -> tuple[Tensor, Tensor]:
    """Smallest and largest value of each band of (c, pixels); both are finite only if every value is."""
    low, high = torch.aminmax(bands, dim=1)
    bad = ~(low.isfinite() & high.isfinite())
    if bad.any():
        band = first + int(bad.nonzero()[0])
        raise ValueError(f"{name} holds NaN or infinite values (first in band {band} of image {image})")
    return low, high
