"""Checkpoints as others write them: keys of wrapped networks, and files of torch.save."""

import json
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# what wrappers put before the names of what they wrap
WRAPPERS = {"_orig_mod": "torch.compile", "module": "DataParallel or DistributedDataParallel"}
SAVED = (".pth", ".pt", ".ckpt", ".bin")  # by torch.save
_WEIGHTS = ("state_dict", "model_state_dict", "model", "weights", "params", "net")
ADVICE = (
    'make the network, load the weights into it, and call lkcanet.models.save_model(network, "name.safetensors"); '
    'or torch.save({"kind": network.kind, "config": network.config, "state_dict": network.state_dict()}, ...)'
)


def bare(key: str, wrappers: Collection[str] = WRAPPERS) -> str:
    """A key without the names of wrappers, wherever in it they are."""
    return ".".join(part for part in key.split(".") if part not in wrappers)


def bare_keys(state: Mapping[str, Tensor], wrappers: Collection[str] = WRAPPERS) -> dict[str, Tensor]:
    """The tensors under keys without wrappers.

    Raises:
        ValueError: two keys are the same then.
    """
    result: dict[str, Tensor] = {}
    first: dict[str, str] = {}
    for key, tensor in state.items():
        name = bare(key, wrappers)
        if name in result:
            raise ValueError(f"it holds both {first[name]} and {key}, which name one tensor of a wrapped network")
        result[name], first[name] = tensor, key
    return result


def unwrapped_keys(state: dict[str, Tensor], own: Iterable[str]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors under the network's own keys, and which wrappers' names were taken out of theirs.

    A network may itself have a part that is called as a wrapper is: keys are then matched by all that is not.

    Raises:
        ValueError: two keys name one tensor.
    """
    own = list(own)
    if set(own) == set(state):
        return state, []
    names = {bare(key): key for key in own}
    found = [wrapper for wrapper in WRAPPERS if any(wrapper in key.split(".") for key in state)]
    if not found or len(names) < len(own):
        return state, []
    return {names.get(name, name): tensor for name, tensor in bare_keys(state).items()}, found


def unwrapped(network: nn.Module, known: Callable[[nn.Module], bool]) -> nn.Module:
    """The network inside of wrappers: what they hold alone, down to one that is `known`."""
    while not known(network):
        inner = next((network._modules[name] for name in WRAPPERS if set(network._modules) == {name}), None)
        if inner is None:
            break
        network = inner
    return network


def is_saved_by_torch(path: Path) -> bool:
    """Whether a file has the suffix, or the first bytes, of one that torch.save wrote."""
    with path.open("rb") as file:
        start = file.read(4)
    return path.suffix.lower() in SAVED or start == b"PK\x03\x04"


def read_saved(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """What torch.save wrote, as metadata and tensors of a checkpoint; nothing in it is ever run.

    The file holds a dict with "config", the arguments of the network's constructor, and its "state_dict"; and may hold
    its "kind" and "extra", as `save_model` has them.

    Raises:
        ValueError: not such a file, or one that needs more than tensors and numbers; says what to do.
    """
    try:
        # a file, not its name: torch goes by the suffix
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on old ways to pickle
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of any kind, in files of any content
        reason = " ".join(str(error).split()).rpartition("WeightsUnpickler error: ")[2]
        if named := re.search(r"GLOBAL (\S+)", reason):
            raise ValueError(
                f"{path} needs {named[1]} to be unpickled, which may run any code and is not done here. Where you "
                f"trust the file: {ADVICE}"
            ) from None
        raise ValueError(
            f"{path} is not a complete file of torch.save: {reason[:200] or type(error).__name__}"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds {type(content).__name__}, not the weights of a network: {ADVICE}")
    places = [name for name in _WEIGHTS if _is_state(content.get(name))]
    config = content.get("config")
    if _is_state(content) or not isinstance(config, dict):
        count = len(content) if _is_state(content) else sum(len(content[name]) for name in places)
        raise ValueError(
            f"{path} holds {count} tensors and does not say of which network (no config): their shapes don't tell "
            f"dilations and the like: {ADVICE}"
        )
    if len(places) != 1:
        what = f"weights in {' and '.join(places)}" if places else f"no weights ({', '.join(_WEIGHTS)})"
        raise ValueError(f"{path} holds {what}, expected one state_dict: {ADVICE}")
    try:
        metadata = {"config": json.dumps(config), "extra": json.dumps(content.get("extra") or {})}
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} holds a config or extra that JSON can't hold: {error}") from error
    if "kind" in content:
        metadata["kind"] = str(content["kind"])
    return metadata, dict(content[places[0]])


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(key, str) and isinstance(entry, Tensor) for key, entry in value.items())
    )
