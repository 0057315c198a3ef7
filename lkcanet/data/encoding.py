"""How a file holds a scene's values: data type, scale, offset, nodata, units, and what it says of bands besides."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Encoding", "Numbers", "numbers_of"]

Each = float | tuple[float, ...]  # of all bands, or of each


@dataclass(frozen=True)
class Encoding:
    """What a reader found beside pixels and place, and a writer needs to write such a file again.

        value = number scale + offset,    value = pixels peak

    with the numbers of the file and the values of the scene; where `raw`, the values are the numbers. It is xarray's
    `encoding` (scale_factor, add_offset, dtype, _FillValue), and what files say of bands and themselves in words.

    Attributes:
        dtype: of the numbers, numpy's name of it, such as "int16"; the byte order does not matter.
        scale, offset: of all bands, or B of them; finite, and no scale 0.
        nodata: the number of pixels without data, NaN among floats; None where there is none.
        units: of the values, such as "reflectance" or "W m-2 sr-1 um-1"; "" where not known.
        raw: scale and offset were not applied.
        fwhm: B widths of the bands at half of their maximum, nm; None where not known.
        good: B marks, False of a bad band (`bbl`); None where the file marks none.
        tags: other texts of the file by name.
        band_tags: other texts of the bands by name, B each, "" where a band has none.

    Raises:
        ValueError: no data type of real numbers, a scale or offset that is not finite, a scale of 0, widths that are
            negative or not finite, or lists of several lengths.
    """

    dtype: str = "float32"
    scale: Each = 1.0
    offset: Each = 0.0
    nodata: float | None = None
    units: str = ""
    raw: bool = False
    fwhm: tuple[float, ...] | None = None
    good: tuple[bool, ...] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    band_tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            kind = np.dtype(self.dtype)
        except TypeError:
            kind = np.dtype("O")
        if kind.kind not in "iuf":
            raise ValueError(f"dtype must be one of real integers or floats, got {self.dtype!r}")
        put = object.__setattr__
        put(self, "dtype", kind.name)
        put(self, "scale", _each(self.scale, "scale"))
        put(self, "offset", _each(self.offset, "offset"))
        if not np.all(self.scale):
            raise ValueError("scale must not be 0: it would make all numbers the same")
        put(self, "nodata", None if self.nodata is None else float(self.nodata))
        if self.fwhm is not None:
            put(self, "fwhm", tuple(float(nm) for nm in self.fwhm))
            if not all(math.isfinite(nm) and nm >= 0 for nm in self.fwhm):
                raise ValueError(f"fwhm must be positive numbers (nm), one a band, got {self.fwhm!r:.80}")
        put(self, "good", None if self.good is None else tuple(bool(mark) for mark in self.good))
        put(self, "tags", {str(name): str(text) for name, text in self.tags.items()})
        put(self, "band_tags", {str(name): tuple(map(str, texts)) for name, texts in self.band_tags.items()})
        if len(lengths := set(self._lengths())) > 1:
            raise ValueError(f"lists must have an entry for each band, got lengths {sorted(lengths)}")

    def _lengths(self) -> list[int]:
        lists = [self.scale, self.offset, self.fwhm, self.good, *self.band_tags.values()]
        return [len(entries) for entries in lists if isinstance(entries, tuple)]

    def check_bands(self, count: int) -> None:
        """Raise a ValueError where lists have not `count` entries."""
        if wrong := {length for length in self._lengths() if length != count}:
            raise ValueError(f"encoding must have lists of {count} entries, one a band, got {sorted(wrong)}")

    @property
    def scaled(self) -> bool:
        """Whether there is a scale but 1 or an offset but 0."""
        return self.scale != 1 or self.offset != 0

    @property
    def plain(self) -> bool:
        """Whether numbers are values: nothing is `scaled`, or it is `raw`."""
        return self.raw or not self.scaled

    def decoded(self, numbers: np.ndarray, bands: slice) -> np.ndarray:
        """The values, in float64, of the numbers (b, H, W) of some of the bands; where they are plain, the numbers."""
        if self.plain:
            return numbers
        scale, offset = (
            np.array(each[bands])[:, None, None] if isinstance(each, tuple) else each
            for each in (self.scale, self.offset)
        )
        return np.asarray(numbers * np.float64(scale) + offset)

    def of_bands(self, chosen: Sequence[int] | np.ndarray) -> "Encoding":
        """Of some of the bands, in their order."""

        def taken(entries: Any) -> Any:
            return tuple(entries[band] for band in chosen) if isinstance(entries, tuple) else entries

        own = {name: taken(getattr(self, name)) for name in ("scale", "offset", "fwhm", "good")}
        return replace(self, **own, band_tags={name: taken(texts) for name, texts in self.band_tags.items()})

    def of_other_bands(self) -> "Encoding | None":
        """Of an image of other bands in the same values, such as a multispectral one of the same scene: without what
        is said of each band. None where the bands' scales or offsets differ."""
        if isinstance(self.scale, tuple) or isinstance(self.offset, tuple):
            return None
        return replace(self, fwhm=None, good=None, band_tags={})

    def as_json(self) -> str:
        """A text that `from_json` reads."""
        told = asdict(self)
        return json.dumps({f.name: told[f.name] for f in fields(self) if told[f.name] != getattr(_PLAIN, f.name)})

    @staticmethod
    def from_json(text: str) -> "Encoding":
        """Of the text of `as_json`.

        Raises:
            ValueError: another text.
        """
        try:
            told = json.loads(text)
            tags = {name: tuple(texts) for name, texts in told.pop("band_tags", {}).items()}
            own: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in told.items()}
            return Encoding(**own, band_tags=tags)
        except (AttributeError, TypeError) as error:
            raise ValueError(f"is no encoding: {error}") from error


def _each(value: Any, argument: str) -> Each:
    """A number where all are the same, else a tuple."""
    numbers = np.asarray(value, np.float64)
    if numbers.ndim > 1 or not numbers.size or not np.isfinite(numbers).all():
        raise ValueError(f"{argument} must be finite, one number or one a band, got {value!r:.80}")
    if numbers.ndim == 0 or (numbers == numbers[0]).all():
        return float(numbers.flat[0])
    return tuple(numbers.tolist())


_PLAIN = Encoding()


class Numbers(NamedTuple):
    """A band as a file holds it.

    Attributes:
        values: (H, W), of the dtype.
        clipped: how many valid values lay beyond what the dtype holds, or on nodata, and were moved to the nearest.
    """

    values: np.ndarray
    clipped: int


def numbers_of(
    pixels: np.ndarray, peak: float, encoding: Encoding, band: int, valid: np.ndarray | None = None
) -> Numbers:
    """A band's numbers, (pixels peak - offset) / scale: rounded to even where the dtype is of integers, clipped to what
    it holds; nodata where the pixel is not valid.

    Args:
        pixels: (H, W) of that band, normalised.
        peak: the scene's.
        encoding: has a nodata value where `valid` is given.
        band: its number, from 0.
        valid: (H, W) bool; None: all are.
    """
    dtype = np.dtype(encoding.dtype)
    numbers = pixels.astype(np.float64) * peak
    if not encoding.plain:
        scale, offset = (each[band] if isinstance(each, tuple) else each for each in (encoding.scale, encoding.offset))
        numbers = (numbers - offset) / scale
    low, high = _limits(dtype)
    if dtype.kind != "f":
        np.rint(numbers, out=numbers)
    held = np.clip(numbers, low, high)
    nodata = encoding.nodata
    if nodata is not None and not math.isnan(nodata):
        # nothing that was seen becomes nodata
        marker = np.array(np.clip(nodata, low, high)).astype(dtype)
        step = 1.0 if dtype.kind != "f" else abs(float(np.spacing(marker)))
        away = float(marker) + (step if float(marker) + step <= high else -step)
        held[held.astype(dtype) == marker] = away
    moved = held != numbers
    if dtype.kind == "f":
        moved &= np.abs(numbers) != np.inf
    if valid is not None:
        assert nodata is not None
        moved &= valid
        held[~valid] = nodata
    return Numbers(held.astype(dtype), int(moved.sum()))


def _limits(dtype: np.dtype) -> tuple[float, float]:
    """The smallest and the largest float64 that the dtype holds."""
    if dtype.kind == "f":
        return float(np.finfo(dtype).min), float(np.finfo(dtype).max)
    info = np.iinfo(dtype)
    high = float(info.max)
    return float(info.min), high if int(high) <= info.max else float(np.nextafter(high, 0))


def nodata_for(dtype: str) -> float:
    """What stands for pixels without data where the file has no number for them: NaN, the smallest of signed integers,
    the largest of others."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return math.nan
    low, high = _limits(kind)
    return low if kind.kind == "i" else high
