"""Which reader a path goes to: by its suffix, what lies beside it, or what a folder holds."""

from pathlib import Path

from lkcanet.data.formats import arrays, band_files, dlr, envi, geotiff, hdf5, matlab, netcdf, png
from lkcanet.data.formats.raw import Raw

SUPPORTED = (
    ".mat, .npy, .npz, ENVI (.hdr), GeoTIFF (.tif, .tiff), netCDF (.nc), HDF5 (.h5, .he5), a METADATA.XML of EnMAP or "
    "DESIS, or a folder of single-band .png images or GeoTIFFs"
)
# of files that are scenes by themselves, with no header beside them
FILES = (".mat", ".npy", ".npz", *geotiff.SUFFIXES, *netcdf.SUFFIXES, *hdf5.SUFFIXES)
_NAMED = (*netcdf.SUFFIXES, *hdf5.SUFFIXES)


def holds_png(folder: Path) -> bool:
    """Whether there is a .png file in it."""
    return any(entry.suffix.lower() == ".png" for entry in folder.iterdir())


def is_scene_folder(path: Path) -> bool:
    """Whether a folder is one scene: it holds .png images, GeoTIFFs of a band each, or a product of EnMAP or DESIS."""
    return holds_png(path) or len(dlr.images_in(path)) == 1 or bool(band_files.band_files(path))


def read_raw(path: Path, key: str | None, axes: str | None, size: tuple[int, int] | None) -> Raw:
    """Read what `read_scene` is asked for; errors as there."""
    suffix = "folder" if path.is_dir() else path.suffix.lower()
    if suffix == "folder" and not is_scene_folder(path):
        path = png.image_folder(path)
    if suffix in (".mat", ".npz"):
        return (matlab.read_mat if suffix == ".mat" else arrays.read_npz)(path, key)
    if suffix in _NAMED:
        read = netcdf.read_netcdf if suffix in netcdf.SUFFIXES else hdf5.read_hdf5
        return read(path, key, axes)
    product = None if suffix in (".npy", ".hdr") else dlr.image_of(path)
    bands = band_files.band_files(path) if suffix == "folder" and product is None else {}
    header = None
    if product is None and suffix not in (".npy", "folder", *geotiff.SUFFIXES):
        header = envi.header_of(path)
        if header is None:
            beside = f"; ENVI data need {path.name}.hdr or {path.stem}.hdr beside them"
            lacks = beside if suffix in envi.SUFFIXES else ""
            raise ValueError(f"{path}: unsupported suffix {path.suffix!r}; supported: {SUPPORTED}{lacks}")
    if key is not None:
        raise ValueError(f"{path}: key {key!r} was given, but this kind of file holds one array without a name")
    if suffix == ".npy":
        return arrays.read_npy(path)
    if suffix == "folder" and product is None and not bands:
        return png.read_folder(path)
    if axes is not None or size is not None:
        raise ValueError(f"{path}: axes and size do not apply to ENVI and GeoTIFF: the file says how it is laid out")
    if header is not None:
        return envi.read_envi(path, header)
    if product is not None:
        return dlr.with_metadata(geotiff.read_geotiff(product), product)
    return band_files.read_band_files(path, bands) if bands else geotiff.read_geotiff(path)
