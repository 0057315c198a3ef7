"""Scenes to netCDF-4 files of the CF conventions, by h5netcdf.

Source: the CF conventions 1.11; GDAL's netCDF driver and rioxarray for crs_wkt and GeoTransform.
"""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lkcanet.common.held_errors import HeldErrors
from lkcanet.common.optional import require
from lkcanet.data.formats.encoded import DTYPES, Encoded
from lkcanet.data.formats.raw import record_of, system_from
from lkcanet.data.formats.variables import READ, REFLECTANCE
from lkcanet.data.georeference import Georeference
from lkcanet.data.scenes import Scene

IMAGE, RECORD = "image", "lkcanet_scene"  # the variable of the pixels, and the file's attribute with a JSON text
_CHUNK = 256


def write_netcdf(path: Path, scene: Scene) -> int:
    """Write the variable `image` to a file that `write_scene` renames; how many values were clipped. It is compressed
    by zlib, whose checksums tell of damage.

    Its axes are wavelength (nm), y and x, with coordinates; where wavelengths are not known, or not in order, the first
    is band, and wavelength is an auxiliary coordinate. band_name, fwhm and bbl stand beside it; x and y are the centres
    of pixels of a map that is not turned; the grid mapping `spatial_ref` has the system in CF's words and as WKT, and
    the transform as GDAL writes it. netCDF has one scale for all bands: of a scene whose bands have several the values
    are written as float32, with a warning.

    Raises:
        ValueError: a system that PROJ doesn't know.
        OSError: the write failed.
    """
    h5netcdf = require("h5netcdf", extra="geo")
    scene = _of_one_scale(scene)
    encoded = Encoded(scene, DTYPES)
    mapping = None if scene.georeference is None else grid_mapping(scene.georeference)
    first = "wavelength" if _in_order(scene.wavelengths) else "band"
    try:
        with HeldErrors(path) as held:
            with h5netcdf.File(held, "w") as file:
                file.dimensions = dict(zip((first, "y", "x"), scene.shape, strict=True))
                file.attrs["Conventions"], file.attrs["title"] = "CF-1.11", scene.name
                file.attrs[RECORD] = _record(encoded)
                beside = _band_variables(file, scene, first)
                if scene.georeference is not None and mapping is not None:
                    _grid(file, scene, scene.georeference, mapping)
                image = _image(file, scene, encoded, first, beside)
                for band in range(scene.bands):
                    image[band] = encoded.band(band)
                    held.check()
            held.check()
    except OSError as error:
        raise OSError(f"the netCDF file could not be written whole, disk full? ({error})") from error
    return encoded.clipped


def _of_one_scale(scene: Scene) -> Scene:
    encoding = scene.encoding
    if encoding is None or (not isinstance(encoding.scale, tuple) and not isinstance(encoding.offset, tuple)):
        return scene
    plain = replace(encoding, scale=1.0, offset=0.0)
    if not encoding.raw:
        warnings.warn(
            f"{scene.name}: its bands have several scales, and netCDF has one for all: values are written as float32",
            UserWarning,
            stacklevel=4,
        )
        plain = replace(plain, dtype="float32", nodata=None)
    return replace(scene, encoding=plain)


def _in_order(wavelengths: np.ndarray | None) -> bool:
    return wavelengths is not None and bool((np.diff(wavelengths) > 0).all() or (np.diff(wavelengths) < 0).all())


def _record(encoded: Encoded) -> str:
    tags = {} if encoded.encoding is None else {"band_tags": dict(encoded.encoding.band_tags)}
    return record_of({**encoded.record(), **tags})


def _band_variables(file: Any, scene: Scene, first: str) -> list[str]:
    """Write them; the names of those that are no coordinate of an axis."""
    names = []
    if scene.wavelengths is not None:
        listed = file.create_variable("wavelength", (first,), "f8", data=scene.wavelengths)
        listed.attrs.update(units="nm", standard_name="radiation_wavelength", long_name="centre of the band")
        names += ["wavelength"] * (first != "wavelength")
    if first == "band":
        file.create_variable("band", (first,), "i4", data=np.arange(scene.bands, dtype="i4"))
    if scene.band_names is not None:
        text = require("h5py", extra="io").string_dtype()
        file.create_variable("band_name", (first,), text, data=np.array(scene.band_names, object))
        names.append("band_name")
    encoding = scene.encoding
    if encoding is not None and encoding.fwhm is not None:
        widths = file.create_variable("fwhm", (first,), "f8", data=np.array(encoding.fwhm))
        widths.attrs.update(units="nm", long_name="full width at half maximum")
        names.append("fwhm")
    if encoding is not None and encoding.good is not None:
        marks = file.create_variable("bbl", (first,), "i1", data=np.array(encoding.good, "i1"))
        marks.attrs["long_name"] = "1 for good bands, 0 for bad ones"
        names.append("bbl")
    return names


def grid_mapping(georeference: Georeference) -> dict[str, Any]:
    """Attributes of a grid mapping: the system, and the transform as GDAL writes it.

    Raises:
        ValueError: a system that PROJ doesn't know.
    """
    attributes: dict[str, Any] = {}
    if georeference.crs:
        attributes |= {"crs_wkt": "", **system_of(georeference.crs).to_cf()}
        attributes["spatial_ref"] = attributes["crs_wkt"]
    return {**attributes, "GeoTransform": georeference.gdal()}


def system_of(text: str) -> Any:
    """What pyproj makes of a text; errors as `system_from`."""
    return system_from(require("pyproj", extra="geo").CRS.from_user_input, text)


def _grid(file: Any, scene: Scene, georeference: Georeference, mapping: dict[str, Any]) -> None:
    file.create_variable("spatial_ref", (), "i4", data=np.int32(0)).attrs.update(mapping)
    a, b, c, d, e, f = georeference.transform
    if b or d:
        return  # turned: no row and no column has one coordinate
    degrees = bool(georeference.crs) and system_of(georeference.crs).is_geographic
    for name, start, step, count, standard, unit in (
        ("y", f, e, scene.size[0], "latitude", "degrees_north"),
        ("x", c, a, scene.size[1], "longitude", "degrees_east"),
    ):
        axis = file.create_variable(name, (name,), "f8", data=start + step * (np.arange(count) + 0.5))
        axis.attrs["axis"] = name.upper()
        if degrees:
            axis.attrs.update(standard_name=standard, units=unit)
        elif georeference.crs:
            axis.attrs.update(standard_name=f"projection_{name}_coordinate", units=_unit(georeference.crs))


def _unit(crs: str) -> str:
    names = {axis.unit_name for axis in system_of(crs).axis_info}
    return "m" if names <= {"metre", "meter"} else names.pop() if len(names) == 1 else ""


def _image(file: Any, scene: Scene, encoded: Encoded, first: str, beside: list[str]) -> Any:
    nodata, dtype, encoding = encoded.nodata, np.dtype(encoded.dtype), encoded.encoding
    image = file.create_variable(
        IMAGE,
        (first, "y", "x"),
        dtype,
        fillvalue=None if nodata is None else np.array(nodata).astype(dtype)[()],
        chunks=(1, *(min(length, _CHUNK) for length in scene.size)),
        compression="gzip",
        compression_opts=4,
        shuffle=True,
    )
    if encoding is None:
        image.attrs["scale_factor"] = scene.peak
    else:
        image.attrs.update({k: v for k, v in encoding.tags.items() if k not in READ and "/" not in k})
        if (encoded.scales[0], encoded.offsets[0]) != (1, 0):
            image.attrs["scale_factor"], image.attrs["add_offset"] = encoded.scales[0], encoded.offsets[0]
        if encoding.units == REFLECTANCE:  # which has no unit
            image.attrs["units"] = "1"
            image.attrs["long_name"] = encoding.tags.get("long_name", REFLECTANCE)
        elif encoding.units:
            image.attrs["units"] = encoding.units
    if scene.georeference is not None:
        image.attrs["grid_mapping"] = "spatial_ref"
    if beside:
        image.attrs["coordinates"] = " ".join(beside)
    return image
