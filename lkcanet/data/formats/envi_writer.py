"""Scenes to ENVI images."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from lkcanet.common.files import atomic_path
from lkcanet.data.formats.envi import MARK, RECORD
from lkcanet.data.formats.envi_lines import braces, map_lines, plain
from lkcanet.data.formats.raw import metadata, record_of
from lkcanet.data.scenes import Scene


def write_envi(path: Path, scene: Scene) -> None:
    """Write X.hdr and X.img, float32 bsq: see `write_scene`."""
    path = Path(os.path.realpath(path))
    with atomic_path(path) as header, atomic_path(path.with_suffix(".img")) as data:
        header.write_text(_header_text(scene), encoding="ascii")
        with data.open("wb") as file:
            for band in scene.pixels:
                file.write(np.where(True if scene.valid is None else scene.valid, band, np.nan).astype("<f4").data)
            file.flush()
            os.fsync(file.fileno())
        # both are complete. From here to the end there is no header, so that it never stands beside other data
        path.unlink(missing_ok=True)


def _header_text(scene: Scene) -> str:
    bands, (rows, columns) = scene.bands, scene.size
    lines: dict[str, Any] = {MARK: 1, "description": f"{{{plain(scene.name)}; value x gain is in source units}}"}
    lines |= {"samples": columns, "lines": rows, "bands": bands, "header offset": 0, "file type": "ENVI Standard"}
    lines |= {"data type": 4, "interleave": "bsq", "byte order": 0}
    lines["data gain values"] = braces([repr(scene.peak)] * bands)
    if scene.valid is not None:
        lines["data ignore value"] = "NaN"
    if scene.wavelengths is not None:
        lines["wavelength units"] = "Nanometers"
        lines["wavelength"] = braces([repr(float(nm)) for nm in scene.wavelengths])
    if scene.band_names is not None:
        lines["band names"] = braces([plain(name) for name in scene.band_names])
    if scene.georeference is not None:
        lines |= map_lines(scene.georeference)
    record = {name: value for name, value in metadata(scene).items() if name != "wavelengths"}
    lines[RECORD] = f"json {record_of(record)}"
    return "ENVI\n" + "".join(f"{name} = {value}\n" for name, value in lines.items())
