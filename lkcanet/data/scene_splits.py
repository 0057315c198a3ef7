"""How many scenes train a network: which parts of them train it, and which choose its checkpoint."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from lkcanet.data.scenes import Scene
from lkcanet.data.sets import PreparedSet
from lkcanet.data.splits import NONE, Rect, Split, default_stride, drawn, in_rect, region_split, valid_patches

__all__ = ["split_scenes", "split_set", "training_scene", "validation_scene"]

_DRAWN = "patches:"
_RECTANGLE = re.compile(r"[\s\d:,-]*:[\s\d:,-]*")


def training_scene(scene: Scene, *, patch: int, stride: int, scale: int = 1) -> Split:
    """The split of a scene that trains as a whole.

    Args:
        scene: of any size that holds a patch.
        patch, stride: side of the patches and step of their grid, in pixels of the scene.
        scale: errors give sizes of patches in low-resolution pixels of this scale.

    Raises:
        ValueError: no patch of valid pixels fits; the message names the scene.
    """
    return _named(scene, patch=patch, stride=stride, scale=scale, validation=0.0)


def validation_scene(scene: Scene, *, patch: int, stride: int) -> Split:
    """The split of a scene that validates as a whole; patches and stride count where it holds invalid pixels.

    Raises:
        ValueError: patch or stride below 1.
    """
    height, width = scene.size
    everything = Rect(0, height, 0, width)
    held = valid_patches(in_rect(everything, patch, stride), patch, scene.valid)
    return Split(scene.size, patch, stride, None, everything, NONE, held, NONE)


def split_scenes(
    scenes: Sequence[Scene],
    *,
    patch: int,
    stride: int | None = None,
    validation: float | str = 0.1,
    test: str | None = None,
    train: str | None = None,
    scale: int = 1,
    seed: int = 0,
) -> list[Split]:
    """A split for each scene, in their order.

    Args:
        scenes: of any sizes that hold a patch.
        patch: side of the patches in pixels of the scenes, a multiple of `scale`.
        stride: step of their grids; None is `default_stride`.
        validation: what chooses the best checkpoint:

            - names of scenes ("feathers, beads"): these as a whole, the others train; for one scene alone not;
            - a fraction in (0, 1): of every scene a block, as `region_split` places it; no pixel of it trains;
            - a rectangle ("0:128,:"): this part of every scene;
            - "patches:F": the fraction F of all patches, drawn by `seed`. They overlap training patches, as in papers
              that do so: their scores are optimistic.
        test: a rectangle of every scene that is neither trained on nor validated on.
        train: a rectangle of every scene: training and blocks stay inside.
        scale: r.
        seed: of drawn patches.

    Raises:
        ValueError: a name that no scene has or that two have, names that leave no scene to train on, a fraction out of
            range, or a scene in which no patch fits (named).
    """
    step = default_stride(patch, scale) if stride is None else stride
    train_on = partial(_named, patch=patch, stride=step, scale=scale, test=test, train=train)
    if not isinstance(validation, str) or _RECTANGLE.fullmatch(validation):
        return [train_on(scene, validation=validation) for scene in scenes]
    if validation.startswith(_DRAWN):
        share = _fraction(validation.removeprefix(_DRAWN))
        return _drawn([train_on(scene, validation=0.0) for scene in scenes], share, seed)
    held = _indices(scenes, validation)
    return [
        validation_scene(scene, patch=patch, stride=step) if index in held else train_on(scene, validation=0.0)
        for index, scene in enumerate(scenes)
    ]


def split_set(
    made: PreparedSet,
    *,
    patch: int | None = None,
    stride: int | None = None,
    validation: float | str | None = None,
    seed: int = 0,
) -> tuple[tuple[Scene, ...], list[Split]]:
    """The scenes of a prepared set that train and validate, and a split for each.

    Args:
        made: of `lkcanet.data.load_prepared`. Its test scenes are not among them.
        patch, stride: of the patches, in pixels of the scenes; the set's by default, and with another patch
            `default_stride`.
        validation, seed: as of `split_scenes`, where the set has no validation scenes of its own.

    Raises:
        ValueError: there are no validation scenes and no `validation`, or both; a scene in which no patch fits.
    """
    side = made.patch if patch is None else patch
    if stride is None:
        stride = made.stride if patch is None else default_stride(side, made.scale)
    if not made.validation:
        if validation is None:
            raise ValueError(f"{made.folder} has no validation scenes: give --validation, such as patches:0.1")
        return made.train, split_scenes(
            made.train, patch=side, stride=stride, validation=validation, scale=made.scale, seed=seed
        )
    if validation is not None:
        raise ValueError(f"{made.folder} has validation scenes of its own, got validation {validation!r}")
    train = [training_scene(scene, patch=side, stride=stride, scale=made.scale) for scene in made.train]
    held = [validation_scene(scene, patch=side, stride=stride) for scene in made.validation]
    return (*made.train, *made.validation), [*train, *held]


def _named(scene: Scene, *, test: str | None = None, **options: object) -> Split:
    """`region_split`, whose errors name the scene."""
    try:
        return region_split(scene.size, test, valid=scene.valid, **options)  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(f"scene {scene.name}: {error}") from None


def _indices(scenes: Sequence[Scene], text: str) -> set[int]:
    """Which scenes the names are of."""
    names, held = [scene.name for scene in scenes], set()
    for name in filter(None, (part.strip() for part in text.split(","))):
        if names.count(name) != 1:
            what = f"{names.count(name)} scenes are called" if name in names else "no scene is called"
            raise ValueError(f"validation names {name!r}, and {what} that; there are {', '.join(names)}")
        held.add(names.index(name))
    if not held or len(held) == len(scenes):
        left = "names no scene" if not held else "names every scene, and leaves none to train on"
        raise ValueError(f"validation {text!r} {left}")
    return held


def _fraction(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 < share < 1:
        raise ValueError(f"validation must be patches:F with a fraction F above 0 and below 1, got {text!r}")
    return share


def _drawn(splits: list[Split], share: float, seed: int) -> list[Split]:
    """The splits with this share of all their patches, one at least, drawn to validate; the order of the rest stays."""
    total = sum(len(split.train_origins) for split in splits)
    chosen: np.ndarray = np.zeros(total, bool)
    chosen[drawn(total, share, seed)] = True
    if chosen.all():
        raise ValueError(f"validation patches:{share:g} of {total} patches leaves none to train on")
    found, first = [], 0
    for split in splits:
        held = chosen[first : first + len(split.train_origins)]
        first += len(held)
        found.append(
            replace(split, train_origins=split.train_origins[~held], validation_origins=split.train_origins[held])
        )
    return found
