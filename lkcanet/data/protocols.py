"""The papers' protocols: which part of a published image is tested on, which trains, and in what patches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lkcanet.data.splits import Rect, in_rect

__all__ = ["PROTOCOLS", "Placement", "Protocol", "matlab_range", "protocol_named"]


def matlab_range(first: int, last: int) -> tuple[int, int]:
    """MATLAB's first:last (from 1, both ends included) as Python's (start, stop): 107:2410 is (106, 2410).

    Raises:
        ValueError: first below 1 or above last.
    """
    if not 1 <= first <= last:
        raise ValueError(f"first:last must be a MATLAB range with 1 <= first <= last, got {first}:{last}")
    return first - 1, last


@dataclass(frozen=True)
class Placement:
    """Where a protocol's scene lies in the array of a file.

    Attributes:
        rows: (start, stop) in the file, after transposition.
        columns: ranges that are joined from left to right.
        bands: the first so many are kept.
        transposed: the file's rows are the protocol's columns.
        remarks: what was decided, in words.
    """

    rows: tuple[int, int]
    columns: tuple[tuple[int, int], ...]
    bands: int
    transposed: bool
    remarks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How papers split one published image. All rectangles but `crop` are of the cropped scene.

    Attributes:
        name: on the command line.
        title: in tables, and in the names of SSPSR's files.
        bands: B.
        shape: (H, W) of the published image.
        crop: the part that is used.
        test: the region that is cut into test images, left to right and top to bottom.
        test_size: side of a test image.
        train: the region of the training and validation patches. What is in neither is discarded.
        patches: scale to (side of a patch, step between patches), in HR pixels.
        key: the variable of the published .mat file, None where it has no one name.
        file_bands: further band counts of published files, of which the first `bands` are kept.
        transposable: published files that are turned (W, H) are accepted, and transposed.
        others: what images of another (H, W) are, for the error message.
        source: where the numbers come from.
    """

    name: str
    title: str
    bands: int
    shape: tuple[int, int]
    crop: Rect
    test: Rect
    test_size: int
    train: Rect
    patches: Mapping[int, tuple[int, int]]
    source: str
    key: str | None = None
    file_bands: tuple[int, ...] = ()
    transposable: bool = False
    others: Mapping[tuple[int, int], str] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the cropped scene."""
        return self.crop.height, self.crop.width

    @property
    def tests(self) -> tuple[Rect, ...]:
        """The test images."""
        corners = in_rect(self.test, self.test_size, self.test_size)
        return tuple(
            Rect(row, row + self.test_size, column, column + self.test_size) for row, column in corners.tolist()
        )

    def patch_and_stride(self, scale: int) -> tuple[int, int]:
        """Side of a patch and step between patches, in HR pixels.

        Raises:
            ValueError: the protocol has no such scale.
        """
        if scale not in self.patches:
            raise ValueError(
                f"scale must be {' or '.join(map(str, self.patches))} in protocol {self.name}, got {scale!r}"
            )
        return self.patches[scale]

    def origins(self, scale: int) -> np.ndarray:
        """(n, 2) int64: the first pixel of every patch of the training region, row by row."""
        patch, stride = self.patch_and_stride(scale)
        return in_rect(self.train, patch, stride)

    def place(self, bands: int, rows: int, columns: int, keep: Sequence[tuple[int, int]] | None = None) -> Placement:
        """Find the scene in an array of this size: the published image, or one that is already cropped.

        Args:
            bands, rows, columns: of the file.
            keep: ranges of columns that are joined first, as for Pavia Center with its blank columns.

        Raises:
            ValueError: ranges that are not ascending or leave the file, or an image that is neither; says what it
                seems to be.
        """
        remarks = []
        if bands not in (self.bands, *self.file_bands):
            expected = " or ".join(map(str, (self.bands, *self.file_bands)))
            raise ValueError(
                f"protocol {self.name} is of images of {expected} bands, the file has {bands} bands, {rows} rows and "
                f"{columns} columns: if these are not its axes, give --axes"
            )
        if bands != self.bands:
            remarks.append(f"the first {self.bands} of the file's {bands} bands are kept")
        ranges = [(0, columns)] if keep is None else _checked(keep, columns)
        width = sum(stop - start for start, stop in ranges)
        crop, transposed = self.crop, False
        if keep is None and self.transposable and (columns, rows) in (self.shape, self.size):
            rows, width, ranges, transposed = columns, rows, [(0, rows)], True
            remarks.append(f"rows and columns of the file are exchanged: the protocol's rows are its {rows} columns")
        if (rows, width) == self.shape:
            if self.size != self.shape:
                remarks.append(f"cropped to rows and columns {crop} of {rows} x {width}")
        elif (rows, width) == self.size:
            crop = Rect(0, rows, 0, width)
            remarks.append("the file holds the cropped image already")
        else:
            raise ValueError(self._mismatch(rows, width, keep is not None))
        if keep is not None:
            remarks.append("columns " + " and ".join(f"{a}:{b}" for a, b in ranges) + " of the file are joined")
        return Placement(
            (crop.top, crop.bottom), _cut(ranges, crop.left, crop.right), self.bands, transposed, tuple(remarks)
        )

    def _mismatch(self, rows: int, width: int, kept: bool) -> str:
        height, across = self.shape
        text = f"protocol {self.name} is of {height} x {across} pixels"
        if self.size != self.shape:
            text += f", or {self.size[0]} x {self.size[1]} when cropped"
        text += f"; the {'columns kept' if kept else 'file'} make {rows} rows x {width} columns"
        if (rows, width) in self.others:
            return f"{text}: {self.others[rows, width]}"
        if (width, rows) in (self.shape, self.size):
            return f"{text}: its axes seem to be exchanged, give --axes with h for the rows and w for the columns"
        return text


def _checked(ranges: Sequence[tuple[int, int]], columns: int) -> list[tuple[int, int]]:
    last = 0
    for start, stop in ranges:
        if not last <= start < stop <= columns:
            raise ValueError(
                f"columns must be ascending ranges inside 0:{columns}, got {','.join(f'{a}:{b}' for a, b in ranges)}"
            )
        last = stop
    return list(ranges)


def _cut(ranges: Sequence[tuple[int, int]], left: int, right: int) -> tuple[tuple[int, int], ...]:
    """The part of joined ranges between two positions."""
    parts, before = [], 0
    for start, stop in ranges:
        first, last = max(left - before, 0), min(right - before, stop - start)
        if first < last:
            parts.append((start + first, start + last))
        before += stop - start
    return tuple(parts)


_CHIKUSEI_CROP = Rect(*matlab_range(107, 2410), *matlab_range(144, 2191))  # SSPSR's mcodes: img(107:2410, 144:2191, :)
_PAPER_PATCHES = {4: (64, 32), 8: (128, 64)}  # stated for Chikusei only; taken for all three

PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        # "four ... of size 512 x 2048" in the paper's text is the strip that the four images are cut from
        Protocol(
            name="chikusei",
            title="Chikusei",
            bands=128,
            shape=(2517, 2335),
            crop=_CHIKUSEI_CROP,
            test=Rect(0, 512, 0, 2048),
            test_size=512,
            train=Rect(512, 2304, 0, 2048),
            patches=_PAPER_PATCHES,
            key="chikusei",
            source="SSPSR's MATLAB scripts; LKCA-Net (arXiv 2501.18664), section IV-C",
        ),
        # The paper's image has 4172 rows: of its rows the first 512 are tested on. Raster files are 1202 rows x 4172
        # columns; the paper does not say how it turned them. Transposed, the test region is the west end of the image.
        Protocol(
            name="houston2018",
            title="Houston",
            bands=48,
            shape=(4172, 1202),
            crop=Rect(0, 4172, 0, 1202),
            test=Rect(0, 512, 0, 1024),
            test_size=256,
            train=Rect(512, 4172, 0, 1202),
            patches=_PAPER_PATCHES,
            file_bands=(50,),  # the contest's file carries two more behind the 48 of the sensor
            transposable=True,
            others={
                **dict.fromkeys(
                    [(601, 2384), (2384, 601)],
                    "that is the labelled part of the contest's image only; take the whole, 1202 x 4172",
                ),
                **dict.fromkeys(
                    [(1202, 4768), (4768, 1202)],
                    "that is the labelled part enlarged to the 0.5 m grid of the labels; take the whole image at 1 m, "
                    "1202 x 4172",
                ),
            },
            source="LKCA-Net (arXiv 2501.18664), section IV-D",
        ),
        Protocol(
            name="pavia_center",
            title="Pavia",
            bands=102,
            shape=(1096, 715),
            crop=Rect(0, 1096, 0, 715),
            test=Rect(0, 224, 0, 672),
            test_size=224,
            train=Rect(224, 1096, 0, 715),
            patches=_PAPER_PATCHES,
            key="pavia",
            others={
                (1096, 1096): "381 columns of that image are blank: give the ranges of the other 715 columns, such as "
                "--columns 0:223,604:1096 where columns 223 to 603 are blank",
                (610, 340): "that is Pavia University, another image",
            },
            source="LKCA-Net (arXiv 2501.18664), section IV-E",
        ),
    )
}


def protocol_named(name: str) -> Protocol:
    """The protocol of this name.

    Raises:
        ValueError: unknown; lists the names. Or one of many scenes.
    """
    if name in ("cave", "folder"):
        raise ValueError(f"protocol {name!r} is of many scenes: use prepare_{name}")
    if name not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}; got {name!r}")
    return PROTOCOLS[name]
