"""What is particular to EMIT's netCDF files (L1B radiance, L2A reflectance) of the International Space Station.

Bands, widths and good bands stand in the group sensor_band_parameters (wavelengths, fwhm, good_wavelengths), and are
found as in any file; -9999 is the _FillValue. The pixels are in the sensor's order: the table of the group location
(glt_x, glt_y) would bring them onto a grid of latitudes and longitudes, which repeats and leaves out pixels.

Source: LP DAAC, "EMIT L2A Estimated Surface Reflectance and Uncertainty and Masks", user guide; EMIT-Data-Resources.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

from lkcanet.data.formats.raw import Raw
from lkcanet.data.formats.variables import Stored, chosen, raw_of

_CUBES = ("reflectance", "radiance")
_BANDS, _TABLE = "sensor_band_parameters/wavelengths", ("location/glt_x", "location/glt_y")


def is_emit(variables: Sequence[Stored]) -> bool:
    """Whether a file has EMIT's groups."""
    return {_BANDS, *_TABLE} <= {v.name for v in variables}


def read(variables: Sequence[Stored], key: str | None, axes: str | None, path: Path) -> Raw:
    """The variable `key`, else reflectance or radiance; with a warning that says what was not done with the table;
    errors as those of `chosen` and `raw_of`."""
    named = {v.name: v for v in variables}
    variable = chosen(variables, key or next((name for name in _CUBES if name in named), None), path)
    rows, columns = named[_TABLE[0]].shape
    warnings.warn(
        f"{path}: is in the sensor's order: its lookup table (location/glt_x, glt_y) to a grid of {rows} x {columns} "
        "is not applied, since that repeats and leaves out pixels; results have no georeference",
        UserWarning,
        stacklevel=5,
    )
    others = [v for v in variables if not v.name.startswith("location/")]  # they place each pixel, see above
    return raw_of(variable, others, axes, path, "a netCDF file of EMIT")
