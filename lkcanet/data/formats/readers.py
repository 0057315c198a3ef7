"""Scenes from files: the one way in, whatever the format."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from lkcanet.data.formats import arrays, envi, geotiff, matlab, png
from lkcanet.data.formats.raw import Raw, reading
from lkcanet.data.normalise import can_hold, scene_from_array, without_nodata
from lkcanet.data.scenes import Scene, check_positive

SUPPORTED = ".mat, .npy, .npz, ENVI (.hdr), GeoTIFF (.tif, .tiff), or a folder of single-band .png images"


def read_scene(
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    axes: str | None = None,
    size: tuple[int, int] | None = None,
    peak: float | None = None,
    nodata: float | None = None,
    bad_bands: Literal["keep", "drop"] = "keep",
) -> Scene:
    """Read a scene and normalise it: pixels = values / peak, (B, H, W) float32.

    | file | variable | default axes |
    |---|---|---|
    | .mat v4 to v7 (scipy) and v7.3 (h5py) | `key`, else the only 2-D or 3-D numeric one | hwc |
    | .npz | the same | chw |
    | .npy (memory-mapped; stays so where it is float32, chw and needs no division) | - | chw |
    | folder | its .png images, one a band, in natural order of their names; coloured ones of equal channels | - |
    | ENVI: the .hdr, or the data file with its header beside it (memory-mapped as .npy) | - | the header's |
    | GeoTIFF .tif, .tiff (rasterio) | its bands, without alpha | - |

    Files of `write_scene` hold normalised pixels, their peak and all other fields, and give back exactly these; an
    explicit `peak` renormalises them (pixels * stored / peak). Other files are normalised by the maximum of their valid
    pixels, or by `peak` (for example 65535 for CAVE). Scale factors and offsets that a file declares are not applied.

    ENVI and GeoTIFF also give wavelengths (in nm), band names and the georeference; see `lkcanet.data.formats.envi` and
    `lkcanet.data.formats.geotiff`. A pixel is invalid where any band holds the nodata value, or where the file's mask
    or alpha says so. What an invalid pixel holds is replaced by the spectrum of the nearest valid pixel and counts
    nowhere.

    Args:
        path: the file or folder.
        key: the variable of a .mat or .npz file. Vectors and scalars are not candidates for the automatic choice.
        axes: the order of the axes: c bands, h rows, w columns, such as "hwc"; for 2-D variables "hw" (one band), or
            "cp" / "pc" with p = pixels in column-major (MATLAB) order, as unmixing data come.
        size: (rows, columns), with "cp" and "pc" only.
        peak: the normaliser.
        nodata: the value that marks invalid pixels, NaN included; instead of the one that the file declares.
        bad_bands: what to do with bands that an ENVI header marks as bad (bbl): "keep" them, with a warning, or "drop".

    Raises:
        FileNotFoundError: no such file, or an ENVI header without its data.
        OSError: the file cannot be read: truncated, corrupt, or not what its suffix or header says.
        ValueError: unsupported suffix, unknown or ambiguous key (lists the keys and shapes), wrong axes or size, not
            real numbers, bands of different sizes, coloured bands whose channels differ, an empty folder, a header
            that contradicts itself, NaN or infinite valid pixels (with their count and the first position), no positive
            pixel, bands of nothing but nodata, no valid pixel, a nodata value that the pixels can't hold, or a peak
            that is not positive and finite.
        ModuleNotFoundError: the package for this format is not installed; the message names the extra that brings it.
    """
    path = Path(path)
    peak = None if peak is None else check_positive(peak, "peak")
    if bad_bands not in ("keep", "drop"):
        raise ValueError(f"bad_bands must be 'keep' or 'drop', got {bad_bands!r}")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    raw = _read(path, key, axes, size, bad_bands)
    if raw.own is not None:
        return _own_scene(path, raw, axes, size, peak, nodata)
    values = _to_chw(raw, axes, size, path)
    valid = raw.valid
    if nodata is not None and not can_hold(values.dtype, nodata):
        raise ValueError(f"{path}: nodata {nodata:g} cannot occur in pixels of {values.dtype}")
    marker = raw.nodata if nodata is None else nodata
    if marker is not None and values.dtype.kind in "iuf":
        clean = without_nodata(values, marker, f"{path}: ")
        valid = clean if valid is None else clean & valid
    if valid is not None and not valid.any():
        raise ValueError(f"{path}: no pixel is valid: every one is nodata or masked")
    return scene_from_array(values, peak=peak, name=path.stem, source=str(path), valid=valid, **(raw.facts or {}))


def _read(
    path: Path, key: str | None, axes: str | None, size: tuple[int, int] | None, bad_bands: Literal["keep", "drop"]
) -> Raw:
    """By folder, suffix, or header beside the file."""
    suffix = "folder" if path.is_dir() else path.suffix.lower()
    if suffix in (".mat", ".npz"):
        return (matlab.read_mat if suffix == ".mat" else arrays.read_npz)(path, key)
    header = None if suffix in (".npy", "folder", *geotiff.SUFFIXES) else envi.header_of(path)
    if header is None and suffix not in (".npy", "folder", *geotiff.SUFFIXES):
        lacks = f"; ENVI data need {path.name}.hdr or {path.stem}.hdr beside them" if suffix in envi.SUFFIXES else ""
        raise ValueError(f"{path}: unsupported suffix {path.suffix!r}; supported: {SUPPORTED}{lacks}")
    if key is not None:
        raise ValueError(f"{path}: key {key!r} was given, but this kind of file holds one array without a name")
    if suffix in (".npy", "folder"):
        return arrays.read_npy(path) if suffix == ".npy" else png.read_folder(path)
    if axes is not None or size is not None:
        raise ValueError(f"{path}: axes and size do not apply to ENVI and GeoTIFF: the file says how it is laid out")
    return geotiff.read_geotiff(path) if header is None else envi.read_envi(path, header, bad_bands)


def _to_chw(raw: Raw, axes: str | None, size: tuple[int, int] | None, path: Path) -> np.ndarray:
    """The values as (bands, rows, columns)."""
    if axes is None and raw.values.ndim == 2:
        arrays.to_bands(raw.values, "chw", source=str(path))  # raises, with the options that would read it
    return arrays.to_bands(raw.values, axes or raw.axes or "chw", size, source=str(path))


def _own_scene(
    path: Path,
    raw: Raw,
    axes: str | None,
    size: tuple[int, int] | None,
    peak: float | None,
    nodata: float | None,
) -> Scene:
    """What write_scene wrote."""
    assert raw.own is not None
    if (axes or raw.axes) != raw.axes or size is not None:
        raise ValueError(f"{path}: was written by write_scene with axes {raw.axes!r}: leave axes and size out")
    if nodata is not None:
        raise ValueError(f"{path}: was written by write_scene with its mask: leave nodata out")
    stored = raw.own["peak"]
    values = arrays.to_bands(raw.values, raw.axes or "chw", source=str(path))
    # dividing by peak / stored = 1 keeps the pixels, and a memory map, as they are
    divisor = 1.0 if peak is None else peak / stored
    scene = scene_from_array(values, peak=divisor, source=str(path), valid=raw.valid)
    with reading(path, "a scene of write_scene"):
        return replace(scene, **{**raw.own, "peak": stored if peak is None else peak})
