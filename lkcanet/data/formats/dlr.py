"""EnMAP and DESIS: a GeoTIFF -SPECTRAL_IMAGE.TIF, and beside it -METADATA.XML, which tells of its bands.

In the element `bandCharacterisation` each band has its centre (wavelengthCenterOfBand), its width (EnMAP: FWHMOfBand,
DESIS: wavelengthWidthOfBand), both nm, and GainOfBand and OffsetOfBand (DESIS: gainOfBand, offsetOfBand):

    value = gain number + offset

which is surface reflectance at level L2A, and radiance at others (EnMAP: W m-2 sr-1 nm-1, DESIS: mW cm-2 sr-1 um-1).

Source: DLR, "EnMAP HSI Level 1B / 1C / 2A Product Specification"; DLR, "DESIS L2A Product Specification".
"""

import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from lkcanet.data.encoding import Encoding
from lkcanet.data.formats.raw import Raw, reading, scaling
from lkcanet.data.wavelengths import to_nanometres, widths_in_nanometres

_IMAGE, _METADATA = "spectral_image", "metadata"
_NAME = re.compile(r"(ENMAP|DESIS)\S*-(SPECTRAL_IMAGE\.TIFF?|METADATA\.XML)", re.IGNORECASE)
_OTHERS = re.compile(r"(ENMAP|DESIS)\S*-(QL|QUALITY)\S*\.TIFF?", re.IGNORECASE)
_LEVEL = re.compile(r"[-_](L\d[ABC])[-_]")
_RADIANCE = {"enmap": "W m-2 sr-1 nm-1", "desis": "mW cm-2 sr-1 um-1"}


class _Bands(NamedTuple):
    wavelengths: list[float]
    widths: list[float]
    gains: list[float]
    offsets: list[float]
    background: float | None


def image_of(path: Path) -> Path | None:
    """The image of a product: of its folder, of its METADATA.XML, or the path itself where it is one; None of others.

    Raises:
        ValueError: a folder of several.
    """
    if path.is_dir():
        images = images_in(path)
        if len(images) > 1:
            raise ValueError(f"{path}: holds {len(images)} images: give one, such as {images[0].name}")
        return images[0] if images else None
    if _NAME.fullmatch(path.name) is None:
        return None
    return path if _is(path, _IMAGE) else _beside(path, _METADATA, _IMAGE)


def images_in(folder: Path) -> list[Path]:
    """The images of the products that a folder holds."""
    return [file for file in sorted(folder.iterdir()) if _NAME.fullmatch(file.name) and _is(file, _IMAGE)]


def is_quality(path: Path) -> bool:
    """Whether a GeoTIFF is a product's quicklook or quality layer, and no scene."""
    return _OTHERS.fullmatch(path.name) is not None


def with_metadata(raw: Raw, image: Path) -> Raw:
    """What was read of the image, with what its METADATA.XML says; with a warning where that is not there, or of other
    bands.

    Raises:
        OSError: the metadata can't be read.
    """
    metadata = _beside(image, _IMAGE, _METADATA)
    if metadata is None:
        _warn(f"{image}: has no METADATA.XML beside it, which tells wavelengths, widths and gains")
        return raw
    bands = _read(metadata)
    if len(bands.wavelengths) != len(raw.values):
        _warn(f"{metadata}: tells of {len(bands.wavelengths)} bands, the image has {len(raw.values)}: left out")
        return raw
    encoding, where = raw.encoding or Encoding(), f"{metadata}: "
    if encoding.plain:  # the GeoTIFF says nothing itself
        level = _LEVEL.search(image.name.upper())
        radiance = _RADIANCE[image.name[:5].lower()]
        units = "" if level is None else "reflectance" if level[1] == "L2A" else radiance
        scale, offset = scaling(bands.gains, bands.offsets, len(raw.values), where)
        encoding = replace(encoding, scale=scale, offset=offset, units=units)
    facts = {**(raw.facts or {}), "wavelengths": to_nanometres(bands.wavelengths, "nm", where)}
    nodata = bands.background if raw.nodata is None else raw.nodata
    encoding = replace(encoding, fwhm=widths_in_nanometres(bands.widths, "nm", where))
    return raw._replace(facts=facts, nodata=nodata, encoding=encoding)


def _read(path: Path) -> _Bands:
    with reading(path, "metadata of EnMAP or DESIS"):
        root = ElementTree.parse(path).getroot()
        parent = next(element for element in root.iter() if _tag(element) == "bandcharacterisation")
        found = [band for band in parent if _tag(band) in ("bandid", "band")]
        bands = [
            {"bandnumber": band.get("number", str(i))} | {_tag(entry): entry.text or "" for entry in band}
            for i, band in enumerate(found)
        ]
        bands.sort(key=lambda band: int(band["bandnumber"]))
        width = "fwhmofband" if "fwhmofband" in bands[0] else "wavelengthwidthofband"
        names = ("wavelengthcenterofband", width, "gainofband", "offsetofband")
        nm, fwhm, gains, offsets = ([float(band[name]) for band in bands] for name in names)
        filler = next((e.text for e in root.iter() if _tag(e) == "backgroundvalue" and e.text), None)
        return _Bands(nm, fwhm, gains, offsets, None if filler is None else float(filler))


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2].lower()


def _is(path: Path, what: str) -> bool:
    return path.stem.lower().endswith(what)


def _beside(path: Path, what: str, other: str) -> Path | None:
    """The product's other file: the same name but for its end, in upper or lower case."""
    stem = path.stem[: -len(what)].lower() + other
    suffixes = (".xml",) if other == _METADATA else (".tif", ".tiff")
    found = [file for file in path.parent.iterdir() if file.stem.lower() == stem and file.suffix.lower() in suffixes]
    return found[0] if found else None


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=5)
