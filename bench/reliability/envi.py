"""Malformed ENVI headers, and data that are not theirs; TIFF files that hold no scene."""

import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lkcanet.data import read_scene

from .inputs import BANDS, scene_command
from .runner import UNAFFECTED, Case, Place

COMMANDS = ("info", "degrade", "evaluate", "super-resolve", "train", "show")


def cases() -> Iterator[Case]:
    for number, (kind, name, damage) in enumerate(PAIRS):
        command = COMMANDS[number % len(COMMANDS)]
        told: dict[str, Any] = (
            {"unaffected": _same_pixels, "allowed": frozenset({UNAFFECTED})} if name in LEFT_OUT else {}
        )
        yield Case(f"scene: ENVI, {kind}", f"{name}, {command}", _pair(damage, command), **told)
    for number, (name, options, change) in enumerate(TIFFS):
        # darkness divided by a peak that is given is an image like any other
        command = ("info", "degrade", "train")[number % 3]
        yield Case("scene: GeoTIFF", f"{name}, {command}", _tiff(options, change, command))


# what a warning tells of, and the pixels do not depend on
LEFT_OUT = ("byte order", "wavelengths too few", "wavelengths too many", "band names too few", "bbl too few")


def _same_pixels(place: Place) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.array_equal(read_scene(place.inputs / "x.hdr").pixels, read_scene(place.good / "counts.hdr").pixels)


def _pair(damage: Callable[[Path], Any], command: str) -> Callable[[Place], list[Any]]:
    def make(place: Place) -> list[Any]:
        for suffix in (".hdr", ".img"):
            shutil.copy(place.good / f"counts{suffix}", place.inputs / f"x{suffix}")
        damage(place.inputs)
        unclear = (place.inputs / "x.img.hdr").exists() or not (place.inputs / "x.hdr").exists()
        return scene_command(command, place.inputs / ("x.img" if unclear else "x.hdr"), place.good, place.outputs)

    return make


def _line(name: str, value: str | None) -> Callable[[Path], None]:
    """Another value of a line, or no such line."""

    def damage(folder: Path) -> None:
        text = (folder / "x.hdr").read_text()
        # a list goes over several lines, to its brace
        rest = re.sub(rf"(?m)^{name} = (\{{[^}}]*\}}|.*)\n", "", text)
        (folder / "x.hdr").write_text(rest if value is None else f"{rest.rstrip()}\n{name} = {value}\n")

    return damage


def _data(change: Callable[[bytes], bytes]) -> Callable[[Path], Any]:
    return lambda folder: (folder / "x.img").write_bytes(change((folder / "x.img").read_bytes()))


def _header(change: Callable[[bytes], bytes]) -> Callable[[Path], Any]:
    return lambda folder: (folder / "x.hdr").write_bytes(change((folder / "x.hdr").read_bytes()))


def _folder_for_data(folder: Path) -> None:
    (folder / "x.img").unlink()
    (folder / "x.img").mkdir()


_BAD = ("", "0", "-6", "x", "1.5", "7", "nan", "{6, 6}", "9" * 30)
PAIRS: tuple[tuple[str, str, Callable[[Path], Any]], ...] = (
    *(("missing line", name, _line(name, None)) for name in (
        "samples", "lines", "bands", "data type", "interleave", "byte order")),
    *(("wrong number", f"{name} {value!r:.12}", _line(name, value))
      for name in ("samples", "lines", "bands") for value in _BAD),
    *(("wrong number", f"header offset {value!r}", _line("header offset", value)) for value in ("8", "-1", "x", "1e3")),
    *(("wrong number", f"data type {value!r}", _line("data type", value))
      for value in ("0", "6", "9", "99", "x", "float", "4", "1", "-2")),
    *(("wrong number", f"byte order {value!r}", _line("byte order", value)) for value in ("2", "-1", "x")),
    *(("wrong word", f"interleave {value!r}", _line("interleave", value)) for value in ("bsx", "", "3", "{bsq}")),
    ("wrong word", "file type", _line("file type", "ENVI Spectral Library")),
    ("wrong word", "file compression", _line("file compression", "1")),
    ("list", "wavelengths too few", _line("wavelength", "{400, 500}")),
    ("list", "wavelengths too many", _line("wavelength", "{" + "400, " * BANDS + "900}")),
    ("list", "wavelengths words", _line("wavelength", "{a, b, c, d, e, f}")),
    ("list", "wavelengths without a brace", _line("wavelength", "{400, 500, 600")),
    ("list", "band names too few", _line("band names", "{a, b}")),
    ("list", "bbl too few", _line("bbl", "{1, 0}")),
    ("list", "bbl words", _line("bbl", "{good, good, good, good, good, bad}")),
    ("list", "bbl of nothing", _line("bbl", "{0, 0, 0, 0, 0, 0}")),
    ("list", "data ignore value", _line("data ignore value", "none")),
    ("list", "map info too short", _line("map info", "{UTM, 1, 1}")),
    ("list", "map info words", _line("map info", "{UTM, 1, 1, east, north, 30, 30, 11, North, WGS-84}")),
    ("list", "map info of pixels without size", _line("map info", "{UTM, 1, 1, 5, 6, 0, 30, 11, North, WGS-84}")),
    ("header", "empty", _header(lambda _: b"")),
    ("header", "without ENVI", _header(lambda data: data[5:])),
    ("header", "binary", _header(lambda _: bytes(range(256)) * 4)),
    ("header", "binary behind ENVI", _header(lambda _: b"ENVI\n" + bytes(500))),
    ("header", "in UTF-16", _header(lambda data: data.decode().encode("utf-16"))),
    ("header", "the data themselves", lambda folder: shutil.copy(folder / "x.img", folder / "x.hdr")),
    ("header", "absent", lambda folder: (folder / "x.hdr").unlink()),
    ("header", "two", lambda folder: shutil.copy(folder / "x.hdr", folder / "x.img.hdr")),
    ("data", "absent", lambda folder: (folder / "x.img").unlink()),
    ("data", "empty", _data(lambda _: b"")),
    ("data", "a byte short", _data(lambda data: data[:-1])),
    ("data", "a byte more", _data(lambda data: data + b"\0")),
    ("data", "half", _data(lambda data: data[: len(data) // 2])),
    ("data", "a folder", _folder_for_data),
    ("data", "two that fit", lambda folder: shutil.copy(folder / "x.img", folder / "x.dat")),
    ("data", "zeros and ignored", lambda folder: (_data(lambda data: bytes(len(data)))(folder),
                                                  _line("data ignore value", "0")(folder))),
)  # fmt: skip


def _tiff(options: dict[str, Any], change: Callable[[np.ndarray], np.ndarray], command: str) -> Any:
    def make(place: Place) -> list[Any]:
        import warnings

        import rasterio

        from .inputs import counts

        values = change(counts())
        shape = {"count": len(values), "height": values.shape[1], "width": values.shape[2], "dtype": values.dtype}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with rasterio.open(place.inputs / "x.tif", "w", driver="GTiff", **{**shape, **options}) as file:
                file.write(values)
        return scene_command(command, place.inputs / "x.tif", place.good, place.outputs)

    return make


def _nan(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float32)
    values[1, 2, 3] = np.nan
    return values


TIFFS: tuple[tuple[str, dict[str, Any], Callable[[np.ndarray], np.ndarray]], ...] = (
    ("complex", {}, lambda values: values.astype(np.complex64)),
    ("complex integers", {"dtype": "complex_int16"}, lambda values: values.astype(np.complex64)),
    ("NaN", {}, _nan),
    ("nothing but nodata", {"nodata": 0}, lambda values: values * 0),
    ("zeros", {}, lambda values: values * 0),
    ("negative", {}, lambda values: -values.astype(np.float32)),
)
