"""What the tags of a GeoTIFF and of its bands say: wavelengths, widths, bad bands, scales, and everything else."""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from lkcanet.common.optional import require
from lkcanet.data.encoding import Encoding
from lkcanet.data.formats.raw import good_bands, scaling, system_from
from lkcanet.data.wavelengths import from_text, to_nanometres, widths_in_nanometres

RECORD = "LKCANET_SCENE"  # the tag that marks a file of write_scene; JSON
# a TIFF tag of its own, and not in the XML that holds all others: GDAL drops that whole where a byte of it is wrong
SOFTWARE = {"TIFFTAG_SOFTWARE": "lkcanet write_scene"}
# tags that are read, and written from what was read; names in lower case
_READ = {"wavelength", "wavelengths", "wavelength_units", "wavelength_unit", "fwhm", "bbl", "good_wavelengths"}
_OURS = {"lkcanet_scene", "tifftag_software"}
# of pixels that will be others: what GDAL computed of them
_OF_PIXELS = ("statistics_", "ovr_", "tifftag_minsamplevalue", "tifftag_maxsamplevalue")


class Tags:
    """The tags of an open file.

    Args:
        file: rasterio's.
        bands: which of its bands, from 1.
        path: for errors and warnings.
    """

    def __init__(self, file: Any, bands: list[int], path: Path) -> None:
        self._file, self._bands, self._path = file, bands, path
        self.names = [file.descriptions[band - 1] or "" for band in bands]
        self._whole, self._each = file.tags(), [file.tags(band) for band in bands]
        self._imagery = [file.tags(band, ns="IMAGERY") for band in bands]

    def wavelengths(self) -> np.ndarray | None:
        """In nm; where a warning says why not, or nothing tells, None."""
        texts, unit = self._texts("wavelength", "CENTRAL_WAVELENGTH_UM")
        if texts is None:
            return _from_names(self.names)
        numbers = [from_text(text) for text in texts]
        if len(numbers) != len(self._bands) or None in numbers:
            self._warn(
                f"tags give wavelengths for some of the {len(self._bands)} bands, or no numbers: they are left out"
            )
            return None
        units: set[str | None] = {entry[1] for entry in numbers if entry and entry[1]} or {unit}
        if len(units) > 1:
            self._warn("wavelengths are in several units: they are left out")
            return None
        return to_nanometres([entry[0] for entry in numbers if entry], units.pop(), f"{self._path}: ")

    def good(self) -> np.ndarray | None:
        """From `bbl` or `good_wavelengths`; None, with a warning, where these are not numbers, one a band."""
        for name in ("bbl", "good_wavelengths"):
            texts, _ = self._texts(name)
            if texts is None:
                continue
            marks = self._numbers(name, texts)
            return None if marks is None else good_bands(marks, name, self._path)
        return None

    def encoding(self) -> Encoding:
        """Scale, offset and units of each band, `fwhm`, and the tags that have no place elsewhere."""
        file, bands = self._file, self._bands
        scale, offset, units = (
            [series[band - 1] for band in bands] for series in (file.scales, file.offsets, file.units)
        )
        scales, offsets = scaling(scale, offset, len(bands), f"{self._path}: ")
        fwhm = None
        texts, unit = self._texts("fwhm", "FWHM_UM")
        if texts is not None and (widths := self._numbers("fwhm", texts)) is not None:
            fwhm = widths_in_nanometres(widths, unit, f"{self._path}: ")
        each = [_others(tags) for tags in self._each]
        names = list(dict.fromkeys(name for tags in each for name in tags))
        return Encoding(
            file.dtypes[bands[0] - 1],
            scales,
            offsets,
            units=(units[0] or "") if len(set(units)) == 1 else "",
            fwhm=fwhm,
            tags=_others(self._whole),
            band_tags={name: tuple(tags.get(name, "") for tags in each) for name in names},
        )

    def _texts(self, name: str, imagery: str = "") -> tuple[list[str] | None, str | None]:
        """An entry for each band, from the bands' tags, GDAL's or a list of the file's; the unit of wavelengths."""
        whole, each = _lower(self._whole), [_lower(tags) for tags in self._each]
        units = ("wavelength_units", "wavelength_unit")
        unit = next((tags[key] for tags in (each[0], whole) for key in units if key in tags), None)
        if any(name in tags for tags in each):
            return [tags.get(name, "") for tags in each], unit
        if imagery and any(imagery in tags for tags in self._imagery):
            return [tags.get(imagery, "") for tags in self._imagery], "um"
        for key in (name, f"{name}s"):
            if key in whole:
                return re.split(r"[\s,;]+", whole[key].strip(" {}[]\t\n")), unit
        return None, unit

    def _numbers(self, name: str, texts: list[str]) -> list[float] | None:
        numbers = [from_text(text) for text in texts]
        if len(numbers) == len(self._bands) and None not in numbers:
            return [entry[0] for entry in numbers if entry]
        there = sum(map(bool, texts))
        self._warn(f"{name} has {there} entries for {len(self._bands)} bands, or no numbers: it is left out")
        return None

    def _warn(self, what: str) -> None:
        warnings.warn(f"{self._path}: {what}", UserWarning, stacklevel=5)


def _lower(tags: dict[str, str]) -> dict[str, str]:
    return {name.lower(): text for name, text in tags.items()}


def _others(tags: dict[str, str]) -> dict[str, str]:
    return {
        name: text
        for name, text in tags.items()
        if name.lower() not in _READ | _OURS and not name.lower().startswith(_OF_PIXELS)
    }


def _from_names(names: list[str]) -> np.ndarray | None:
    """Descriptions that are wavelengths and nothing else; silently None where they are names."""
    numbers = [entry for name in names if (entry := from_text(name)) is not None]
    units = {entry[1] for entry in numbers}
    if len(numbers) != len(names) or len(units) != 1:
        return None
    values, unit = [entry[0] for entry in numbers], units.pop()
    if not unit and not all(200 <= value <= 20000 for value in values):
        return None  # numbers of bands, for example
    return to_nanometres(values, unit or "nm", "")


def system_of(text: str) -> Any:
    """What rasterio makes of a text; errors as `system_from`."""
    return system_from(require("rasterio.crs", extra="geo").CRS.from_user_input, text)
