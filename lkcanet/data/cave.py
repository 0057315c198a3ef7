"""SSPSR's protocol of the CAVE set: which of its 32 scenes train and which are tested on."""

from pathlib import Path

import numpy as np

from lkcanet.common.ssim import SSIM
from lkcanet.data.formats.png import band_files, image_size, read_bands
from lkcanet.data.normalise import scene_from_array
from lkcanet.data.scenes import Scene

__all__ = ["BANDS", "SIZE", "TEST", "TRAIN", "VALIDATION", "WAVELENGTHS", "cave_folders", "read_cave"]

BANDS, SIZE = 31, (512, 512)
WAVELENGTHS = tuple(range(400, 701, 10))  # nm
# the folders in the order of their names: the first 20 train, the last 12 are tested on
TRAIN = (
    "balloons_ms",
    "beads_ms",
    "cd_ms",
    "chart_and_stuffed_toy_ms",
    "clay_ms",
    "cloth_ms",
    "egyptian_statue_ms",
    "face_ms",
    "fake_and_real_beers_ms",
    "fake_and_real_food_ms",
    "fake_and_real_lemon_slices_ms",
    "fake_and_real_lemons_ms",
    "fake_and_real_peppers_ms",
    "fake_and_real_strawberries_ms",
    "fake_and_real_sushi_ms",
    "fake_and_real_tomatoes_ms",
    "feathers_ms",
    "flowers_ms",
    "glass_tiles_ms",
    "hairs_ms",
)
TEST = (
    "jelly_beans_ms",
    "oil_painting_ms",
    "paints_ms",
    "photo_and_face_ms",
    "pompoms_ms",
    "real_and_fake_apples_ms",
    "real_and_fake_peppers_ms",
    "sponges_ms",
    "stuffed_toys_ms",
    "superballs_ms",
    "thread_spools_ms",
    "watercolors_ms",
)
VALIDATION = ("chart_and_stuffed_toy_ms", "feathers_ms")
SCALES = (4, 8)
LR_SIZE = 32
MSSIM: SSIM = "matlab"  # of which the published scores are
SOURCE = (
    "SSPSR (Jiang et al., 2020), section IV, and its repository junjun-jiang/SSPSR: of the 32 scenes in the order of "
    "their names 20 train and 12 are tested on, whole; values / 65535 (crop_image.m)"
)


def cave_folders(folder: Path) -> dict[str, Path]:
    """The folder of PNG images of each scene, NAME or, as published, NAME/NAME.

    Raises:
        FileNotFoundError: no such folder, or scenes are missing (names them).
        ValueError: scenes have not 31 images of 512 x 512 pixels (names them all).
        OSError: an image can't be read.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    found: dict[str, Path] = {}
    counts = {}
    for name in (*TRAIN, *TEST):
        places = [
            place for short in (name, name.removesuffix("_ms")) for place in (folder / short, folder / short / short)
        ]
        images = {place: len(band_files(place)) for place in places if place.is_dir()}
        if images:
            found[name] = max(images, key=lambda place: images[place])
            counts[name] = images[found[name]]
    if missing := [name for name in (*TRAIN, *TEST) if name not in found]:
        raise FileNotFoundError(
            f"{folder} lacks {len(missing)} of the {len(TRAIN) + len(TEST)} scenes of CAVE: {', '.join(missing)}"
        )
    if wrong := [f"{name} ({count})" for name, count in counts.items() if count != BANDS]:
        raise ValueError(f"{folder}: scenes of CAVE have {BANDS} PNG images each, not {', '.join(wrong)}")
    others = {
        place: {size for file in band_files(place) if (size := image_size(file)) != SIZE} for place in found.values()
    }
    if named := [f"{place} ({rows} x {columns})" for place, sizes in others.items() for rows, columns in sorted(sizes)]:
        raise ValueError(f"scenes of CAVE are {SIZE[0]} x {SIZE[1]} pixels, not {', '.join(named)}")
    return found


def read_cave(folder: Path, name: str) -> Scene:
    """A scene divided by the full scale of its images: 65535, or 255 where they have 8 bits.

    Raises:
        ValueError: not of 8 or 16 bits, and what `read_bands` raises.
    """
    values = read_bands(folder)
    if values.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{folder}: scenes of CAVE are of 8 or 16 bits, this is of {values.dtype}")
    peak = float(np.iinfo(values.dtype).max)
    return scene_from_array(values, peak=peak, wavelengths=WAVELENGTHS, name=name, source=str(folder))
