"""What a reproduction leaves: NAME.md, NAME.json and NAME.html, which opens without a network."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.files import atomic_path
from ..common.pages import picture_of, write_page
from ..common.plain_json import plain_json
from ..data import cave
from .outcomes import Outcome
from .pages import markdown, page
from .plan import Budget
from .recipes import Entry, Paper
from .running import machine, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["stem", "told", "write"]


def stem(paper: Paper, entry: Entry) -> str:
    """The name of the report's files."""
    return f"{paper.name}-{entry.name}"


def told(
    paper: Paper, entry: Entry, outcomes: Sequence[Outcome], budget: Budget, failed: Mapping[str, str]
) -> dict[str, Any]:
    """All that a report says, JSON-serialisable."""
    rows = []
    for one in outcomes:
        theirs = one.printed
        printed = None if theirs is None else {"parameters": theirs.parameters, "macs": theirs.macs, **theirs.values}
        ours = {"parameters": one.parameters, "macs": one.macs, **one.values} if one.values else None
        rows.append(
            {
                "row": one.name,
                "data": one.data,
                "scale": one.scale,
                "response": one.response,
                "printed": printed,
                "ours": ours,
                "spread": one.spread,
                "difference": one.difference,
                "why": one.why,
                "failed": one.failed,
                "note": one.note,
                "runs": [result["id"] for result in one.runs],
            }
        )
    runs = {result["id"]: result for one in outcomes for result in one.runs}
    return {
        "format": "lkcanet-reproduce-report-1",
        "paper": {"name": paper.name, "title": paper.title, "source": paper.source},
        "entry": {"name": entry.name, "title": entry.title, "kind": entry.kind, "ours": entry.ours, "why": entry.why},
        "ssim": cave.MSSIM if entry.data == "cave" else "uniform",
        "recipe": {"place": paper.place, "ours": list(paper.ours)},
        "budget": {**asdict(budget), "text": budget_text(budget, list(runs.values()))},
        "rows": rows,
        "runs": list(runs.values()),
        "failed": dict(failed),
        "machine": machine(),
    }


def budget_text(budget: Budget, runs: Sequence[Mapping[str, Any]]) -> str:
    """Which budget the trainings had, in a sentence or two."""
    course = {
        f"{options['steps']} steps" if options["steps"] else f"{options['epochs'] or 100} epochs"
        for options in (run["run"]["options"] for run in runs)
    }
    seeds = f"{budget.seeds} seeds each" if budget.seeds > 1 else "one seed each"
    if not runs:
        return "Nothing was trained."
    if budget.minutes is None:
        return f"Each network was trained for the recipe's whole course, {' or '.join(sorted(course))}; {seeds}."
    cut = [run for run in runs if run["ended_by"] == "time"]
    text = (
        f"Budget: at most {budget.minutes:g} minutes of training for each network, {seeds}. {len(cut)} of {len(runs)} "
        "trainings were ended by that clock, the learning rate having fallen with it."
    )
    if cut:
        text += (
            f" The paper's course is longer, {' or '.join(sorted(course))} by the recipe: these scores do not say what "
            "it leads to."
        )
    if any(run["run"]["distillation"] for run in cut):
        text += " The weight of the distillation falls by epochs, of which so short a course may see none."
    return text


def write(report: dict[str, Any], folder: Path, name: str, figures: "Sequence[tuple[str, str, Figure]]" = ()) -> Path:
    """The three files, and the pictures beside them; each is whole or as it was. Returns the page.

    Args:
        report: of `told`.
        folder: made where it is missing.
        name: of the files.
        figures: what each shows, a word for its file, and the figure. Curves named "curves" are drawn as SVG.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures, files = [], []
    for title, word, figure in figures:
        suffix = "svg" if word == "curves" else "png"
        pictures.append(picture_of(title, figure, suffix))
        files.append(f"{name}-{word}.{suffix}")
        with atomic_path(folder / files[-1]) as temporary:
            temporary.write_bytes(pictures[-1].data)
    write_json(folder / f"{name}.json", plain_json({**report, "pictures": files}))
    with atomic_path(folder / f"{name}.md") as temporary:
        temporary.write_text(markdown(report, files), "utf-8")
    write_page(folder / f"{name}.html", page(report, pictures))
    return folder / f"{name}.html"
