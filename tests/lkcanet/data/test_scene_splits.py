"""Which parts of several scenes train, and which validate."""

import dataclasses
import math

import numpy as np
import pytest

from lkcanet.data import Scene, split_scenes
from lkcanet.data.splits import Rect, Split

PATCH, STRIDE = 8, 5


def scene(name: str, size: tuple[int, int], valid: np.ndarray | None = None) -> Scene:
    return Scene(np.ones((2, *size), np.float32), 1.0, name=name, valid=valid)


@pytest.fixture
def scenes() -> list[Scene]:
    return [scene("a", (40, 24)), scene("b", (17, 32)), scene("c", (24, 24))]


def splits(scenes: list[Scene], validation: str | float, **given) -> list[Split]:
    return split_scenes(scenes, **{"patch": PATCH, "stride": STRIDE, "validation": validation, **given})


def covered(split: Split, origins: np.ndarray) -> np.ndarray:
    mask: np.ndarray = np.zeros(split.shape, bool)
    for row, column in origins.tolist():
        mask[row : row + split.patch, column : column + split.patch] = True
    return mask


@pytest.mark.parametrize("text", ["b", " b , ", "b,c"])
def test_named_scenes_validate_as_a_whole(scenes, text: str) -> None:
    held = {name.strip() for name in text.split(",")} - {""}
    for each, split in zip(scenes, splits(scenes, text), strict=True):
        if each.name in held:
            assert split.validation == Rect(0, each.size[0], 0, each.size[1])
            assert not len(split.train_origins)
        else:
            assert split.validation is None
            rows, columns = ((length - PATCH) // STRIDE + 1 for length in each.size)
            assert len(split.train_origins) == rows * columns
        assert split.test is None
        assert not len(split.test_origins)


@pytest.mark.parametrize("validation", [0.3, "0:9,:"])
def test_blocks_of_every_scene_share_no_pixel_with_its_training(scenes, validation) -> None:
    for split in splits(scenes, validation):
        assert split.validation is not None
        assert len(split.train_origins)
        assert not covered(split, split.train_origins)[split.validation.slices].any()


@pytest.mark.parametrize("share", [0.1, 0.5, 1e-9])
def test_drawn_patches_are_that_share_of_all(scenes, share: float) -> None:
    whole = [len(split.train_origins) for split in splits(scenes, "patches:0.1", seed=0)]
    drawn = splits(scenes, f"patches:{share}", seed=1)
    total = sum(len(split.train_origins) + len(split.validation_origins) for split in drawn)
    held = sum(len(split.validation_origins) for split in drawn)
    assert held == max(1, round(share * total))
    assert sum(whole) < total
    for split in drawn:
        both = [*map(tuple, split.train_origins.tolist()), *map(tuple, split.validation_origins.tolist())]
        assert len(set(both)) == len(both)
    again = splits(scenes, f"patches:{share}", seed=1)
    assert all(np.array_equal(one.train_origins, other.train_origins) for one, other in zip(drawn, again, strict=True))


def test_test_and_training_rectangles_hold_in_every_scene(scenes) -> None:
    for split in splits(scenes, 0.2, test="0:8,:", train="8:,:"):
        assert split.test == Rect(0, 8, 0, split.shape[1])
        assert not covered(split, split.train_origins)[:8].any()


def test_the_default_stride_is_coprime_to_the_scale(scenes) -> None:
    for split in splits(scenes, 0.3, stride=None, scale=4):
        assert math.gcd(split.stride, 4) == 1


def test_invalid_pixels_are_avoided(scenes) -> None:
    valid = np.ones((40, 24), bool)
    valid[20, 10] = False
    masked = [dataclasses.replace(scenes[0], valid=valid), *scenes[1:]]
    for text in ("b", "a"):
        split = splits(masked, text)[0]
        origins = split.train_origins if text == "b" else split.validation_origins
        assert len(origins)
        assert not covered(split, origins)[20, 10]


@pytest.mark.parametrize(
    ("validation", "given", "message"),
    [
        ("d", {}, "validation names 'd', and no scene is called that; there are a, b, c"),
        ("a,b,c", {}, "leaves none to train on"),
        (",", {}, "names no scene"),
        ("patches:1", {}, "patches:F with a fraction F above 0 and below 1, got '1'"),
        ("patches:x", {}, "got 'x'"),
        ("patches:0.999", {}, "leaves none to train on"),
        (1.5, {}, "scene a: validation must be a fraction in"),
        ("0:90,:", {}, "scene a: validation: rows 0:90"),
        (0.0, {"patch": 20}, "scene b: no training patch|scene b: no 20 x 20"),
    ],
)
def test_errors_say_what_is_wrong(scenes, validation, given, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        splits(scenes, validation, **given)


def test_two_scenes_of_one_name(scenes) -> None:
    with pytest.raises(ValueError, match="2 scenes are called that"):
        splits([*scenes, scenes[0]], "a")
