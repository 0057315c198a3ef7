"""Scenes to files, whole or not at all, with nothing lost."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lkcanet.common.files import atomic_path
from lkcanet.common.optional import require
from lkcanet.data.formats.cog import make_cog
from lkcanet.data.formats.envi_writer import write_envi
from lkcanet.data.formats.geotiff import write_geotiff
from lkcanet.data.formats.netcdf_writer import write_netcdf
from lkcanet.data.formats.raw import metadata, record_of
from lkcanet.data.scenes import Scene

_MAT5_LIMIT = 2**32 - 2**16  # MATLAB v5 counts bytes in 32 bits; leave room for the header


def write_scene(path: str | os.PathLike[str], scene: Scene, *, cog: bool = False) -> None:
    """Write a scene so that `read_scene` gives back identical pixels and every other field of it.

    The pixels are written as they are, normalised: `pixels * peak` are the units of the source. A scene with an
    `encoding` becomes in ENVI, GeoTIFF and netCDF a file as that which it was read from: its data type (integers are
    rounded, and clipped with a warning that counts them), scale, offset, nodata, units, widths, bad bands and tags
    beside the names, wavelengths and place; what is read back differs by that rounding.
    `replace(scene, encoding=None)` is written as the list says.

    - .npy: pixels (B, H, W), and behind them a second `np.save` array, a JSON text with the rest, and a third, the
      mask, where there is one: one file, so that they cannot part. `np.load` gives the pixels and can memory-map them.
      Best for large scenes.
    - .npz: pixels (B, H, W), peak, name, source, lkcanet_scene and, where the scene has them, wavelengths, band_names,
      transform, crs and valid; not compressed.
    - .mat: the same as MATLAB v5, with pixels (H, W, B); at most 4 GB.
    - .hdr: ENVI, two files: the header X.hdr and X.img, float32, bsq. Wavelengths in nm, band names (without commas),
      the gain `peak` for each band, map info and coordinate system string, the last as the scene has it.
    - .tif, .tiff: GeoTIFF, float32, tiled, deflate with predictor 3; transform, CRS, band descriptions, tags
      `wavelength` in nm, the scale `peak` for each band.
    - .nc: netCDF-4 of the CF conventions, the variable `image`, float32, compressed, with the scale_factor `peak`,
      coordinates and a grid mapping: see `lkcanet.data.formats.netcdf_writer`.

    ENVI, GeoTIFF and netCDF declare the gain or scale that gives source units, which other programs apply or show.
    Invalid pixels are NaN there, which is declared as nodata, and read back as the nearest valid pixel; the other
    formats keep them. What these formats can't say exactly is kept in a record of their own (JSON), which a reader
    trusts only as far as the file's own words agree with it. An affine map with shear, or upside down, is in an ENVI
    file's record alone.

    Damage to the pixels alone is noticed in .npz, GeoTIFF and netCDF, which hold checksums; in the others in what is
    beside the pixels only, since a large file that is memory-mapped can't be read whole to check it.

    A file appears under its name only when complete: a failed write leaves what was there before. Of the two files of
    ENVI the header comes last and any old header goes first, so that it never describes other data than its own.

    Args:
        path: the file; its suffix chooses the format. Its folder must exist.
        scene: the scene.
        cog: write a GeoTIFF in the cloud-optimised layout, with overviews: see `lkcanet.data.formats.cog`.

    Raises:
        TypeError: `scene` is not a Scene.
        ValueError: unsupported suffix, `cog` with another format than GeoTIFF, more pixels than a .mat v5 file holds,
            or a CRS that PROJ doesn't know where a GeoTIFF or netCDF is written (nothing is written then).
        FileNotFoundError: the folder does not exist.
        OSError: the write failed, for example a full disk.
        ModuleNotFoundError: the package for this format is not installed; the message names the extra that brings it.
    """
    path = Path(path)
    if not isinstance(scene, Scene):
        raise TypeError(f"scene must be a Scene, got {type(scene).__name__}")
    suffix = path.suffix.lower()
    if cog and suffix not in COG_SUFFIXES:
        raise ValueError(f"{path}: cog goes with GeoTIFF ({', '.join(COG_SUFFIXES)}), got suffix {path.suffix!r}")
    if suffix == ".hdr":
        _tell_clipped(path, write_envi(path, scene), scene)
        return
    if suffix not in _WRITERS:
        raise ValueError(f"{path}: unsupported suffix {path.suffix!r}; supported: {', '.join(SUFFIXES)}")
    if suffix == ".mat" and scene.pixels.nbytes > _MAT5_LIMIT:
        raise ValueError(f"{path}: {scene.pixels.nbytes / 1e9:.1f} GB do not fit a .mat v5 file (4 GB); write .npy")
    with atomic_path(path) as temporary:
        try:
            clipped = _WRITERS[suffix](temporary, scene)
            if cog:
                make_cog(temporary)
        except OSError as error:
            if error.errno is None:  # not the system's: it doesn't know the file's name
                raise OSError(f"{path}: {error}") from error
            raise
    _tell_clipped(path, clipped, scene)


def _tell_clipped(path: Path, clipped: int | None, scene: Scene) -> None:
    if clipped and scene.encoding is not None:
        what = f"{clipped} of {scene.pixels.size} values lie beyond what {scene.encoding.dtype} holds, or on nodata"
        warnings.warn(f"{path}: {what}, and are written as the nearest that it holds", UserWarning, stacklevel=3)


def _write_npy(path: Path, scene: Scene) -> None:
    with path.open("wb") as file:
        np.save(file, scene.pixels)
        append_record(file, scene)


def append_record(file: BinaryIO, scene: Scene) -> None:
    """Write what follows the pixels in a scene's .npy file: the text with the rest, and the mask where there is one."""
    fields = {**metadata(scene), "masked": scene.valid is not None}
    np.save(file, np.array(record_of(fields, scene.valid)))
    if scene.valid is not None:
        np.save(file, scene.valid)


def _variables(scene: Scene) -> dict[str, Any]:
    return metadata(scene) | ({} if scene.valid is None else {"valid": scene.valid})


def _write_npz(path: Path, scene: Scene) -> None:
    # an open file: to a path that ends in .NPZ np.savez would append .npz, and the empty temporary would be renamed
    with path.open("wb") as file:
        np.savez(file, pixels=scene.pixels, **_variables(scene))


def _write_mat(path: Path, scene: Scene) -> None:
    scipy_io = require("scipy.io", extra="io")
    fields = _variables(scene)
    if "band_names" in fields:
        fields["band_names"] = np.array([*fields["band_names"], None], object)[:-1]  # a cell array of texts
    # pixels last: a file that is cut short misses them and is refused, and never read without its peak. Compression
    # comes with a checksum, which what is beside the pixels needs most; of the pixels it would take minutes
    with path.open("wb") as file:
        scipy_io.savemat(file, fields, oned_as="row", do_compression=True)
        scipy_io.savemat(file, {"pixels": scene.pixels.transpose(1, 2, 0)})


_WRITERS: dict[str, Callable[[Path, Scene], int | None]] = {
    ".npy": _write_npy,
    ".npz": _write_npz,
    ".mat": _write_mat,
    ".tif": write_geotiff,
    ".tiff": write_geotiff,
    ".nc": write_netcdf,
}
COG_SUFFIXES = (".tif", ".tiff")
SUFFIXES = (".npy", ".npz", ".mat", ".hdr", ".tif", ".tiff", ".nc")
