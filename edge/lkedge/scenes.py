"""A network over a scene's file: what it takes is known before, the result is written as it is made."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from . import envi
from .files import atomic, mapped_output, written_out
from .network import Network

__all__ = ["Job", "available_memory", "files_of", "prepare", "run"]

_STRIP_BYTES = 16 << 20  # of output: small beside the features of an image for which it matters
_SUFFIXES = (".npy", ".hdr")


class Job(NamedTuple):
    """A scene and what it takes.

    Attributes:
        files: that it is read from.
        pixels: (bands, rows, columns), mapped, as they lie in the file.
        header: lines of an ENVI header; none of a .npy.
        peak: what pixels are divided by.
        gains, offsets: of the bands; a pixel of the result x gain + offset is in the units of the scene, or the pixel
            itself is as the scene's are.
        copied: whether they are copied as float32 first.
        strip_rows: low-resolution rows of a strip.
        memory: bytes beside the mapped files.
    """

    files: tuple[Path, ...]
    pixels: np.ndarray
    header: dict[str, str]
    peak: float
    gains: list[float]
    offsets: list[float]
    copied: bool
    strip_rows: int
    memory: int


def prepare(net: Network, scene: Path, *, peak: float | None = None, strip_rows: int | None = None) -> Job:
    """Look at a scene: .npy (bands, rows, columns), or an ENVI header or data file; nothing is read but headers.

    Args:
        net: the network.
        scene: the file.
        peak: what pixels are divided by. If not given, floating ones are taken as they are, divided already, and whole
            ones, times the gain that an ENVI header declares, are divided by the peak in the network's file.
        strip_rows: of the low-resolution scene; so that a strip of the result has 16 MB if not given.

    Raises:
        ValueError: a scene of other bands, or of whole numbers where no peak is known or gains are not all the same.
        OSError: a file is not there, or truncated.
    """
    header: dict[str, str] = {}
    files: tuple[Path, ...] = (scene,)
    if scene.suffix.lower() == ".npy":
        pixels = np.load(scene, mmap_mode="r", allow_pickle=False)
    else:
        pixels, header, files = envi.mapped(scene)
    if pixels.ndim != 3 or pixels.shape[0] != net.bands or 0 in pixels.shape:
        raise ValueError(f"{scene}: must be ({net.bands}, rows, columns) for this network, got {pixels.shape}")
    if pixels.dtype.kind not in "fiu":
        raise ValueError(f"{scene}: pixels must be numbers, got {pixels.dtype}")
    as_they_are = peak is None and pixels.dtype.kind == "f"
    if as_they_are:
        peak = 1.0
    gains, offsets = envi.units_of({} if as_they_are else header, net.bands, scene)
    if peak is None:
        if len(set(gains)) > 1 or any(offsets):
            raise ValueError(f"{scene}: its header has a gain for each band, or offsets: give a peak of its numbers")
        told = net.metadata.get("peak")
        peak = told / gains[0] if isinstance(told, int | float) else None
    if peak is None or not 0 < peak < float("inf"):
        raise ValueError(f"{scene}: pixels are {pixels.dtype}, and the network's file tells no peak: give one above 0")
    rows, columns = pixels.shape[1:]
    if strip_rows is None:
        of_row = 4 * net.bands * net.scale**2 * columns
        strip_rows = min(rows, max(8, _STRIP_BYTES // of_row))
    copied = peak != 1 or pixels.dtype != np.float32 or not pixels.flags.c_contiguous
    memory = net.memory(rows, columns, strip_rows=strip_rows).total + (4 * pixels.size if copied else 0)
    gains = [peak * gain for gain in gains]
    return Job(files, pixels, header, float(peak), gains, offsets, copied, strip_rows, memory)


def files_of(out: Path) -> tuple[Path, ...]:
    """The files that `run` writes, data before its header. Raises ValueError for another suffix."""
    if out.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"{out}: must end in {' or '.join(_SUFFIXES)}")
    return (out,) if out.suffix.lower() == ".npy" else (out.with_suffix(".img"), out)


def run(net: Network, job: Job, out: Path) -> None:
    """Super-resolve a scene into a file, float32, divided by the peak; complete or not there at all.

    Args:
        net: the network.
        job: of `prepare`.
        out: .npy, or .hdr: a .img lies beside it then, with wavelengths, band names and map of the scene.

    Raises:
        ValueError: another suffix, a file of the scene itself, or NaN or infinite pixels.
        OSError: the file can't be written; a full disk is noticed before the work.
    """
    paths = files_of(out)
    is_npy = len(paths) == 1
    read = {file.resolve() for file in job.files}
    if both := [path for path in paths if path.resolve() in read]:
        raise ValueError(f"{both[0]}: is the scene itself")
    bands, rows, columns = job.pixels.shape
    shape = (bands, rows * net.scale, columns * net.scale)
    with atomic(*paths) as temporaries:
        _write(net, job, mapped_output(temporaries[0], shape, is_npy=is_npy))
        if not is_npy:
            text = envi.header_text(shape, job.header, net.scale, job.gains, job.offsets)
            temporaries[1].write_text(text, encoding="utf-8")


def _write(net: Network, job: Job, pixels: np.memmap) -> None:
    def put(first: int, strip: np.ndarray) -> None:
        for band, values in zip(pixels, strip, strict=True):
            band[first : first + len(values)] = values
            written_out(pixels)  # around every page that is touched the system may map megabytes

    net.strips(_divided(job), put, rows=job.strip_rows)
    pixels.flush()


def available_memory() -> int | None:
    """Bytes that the system can give without swapping; None where it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None


def _divided(job: Job) -> np.ndarray:
    if not job.copied:
        return job.pixels
    image = np.empty(job.pixels.shape, np.float32)
    for band, values in zip(image, job.pixels, strict=True):
        np.divide(values, job.peak, out=band, dtype=np.float32, casting="unsafe")
    return image
