"""A report as Markdown, as a page of HTML that refers to nothing, and as tables for a terminal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..common.optional import require
from ..common.pages import Block, Heading, Items, Picture, Text, render
from ..common.pages import Table as Sheet
from ..common.ssim import WINDOWS
from ..evaluation.tables import COLUMNS

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["markdown", "page", "table"]

# key: heading, decimals
HEADINGS: dict[str, tuple[str, int]] = {
    "parameters": ("Params (M)", 3),
    "macs": ("MACs (G)", 3),
    **{key: (heading, 4) for key, (heading, _, _) in COLUMNS.items()},
    "rank": ("Rank at 90 %", 0),
    "upsampler": ("Upsampler (% of parameters)", 1),
    "psnr_peak": ("PSNR of each band's peak (dB) ↑", 3),
    "rmse_counts": ("RMSE (counts) ↓", 3),
}
# under noise: "psnr_25" at 25 dB, "psnr_clean" without, "psnr" the mean; so "sam_25"
NOISY = {"psnr": "PSNR (dB) ↑", "sam": "SAM (°) ↓"}
RUN_HEAD = ("run", "network", "steps", "ended by", "minutes", "best step")


def _groups(report: Mapping[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Rows by data and scale, in their order."""
    groups: dict[str, list[dict[str, Any]]] = {}
    together = report["entry"]["kind"] == "rank"
    for row in report["rows"]:
        title = f"x{row['scale']}" if together else f"{row['data']} x{row['scale']}"
        groups.setdefault(f"{title}, MSI of {row['response']}" if row["response"] else title, []).append(row)
    return list(groups.items())


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    found = dict.fromkeys(
        key for row in rows for part in (row["printed"], row["ours"]) for key, value in (part or {}).items()
        if value is not None
    )  # fmt: skip
    order = list(HEADINGS)
    return sorted(found, key=lambda key: order.index(key) if key in order else len(order))


def _lines(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[tuple[str, str, list[str]]]:
    """Of each row what there is: kind ("printed", "ours", "difference", "none"), name and cells."""
    lines = []
    for row in rows:
        name = row["row"]
        if row["printed"] is not None:
            lines.append(("printed", f"{name} (paper)", [_cell(row["printed"].get(key), key) for key in columns]))
        if row["ours"] is None:
            if row["printed"] is None:
                lines.append(("none", name, [""] * len(columns)))
            continue
        cells = []
        for key in columns:
            text = _cell(row["ours"].get(key), key)
            if key in row["spread"]:
                text += f" ± {_cell(row['spread'][key], key)}"
            cells.append(text)
        lines.append(("ours", f"{name} (ours)", cells))
        if row["difference"]:
            cells = [_cell(row["difference"].get(key), key, "+") for key in columns]
            lines.append(("difference", f"{name}: difference", cells))
    return lines


def _reasons(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why there are no values of ours, each reason once with the rows that it is of."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row["why"]:
            found.setdefault(row["why"], []).append(row["row"])
    return [f"{'; '.join(names)}: {why}" for why, names in found.items()]


def _cell(value: float | None, key: str, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.{_heading(key)[1]}f}"


def _heading(key: str) -> tuple[str, int]:
    """Of a column: heading and decimals."""
    name, _, level = key.partition("_")
    if key in HEADINGS:
        return HEADINGS[key]
    if name not in NOISY:
        return key, 3
    return f"{NOISY[name]}, {level if level == 'clean' else f'{level} dB'}" if level else f"{NOISY[name]}, mean", 3


def _head(columns: Sequence[str]) -> list[str]:
    return [_heading(key)[0] for key in columns]


def _notes(report: Mapping[str, Any]) -> list[str]:
    """What was chosen here, and where the rest stands."""
    notes = [report["entry"]["ours"], *report["recipe"]["ours"]]
    if "mssim" in _columns(report["rows"]):
        notes.append(f"MSSIM is of {WINDOWS[report['ssim']]}")
    notes += dict.fromkeys(f"{row['row']}: {row['note']}" for row in report["rows"] if row["note"])
    notes += [f"{run['id']} ({run['network']}): {text}" for run in report["runs"] for text in run["warnings"]]
    return [note for note in notes if note]


def markdown(report: Mapping[str, Any], pictures: Sequence[str] = ()) -> str:
    """The report as GitHub Markdown. `pictures`: names of files beside it."""
    text = [f"# {_title(report)}", "", f"{report['paper']['title']}, {report['paper']['source']}.", ""]
    text += [report["entry"]["why"] or report["budget"]["text"], ""]
    for title, rows in _groups(report):
        columns = _columns(rows)
        text += [f"## {title}", "", _bar(["", *_head(columns)]), _bar(["---", *["---:"] * len(columns)])]
        for kind, name, cells in _lines(rows, columns):
            text.append(_bar([f"**{name}**" if kind == "ours" else name, *cells]))
        text += ["", *(f"- {reason}" for reason in _reasons(rows)), ""]
    text += [line for name in pictures for line in (f"![{name}]({name})", "")]
    text += ["## Recipe", "", f"Of the paper: {report['recipe']['place']}.", "", "Chosen here:", ""]
    text += [f"- {note}" for note in _notes(report)]
    text += [f"- failed: {run}: {error}" for run, error in report["failed"].items()]
    if report["runs"]:
        text += ["", "## Runs", "", _bar(RUN_HEAD), _bar(["---"] * len(RUN_HEAD))]
        text += [_bar(cells) for cells in _runs(report)]
    return "\n".join([*text, ""])


def _runs(report: Mapping[str, Any]) -> list[list[str]]:
    return [
        [run["id"], run["network"], str(run["steps"]), run["ended_by"], f"{run['seconds'] / 60:.2f}",
         str(run["best_step"])]
        for run in report["runs"]
    ]  # fmt: skip


def _bar(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _title(report: Mapping[str, Any]) -> str:
    return f"{report['paper']['name']} {report['entry']['name']}: {report['entry']['title']}"


def page(report: Mapping[str, Any], pictures: "Sequence[Picture]" = ()) -> str:
    """The report as one HTML file that refers to nothing."""
    blocks: list[Block] = [Text(f"{report['paper']['title']}, {report['paper']['source']}.")]
    blocks.append(Text(report["entry"]["why"] or report["budget"]["text"], strong=True))
    for title, rows in _groups(report):
        columns = _columns(rows)
        lines = _lines(rows, columns)
        cells = [[name, *row] for _, name, row in lines]
        blocks += [Heading(title), Sheet(["", *_head(columns)], cells, [kind for kind, _, _ in lines])]
        blocks.append(Items(_reasons(rows)))
    for picture in pictures:
        blocks += [Heading(picture.title), picture]
    blocks += [Heading("Recipe"), Text(f"Of the paper: {report['recipe']['place']}."), Text("Chosen here:")]
    failed = [f"failed: {run}: {error}" for run, error in report["failed"].items()]
    blocks.append(Items([*_notes(report), *failed]))
    if report["runs"]:
        blocks += [Heading("Runs"), Sheet(RUN_HEAD, _runs(report))]
    return render(_title(report), blocks)


def table(report: Mapping[str, Any]) -> "list[Table]":
    """The report's tables for a terminal."""
    text = require("rich.text", extra="io").Text
    tables = []
    for title, rows in _groups(report):
        columns = _columns(rows)
        made: Table = require("rich.table", extra="io").Table(
            title=text(title), box=require("rich.box", extra="io").SIMPLE_HEAD, title_justify="left"
        )
        made.add_column("Row")
        for heading in _head(columns) or [""]:
            made.add_column(heading, justify="right")
        for _, name, cells in _lines(rows, columns):
            made.add_row(text(name), *map(text, cells))
        made.caption, made.caption_justify = text("\n".join(_reasons(rows))), "left"
        tables.append(made)
    return tables
