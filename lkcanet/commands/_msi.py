"""The multispectral image (MSI) that some networks take beside the scene: its options, and what refuses it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._reading import Reading

if TYPE_CHECKING:
    from lkcanet.data import Scene, SpectralResponse, TrainingRecord
    from lkcanet.models import Network

Msi = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        show_default="none",
        help="The multispectral scene that a fusion network takes, of full resolution.",
    ),
]
MsiKey = Annotated[str | None, typer.Option(show_default="the only image", help="As --key, of --msi.")]
MsiAxes = Annotated[str | None, typer.Option(show_default="the format's", help="As --axes, of --msi.")]
MsiPeak = Annotated[
    float | None, typer.Option(help="As --peak, of --msi. Default: the checkpoint's, else its maximum.")
]
Response = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        show_default="none, or the training's",
        help="Or make it of the scene: landsat-tm-4, landsat-tm-6, average-4 (groups of neighbouring bands), a .csv.",
    ),
]
PsfSigma = Annotated[
    float | None,
    typer.Option(
        show_default="the bicubic, or the training's",
        help="Make LR images by a Gaussian PSF of so many pixels, as CSAKD's 3, in place of the bicubic.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class MsiReading:
    """How the file of --msi is read."""

    msi_key: MsiKey = None
    msi_axes: MsiAxes = None
    msi_peak: MsiPeak = None

    def check(self, *, given: bool) -> None:
        """Raise for an option of a file that is not given."""
        for option, value in (
            ("--msi-key", self.msi_key),
            ("--msi-axes", self.msi_axes),
            ("--msi-peak", self.msi_peak),
        ):
            if value is not None and not given:
                raise ValueError(f"{option} goes with --msi")

    def scene(self, path: Path, record: "TrainingRecord | None", nodata: float | None) -> "Scene":
        """The file's, divided by the peak of the training unless another is given."""
        peak = record.msi_peak if self.msi_peak is None and record is not None else self.msi_peak
        return Reading(key=self.msi_key, axes=self.msi_axes, peak=peak, nodata=nodata).scene(path)


@dataclass(frozen=True, kw_only=True)
class MsiOptions:
    """Where the multispectral image comes from."""

    msi: Msi = None
    response: Response = None
    msi_reading: MsiReading

    def check(self) -> None:
        """Raise where the options contradict each other."""
        if self.msi is not None and self.response is not None:
            raise ValueError("give --msi or --response, not both")
        self.msi_reading.check(given=self.msi is not None)

    def read(
        self, record: "TrainingRecord | None" = None, *, nodata: float | None = None
    ) -> "Scene | SpectralResponse | None":
        """The scene of --msi, or the response; by default that of a checkpoint's training. None: there is nothing."""
        from lkcanet.data import named_response

        if self.msi is not None:
            return self.msi_reading.scene(self.msi, record, nodata)
        if self.response is not None:
            return named_response(self.response)
        return None if record is None else record.response


def refuse_msi(model: "Network", path: Path, command: str) -> None:
    """Raise for a network that a command cannot handle since it takes an MSI."""
    if model.msi_bands:
        raise ValueError(f"{path} holds a network ({model.kind}) that fuses an MSI, which lkca {command} does not take")
