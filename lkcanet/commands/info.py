"""`lkca info`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from . import _several as several
from . import _shared as shared
from ._options import takes_options
from ._reading import Reading


@takes_options
def info(
    path: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE...",
            help="A scene, a checkpoint or its name, several, a folder of scenes or a list (.txt, a path a line); "
            "without: versions, backends.",
        ),
    ] = None,
    *,
    reading: Reading,
    region: shared.Region = None,
    json: shared.Json = False,
) -> None:
    """Say what a scene or a checkpoint holds, or which versions and backends are here.

    Of several files one that fails is reported and the others go on; the exit code is 1 then. --json gives a list, in
    which those that failed have their error.

    Example: lkca info scene.mat --key Y --axes cp --size 100,100 --json
    """
    from lkcanet.common.installation import describe_installation

    if not path:
        _show({"kind": "installation", **describe_installation()}, json)
        return
    if len(path) > 1 and (others := [each for each in path if not _is_checkpoint(each)]):
        several.scenes_of(others)  # raises for all that are missing, or there twice, before anything is read
    files = [file for each in path for file in ([each] if _is_checkpoint(each) else several.scenes_of([each]))]
    if len(files) == 1:
        _show(_facts(files[0], reading, region), json)
        return
    first = True

    def tell(file: Path) -> dict[str, Any]:
        nonlocal first
        facts = _facts(file, reading, region)
        if not json:
            print(end="" if first else "\n")
            _show(facts, json)
        first = False
        return facts

    found, failed = several.each(files, tell, alone=False)
    if json:
        told = {str(one["scene"]): {"kind": "failed", "path": one["scene"], "error": one["error"]} for one in failed}
        told |= {facts["path"]: facts for facts in found}
        shared.print_json([told[str(file)] for file in files])
    several.end(failed, len(files), "files")


def _is_checkpoint(path: Path) -> bool:
    from lkcanet.models import pretrained
    from lkcanet.models.foreign import SAVED

    return path.suffix.lower() in (".safetensors", *SAVED) or (not path.exists() and str(path) in pretrained.names())


def _facts(path: Path, reading: Reading, region: str | None) -> dict[str, Any]:
    if _is_checkpoint(path):
        return _checkpoint(path)
    from lkcanet.data import describe_scene

    return {"kind": "scene", "path": str(path), **describe_scene(reading.scene(path, region))}


def _show(facts: dict[str, Any], json: bool) -> None:
    if json:
        shared.print_json(facts)
        return
    from lkcanet.data.georeference import system_name

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
        elif name != "crs" or value:
            print(f"{name:18} {_short(system_name(value) if name == 'crs' else value)}")


def _short(value: Any) -> str:
    if isinstance(value, list):
        texts = [f"{entry:g}" if isinstance(entry, float) else str(entry) for entry in value]
        return ", ".join(texts if len(texts) <= 8 else [*texts[:3], "...", texts[-1]])
    return f"{value:g}" if isinstance(value, float) else "-" if value is None else str(value)


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
