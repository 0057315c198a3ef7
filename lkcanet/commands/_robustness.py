"""Scores under noise, as CSAKD's Table II has them."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from lkcanet.evaluation.metrics import Metrics

Level = float | None  # dB of noise; None is none

Scores = Mapping[Level, Mapping[str, "Metrics"]]


def heading(level: Level) -> str:
    """ "25 dB", "clean" """
    return "clean" if level is None else f"{level:g} dB"


def noise_tables(scores: Scores, names: Mapping[str, str], title: str) -> list["Table"]:
    """MPSNR and SAM of each method at each level of noise, and their mean over all of these.

    Args:
        scores: level to method to its scores, the same methods at each.
        names: what to call the methods.
        title: of the first table.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    tables: list[Table] = []
    for key, head in (("mpsnr", "MPSNR (dB) ↑"), ("sam", "SAM (°) ↓")):
        table = Table(title=None if tables else Text(title), box=SIMPLE_HEAD, title_justify="left")
        table.add_column(head)
        for name in (*map(heading, scores), "average"):
            table.add_column(name, justify="right", no_wrap=True)
        for method in next(iter(scores.values())):
            values = [dict(rows[method])[key] for rows in scores.values()]
            values.append(math.fsum(values) / len(values))  # type: ignore[arg-type]
            table.add_row(Text(names.get(method, method)), *(f"{value:.3f}" for value in values))
        tables.append(table)
    return tables


def noise_facts(scores: Scores) -> list[dict[str, Any]]:
    """The same for a program, with all scores: an entry for each method and level; `snr` is null where clean."""
    return [{"method": name, "snr": level, **row} for level, rows in scores.items() for name, row in rows.items()]
