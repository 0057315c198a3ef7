"""Scores of networks and of finished results: on a scene, or on the test images of a prepared folder."""

# long: all that scores, in one place

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..common.ssim import SSIM
from ..models import Network
from .metrics import NAMES, OPTIONAL, Metrics, evaluate

if TYPE_CHECKING:
    import numpy as np

    from ..data.prepared import Prepared
    from ..data.responses import SpectralResponse
    from ..data.scenes import Scene
    from ..data.sets import PreparedSet
    from ..data.splits import Rect

__all__ = ["Scores", "mean_scores", "score", "score_scene", "score_tests"]


@dataclass(frozen=True)
class Scores:
    """What `score` finds.

    Attributes:
        target: the part of the scene that was scored, valid where the scene and every MSI are.
        region: its place in the scene.
        scale: r.
        levels: dB of noise (None is none, the last) to the scores of "bicubic" and the names, in their order.
        ssim: of which SSIM their MSSIM is.
    """

    target: "Scene"
    region: "Rect"
    scale: int
    levels: dict[float | None, dict[str, Metrics]]
    ssim: SSIM = "uniform"

    @property
    def clean(self) -> dict[str, Metrics]:
        """The scores without noise."""
        return self.levels[None]

    def rows(self) -> list[dict[str, Any]]:
        """An entry for each level and method, with `snr` (None where clean), for JSON or a data frame."""
        return [{"method": name, "snr": snr, **row} for snr, rows in self.levels.items() for name, row in rows.items()]


def score(
    scene: "Scene",
    networks: Mapping[str, Network] | None = None,
    *,
    predictions: "Mapping[str, Scene] | None" = None,
    region: "Rect | str | None" = None,
    scale: int | None = None,
    psf_sigma: float | None = None,
    msis: "Mapping[str, Scene | SpectralResponse] | None" = None,
    snrs: Sequence[float] = (),
    noise_on: Literal["both", "lowres"] = "both",
    seed: int = 0,
    floor: float | None = None,
    ssim: SSIM = "uniform",
    ensemble: bool = False,
    band_peaks: bool = False,
) -> Scores:
    """Score bicubic, networks and finished results on a scene or a region of it, without noise and with.

    Networks get the LR image of the region, made by `lkcanet.data.simulate_lowres` in float32 after cropping, as a
    whole; scores are computed in float64 over the pixels that are valid in the scene and in every MSI.

        record = TrainingRecord(extra)
        scores = score(scene, {"ours": model}, region=record.test, psf_sigma=record.psf_sigma, floor=record.floor)

    Args:
        scene: the reference, divided by the peak of the networks' training.
        networks: name to network, of the scene's bands and of one scale.
        predictions: name to a result of any method, divided by the scene's peak; one of the whole scene is cropped.
        region: the part to score, as `lkcanet.data.parse_rect` reads it; its first rows and columns that make whole
            low-resolution pixels count. None is the whole scene.
        scale: r; the networks' where there are some.
        psf_sigma: of the LR image, in pixels of the scene; None is the MATLAB-exact bicubic.
        msis: name of a network that fuses to its multispectral scene, of the pixels of the whole scene or of the
            region; or to the response through which it is made of the scene.
        snrs: dB of white Gaussian noise to score under, besides none; see `lkcanet.data.with_noise`.
        noise_on: what gets that noise: LR image and MSI, or the former alone.
        seed: of that noise; LR image and MSI have draws of their own, the same for every network and level.
        floor: score `sam_above` too, see `lkcanet.evaluation.metrics.evaluate`.
        ssim: of which windows MSSIM is, see `lkcanet.evaluation.metrics.mssim`.
        ensemble: score the mean over eight orientations of every network too, as "name (ensemble)".
        band_peaks: score `psnr_peak` and `rmse_counts` too, CSAKD's, see `lkcanet.evaluation.metrics.evaluate`.

    Warns:
        UserWarning: a prediction is ten times larger or smaller than the scene: its units are others.

    Raises:
        ValueError: networks of other bands, or of several scales, or of another than `scale`; no network and no scale;
            a name that is taken; a region that is none, or too small; predictions of another shape, or with `snrs`; an
            MSI that is missing or of another size; `snrs` that are not finite, or twice the same.
    """
    from ..data.multispectral import noisy_scene, simulate_lowres
    from ..data.scenes import Scene
    from ..inference.msi import msi_for, seen_by_both

    networks, predictions, msis = networks or {}, predictions or {}, msis or {}
    if ensemble:
        networks, msis = with_ensembles(networks), {**msis, **{ensemble_of(name): msi for name, msi in msis.items()}}
    scale = _one_scale(networks, scale)
    _check_score(scene, networks, predictions, snrs, noise_on)
    rect = _scored_part(scene, region, scale)
    whole = rect.height == scene.size[0] and rect.width == scene.size[1]
    target = scene if whole else scene.cropped(rect)
    lowres = simulate_lowres(target, scale, psf_sigma=psf_sigma)
    sharp: dict[str, Scene | None] = {}
    for name, model in networks.items():
        source = msis.get(name)
        if model.msi_bands and source is None:
            raise ValueError(f"{name} fuses an MSI of {model.msi_bands} bands: give msis[{name!r}]")
        if isinstance(source, Scene) and not whole and source.size == scene.size:
            source = source.cropped(rect)
        sharp[name] = msi = msi_for(model, source, target)
        target = seen_by_both(target, msi)
    levels: dict[float | None, dict[str, Metrics]] = {}
    for snr in (*snrs, None):
        seen = {
            name: noisy_scene(msi, snr, 2 * seed + 1) if msi is not None and noise_on == "both" else msi
            for name, msi in sharp.items()
        }
        levels[snr] = _rows(target, noisy_scene(lowres, snr, 2 * seed), networks, seen, scale, floor, ssim, band_peaks)
    for name, result in predictions.items():
        check_units(name, result, target)
        part = result.cropped(rect) if not whole and result.pixels.shape == scene.pixels.shape else result
        if part.pixels.shape != target.pixels.shape:
            raise ValueError(f"{name} has shape {part.pixels.shape}, the part to score {target.pixels.shape}")
        levels[None][name] = score_scene(part.pixels, target, scale, floor, ssim, band_peaks)
    return Scores(target, rect, scale, levels, ssim)


def named_scores(names: Sequence[str], images: Sequence[Metrics]) -> dict[str, Any]:
    """Of a network's scores on several images "mean" and "images", the name of each to its scores: for JSON."""
    named = dict(zip(names, (dict(image) for image in images), strict=True))
    return {"mean": dict(mean_scores(images)), "images": named}


def with_ensembles(networks: Mapping[str, Network]) -> dict[str, Network]:
    """Each network, and after it the mean over its eight orientations, as "name (ensemble)"."""
    from ..inference import Ensembled

    both: dict[str, Network] = {}
    for name, model in networks.items():
        both |= {name: model, ensemble_of(name): Ensembled(model)}
    return both


def ensemble_of(name: str) -> str:
    """What the row of a network's ensemble is called."""
    return f"{name} (ensemble)"


def _one_scale(networks: Mapping[str, Network], scale: int | None) -> int:
    scales = {name: model.scale for name, model in networks.items()}
    if scale is None:
        if not scales:
            raise ValueError("scale is None and there is no network that has one: give the upsampling factor")
        scale = next(iter(scales.values()))
    for name, own in scales.items():
        if own != scale:
            raise ValueError(f"{name} is of scale {own}, expected {scale}: score networks of one scale together")
    return scale


def _check_score(
    scene: "Scene",
    networks: Mapping[str, Network],
    predictions: "Mapping[str, Scene]",
    snrs: Sequence[float],
    noise_on: str,
) -> None:
    for argument, names in (("networks", networks), ("predictions", predictions)):
        if "bicubic" in names:
            raise ValueError(f"{argument}: 'bicubic' is the name of the row that is always there")
    if both := sorted(networks.keys() & predictions.keys()):
        raise ValueError(f"predictions: {both[0]!r} is the name of a network, too")
    for name, model in networks.items():
        if model.bands != scene.bands:
            raise ValueError(f"{name} takes {model.bands} bands, the scene {scene.name!r} has {scene.bands}")
    if snrs and predictions:
        raise ValueError("snrs are noise on what networks get: they do not go with predictions")
    _check_noise(snrs, noise_on)


def _check_noise(snrs: Sequence[float], noise_on: str) -> None:
    if len(set(snrs)) < len(snrs) or not all(math.isfinite(snr) for snr in snrs):
        raise ValueError(f"snrs must be finite numbers of dB, each once; got {list(snrs)}")
    if noise_on not in ("both", "lowres"):
        raise ValueError(f"noise_on must be 'both' or 'lowres', got {noise_on!r}")


def check_units(name: str, result: "Scene", target: "Scene") -> None:
    largest, own = float(result.pixels.max()), float(target.pixels.max())
    if not 0.1 * own < largest < 10 * own:
        warnings.warn(
            f"{name} reaches {largest:.3g} after division by the scene's peak, {target.peak:g}, and the scene "
            f"{own:.3g}: predictions are taken in the units of the scene's file",
            stacklevel=3,
        )


def _scored_part(scene: "Scene", region: "Rect | str | None", scale: int) -> "Rect":
    from ..data.splits import Rect, parse_rect, whole_pixels

    if region is None:
        return whole_pixels(Rect(0, scene.size[0], 0, scene.size[1]), scale, "the scene")
    text = region if isinstance(region, str) else str(Rect(*region))
    return whole_pixels(parse_rect(text, scene.pixels.shape), scale, "the region")


def _rows(
    target: "Scene",
    lowres: "Scene",
    networks: Mapping[str, Network],
    msis: "Mapping[str, Scene | None]",
    scale: int,
    floor: float | None,
    ssim: SSIM,
    band_peaks: bool = False,
) -> dict[str, Metrics]:
    """The scores of bicubic and of networks that see this LR image and these MSIs."""
    from ..data.degrade import bicubic_upsample
    from ..inference import super_resolve

    bicubic = bicubic_upsample(lowres.tensor(), scale)[0].numpy()
    rows = {"bicubic": score_scene(bicubic, target, scale, floor, ssim, band_peaks)}
    for name, model in networks.items():
        sharp = super_resolve(model, lowres, msi=msis[name])
        rows[name] = score_scene(sharp.pixels, target, scale, floor, ssim, band_peaks)
    return rows


def score_scene(
    prediction: "np.ndarray",
    target: "Scene",
    scale: int,
    floor: float | None = None,
    ssim: SSIM = "uniform",
    band_peaks: bool = False,
) -> Metrics:
    """The six scores of a (B, H, W) prediction, over the target's valid pixels; with a floor, SAM above it too, with
    `band_peaks` CSAKD's two, the second in the units of the target's file."""
    more: dict[str, Any] = {} if target.valid is None else {"valid": target.valid}
    if band_peaks:
        more["unit"] = target.peak
    return evaluate(prediction, target.pixels, scale, floor=floor, ssim=ssim, **more)


def score_tests(
    prepared: "Prepared | PreparedSet",
    networks: Mapping[str, Network],
    *,
    responses: "Mapping[str, SpectralResponse] | None" = None,
    floor: float | None = None,
    ssim: SSIM | None = None,
    progress: Callable[[str], None] | None = None,
    ensemble: bool = False,
    psf_sigma: float | None = None,
    snr: float | None = None,
    noise_on: Literal["both", "lowres"] = "both",
    impulses: float | None = None,
    band_peaks: bool = False,
) -> dict[str, list[Metrics]]:
    """Score bicubic and networks on every test image, or on every test scene of a set.

    Each image is cropped from the scene, then degraded by the MATLAB-exact bicubic (or `psf_sigma`), and super-resolved
    as a whole, all in float32 as SSPSR's test images are; scores are computed in float64. One image is in memory at a
    time.

    Args:
        prepared: from `load_prepared`.
        networks: name to network, of the folder's bands and scale.
        responses: name to the response through which the MSI of a network that fuses is made of each image.
        floor: score `sam_above` too, see `lkcanet.evaluation.metrics.evaluate`.
        ssim: of which windows MSSIM is, see `lkcanet.evaluation.metrics.mssim`; by default `prepared.ssim`,
            that of the protocol's published table.
        progress: is called with a line for the user before each image.
        ensemble: score the mean over eight orientations of every network too, as "name (ensemble)".
        psf_sigma: of the LR images, in pixels of the scene, as in `score`.
        snr, noise_on: dB of white noise, and what gets it, as in `score`; each image has draws of its own, the same for
            every network and level. None is none.
        impulses: share of the values of the LR images that random ones replace, see
            `lkcanet.data.multispectral.with_impulses`; None is none.
        band_peaks: as in `score`.

    Returns:
        "bicubic" and the names, each with its scores image by image.

    Raises:
        ValueError: a network of other bands or another scale, one that is named "bicubic", or one that fuses and has no
            response, or one of other bands.
    """
    from ..data.multispectral import noisy_scene, simulate_lowres, simulate_msi

    kind = prepared.ssim if ssim is None else ssim
    scale, bands, count = prepared.scale, prepared.bands, len(prepared.test_names)
    _check_noise([] if snr is None else [snr], noise_on)
    if ensemble:
        responses = {**(responses or {}), **{ensemble_of(name): each for name, each in (responses or {}).items()}}
        networks = with_ensembles(networks)
    for name, model in networks.items():
        if name == "bicubic":
            raise ValueError("networks: 'bicubic' is the name of the row that is always there")
        if (model.bands, model.scale) != (bands, scale):
            raise ValueError(
                f"{name} is of {model.bands} bands and scale {model.scale}, {prepared.folder} of {bands} bands and "
                f"scale {scale}"
            )
        if model.msi_bands and name not in (responses or {}):
            raise ValueError(f"{name} fuses an MSI of {model.msi_bands} bands, and there is no response to make it by")
    scores: dict[str, list[Metrics]] = {"bicubic": [], **{name: [] for name in networks}}
    for number in range(count):
        if progress is not None:
            progress(f"test image {number + 1} of {count}")
        target = prepared.test_scene(number)
        msis: dict[str, Scene | None] = dict.fromkeys(networks)
        for name, model in networks.items():
            if model.msi_bands:
                msi = simulate_msi(target, (responses or {})[name])
                msis[name] = noisy_scene(msi, snr if noise_on == "both" else None, 2 * number + 1)
        lowres = simulate_lowres(target, scale, psf_sigma=psf_sigma, snr=snr, impulses=impulses, seed=number)
        for name, row in _rows(target, lowres, networks, msis, scale, floor, kind, band_peaks).items():
            scores[name].append(row)
    return scores


def mean_scores(images: Sequence[Metrics]) -> Metrics:
    """The plain mean over images of every score, as papers report them; nan where an image has none."""
    if not images:
        raise ValueError("images is empty, expected the scores of at least one")
    names = [*NAMES, *(name for name in OPTIONAL if all(name in scores for scores in images))]
    mean = {name: math.fsum(dict(scores)[name] for scores in images) / len(images) for name in names}  # type: ignore[misc]
    return Metrics(**mean)  # type: ignore[typeddict-item]
