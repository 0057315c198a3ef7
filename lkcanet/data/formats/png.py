"""Folders of PNG images, one a band."""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from lkcanet.common.optional import require
from lkcanet.data.formats.raw import Raw, reading

# of a PNG file; its header chunk comes first, always, with the bit depth and the kind of colour
_SIGNATURE, _DEPTH, _COLOUR = b"\x89PNG", 24, 25
_GREY = (0, 4)  # without and with alpha
_PICTURES = (".bmp", ".gif", ".jpg", ".jpeg", ".tif", ".tiff")


def read_folder(path: Path) -> Raw:
    """A folder's images as the readers of all formats give them; errors as `read_scene`. Pictures of other formats are
    left out, with a warning."""
    values = read_bands(path)
    if others := sorted(file.name for file in path.iterdir() if file.suffix.lower() in _PICTURES):
        _warn(f"{path}: left out, since bands are PNG images: {', '.join(others)}")
    return Raw(values, "chw")


def image_folder(path: Path) -> Path:
    """The folder itself where it holds a PNG image or several folders or none, else the same of the one inside, as CAVE
    is packed (NAME/NAME)."""
    entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    inner = [entry for entry in entries if entry.is_dir()]
    if len(inner) != 1 or any(entry.suffix.lower() == ".png" for entry in entries):
        return path
    return image_folder(inner[0])


def band_files(path: Path) -> list[Path]:
    """The PNG images of a folder that are bands, in natural order of their names: not the coloured pictures beside a
    majority of greyscale images, from which their names differ by more than a number."""
    files = png_files(path)
    coloured = [file for file in files if _kind(file)[1] not in _GREY]
    if not 0 < len(coloured) < len(files) / 2:
        return files
    series = {_series(file) for file in files if file not in coloured}
    pictures = {file for file in coloured if _series(file) not in series and _is_picture(file)}
    return [file for file in files if file not in pictures]


def _series(file: Path) -> str:
    """The name without its numbers."""
    return re.sub(r"\d+", "#", file.stem)


def png_files(path: Path) -> list[Path]:
    """The PNG images of a folder, in natural order of their names."""

    def natural(file: Path) -> list[str | int]:
        return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", file.name)]

    return sorted((file for file in path.iterdir() if file.suffix.lower() == ".png"), key=natural)


def image_size(file: Path) -> tuple[int, int]:
    """Rows and columns of an image, by its header.

    Raises:
        OSError: it can't be read.
    """
    imageio: Any = require("imageio.v3", extra="io")
    with reading(file, "a PNG image"):
        rows, columns = imageio.improps(file, plugin="pillow").shape[:2]
    return rows, columns


def read_bands(path: Path) -> np.ndarray:
    """Read a folder of single-band images as (B, H, W), of the images' dtype, uint8 or uint16 as a rule.

    A coloured image whose channels are equal is the greyscale one that it shows; an alpha channel that is the same
    everywhere says nothing, and is left out. So is, with a warning, a coloured picture beside greyscale images.

    Raises:
        ValueError: no image, bands of different sizes or dtypes, colour channels that differ, an alpha channel that
            is not constant, or colour of 16 bits a channel.
        OSError: a file can't be read.
    """
    files = band_files(path)
    if not files:
        raise ValueError(f"{path}: the folder holds no .png image")
    values: np.ndarray | None = None
    for index, file in enumerate(files):
        band = read_band(file)
        if values is None:
            values = np.empty((len(files), *band.shape), band.dtype)
        if band.shape != values.shape[1:] or band.dtype != values.dtype:
            raise ValueError(
                f"{file}: is {band.shape} {band.dtype}, but {files[0].name} is {values.shape[1:]} {values.dtype}"
            )
        values[index] = band
    assert values is not None
    if pictures := [file.name for file in png_files(path) if file not in files]:
        _warn(f"{path}: left out, since they are coloured pictures beside the bands: {', '.join(pictures)}")
    return values


def _kind(file: Path) -> tuple[int, int]:
    """Bits of a channel, and the number of the kind of colour; 0 where the file is no PNG image."""
    with file.open("rb") as stream:
        header = stream.read(_COLOUR + 1)
    return (header[_DEPTH], header[_COLOUR]) if header.startswith(_SIGNATURE) and len(header) > _COLOUR else (0, 0)


def _is_picture(file: Path) -> bool:
    """Whether its channels differ; of 16 bits a channel, which Pillow would halve, it is taken for granted."""
    if _kind(file)[0] == 16:
        return True
    try:
        read_band(file)
    except ValueError:
        return True
    return False


def read_band(file: Path) -> np.ndarray:
    """One image as (H, W); errors as `read_bands`."""
    imageio: Any = require("imageio.v3", extra="io")
    with reading(file, "a PNG image"):
        image: np.ndarray = imageio.imread(file, plugin="pillow")
    if image.ndim == 2:
        return image
    if _kind(file)[0] == 16:  # Pillow gives the upper eight of each channel's bits and says nothing
        raise ValueError(
            f"{file}: a band must be a greyscale image: of 16-bit colour or transparency half of the bits would be "
            "lost; convert it to 16-bit greyscale"
        )
    alpha = image.shape[2] in (2, 4)
    if alpha and (image[..., -1] != image[0, 0, -1]).any():
        raise ValueError(f"{file}: a band must be a greyscale image, this one's alpha channel is not constant")
    channels = image[..., :-1] if alpha else image
    if (channels != channels[..., :1]).any():
        raise ValueError(
            f"{file}: a band must be a greyscale image, or one whose colour channels are equal: the channels of this "
            f"one differ (shape {image.shape})"
        )
    return np.ascontiguousarray(channels[..., 0])


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=5)
