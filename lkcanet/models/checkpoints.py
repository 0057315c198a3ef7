"""Networks in safetensors files: weights, and in the metadata what builds the network again."""

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..common.files import atomic_path
from ..common.optional import require
from .foreign import ADVICE, WRAPPERS, bare_keys, is_saved_by_torch, read_saved, unwrapped, unwrapped_keys
from .registry import KINDS, UNNAMED, Network

_FORMAT = "lkcanet-1"
# entries of a config that say how many times a part with weights of its own is repeated
_REPEATS = ("blocks", "counts", "stages", "layers", "depth")


def save_model(model: Network, path: str | Path, *, extra: Mapping[str, Any] | None = None) -> None:
    """Write a network to a safetensors file, under its final name only once complete.

    The tensors have the keys of `model.state_dict()` (torch's parametrization keys where weights are normalised); the
    metadata holds the kind of the network (see `KINDS`), the constructor's arguments as JSON, and a checksum of all:
    safetensors itself has none.

    Args:
        model: of a registered kind; folded or not; also in DataParallel or compiled, or with compiled parts.
        path: ends in .safetensors.
        extra: more to keep in the metadata, JSON-serialisable, such as the scene's peak.

    Raises:
        ValueError: another suffix, or a network that is not of a registered kind.
        OSError: the file can't be written; nothing is left under `path`.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"path must end in .safetensors, got {str(path)!r}")
    inner: Any = unwrapped(model, _is_known)  # of a compiled network, or one that trained on several devices
    kind = getattr(inner, "kind", "")
    if not _is_known(inner):
        raise ValueError(f"model must be of a registered kind ({', '.join(KINDS)}), got {type(model).__name__}")
    metadata = {"format": _FORMAT, "kind": kind, "config": json.dumps(inner.config)}
    metadata["extra"] = json.dumps(dict(extra or {}))
    state = {key: tensor.detach().contiguous() for key, tensor in inner.state_dict().items()}
    state = bare_keys(state, ("_orig_mod",))  # where parts of it are compiled
    metadata["sha256"] = _digest(metadata, state)
    data = require("safetensors.torch", extra="io").save(state, metadata)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def load_model(path: str | Path) -> Network:
    """The network that `save_model` wrote, in eval mode on the CPU.

    Keys of a network in a wrapper (module., _orig_mod.) are taken as the network's own, with a warning. Of a file that
    torch.save wrote (.pth, .pt) tensors and numbers alone are read: a dict with the network's "config" and
    "state_dict", and "kind" where that is not lkcanet.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a complete safetensors file, not one of `save_model`, corrupt, or its weights do not fit its
            config or are NaN or infinite; a file of torch.save that does not name its network, or holds other objects.
    """
    return load_model_and_extra(path)[0]


def load_model_and_extra(path: str | Path) -> tuple[Network, dict[str, Any]]:
    """As `load_model`, with the `extra` that was saved."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    saved = is_saved_by_torch(path)
    metadata, state = read_saved(path) if saved else _read(path)
    try:
        network = _class_of(metadata.get("kind", UNNAMED))
        model, wrappers = _built(network, json.loads(metadata["config"]), state)
        extra = json.loads(metadata.get("extra", "{}"))
        if not isinstance(extra, dict):
            raise ValueError(f"the extra of its metadata must be an object, got {type(extra).__name__}")
    except (KeyError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:  # RecursionError among them
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} does not hold a network of this version: {reason[:300]}") from error
    if wrappers:
        names = " and ".join(f"{name}. ({WRAPPERS[name]})" for name in wrappers)
        warnings.warn(f"{path}: its keys name wrappers of the network, {names}: left out", stacklevel=3)
    return model.eval(), extra


def _is_known(model: nn.Module) -> bool:
    kind = getattr(model, "kind", "")
    return kind in KINDS and isinstance(model, KINDS[kind])


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a file of `save_model`."""
    safetensors = require("safetensors", extra="io")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is not a complete safetensors file: {error}") from error
    if metadata.get("format") != _FORMAT:
        raise ValueError(
            f"{path} is not a checkpoint of lkcanet: its metadata has format {metadata.get('format')!r}; {ADVICE}"
        )
    told = metadata.get("sha256")  # other tools may write files without one
    if told not in (None, _digest(metadata, state)) and told != _digest(metadata, _bare(state)):
        raise ValueError(f"{path} is corrupt: its content does not have the checksum that it was written with")
    return metadata, state


def _bare(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As they were before a wrapper renamed them; as they are where that is not to be told."""
    try:
        return bare_keys(state)
    except ValueError:
        return state


def _digest(metadata: Mapping[str, str], state: Mapping[str, Tensor]) -> str:
    """SHA-256 of what makes the network: kind (but the first, which older files don't name), config, extra, and every
    tensor's key, dtype, shape and bytes."""
    kind = metadata.get("kind", UNNAMED)
    facts = [metadata.get("config"), metadata.get("extra"), *([] if kind == UNNAMED else [kind])]
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


def _built(network: type[Network], config: Any, state: dict[str, Tensor]) -> tuple[Network, list[str]]:
    """The network, in float32, and the wrappers that its keys named. A damaged config costs neither memory nor time:
    what it describes is compared with what the file holds before anything is allocated."""
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
    state, wrappers = unwrapped_keys(state, model.state_dict())
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
    return model, wrappers
