"""Where on Earth the pixels of a scene lie."""

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Georeference:
    """An affine map from pixels to coordinates, and the system of these coordinates.

        x = a column + b row + c,   y = d column + e row + f

    with (column, row) = (0, 0) at the outer corner of the first pixel, as GDAL and rasterio count.

    Attributes:
        transform: (a, b, c, d, e, f), in the units of `crs`.
        crs: the coordinate reference system as WKT (or what the file had); "" where unknown.

    Raises:
        ValueError: not six finite numbers, or a map that is not invertible.
    """

    transform: tuple[float, float, float, float, float, float]
    crs: str = ""

    def __post_init__(self) -> None:
        numbers = tuple(float(value) for value in self.transform)
        if len(numbers) != 6 or not all(map(math.isfinite, numbers)):
            raise ValueError(f"transform must be six finite numbers (a, b, c, d, e, f), got {self.transform!r}")
        a, b, _, d, e, _ = numbers
        if a * e - b * d == 0:
            raise ValueError(f"transform must be invertible, got {self.transform!r}")
        object.__setattr__(self, "transform", numbers)

    def shifted(self, row: int, column: int) -> "Georeference":
        """Of the part of the image whose first pixel is (row, column)."""
        a, b, c, d, e, f = self.transform
        return Georeference((a, b, a * column + b * row + c, d, e, d * column + e * row + f), self.crs)

    def scaled(self, scale: float) -> "Georeference":
        """Of the image with `scale` times as many pixels in both directions: its pixels are smaller by `scale`."""
        a, b, c, d, e, f = self.transform
        return Georeference((a / scale, b / scale, c, d / scale, e / scale, f), self.crs)

    @staticmethod
    def from_gdal(told: Any, crs: str = "") -> "Georeference | None":
        """Of GDAL's six numbers (c, a, b, f, d, e), or a text of them; None of anything else."""
        try:
            c, a, b, f, d, e = map(float, told.split() if isinstance(told, str) else told)
            return Georeference((a, b, c, d, e, f), crs)
        except (TypeError, ValueError):
            return None

    def gdal(self) -> str:
        """The transform as GDAL writes it: "c a b f d e"."""
        a, b, c, d, e, f = self.transform
        return " ".join(map(repr, (c, a, b, f, d, e)))

    def told(self) -> str:
        """For people: the system's name, the corner and the sides of a pixel."""
        a, b, c, d, e, f = self.transform
        sides = f"{math.hypot(a, d):g} x {math.hypot(b, e):g}"
        return f"{system_name(self.crs) or 'no system'}, corner {c:.10g}, {f:.10g}, pixels of {sides}"

    def agrees(self, other: "Georeference") -> bool:
        """Whether the transforms are the same to a billionth of a pixel, whatever the systems are called."""
        a, b, _, d, e, _ = self.transform
        tolerance = 1e-9 * max(map(abs, (a, b, d, e)))
        pairs = zip(self.transform, other.transform, strict=True)
        return all(abs(mine - its) <= tolerance for mine, its in pairs)


def system_name(crs: str) -> str:
    """The name inside a WKT text, the first in quotes; another text itself."""
    return crs.split('"')[1] if crs.count('"') > 1 else crs
