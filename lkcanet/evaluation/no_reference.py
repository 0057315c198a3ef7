"""Scores of a super-resolved scene without its truth: what can be said of a real low-resolution scene, and no more.

Two numbers, each named as what it is. Neither says how sharp or how true the details are: nothing can, without a
reference. Both are high for a result that adds no detail at all, so read them beside those of bicubic, as a check that
a network did not alter what the sensor measured.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import torch
from torch import Tensor

from lkcanet.evaluation.metric_inputs import as_images, as_mask
from lkcanet.evaluation.metrics import mpsnr, rmse, sam

if TYPE_CHECKING:
    import numpy as np

    from lkcanet.data.scenes import Scene
    from lkcanet.evaluation.metric_inputs import Images
    from lkcanet.models import Network

__all__ = [
    "Consistency",
    "NoReference",
    "NoReferenceScores",
    "consistency",
    "score_no_reference",
    "spectral_distortion",
]

BLOCK = 8  # low-resolution pixels: 32 high-resolution ones at x4, the window of Alparone et al.


class Consistency(TypedDict):
    """Of the degraded result against the low-resolution scene."""

    consistency_mpsnr: float  # dB, higher is better
    consistency_sam: float  # degrees, lower is better
    consistency_rmse: float  # units of the data, lower is better


class NoReference(Consistency):
    """What `score_no_reference` finds."""

    d_lambda: float  # 0 to 2, lower is better


def consistency(
    prediction: "Images", lowres: "Images", *, psf_sigma: float | None = None, valid: "Images | None" = None
) -> Consistency:
    """How well a result, degraded again, gives the low-resolution scene that it was made of.

        score(D(y), x),    D the degradation by r, score MPSNR (R = 1), SAM and RMSE

    This is the consistency property of Wald's protocol: "any synthetic image, once degraded to its original resolution,
    should be as identical as possible to the original image" (L. Wald, T. Ranchin and M. Mangolini, 1997). Khan et al.
    ("Pansharpening quality assessment using the modulation transfer functions of instruments", 2009) use it where there
    is no reference, and super-resolution challenges call its PSNR LR-PSNR (Lugmayr et al., NTIRE 2021).

    It is no measure of detail: whatever D takes away may be anything. It holds only as far as D is what the sensor
    did; of a scene with noise the best value is not infinite, since the noise should not come back.

    Args:
        prediction: y, (N, C, r H, r W) or (C, r H, r W), floating-point, r whole.
        lowres: x, of (N, C, H, W) or (C, H, W).
        psf_sigma: of D, in pixels of the result, see `lkcanet.data.gaussian_downsample`; None is the MATLAB-exact
            bicubic.
        valid: bool (H, W) or (N, H, W) of x: only these pixels count.

    Raises:
        TypeError, ValueError: as `lkcanet.evaluation.metrics.evaluate`; a result that is not a whole number of times as
            large as x, the same in both directions.
    """
    from lkcanet.data.multispectral import degraded

    y, x = as_images(prediction, "prediction"), as_images(lowres, "lowres")
    scale = _scale_of(y, x)
    kind = torch.float64 if y.dtype is torch.float64 else torch.float32
    again = degraded(y.to(kind), scale, psf_sigma)
    return Consistency(
        consistency_mpsnr=mpsnr(again, x, valid=valid),
        consistency_sam=sam(again, x, valid=valid),
        consistency_rmse=rmse(again, x, valid=valid),
    )


@torch.no_grad()
def spectral_distortion(
    prediction: "Images", lowres: "Images", *, block: int = BLOCK, valid: "Images | None" = None
) -> float:
    """The spectral distortion index D_lambda of QNR: how much the relations between bands have changed.

        D_lambda = 1 / (C (C - 1)) sum over i != j of |Q(y_i, y_j) - Q(x_i, x_j)|
        Q(a, b) = 4 s_ab m_a m_b / ((s_a^2 + s_b^2) (m_a^2 + m_b^2))

    Q is the universal image quality index, with means m, variances s^2 and covariances over blocks, averaged over them:
    blocks of `block` x `block` pixels of x, which do not overlap, and of r times as many of y: the same ground. Where
    both bands of a block are constant, the first factor, 2 s_ab / (s_a^2 + s_b^2), is 1; where both means are 0, the
    second. L. Alparone et al., "Multispectral and panchromatic data fusion assessment without reference", 2008, eq. 2
    with p = 1 (Q: Z. Wang and A. C. Bovik, 2002). 0 is no change; at most 2, and below 0.1 in practice.

    This is not QNR: its other factor, the spatial distortion D_s, compares with a sharp panchromatic image, which one
    hyperspectral scene has not. It says nothing of detail, and is blind to an error that all bands have alike.

    Args:
        prediction: y, (N, C, r H, r W) or (C, r H, r W), floating-point, r whole.
        lowres: x, of (N, C, H, W) or (C, H, W); of 2 bands or more.
        block: side of a block, in pixels of x, 2 or more; what is left over at the right and below is not counted.
        valid: bool (H, W) or (N, H, W) of x: only blocks of valid pixels count.

    Returns:
        The mean over the images, in float64; nan for an image without a block that counts.

    Raises:
        TypeError, ValueError: as `consistency`; fewer than 2 bands, or `block` below 2 or larger than x.
    """
    y, x = as_images(prediction, "prediction"), as_images(lowres, "lowres")
    scale, (images, bands, height, width) = _scale_of(y, x), x.shape
    if bands < 2:
        raise ValueError(f"lowres has {bands} band, spectral distortion is between two or more")
    if isinstance(block, bool) or not isinstance(block, int) or not 2 <= block <= min(height, width):
        raise ValueError(f"block must be 2 to {min(height, width)}, the smaller side of lowres, got {block!r}")
    masks = None if valid is None else as_mask(valid, tuple(x.shape), x.device)
    values = []
    for image in range(images):
        total, count = x.new_zeros(bands, bands, dtype=torch.float64), 0
        for top in range(0, height - block + 1, block):
            for left in range(0, width - block + 1, block):
                part = (slice(top, top + block), slice(left, left + block))
                if masks is not None and not masks[image][part].all():
                    continue
                large = tuple(slice(each.start * scale, each.stop * scale) for each in part)
                total += _quality(y[image][(slice(None), *large)]) - _quality(x[image][(slice(None), *part)])
                count += 1
        apart = total.abs().sum() / (bands * (bands - 1) * count) if count else x.new_full((), math.nan)
        values.append(float(apart))
    return math.fsum(values) / len(values)


def _quality(block: Tensor) -> Tensor:
    """Q between all bands of a block (C, h, w): (C, C), float64; 0 on the diagonal, which cancels."""
    flat = block.flatten(1).double()
    means = flat.mean(1)
    centred = flat - means[:, None]
    together = centred @ centred.T / flat.shape[1]
    spread, power = together.diagonal(), means.square()
    spreads, powers = spread[:, None] + spread[None], power[:, None] + power[None]
    flat_ones = spreads <= 1e-20 * powers  # what rounding leaves of a constant band
    first = torch.where(flat_ones, 1.0, 2 * together / spreads)
    second = torch.where(powers > 0, 2 * means[:, None] * means[None] / powers, 1.0)
    return (first * second).fill_diagonal_(0)


class NoReferenceScores(NamedTuple):
    """Scores by name of the result, bicubic first, and the scale."""

    rows: dict[str, NoReference]
    scale: int


def score_no_reference(
    lowres: "Scene",
    networks: "Mapping[str, Network] | None" = None,
    *,
    predictions: "Mapping[str, Scene] | None" = None,
    psf_sigma: float | None = None,
    msis: "Mapping[str, Scene] | None" = None,
    ensemble: bool = False,
) -> NoReferenceScores:
    """`consistency` and `spectral_distortion` of bicubic, of networks and of finished results on a real low-resolution
    scene.

    Args:
        lowres: the scene, divided by the peak of the networks' training.
        networks: name to network, of the scene's bands and of one scale.
        predictions: name to a result of any method, divided by the scene's peak, of a whole number of times its size.
        psf_sigma: of the degradation, as in `consistency`.
        msis: name of a network that fuses to its multispectral scene, of the result's size.
        ensemble: score the mean over eight orientations of every network too, as "name (ensemble)".

    Raises:
        ValueError: nothing to score, several scales, a name that is taken, results of other bands, or a scene that is
            smaller than 8 x 8 pixels.
    """
    from lkcanet.data.degrade import bicubic_upsample
    from lkcanet.evaluation.scoring import check_units, ensemble_of, with_ensembles
    from lkcanet.inference import super_resolve

    networks, predictions, msis = dict(networks or {}), predictions or {}, dict(msis or {})
    if ensemble:
        msis |= {ensemble_of(name): msi for name, msi in msis.items()}
        networks = with_ensembles(networks)
    if min(lowres.size) < BLOCK:
        rows, columns = lowres.size
        raise ValueError(f"the scene is of {rows} x {columns} pixels, expected {BLOCK} x {BLOCK} or more")
    if "bicubic" in networks.keys() | predictions.keys() or networks.keys() & predictions.keys():
        raise ValueError("names must differ, and 'bicubic' is the row that is always there")
    x = lowres.tensor()
    scales = {name: model.scale for name, model in networks.items()}
    for name, result in predictions.items():
        check_units(name, result, lowres)
        try:
            scales[name] = _scale_of(result.tensor(), x)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    if len(set(scales.values())) != 1:
        told = ", ".join(f"{name} x{scale}" for name, scale in scales.items()) or "none"
        raise ValueError(f"expected results of one scale, got {told}")
    scale = next(iter(scales.values()))

    def scored(pixels: "Tensor | np.ndarray") -> NoReference:
        fits = consistency(pixels, lowres.pixels, psf_sigma=psf_sigma, valid=lowres.valid)
        return NoReference(**fits, d_lambda=spectral_distortion(pixels, lowres.pixels, valid=lowres.valid))

    found = {"bicubic": scored(bicubic_upsample(x, scale)[0])}
    for name, model in networks.items():
        found[name] = scored(super_resolve(model, lowres, msi=msis.get(name)).pixels)
    found |= {name: scored(result.pixels) for name, result in predictions.items()}
    return NoReferenceScores(found, scale)


def _scale_of(y: Tensor, x: Tensor) -> int:
    """r of a result (N, C, r H, r W) of x (N, C, H, W)."""
    scale = y.shape[-1] // x.shape[-1]
    if scale < 1 or y.shape != (*x.shape[:2], scale * x.shape[2], scale * x.shape[3]):
        raise ValueError(
            f"prediction has shape {tuple(y.shape)}, expected that of lowres, {tuple(x.shape)}, with rows and columns "
            "times a whole number, the same for both"
        )
    return scale
