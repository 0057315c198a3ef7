"""A scene in the numbers of a file, those of the file that it was read from where it has an encoding: what the writers
of images with units share."""

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lkcanet.data.encoding import Encoding, nodata_for, numbers_of
from lkcanet.data.formats.raw import MARKER, metadata, reading
from lkcanet.data.normalise import can_hold
from lkcanet.data.scenes import Scene

# of GeoTIFF and netCDF-4
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")


class Encoded:
    """A scene to be written in a format that knows these data types.

    Of a scene with an encoding, its numbers: a type that the format has not becomes the smallest of its own that holds
    all of them, float64 where there is none. A scene with a mask and no number for it gets
    `lkcanet.data.encoding.nodata_for`; a number that the type can't hold is left out.

    Of others the pixels, float32, NaN where they are not valid, with the scale `peak`.

    Attributes:
        encoding: as it is written, None of pixels.
        dtype: numpy's name of it.
        nodata: the number of pixels without data, or None.
        scales, offsets: one a band.
        clipped: how many values `band` has clipped so far.
    """

    def __init__(self, scene: Scene, dtypes: Sequence[str]) -> None:
        self.encoding = scene.encoding and _fitting(scene.encoding, dtypes, masked=scene.valid is not None)
        pixels = Encoding("float32", scene.peak, nodata=None if scene.valid is None else math.nan)
        told = self.encoding or pixels
        self.dtype, self.nodata = told.dtype, told.nodata
        self.scales: list[float] = np.broadcast_to(told.scale, scene.bands).tolist()
        self.offsets: list[float] = np.broadcast_to(told.offset, scene.bands).tolist()
        self.clipped = 0
        self._scene = scene

    def band(self, band: int) -> np.ndarray:
        """Its numbers, (H, W)."""
        scene = self._scene
        if self.encoding is not None:
            numbers, clipped = numbers_of(scene.pixels[band], scene.peak, self.encoding, band, scene.valid)
            self.clipped += clipped
            return numbers
        pixels = scene.pixels[band]
        return pixels if scene.valid is None else np.where(scene.valid, pixels, np.float32(np.nan))

    def record(self, *, told: Collection[str] = ("wavelengths", "band_names")) -> dict[str, Any]:
        """What such a file has no words for, for `record_of`. Of pixels all of `metadata` but what it has `told`; else
        name, source and peak, and by what it is known that the peak still holds."""
        scene, encoding = self._scene, self.encoding
        if encoding is None:
            return {name: value for name, value in metadata(scene).items() if name not in told}
        kept = Encoding(encoding.dtype, encoding.scale, encoding.offset, raw=encoding.raw)
        names = {"name": scene.name, "source": scene.source, "peak": scene.peak}
        return {MARKER: 1, **names, "encoded": kept.as_json()}


def _fitting(encoding: Encoding, dtypes: Sequence[str], *, masked: bool) -> Encoding:
    """In one of these types, with a number for pixels without data where some are masked."""
    dtype, nodata = _among(encoding.dtype, dtypes), encoding.nodata
    if nodata is not None and not can_hold(np.dtype(dtype), nodata):
        nodata = None
    if nodata is None and masked:
        nodata = nodata_for(dtype)
    return replace(encoding, dtype=dtype, nodata=nodata)


def _among(dtype: str, dtypes: Sequence[str]) -> str:
    if dtype in dtypes:
        return dtype
    wider = [name for name in dtypes if np.can_cast(dtype, name)]
    return min(wider, key=lambda name: np.dtype(name).itemsize, default="float64")


def kept(record: dict[str, Any] | None, encoding: Encoding, path: Path) -> dict[str, Any]:
    """Name, source and peak of a file that was written by an `Encoded`, where its numbers still mean what they did; of
    other files nothing.

    Args:
        record: what `Encoded.record` gave, from the file.
        encoding: as the file itself tells it, raw where that is asked for.
        path: for errors.
    """
    if record is None:
        return {}
    with reading(path, "a scene of write_scene"):
        then = Encoding.from_json(str(record["encoded"]))
        fields = {"name": str(record["name"]), "source": str(record["source"])}
        same = (then.dtype, then.raw) == (encoding.dtype, encoding.raw) and all(
            np.shape(mine) == np.shape(its) and np.allclose(mine, its, rtol=1e-12, atol=0)
            for mine, its in ((then.scale, encoding.scale), (then.offset, encoding.offset))
        )
        return {**fields, "peak": float(record["peak"])} if same else fields
