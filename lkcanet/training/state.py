"""state.safetensors: all that an interrupted run needs to go on as if it had not been interrupted."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..common.digest import digest
from ..common.files import atomic_path
from ..common.optional import require

STATE = "state.safetensors"
_FORMAT = "lkcanet-state-1"
_NAMED = ("model", "average", "objective", "aside")  # dicts of tensors by name
_TENSORS = (*_NAMED, "moments")
# options that runs from before there were these options had in effect
_BEFORE = {"floor": 0.0, "warmup": 0, "ema": None, "whiten": None, "optimizer": "adam", "psnr_weight": 0.0,
           "mirror": True, "impulses": None}  # fmt: skip
# options that may change where a run goes on: they leave its result as it is, but for rounding
FREE = frozenset({"workers", "threads", "device", "devices", "tensorboard", "progress"})


@dataclass
class State:
    """A run after `step` steps.

    Random numbers need no place here: the order of an epoch follows from the seed and its number, the draws of drop
    path from the seed and the step's.
    """

    step: int
    seconds: float
    history: list[dict[str, float]]
    best: dict[str, float]
    log_bytes: int
    identity: dict[str, Any]  # what must be the same where the run goes on
    ended_by: str | None = None  # "steps" or "time"
    scaler: dict[str, Any] = field(default_factory=dict)  # of 16-mixed
    model: dict[str, Tensor] = field(default_factory=dict)
    average: dict[str, Tensor] = field(default_factory=dict)  # of its weights, see `average.Average`
    moments: dict[int, dict[str, Tensor]] = field(default_factory=dict)  # of the optimizer
    objective: dict[str, Tensor] = field(default_factory=dict)  # what learns along
    bicubic: dict[str, float] = field(default_factory=dict)  # its scores, where the fresh network is another
    still: list[int] = field(default_factory=list)  # parameters that have had no gradient, and so no moments
    # of a validation on interruption, which a run that goes on forgets: its scores, and the bytes of the files that its
    # checkpoints replaced
    interim: dict[str, float] | None = None
    aside: dict[str, Tensor] = field(default_factory=dict)

    @property
    def kept(self) -> dict[str, float]:
        """Scores of what `best` holds."""
        return self.interim if self.interim is not None and self.aside else self.best


def write(path: Path, state: State) -> None:
    """Write the file, under its name only once complete."""
    tensors = {f"{kind}.{key}": tensor for kind in _NAMED for key, tensor in getattr(state, kind).items()}
    for index, entries in state.moments.items():
        tensors |= {f"adam.{index}.{name}": tensor for name, tensor in entries.items()}
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    facts = {key: value for key, value in vars(state).items() if key not in _TENSORS}
    text = json.dumps(facts)
    metadata = {"format": _FORMAT, "state": text, "digest": digest(tensors, text)}
    data = require("safetensors.torch", extra="io").save(tensors, metadata)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def read(path: Path) -> State:
    """What `write` wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not complete, damaged, or not such a file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"nothing to resume: {path} does not exist")
    safetensors = require("safetensors", extra="io")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        if metadata.get("format") != _FORMAT:
            raise ValueError(f"its format is {metadata.get('format')!r}")
        if digest(tensors, metadata["state"]) != metadata["digest"]:
            raise ValueError("its content does not have the digest that was written")
        state = State(**json.loads(metadata["state"]))
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged or not the state of a run, which can't go on: {error}") from error
    for key, tensor in tensors.items():
        kind, _, rest = key.partition(".")
        if kind in _NAMED:
            getattr(state, kind)[rest] = tensor
        else:
            index, _, name = rest.partition(".")
            state.moments.setdefault(int(index), {})[name] = tensor
    return state


def knew_no_floor(path: Path) -> bool:
    """Whether it is the state of a run that began before `TrainOptions` had a floor: its losses had none."""
    return path.is_file() and "floor" not in read(path).identity.get("option", {"floor": 0.0})


def check_same(identity: dict[str, Any], before: dict[str, Any]) -> None:
    """Raise a ValueError that names what differs from the interrupted run."""
    if "option" in before:
        before = {**before, "option": {**_BEFORE, **before["option"]}}  # see `knew_no_floor`
    differences = list(_differences(json.loads(json.dumps(identity)), before))
    if differences:
        raise ValueError(
            f"this is not the run to resume: {'; '.join(differences)}; give what the interrupted run was given "
            "(its course follows from steps, epochs and max_minutes, which can't be changed either)"
        )


def check_fits(
    path: Path,
    state: State,
    model: torch.nn.Module,
    total: int | None,
    learned: list[torch.nn.Parameter],
    objective: Mapping[str, Tensor],
    turned: frozenset[int] = frozenset(),
) -> None:
    """Raise a ValueError where a state that is whole and of this run can't have been left by it, as by another version
    or a changed file: a run that went on with half of it would end with other weights, and say nothing. `turned`: which
    of `learned` have a momentum alone (see `muon.Muon`)."""
    weights, trained = model.state_dict(), {i: p for i, p in enumerate(learned) if p.requires_grad}
    expected = set(trained) - set(state.still) if state.step else set()
    steps = [entry.get("step") for entry in state.history if isinstance(entry, dict)]
    wrong = ""
    if type(state.step) is not int or not 0 <= state.step <= (state.step if total is None else total):
        wrong = f"its step is {state.step!r}"
    elif not steps or steps[-1] not in range(state.step + 1) or state.best.get("step") not in steps:
        wrong = "its history of validations is not that of its step"
    elif _shapes(state.model) != _shapes(weights):
        wrong = "its weights are not those of the network"
    elif _shapes(state.average) != (
        {} if state.identity.get("option", {}).get("ema") is None else _shapes(dict(model.named_parameters()))
    ):
        wrong = "its averaged weights are not those of the network"
    elif _shapes(state.objective) != _shapes(objective):
        wrong = "what it holds of the objective is not what this one learns"
    elif state.moments.keys() != expected and (state.moments or not state.scaler):  # 16-mixed skips first steps
        wrong = "its moments of Adam are not those of the network"
    elif any(
        name not in entry or entry[name].shape != trained[index].shape
        for index, entry in state.moments.items()
        for name in (("momentum",) if index in turned else ("exp_avg", "exp_avg_sq"))
    ):
        wrong = "its moments of Adam are not of the network's shapes"
    if wrong:
        raise ValueError(f"{path} is damaged or not the state of a run, which can't go on: {wrong}")


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {key: tensor.shape for key, tensor in tensors.items()}


def _differences(now: Any, before: Any, name: str = "") -> Iterator[str]:
    if isinstance(now, dict) and isinstance(before, dict):
        for key in dict.fromkeys([*now, *before]):
            yield from _differences(now.get(key), before.get(key), f"{name} {key}".strip())
    elif now != before:
        yield f"{name} is {_short(now)}, there it was {_short(before)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def remove_strays(folder: Path, names: tuple[str, ...]) -> None:
    """Remove what killed processes left half-written (see `atomic_path`)."""
    stems = "|".join(re.escape(Path(name).stem) for name in names)
    for path in folder.iterdir() if folder.is_dir() else ():
        if re.fullmatch(rf"\.({stems})-[0-9a-f]{{12}}\.safetensors", path.name):
            path.unlink(missing_ok=True)
