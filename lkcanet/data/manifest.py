"""The manifest of a prepared folder: written last, and refused where it was changed or its scene is another."""

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

from lkcanet.data.formats import envi
from lkcanet.data.formats.kinds import FILES

MANIFEST, SCENE = "protocol.json", "scene.npy"
FORMAT = "lkcanet-protocol-1"  # one scene
SET_FORMAT = "lkcanet-set-1"  # many


def read_manifest(folder: Path) -> dict[str, Any]:
    """What `write_manifest` wrote; errors as `load_prepared`."""
    path, again = folder / MANIFEST, "prepare it again"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is no prepared folder: it holds no {MANIFEST}")
    try:
        manifest = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON, cut short? {again} ({str(error).splitlines()[0]})") from None
    if not isinstance(manifest, dict) or manifest.get("format") not in (FORMAT, SET_FORMAT):
        raise ValueError(f"{path} is not a manifest of this version, {FORMAT} or {SET_FORMAT}: {again}")
    if manifest.get("checksum") != _checksum(manifest):
        raise ValueError(f"{path} was changed after it was written: {again}")
    for entry in manifest["scenes"] if manifest["format"] == SET_FORMAT else [manifest["scene"]]:
        file = folder / entry["file"]
        if not file.is_file():
            raise FileNotFoundError(f"{folder} holds no {entry['file']}: {again}")
        if fingerprint(file) != entry["fingerprint"]:
            raise ValueError(f"{file} is not the file that {path} was written for: {again}")
    return manifest


def file_facts(path: Path) -> list[dict[str, Any]]:
    """The source by name, size and SHA-256; of an ENVI image the header and the data beside it."""
    beside = [path.with_suffix(".hdr"), path.with_name(path.name + ".hdr")]
    if path.suffix.lower() == ".hdr":
        beside = [path.with_suffix(suffix) for suffix in envi.SUFFIXES]
    paths = [path, *(other for other in beside if path.suffix.lower() not in FILES and other.is_file())]
    facts = []
    for each in paths:
        with each.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else _digest(file)
        facts.append({"name": each.name, "bytes": each.stat().st_size, "sha256": digest.hexdigest()})
    return facts


def _digest(file: Any) -> Any:
    """hashlib.file_digest, which Python 3.10 lacks."""
    digest = hashlib.sha256()
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest


def fingerprint(path: Path) -> str:
    """SHA-256 of a file's size and of 64 KiB at its start, its end and evenly between."""
    size, piece = path.stat().st_size, 1 << 16
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for part in range(64):
            file.seek(math.floor(part / 63 * max(size - piece, 0)))
            digest.update(file.read(piece))
    return digest.hexdigest()


def _checksum(manifest: dict[str, Any]) -> str:
    rest = {name: value for name, value in manifest.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    manifest = {**manifest, "checksum": _checksum(json.loads(json.dumps(manifest)))}
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(manifest, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
