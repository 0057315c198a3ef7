"""Folders of PNG images, one a band."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from lkcanet.common.optional import require
from lkcanet.data.formats.raw import Raw, reading

_SIGNATURE, _DEPTH = b"\x89PNG", 24  # of a PNG file; its header chunk comes first, always, with the bit depth


def read_folder(path: Path) -> Raw:
    """A folder's images as the readers of all formats give them; errors as `read_scene`."""
    return Raw(read_bands(path), "chw")


def band_files(path: Path) -> list[Path]:
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
    everywhere says nothing, and is left out.

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
    return values


def read_band(file: Path) -> np.ndarray:
    """One image as (H, W); errors as `read_bands`."""
    imageio: Any = require("imageio.v3", extra="io")
    with reading(file, "a PNG image"):
        image: np.ndarray = imageio.imread(file, plugin="pillow")
        with file.open("rb") as stream:
            header = stream.read(_DEPTH + 1)
    if image.ndim == 2:
        return image
    if (
        header.startswith(_SIGNATURE) and header[_DEPTH] == 16
    ):  # Pillow gives the upper eight of each channel's bits and says nothing
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
