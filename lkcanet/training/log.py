"""metrics.csv: one file through all interruptions of a run."""

import csv
import os
from pathlib import Path
from typing import Any

from ..common.optional import require

TERMS = ("loss", "l1", "sam_loss", "gradient")  # of a validation: H and its parts
VALIDATED = (*TERMS, "mpsnr", "sam")


class Log:
    """Rows as they come: those of training steps have the columns of their terms, those of validations the others.

    In place of Lightning's CSVLogger, which deletes the file of the run that it is to continue, and rewrites it in
    place when a column is added: a process killed there would lose it.

    Args:
        path: the file.
        terms: of the objective besides the loss: columns.
        size: bytes of the file to keep, when a run goes on; None starts anew.
        tensorboard: a folder for TensorBoard's files too, or None.
        step: what TensorBoard holds of later steps is marked as void.

    Raises:
        ValueError: the file is shorter than `size`.
    """

    def __init__(
        self, path: Path, terms: tuple[str, ...], size: int | None, tensorboard: Path | None, step: int
    ) -> None:
        columns = ["step", "epoch", "learning_rate", "loss", *terms]
        columns += [f"validation_{name}" for name in VALIDATED]
        if size is not None:
            check(path, size)
            os.truncate(path, size)
        self.file = path.open("w" if size is None else "a", newline="")
        self.writer = csv.DictWriter(self.file, columns, lineterminator="\n")
        if size is None:
            self.writer.writeheader()
        self.board: Any = None
        if tensorboard is not None:
            require("tensorboard", extra="train")
            from lightning.pytorch.loggers import TensorBoardLogger

            # steps from purge_step on that an interrupted run wrote are void
            self.board = TensorBoardLogger(tensorboard.parent, tensorboard.name, version="", purge_step=step + 1)

    def row(self, step: int, values: dict[str, float], *, board: bool = True) -> None:
        self.writer.writerow({"step": step, **values})
        self.file.flush()  # what is written survives the process's end
        if self.board is not None and board:
            self.board.log_metrics(values, step)

    def keep(self) -> int:
        """Bring all rows to the disk; the bytes that they take."""
        self.file.flush()
        os.fsync(self.file.fileno())
        if self.board is not None:
            self.board.save()
        return self.file.tell()

    def close(self) -> None:
        self.file.close()
        if self.board is not None:
            self.board.finalize("success")


def check(path: Path, size: int) -> None:
    """Raise a ValueError where the rows that a run wrote are not all there."""
    held = path.stat().st_size if path.is_file() else 0
    if held < size:
        raise ValueError(f"{path} holds {held} bytes, the interrupted run had written {size}: the run can't go on")
