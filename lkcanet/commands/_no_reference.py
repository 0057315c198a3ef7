"""`lkca evaluate --no-reference`: what can be said of a real low-resolution scene, of which there is no truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _several as several
from . import _shared as shared
from ._fit import check_bands, prediction_reading, resampled_for

if TYPE_CHECKING:
    from lkcanet.evaluation.no_reference import NoReferenceScores

    from ._msi import MsiOptions
    from ._reading import Reading


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is scored, and how: options of `lkca evaluate`."""

    networks: Sequence[shared.Checkpointed]
    predictions: Sequence[Path]
    prediction_axes: str | None
    reading: "Reading"
    msi_options: "MsiOptions"
    region: str | None
    psf_sigma: float | None
    ensemble: bool
    resample: bool


def print_scores(scenes: Sequence[Path], asked: Asked, *, others: Mapping[str, Any], json: bool) -> None:
    """Print the scores of each scene, which is the low-resolution image itself.

    `others`: options by name that need the truth; one that was given is refused.
    """
    for option, value in others.items():
        if value:
            raise ValueError(f"{option} needs the true scene: it does not go with --no-reference")
    if not asked.networks and not asked.predictions:
        raise ValueError("--no-reference scores networks (--checkpoint) or finished results (--prediction): give one")
    if asked.region is not None and asked.predictions:
        raise ValueError("--region does not go with --prediction and --no-reference: give the whole scene")
    if asked.region == "test":
        raise ValueError("--region test is of the true scene: with --no-reference give rows,columns of the LR scene")

    found, failed = several.each(scenes, lambda one: _scored(one, len(scenes), asked), alone=len(scenes) == 1)
    if json:
        told = [{**one, "scores": [{"method": name, **row} for name, row in one["scores"].items()]} for one in found]
        shared.print_json(told[0] if len(scenes) == 1 else {"scenes": told, "failed": list(failed)})
    else:
        from lkcanet.evaluation.tables import no_reference_table

        for one in found:
            rows, columns = one["shape"][1:]
            title = f"{one['scene']}, {rows} x {columns} pixels, x{one['scale']}, without a reference"
            shared.print_table(no_reference_table(one["scores"], title=title))
    several.end(failed, len(scenes))


def _scored(path: Path, count: int, asked: Asked) -> dict[str, Any]:
    from lkcanet.data import read_scene
    from lkcanet.evaluation import score_no_reference

    reading, region, resample = asked.reading, asked.region, asked.resample
    models, msis = {}, {}
    if asked.networks:
        _, model, record = asked.networks[0]
        scene = reading.scene_for(path, model, record, region, resample=resample)
        for name, other, told in asked.networks:
            if not resample:
                check_bands(path, scene, other, told, resample)
            models[str(name)] = resampled_for(path, scene, other, told) if resample else other
            if other.msi_bands:
                msis[str(name)] = _msi(name, asked.msi_options, told, reading)
    else:
        scene = reading.scene(path, region)
    results = {str(file): several.result_of(file, path, count) for file in asked.predictions}
    how = prediction_reading(scene, asked.prediction_axes)
    scores: NoReferenceScores = score_no_reference(
        scene,
        models,
        predictions={name: read_scene(file, **how) for name, file in results.items()},
        psf_sigma=asked.psf_sigma,
        msis=msis,
        ensemble=asked.ensemble,
    )
    facts = {"scene": path, "region": region, "shape": scene.pixels.shape, "peak": scene.peak, "scale": scores.scale}
    return {**facts, "psf_sigma": asked.psf_sigma, "reference": None, "scores": scores.rows}


def _msi(path: Path, options: "MsiOptions", record: Any, reading: "Reading") -> Any:
    if options.msi is None:
        raise ValueError(f"{path} fuses an MSI with the scene, which can't be made of a low-resolution one: give --msi")
    return options.read(record, nodata=reading.nodata)
