"""How a scene is read: the options of every command that takes one."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from . import _fit as fit
from . import _shared as shared

if TYPE_CHECKING:
    from lkcanet.data import Scene, TrainingRecord
    from lkcanet.data.bands import BandChoice
    from lkcanet.models import Network

Key = Annotated[
    str | None,
    typer.Option(
        show_default="the only image",
        help="The variable of a .mat, .npz, netCDF or HDF5 file, by its path: cube, S.data, group/cube.",
    ),
]
Axes = Annotated[
    str | None,
    typer.Option(
        show_default="the format's",
        help="Order of its axes, such as hwc: c bands, h rows, w columns; cp or pc: pixel lists.",
    ),
]
Size = Annotated[
    str | None,
    typer.Option(metavar="ROWS,COLUMNS", show_default="none", help="Of the image, for pixel lists (--axes cp, pc)."),
]
Peak = Annotated[
    float | None, typer.Option(help="The value that becomes 1. Default: the checkpoint's, else the scene's maximum.")
]
Nodata = Annotated[
    float | None,
    typer.Option(help="The value of pixels without data (nan too). Default: what the file declares."),
]
NodataIn = Annotated[
    Literal["any", "all"],
    typer.Option(help="A pixel is left out where any band holds that value, or only where all do."),
]
Bands = Annotated[
    str | None,
    typer.Option(
        metavar="0:130,136:", show_default="all", help="Read these bands: numbers from 0, ranges without their last."
    ),
]
Wavelengths = Annotated[
    str | None,
    typer.Option(metavar="420:1340,1450:1790", show_default="all", help="Read the bands that lie in these ranges, nm."),
]
DropBadBands = Annotated[
    bool, typer.Option("--drop-bad-bands", help="Leave out the bands that the file marks as bad (bbl).")
]
Raw = Annotated[
    bool, typer.Option("--raw", help="Keep the file's counts: do not apply the scale and offset that it declares.")
]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The options, and how they read."""

    key: Key = None
    axes: Axes = None
    size: Size = None
    peak: Peak = None
    nodata: Nodata = None
    nodata_in: NodataIn = "any"
    bands: Bands = None
    wavelengths: Wavelengths = None
    drop_bad_bands: DropBadBands = False
    raw: Raw = False

    def arguments(self, record: "TrainingRecord | None" = None) -> dict[str, Any]:
        """Those of `lkcanet.data.read_scene`; where nothing else is asked for, with the peak and the bands of a
        training."""
        return {
            "key": self.key,
            "axes": self.axes,
            "size": None if self.size is None else shared.parse_pair(self.size, "--size"),
            "peak": record.peak if self.peak is None and record is not None else self.peak,
            "nodata": self.nodata,
            "nodata_in": self.nodata_in,
            "bands": self._choice(record) or self.bands,
            "wavelengths": self.wavelengths,
            "bad_bands": "drop" if self.drop_bad_bands else "keep",
            "raw": self.raw or (record is not None and record.raw),
            "band_count": None if record is None else record.file_bands,
        }

    def _choice(self, record: "TrainingRecord | None") -> "BandChoice | None":
        asked = self.bands is not None or self.wavelengths is not None or self.drop_bad_bands
        return None if record is None or asked else record.band_choice

    def scene(self, path: Path, region: str | None = None, record: "TrainingRecord | None" = None) -> "Scene":
        """Read a scene, as `arguments` has it; crop it. A prepared folder is its scene."""
        from lkcanet.data import is_prepared, read_scene
        from lkcanet.data.prepared import prepared_scene

        if is_prepared(path):
            path = prepared_scene(path)
        scene = read_scene(path, **self.arguments(record))
        return scene if region is None else shared.crop(scene, region)

    def scene_for(
        self,
        path: Path,
        model: "Network",
        record: "TrainingRecord | None" = None,
        region: str | None = None,
        *,
        resample: bool | None = None,
    ) -> "Scene":
        """A scene for a network: divided by the peak of its training unless another is given; bands and units checked.
        `resample` is --resample where a command has it: bands may be others then, see `resampled_for`."""
        trained = None if record is None else record.peak
        scene, choice = self.scene(path, region, record), self._choice(record)
        if choice is not None and scene.band_choice == choice:
            shared.note(f"note: of the {choice.of} bands of {path} those {len(choice.taken)} that the network had")
        if not resample:
            fit.check_bands(path, scene, model, record, resample)
        if self.peak is None and trained is not None and record is not None and "pretrained" in record.extra:
            fit.check_units(path, scene, str(record.extra["pretrained"]))
        elif self.peak is None and trained is not None and not 0.02 < float(scene.pixels.max()) < 4:
            shared.note(
                f"warning: the scene reaches {float(scene.pixels.max()):.3g} after division by the peak of the "
                f"checkpoint, {scene.peak:g}: give --peak{_or_raw(scene)}"
            )
        return scene


def _or_raw(scene: "Scene") -> str:
    """Where the file's scale was applied."""
    encoding = scene.encoding
    return "" if encoding is None or encoding.plain else ", or --raw if it was trained on counts"
