"""Sets of scenes that `lkca prepare` makes: whole scenes that train, validate and are tested on."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lkcanet.common.ssim import SSIM
from lkcanet.data.formats.readers import read_scene
from lkcanet.data.manifest import read_manifest
from lkcanet.data.scenes import Scene

__all__ = ["PreparedSet", "load_set"]


@dataclass(frozen=True, eq=False)
class PreparedSet:
    """A prepared folder of many scenes; the scenes are memory-mapped.

    Attributes:
        folder: where it is.
        protocol: its name, "cave" or "folder".
        scale: r.
        train, validation, test: whole scenes of the same bands, in the protocol's order, named as in the source; rows
            and columns are multiples of r and may differ between scenes. No validation scene is a training scene;
            `validation` is empty where the preparation was told to leave none.
        patch: side of a training patch in HR pixels, a multiple of r; every training scene holds one.
        stride: step between training patches in HR pixels.
        ssim: of which SSIM the protocol's scores are, see `lkcanet.evaluation.evaluate`.
        manifest: all that `protocol.json` says.
    """

    folder: Path
    protocol: str
    scale: int
    train: tuple[Scene, ...]
    validation: tuple[Scene, ...]
    test: tuple[Scene, ...]
    patch: int
    stride: int
    ssim: SSIM
    manifest: dict[str, Any]

    @property
    def bands(self) -> int:
        """B."""
        return self.test[0].bands

    @property
    def test_names(self) -> tuple[str, ...]:
        """Of the test scenes."""
        return tuple(scene.name for scene in self.test)

    def test_scene(self, number: int) -> Scene:
        """The test image of this number, counted from 0."""
        return self.test[number]

    @property
    def peak(self) -> float | None:
        """What all training and validation scenes were divided by, in the units of the source; None where they have
        peaks of their own. A test scene may have another: `Scene.peak` says it."""
        peaks = {scene.peak for scene in (*self.train, *self.validation)}
        return peaks.pop() if len(peaks) == 1 else None


def load_set(folder: str | os.PathLike[str]) -> PreparedSet:
    """Open a prepared folder of many scenes; errors as `lkcanet.data.load_prepared`."""
    folder = Path(folder)
    return set_of(folder, read_manifest(folder))


def set_of(folder: Path, manifest: dict[str, Any]) -> PreparedSet:
    """The set of a folder with this manifest."""
    parts: dict[str, list[Scene]] = {"train": [], "validation": [], "test": []}
    for entry in manifest["scenes"]:
        parts[entry["part"]].append(read_scene(folder / entry["file"]))
    patches = manifest["train"]
    return PreparedSet(
        folder,
        manifest["protocol"],
        manifest["scale"],
        tuple(parts["train"]),
        tuple(parts["validation"]),
        tuple(parts["test"]),
        patches["patch"],
        patches["stride"],
        manifest["ssim"],
        manifest,
    )
