"""Scenes to files, whole or not at all, with nothing lost."""

import json
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lkcanet._files import atomic_path
from lkcanet._optional import require
from lkcanet.data.readers import MARKER
from lkcanet.data.scenes import Scene

_MAT5_LIMIT = 2**32 - 2**16  # MATLAB v5 counts bytes in 32 bits; leave room for the header


def write_scene(path: str | os.PathLike[str], scene: Scene) -> None:
    """Write a scene so that `read_scene` gives back identical pixels, peak, wavelengths, name and source.

    The pixels are written as they are, normalised: `pixels * peak` are the units of the source.

    - .npy: pixels (B, H, W), and behind them a second `np.save` array, a JSON text with the rest: one file, so that the
      two cannot part. `np.load` gives the pixels and can memory-map them. Best for large scenes.
    - .npz: pixels (B, H, W), peak, wavelengths, name, source, lkcanet_scene; not compressed.
    - .mat: the same as MATLAB v5, with pixels (H, W, B); at most 4 GB.

    The file appears under its name only when complete: a failed write leaves what was there before.

    Args:
        path: the file; its suffix chooses the format. Its folder must exist.
        scene: the scene.

    Raises:
        TypeError: `scene` is not a Scene.
        ValueError: unsupported suffix, or more pixels than a .mat v5 file holds (nothing is written then).
        FileNotFoundError: the folder does not exist.
        OSError: the write failed, for example a full disk.
    """
    path = Path(path)
    if not isinstance(scene, Scene):
        raise TypeError(f"scene must be a Scene, got {type(scene).__name__}")
    writers = {".npy": _write_npy, ".npz": _write_npz, ".mat": _write_mat}
    if path.suffix.lower() not in writers:
        raise ValueError(f"{path}: unsupported suffix {path.suffix!r}; supported: {', '.join(writers)}")
    if path.suffix.lower() == ".mat" and scene.pixels.nbytes > _MAT5_LIMIT:
        raise ValueError(f"{path}: {scene.pixels.nbytes / 1e9:.1f} GB do not fit a .mat v5 file (4 GB); write .npy")
    with atomic_path(path) as temporary:
        writers[path.suffix.lower()](temporary, scene)


def _metadata(scene: Scene) -> dict[str, Any]:
    wavelengths = {} if scene.wavelengths is None else {"wavelengths": scene.wavelengths}
    return {MARKER: 1, "peak": scene.peak, "name": scene.name, "source": scene.source, **wavelengths}


def _write_npy(path: Path, scene: Scene) -> None:
    with path.open("wb") as file:
        np.save(file, scene.pixels)
        append_record(file, scene)


def append_record(file: BinaryIO, scene: Scene) -> None:
    """Write the second array of a scene's .npy file, all but its pixels, which come before it."""
    np.save(file, np.array(json.dumps(_metadata(scene), default=np.ndarray.tolist)))


def _write_npz(path: Path, scene: Scene) -> None:
    # an open file: to a path that ends in .NPZ np.savez would append .npz, and the empty temporary would be renamed
    with path.open("wb") as file:
        np.savez(file, pixels=scene.pixels, **_metadata(scene))


def _write_mat(path: Path, scene: Scene) -> None:
    scipy_io = require("scipy.io", extra="io")
    # pixels last: a file that is cut short misses them and is refused, and never read without its peak
    scipy_io.savemat(path, {**_metadata(scene), "pixels": scene.pixels.transpose(1, 2, 0)}, oned_as="row")
