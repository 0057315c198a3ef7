"""What is told of a run: in its checkpoints, and in its state, by which a run that goes on is known."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ..common.options import TrainOptions
from ..data.responses import SpectralResponse
from ..data.scenes import Scene
from ..data.splits import Rect, Split
from ..models import Network
from ..models.registry import named_kind
from ..objectives import Objective
from . import state as _state
from .material import Material

HASHED = 16  # training patches whose pixels tell one scene from another


def identity_of(
    model: Network, scenes: Sequence[Scene], material: Material, facts: dict[str, Any], objective: Objective
) -> dict[str, Any]:
    """What makes a run this run. Of the scenes only pixels that are trained on are looked at."""
    pixels = hashlib.blake2b(digest_size=16)
    step = max(1, len(material.patches) // HASHED)
    for index in range(0, len(material.patches), step):
        for patch in (material.patches.crop(index), *material.patches.crop_msi(index)):
            pixels.update(patch.numpy().tobytes())
    held = material.validation.patches
    parts = (material.patches.parts, () if held is None else held.parts)
    origins = [[(int(row), int(column)) for one in part for row, column in one.origins] for part in parts]
    identity = {
        "network": model.config,
        **_told(scenes),
        "pixels": pixels.hexdigest(),
        "split": facts["split"],
        "patches": hashlib.blake2b(repr(origins).encode(), digest_size=16).hexdigest(),
        "option": {key: value for key, value in facts["options"].items() if key not in _state.FREE},
        "distillation": facts.get("distillation"),
        "teacher": facts.get("teacher", {}).get("digest"),
    }
    identity |= named_kind(model)
    if "msi" in facts:
        identity["msi"] = {key: facts["msi"][key] for key in ("name", "peak", "shape", "response")}
    if "init" in facts:
        identity["init"] = facts["init"]["file"]
    if "objective" in facts:
        identity["objective"] = facts["objective"]
    if along := objective.companions():
        identity["companions"] = {name: [network.kind, network.config] for name, network in along.items()}
    return identity


def _told(scenes: Sequence[Scene]) -> dict[str, Any]:
    each = [{"name": scene.name, "peak": scene.peak, "shape": list(scene.pixels.shape)} for scene in scenes]
    return {"scene": each[0]} if len(each) == 1 else {"scenes": each}


def describe(
    scene: Scene | Sequence[Scene],
    split: Split | Sequence[Split],
    options: TrainOptions,
    msi: Scene | None = None,
    response: SpectralResponse | None = None,
) -> dict[str, Any]:
    """What checkpoints tell about their training, JSON-serialisable.

    Of several scenes `peak` is what all were divided by, or None where each was by its own; "scenes" tells each one's
    name, source, shape, peak and regions, "scene" and "split" what they have in common.
    """
    scenes = (scene,) if isinstance(scene, Scene) else tuple(scene)
    splits = (split,) if isinstance(split, Split) else tuple(split)
    peaks = {each.peak for each in scenes}
    facts: dict[str, Any] = {"peak": peaks.pop() if len(peaks) == 1 else None}
    if len(scenes) == 1:
        facts["scene"] = {
            **_source(scenes[0]),
            "wavelengths": _wavelengths(scenes[0]),
            **_bands(scenes),
            **_raw(scenes),
        }
        facts["split"] = {**_regions(splits[0]), **_sides(splits)}
    else:
        known = [each for each in scenes if each.wavelengths is not None]
        facts["scene"] = {"wavelengths": _wavelengths(known[0]) if known else None, **_bands(scenes), **_raw(scenes)}
        facts["split"] = _sides(splits)
        pairs = zip(scenes, splits, strict=True)
        facts["scenes"] = [{**_source(one), "peak": one.peak, **_regions(its)} for one, its in pairs]
    facts["options"] = asdict(options)
    if msi is not None:
        told = {**_source(msi), "peak": msi.peak, "wavelengths": _wavelengths(msi)}
        facts["msi"] = told | {"response": None if response is None else asdict(response)}
    return facts


def _source(scene: Scene) -> dict[str, Any]:
    return {"name": scene.name, "source": scene.source, "shape": list(scene.pixels.shape)}


def _wavelengths(scene: Scene) -> list[float] | None:
    return None if scene.wavelengths is None else [float(nm) for nm in scene.wavelengths]


def _bands(scenes: Sequence[Scene]) -> dict[str, Any]:
    """Which bands of their files all scenes have, where they have not all and it is the same for each."""
    choices = {scene.band_choice for scene in scenes}
    choice = choices.pop() if len(choices) == 1 else None
    return {} if choice is None else {"bands": {"of": choice.of, "taken": list(choice.taken)}}


def _raw(scenes: Sequence[Scene]) -> dict[str, Any]:
    """Where scale and offset of the files were left aside."""
    kept = any(one.encoding is not None and one.encoding.raw and one.encoding.scaled for one in scenes)
    return {"raw": True} if kept else {}


def _regions(split: Split) -> dict[str, Any]:
    return {
        "test": None if split.test is None else str(split.test),
        "train": _bounds(split),
        "validation": None if split.validation is None else str(split.validation),
    }


def _sides(splits: Sequence[Split]) -> dict[str, Any]:
    counts = {part: sum(split.counts[part] for split in splits) for part in splits[0].counts}
    sides = {"patch": splits[0].patch, "stride": splits[0].stride}
    return {**sides, **{f"{part}_patches": count for part, count in counts.items()}}


def _bounds(split: Split) -> str | None:
    """The smallest rectangle around all training patches."""
    if not len(split.train_origins):
        return None
    top, left = np.min(split.train_origins, 0).tolist()
    bottom, right = (np.max(split.train_origins, 0) + split.patch).tolist()
    return str(Rect(top, bottom, left, right))
