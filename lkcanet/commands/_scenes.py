"""What `lkca train` and `lkca distill` train on: one scene, several, or what `lkca prepare` made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _prepared as prepared
from . import _shared as shared
from ._training import Given

if TYPE_CHECKING:
    from lkcanet.data import Prepared, PreparedSet, Scene, Split, TrainingRecord


@dataclass(frozen=True)
class TrainingInput:
    """Scenes with a split each, the scale, and the prepared folder of one scene that fixed them."""

    scenes: "tuple[Scene, ...]"
    splits: "tuple[Split, ...]"
    scale: int
    prepared: "Prepared | None" = None


def training_input(
    paths: Sequence[Path],
    given: Given,
    test: str | None,
    scale: int,
    *,
    record: "TrainingRecord | None" = None,
    one: "Callable[[Path], tuple[Scene, Split]] | None" = None,
) -> TrainingInput:
    """What paths name, read and divided by the options.

    Args:
        paths: of the command line.
        given, test: the options.
        scale: r, where no prepared folder has its own.
        record: by whose peak several scenes are divided, and whose bands are read, where the options don't tell.
        one: reads a single scene that is not prepared, and divides it.

    Raises:
        ValueError: an option that goes with other scenes, or that a prepared folder fixes; scenes that do not fit.
    """
    from lkcanet.data import PreparedSet, is_prepared, load_prepared, read_scenes, scene_paths

    found = scene_paths(paths)
    if len(found) == 1:
        if given.one_peak:
            raise ValueError("--one-peak is of several scenes; there is one")
        if is_prepared(found[0]):
            loaded = load_prepared(found[0])
            if isinstance(loaded, PreparedSet):
                return _of_set(loaded, given, test)
            prepared.check_training(loaded, given, test)
            return TrainingInput((loaded.scene,), (loaded.split,), loaded.scale, loaded)
        scene, split = _one(found[0], given, test, scale) if one is None else one(found[0])
        return TrainingInput((scene,), (split,), scale)
    for path in found:
        if is_prepared(path):
            raise ValueError(f"{path}, which `lkca prepare` made, trains alone: it has its own test images")
    if given.msi_options.msi is not None:
        raise ValueError("--msi goes with one scene: --response makes the MSI of each of several")
    scenes = read_scenes(found, one_peak=given.one_peak, **given.reading.arguments(record))
    return TrainingInput(tuple(scenes), tuple(splits_for(given, scenes, test, scale)), scale)


def _one(path: Path, given: Given, test: str | None, scale: int) -> "tuple[Scene, Split]":
    if test is None:
        raise ValueError("--test is missing: the test region, such as 0:512,320:576, which training never reads")
    scene = given.reading.scene(path)
    return scene, split_for(given, scene, test, scale)


def _of_set(made: "PreparedSet", given: Given, test: str | None) -> TrainingInput:
    """Whole scenes train, others validate. Patches may be other ones than the set's."""
    from lkcanet.data import split_set

    fixed: dict[str, Any] = {"--test": test, "--train-region": given.train_region, "--one-peak": given.one_peak or None}
    fixed |= {**prepared.fixed_reading(given.reading), "--peak": given.reading.peak}
    fixed["--msi"] = given.msi_options.msi
    if made.validation:
        fixed["--validation"] = given.validation
    prepared.refuse(made.folder, {name: (value, None) for name, value in fixed.items()})
    prepared.refuse(made.folder, {"--scale": (given.scale, made.scale)})
    side = None if given.patch is None else side_of(given, made.scale)
    held = None if given.validation is None else _fraction(given.validation)
    scenes, splits = split_set(made, patch=side, stride=given.stride, validation=held, seed=given.seed)
    return TrainingInput(scenes, tuple(splits), made.scale)


def split_for(given: Given, scene: "Scene", test: str, scale: int) -> "Split":
    """The regions and patches of these options."""
    from lkcanet.data import default_stride, region_split

    side = side_of(given, scale)
    if (given.validation or "").startswith("patches:"):
        return splits_for(given, [scene], test, scale)[0]
    split = region_split(
        scene.pixels.shape,
        test,
        patch=side,
        stride=default_stride(side, scale) if given.stride is None else given.stride,
        validation=_fraction("0.1" if given.validation is None else given.validation),
        train=given.train_region,
        scale=scale,
    )
    shared.scored_part(str(split.test), scene.pixels.shape, scale, "the test region")
    if split.validation is not None and ":" in (given.validation or ""):
        shared.scored_part(str(split.validation), scene.pixels.shape, scale, "the validation block")
    if split.validation is None:
        raise ValueError(f"--validation must leave a block to choose the best checkpoint by, got {given.validation}")
    return split


def side_of(given: Given, scale: int) -> int:
    """The side of a patch in pixels of the scene."""
    patch = 16 if given.patch is None else given.patch
    for option, value in (("--scale", scale), ("--patch", patch)):
        if value < 1:
            raise ValueError(f"{option} must be 1 or more, got {value}")
    return patch * scale


def splits_for(given: Given, scenes: Sequence["Scene"], test: str | None, scale: int) -> "list[Split]":
    """The regions and patches of these options in several scenes."""
    from lkcanet.data import split_scenes

    validation = _fraction("0.1" if given.validation is None else given.validation)
    if isinstance(validation, float) and not 0 < validation < 1:
        raise ValueError(f"--validation must leave a block to choose the best checkpoint by, got {given.validation}")
    return split_scenes(
        scenes,
        patch=side_of(given, scale),
        stride=given.stride,
        validation=validation,
        test=test,
        train=given.train_region,
        scale=scale,
        seed=given.seed,
    )


def _fraction(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text  # a rectangle; region_split says what is wrong with others
