"""Malformed checkpoints: damaged bytes, metadata and tensors that do not make a network."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .inputs import ROWS
from .runner import REFUSED, UNAFFECTED, Case, Place

COMMANDS = ("info", "evaluate", "super-resolve", "show", "rank", "export")
Tensors = dict[str, Any]


def command_line(command: str, net: Path, good: Path, outputs: Path) -> list[Any]:
    scene = good / "own.npz"
    return {
        "info": ["info", net, "--json"],
        "evaluate": ["evaluate", scene, "-c", net, "--json", "--region", ":,:"],
        "super-resolve": ["super-resolve", scene, outputs / "sr.npy", "-c", net, "--overwrite"],
        "show": ["show", scene, "-c", net, "--out", outputs / "show.svg"],
        "rank": ["rank", net, "--json"],
        "export": ["export", net, outputs / "net.onnx"],
    }[command]


def cases() -> Iterator[Case]:
    number = 0
    for fraction in (0.0, 0.0001, 0.001, 0.02, 0.1, 0.5, 0.9, 0.9999):
        yield _case("truncated", f"{100 * fraction:g} %", number, _cut(fraction))
        number += 1
    for index in range(12):
        header = index < 8
        yield _case(
            "one byte of the header" if header else "one byte of the weights",
            f"byte {index}", number, _flip(index, header), {REFUSED, UNAFFECTED},
        )  # fmt: skip
        number += 1
    for name, data in (
        ("text", b"not a checkpoint"),
        ("pickle", b"\x80\x02}q\x00."),
        ("zip", b"PK\x03\x04" + bytes(90)),
    ):
        yield _case("another format", name, number, _bytes(data))
        number += 1
    for kind, name, change in CHANGES:
        yield _case(kind, name, number, _rewritten(change))
        number += 1
    for name, change in HARMLESS:
        yield _case("dtype of the weights", name, number, _rewritten(change), {UNAFFECTED})
        number += 1


def _case(
    kind: str, name: str, number: int, write: Callable[[Path, Path], None], allowed: set[str] | None = None
) -> Case:
    command = COMMANDS[number % len(COMMANDS)]
    if allowed and command in ("show", "export"):  # a figure takes a second where the network is read after all
        command = "info"

    def make(place: Place) -> list[Any]:
        net = place.inputs / "net.safetensors"
        write(place.good / "net.safetensors", net)
        return command_line(command, net, place.good, place.outputs)

    return Case(f"checkpoint: {kind}", f"{name}, {command}", make, _same, frozenset(allowed or {REFUSED}))


def _same(place: Place) -> bool:
    import torch

    from lkcanet.models import load_model_and_extra

    (one, facts), (other, more) = (
        load_model_and_extra(folder / "net.safetensors") for folder in (place.inputs, place.good)
    )
    states = one.state_dict(), other.state_dict()
    return (
        facts == more
        and one.config == other.config
        and all(torch.allclose(states[0][key], states[1][key], rtol=1e-6, atol=0) for key in states[1])
    )


def _cut(fraction: float) -> Callable[[Path, Path], None]:
    def write(good: Path, path: Path) -> None:
        data = good.read_bytes()
        path.write_bytes(data[: int(fraction * len(data))])

    return write


def _flip(index: int, header: bool) -> Callable[[Path, Path], None]:
    def write(good: Path, path: Path) -> None:
        data = bytearray(good.read_bytes())
        generator = np.random.default_rng(index)
        start = 8 + int.from_bytes(data[:8], "little")
        where = int(generator.integers(0, start) if header else generator.integers(start, len(data)))
        data[where] ^= int(generator.integers(1, 256))
        path.write_bytes(data)

    return write


def _bytes(data: bytes) -> Callable[[Path, Path], None]:
    def write(_: Path, path: Path) -> None:
        path.write_bytes(data)

    return write


def _rewritten(change: Callable[[dict[str, str], Tensors], Any]) -> Callable[[Path, Path], None]:
    """The checkpoint with other metadata or tensors."""

    def write(good: Path, path: Path) -> None:
        from safetensors import safe_open
        from safetensors.torch import save_file

        with safe_open(good, framework="pt") as file:
            metadata = {key: value for key, value in file.metadata().items() if key != "sha256"}  # it would catch all
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        change(metadata, tensors)
        save_file(tensors, path, metadata)

    return write


def _config(**changes: Any) -> Callable[[dict[str, str], Tensors], None]:
    """Other arguments of the constructor; `...` leaves one out."""

    def change(metadata: dict[str, str], _: Tensors) -> None:
        config = {**json.loads(metadata["config"]), **changes}
        metadata["config"] = json.dumps({key: value for key, value in config.items() if value is not ...})

    return change


def _extra(**changes: Any) -> Callable[[dict[str, str], Tensors], None]:
    def change(metadata: dict[str, str], _: Tensors) -> None:
        metadata["extra"] = json.dumps({**json.loads(metadata["extra"]), **changes})

    return change


def _metadata(**changes: str) -> Callable[[dict[str, str], Tensors], None]:
    return lambda metadata, _: metadata.update(changes)


def _tensor(
    key: str, new: Callable[[Any], Any] | None, name: str | None = None
) -> Callable[[dict[str, str], Tensors], None]:
    """A tensor changed, renamed, or left out where `new` is None."""

    def change(_: dict[str, str], tensors: Tensors) -> None:
        tensor = tensors.pop(key)
        if new is not None:
            tensors[name or key] = new(tensor).contiguous()

    return change


def _all(new: Callable[[Any], Any]) -> Callable[[dict[str, str], Tensors], None]:
    def change(_: dict[str, str], tensors: Tensors) -> None:
        for key, tensor in tensors.items():
            tensors[key] = new(tensor)

    return change


def _put(value: float) -> Callable[[Any], Any]:
    def change(tensor: Any) -> Any:
        tensor.view(-1)[tensor.numel() // 2] = value
        return tensor

    return change


_GAIN = "upsample.conv.parametrizations.weight.original0"
CHANGES: tuple[tuple[str, str, Callable[[dict[str, str], Tensors], Any]], ...] = (
    ("metadata", "none", lambda metadata, _: metadata.clear()),
    ("metadata", "another format", _metadata(format="lkcanet-9")),
    ("metadata", "no config", lambda metadata, _: metadata.pop("config")),
    ("metadata", "config no JSON", _metadata(config="{bands: 6")),
    ("metadata", "config a list", _metadata(config="[6, 2]")),
    ("metadata", "config a number", _metadata(config="6")),
    ("metadata", "config nested beyond reason", _metadata(config="[" * 100_000)),
    ("metadata", "extra no JSON", _metadata(extra="{'peak': 1}")),
    ("metadata", "extra a list", _metadata(extra="[4000]")),
    ("metadata", "extra a text", _metadata(extra='"peak"')),
    ("metadata", "extra nested beyond reason", _metadata(extra="[" * 100_000)),
    *((f"config: {key}", repr(value)[:20], _config(**{key: value})) for key, values in {
        "bands": (0, -1, 7, "6", 6.5, None, True, 10**9, ...),
        "scale": (0, 3, "2", 1.5, 10**6),
        "channels": (0, 17, 32, None, 10**12),
        "blocks": (-1, 0, 2, 1.0, 10**9),
        "upsample_groups": (0, 3, 2, "1"),
        "kernel_sizes": ([4, 7], [5], 5, "57", [5, 9], [5.0, 7.0]),
        "dilations": ([0, 7], [5, 7, 9], None, [5, -7]),
        "attention_groups": (0, 3, 8),
        "reduction": (0, 7, 1000),
        "interleave": ("no", 2),
        "drop_path": (-0.1, 1, "0.1", math.nan),
        "weight_norm": (False, "yes"),
        "eps": (0, -1e-6, "small", math.nan, math.inf),
        "cubic_a": ("x", math.nan, None, math.inf),
        "border": ("wrap", None, 3),
        "colour": ("red",),
    }.items() for value in values),
    ("extra", "peak 0", _extra(peak=0)),
    ("extra", "peak negative", _extra(peak=-4000.0)),
    ("extra", "peak NaN", _extra(peak=math.nan)),
    ("extra", "peak a text", _extra(peak="4000 counts")),
    ("extra", "peak a list", _extra(peak=[4000])),
    ("extra", "split a text", _extra(split="0:16,12:20")),
    ("extra", "test region a number", _extra(split={"test": 5})),
    ("extra", "scene a list", _extra(scene=[6, ROWS])),
    ("tensors", "none", lambda _, tensors: tensors.clear()),
    ("tensors", "one missing", _tensor("head.weight", None)),
    ("tensors", "a gain missing", _tensor(_GAIN, None)),
    ("tensors", "one renamed", _tensor("head.weight", lambda t: t, "head.weights")),
    ("tensors", "one more", lambda _, tensors: tensors.update(more=tensors["head.bias"].clone())),
    ("tensors", "one transposed", _tensor("head.weight", lambda t: t.transpose(0, 1))),
    ("tensors", "one cut", _tensor("head.bias", lambda t: t[:-1])),
    ("tensors", "one of whole numbers", _tensor("head.weight", lambda t: t.int())),
    ("tensors", "all of whole numbers", _all(lambda t: t.char())),
    ("tensors", "one complex", _tensor("head.weight", lambda t: t + 1j)),
    ("tensors", "one bool", _tensor("head.weight", lambda t: t > 0)),
    ("values", "a NaN in the first conv", _tensor("head.weight", _put(math.nan))),
    ("values", "an infinite bias", _tensor("upsample.conv.bias", _put(math.inf))),
    ("values", "a NaN gain", _tensor(_GAIN, _put(-math.nan))),
    ("values", "all NaN", _all(lambda t: t * math.nan)),
    ("values", "a direction of zeros", _tensor(_GAIN.replace("original0", "original1"), lambda t: t * 0)),
)  # fmt: skip
HARMLESS: tuple[tuple[str, Callable[[dict[str, str], Tensors], Any]], ...] = (
    ("float64", _all(lambda t: t.double())),
    ("one float64", _tensor("head.weight", lambda t: t.double())),
)
