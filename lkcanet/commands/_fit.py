"""Whether a scene's bands and units are those of a network, and what would fit."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import _shared as shared

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkcanet.data import Scene, TrainingRecord
    from lkcanet.models import Network

Resample = Annotated[
    bool,
    typer.Option(
        "--resample",
        help="A scene of other bands: resample its spectra to the network's, and what the network adds back onto the "
        "scene's own bicubic image. An approximation.",
    ),
]
UNITS = (0.1, 1.5)  # what a scene reaches in the units of a network's training; the least of CAVE's is 0.59


def check_bands(
    path: Path, scene: "Scene", model: "Network", record: "TrainingRecord | None", resample: bool | None
) -> None:
    """Raise a ValueError where the scene's bands are not the network's, as far as number and wavelengths tell; says
    which networks there are for it, and of --resample where the command has it (not None)."""
    from lkcanet.models.pretrained import same_bands

    own = None if record is None else record.wavelengths
    if scene.bands != model.bands:
        problem = f"{path} has {scene.bands} bands, the network takes {model.bands}"
    elif own is not None and scene.wavelengths is not None and not same_bands(own, scene.wavelengths.tolist()):
        problem = f"{path} has other bands, {_range(scene.wavelengths.tolist())}, than the network, {_range(own)}"
    else:
        return
    raise ValueError("; ".join([problem, *_what_fits(scene, model, own, resample)]))


def check_units(path: Path, scene: "Scene", name: str) -> None:
    """Raise a ValueError where a scene, divided by the peak of a pretrained network, is in other units than those."""
    reaches = float(scene.pixels.max())
    if not UNITS[0] <= reaches <= UNITS[1]:
        raise ValueError(
            f"{path} reaches {reaches:.3g} after division by {scene.peak:g}, the peak of {name}, so that its units "
            f"seem to be others: give --peak, the value that becomes 1 (--peak {scene.peak:g} if they are not)"
        )


def prediction_reading(scene: "Scene", axes: str | None) -> dict[str, Any]:
    """How a result is read that is compared with a scene: in its units, and with as many bands."""
    raw = scene.encoding is not None and scene.encoding.raw and scene.encoding.scaled
    return {"peak": scene.peak, "axes": axes, "band_count": scene.bands, "raw": raw}


def resampled_for(path: Path, scene: "Scene", model: "Network", record: "TrainingRecord") -> "Network":
    """The network for the scene's bands; says what that means."""
    from lkcanet.data.resampling import seen
    from lkcanet.inference import resampled

    own = record.wavelengths
    if own is None or scene.wavelengths is None:
        who = record.where if own is None else str(path)
        raise ValueError(f"--resample needs wavelengths, which {who} does not tell")
    wavelengths = scene.wavelengths.tolist()
    if wavelengths == own:
        shared.note(f"note: {path} has the network's wavelengths: nothing to resample")
        return model
    left = scene.bands - int(seen(own, wavelengths).sum())
    shared.note(
        f"note: --resample is an approximation: the network was trained on {_range(own)}"
        + (f"; {left} of {scene.bands} bands of {path} lie outside and stay bicubic" if left else "")
    )
    return resampled(model, own, wavelengths)


def _range(wavelengths: "Sequence[float]") -> str:
    return f"{min(wavelengths):g} to {max(wavelengths):g} nm"


def _what_fits(scene: "Scene", model: "Network", own: "Sequence[float] | None", resample: bool | None) -> list[str]:
    from lkcanet.models import pretrained

    hints = []
    nanometres = None if scene.wavelengths is None else scene.wavelengths.tolist()
    if names := pretrained.fitting(scene.bands, nanometres, model.scale):
        hints.append(f"networks for it: {', '.join(names)}")
    if resample is not None and own is not None:
        can = nanometres is not None
        hints.append("--resample takes it, approximately" if can else "--resample needs a scene with wavelengths")
    return hints
