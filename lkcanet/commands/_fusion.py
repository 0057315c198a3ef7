"""What commands share that take a multispectral image beside the scene, or any registered network."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import _shared as shared

if TYPE_CHECKING:
    from lkcanet.data import Scene, SpectralResponse
    from lkcanet.models import Network

Msi = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The multispectral scene that a fusion network takes, of full resolution."),
]
MsiKey = Annotated[str | None, typer.Option(help="As --key, of --msi.")]
MsiAxes = Annotated[str | None, typer.Option(help="As --axes, of --msi.")]
MsiPeak = Annotated[
    float | None, typer.Option(help="As --peak, of --msi. Default: the checkpoint's, else its maximum.")
]
Response = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="Or make it of the scene: landsat-tm-4, landsat-tm-6, average-4 (groups of neighbouring bands), a .csv.",
    ),
]
PsfSigma = Annotated[
    float | None,
    typer.Option(help="Make LR images by a Gaussian PSF of so many pixels, as CSAKD's 3, in place of the bicubic."),
]


@dataclass(frozen=True)
class MsiOptions:
    """Where the multispectral image comes from."""

    path: Path | None = None
    response: str | None = None
    key: str | None = None
    axes: str | None = None
    peak: float | None = None

    def check(self) -> None:
        """Raise where the options contradict each other."""
        if self.path is not None and self.response is not None:
            raise ValueError("give --msi or --response, not both")
        for option, value in (("--msi-key", self.key), ("--msi-axes", self.axes), ("--msi-peak", self.peak)):
            if value is not None and self.path is None:
                raise ValueError(f"{option} goes with --msi")

    def read(self, extra: dict[str, Any], *, nodata: float | None = None) -> "Scene | SpectralResponse | None":
        """The scene of --msi, or the response; by default that of a checkpoint's training. None: there is nothing."""
        from lkcanet.data import named_response

        told = extra.get("msi") or {}
        if self.path is not None:
            peak = told.get("peak") if self.peak is None else self.peak
            return shared.load_scene(self.path, self.key, self.axes, None, peak, nodata=nodata)
        if self.response is not None:
            return named_response(self.response)
        return response_of(extra)


def response_of(extra: dict[str, Any]) -> "SpectralResponse | None":
    """The response that a checkpoint's training made its MSI by, None where it had a file, or no MSI."""
    from lkcanet.data import SpectralResponse

    told = (extra.get("msi") or {}).get("response")
    if told is None:
        return None
    try:
        made = {key: _tuples(value) for key, value in told.items()}
        return SpectralResponse(**made)
    except (AttributeError, TypeError) as error:
        raise ValueError(f"the checkpoint's response is damaged: {error}") from error


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def msi_for(model: "Network", source: "Scene | SpectralResponse | None", target: "Scene", where: str) -> "Scene | None":
    """The MSI that a network takes with the LR image of `target`, or None where it takes none.

    Raises:
        ValueError: it needs one and there is none, or it is of other bands or pixels.
    """
    from lkcanet.data import Scene, simulate_msi
    from lkcanet.training.prepare import check_msi

    if not model.msi_bands:
        return None
    if source is None:
        raise ValueError(f"{where} fuses an MSI of {model.msi_bands} bands: give --msi FILE or --response NAME")
    msi = source if isinstance(source, Scene) else simulate_msi(target, source)
    check_msi(model, msi, target.size)
    return msi


def msi_of_part(
    options: MsiOptions,
    path: Path,
    model: "Network",
    extra: dict[str, Any],
    whole: "Scene",
    target: "Scene",
    region: str | None,
    nodata: float | None,
) -> "Scene | None":
    """What the network of a checkpoint fuses with the LR image of `target`, a region of the scene `whole`; None where
    it takes nothing."""
    from lkcanet.data import Scene

    if not model.msi_bands:
        return None
    source = options.read(extra, nodata=nodata)
    if isinstance(source, Scene) and region is not None and source.size == whole.size:
        source = shared.crop(source, region)
    return msi_for(model, source, target, str(path))


def psf_of(extra: dict[str, Any]) -> float | None:
    """The width of the point spread function that a network was trained with; None is the bicubic."""
    from lkcanet.data.scenes import check_positive

    options = extra.get("options")
    sigma = options.get("psf_sigma") if isinstance(options, dict) else None
    return None if sigma is None else check_positive(sigma, "psf_sigma in the checkpoint's metadata")


def refuse_fusion(model: "Network", path: Path, command: str) -> None:
    """Raise for a network that a command cannot handle since it takes an MSI."""
    if model.msi_bands:
        raise ValueError(f"{path} holds a network ({model.kind}) that fuses an MSI, which lkca {command} does not take")


def parse_settings(texts: list[str] | None, option: str) -> dict[str, Any]:
    """ "features=32" and the like to arguments; values are JSON, or texts where they are none."""
    settings: dict[str, Any] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"{option} must be NAME=VALUE such as features=32, got {text!r}")
        try:
            settings[name] = json.loads(value)
        except ValueError:
            settings[name] = value
    return settings


def parse_snrs(text: str) -> list[float]:
    """ "20,25,30": dB of noise, ascending or not, each once."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or not all(abs(value) < float("inf") for value in values) or len(set(values)) < len(values):
        raise ValueError(f"--snr must be numbers of dB such as 20,25,30, each once; got {text!r}")
    return values
