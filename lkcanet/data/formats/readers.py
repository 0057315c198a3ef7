"""Scenes from files: the one way in, whatever the format."""

import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from lkcanet.data.bands import BandChoice, Numbers, Ranges, bands_by_number, bands_by_wavelength, listing, taken_of
from lkcanet.data.encoding import Encoding
from lkcanet.data.formats import arrays
from lkcanet.data.formats.encoded import kept
from lkcanet.data.formats.kinds import read_raw
from lkcanet.data.formats.raw import Raw, reading
from lkcanet.data.normalise import NodataMask, can_hold, held_nodata, nodata_mask, scene_from_array
from lkcanet.data.scenes import Scene, check_positive

_NAMELESS = (".npy", ".npz", ".mat")  # arrays whose axes have no names


def read_scene(
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    axes: str | None = None,
    size: tuple[int, int] | None = None,
    peak: float | None = None,
    nodata: float | None = None,
    nodata_in: Literal["any", "all"] = "any",
    bands: Numbers | BandChoice | None = None,
    wavelengths: Ranges | None = None,
    bad_bands: Literal["keep", "drop"] = "keep",
    raw: bool = False,
    band_count: int | None = None,
) -> Scene:
    """Read a scene and normalise it: pixels = values / peak, (B, H, W) float32.

    | file | variable | default axes |
    |---|---|---|
    | .mat v4 to v7 (scipy) and v7.3 (h5py) | `key`, else the only 2-D or 3-D one of numbers (*) | hwc |
    | .npz | the same | chw |
    | .npy (memory-mapped; stays so where it is float32, chw and needs no division) | - | chw |
    | folder | its .png images, one a band, in natural order of their names; coloured ones of equal channels | - |
    | ENVI: the .hdr, or the data file with its header beside it (memory-mapped as .npy) | - | the header's |
    | GeoTIFF .tif, .tiff (rasterio) | its bands, without alpha | - |
    | EnMAP and DESIS: the SPECTRAL_IMAGE, its METADATA.XML, or the product's folder | its bands | - |
    | folder of GeoTIFFs of a band each, X_B1.tif, X_B2.tif (Hyperion is known) | in order of their numbers | - |
    | netCDF .nc (h5netcdf, scipy), HDF5 .h5, .he5 (h5py) | as .mat, by a path: group/cube | the dimensions' names |
    | EMIT .nc; PRISMA L2 .he5, VNIR and SWIR joined in order of wavelength | reflectance; both cubes | - |

    (*) Of several the only 3-D one of more than three bands. In structs and cells by a path: S.data, C{2}, T(3).cube.

    netCDF-3 files and what HDF5 holds in one piece are memory-mapped; what HDF5 holds in chunks, GeoTIFFs and folders
    are read whole, in the file's data type.

    Files of `write_scene` hold normalised pixels, their peak and all other fields, and give back exactly these; an
    explicit `peak` renormalises them (pixels * stored / peak). Other files are normalised by the maximum of their valid
    pixels, or by `peak` (for example 65535 for CAVE). Scale and offset that a file declares are applied before, so that
    values and peak are in its units, such as reflectance; `raw` leaves the counts. `Scene.encoding` keeps them with
    data type, nodata, units and tags, for a result that is written as the file was.

    ENVI, GeoTIFF, netCDF and HDF5 also give wavelengths (in nm), band names and the georeference; see the modules of
    `lkcanet.data.formats`. Bands of nothing but nodata are left out, with a warning that names them. A pixel is
    invalid where any other band holds the nodata value (`nodata_in`), or where the file's mask or alpha says so. What
    an invalid pixel holds is replaced by the spectrum of the nearest valid pixel and counts nowhere. A scene that has
    not all bands of its file says which, `Scene.band_choice`.

    Args:
        path: the file or folder.
        key: the variable of a .mat, .npz, netCDF or HDF5 file. Vectors and scalars are not candidates for the automatic
            choice.
        axes: the order of the axes: c bands, h rows, w columns, such as "hwc"; for 2-D variables "hw" (one band), or
            "cp" / "pc" with p = pixels in column-major (MATLAB) order, as unmixing data come.
        size: (rows, columns), with "cp" and "pc" only.
        peak: the normaliser.
        nodata: the value that marks invalid pixels, NaN included; instead of the one that the file declares.
        nodata_in: "any": a pixel with nodata in one band is invalid as a whole, with a warning that counts such pixels;
            "all": only one that holds it in all bands, elsewhere the number counts as a value (0 in dark bands).
        bands: the bands to read, numbers from 0: "0:130,136:" (behind the last), or a sequence; or the `band_choice` of
            another scene, which is taken of a file with as many bands as that had, and leaves others whole.
        wavelengths: ranges in nm, both ends included, whose bands are read: "420:1340,1450:1790", or pairs. With
            `bands` those that both name.
        bad_bands: what to do with bands that the file marks as bad (`bbl` of an ENVI header; `bbl` or
            `good_wavelengths` of other files): "keep" them, with a warning unless `bands` or `wavelengths` chose them,
            or "drop".
        raw: leave scale and offset of the file aside: values and peak are its counts.
        band_count: how many bands the file should have, such as a network's: of arrays that do not tell their axes, it
            tells which end the bands lie at. A file with others is read all the same.

    Raises:
        FileNotFoundError: no such file, or an ENVI header without its data.
        OSError: the file cannot be read: truncated, corrupt, or not what its suffix or header says.
        ValueError: unsupported suffix, unknown or ambiguous key (lists the keys and shapes), wrong axes or size, not
            real numbers, bands of different sizes, coloured bands whose channels differ, an empty folder, a header
            that contradicts itself, NaN or infinite valid pixels (with their count and the first position), no positive
            pixel, no valid pixel, a nodata value that the pixels can't hold, bands or wavelengths that are not there,
            or a peak that is not positive and finite.
        ModuleNotFoundError: the package for this format is not installed; the message names the extra that brings it.
    """
    path = Path(path)
    peak = None if peak is None else check_positive(peak, "peak")
    for name, value, choices in (
        ("bad_bands", bad_bands, ("keep", "drop")),
        ("nodata_in", nodata_in, ("any", "all")),
    ):
        if value not in choices:
            raise ValueError(f"{name} must be {choices[0]!r} or {choices[1]!r}, got {value!r}")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    found = read_raw(path, key, axes, size)
    if found.own is not None:
        return _own_scene(path, found, axes, size, peak, nodata, bands, wavelengths, raw)
    facts = {"wavelengths": None, "band_names": None, **(found.facts or {})}
    values = _to_chw(found, axes, size, path, band_count)
    marker, valid = found.nodata if nodata is None else nodata, found.valid
    encoding = _encoding(found, values.dtype, marker, raw)
    told = kept(found.record, encoding or Encoding(), path)
    of = len(values)
    bands = _asked(bands, of)
    chosen = _chosen(path, of, facts["wavelengths"], bands, wavelengths)
    if found.good is not None and bad_bands == "drop":
        chosen = chosen[found.good[chosen]]
        if not len(chosen):
            raise ValueError(f"{path}: every band that was chosen is marked as bad")
    if nodata is not None and not can_hold(values.dtype, nodata):
        raise ValueError(f"{path}: nodata {nodata:g} cannot occur in pixels of {values.dtype}")
    values = taken_of(values, chosen)
    if marker is not None and values.dtype.kind in "iuf":
        marker = held_nodata(values, marker)
        mask = nodata_mask(values, marker, valid, nodata_in)
        _tell_nodata(path, mask, marker, chosen, of, nodata_in)
        valid = mask.valid
        values, chosen = taken_of(values, np.flatnonzero(~mask.empty)), chosen[~mask.empty]
    elif valid is not None and not valid.any():
        raise ValueError(f"{path}: no pixel is valid: every one is masked")
    if found.good is not None and bands is None and wavelengths is None and not found.good[chosen].all():
        advice = "bad_bands='drop' or --drop-bad-bands leaves them out"
        _warn(f"{path}: {(~found.good[chosen]).sum()} of {of} bands are marked as bad (bbl) and kept; {advice}")
    for name in ("wavelengths", "band_names"):
        facts[name] = None if facts[name] is None else [facts[name][band] for band in chosen]
    facts |= {"name": path.stem, "source": str(path), "peak": None, **told}
    facts |= {"valid": valid, "encoding": encoding and encoding.of_bands(chosen)}
    scene = scene_from_array(values, **(facts if peak is None else {**facts, "peak": peak}))
    return replace(scene, band_choice=_choice(of, chosen))


def _encoding(found: Raw, dtype: np.dtype, marker: float | None, raw: bool) -> Encoding | None:
    """What the file says, in one place. None of floats in a file that says nothing of its values."""
    if found.encoding is None and dtype.kind not in "iu":
        return None
    good = None if found.good is None else tuple(found.good.tolist())
    return replace(found.encoding or Encoding(), dtype=dtype.name, nodata=marker, good=good, raw=raw)


def _tell_nodata(path: Path, found: NodataMask, marker: float, chosen: np.ndarray, of: int, rule: str) -> None:
    """Warn of bands and pixels that are left out; raise where nothing is left."""
    if found.empty.all() or not found.valid.any():
        raise ValueError(f"{path}: no pixel is valid: every one is nodata ({marker:g}) or masked")
    if found.empty.any():
        empty = chosen[found.empty].tolist()
        what = f"{len(empty)} of {of} bands hold nothing but nodata ({marker:g})"
        _warn(f"{path}: {what} and are left out: {listing(empty)} (from 0)")
    if found.partial and rule == "any":
        what = f"{found.partial} of {found.valid.size} pixels hold nodata ({marker:g}) in some bands only"
        advice = "nodata_in='all' or --nodata-in all takes the number as a value there"
        _warn(f"{path}: {what} and are left out as a whole; {advice}")


def _asked(bands: Numbers | BandChoice | None, of: int) -> Numbers | None:
    """What is asked for of a file with so many bands."""
    if isinstance(bands, BandChoice):
        return bands.taken if bands.of == of else None
    return bands


def _chosen(
    path: Path, of: int, nanometres: np.ndarray | None, bands: Numbers | None, wavelengths: Ranges | None
) -> np.ndarray:
    """The numbers of the bands that are asked for."""
    try:
        chosen = np.arange(of) if bands is None else bands_by_number(bands, of)
        if wavelengths is not None:
            inside = bands_by_wavelength(wavelengths, None if nanometres is None else np.asarray(nanometres))
            chosen = chosen[np.isin(chosen, inside)]
            if not len(chosen):
                raise ValueError("bands and wavelengths have no band in common")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return chosen


def _choice(of: int, chosen: np.ndarray) -> BandChoice | None:
    return None if np.array_equal(chosen, np.arange(of)) else BandChoice(of, tuple(chosen.tolist()))


def _to_chw(raw: Raw, axes: str | None, size: tuple[int, int] | None, path: Path, band_count: int | None) -> np.ndarray:
    """The values as (bands, rows, columns)."""
    if axes is None and raw.values.ndim == 2:
        arrays.to_bands(raw.values, "chw", source=str(path))  # raises, with the options that would read it
    if axes is None and size is None and path.suffix.lower() in _NAMELESS:
        axes = arrays.likely_axes(raw.values.shape, raw.axes or "chw", band_count, str(path))
    axes = axes or raw.axes or "chw"
    return arrays.to_bands(raw.values, axes, size, source=str(path))


def _own_scene(
    path: Path,
    raw: Raw,
    axes: str | None,
    size: tuple[int, int] | None,
    peak: float | None,
    nodata: float | None,
    bands: Numbers | BandChoice | None,
    wavelengths: Ranges | None,
    counts: bool,
) -> Scene:
    """What write_scene wrote, or some bands of it."""
    assert raw.own is not None
    if (axes or raw.axes) != raw.axes or size is not None:
        raise ValueError(f"{path}: was written by write_scene with axes {raw.axes!r}: leave axes and size out")
    if nodata is not None:
        raise ValueError(f"{path}: was written by write_scene with its mask: leave nodata out")
    if counts and not (raw.own.get("encoding") or Encoding(raw=True)).raw:
        raise ValueError(f"{path}: was written by write_scene in units, not in counts: leave raw out")
    stored = raw.own["peak"]
    values = arrays.to_bands(raw.values, raw.axes or "chw", source=str(path))
    # dividing by peak / stored = 1 keeps the pixels, and a memory map, as they are
    divisor = 1.0 if peak is None else peak / stored
    scene = scene_from_array(values, peak=divisor, source=str(path), valid=raw.valid)
    with reading(path, "a scene of write_scene"):
        scene = replace(scene, **{**raw.own, "peak": stored if peak is None else peak})
    return scene.with_bands(_chosen(path, scene.bands, scene.wavelengths, _asked(bands, scene.bands), wavelengths))


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=3)
