"""Scenes to ENVI images."""

import math
import os
from pathlib import Path
from typing import Any

from lkcanet.common.files import atomic_path
from lkcanet.data.formats.encoded import Encoded
from lkcanet.data.formats.envi import MARK, RECORD
from lkcanet.data.formats.envi_encoding import GAINS, encoding_lines
from lkcanet.data.formats.envi_lines import braces, map_lines, plain
from lkcanet.data.formats.raw import record_of
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
    encoded = Encoded(scene, tuple(CODES))
    with atomic_path(path) as header, atomic_path(path.with_suffix(".img")) as data:
        header.write_text(_header_text(scene, encoded), encoding="ascii")
        with data.open("wb") as file:
            for band in range(scene.bands):
                numbers = encoded.band(band)
                file.write(numbers.astype(numbers.dtype.newbyteorder("<")).data)
            file.flush()
            os.fsync(file.fileno())
        # both are complete. From here to the end there is no header, so that it never stands beside other data
        path.unlink(missing_ok=True)
    return encoded.clipped


def _header_text(scene: Scene, encoded: Encoded) -> str:
    bands, (rows, columns) = scene.bands, scene.size
    if encoded.encoding is None:
        about, own = "; value x gain is in source units", {GAINS: braces(map(repr, encoded.scales))}
    else:
        about, own = "", encoding_lines(encoded.encoding, bands)
    lines: dict[str, Any] = {MARK: 1, "description": f"{{{plain(scene.name)}{about}}}", **own}
    lines |= {"samples": columns, "lines": rows, "bands": bands, "header offset": 0, "file type": "ENVI Standard"}
    lines |= {"data type": CODES[encoded.dtype], "interleave": "bsq", "byte order": 0}
    if (nodata := encoded.nodata) is not None:
        lines["data ignore value"] = "NaN" if math.isnan(nodata) else f"{nodata:.17g}"
    if scene.wavelengths is not None:
        lines["wavelength units"] = "Nanometers"
        lines["wavelength"] = braces([repr(float(nm)) for nm in scene.wavelengths])
    if scene.band_names is not None:
        lines["band names"] = braces([plain(name) for name in scene.band_names])
    if scene.georeference is not None:
        lines |= map_lines(scene.georeference)
    # with the names, which a header can't hold as they are
    lines[RECORD] = f"json {record_of(encoded.record(told=['wavelengths']))}"
    return "ENVI\n" + "".join(f"{name} = {value}\n" for name, value in lines.items())
