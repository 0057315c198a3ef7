"""Runs that can't go on: damaged states, other options; and teachers that don't fit."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .inputs import RUN
from .runner import Case, Place


def cases() -> Iterator[Case]:
    for name, damage in STATES:
        yield Case("resume: damaged state", name, _resume(damage))
    for name, damage in FILES:
        yield Case("resume: other files", name, _resume(damage))
    for name, options in OTHERS:
        yield Case("resume: another run", name, _resume(None, *options))


def _resume(damage: Callable[[Path], Any] | None, *options: object) -> Callable[[Place], list[Any]]:
    def make(place: Place) -> list[Any]:
        run = place.outputs / "run"
        shutil.copytree(place.good / "run", run)
        if damage is not None:
            damage(run)
        return ["train", place.good / "counts.npz", "--out", run, *RUN, "--resume", *options]

    return make


def _bytes(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], Any]:
    return lambda run: (run / name).write_bytes(change((run / name).read_bytes()))


def _flip(seed: int) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        generator, changed = np.random.default_rng(seed), bytearray(data)
        header = 8 + int.from_bytes(data[:8], "little")
        place = generator.integers(0, header) if seed % 2 else generator.integers(header, len(data))
        changed[int(place)] ^= int(generator.integers(1, 256))
        return bytes(changed)

    return change


def _rewritten(change: Callable[[Any], Any]) -> Callable[[Path], Any]:
    """A state with a digest that is right."""

    def damage(run: Path) -> None:
        from lkcanet.training import state as _state

        state = _state.read(run / _state.STATE)
        change(state)
        _state.write(run / _state.STATE, state)

    return damage


def _first(state: Any, change: Callable[[Any], Any]) -> None:
    key = next(iter(state.model))
    state.model[key] = change(state.model[key])


def _emptied(run: Path) -> None:
    for path in run.iterdir():
        path.unlink()


def _folder_for_state(run: Path) -> None:
    (run / _S).unlink()
    (run / _S).mkdir()


_S = "state.safetensors"
STATES: tuple[tuple[str, Callable[[Path], Any]], ...] = (
    *((f"cut at {fraction:g}", _bytes(_S, lambda data, f=fraction: data[: int(f * len(data))]))  # type: ignore[misc]
      for fraction in (0, 0.0001, 0.01, 0.5, 0.999)),
    *((f"byte {seed}", _bytes(_S, _flip(seed))) for seed in range(10)),
    ("a checkpoint in its place", lambda run: shutil.copy(run / "last.safetensors", run / _S)),
    ("text in its place", _bytes(_S, lambda _: b"no state")),
    ("no moments", _rewritten(lambda state: state.moments.clear())),
    ("half the moments", _rewritten(lambda state: [state.moments.pop(key) for key in list(state.moments)[::2]])),
    ("no weights", _rewritten(lambda state: state.model.clear())),
    ("a weight missing", _rewritten(lambda state: state.model.pop(next(iter(state.model))))),
    ("a weight cut", _rewritten(lambda state: _first(state, lambda tensor: tensor[:-1].clone()))),
    ("a weight NaN", _rewritten(lambda state: _first(state, lambda tensor: tensor * float("nan")))),
    ("a negative step", _rewritten(lambda state: setattr(state, "step", -1))),
    ("a step beyond the end", _rewritten(lambda state: setattr(state, "step", 99))),
    ("a step that is text", _rewritten(lambda state: setattr(state, "step", "1"))),
    ("no history", _rewritten(lambda state: state.history.clear())),
    ("no identity", _rewritten(lambda state: state.identity.clear())),
)  # fmt: skip
FILES: tuple[tuple[str, Callable[[Path], Any]], ...] = (
    ("no state", lambda run: (run / _S).unlink()),
    ("an empty folder", _emptied),
    ("no folder", lambda run: shutil.rmtree(run)),
    ("no log", lambda run: (run / "metrics.csv").unlink()),
    ("half a log", _bytes("metrics.csv", lambda data: data[: len(data) // 3])),
    ("an empty log", _bytes("metrics.csv", lambda _: b"")),
    ("a folder for a state", _folder_for_state),
)
OTHERS: tuple[tuple[str, tuple[object, ...]], ...] = (
    *((" ".join(map(str, options)), options) for options in (
        ("--seed", 1), ("--steps", 5), ("--blocks", 2), ("--channels", 32), ("--batch-size", 1), ("--patch", 2),
        ("--stride", 1), ("--learning-rate", 0.1), ("--precision", "bf16-true"), ("--monitor", "mpsnr"),
        ("--validate-every", 2), ("--test", ":,14:"), ("--validation", "8:16,2:12"), ("--peak", 5000),
        ("--no-augment",), ("--drop-path", 0), ("--scale", 4, "--patch", 2), ("--network", "lkca_net"),
        ("--overwrite",))),
)  # fmt: skip
