"""A run: trained, or gone on with where it was interrupted; scored; its result beside it. Finished runs are kept."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from ..benchmark import facts
from ..common.files import atomic_path
from ..data import Prepared, PreparedSet, SpectralResponse, named_response
from ..evaluation import mean_scores, score_tests
from ..evaluation.scoring import named_scores
from ..models import Network, load_model, load_model_and_extra
from ..objectives import HObjective, Objective, objective_for
from ..training import TrainResult, distill, train
from ..training.result import BEST
from ..training.state import STATE
from .material import fingerprint, training_of
from .plan import Run

__all__ = [
    "RESULT",
    "bicubic",
    "bicubic_folder",
    "carry_out",
    "checkpoint_of",
    "file_of",
    "machine",
    "noise",
    "noise_file",
    "objective_of",
    "read",
    "result_of",
    "write_json",
]

RESULT = "result.json"
FORMAT = "lkcanet-reproduce-1"


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n")


def machine() -> dict[str, Any]:
    """What a run was made on."""
    return facts() | ({"device": torch.cuda.get_device_name()} if torch.cuda.is_available() else {})


def result_of(run: Run, folder: Path, data: Prepared | PreparedSet | None = None) -> dict[str, Any] | None:
    """What a finished run found; None where it has not ended.

    Raises:
        ValueError: it is of other data, or damaged.
    """
    return read(folder / run.id / RESULT, data)


def read(path: Path, data: Prepared | PreparedSet | None = None) -> dict[str, Any] | None:
    """A result, as `result_of`; None where there is none."""
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        if found["format"] != FORMAT:
            raise ValueError(f"its format is {found['format']!r}")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: remove {path.parent} ({error})") from error
    if data is not None and found["fingerprint"] != fingerprint(data):
        raise ValueError(f"{path} is of other data than {data.folder}: choose another --out")
    return found


def carry_out(
    run: Run, data: Prepared | PreparedSet, folder: Path, tell: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """The result of a run: read where it has ended, else trained from the start or from where it was interrupted.

    Its folder, folder/ID, holds what `lkcanet.training.train` leaves, and `result.json`, written last: scores on the
    test images of the checkpoint that is best on the validation, counts, options, curve, time and machine.

    Args:
        run: of `plan`; what it needs before must have ended.
        data: of its protocol and scale.
        folder: of the runs.
        tell: called with lines for the user.

    Raises:
        ValueError: a result of other data, a run that is missing before it, and what training raises.
        KeyboardInterrupt: after Ctrl-C or SIGTERM; the run goes on when it is called again.
    """
    if (found := result_of(run, folder, data)) is not None:
        tell(f"{run.id}: finished before")
        return found
    out = folder / run.id
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "run.json", {"format": FORMAT, "network": run.network, **run.facts()})
    resume = (out / STATE).is_file()
    tell(f"{run.id}: {run.network} x{run.scale}{', going on' if resume else ''}")
    trained = _train(run, data, folder, out, resume=resume)
    model, extra = load_model_and_extra(trained.best)
    tell(f"{run.id}: scoring {len(data.test_names)} test images")
    networks = {"ours": model} | _along(run.along, run, folder)
    how = _images(run, networks) | run.tested
    scores = score_tests(data, networks, band_peaks=True, **how)
    named = {name: named_scores(data.test_names, scores[name]) for name in networks}
    along = {
        name: {"parameters": each.parameter_count(), "macs_16x16": each.macs(16, 16), "scores": named[name]}
        for name, each in networks.items()
        if name in run.along
    }
    result = {
        "format": FORMAT,
        "id": run.id,
        "network": run.network,
        "run": run.facts(),
        "fingerprint": fingerprint(data),
        "parameters": model.parameter_count(),
        "macs_16x16": model.macs(16, 16),
        "steps": trained.steps,
        "ended_by": trained.ended_by,
        "seconds": trained.seconds,
        "best_step": extra["step"],
        "warnings": list(trained.warnings),
        "history": list(trained.history),
        "scores": named["ours"],
        **({"along": along} if along else {}),
        "machine": machine(),
    }
    write_json(out / RESULT, result)
    return result


def file_of(run: Run, folder: Path, along: str = "") -> Path:
    """The checkpoint of a run, or of what trained along with it."""
    return checkpoint_of(folder, run.id, along)


def checkpoint_of(folder: Path, run_id: str, along: str = "") -> Path:
    """The same, by the ID of the run."""
    return folder / run_id / (f"{along}.safetensors" if along else BEST)


def _along(names: Iterable[str], run: Run, folder: Path) -> dict[str, Network]:
    """Networks that trained along with a run, by name."""
    return {name: load_model(file_of(run, folder, name)) for name in names}


def _images(run: Run, names: Iterable[str]) -> dict[str, Any]:
    """How the images of a run are made, for `score_tests`."""
    response = _response(run)
    return {
        "psf_sigma": run.options.psf_sigma,
        "responses": {} if response is None else dict.fromkeys(names, response),
    }


def _response(run: Run) -> SpectralResponse | None:
    return None if run.response is None else named_response(run.response)


def noise(
    run: Run,
    data: Prepared | PreparedSet,
    folder: Path,
    snrs: Sequence[float],
    noise_on: Literal["both", "lowres"],
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, dict[str, Any]]:
    """The mean scores of a run that has ended under noise, of each dB as a text: by "ours" and what trained along.
    Computed once, kept in folder/ID/noise-both.json or noise-lowres.json.

    Args:
        run, data, folder, tell: as for `carry_out`.
        snrs, noise_on: see `lkcanet.evaluation.score_tests`.
    """
    path = noise_file(run, folder, noise_on)
    found = read(path, data)
    levels: dict[str, dict[str, Any]] = {} if found is None else found["levels"]
    missing = [snr for snr in snrs if f"{snr:g}" not in levels]
    if not missing:
        return levels
    networks = {"ours": load_model(file_of(run, folder))} | _along(run.along, run, folder)
    for snr in missing:
        tell(f"{run.id}: scoring under noise of {snr:g} dB")
        how = _images(run, networks)
        scores = score_tests(data, networks, snr=snr, noise_on=noise_on, band_peaks=True, **how)
        levels[f"{snr:g}"] = {name: dict(mean_scores(scores[name])) for name in networks}
    kept = {"format": FORMAT, "fingerprint": fingerprint(data), "levels": levels, "machine": machine()}
    write_json(path, kept)
    return levels


def noise_file(run: Run, folder: Path, noise_on: str) -> Path:
    """Where `noise` keeps its scores."""
    return folder / run.id / f"noise-{noise_on}.json"


def _train(run: Run, data: Prepared | PreparedSet, folder: Path, out: Path, *, resume: bool) -> TrainResult:
    for before in run.before:
        if result_of(before, folder, data) is None:
            raise ValueError(f"{run.id}: {before.id} has not ended, which it needs")
    model, (scenes, splits) = run.make(), training_of(data)
    given: dict[str, Any] = {"resume": resume, "overwrite": not resume}
    if run.start is not None:
        given["init"] = file_of(run.start, folder)
    if run.teacher is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.options.seed + 1)  # what learns along starts from the seed, too
            along = _along(run.along, run.start, folder) if run.start else {}
            objective = objective_of(run, model, along)
        return train(model, scenes, splits, run.options, out, msi=_response(run), objective=objective, **given)
    return distill(
        model, load_model(file_of(run.teacher, folder)), scenes, splits, run.options, run.distillation, out,
        teacher_file=run.teacher.id, **given,
    )  # fmt: skip


def objective_of(run: Run, model: Network, along: Mapping[str, Network] | None = None) -> Objective:
    """What a run without a teacher minimises. `along`: networks that train along, where they are not fresh ones."""
    if run.objective.get("name") == "h":
        return HObjective.of(run.options)
    own = {key: value for key, value in run.objective.items() if not along or key != "teacher_counts"}
    return objective_for(model, run.options, **own, **(along or {}))


def bicubic(data: Prepared | PreparedSet, folder: Path, name: str, psf_sigma: float | None = None) -> dict[str, Any]:
    """The scores of bicubic on the test images; computed once, kept in folder/NAME-xR-bicubic.

    Args:
        data, folder: as for `carry_out`.
        name: of the data in the recipe; a set that stands in a recipe's place has a protocol of another name.
        psf_sigma: of the LR images, see `TrainOptions`.
    """
    out = bicubic_folder(folder, name, data.scale, psf_sigma)
    if (found := read(out / RESULT, data)) is not None:
        return found
    images = score_tests(data, {}, psf_sigma=psf_sigma, band_peaks=True)["bicubic"]
    result = {
        "format": FORMAT,
        "id": out.name,
        "network": "bicubic",
        "fingerprint": fingerprint(data),
        "scores": named_scores(data.test_names, images),
        "machine": machine(),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / RESULT, result)
    return result


def bicubic_folder(folder: Path, name: str, scale: int, psf_sigma: float | None = None) -> Path:
    """Where `bicubic` keeps its scores."""
    return folder / f"{name}-x{scale}-bicubic{'' if psf_sigma is None else f'-psf{psf_sigma:g}'}"
