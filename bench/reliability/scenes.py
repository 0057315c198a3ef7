"""Malformed scenes: damaged bytes of every format, and files that are whole but hold no scene."""

import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .inputs import BANDS, COLUMNS, FORMATS, ROWS, counts, same_scene, scene_command
from .runner import CHANGED, REFUSED, UNAFFECTED, Case, Place

QUICK = ("info", "degrade", "evaluate", "super-resolve")
ALL = (*QUICK, "show", "train", "evaluate --prediction", "view")


def cases() -> Iterator[Case]:
    for number, name in enumerate(FORMATS):
        yield from _truncated(name, number)
        yield from _flipped(name, number)
    yield from _mistaken()
    for number, (kind, suffix, write) in enumerate(CONTENTS):
        # darkness divided by a peak that is given is an image like any other
        command = ALL[number % len(ALL)] if kind[0] != "no light" else ("info", "degrade", "train")[number % 3]
        yield Case("scene: " + kind[0], f"{kind[1]}, {command}", _written(suffix, write, command))


def _file(place: Place, name: str) -> tuple[Path, Path]:
    """A copy of a good scene to damage, and the file of it to damage, which is a band where it is a folder."""
    target = place.inputs / name
    if name != "folder":
        shutil.copy(place.good / name, target)
        if target.suffix in (".hdr", ".img"):
            other = {".hdr": ".img", ".img": ".hdr"}[target.suffix]
            shutil.copy((place.good / name).with_suffix(other), target.with_suffix(other))
        return target, target
    shutil.copytree(place.good / name, target)
    return target, target / "band_3.png"


def _truncated(name: str, number: int) -> Iterator[Case]:
    for index, fraction in enumerate((0.0, 0.005, 0.1, 0.5, 0.9, 0.999)):
        command = ALL[(number + index) % len(ALL)]

        def make(place: Place, fraction: float = fraction, command: str = command) -> list[Any]:
            scene, file = _file(place, name)
            data = file.read_bytes()
            file.write_bytes(data[: int(fraction * len(data))])
            return scene_command(command, scene, place.good, place.outputs)

        # what was cut may be another variable, or an empty last chunk
        allowed = frozenset({REFUSED, UNAFFECTED} if fraction > 0.99 else {REFUSED})
        yield Case(
            f"scene: truncated {name}", f"{100 * fraction:g} % of {name}, {command}", make, _unaffected(name), allowed
        )


def _flipped(name: str, number: int) -> Iterator[Case]:
    """One wrong byte: three anywhere, four near the start, where headers are."""
    generator = np.random.default_rng(number)
    for index in range(7):
        place_of, bits = float(generator.random()), int(generator.integers(1, 256))
        command = QUICK[(number + index) % len(QUICK)]

        def make(
            place: Place, at: float = place_of, bits: int = bits, near: bool = index >= 3, command: str = command
        ) -> list[Any]:
            scene, file = _file(place, name)
            data = bytearray(file.read_bytes())
            # MATLAB's first 128 bytes are free text, the first 512 of v7.3 too
            start = {"v73.mat": 512, "counts.mat": 116, "compressed.mat": 116, "own.mat": 116}.get(name, 0)
            data[start + int(at * 160) if near else int(at * len(data))] ^= bits
            file.write_bytes(data)
            return scene_command(command, scene, place.good, place.outputs)

        allowed = frozenset({REFUSED, UNAFFECTED} | ({CHANGED} if name not in CHECKED else set()))
        yield Case(f"scene: one byte of {name}", f"byte {index} of {name}, {command}", make, _unaffected(name), allowed)


# formats that hold a checksum of every pixel
CHECKED = {"counts.npz", "own.npz", "compressed.mat", "folder"}


def _unaffected(name: str) -> Callable[[Place], bool]:
    return lambda place: same_scene(place.inputs / name, place.good / name)


def _mistaken() -> Iterator[Case]:
    """Good files under another format's suffix."""
    pairs = (
        *(("counts.npy", "x.mat"), ("counts.npz", "x.npy"), ("v73.mat", "x.npz"), ("counts.mat", "x.npy")),
        *(("net.safetensors", "x.mat"), ("folder/band_1.png", "x.npz"), ("counts.npy", "x.tiff.txt")),
        *(("net.safetensors", "x.npy"), ("counts.npy", "x"), ("own.npy", "x.npz")),
    )
    for number, (source, target) in enumerate(pairs):
        command = ALL[number % len(ALL)]

        def make(place: Place, source: str = source, target: str = target, command: str = command) -> list[Any]:
            shutil.copy(place.good / source, place.inputs / target)
            return scene_command(command, place.inputs / target, place.good, place.outputs)

        yield Case("scene: another format's suffix", f"{source} as {target}, {command}", make)


def _written(suffix: str, write: Callable[[Path], None], command: str) -> Callable[[Place], list[Any]]:
    def make(place: Place) -> list[Any]:
        path = place.inputs / ("scene" + suffix)
        write(path)
        return scene_command(command, path, place.good, place.outputs)

    return make


def _npy(values: Any) -> Callable[[Path], None]:
    return lambda path: np.save(path, values, allow_pickle=True)


def _npz(**values: Any) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **values)


def _mat(**values: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        import scipy.io

        scipy.io.savemat(path, values)

    return write


def _h5(fill: Callable[[Any], None]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        import h5py

        with h5py.File(path, "w") as file:
            fill(file)

    return write


def _header(shape: tuple[int, ...], descr: str = "<f4", data: int = 64) -> Callable[[Path], None]:
    """An .npy file whose header promises this shape, with `data` bytes behind it."""

    def write(path: Path) -> None:
        buffer = io.BytesIO()
        header = {"descr": descr, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(buffer, header)
        path.write_bytes(buffer.getvalue() + bytes(data))

    return write


def _bands(*bands: np.ndarray) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        import imageio.v3 as imageio

        path.mkdir()
        for index, band in enumerate(bands):
            imageio.imwrite(path / f"{index}.png", band)

    return write


def _own(**changes: Any) -> Callable[[Path], None]:
    """An .npz of write_scene with other metadata; None leaves an entry out."""
    pixels = (counts() / 4000).astype(np.float32)
    values = {"lkcanet_scene": 1, "pixels": pixels, "peak": 4000.0, "name": "x", "source": "", **changes}
    return _npz(**{key: value for key, value in values.items() if value is not None})


def _record(text: str) -> Callable[[Path], None]:
    """An .npy of write_scene with another text behind its pixels."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, (counts() / 4000).astype(np.float32))
            np.save(file, np.array(text))

    return write


def _with(value: float, at: tuple[int, int, int] = (2, 3, 4)) -> np.ndarray:
    values = counts().astype(np.float32)
    values[at] = value
    return values


def _huge(file: Any) -> None:
    file.create_dataset("scene", shape=(2**20, 2**20, 2**20), dtype="f8", chunks=(1, 1024, 1024))


def _directory(path: Path) -> None:
    path.mkdir()


_ONE = counts()[0]
CONTENTS: tuple[tuple[tuple[str, str], str, Callable[[Path], None]], ...] = (
    (("pixels that are no numbers", "NaN"), ".npy", _npy(_with(np.nan))),
    (("pixels that are no numbers", "infinite"), ".npz", _npz(scene=_with(np.inf, (5, 15, 19)))),
    (("pixels that are no numbers", "NaN in .mat"), ".mat", _mat(scene=_with(np.nan).transpose(1, 2, 0))),
    (("pixels that are no numbers", "minus infinite"), ".npy", _npy(_with(-np.inf))),
    (("pixels that are no numbers", "complex"), ".npy", _npy(counts() * 1j)),
    (("pixels that are no numbers", "complex .mat"), ".mat", _mat(scene=counts().transpose(1, 2, 0) * 1j)),
    (("pixels that are no numbers", "texts"), ".npy", _npy(counts().astype(str))),
    (("pixels that are no numbers", "objects"), ".npy", _npy(counts().astype(object))),
    (("pixels that are no numbers", "objects .npz"), ".npz", _npz(scene=counts().astype(object))),
    (("pixels that are no numbers", "dates"), ".npy", _npy(counts().astype("datetime64[s]"))),
    (("pixels that are no numbers", "bool"), ".npy", _npy(counts() > 2000)),
    (("pixels that are no numbers", "records"), ".npy", _npy(np.zeros((3, 4, 5), "f4,f4"))),
    (("pixels that are no numbers", "cell .mat"), ".mat", _mat(scene=counts().astype(object))),
    (("pixels that are no numbers", "text .mat"), ".mat", _mat(scene="no image")),
    (("pixels that are no numbers", "struct .mat"), ".mat", _mat(scene={"note": "no image"})),
    (("pixels that are no numbers", "too large"), ".npy",
     _npy(np.array(["1", "1e400"] * 60, dtype=np.longdouble).reshape(6, 4, 5))),
    (("no light", "zeros"), ".npy", _npy(np.zeros((6, 16, 20)))),
    (("no light", "negative"), ".npz", _npz(scene=-counts().astype(float))),
    (("no light", "zeros .mat"), ".mat", _mat(scene=np.zeros((16, 20, 6)))),
    (("axes", "one axis"), ".npy", _npy(np.arange(100.0))),
    (("axes", "two axes"), ".npy", _npy(_ONE)),
    (("axes", "four axes"), ".npy", _npy(counts()[None])),
    (("axes", "a number"), ".npy", _npy(np.array(3.0))),
    (("axes", "no bands"), ".npy", _npy(np.zeros((0, 16, 20)))),
    (("axes", "no columns"), ".npz", _npz(scene=np.zeros((6, 16, 0)))),
    (("axes", "no rows .mat"), ".mat", _mat(scene=np.zeros((0, 20, 6)))),
    (("axes", "vector .mat"), ".mat", _mat(scene=np.arange(9.0))),
    (("which variable", "two"), ".npz", _npz(a=counts(), b=counts())),
    (("which variable", "two in .mat"), ".mat", _mat(a=counts(), b=counts())),
    (("which variable", "none"), ".npz", _npz(a=np.arange(3))),
    (("which variable", "an empty .mat"), ".mat", _mat()),
    (("which variable", "an empty .npz"), ".npz", _npz()),
    (("which variable", "a group"), ".mat", _h5(lambda file: file.create_group("scene"))),
    (("which variable", "a text in HDF5"), ".mat", _h5(lambda file: file.create_dataset("scene", data="text"))),
    (("which variable", "an empty dataset"), ".mat", _h5(lambda file: file.create_dataset("scene", dtype="f4"))),
    (("which variable", "an empty HDF5"), ".mat", _h5(lambda _: None)),
    (("larger than the file", "npy"), ".npy", _header((10**4, 10**4, 10**4))),
    (("larger than the file", "npy beyond 64 bits"), ".npy", _header((2**40, 2**40, 2**40))),
    (("larger than the file", "a negative size"), ".npy", _header((6, -16, 20))),
    (("larger than the file", "HDF5 without its chunks"), ".mat", _h5(_huge)),
    (("larger than the file", "one value short"), ".npy", _header((6, 16, 20), data=6 * 16 * 20 * 4 - 1)),
    (("larger than the file", "objects by header"), ".npy", _header((6, 16, 20), "|O", 8 * 6 * 16 * 20)),
    (("folder", "without files"), "", _directory),
    (("folder", "named .mat"), ".mat", _directory),
    (("folder", "named .npy"), ".npy", _directory),
    (("folder", "bands of two sizes"), "", _bands(_ONE, _ONE[:-1])),
    (("folder", "bands of two dtypes"), "", _bands(_ONE, _ONE.astype(np.uint8))),
    (("folder", "colour images"), "", _bands(np.zeros((16, 20, 3), np.uint8))),
    (("folder", "black"), "", _bands(_ONE * 0, _ONE * 0)),
    (("metadata of write_scene", "peak 0"), ".npz", _own(peak=0.0)),
    (("metadata of write_scene", "peak NaN"), ".npz", _own(peak=np.nan)),
    (("metadata of write_scene", "peak negative"), ".npz", _own(peak=-1.0)),
    (("metadata of write_scene", "peak a text"), ".npz", _own(peak="4000 counts")),
    (("metadata of write_scene", "no peak"), ".npz", _own(peak=None)),
    (("metadata of write_scene", "two peaks"), ".npz", _own(peak=[1.0, 2.0])),
    (("metadata of write_scene", "no pixels"), ".npz", _own(pixels=None)),
    (("metadata of write_scene", "five wavelengths"), ".npz", _own(wavelengths=np.arange(1.0, 6))),
    (("metadata of write_scene", "wavelengths NaN"), ".npz", _own(wavelengths=np.full(BANDS, np.nan))),
    (("metadata of write_scene", "wavelengths texts"), ".npz", _own(wavelengths=np.array(["red"] * BANDS))),
    (("metadata of write_scene", "negative wavelength"), ".npz", _own(wavelengths=np.arange(BANDS) - 1.0)),
    (("metadata of write_scene", "pixels of 2 axes"), ".npz", _own(pixels=np.ones((ROWS, COLUMNS), np.float32))),
    (("metadata of write_scene", "record without peak"), ".npy", _record(json.dumps({"lkcanet_scene": 1, "name": ""}))),
    (("metadata of write_scene", "record with peak null"), ".npy",
     _record(json.dumps({"lkcanet_scene": 1, "name": "", "source": "", "peak": None}))),
    (("metadata of write_scene", "record with wavelengths a text"), ".npy",
     _record(json.dumps({"lkcanet_scene": 1, "name": "", "source": "", "peak": 1, "wavelengths": "red"}))),
)  # fmt: skip
