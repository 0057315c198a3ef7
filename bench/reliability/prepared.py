"""Files that are not what a protocol is of, and prepared folders that are not whole."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .inputs import SMALL, TINY, tiny_image
from .runner import REFUSED, UNAFFECTED, Case, Place

COMMANDS = ("train", "evaluate", "info", "degrade", "distill", "show")
SHAPES = {"chikusei": (128, 2517, 2335), "houston2018": (48, 4172, 1202), "pavia_center": (102, 1096, 715)}


def cases() -> Iterator[Case]:
    for protocol, (bands, rows, columns) in SHAPES.items():
        for name, write in (
            ("too small", _npy((bands, 64, 48))),
            ("of other bands", _npy((bands - 1, rows, 4))),
            ("one row short", _mat73((bands, rows - 1, columns))),
            ("axes exchanged", _mat73((columns, bands, rows))),
            ("two axes", _npy((rows, columns))),
            ("truncated", _npy((bands, rows, columns), short=True)),
            ("one column short in .mat", _mat73((bands, rows, columns - 1))),
            ("truncated .mat", _mat73((bands, rows, columns), cut=0.5)),
            ("text in .mat", _mat73((bands, rows, columns), text=True)),
            ("a scene of 6 bands", lambda place, _: shutil.copy(place.good / "own.npz", place.inputs / "x.npz")),
        ):
            yield Case(f"prepare: {protocol}", name, _prepare(protocol, write))
    for name, write in IMAGES:
        yield Case("prepare: tiny image", name, _prepare("tiny", write))
    for name, options in OPTIONS:
        yield Case("prepare: options", name, _prepare("tiny", _values(lambda image: image), *options))
    for number, (kind, name, damage, allowed) in enumerate(FOLDERS):
        commands = (COMMANDS[number % len(COMMANDS)], COMMANDS[(number + 1) % 2])
        if UNAFFECTED in allowed:  # the quick ones
            commands = ("info", "evaluate")
        for command in commands:
            yield Case(f"prepared folder: {kind}", f"{name}, {command}", _damaged(damage, command), _same, allowed)


def _prepare(protocol: str, write: Callable[[Place, Path], Any], *options: object) -> Callable[[Place], list[Any]]:
    def make(place: Place) -> list[Any]:
        write(place, place.inputs)
        line = ["prepare", protocol, next(place.inputs.iterdir()), "--out", place.outputs / "made", *options]
        scales = any(str(option).startswith("--scale") for option in options)
        return line if scales else [*line, "--scale", 2 if protocol == TINY.name else 4]

    return make


def _npy(shape: tuple[int, ...], *, short: bool = False) -> Callable[[Place, Path], None]:
    """Of counts; a short one has a header and a thousand bytes."""

    def write(_: Place, folder: Path) -> None:
        with (folder / "x.npy").open("wb") as file:
            header = {"descr": "<u2", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            file.write(bytes(1000 if short else 2 * int(np.prod(shape))))

    return write


def _mat73(shape: tuple[int, ...], *, cut: float = 1, text: bool = False) -> Callable[[Place, Path], None]:
    """(B, H, W) without a chunk written."""

    def write(_: Place, folder: Path) -> None:
        import h5py

        bands, rows, columns = shape
        with h5py.File(folder / "x.mat", "w", userblock_size=512) as file:
            data = file.create_dataset("x", (bands, columns, rows), "u2", chunks=(1, columns, rows))
            if text:
                data.attrs["MATLAB_class"] = np.bytes_("char")
        data = (folder / "x.mat").read_bytes()
        (folder / "x.mat").write_bytes((b"MATLAB 7.3 MAT-file" + data[19:])[: int(cut * len(data))])

    return write


def _values(change: Callable[[np.ndarray], Any], suffix: str = ".npy") -> Callable[[Place, Path], None]:
    """The image of the small protocol, changed."""

    def write(_: Place, folder: Path) -> None:
        values = change(tiny_image())
        if suffix == ".npy":
            np.save(folder / "x.npy", values)
        elif suffix == ".npz":
            np.savez(folder / "x.npz", scene=values)
        else:
            import scipy.io

            scipy.io.savemat(folder / "x.mat", {"scene": np.moveaxis(values, 0, 2)})

    return write


def _with(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(image: np.ndarray) -> np.ndarray:
        image = image.astype(np.float64)
        image[2, 30, 30] = value
        return image

    return change


def _cut(suffix: str, fraction: float) -> Callable[[Place, Path], None]:
    def write(place: Place, folder: Path) -> None:
        _values(lambda image: image, suffix)(place, folder)
        path = folder / ("x" + suffix)
        path.write_bytes(path.read_bytes()[: int(fraction * path.stat().st_size)])

    return write


IMAGES: tuple[tuple[str, Callable[[Place, Path], None]], ...] = (
    *((f"{suffix} cut at {fraction:g}", _cut(suffix, fraction)) for suffix in (".npy", ".npz", ".mat")
      for fraction in (0, 0.01, 0.5, 0.99)),
    ("NaN", _values(_with(np.nan))),
    ("infinite", _values(_with(np.inf), ".npz")),
    ("negative beyond float32", _values(lambda image: image * -1e300 + 1e263)),
    ("zeros", _values(lambda image: image * 0)),
    ("negative", _values(lambda image: -image.astype(float), ".mat")),
    ("complex", _values(lambda image: image * 1j)),
    ("texts", _values(lambda image: image.astype(str))),
    ("objects", _values(lambda image: image.astype(object))),
    ("bands last", _values(lambda image: np.moveaxis(image, 0, 2))),
    ("turned", _values(lambda image: image.transpose(0, 2, 1))),
    ("one row more", _values(lambda image: np.pad(image, ((0, 0), (0, 1), (0, 0))))),
)  # fmt: skip
OPTIONS: tuple[tuple[str, tuple[object, ...]], ...] = (
    *((f"--columns {text!r:.20}", (f"--columns={text}",)) for text in (
        "", "5", "0:32,", "0:16", "0:16,16:33", "16:32,0:16", "0:20,15:27", "5:5,0:32", "a:b", "-1:32", "0:32:2",
        "0:" + "9" * 30)),
    *((f"--scale {text!r}", (f"--scale={text}",)) for text in ("0", "3", "-2", "x", "2.5", "")),
    *((f"--peak {text!r}", (f"--peak={text}",)) for text in ("0", "-1", "nan", "inf", "x", "", "1e-300")),
    *((f"--seed {text!r}", (f"--seed={text}",)) for text in ("-1", "x", "1.5")),
    *((f"--axes {text!r}", (f"--axes={text}",)) for text in ("hwc", "hw", "cp", "xyz", "")),
    *((f"--validation {text!r}", (f"--validation={text}",)) for text in ("other", "")),
    ("--key of one array", ("--key", "scene")),
    ("--out ''", ("--out=",)),
    ("--out in nothing", ("--out", "/none/made")),
    ("--out below a device", ("--out", "/dev/null/made")),
)  # fmt: skip


def _damaged(damage: Callable[[Path], Any], command: str) -> Callable[[Place], list[Any]]:
    def make(place: Place) -> list[Any]:
        folder = place.inputs / "tiny"
        shutil.copytree(place.good / "tiny", folder)
        damage(folder)
        return command_line(command, folder, place)

    return make


def command_line(command: str, folder: Path, place: Place) -> list[Any]:
    """That has a command read a prepared folder."""
    net = place.good / "net.safetensors"
    return {
        "train": ["train", folder, "--out", place.outputs / "run", *SMALL[2:6], "--batch-size", 2, "--steps", 1],
        "evaluate": ["evaluate", folder, "-c", net, "--json"],
        "info": ["info", folder, "--json"],
        "degrade": ["degrade", folder, place.outputs / "lr.npy", "--scale", 2],
        "distill": ["distill", folder, "--teacher", net, "--out", place.outputs / "run", *SMALL[2:6], "--steps", 1],
        "show": ["show", folder, "-c", net, "--out", place.outputs / "show.png"],
    }[command]


def _same(place: Place) -> bool:
    from lkcanet.data import Prepared, load_prepared

    one, other = load_prepared(place.inputs / "tiny"), load_prepared(place.good / "tiny")
    assert isinstance(one, Prepared)
    assert isinstance(other, Prepared)
    return one.manifest == other.manifest and np.array_equal(one.scene.pixels, other.scene.pixels)


def _manifest(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "protocol.json"
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(json.dumps(manifest, indent=2))

    return damage


def _bytes(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def _flip(name: str, seed: int, tail: int | None = None) -> Callable[[Path], Any]:
    def change(data: bytes) -> bytes:
        generator, changed = np.random.default_rng(seed), bytearray(data)
        changed[int(generator.integers(0 if tail is None else len(data) - tail, len(data)))] ^= int(
            generator.integers(1, 256)
        )
        return bytes(changed)

    return _bytes(name, change)


def _other_scene(folder: Path) -> None:
    from lkcanet.data import scene_from_array, write_scene

    write_scene(folder / "scene.npy", scene_from_array(tiny_image()[:, : TINY.shape[0], ::-1]))


def _no_manifest(folder: Path) -> None:
    """And half of a scene: a whole one without a manifest is a folder with a scene in it, as any other."""
    (folder / "protocol.json").unlink()
    (folder / "scene.npy").write_bytes((folder / "scene.npy").read_bytes()[:1000])


_REFUSED, _EITHER = frozenset({REFUSED}), frozenset({REFUSED, UNAFFECTED})
FOLDERS: tuple[tuple[str, str, Callable[[Path], Any], frozenset[str]], ...] = (
    ("half-written", "no manifest", _no_manifest, _REFUSED),
    ("half-written", "no scene", lambda folder: (folder / "scene.npy").unlink(), _REFUSED),
    ("half-written", "an empty manifest", _bytes("protocol.json", lambda _: b""), _REFUSED),
    ("half-written", "half a manifest", _bytes("protocol.json", lambda data: data[: len(data) // 2]), _REFUSED),
    ("half-written", "an empty scene", _bytes("scene.npy", lambda _: b""), _REFUSED),
    ("half-written", "half a scene", _bytes("scene.npy", lambda data: data[: len(data) // 2]), _REFUSED),
    ("half-written", "a scene without its record", _bytes("scene.npy", lambda data: data[:-200]), _REFUSED),
    ("edited manifest", "another scale", _manifest(lambda m: m.update(scale=4)), _REFUSED),
    ("edited manifest", "another test region", _manifest(lambda m: m["test"].update(region="0:8,0:8")), _REFUSED),
    ("edited manifest", "another peak", _manifest(lambda m: m["peak"].update(value=1)), _REFUSED),
    ("edited manifest", "no checksum", _manifest(lambda m: m.pop("checksum")), _REFUSED),
    ("edited manifest", "another format", _manifest(lambda m: m.update(format="lkcanet-protocol-9")), _REFUSED),
    ("edited manifest", "patches of the validation", _manifest(lambda m: m["validation"].update(indices=[0])),
     _REFUSED),
    ("edited manifest", "a list", _bytes("protocol.json", lambda data: b"[" + data + b"]"), _REFUSED),
    ("edited manifest", "nested beyond reason", _bytes("protocol.json", lambda _: b"[" * 100_000), _REFUSED),
    ("edited manifest", "binary", _bytes("protocol.json", lambda _: bytes(range(256))), _REFUSED),
    *(("edited manifest", f"byte {seed}", _flip("protocol.json", seed), _EITHER) for seed in range(8)),
    ("changed scene", "another", _other_scene, _REFUSED),
    ("changed scene", "longer", _bytes("scene.npy", lambda data: data + b"\0"), _REFUSED),
    *(("changed scene", f"byte {seed}", _flip("scene.npy", seed), _REFUSED) for seed in range(4)),
    *(("changed scene", f"byte {seed} of its record", _flip("scene.npy", seed, 300), _REFUSED) for seed in range(4)),
)  # fmt: skip
