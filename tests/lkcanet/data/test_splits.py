"""Regions and grids: nothing shared, nothing outside."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lkcanet.data import Rect, Split, parse_rect, patch_grid, region_split


def painted(split: Split, part: str, patch: int | None = None) -> np.ndarray:
    """Mask of the pixels that the patches of a part touch; indexing outside the scene would fail or shrink a patch."""
    mask = np.zeros(split.shape, bool)
    for row, column in getattr(split, f"{part}_origins"):
        crop = mask[row : row + split.patch, column : column + split.patch]
        assert crop.shape == (split.patch, split.patch)
        crop[:] = True
    return mask


def area(split: Split, rect: Rect | None) -> np.ndarray:
    mask = np.zeros(split.shape, bool)
    if rect is not None:
        mask[rect.slices] = True
    return mask


def bounds(length: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(0, length - 1), st.integers(1, length)).filter(lambda b: b[0] < b[1])


@st.composite
def cases(draw: st.DrawFn) -> tuple:
    height, width = draw(st.integers(4, 60)), draw(st.integers(4, 60))
    test = Rect(*draw(bounds(height)), *draw(bounds(width)))
    return (height, width), test, draw(st.integers(1, 12)), draw(st.integers(1, 9)), draw(st.floats(0, 0.5))


@settings(max_examples=300, deadline=None)
@given(cases())
def test_parts_share_no_pixel(case: tuple) -> None:
    shape, test, patch, stride, fraction = case
    try:
        split = region_split(shape, test, patch=patch, stride=stride, validation=fraction)
    except ValueError as error:
        assume("fits" not in str(error))
        raise
    train, held, tested = painted(split, "train"), painted(split, "validation"), painted(split, "test")
    block = area(split, split.validation)
    assert not (train & (block | area(split, test))).any()
    assert not (block & area(split, test)).any()
    assert not (held & ~block).any()
    assert not (tested & ~area(split, test)).any()
    assert split.counts["train"] > 0
    assert (split.counts["validation"] > 0) == (fraction > 0)
    assert len(np.unique(split.train_origins, axis=0)) == len(split.train_origins)


@settings(max_examples=100, deadline=None)
@given(cases())
def test_training_takes_every_patch_of_its_grid_that_lies_in_the_region(case: tuple) -> None:
    shape, test, patch, stride, _ = case
    try:
        split = region_split(shape, test, patch=patch, stride=stride, validation=0)
    except ValueError:
        assume(False)
    free = ~area(split, test)
    first = np.argwhere(free).min(0)
    every = {
        (r, c)
        for r in range(first[0], shape[0] - patch + 1, stride)
        for c in range(first[1], shape[1] - patch + 1, stride)
        if free[r : r + patch, c : c + patch].all()
    }
    assert {tuple(o) for o in split.train_origins.tolist()} == every


@settings(max_examples=100, deadline=None)
@given(cases())
def test_the_advised_patch_fits_and_the_next_does_not(case: tuple) -> None:
    shape, test, _, stride, _ = case
    with pytest.raises(ValueError, match="no 99 x 99 training patch fits") as caught:
        region_split(shape, test, patch=99, stride=stride, validation=0)
    if "or less fits" in str(caught.value):
        fits = int(str(caught.value).split("a patch of ")[1].split()[0])
        assert region_split(shape, test, patch=fits, stride=stride, validation=0).counts["train"] > 0
        with pytest.raises(ValueError, match="or less fits"):
            region_split(shape, test, patch=fits + 1, stride=stride, validation=0)
    else:
        covered = test == (0, shape[0], 0, shape[1])
        assert ("nothing is left" if covered else "no patch fits on a grid of stride") in str(caught.value)
        with pytest.raises(ValueError, match="no 1 x 1 training patch fits"):
            region_split(shape, test, patch=1, stride=stride, validation=0)


def test_cave_region_by_hand() -> None:
    """512 x 640, test columns 320:576: the left block is the largest rest, its last 10 % of the rest validates."""
    split = region_split((20, 512, 640), ":,320:576", patch=64, stride=32)
    assert split.test == Rect(0, 512, 320, 576)
    rows = round(0.1 * 512 * 384 / 320)
    assert rows == 61
    assert split.validation == Rect(448, 512, 0, 320)  # 64 rows: at least one patch
    assert split.counts == {"train": 13 * 9 + 15, "validation": 9, "test": 8 * 4}


def test_validation_is_the_fraction_of_the_training_pixels() -> None:
    split = region_split((100, 200), Rect(0, 100, 0, 50), patch=4, stride=4, validation=0.2)
    assert split.validation == Rect(0, 100, 170, 200)  # wider than high: columns; 0.2 * 15000 / 100 = 30
    split = region_split((200, 100), "0:50,:", patch=4, stride=4, validation=0.2)
    assert split.validation == Rect(170, 200, 0, 100)


def test_explicit_rectangles() -> None:
    split = region_split((64, 64), "0:16,:", train="16:64,0:32", validation="48:64,0:32", patch=16, stride=16)
    assert split.train_origins.tolist() == [[16, 0], [16, 16], [32, 0], [32, 16]]
    assert split.validation_origins.tolist() == [[48, 0], [48, 16]]
    assert split.test_origins.tolist() == [[0, 0], [0, 16], [0, 32], [0, 48]]
    none = region_split((64, 64), "0:16,:", validation=0, patch=16, stride=16)
    assert none.validation is None
    assert none.counts == {"train": 12, "validation": 0, "test": 4}


@pytest.mark.parametrize(
    ("shape", "patch", "stride", "count"),
    [  # patch counts of SSPSR's script and of the papers' scenes (guide, section 3)
        ((1792, 2048), 64, 32, 3465),
        ((1792, 2048), 128, 64, 837),
        ((3660, 1202), 64, 32, 4068),
        ((872, 715), 64, 32, 546),
        ((8, 8), 8, 3, 1),
        ((7, 100), 8, 3, 0),
    ],
)
def test_grid_counts(shape: tuple[int, int], patch: int, stride: int, count: int) -> None:
    grid = patch_grid(shape, patch, stride)
    assert grid.shape == (count, 2)
    if count:
        assert grid[0].tolist() == [0, 0]
        assert (grid % stride == 0).all()
        assert (grid.max(0) + patch <= shape).all()


@pytest.mark.parametrize(
    ("text", "rect"),
    [
        ("0:512,320:576", (0, 512, 320, 576)),
        ("rows 0:512, cols 320:576", (0, 512, 320, 576)),
        (":,320:", (0, 512, 320, 640)),
        (" -12: , :-600 ", (500, 512, 0, 40)),
    ],
)
def test_parse(text: str, rect: tuple[int, ...]) -> None:
    assert parse_rect(text, (20, 512, 640)) == rect
    assert parse_rect(str(Rect(*rect)), (512, 640)) == rect


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.none(), st.integers(-9, 9)), st.one_of(st.none(), st.integers(-9, 9)), st.integers(1, 8))
def test_parse_agrees_with_python_slices_inside_the_scene(start: int | None, stop: int | None, length: int) -> None:
    text = f"{'' if start is None else start}:{'' if stop is None else stop},:"
    inside = all(-length <= b <= length for b in (start, stop) if b is not None)
    picked = range(length)[start:stop]
    if inside and len(picked):
        assert parse_rect(text, (length, 3))[:2] == (picked[0], picked[-1] + 1)
    else:
        with pytest.raises(ValueError, match="empty or leave"):
            parse_rect(text, (length, 3))


@pytest.mark.parametrize("text", ["", "1:2", "1:2,3", "0:4:2,:", "a:b,:", "0:4,0:4,0:4", "0-4,0-4"])
def test_parse_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="two slices"):
        parse_rect(text, (10, 10))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test": "0:10,0:10", "train": "5:20,:"}, "train 5:20,0:20 and test 0:10,0:10 overlap"),
        ({"test": "0:10,:", "validation": "9:20,:"}, "validation 9:20,0:20 and test 0:10,0:20 overlap"),
        ({"test": "0:30,:"}, "test: rows 0:30"),
        ({"test": Rect(0, 30, 0, 20)}, "test: 0:30,0:20 is empty or leaves the scene of 20 x 20"),
        ({"test": "0:10,:", "train": "x"}, "train: a rectangle is"),
        ({"test": "0:10,:", "validation": 1.0}, "validation must be a fraction"),
        ({"test": "0:10,:", "validation": -0.1}, "validation must be a fraction"),
        ({"test": "0:10,:", "patch": 0}, "patch must be 1 or more"),
        ({"test": "0:10,:", "stride": 0}, "stride must be 1 or more"),
        ({"test": ":,:"}, "no 4 x 4 validation patch fits beside test"),
        ({"test": ":,:", "validation": 0}, "nothing is left for training"),
        ({"test": "0:16,:", "train": "16:20,0:4"}, "nothing is left for training"),
        ({"test": "0:14,:", "train": "14:20,0:6"}, "and validation 16:20,0:6: a patch of 2 or less fits"),
        ({"test": "0:10,:", "validation": "18:20,:"}, "no 4 x 4 patch fits the validation block 18:20,0:20"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        region_split((20, 20), **{"patch": 4, "stride": 2, **options})
