"""Scores of networks on the test images of a prepared folder."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..models import Network
from .metrics import NAMES, Metrics, evaluate

if TYPE_CHECKING:
    import numpy as np

    from ..data.prepared import Prepared
    from ..data.responses import SpectralResponse
    from ..data.scenes import Scene

__all__ = ["mean_scores", "score_scene", "score_tests"]


def score_scene(prediction: "np.ndarray", target: "Scene", scale: int, floor: float | None = None) -> Metrics:
    """The six scores of a (B, H, W) prediction, over the target's valid pixels; with a floor, SAM above it too."""
    masked: dict[str, Any] = {} if target.valid is None else {"valid": target.valid}
    return evaluate(prediction, target.pixels, scale, floor=floor, **masked)


def score_tests(
    prepared: "Prepared",
    networks: Mapping[str, Network],
    *,
    responses: "Mapping[str, SpectralResponse] | None" = None,
    floor: float | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, list[Metrics]]:
    """Score bicubic and networks on every test image.

    Each image is cropped from the scene, then degraded by the MATLAB-exact bicubic, and super-resolved as a whole, all
    in float32 as SSPSR's test images are; scores are computed in float64. One image is in memory at a time.

    Args:
        prepared: from `load_prepared`.
        networks: name to network, of the folder's bands and scale.
        responses: name to the response through which the MSI of a network that fuses is made of each image.
        floor: score `sam_above` too, see `lkcanet.evaluation.metrics.evaluate`.
        progress: is called with a line for the user before each image.

    Returns:
        "bicubic" and the names, each with its scores image by image.

    Raises:
        ValueError: a network of other bands or another scale, one that is named "bicubic", or one that fuses and has no
            response, or one of other bands.
    """
    from ..data.degrade import bicubic_downsample, bicubic_upsample
    from ..data.multispectral import simulate_msi
    from ..inference import super_resolve

    scale, bands = prepared.scale, prepared.scene.bands
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
    for number, rect in enumerate(prepared.tests, 1):
        if progress is not None:
            progress(f"test image {number} of {len(prepared.tests)}")
        target = prepared.scene.cropped(rect)
        lowres = target.shrunk(bicubic_downsample(target.tensor(), scale)[0].numpy(), scale)
        scores["bicubic"].append(score_scene(bicubic_upsample(lowres.tensor(), scale)[0].numpy(), target, scale, floor))
        for name, model in networks.items():
            msi = simulate_msi(target, (responses or {})[name]) if model.msi_bands else None
            scores[name].append(score_scene(super_resolve(model, lowres, msi=msi).pixels, target, scale, floor))
    return scores


def mean_scores(images: Sequence[Metrics]) -> Metrics:
    """The plain mean over images of every score, as papers report them; nan where an image has none."""
    if not images:
        raise ValueError("images is empty, expected the scores of at least one")
    names = [*NAMES, *(["sam_above"] if all("sam_above" in scores for scores in images) else [])]
    mean = {name: math.fsum(dict(scores)[name] for scores in images) / len(images) for name in names}  # type: ignore[misc]
    return Metrics(**mean)  # type: ignore[typeddict-item]
