"""A run: trained, or gone on with where it was interrupted; scored; its result beside it. Finished runs are kept."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..benchmark import facts
from ..common.files import atomic_path
from ..data import Prepared, PreparedSet
from ..evaluation import score_tests
from ..evaluation.scoring import named_scores
from ..models import Network, load_model, load_model_and_extra
from ..objectives import HObjective, Objective, objective_for
from ..training import TrainResult, distill, train
from ..training.result import BEST
from ..training.state import STATE
from .material import fingerprint
from .plan import Run

__all__ = [
    "RESULT",
    "bicubic",
    "bicubic_folder",
    "carry_out",
    "machine",
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
        run: of `plan`; its teacher must have ended.
        data: of its protocol and scale.
        folder: of the runs.
        tell: called with lines for the user.

    Raises:
        ValueError: a set of scenes, a result of other data, a teacher that is missing, and what training raises.
        KeyboardInterrupt: after Ctrl-C or SIGTERM; the run goes on when it is called again.
    """
    if (found := result_of(run, folder, data)) is not None:
        tell(f"{run.id}: finished before")
        return found
    if not isinstance(data, Prepared):
        raise ValueError(f"{data.folder} is a set of scenes, recipes train on one: use lkca train")
    out = folder / run.id
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "run.json", {"format": FORMAT, "network": run.network, **run.facts()})
    resume = (out / STATE).is_file()
    tell(f"{run.id}: {run.network} x{run.scale}{', going on' if resume else ''}")
    trained = _train(run, data, folder, out, resume=resume)
    model, extra = load_model_and_extra(trained.best)
    tell(f"{run.id}: scoring {len(data.tests)} test images")
    scores = score_tests(data, {"ours": model}, psf_sigma=run.options.psf_sigma)
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
        "scores": named_scores(data.test_names, scores["ours"]),
        "machine": machine(),
    }
    write_json(out / RESULT, result)
    return result


def _train(run: Run, data: Prepared, folder: Path, out: Path, *, resume: bool) -> TrainResult:
    model = run.make()
    given: dict[str, Any] = {"resume": resume, "overwrite": not resume}
    if run.teacher is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.options.seed + 1)  # what learns along starts from the seed, too
            objective = objective_of(run, model)
        return train(model, data.scene, data.split, run.options, out, objective=objective, **given)
    file = folder / run.teacher.id / BEST
    if result_of(run.teacher, folder, data) is None:
        raise ValueError(f"{run.id}: its teacher {run.teacher.id} has not ended")
    return distill(
        model, load_model(file), data.scene, data.split, run.options, run.distillation, out,
        teacher_file=run.teacher.id, **given,
    )  # fmt: skip


def objective_of(run: Run, model: Network) -> Objective:
    """What a run without a teacher minimises."""
    if run.objective.get("name") == "h":
        return HObjective.of(run.options)
    return objective_for(model, run.options, **run.objective)


def bicubic(data: Prepared | PreparedSet, folder: Path, psf_sigma: float | None = None) -> dict[str, Any]:
    """The scores of bicubic on the test images; computed once, kept in folder/PROTOCOL-xR-bicubic. `psf_sigma`: of
    their LR images, see `TrainOptions`."""
    out = bicubic_folder(folder, data.protocol, data.scale, psf_sigma)
    if (found := read(out / RESULT, data)) is not None:
        return found
    images = score_tests(data, {}, psf_sigma=psf_sigma)["bicubic"]
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


def bicubic_folder(folder: Path, protocol: str, scale: int, psf_sigma: float | None = None) -> Path:
    """Where `bicubic` keeps its scores."""
    return folder / f"{protocol}-x{scale}-bicubic{'' if psf_sigma is None else f'-psf{psf_sigma:g}'}"
