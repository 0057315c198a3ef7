"""How a scene is read: the options of every command that takes one."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import _fit as fit
from . import _shared as shared

if TYPE_CHECKING:
    from lkcanet.data import Scene, TrainingRecord
    from lkcanet.models import Network

Key = Annotated[str | None, typer.Option(help="The variable of a .mat or .npz file.")]
Axes = Annotated[
    str | None,
    typer.Option(help="Order of its axes, such as hwc: c bands, h rows, w columns; cp or pc: pixel lists."),
]
Size = Annotated[
    str | None, typer.Option(metavar="ROWS,COLUMNS", help="Of the image, for pixel lists (--axes cp, pc).")
]
Peak = Annotated[
    float | None, typer.Option(help="The value that becomes 1. Default: the checkpoint's, else the scene's maximum.")
]
Nodata = Annotated[
    float | None,
    typer.Option(help="The value of pixels without data (nan too). Default: what the file declares."),
]
DropBadBands = Annotated[
    bool, typer.Option("--drop-bad-bands", help="Leave out the bands that an ENVI header marks as bad.")
]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The options, and how they read."""

    key: Key = None
    axes: Axes = None
    size: Size = None
    peak: Peak = None
    nodata: Nodata = None
    drop_bad_bands: DropBadBands = False

    def arguments(self) -> dict[str, Any]:
        """Those of `lkcanet.data.read_scene`."""
        return {
            "key": self.key,
            "axes": self.axes,
            "size": None if self.size is None else shared.parse_pair(self.size, "--size"),
            "peak": self.peak,
            "nodata": self.nodata,
            "bad_bands": "drop" if self.drop_bad_bands else "keep",
        }

    def scene(self, path: Path, region: str | None = None) -> "Scene":
        """Read a scene; crop it. A prepared folder is its scene."""
        from lkcanet.data import is_prepared, read_scene
        from lkcanet.data.prepared import prepared_scene

        if is_prepared(path):
            path = prepared_scene(path)
        scene = read_scene(path, **self.arguments())
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
        scene = replace(self, peak=trained if self.peak is None else self.peak).scene(path, region)
        if not resample:
            fit.check_bands(path, scene, model, record, resample)
        if self.peak is None and trained is not None and record is not None and "pretrained" in record.extra:
            fit.check_units(path, scene, str(record.extra["pretrained"]))
        elif self.peak is None and trained is not None and not 0.02 < float(scene.pixels.max()) < 4:
            shared.note(
                f"warning: the scene reaches {float(scene.pixels.max()):.3g} after division by the peak of the "
                f"checkpoint, {scene.peak:g}: give --peak"
            )
        return scene
