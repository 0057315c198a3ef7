"""What pictures of scenes show: the options of every command that draws one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from . import _shared as shared

if TYPE_CHECKING:
    from lkcanet.data import Scene

Pixel = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[NAME=]ROW,COLUMN",
        help="Draw the spectrum of this pixel of the shown part (HR pixels, from 0), such as 40,60 or roof=40,60; may "
        "be repeated, up to six. Default: chosen by what the picture shows.",
    ),
]
Rgb = Annotated[
    str | None,
    typer.Option(
        metavar="R,G,B",
        help="Bands to show as red, green and blue, counted from 1, such as 31,98,61, or their wavelengths: "
        "860nm,650nm,550nm. Default: natural colour where wavelengths are known.",
    ),
]
Unit = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT", help="What the file's values are, for axes: reflectance, counts. Default: what the file says."
    ),
]


class Marks(NamedTuple):
    """Pixels and what to call them, "" where by their letters alone."""

    pixels: list[tuple[int, int]]
    names: list[str]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """The options, and what they mean."""

    pixel: Pixel = None
    rgb: Rgb = None
    unit: Unit = None

    def marks(self) -> Marks:
        """What --pixel names."""
        pixels, names = [], []
        for text in self.pixel or ():
            name, equals, place = text.rpartition("=")
            if equals and not name.strip():
                raise ValueError(f"--pixel must be ROW,COLUMN or NAME=ROW,COLUMN such as roof=40,60; got {text!r}")
            pixels.append(shared.parse_pair(place, "--pixel"))
            names.append(name.strip())
        if len(pixels) > 6:
            raise ValueError(f"--pixel may be given six times, got {len(pixels)}")
        return Marks(pixels, names)

    def bands(self, scene: "Scene") -> list[int] | None:
        """What --rgb names, as indices of a scene's bands; None where it was not given."""
        if self.rgb is None:
            return None
        parts = [part.strip().lower() for part in self.rgb.split(",")]
        if all(part.endswith("nm") for part in parts):
            return _nearest(self.rgb, parts, scene)
        found = [int(part) if part.isdecimal() else 0 for part in parts]
        if len(found) != 3 or not all(1 <= band <= scene.bands for band in found):
            raise ValueError(
                f"--rgb must be three numbers from 1 to {scene.bands}, such as 3,2,1, or wavelengths such as "
                f"860nm,650nm,550nm; got {self.rgb!r}"
            )
        return [band - 1 for band in found]


def _nearest(text: str, parts: Sequence[str], scene: "Scene") -> list[int]:
    if scene.wavelengths is None:
        raise ValueError(f"--rgb {text}: the scene has no wavelengths; give numbers of bands, from 1 to {scene.bands}")
    low, high = float(scene.wavelengths.min()), float(scene.wavelengths.max())
    try:
        waves = [float(part.removesuffix("nm")) for part in parts]
    except ValueError:
        waves = []
    if len(waves) != 3 or not all(low - 50 <= wave <= high + 50 for wave in waves):
        raise ValueError(f"--rgb must be three wavelengths from {low:g} to {high:g} nm, got {text!r}")
    return [int(abs(scene.wavelengths - wave).argmin()) for wave in waves]
