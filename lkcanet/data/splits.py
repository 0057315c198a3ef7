"""Train, validation and test regions of one scene that share no pixel."""

# long: the rule for regions in one place

import math
import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

NONE: np.ndarray = np.zeros((0, 2), np.int64)  # origins of no patches
LEAST = 7  # pixels, of the sides of what is scored: MSSIM's window


class Rect(NamedTuple):
    """Rows top to bottom and columns left to right, half-open, as Python slices."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index for the last two axes: `pixels[(..., *rect.slices)]`."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def scaled(self, scale: int) -> "Rect":
        """The same part of an image that is `scale` times as large."""
        return Rect(*(scale * bound for bound in self))

    def __str__(self) -> str:
        return f"{self.top}:{self.bottom},{self.left}:{self.right}"


@dataclass(frozen=True, eq=False)
class Split:
    """Regions of a scene and the patches inside them. No pixel of one part's patches or rectangle is in another's
    (but where `lkca prepare` drew validation patches at random, as papers do, these overlap training patches).

    Attributes:
        shape: (H, W) of the scene.
        patch, stride: side of the patches and step of their grids, in pixels.
        test, validation: the rectangles; None where none was asked for.
        train_origins, validation_origins, test_origins: (n, 2) int64, row and column of each patch's first pixel.
            Test patches do not overlap (their step is `patch`); a test rectangle smaller than a patch has none.
    """

    shape: tuple[int, int]
    patch: int
    stride: int
    test: Rect | None
    validation: Rect | None
    train_origins: np.ndarray
    validation_origins: np.ndarray
    test_origins: np.ndarray

    @property
    def counts(self) -> dict[str, int]:
        """Patches of each part."""
        return {part: len(getattr(self, f"{part}_origins")) for part in ("train", "validation", "test")}


def parse_rect(text: str, shape: Sequence[int]) -> Rect:
    """Read "0:512,320:576" (rows, columns) as Python slices: half-open, an empty side is all, negative from the end.

    "rows 0:512, cols 320:576" reads the same. Unlike a slice, a bound outside the scene is an error: a silently smaller
    test region would be another protocol.

    Args:
        text: two slices without steps.
        shape: (..., H, W) of the scene.

    Raises:
        ValueError: not two slices, a bound outside the scene, or an empty rectangle.
    """
    slice_pattern = r"(-?\d+)?\s*:\s*(-?\d+)?"
    match = re.fullmatch(rf"\s*(?:rows?\s+)?{slice_pattern}\s*,\s*(?:col(?:umn)?s?\s+)?{slice_pattern}\s*", text)
    if match is None:
        raise ValueError(f"a rectangle is two slices 'rows,columns' such as '0:512,320:576' or '0:64,:', got {text!r}")
    bounds: list[int] = []
    for axis, (start, stop), length in zip(
        ("rows", "columns"), (match.group(1, 2), match.group(3, 4)), shape[-2:], strict=True
    ):
        first = 0 if start is None else int(start) + (length if int(start) < 0 else 0)
        last = length if stop is None else int(stop) + (length if int(stop) < 0 else 0)
        if not 0 <= first < last <= length:
            raise ValueError(
                f"{axis} {start or ''}:{stop or ''} of {text!r} are empty or leave the scene's {length} {axis}"
            )
        bounds += [first, last]
    return Rect(*bounds)


def whole_pixels(rect: Rect, scale: int, what: str = "the region", *, least: int = LEAST) -> Rect:
    """The part of a rectangle that is degraded and scored: its first rows and columns that make whole low-resolution
    pixels.

    The one rule for regions: what training holds out by it can be scored and shown, and nothing else can.

    Args:
        rect: in pixels of the scene.
        scale: r, 1 or more.
        what: how errors call it.
        least: rows and columns that it must have; by default what scores take.

    Raises:
        ValueError: scale below 1, or fewer rows or columns are left.
    """
    if scale < 1:
        raise ValueError(f"scale must be 1 or more, got {scale}")
    height, width = rect.height // scale * scale, rect.width // scale * scale
    needed = least + -least % scale
    if min(height, width) < needed:
        raise ValueError(
            f"{what} {rect} of {rect.height} x {rect.width} pixels is too small: at scale {scale} at least "
            f"{needed} x {needed} are needed"
        )
    return Rect(rect.top, rect.top + height, rect.left, rect.left + width)


def patch_grid(shape: Sequence[int], patch: int, stride: int) -> np.ndarray:
    """Origins of all patches on the grid 0, stride, 2 stride, ... that fit: (n, 2) int64, row by row.

    There are ((H - patch) // stride + 1) ((W - patch) // stride + 1) of them, none where the image is smaller than the
    patch.

    Args:
        shape: (..., H, W).
        patch, stride: in pixels, 1 or more.

    Raises:
        ValueError: patch or stride below 1.
    """
    for name, value in (("patch", patch), ("stride", stride)):
        if value < 1:
            raise ValueError(f"{name} must be 1 or more pixels, got {value}")
    rows, columns = (np.arange(0, length - patch + 1, stride, dtype=np.int64) for length in shape[-2:])
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)


def default_stride(patch: int, scale: int) -> int:
    """Half a patch, or the next step that has no factor in common with the scale: patches then meet every phase of the
    LR grid, where a multiple of the scale would show the network one phase of it only. Both in pixels of the scene."""
    stride = max(1, patch // 2)
    while math.gcd(stride, scale) > 1:
        stride += 1
    return stride


def valid_patches(origins: np.ndarray, patch: int, valid: np.ndarray | None) -> np.ndarray:
    """Those of the origins (n, 2) whose patch holds no invalid pixel; all where `valid` (H, W) is None."""
    if valid is None:
        return origins
    sums = np.pad(valid.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    top, left = origins.T
    inside = sums[top + patch, left + patch] - sums[top, left + patch] - sums[top + patch, left] + sums[top, left]
    return origins[inside == patch**2]


def drawn(count: int, share: float, seed: int) -> np.ndarray:
    """Which of `count` things a share of them is, drawn by `seed`: sorted indices, one at least."""
    return np.sort(np.random.default_rng(seed).permutation(count)[: max(1, round(share * count))])


def region_split(
    shape: Sequence[int],
    test: Rect | str | None,
    *,
    patch: int,
    stride: int,
    validation: float | Rect | str = 0.1,
    train: Rect | str | None = None,
    valid: np.ndarray | None = None,
    scale: int = 1,
) -> Split:
    """Split one scene into a test rectangle, a validation block and the rest, which trains.

    Patches must lie wholly inside their region: those across a border are dropped, so no pixel is shared.

    - Test: the rectangle, as given.
    - Validation, as a fraction f: of the rectangles above, below, left of and right of the test region (inside the
      training rectangle, over its full width or height) the largest that holds a patch is taken, the first of equals,
      and of it the last rows, or the last columns where it is wider than high: as many as make f of the training
      pixels, but at least one patch. Or a rectangle, or 0 for none.
    - Training: what is left of the training rectangle, of any shape. Its grid starts at the first row and the first
      column that hold a training pixel; the grids of validation and test start at their corners.

    Args:
        shape: (..., H, W) of the scene.
        test: the test rectangle; text is read by `parse_rect`. None: all of the scene may be trained on.
        patch: side of the patches in pixels (the scale times the LR size).
        stride: step of the training and validation grids in pixels.
        validation: fraction in [0, 1), or a rectangle.
        train: the training rectangle; the whole scene by default.
        valid: (H, W) bool, such as `Scene.valid`: patches with an invalid pixel are left out of all three parts. The
            rectangles stay where they are.
        scale: errors give sizes of patches in low-resolution pixels of this scale.

    Raises:
        ValueError: patch, stride or fraction out of range, rectangles outside the scene or overlapping, no patch fits
            the validation block, or none the training region (says which sizes would fit), or `valid` of another shape.
    """
    height, width = (int(length) for length in shape[-2:])
    if valid is not None and (valid.shape != (height, width) or valid.dtype != np.bool_):
        raise ValueError(f"valid must be bool of shape {(height, width)}, got {valid.dtype} of {valid.shape}")
    test = None if test is None else _inside(test, (height, width), "test")
    outer = Rect(0, height, 0, width) if train is None else _inside(train, (height, width), "train")
    if train is not None and test is not None and overlap(outer, test):
        raise ValueError(f"train {outer} and test {test} overlap")
    patch_grid((0, 0), patch, stride)  # checks both
    free = np.zeros((height, width), bool)
    free[outer.slices] = True
    if test is not None:
        free[test.slices] = False
    block = _validation_block(validation, outer, test, int(free.sum()), patch, (height, width), scale)
    held = NONE
    what = "fits" if valid is None else "of valid pixels fits"
    if block is not None:
        free[block.slices] = False
        held = valid_patches(in_rect(block, patch, stride), patch, valid)
        if not len(held):
            raise ValueError(f"no {_patch_of(patch, scale)} {what} the validation block {block}: take a smaller patch")
    free = free if valid is None else free & valid
    origins = _in_region(free, patch, stride)
    if not len(origins):
        # what fits also fits when made smaller, as the origins stay: the sizes that fit come first
        sides = range(scale, patch, scale)
        fits = bisect_left(sides, True, key=lambda p: not len(_in_region(free, p, stride)))
        left = f"no patch fits on a grid of stride {stride}" if free.any() else "nothing is left for training"
        advice = f"a patch of {fits} or less fits" if fits else left
        blocks = " and ".join(f"{name} {rect}" for name, rect in (("test", test), ("validation", block)) if rect)
        raise ValueError(
            f"no {_patch_of(patch, scale, 'training ')} {what} {outer} of the {height} x {width} scene"
            f"{f' beside {blocks}' if blocks else ''}: {advice}"
        )
    tested = NONE if test is None else valid_patches(in_rect(test, patch, patch), patch, valid)
    return Split((height, width), patch, stride, test, block, origins, held, tested)


def _patch_of(patch: int, scale: int, kind: str = "") -> str:
    """A patch in the words of errors."""
    if scale == 1:
        return f"{patch} x {patch} {kind}patch"
    return f"{kind}patch of {patch // scale} x {patch // scale} low-resolution pixels ({patch} x {patch} of the scene)"


def _inside(rect: Rect | str, shape: tuple[int, int], argument: str) -> Rect:
    try:
        if isinstance(rect, str):
            return parse_rect(rect, shape)
        rect = Rect(*rect)
        if not (0 <= rect.top < rect.bottom <= shape[0] and 0 <= rect.left < rect.right <= shape[1]):
            raise ValueError(f"{rect} is empty or leaves the scene of {shape[0]} x {shape[1]} pixels")
    except ValueError as error:
        raise ValueError(f"{argument}: {error}") from None
    return rect


def overlap(a: Rect, b: Rect) -> bool:
    """Whether two rectangles share a pixel."""
    return a.top < b.bottom and b.top < a.bottom and a.left < b.right and b.left < a.right


def _validation_block(
    validation: float | Rect | str,
    outer: Rect,
    test: Rect | None,
    pixels: int,
    patch: int,
    shape: tuple[int, int],
    scale: int,
) -> Rect | None:
    if isinstance(validation, (str, tuple)):
        block = _inside(validation, shape, "validation")
        if test is not None and overlap(block, test):
            raise ValueError(f"validation {block} and test {test} overlap")
        return block
    if not 0 <= validation < 1:
        raise ValueError(f"validation must be a fraction in [0, 1) or a rectangle, got {validation}")
    if validation == 0:
        return None
    around = [outer]
    if test is not None and overlap(outer, test):
        around = [
            outer._replace(bottom=max(test.top, outer.top)),
            outer._replace(top=min(test.bottom, outer.bottom)),
            outer._replace(right=max(test.left, outer.left)),
            outer._replace(left=min(test.right, outer.right)),
        ]
    around = [rect for rect in around if min(rect.height, rect.width) >= patch]
    if not around:
        named = _patch_of(patch, scale, "validation ")
        beside = f" beside test {test}" if test else f" {outer}"
        raise ValueError(f"no {named} fits{beside}: take a smaller patch")
    largest = max(around, key=lambda rect: rect.height * rect.width)
    if largest.width > largest.height:
        columns = max(patch, round(validation * pixels / largest.height))
        return largest._replace(left=max(largest.left, largest.right - columns))
    rows = max(patch, round(validation * pixels / largest.width))
    return largest._replace(top=max(largest.top, largest.bottom - rows))


def in_rect(rect: Rect, patch: int, stride: int) -> np.ndarray:
    """`patch_grid` from the corner of a rectangle, in the scene's rows and columns."""
    return patch_grid((rect.height, rect.width), patch, stride) + np.array([rect.top, rect.left])


def _in_region(free: np.ndarray, patch: int, stride: int) -> np.ndarray:
    """Origins on the grid from the region's first row and column whose patch is free in every pixel."""
    rows, columns = np.flatnonzero(free.any(1)), np.flatnonzero(free.any(0))
    if not len(rows):
        return NONE
    box = Rect(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
    return valid_patches(in_rect(box, patch, stride), patch, free)
