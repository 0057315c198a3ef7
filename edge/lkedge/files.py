"""Files that are either whole or absent, and written as they are made."""

import errno
import mmap
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

__all__ = ["atomic", "mapped_output", "written_out"]


@contextmanager
def atomic(*paths: Path) -> Iterator[list[Path]]:
    """Temporary paths beside these; renamed in order when the block ends well, removed when it does not.

    A file among these that a later one describes (data, then its header) never stands beside another's: later ones are
    removed before the first is renamed.
    """
    for path in paths:
        if path.is_dir():
            raise IsADirectoryError(f"{path}: cannot be written, it is a folder")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"{path}: cannot be written, the folder {path.parent} does not exist")
    temporaries = [path.with_name(f".{path.stem[:40]}-{secrets.token_hex(6)}{path.suffix}") for path in paths]
    try:
        for temporary in temporaries:
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporaries
        for temporary in temporaries:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        for path in paths[1:]:
            path.unlink(missing_ok=True)
        for temporary, path in zip(temporaries, paths, strict=True):
            temporary.replace(path)
    except BaseException:
        for temporary in temporaries:
            with suppress(OSError):
                temporary.unlink()
        raise


def mapped_output(path: Path, shape: tuple[int, ...], *, is_npy: bool) -> np.memmap:
    """A float32 file of this shape, mapped; a full disk is noticed here, not as a bus error later."""
    if is_npy:
        pixels = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    else:
        pixels = np.memmap(path, "<f4", "w+", shape=shape)
    if hasattr(os, "posix_fallocate"):
        try:
            with path.open("rb+") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # file systems that can't promise
                raise
    return pixels


def written_out(pixels: np.memmap) -> None:
    """Take the pages that were written out of this process's memory; the system writes them when it likes."""
    mapping = getattr(pixels, "_mmap", None)
    if isinstance(mapping, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)  # a shared map of a file: nothing is lost
