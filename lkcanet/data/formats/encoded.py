"""A scene in the numbers of the file that it was read from: what every writer of such files shares."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lkcanet.data.encoding import Encoding, nodata_for, numbers_of
from lkcanet.data.formats.raw import MARKER, reading
from lkcanet.data.normalise import can_hold
from lkcanet.data.scenes import Scene


class Encoded:
    """A scene with an encoding, to be written in a format that knows these data types.

    A type that the format has not becomes the smallest of its own that holds all of its numbers. A scene with a mask
    and no number for it gets `lkcanet.data.encoding.nodata_for`; a number that the type can't hold is left out.

    Attributes:
        encoding: as it is written.
        clipped: how many values `band` has clipped so far.
    """

    def __init__(self, scene: Scene, dtypes: Sequence[str]) -> None:
        assert scene.encoding is not None
        encoding = scene.encoding
        dtype = _among(encoding.dtype, dtypes)
        nodata = encoding.nodata
        if nodata is not None and not can_hold(np.dtype(dtype), nodata):
            nodata = None
        if nodata is None and scene.valid is not None:
            nodata = nodata_for(dtype)
        self.encoding = replace(encoding, dtype=dtype, nodata=nodata)
        self.clipped = 0
        self._scene = scene

    @property
    def dtype(self) -> str:
        """Numpy's name of it."""
        return self.encoding.dtype

    @property
    def nodata(self) -> float | None:
        """The number of pixels without data."""
        return self.encoding.nodata

    @property
    def scales(self) -> list[float]:
        """One a band."""
        return np.broadcast_to(self.encoding.scale, self._scene.bands).tolist()

    @property
    def offsets(self) -> list[float]:
        """One a band."""
        return np.broadcast_to(self.encoding.offset, self._scene.bands).tolist()

    def band(self, band: int) -> np.ndarray:
        """Its numbers, (H, W)."""
        scene = self._scene
        numbers, clipped = numbers_of(scene.pixels[band], scene.peak, self.encoding, band, scene.valid)
        self.clipped += clipped
        return numbers

    def record(self) -> dict[str, Any]:
        """What such a file has no words for, for `record_of`: name, source and peak, and by what it is known that the
        peak still holds."""
        scene, encoding = self._scene, self.encoding
        kept = Encoding(encoding.dtype, encoding.scale, encoding.offset, raw=encoding.raw)
        told = {"name": scene.name, "source": scene.source, "peak": scene.peak}
        return {MARKER: 1, **told, "encoded": kept.as_json()}


def _among(dtype: str, dtypes: Sequence[str]) -> str:
    if dtype in dtypes:
        return dtype
    wider = [name for name in dtypes if np.can_cast(dtype, name)]
    return min(wider, key=lambda name: np.dtype(name).itemsize)


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
