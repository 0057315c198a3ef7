"""Scores under noise, as CSAKD's Table II has them."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from lkcanet.metrics import Metrics

Level = float | None  # dB of noise; None is none

Scores = Mapping[Level, Mapping[str, "Metrics"]]


def heading(level: Level) -> str:
    """ "25 dB", "clean" """
    return "clean" if level is None else f"{level:g} dB"


def noise_table(scores: Scores, title: str) -> "Table":
    """MPSNR / SAM of each method at each level of noise, and their mean over all of these."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), box=SIMPLE_HEAD, title_justify="left")
    table.add_column("MPSNR (dB) / SAM (°)")
    for name in (*map(heading, scores), "average"):
        table.add_column(name, justify="right", no_wrap=True)
    for method in next(iter(scores.values())):
        rows = [scores[level][method] for level in scores]
        cells = [(row["mpsnr"], row["sam"]) for row in rows]
        cells.append((_mean([psnr for psnr, _ in cells]), _mean([angle for _, angle in cells])))
        table.add_row(Text(method), *(f"{psnr:.3f} / {angle:.3f}" for psnr, angle in cells))
    return table


def noise_facts(scores: Scores) -> list[dict[str, Any]]:
    """The same for a program, with all scores: an entry for each method and level; `snr` is null where clean."""
    return [{"method": name, "snr": level, **row} for level, rows in scores.items() for name, row in rows.items()]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
