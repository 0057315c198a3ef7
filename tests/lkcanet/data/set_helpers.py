"""Small sets of scenes that tests prepare."""

from collections.abc import Callable
from pathlib import Path

import imageio.v3 as imageio
import numpy as np

from lkcanet.data import cave, write_scene
from lkcanet.data.scenes import Scene

SIDE = 24  # pixels of the small CAVE


def write_cave(root: Path, place: Callable[[str], str] = lambda name: name) -> Path:
    """A CAVE set of small scenes, each name in the folder that `place` says; watercolors as published, RGBA of 8 bits.

    Tests that prepare it replace `cave.SIZE`.
    """
    for number, name in enumerate((*cave.TRAIN, *cave.TEST)):
        folder = root / place(name)
        folder.mkdir(parents=True)
        for band, image in enumerate(pixels(number)):
            file = folder / f"{name}_{band + 1:02}.png"
            imageio.imwrite(file, rgba(image) if name == "watercolors_ms" else image)
    return root


def pixels(number: int) -> np.ndarray:
    """Of the scene of this number, as its files hold them, (31, SIDE, SIDE)."""
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    waves = np.sin(rows / 3 + number) * np.cos(columns / (2 + np.arange(31)[:, None, None] / 10))
    values = 0.5 + 0.3 * waves + 0.02 * rng.random((31, SIDE, SIDE))
    return (values * 255).astype(np.uint8) if number == 31 else (values * 65535).astype(np.uint16)


def rgba(image: np.ndarray, alpha: int = 255) -> np.ndarray:
    """A greyscale image as a coloured one of equal channels."""
    return np.dstack([image, image, image, np.full_like(image, alpha)])


def write_set(root: Path, sizes: dict[str, tuple[int, int]], bands: int = 5, largest: float = 100.0) -> Path:
    """Scenes of these names and sizes, .npy of float32; the n-th reaches n times `largest`."""
    root.mkdir()
    for number, (name, size) in enumerate(sizes.items(), 1):
        values = np.random.default_rng(number).random((bands, *size)).astype(np.float32)
        values[0, 0, 0] = 1
        np.save(root / f"{name}.npy", values * np.float32(number * largest))
    return root


def own_scene(path: Path, bands: int, wavelengths: list[float], size: tuple[int, int] = (20, 20)) -> None:
    """A scene with wavelengths."""
    values = np.random.default_rng(bands).random((bands, *size)).astype(np.float32)
    write_scene(path, Scene(values, 10.0, np.array(wavelengths), path.stem))
