"""`lkca info`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from . import _shared as shared
from ._options import takes_options
from ._reading import Reading


@takes_options
def info(
    path: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="A scene, a checkpoint or its name; without: versions, backends."),
    ] = None,
    *,
    reading: Reading,
    region: shared.Region = None,
    json: shared.Json = False,
) -> None:
    """Say what a scene or a checkpoint holds, or which versions and backends are here.

    Example: lkca info scene.mat --key Y --axes cp --size 100,100 --json
    """
    from lkcanet.common.installation import describe_installation
    from lkcanet.models import pretrained
    from lkcanet.models.foreign import SAVED

    if path is None:
        facts = {"kind": "installation", **describe_installation()}
    elif path.suffix.lower() in (".safetensors", *SAVED) or (not path.exists() and str(path) in pretrained.names()):
        facts = _checkpoint(path)
    else:
        from lkcanet.data import describe_scene

        facts = {"kind": "scene", "path": str(path), **describe_scene(reading.scene(path, region))}
    if json:
        shared.print_json(facts)
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            print(f"{name}:")
            for inner, entry in value.items():
                print(f"  {inner:16} {_short(entry)}")
        elif name == "backends":
            from lkops import backends

            print("backends (* runs float32 on the CPU when none is asked for):")
            for line in str(backends.status()).splitlines():
                print(f"  {line}")
        else:
            print(f"{name:18} {_system_name(value) if name == 'crs' and value else _short(value)}")


def _short(value: Any) -> str:
    if isinstance(value, list):
        texts = [f"{entry:g}" if isinstance(entry, float) else str(entry) for entry in value]
        return ", ".join(texts if len(texts) <= 8 else [*texts[:3], "...", texts[-1]])
    return f"{value:g}" if isinstance(value, float) else "-" if value is None else str(value)


def _system_name(crs: str) -> str:
    """The name inside a WKT text, the first in quotes."""
    return crs.split('"')[1] if crs.count('"') > 1 else crs


def _checkpoint(path: Path) -> dict[str, Any]:
    model, record = shared.load_checkpoint(path)
    return {
        "kind": "checkpoint",
        "path": str(path),
        "network": model.kind,
        "parameters": model.parameter_count(),
        "macs_16x16": model.macs(16, 16),
        "config": model.config,
        **{name: record.extra.get(name) for name in ("peak", "step", "scene", "split", "validation", "options")},
        **{name: record.extra[name] for name in ("msi", "objective") if name in record.extra},
    }
