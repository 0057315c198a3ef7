"""Tables and figures of the papers, run again: recipes, the runs that they need, and a report beside the printed.

paper = load("lkca-net")
done = reproduce(paper, paper.entry("table-7"), "results", data=["Pavia.mat"], budget=Budget(minutes=30))
print(done.page)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import figures, outcomes, report
from .listing import forecast, listing
from .loader import load, names
from .material import Material
from .outcomes import Outcome
from .plan import Budget, Cell, plan
from .recipes import Entry, Paper

__all__ = [
    "Budget", "Cell", "Entry", "Material", "Outcome", "Paper", "Reproduction", "forecast", "listing", "load", "names",
    "plan", "planned", "reproduce",
]  # fmt: skip


@dataclass(frozen=True)
class Reproduction:
    """What `reproduce` left: the HTML page (Markdown and JSON beside it), its rows, and runs that failed by ID."""

    page: Path
    rows: tuple[Outcome, ...]
    failed: Mapping[str, str]
    report: Mapping[str, Any]


def planned(
    paper: Paper,
    entry: Entry,
    out: str | Path,
    *,
    data: Sequence[str] = (),
    budget: Budget | None = None,
    rows: Sequence[str] = (),
    scales: Sequence[int] = (),
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[list[Cell], Material]:
    """The cells of a table and where their data is; arguments as of `reproduce`. Nothing is written."""
    named = dict.fromkeys(row.data or entry.data or "" for row in entry.rows if not row.why)
    material = Material(paper, data, Path(out), list(named) or [entry.data or ""], tell)
    if entry.kind == "weights" or entry.why:
        if rows or scales:
            raise ValueError(f"--rows and --scale choose among rows that are trained, of which {entry.name} has none")
        return [], material
    for name, scale in ((name, scale) for name in named if name in paper.sets for scale in entry.scales):
        material.there(name, scale)  # its bands count
    return plan(paper, entry, budget, rows=rows, scales=scales, bands=material.bands), material


def reproduce(
    paper: Paper,
    entry: Entry,
    out: str | Path,
    *,
    data: Sequence[str] = (),
    budget: Budget | None = None,
    rows: Sequence[str] = (),
    scales: Sequence[int] = (),
    tell: Callable[[str], None] = lambda _: None,
) -> Reproduction:
    """Run a table or figure of a paper, and write the report.

    Each training is a run in out/runs, which goes on after an interruption as `lkcanet.training.train` does, and is not
    run again once it has ended; equal runs are shared between rows and tables. The report, out/PAPER-NAME.md, .json and
    .html, is written anew after each run. Rows that can't be run are the paper's, with the reason.

    Args:
        paper, entry: of `load` and `Paper.entry`.
        out: folder of runs, prepared data and reports; made where it is missing.
        data: prepared folders, or files and folders that are prepared into out, as PATH or PROTOCOL=PATH.
        budget: minutes of a training, seeds, threads, devices.
        rows, scales: these alone; all if empty.
        tell: called with lines for the user.

    Returns:
        `Reproduction`; runs that failed are told of there, the others went on.

    Raises:
        ValueError: as `plan` and `Material`; a data set that does not fit its protocol.
        FileNotFoundError: data that is not there.
        KeyboardInterrupt: after Ctrl-C; the same call goes on.
    """
    out, budget = Path(out), budget or Budget()
    cells, material = planned(paper, entry, out, data=data, budget=budget, rows=rows, scales=scales, tell=tell)
    out.mkdir(parents=True, exist_ok=True)

    def wrote(failed: Mapping[str, str], *, ended: bool = False) -> Reproduction:
        if entry.why:
            found = outcomes.paper_only(paper, entry)
        elif entry.kind == "weights":
            found = outcomes.weights(paper, entry, material, out, tell)
        elif entry.kind == "parts":
            found = outcomes.count_parts(paper, cells, material.bands)
        else:
            found = outcomes.collected(entry, cells, material, out, failed)
        told = report.told(paper, entry, found, budget, failed)
        drawn = figures.figures_of(entry, found, material, out, pictures=ended)
        page = report.write(told, out, report.stem(paper, entry), drawn)
        return Reproduction(page, tuple(found), dict(failed), told)

    failed: dict[str, str] = {}
    if entry.kind in ("scores", "rank") and not entry.why:
        failed = outcomes.carry_out(cells, material, out, tell, after=wrote)
    return wrote(failed, ended=True)
