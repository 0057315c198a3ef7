"""What a scene holds, in numbers."""

import math
from typing import Any

from lkcanet.data.georeference import Georeference
from lkcanet.data.scenes import Scene

__all__ = ["describe_scene"]


def describe_scene(scene: Scene) -> dict[str, Any]:
    """Facts of a scene, for JSON.

    Returns:
        name; bands, rows, columns; band_choice, "taken" (numbers from 0) "of" the bands of the file where it has not
        all; peak; smallest, largest and mean of the valid pixels (the mean over bands of each
        band's, in float64), in the units of the source; stored, None where the file says nothing of it: dtype, scale,
        offset, nodata, units and raw of its `Encoding`; wavelengths and fwhm (nm) and band_names, None where not known;
        bad_bands, numbers from 0, where the file marks some; invalid,
        the share of pixels without data, 0 to 1; transform, pixel_size (of a pixel's sides) and crs, None where the
        scene has no georeference.
    """
    return {
        "name": scene.name,
        "bands": scene.bands,
        **_choice(scene),
        "rows": scene.size[0],
        "columns": scene.size[1],
        "peak": scene.peak,
        **_values(scene),
        "stored": _stored(scene),
        "wavelengths": None if scene.wavelengths is None else [float(nm) for nm in scene.wavelengths],
        **_of_bands(scene),
        "band_names": None if scene.band_names is None else list(scene.band_names),
        "invalid": 0.0 if scene.valid is None else 1 - float(scene.valid.mean()),
        **_ground(scene.georeference),
    }


def _choice(scene: Scene) -> dict[str, Any]:
    choice = scene.band_choice
    return {} if choice is None else {"band_choice": {"of": choice.of, "taken": list(choice.taken)}}


def _stored(scene: Scene) -> dict[str, Any] | None:
    found = scene.encoding
    if found is None:
        return None
    told = {name: getattr(found, name) for name in ("dtype", "scale", "offset", "nodata", "units", "raw")}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in told.items()}


def _of_bands(scene: Scene) -> dict[str, Any]:
    found = scene.encoding
    fwhm = None if found is None or found.fwhm is None else list(found.fwhm)
    if found is None or found.good is None or all(found.good):
        return {"fwhm": fwhm}
    return {"fwhm": fwhm, "bad_bands": [band for band, good in enumerate(found.good) if not good]}


def _values(scene: Scene) -> dict[str, float]:
    """A band at a time: a memory map may be larger than the memory."""
    rows = []
    for band in scene.pixels:
        seen = band if scene.valid is None else band[scene.valid]
        rows.append((float(seen.min()), float(seen.max()), float(seen.mean(dtype="float64"))))
    smallest, largest, mean = zip(*rows, strict=True)
    values = {"smallest": min(smallest), "largest": max(largest), "mean": sum(mean) / len(mean)}
    return {name: value * scene.peak for name, value in values.items()}


def _ground(georeference: Georeference | None) -> dict[str, Any]:
    if georeference is None:
        return {"transform": None, "pixel_size": None, "crs": None}
    a, b, _, d, e, _ = georeference.transform
    sides = [math.hypot(a, d), math.hypot(b, e)]
    return {"transform": list(georeference.transform), "pixel_size": sides, "crs": georeference.crs}
