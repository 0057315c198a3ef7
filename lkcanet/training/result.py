"""What a run leaves behind: its files, and what is known of them."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["BEST", "LAST", "LOG", "TrainResult"]


BEST, LAST, LOG = "best.safetensors", "last.safetensors", "metrics.csv"


@dataclass(frozen=True)
class TrainResult:
    """What a run left behind.

    Attributes:
        best, last: checkpoints, to be read by `lkcanet.models.load_model`.
        log: the CSV file with every logged term.
        steps: that were taken.
        seconds: that they took, validation included.
        ended_by: "steps" or "time".
        best_step: the step of `best`; 0 is the fresh network, which is bicubic where it is an LKCA-Net.
        bicubic, validation: loss, l1, sam_loss, gradient, mpsnr and sam of the validation, of bicubic and at
            `best_step`.
        history: one entry a validation, with the step and the terms above, in order.
        resumed_from: the step that an interrupted run went on from; `steps` where it had ended already and nothing was
            done; None for a run without interruption.
        warnings: what speaks against using `best`: that it is the network of step 0, or that bicubic has a higher MPSNR
            on the validation.
    """

    best: Path
    last: Path
    log: Path
    steps: int
    seconds: float
    ended_by: str
    best_step: int
    bicubic: dict[str, float]
    validation: dict[str, float]
    history: tuple[dict[str, float], ...]
    resumed_from: int | None = None
    warnings: tuple[str, ...] = ()
