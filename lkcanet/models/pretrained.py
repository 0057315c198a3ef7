"""Trained networks by name: those of the package, and of folders of your own.

    network = lkcanet.load("lkca-res-cave-x4")      # or the path of a checkpoint
    print(lkcanet.models.pretrained.card("lkca-res-cave-x4").text())

A name is two files, NAME.safetensors and its card NAME.json, in the package's folder `weights` or in one of the folders
that the environment variable LKCANET_WEIGHTS lists (as PATH does); where several have a name, the package's stands,
then the first of the list.
"""

import hashlib
import itertools
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..common.files import atomic_path
from .cards import Card, card_from
from .checkpoints import load_model, load_model_and_extra, save_model
from .foreign import SAVED
from .registry import Network

__all__ = ["Card", "card", "fitting", "load", "locate", "names", "path", "publish", "stored"]

FOLDERS = "LKCANET_WEIGHTS"
PACKAGED = Path(__file__).parents[1] / "weights"
LIMIT = 10_000_000  # bytes of weights and cards in a folder
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# entries of a card that `publish` finds out by itself
_OWN = ("name", "network", "scale", "bands", "parameters", "macs_16x16", "dtype", "sha256")


def names() -> list[str]:
    """All names, sorted."""
    return sorted({file.stem for folder in _folders() for file in folder.glob("*.json") if _pair(folder, file.stem)})


def path(name: str) -> Path:
    """The file of weights.

    Raises:
        FileNotFoundError: no such name; lists those that there are.
        ValueError: the card is damaged, or is not that of the weights.
    """
    file = _file(name)
    told = _card(file)
    if hashlib.sha256(file.read_bytes()).hexdigest() != told.sha256:
        raise ValueError(f"{file} is not the file that its card {name}.json was written for: its checksum is another")
    return file


def card(name: str) -> Card:
    """What there is to say about a network. Raises FileNotFoundError, ValueError: as `path`."""
    return _card(_file(name))


def load(checkpoint: str | os.PathLike[str]) -> Network:
    """The trained network of this name or file, in eval mode on the CPU, float32.

    Args:
        checkpoint: a name, see `names`; or a file, as `lkcanet.models.load_model` takes it. A file that is there wins.

    Raises:
        FileNotFoundError: neither a file nor a name; lists the names.
        ValueError: as `lkcanet.models.load_model`.
    """
    return load_model(locate(checkpoint))


def locate(checkpoint: str | os.PathLike[str]) -> Path:
    """The checkpoint's file, by path or name: a file that is there wins. A path that looks like a file's but is none is
    returned as it is.

    Raises:
        FileNotFoundError: no file, and no such name; lists the names.
        ValueError: as `path`.
    """
    file = Path(checkpoint)
    if file.is_file() or str(file) != file.name or file.suffix.lower() in (".safetensors", *SAVED):
        return file
    return path(str(file))


def fitting(bands: int, wavelengths: Sequence[float] | None = None, scale: int | None = None) -> list[str]:
    """Names of the networks for scenes of so many bands; of these wavelengths and this scale, where given: each within
    half the network's spacing."""
    found = []
    for name in names():
        try:
            told = card(name)
        except ValueError:  # a damaged card fits nothing; it is told of where it is asked for
            continue
        if told.bands != bands or scale not in (None, told.scale):
            continue
        if wavelengths is None or told.wavelengths is None or same_bands(told.wavelengths, wavelengths):
            found.append(name)
    return found


def same_bands(own: Sequence[float], others: Sequence[float]) -> bool:
    """Whether the wavelengths `others`, in nm, are those of a network: as many, each within half a spacing of its own
    (the median distance of neighbours) from the network's."""
    if len(own) != len(others):
        return False
    steps = sorted(abs(b - a) for a, b in itertools.pairwise(own))
    allowed = steps[len(steps) // 2] / 2 if steps else 5.0
    return all(abs(b - a) <= allowed for a, b in zip(own, others, strict=True))


def publish(
    checkpoint: str | os.PathLike[str],
    name: str,
    card: Mapping[str, Any],
    *,
    dtype: str = "float32",
    folder: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a trained network and its card under a name; both are there in the end, or what was there before.

    The network is folded. Wavelengths and peak that the card gives and the checkpoint's record lacks get into the
    record, so that commands know them.

        publish("run/best.safetensors", "lkca-res-cave-x4", {
            "data": {"name": "CAVE, 20 scenes", "terms": "research use, cite", "citation": "Yasuma et al., 2010"},
            "protocol": "...", "wavelengths": [400, ..., 700], "peak": 65535, "test_looks": 1, "notes": ["..."],
            "scores": {"mean": {"mpsnr": 38.2, ...}, "images": {"jelly_beans": {...}, ...}},
            "training": {"commit": "...", "command": "lkca distill ...", "machine": "...", "hours": 5.5},
        }, dtype="bfloat16")

    Args:
        checkpoint: the file of a network, or a name.
        name: lower-case letters, digits and hyphens.
        card: the entries of `Card` but for name, network, scale, bands, parameters, macs_16x16, dtype and sha256.
        dtype: "float32", or "bfloat16" for all parameters of two axes or more: a vector (bias, gain, norm) costs
            nothing and stays float32. Score what was published, not what it was made of.
        folder: where; the package's by default.
        overwrite: replace a network of this name.

    Returns:
        The file of weights.

    Raises:
        ValueError: a name or dtype that is none, an entry of the card that is missing, not known or contradicts the
            checkpoint, more than 10 MB in the folder.
        FileExistsError: the name is taken.
        FileNotFoundError, OSError: as `load_model`, or the folder can't be written.
    """
    if re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) is None:
        raise ValueError(f"name must be lower-case letters and digits, with hyphens between, got {name!r}")
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if taken := sorted(set(_OWN) & card.keys()):
        raise ValueError(f"card: {', '.join(taken)} follow from the checkpoint: leave them out")
    place = PACKAGED if folder is None else Path(folder)
    weights, told = place / f"{name}.safetensors", place / f"{name}.json"
    if not overwrite and (weights.exists() or told.exists()):
        raise FileExistsError(f"{name} is in {place} already: choose another name, or overwrite it")
    model, extra = load_model_and_extra(locate(checkpoint))
    model = model.fold().eval()
    facts, extra = _joined(card, extra)
    own: dict[str, Any] = {"name": name, "network": {"kind": model.kind, "config": model.config}, "scale": model.scale}
    own |= {"bands": model.bands, "parameters": model.parameter_count(), "macs_16x16": int(model.macs(16, 16))}
    own |= {"dtype": dtype, "sha256": "-"}
    card_from({**facts, **own}, name)  # what it lacks is said before anything is written
    _round(model, dtype)
    with atomic_path(weights) as new_weights, atomic_path(told) as new_card:
        save_model(model, new_weights, extra={**extra, "pretrained": name})
        _check_reads_back(new_weights, model)
        own["sha256"] = hashlib.sha256(new_weights.read_bytes()).hexdigest()
        new_card.write_text(json.dumps(card_from({**facts, **own}, name).as_dict(), indent=1, allow_nan=False) + "\n")
        others = [file for file in place.iterdir() if file.suffix in (".safetensors", ".json")]
        size = sum(file.stat().st_size for file in {*others, new_weights, new_card} - {weights, told})
        if size > LIMIT:
            raise ValueError(f"{place} would hold {size / 1e6:.1f} MB with {name}, more than {LIMIT / 1e6:g} MB")
    return weights


def stored(model: Network, dtype: str = "bfloat16") -> Network:
    """The network as `publish` stores it and `load` gives it back: folded, in float32, its weights rounded."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    folded = model.fold().eval()
    _round(folded, dtype)
    return folded.float()


def _round(model: Network, dtype: str) -> None:
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data = parameter.data.to(DTYPES[dtype])


def _joined(card: Mapping[str, Any], extra: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Card and record of a checkpoint, each with the wavelengths and the peak of the other."""
    facts, scene = dict(card), dict(extra.get("scene") or {})
    for name, known in (("wavelengths", scene.get("wavelengths")), ("peak", extra.get("peak"))):
        given = facts.get(name)
        if given is not None and known is not None and given != known:
            raise ValueError(f"card: {name} is {given!r:.80}, in the checkpoint {known!r:.80}")
        facts[name] = known if given is None else given
    if facts["wavelengths"] is not None:
        facts["wavelengths"] = scene["wavelengths"] = [float(nm) for nm in facts["wavelengths"]]
    return facts, {**extra, "peak": facts["peak"], **({"scene": scene} if scene else {})}


def _check_reads_back(file: Path, model: Network) -> None:
    read = load_model(file).state_dict()
    for key, tensor in model.state_dict().items():
        if not torch.equal(read[key], tensor.float()):
            raise ValueError(f"{key} does not read back as it was written: {model.kind} can't be published")


def _folders() -> list[Path]:
    own = [Path(part) for part in os.environ.get(FOLDERS, "").split(os.pathsep) if part]
    return [folder for folder in (PACKAGED, *own) if folder.is_dir()]


def _pair(folder: Path, name: str) -> bool:
    return all((folder / f"{name}{suffix}").is_file() for suffix in (".safetensors", ".json"))


def _file(name: str) -> Path:
    for folder in _folders():
        if _pair(folder, name):
            return folder / f"{name}.safetensors"
    known = ", ".join(names()) or f"none in this installation; {FOLDERS} may list folders of them"
    raise FileNotFoundError(f"no checkpoint at {name}, and no pretrained network of that name: {known}")


def _card(weights: Path) -> Card:
    file = weights.with_suffix(".json")
    try:
        values = json.loads(file.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} is no card: {error}") from error
    return card_from(values, str(file))
