"""Scenes to ENVI images."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from lkcanet.common.files import atomic_path
from lkcanet.data.formats.encoded import Encoded
from lkcanet.data.formats.envi import MARK, RECORD
from lkcanet.data.formats.envi_encoding import GAINS, encoding_lines
from lkcanet.data.formats.envi_lines import braces, map_lines, plain
from lkcanet.data.formats.raw import metadata, record_of
from lkcanet.data.scenes import Scene

CODES = {
    "uint8": 1,
    "int16": 2,
    "int32": 3,
    "float32": 4,
    "float64": 5,
    "uint16": 12,
    "uint32": 13,
    "int64": 14,
    "uint64": 15,
}


def write_envi(path: Path, scene: Scene) -> int:
    """Write X.hdr and X.img, bsq: see `write_scene`; how many values were clipped."""
    path = Path(os.path.realpath(path))
    encoded = None if scene.encoding is None else Encoded(scene, tuple(CODES))
    with atomic_path(path) as header, atomic_path(path.with_suffix(".img")) as data:
        header.write_text(_header_text(scene, encoded), encoding="ascii")
        with data.open("wb") as file:
            for band in range(scene.bands):
                file.write(_numbers(scene, encoded, band).data)
            file.flush()
            os.fsync(file.fileno())
        # both are complete. From here to the end there is no header, so that it never stands beside other data
        path.unlink(missing_ok=True)
    return 0 if encoded is None else encoded.clipped


def _numbers(scene: Scene, encoded: Encoded | None, band: int) -> np.ndarray:
    """Little-endian."""
    if encoded is not None:
        numbers = encoded.band(band)
        return numbers.astype(numbers.dtype.newbyteorder("<"))
    return np.where(True if scene.valid is None else scene.valid, scene.pixels[band], np.nan).astype("<f4")


def _header_text(scene: Scene, encoded: Encoded | None) -> str:
    bands, (rows, columns) = scene.bands, scene.size
    lines: dict[str, Any] = {MARK: 1, "description": f"{{{plain(scene.name)}; value x gain is in source units}}"}
    if encoded is not None:
        lines = {MARK: 1, "description": f"{{{plain(scene.name)}}}", **encoding_lines(encoded.encoding, bands)}
    lines |= {"samples": columns, "lines": rows, "bands": bands, "header offset": 0, "file type": "ENVI Standard"}
    lines |= {"data type": CODES[encoded.dtype if encoded else "float32"], "interleave": "bsq", "byte order": 0}
    if encoded is None:
        lines[GAINS] = braces([repr(scene.peak)] * bands)
    nodata = (None if scene.valid is None else math.nan) if encoded is None else encoded.nodata
    if nodata is not None:
        lines["data ignore value"] = "NaN" if math.isnan(nodata) else f"{nodata:.17g}"
    if scene.wavelengths is not None:
        lines["wavelength units"] = "Nanometers"
        lines["wavelength"] = braces([repr(float(nm)) for nm in scene.wavelengths])
    if scene.band_names is not None:
        lines["band names"] = braces([plain(name) for name in scene.band_names])
    if scene.georeference is not None:
        lines |= map_lines(scene.georeference)
    record = {name: value for name, value in metadata(scene).items() if name != "wavelengths"}
    if encoded is not None:
        record = encoded.record()
    lines[RECORD] = f"json {record_of(record)}"
    return "ENVI\n" + "".join(f"{name} = {value}\n" for name, value in lines.items())
