"""`lkca prepare cave` and `lkca prepare folder`: sets of scenes into the form of `PreparedSet`."""

import hashlib
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lkops
from lkcanet.common.files import atomic_folder
from lkcanet.data import cave
from lkcanet.data.formats.png import band_files
from lkcanet.data.formats.writers import write_scene
from lkcanet.data.manifest import MANIFEST, SET_FORMAT, file_facts, fingerprint, write_manifest
from lkcanet.data.scenes import Scene
from lkcanet.data.sets import PreparedSet, load_set
from lkcanet.data.splits import default_stride

__all__ = ["prepare_cave"]

_LOWRES = (
    "MATLAB's imresize(gt, 1 / scale), bicubic with antialiasing and mirrored borders (bicubic_downsample), in "
    "float32; test and validation scenes whole, training patches cropped first, then degraded"
)
FOLDERS = ("train", "test")


@dataclass(frozen=True)
class _Member:
    """A scene that is to be prepared: its name, its part, where it lies and how it is read, whole and normalised."""

    name: str
    part: str
    path: Path
    read: Callable[[], Scene]


def prepare_cave(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    scale: int = 4,
    validation: Sequence[str] | float | None = cave.VALIDATION,
    seed: int = 0,
    lr_size: int | None = None,
    stride: int | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] | None = None,
) -> PreparedSet:
    """Bring the CAVE set into SSPSR's protocol: 20 scenes to train, 12 to be tested on, all whole.

    `out` receives `train/NAME.npy` and `test/NAME.npy`, the scenes divided by the full scale of their images (65535,
    or 255 where they have 8 bits), float32, to be memory-mapped by `read_scene`, and `protocol.json`, the manifest.
    The folder appears only when complete.

    Args:
        folder: the set: NAME/*.png, or NAME/NAME/*.png as it is published.
        out: the folder to make.
        scale: r, 4 or 8.
        validation: scenes out of the 20, with or without the "_ms" of their names; or a share of them, drawn by
            `seed`; None trains on all 20.
        seed: of drawn validation scenes.
        lr_size: side of a training patch in LR pixels, 32 by default. (SSPSR's scripts do not give it for CAVE. In
            patches of 16 half of the taps of a 7 x 7 kernel of dilation 7 never see a pixel.)
        stride: step between training patches in HR pixels; by default `default_stride`, which meets every phase of
            the sampling.
        overwrite: replace a prepared folder that holds nothing else.
        progress: is called with a line for the user now and then.

    Returns:
        What `load_prepared` gives for the folder.

    Raises:
        ValueError: another scale, images of another count, size or kind, validation scenes that are none of the 20 or
            leave none, or a wrong argument.
        FileExistsError: `out` exists.
        FileNotFoundError, OSError: scenes are missing (names them), can't be read, or the folder not be written.
    """
    folder = Path(folder)
    if scale not in cave.SCALES:
        raise ValueError(f"scale must be {' or '.join(map(str, cave.SCALES))} in protocol cave, got {scale!r}")
    patch, stride = patch_and_stride(scale, cave.LR_SIZE if lr_size is None else lr_size, stride)
    held, drawn = chosen(cave.TRAIN, validation, "validation", seed)
    if len(held) == len(cave.TRAIN):
        raise ValueError("validation must leave scenes to train on")
    folders = cave.cave_folders(folder)
    members = []
    for name in (*cave.TRAIN, *cave.TEST):
        part = "test" if name in cave.TEST else "validation" if name in held else "train"
        members.append(_Member(name, part, folders[name], partial(cave.read_cave, folders[name], name)))
    facts = {
        "protocol": "cave",
        "protocol_source": cave.SOURCE,
        "scale": scale,
        "source": {"path": str(folder)},
        "peak": {"rule": "full scale of each scene's PNG images: 65535 of 16 bits, 255 of 8"},
        "validation": drawn,
        "train": {"patch": patch, "stride": stride},
        "ssim": "matlab",
    }
    _write(out, members, facts, overwrite, progress)
    return load_set(out)


def patch_and_stride(scale: int, lr_size: int, stride: int | None) -> tuple[int, int]:
    """Side of a patch and step between patches, in HR pixels.

    Raises:
        ValueError: one of them below 1, or not whole.
    """
    for name, value in (("lr_size", lr_size), ("stride", stride)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ValueError(f"{name} must be a whole number, 1 or more, got {value!r}")
    return scale * lr_size, default_stride(scale * lr_size, scale) if stride is None else stride


def chosen(
    names: Sequence[str], choice: Sequence[str] | float | None, argument: str, seed: int
) -> tuple[list[str], dict[str, Any]]:
    """The names that a choice means, in their order, and the manifest's word on it.

    Raises:
        ValueError: a name that is not among them (lists them), a share outside (0, 1), or a seed below 0.
    """
    if choice is None:
        return [], {"kind": "none", "scenes": []}
    if isinstance(choice, (int, float)):
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed must be a whole number, 0 or more, got {seed!r}")
        if isinstance(choice, bool) or not 0 < choice < 1:
            raise ValueError(f"{argument} must be names of scenes or a share above 0 and below 1, got {choice!r}")
        count = max(1, round(choice * len(names)))
        drawn = np.random.default_rng(seed).permutation(len(names))[:count]
        found = [names[index] for index in sorted(drawn.tolist())]
        return found, {"kind": "share", "share": choice, "seed": seed, "scenes": found}
    known = {name.removesuffix("_ms"): name for name in names} | {name: name for name in names}
    if unknown := [name for name in choice if name not in known]:
        raise ValueError(f"{argument}: {', '.join(unknown)} is none of the scenes {', '.join(names)}")
    asked = {known[name] for name in choice}
    found = [name for name in names if name in asked]
    return found, {"kind": "names", "scenes": found}


def _write(
    out: str | os.PathLike[str],
    members: Sequence[_Member],
    facts: dict[str, Any],
    overwrite: bool,
    progress: Callable[[str], None] | None,
) -> None:
    """Write the folder: scenes, then the manifest."""
    with atomic_folder(out, overwrite=overwrite, marker=MANIFEST, own=FOLDERS) as folder:
        for part in FOLDERS:
            (folder / part).mkdir()
        entries = []
        for number, member in enumerate(members, 1):
            if progress is not None:
                progress(f"scene {number} of {len(members)}: {member.path}")
            scene = member.read()
            file = Path("test" if member.part == "test" else "train") / f"{member.name}.npy"
            write_scene(folder / file, scene)
            entries.append(
                {
                    "name": member.name,
                    "part": member.part,
                    "file": file.as_posix(),
                    "shape": list(scene.pixels.shape),
                    "peak": scene.peak,
                    "fingerprint": fingerprint(folder / file),
                    "source": {"path": str(member.path), **_source_facts(member.path)},
                }
            )
        versions = {"python": platform.python_version(), "lkops": lkops.__version__}
        versions |= {"numpy": np.__version__, "torch": torch.__version__}
        write_manifest(
            folder / MANIFEST,
            {"format": SET_FORMAT, **facts, "lowres": _LOWRES, "scenes": entries, "versions": versions},
        )


def _source_facts(path: Path) -> dict[str, Any]:
    """Of a file what `file_facts` says; of a folder of images their number, bytes and one SHA-256, in their order."""
    if not path.is_dir():
        return {"files": file_facts(path)}
    files, digest, size = band_files(path), hashlib.sha256(), 0
    for file in files:
        content = file.read_bytes()
        digest.update(content)
        size += len(content)
    return {"images": len(files), "bytes": size, "sha256": digest.hexdigest()}
