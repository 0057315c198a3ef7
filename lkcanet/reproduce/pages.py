"""A report as Markdown, as a page of HTML that refers to nothing, and as tables for a terminal."""

import base64
import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..common.optional import require
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
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1180px;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:1em 0;font-variant-numeric:tabular-nums}"
    "td,th{padding:.2em .7em;text-align:right;border-bottom:1px solid #ddd;white-space:nowrap}"
    "td:first-child,th:first-child{text-align:left}"
    "tr.ours td{font-weight:600}tr.difference td{color:#666}"
    "img{max-width:100%;display:block;margin:1em 0}"
)


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


def page(report: Mapping[str, Any], pictures: Sequence[tuple[str, str, bytes]] = ()) -> str:
    """The report as one HTML file that refers to nothing. `pictures`: what it shows, its type as "image/png", its
    bytes."""
    say = html.escape
    body = [f"<h1>{say(_title(report))}</h1>"]
    body.append(f"<p>{say(report['paper']['title'])}, {say(report['paper']['source'])}.</p>")
    body.append(f"<p><strong>{say(report['entry']['why'] or report['budget']['text'])}</strong></p>")
    for title, rows in _groups(report):
        columns = _columns(rows)
        head = "".join(f"<th>{say(cell)}</th>" for cell in ["", *_head(columns)])
        body.append(f"<h2>{say(title)}</h2><table><tr>{head}</tr>")
        for kind, name, cells in _lines(rows, columns):
            inner = "".join(f"<td>{say(cell)}</td>" for cell in cells)
            body.append(f'<tr class="{kind}"><td>{say(name)}</td>{inner}</tr>')
        body.append("</table><ul>")
        body += [f"<li>{say(reason)}</li>" for reason in _reasons(rows)]
        body.append("</ul>")
    for title, kind, data in pictures:
        source = f"data:{kind};base64,{base64.b64encode(data).decode()}"
        body.append(f'<h2>{say(title)}</h2><img alt="{say(title)}" src="{source}">')
    body.append(f"<h2>Recipe</h2><p>Of the paper: {say(report['recipe']['place'])}.</p><p>Chosen here:</p><ul>")
    body += [f"<li>{say(note)}</li>" for note in _notes(report)]
    body += [f"<li>failed: {say(run)}: {say(error)}</li>" for run, error in report["failed"].items()]
    body.append("</ul>")
    if report["runs"]:
        head = "".join(f"<th>{cell}</th>" for cell in RUN_HEAD)
        body.append(f"<h2>Runs</h2><table><tr>{head}</tr>")
        body += [f"<tr>{''.join(f'<td>{say(cell)}</td>' for cell in cells)}</tr>" for cells in _runs(report)]
        body.append("</table>")
    head = f'<meta charset="utf-8"><title>{say(_title(report))}</title><style>{STYLE}</style>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(body) + "\n</body></html>\n"


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
