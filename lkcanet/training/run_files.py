"""What lies in a run's folder, read while the run goes on or after it."""

import csv
import os
from dataclasses import dataclass
from pathlib import Path

from ..common.runs import CONFIG
from ..data.record import TrainingRecord
from ..models import Network, load_model_and_extra
from .result import BEST, LOG

__all__ = ["Run", "read_run"]


@dataclass(frozen=True)
class Run:
    """A run.

    Attributes:
        folder: of the run.
        best: its best checkpoint.
        model: that network.
        record: what the checkpoint tells of its training.
        validations: an entry for each validation: `step`, `loss`, `l1`, `sam_loss`, `gradient`, `mpsnr`, `sam`.
        steps: an entry for each logged step of training: `step`, `learning_rate`, `loss` and the objective's terms.
        config: the text of the file of its options, None where it was not started by a command.
    """

    folder: Path
    best: Path
    model: Network
    record: TrainingRecord
    validations: tuple[dict[str, float], ...]
    steps: tuple[dict[str, float], ...]
    config: str | None

    @property
    def best_step(self) -> int | None:
        """Of the best checkpoint; None where it does not tell."""
        return self.record.extra.get("step")


def read_run(folder: str | os.PathLike[str]) -> Run:
    """Read the best checkpoint, the log and the options of a run.

    Raises:
        FileNotFoundError: no such folder, or one that holds no run.
        ValueError: a checkpoint or a log that is damaged.
    """
    folder = Path(folder)
    missing = [name for name in (BEST, LOG) if not (folder / name).is_file()]
    if missing:
        what = "no such folder" if not folder.exists() else f"holds no run: {' and '.join(missing)} missing"
        raise FileNotFoundError(f"{folder}: {what}; a run is what lkca train leaves in --out")
    model, extra = load_model_and_extra(folder / BEST)
    validations, steps = _log(folder / LOG)
    file = folder / CONFIG
    config = file.read_text("utf-8", "surrogateescape") if file.is_file() else None
    return Run(folder, folder / BEST, model, TrainingRecord(extra, str(folder / BEST)), validations, steps, config)


def _log(path: Path) -> tuple[tuple[dict[str, float], ...], tuple[dict[str, float], ...]]:
    """The rows of validations and of steps; a row that is still being written, the last, is left out: it has no end of
    the line yet, and its last number may be cut."""
    written = path.read_text("utf-8", "replace").rpartition("\n")[0]
    validations, steps = [], []
    for number, row in enumerate(csv.DictReader(written.splitlines()), 2):
        try:
            values = {str(key): float(value) for key, value in row.items() if value not in (None, "")}
            step = values.pop("step")
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"{path}: row {number} is damaged: {row!r:.120}") from None
        held = {
            key.removeprefix("validation_"): value for key, value in values.items() if key.startswith("validation_")
        }
        if held:
            validations.append({"step": step, **held})
        else:
            steps.append({"step": step, **values})
    return tuple(validations), tuple(steps)
