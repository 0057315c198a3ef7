"""A super-resolved scene that is written to its .npy file as it is made."""

import errno
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..common.files import atomic_path
from ..data.formats.writers import append_record
from ..data.scenes import Scene


class MappedScene:
    """What `mapped_npy` yields.

    Attributes:
        pixels: (B, scale H, scale W) float32, zero at first; what is written into it gets into the file.
    """

    def __init__(self, path: Path, pixels: np.memmap, lowres: Scene, scale: int) -> None:
        self.pixels = pixels
        self._path, self._lowres, self._scale = path, lowres, scale

    def release(self) -> None:
        """Take the pages that were written out of this process's memory; the system writes them when it likes."""
        mapping = getattr(self.pixels, "_mmap", None)
        if isinstance(mapping, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            mapping.madvise(mmap.MADV_DONTNEED)  # a shared map of a file: nothing is lost

    def scene(self) -> Scene:
        """The scene in the finished file, mapped as `read_scene` maps it: copied on write."""
        return self._lowres.enlarged(np.load(self._path, mmap_mode="c", allow_pickle=False), self._scale)


@contextmanager
def mapped_npy(path: str | os.PathLike[str], lowres: Scene, scale: int) -> Iterator[MappedScene]:
    """The file of `write_scene` for `lowres` enlarged, whose pixels the block writes; complete or not there at all.

    Raises:
        ValueError: `path` does not end in .npy.
        FileNotFoundError, OSError: as `atomic_path`; a full disk is noticed before the block starts, not as a bus
            error inside it.
    """
    path = Path(path)
    if path.suffix.lower() != ".npy":
        raise ValueError(f"out must be an .npy file, got {path}: other formats are written from memory")
    shape = (lowres.bands, *(scale * side for side in lowres.size))
    with atomic_path(path) as temporary:
        pixels = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
        _reserve(temporary, path)
        yield (mapped := MappedScene(path, pixels, lowres, scale))
        pixels.flush()
        with temporary.open("ab") as file:
            append_record(file, lowres.enlarged(pixels, scale))
        mapped.pixels = pixels = None  # type: ignore[assignment]  # unmapped before the rename, which some systems need


def _reserve(temporary: Path, path: Path) -> None:
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        with temporary.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, temporary.stat().st_size)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that can't promise
            return
        raise OSError(error.errno, error.strerror, str(path)) from None
