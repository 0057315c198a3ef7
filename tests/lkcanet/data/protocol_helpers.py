"""What the tests of prepared folders share: a small protocol, and images whose every value tells where it lies."""

from pathlib import Path

import numpy as np

from lkcanet.common.optional import require
from lkcanet.data import Protocol, Rect, matlab_range

TINY = Protocol(
    name="tiny",
    title="Tiny",
    bands=3,
    shape=(70, 60),
    crop=Rect(*matlab_range(3, 66), *matlab_range(5, 52)),
    test=Rect(0, 16, 0, 32),
    test_size=16,
    train=Rect(16, 64, 0, 48),
    patches={2: (16, 8)},
    key="cube",
    source="this test",
)
SMALL = Protocol(
    name="small",
    title="Small",
    bands=6,
    shape=(80, 64),
    crop=Rect(0, 80, 0, 64),
    test=Rect(0, 24, 0, 48),
    test_size=24,
    train=Rect(24, 80, 0, 64),
    patches={2: (24, 8)},
    source="this test",
)


def coded(rows: int, columns: int, bands: int) -> np.ndarray:
    """(rows, columns, bands), each value another: 1 + (row * columns + column) * bands + band, exact in float32."""
    assert rows * columns * bands < 2**24
    return np.arange(1, rows * columns * bands + 1, dtype=np.uint32).reshape(rows, columns, bands)


def code(row: int, column: int, band: int, columns: int, bands: int) -> int:
    return 1 + (row * columns + column) * bands + band


def write_mat73(path: Path, key: str, image: np.ndarray, **options) -> Path:
    """As MATLAB saves an (H, W, B) array: HDF5 with the axes reversed."""
    with require("h5py", extra="io").File(path, "w", userblock_size=512) as file:
        file.create_dataset(key, data=image.transpose(2, 1, 0), **options)
    with path.open("rb+") as file:
        file.write(b"MATLAB 7.3 MAT-file")
    return path
