"""Networks in safetensors files: weights, and in the metadata what builds the network again."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._files import atomic_path
from .._optional import require
from .lkcanet import LKCANet

_FORMAT = "lkcanet-1"


def save_model(model: LKCANet, path: str | Path, *, extra: Mapping[str, Any] | None = None) -> None:
    """Write a network to a safetensors file, under its final name only once complete.

    The tensors have the keys of `model.state_dict()` (torch's parametrization keys where weights are normalised); the
    metadata holds the constructor's arguments as JSON.

    Args:
        model: folded or not.
        path: ends in .safetensors.
        extra: more to keep in the metadata, JSON-serialisable, such as the scene's peak.

    Raises:
        ValueError: another suffix.
        OSError: the file can't be written; nothing is left under `path`.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"path must end in .safetensors, got {str(path)!r}")
    metadata = {"format": _FORMAT, "config": json.dumps(model.config), "extra": json.dumps(dict(extra or {}))}
    state = {key: tensor.detach().contiguous() for key, tensor in model.state_dict().items()}
    data = require("safetensors.torch", extra="io").save(state, metadata)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def load_model(path: str | Path) -> LKCANet:
    """The network that `save_model` wrote, in eval mode on the CPU.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a complete safetensors file, not one of `save_model`, or its weights do not fit its config.
    """
    return load_model_and_extra(path)[0]


def load_model_and_extra(path: str | Path) -> tuple[LKCANet, dict[str, Any]]:
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
    try:
        model = LKCANet(**json.loads(metadata["config"]))
        model.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} does not hold a network of this version: {reason[:300]}") from error
    return model.eval(), json.loads(metadata.get("extra", "{}"))
