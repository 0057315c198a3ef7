"""The folder of a prepared set: which scenes are which part, its patches, and how it is written."""

import hashlib
import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lkops
from lkcanet.common.files import atomic_folder
from lkcanet.common.runs import CONFIG
from lkcanet.data.formats.png import band_files
from lkcanet.data.formats.writers import write_scene
from lkcanet.data.manifest import MANIFEST, SET_FORMAT, file_facts, fingerprint, write_manifest
from lkcanet.data.scenes import Scene
from lkcanet.data.splits import default_stride, drawn

__all__ = ["Member", "chosen", "patch_and_stride", "write_set"]

_LOWRES = (
    "MATLAB's imresize(gt, 1 / scale), bicubic with antialiasing and mirrored borders (bicubic_downsample), in "
    "float32; test and validation scenes whole, training patches cropped first, then degraded"
)
FOLDERS = ("train", "test")


@dataclass(frozen=True)
class Member:
    """A scene that is to be prepared: its name, its part, where it lies and how it is read, normalised."""

    name: str
    part: str
    path: Path
    read: Callable[[], Scene]


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
    names: Sequence[str], choice: Sequence[str] | str | float | None, argument: str, seed: int
) -> tuple[list[str], dict[str, Any]]:
    """The names that a choice means, in their order, and the manifest's word on it.

    Names are a sequence, or a text with commas; the "_ms" that CAVE's end in may be left out.

    Raises:
        ValueError: no name, one that is not among them (lists them), a share outside (0, 1), or a seed below 0.
    """
    if choice is None:
        return [], {"kind": "none", "scenes": []}
    if isinstance(choice, (int, float)):
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed must be a whole number, 0 or more, got {seed!r}")
        if isinstance(choice, bool) or not 0 < choice < 1:
            raise ValueError(f"{argument} must be names of scenes or a share above 0 and below 1, got {choice!r}")
        found = [names[index] for index in drawn(len(names), choice, seed)]
        return found, {"kind": "share", "share": choice, "seed": seed, "scenes": found}
    if isinstance(choice, str):
        choice = [name.strip() for name in choice.split(",")]
    if not choice:
        raise ValueError(f"{argument} must be names of scenes or a share above 0 and below 1, got no name")
    known = {name.removesuffix("_ms"): name for name in names} | {name: name for name in names}
    if unknown := [name for name in choice if name not in known]:
        raise ValueError(f"{argument}: {', '.join(unknown)} is none of the {len(names)} scenes {_listed(names)}")
    asked = {known[name] for name in choice}
    found = [name for name in names if name in asked]
    return found, {"kind": "names", "scenes": found}


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names if len(names) <= 40 else [*names[:40], "..."])


def write_set(
    out: str | os.PathLike[str],
    members: Sequence[Member],
    facts: dict[str, Any],
    overwrite: bool,
    progress: Callable[[str], None] | None,
) -> None:
    """Write the folder: scenes, then the manifest."""
    if overwrite:
        _spare(Path(out))
    with atomic_folder(out, overwrite=overwrite, marker=MANIFEST, own=(CONFIG, *FOLDERS)) as folder:
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


def _spare(out: Path) -> None:
    """Raise where a set that is to be replaced holds files that `lkca prepare` did not write."""
    try:
        listed = json.loads((out / MANIFEST).read_bytes())["scenes"]
        own = {out / entry["file"] for entry in listed}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        own = set()  # no set, or a damaged one: what lies in its folders is anyone's
    foreign = sorted(str(file) for part in FOLDERS for file in (out / part).glob("*") if file not in own)
    if foreign:
        raise FileExistsError(f"{out} is not overwritten: it holds {', '.join(foreign[:3])} besides")


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
