"""What the commands do with a folder of `lkca prepare`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.ssim import SSIM
from . import _shared as shared

if TYPE_CHECKING:
    from lkcanet.data import Prepared, PreparedSet, Scene, SpectralResponse, Split, TrainingRecord
    from lkcanet.evaluation.reported import Reported

    from ._reading import Reading
    from ._training import Given


def check_training(prepared: "Prepared", given: "Given", test: str | None) -> None:
    """Raise a ValueError for an option of a training that the prepared folder fixes."""
    fixed: dict[str, Any] = {"--test": test, "--train-region": given.train_region, "--validation": given.validation}
    fixed |= {**fixed_reading(given.reading), "--msi": given.msi_options.msi, "--psf-sigma": given.psf_sigma}
    refuse(prepared.folder, {name: (value, None) for name, value in fixed.items()})
    numbers = {
        "--scale": (given.scale, prepared.scale),
        "--patch": (given.patch, prepared.split.patch // prepared.scale),
        "--stride": (given.stride, prepared.split.stride),
        "--peak": (given.reading.peak, prepared.scene.peak),
    }
    refuse(prepared.folder, numbers)


def fixed_reading(reading: "Reading") -> dict[str, Any]:
    """The options of reading that a prepared folder leaves no choice in."""
    values: dict[str, Any] = {"--key": reading.key, "--axes": reading.axes, "--size": reading.size}
    values |= {"--bands": reading.bands, "--wavelengths": reading.wavelengths, "--nodata": reading.nodata}
    values["--nodata-in"] = None if reading.nodata_in == "any" else reading.nodata_in
    return {**values, "--drop-bad-bands": reading.drop_bad_bands or None, "--raw": reading.raw or None}


def refuse(path: Path, options: dict[str, tuple[Any, Any]]) -> None:
    """Raise for an option that was given and differs from what the prepared folder fixes (None: fixes for good)."""
    for name, (value, expected) in options.items():
        if value is not None and value != expected:
            what = "leave it out" if expected is None else f"there it is {expected:g}"
            raise ValueError(f"{name} {value} does not go with {path}, which `lkca prepare` made: {what}")


def print_scores(
    folder: Path,
    networks: Sequence[shared.Checkpointed],
    scale: int | None,
    floor: float,
    *,
    ensemble: bool,
    ssim: SSIM | None,
    per_image: bool,
    reported: bool,
    json: bool,
) -> None:
    """Print the scores of bicubic and networks on a prepared folder's test images."""
    from lkcanet.data import PreparedSet, load_prepared
    from lkcanet.evaluation import above_table, mean_scores, metrics_table, score_tests
    from lkcanet.evaluation.reported import reported as paper_rows
    from lkcanet.evaluation.scoring import ensemble_of, with_ensembles

    prepared = load_prepared(folder)
    refuse(folder, {"--scale": (scale, prepared.scale)})
    kind = prepared.ssim if ssim is None else ssim
    paper = paper_rows(prepared.protocol, prepared.scale) if reported else []
    if reported and not paper:
        raise ValueError(f"--reported: the paper has no table for protocol {prepared.protocol}, scale {prepared.scale}")
    for _, _, record in networks:
        if isinstance(prepared, PreparedSet):
            for doubt in record.doubts_of_set(prepared.test_names, prepared.peak):
                shared.note(f"warning: {doubt}")
        else:
            tell_doubts(record, prepared.scene, prepared.split)
    names = short_names([path for path, _, _ in networks])
    models = {name: model for name, (_, model, _) in zip(names, networks, strict=True)}
    responses: dict[str, SpectralResponse] = {}
    for name, (path, model, record) in zip(names, networks, strict=True):
        if record.psf_sigma is not None:
            raise ValueError(f"{path} was trained with --psf-sigma, {folder} has test images of MATLAB's bicubic")
        if model.msi_bands and (response := record.response) is not None:
            responses[name] = response
    scores = score_tests(
        prepared,
        models,
        responses=responses,
        floor=floor,
        ssim=kind,
        progress=lambda line: shared.note(f"note: {line}"),
        ensemble=ensemble,
    )
    means = {name: mean_scores(images) for name, images in scores.items()}
    rows_of = with_ensembles(models) if ensemble else models
    sizes: dict[str, tuple[float | None, float | None]] = {
        name: (model.parameter_count(), model.macs(16, 16)) for name, model in rows_of.items()
    }
    if json:
        methods = []
        files = dict(zip(names, (path for path, _, _ in networks), strict=True))
        files |= {ensemble_of(name): path for name, path in files.items()}
        for name in scores:
            parameters, macs = sizes.get(name, (None, None))
            facts = {"method": name, "checkpoint": files.get(name), "parameters": parameters, "macs_16x16": macs}
            methods.append({**facts, **means[name], "images": scores[name]})
        for row in paper:
            counts = {"parameters": row.parameters and row.parameters * 1e6, "macs_16x16": row.macs and row.macs * 1e9}
            told = {"source": "paper", "table": row.source, "ssim": row.ssim}
            methods.append({"method": row.method, **told, **counts, **row.scores})
        where = {"folder": folder, "protocol": prepared.protocol, "scale": prepared.scale, "peak": prepared.peak}
        where |= {"floor": floor, "ssim": kind}
        shared.print_json({**where, "tests": prepared.test_names, "scores": methods})
        return
    if paper:
        tell_of_paper(prepared, paper[0], kind)
    names_of_tests = prepared.test_names
    title = f"{folder}: {prepared.protocol} x{prepared.scale}, mean over {len(names_of_tests)} test images"
    rows = dict(means)
    for row in paper:
        name = f"{row.method} (paper)"
        rows[name] = row.scores
        sizes[name] = (row.parameters and row.parameters * 1e6, row.macs and row.macs * 1e9)
    shared.print_table(metrics_table(rows, title=title, sizes=sizes, ssim=kind))
    if floor:
        shared.print_table(above_table(means, floor))
    for number, test in enumerate(names_of_tests if per_image else ()):
        image = {name: images[number] for name, images in scores.items()}
        shared.print_table(metrics_table(image, title=f"test image {number + 1}, {test}", ssim=kind))


def tell_doubts(record: "TrainingRecord", scene: "Scene", split: "Split") -> None:
    """Warn where a network's training may have seen the test images, or knew other units."""
    for doubt in record.doubts(scene, split):
        shared.note(f"warning: {doubt}")


def tell_of_paper(prepared: "Prepared | PreparedSet", row: "Reported", ssim: SSIM) -> None:
    """Where the rows of a paper's table come from, and how far they compare."""
    from lkcanet.common.ssim import WINDOWS

    # SSPSR's scripts of Chikusei and CAVE say what they divide by
    stated = prepared.protocol in ("chikusei", "cave") and prepared.manifest["peak"]["rule"] != "given by the user"
    text = f"note: rows marked (paper) are those of its table, {row.source}"
    if not stated:
        text += "; it does not state its normalisation, on which MPSNR, MSSIM and RMSE depend"
    if row.ssim != ssim:
        text += f"; their MSSIM is of {WINDOWS[row.ssim]}, the other rows' of {WINDOWS[ssim]}: they do not compare"
    shared.note(text)


def short_names(paths: Sequence[Path]) -> list[str]:
    """Short names of checkpoints: the run's folder for best.safetensors, else the file's; whole paths where these are
    the same."""
    short = [path.parent.name if path.stem == "best" and path.parent.name else path.stem for path in paths]
    return [
        name if short.count(name) == 1 and name != "bicubic" else str(path)
        for name, path in zip(short, paths, strict=True)
    ]
