"""`lkca info`."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from . import _shared as shared


def info(
    path: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A scene or a checkpoint; without one: versions, backends.")
    ] = None,
    key: shared.Key = None,
    axes: shared.Axes = None,
    size: shared.Size = None,
    peak: shared.Peak = None,
    nodata: shared.Nodata = None,
    drop_bad_bands: shared.DropBadBands = False,
    region: shared.Region = None,
    json: shared.Json = False,
) -> None:
    """Say what a scene or a checkpoint holds, or which versions and backends are here.

    Example: lkca info scene.mat --key Y --axes cp --size 100,100 --json
    """
    from lkcanet.models.foreign import SAVED

    if path is None:
        facts = _installation()
    elif path.suffix.lower() in (".safetensors", *SAVED):
        facts = _checkpoint(path)
    else:
        facts = _scene(
            path,
            shared.load_scene(path, key, axes, size, peak, region, nodata=nodata, drop_bad_bands=drop_bad_bands),
        )
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


def _scene(path: Path, scene: Any) -> dict[str, Any]:
    return {
        "kind": "scene",
        "path": str(path),
        "name": scene.name,
        "bands": scene.bands,
        "rows": scene.size[0],
        "columns": scene.size[1],
        "peak": scene.peak,
        **_values(scene),
        "wavelengths": None if scene.wavelengths is None else [float(nm) for nm in scene.wavelengths],
        "band_names": None if scene.band_names is None else list(scene.band_names),
        "invalid": 0.0 if scene.valid is None else 1 - float(scene.valid.mean()),  # share of pixels
        **_ground(scene.georeference),
    }


def _values(scene: Any) -> dict[str, float]:
    """Of the valid pixels, in units of the source; a band at a time."""
    rows = []
    for band in scene.pixels:
        seen = band if scene.valid is None else band[scene.valid]
        rows.append((float(seen.min()), float(seen.max()), float(seen.mean(dtype="float64"))))
    smallest, largest, mean = zip(*rows, strict=True)
    values = {"smallest": min(smallest), "largest": max(largest), "mean": sum(mean) / len(mean)}
    return {name: value * scene.peak for name, value in values.items()}


def _ground(georeference: Any) -> dict[str, Any]:
    if georeference is None:
        return {"transform": None, "pixel_size": None, "crs": None}
    a, b, _, d, e, _ = georeference.transform
    sides = [math.hypot(a, d), math.hypot(b, e)]
    return {"transform": list(georeference.transform), "pixel_size": sides, "crs": georeference.crs}


def _checkpoint(path: Path) -> dict[str, Any]:
    model, extra = shared.load_checkpoint(path)
    return {
        "kind": "checkpoint",
        "path": str(path),
        "network": model.kind,
        "parameters": model.parameter_count(),
        "macs_16x16": model.macs(16, 16),
        "config": model.config,
        **{name: extra.get(name) for name in ("peak", "step", "scene", "split", "validation", "options")},
        **{name: extra[name] for name in ("msi", "objective") if name in extra},
    }


def _version(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _installation() -> dict[str, Any]:
    import platform

    import torch

    import lkops

    packages = ("torch", "lightning", "numpy", "scipy", "h5py", "safetensors", "matplotlib", "typer")
    versions: dict[str, Any] = {"python": platform.python_version(), "lkops": lkops.__version__}
    versions |= {package: _version(package) for package in packages}
    rows = [
        {"operator": row.operator, "backend": row.backend, "automatic": row.automatic, "reason": row.reason}
        for row in lkops.backends.status()
    ]
    return {
        "kind": "installation",
        "versions": versions,
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "backends": rows,
    }
