"""Networks in safetensors files: weights, and in the metadata what builds the network again."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from .._files import atomic_path
from .._optional import require
from .registry import KINDS, Network

_FORMAT = "lkcanet-1"
_FIRST = "lkcanet"  # the kind of files that name none
# entries of a config that say how many times a part with weights of its own is repeated
_REPEATS = ("blocks", "counts", "stages", "layers", "depth")


def save_model(model: Network, path: str | Path, *, extra: Mapping[str, Any] | None = None) -> None:
    """Write a network to a safetensors file, under its final name only once complete.

    The tensors have the keys of `model.state_dict()` (torch's parametrization keys where weights are normalised); the
    metadata holds the kind of the network (see `KINDS`), the constructor's arguments as JSON, and a checksum of all:
    safetensors itself has none.

    Args:
        model: of a registered kind; folded or not.
        path: ends in .safetensors.
        extra: more to keep in the metadata, JSON-serialisable, such as the scene's peak.

    Raises:
        ValueError: another suffix, or a network that is not of a registered kind.
        OSError: the file can't be written; nothing is left under `path`.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"path must end in .safetensors, got {str(path)!r}")
    kind = getattr(model, "kind", "")
    if kind not in KINDS or not isinstance(model, KINDS[kind]):
        raise ValueError(f"model must be of a registered kind ({', '.join(KINDS)}), got {type(model).__name__}")
    metadata = {"format": _FORMAT, "kind": kind, "config": json.dumps(model.config)}
    metadata["extra"] = json.dumps(dict(extra or {}))
    state = {key: tensor.detach().contiguous() for key, tensor in model.state_dict().items()}
    metadata["sha256"] = _digest(metadata, state)
    data = require("safetensors.torch", extra="io").save(state, metadata)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def load_model(path: str | Path) -> Network:
    """The network that `save_model` wrote, in eval mode on the CPU.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a complete safetensors file, not one of `save_model`, corrupt, or its weights do not fit its
            config or are NaN or infinite.
    """
    return load_model_and_extra(path)[0]


def load_model_and_extra(path: str | Path) -> tuple[Network, dict[str, Any]]:
    """As `load_model`, with the `extra` that was saved."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    safetensors = require("safetensors", extra="io")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is not a complete safetensors file: {error}") from error
    if metadata.get("format") != _FORMAT:
        raise ValueError(f"{path} is not a checkpoint of lkcanet: its metadata has format {metadata.get('format')!r}")
    if metadata.get("sha256", digest := _digest(metadata, state)) != digest:  # other tools may write files without one
        raise ValueError(f"{path} is corrupt: its content does not have the checksum that it was written with")
    try:
        model = _built(_class_of(metadata.get("kind", _FIRST)), json.loads(metadata["config"]), state)
        extra = json.loads(metadata.get("extra", "{}"))
        if not isinstance(extra, dict):
            raise ValueError(f"the extra of its metadata must be an object, got {type(extra).__name__}")
    except (KeyError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:  # RecursionError among them
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} does not hold a network of this version: {reason[:300]}") from error
    return model.eval(), extra


def _digest(metadata: Mapping[str, str], state: Mapping[str, Tensor]) -> str:
    """SHA-256 of what makes the network: kind (but the first, which older files don't name), config, extra, and every
    tensor's key, dtype, shape and bytes."""
    kind = metadata.get("kind", _FIRST)
    facts = [metadata.get("config"), metadata.get("extra"), *([] if kind == _FIRST else [kind])]
    digest = hashlib.sha256(json.dumps(facts).encode())
    for key in sorted(state):
        tensor = state[key].cpu().contiguous()
        digest.update(json.dumps([key, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _class_of(kind: str) -> type[Network]:
    if kind not in KINDS:
        raise ValueError(f"its kind is {kind!r:.80}, known are {', '.join(KINDS)}")
    return KINDS[kind]


def _built(network: type[Network], config: Any, state: dict[str, Tensor]) -> Network:
    """The network, in float32. A damaged config costs neither memory nor time: what it describes is compared with what
    the file holds before anything is allocated."""
    if not isinstance(config, dict):
        raise ValueError(f"config must be an object, got {type(config).__name__}")
    for key, tensor in state.items():
        if not tensor.is_floating_point():
            raise ValueError(f"{key} must be floating, got {tensor.dtype}")
        if not tensor.isfinite().all():
            raise ValueError(f"{key} holds NaN or infinite values")
    for name in _REPEATS:
        numbers = config.get(name)
        for number in numbers if isinstance(numbers, (list, tuple)) else [numbers]:
            if isinstance(number, int) and number > len(state):
                raise ValueError(f"config names {number} {name}, and the file holds {len(state)} tensors")
    with torch.device("meta"):
        model = network(**config)
    # aligned and owned: safetensors' may lie anywhere in its buffer
    model.load_state_dict({key: tensor.to(torch.float32, copy=True) for key, tensor in state.items()}, assign=True)
    if any(buffer.is_meta for buffer in model.buffers()):  # constants that are not saved; now the sizes are known
        with torch.random.fork_rng(devices=[]):
            real = network(**config)
        real.load_state_dict(model.state_dict())
        model = real
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module, "weight") and not module.weight.isfinite().all():
            raise ValueError(f"{name} has a direction of zeros, which weight normalisation divides by")
    return model
