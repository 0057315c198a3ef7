"""Tables of scores, for the terminal (rich) and for reports (Markdown)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lkcanet.common.optional import require
from lkcanet.common.ssim import SHORT, SSIM, WINDOWS, check_ssim
from lkcanet.evaluation.metrics import Metrics

if TYPE_CHECKING:
    from rich.table import Table

    from lkcanet.evaluation.no_reference import NoReference

__all__ = [
    "above_table", "metrics_markdown", "metrics_table", "no_reference_table", "noise_tables", "peaks_table",
    "scenes_table",
]  # fmt: skip

# key: heading, decimals, higher is better
COLUMNS = {
    "mpsnr": ("MPSNR (dB) ↑", 3, True),
    "mssim": ("MSSIM ↑", 4, True),
    "sam": ("SAM (°) ↓", 3, False),
    "cc": ("CC ↑", 4, True),
    "rmse": ("RMSE ↓", 4, False),
    "ergas": ("ERGAS ↓", 3, False),
}
# CSAKD's, where they were scored
PEAKS = {
    "psnr_peak": ("PSNR of each band's peak (dB) ↑", 3, True),
    "rmse_counts": ("RMSE (units of the file) ↓", 4, False),
}

NO_REFERENCE = {
    "consistency_mpsnr": ("LR-MPSNR (dB) ↑", 3),
    "consistency_sam": ("LR-SAM (°) ↓", 3),
    "consistency_rmse": ("LR-RMSE ↓", 5),
    "d_lambda": ("D_lambda ↓", 4),
}

SIZES = {"Params (M)": 1e6, "MACs (G)": 1e9}
Sizes = Mapping[str, tuple[float | None, float | None]]

_Cell = tuple[str, bool]


@dataclass(frozen=True)
class _Grid:
    """Headings, and per row a name and cells: text, and whether it is the best of its column."""

    headings: list[str]
    rows: list[tuple[str, list[_Cell]]]


def metrics_table(
    rows: Mapping[str, Metrics], *, title: str | None = None, sizes: Sizes | None = None, ssim: SSIM = "uniform"
) -> "Table":
    """Scores of several methods, a row each; in every column the best is bold.

    Args:
        rows: name of the method to its scores, from `lkcanet.evaluation.metrics.evaluate`. Scores that print alike are
            equally good; nan is shown as a dash and never the best. With a single row nothing is bold.
        title: line above the table.
        sizes: name of a method to its parameters and multiply-adds, as two columns before the scores; None and
            methods that are left out show a dash.
        ssim: of which SSIM the MSSIM of all rows is; a line under the table says it.

    Raises:
        ValueError: `rows` is empty or a row lacks a score.
    """
    check_ssim(ssim)
    return _rich(_metrics_grid(rows, sizes), title, f"MSSIM of {WINDOWS[ssim]}")


def scenes_table(rows: Mapping[str, Metrics], *, title: str | None = None, ssim: SSIM = "uniform") -> "Table":
    """Scores of one method, a row for each scene; nothing is bold, as scenes are no competitors.

    Args:
        rows: name of the scene, or "mean", to its scores.
        title: line above the table.
        ssim: as in `metrics_table`.

    Raises:
        ValueError: `rows` is empty or a row lacks a score.
    """
    check_ssim(ssim)
    grid = _metrics_grid(rows)
    plain = [(name, [(text, False) for text, _ in cells]) for name, cells in grid.rows]
    return _rich(_Grid(["Scene", *grid.headings[1:]], plain), title, f"MSSIM of {WINDOWS[ssim]}")


def above_table(rows: Mapping[str, Metrics], floor: float) -> "Table":
    """SAM of the pixels above a floor: `sam_above` of those rows that have it, the best bold."""
    title = f"the same, of pixels whose root mean square over the bands is above {floor:g}"
    return _rich(_grid(rows, {"sam_above": COLUMNS["sam"]}), title)


def no_reference_table(rows: "Mapping[str, NoReference]", *, title: str | None = None) -> "Table":
    """Scores without a reference, a row for each method; nothing is bold, since no detail is the best of all here.

    Args:
        rows: name of the method to its scores, of `lkcanet.evaluation.score_no_reference`.
        title: line above the table.
    """
    grid = []
    for name, scores in rows.items():
        values = [(dict(scores)[key], decimals) for key, (_, decimals) in NO_REFERENCE.items()]
        grid.append((name, [(number_text(value, decimals), False) for value, decimals in values]))  # type: ignore[arg-type]
    caption = (
        "LR-: of the result, degraded again, to the scene (consistency); D_lambda: change of the relations of bands.\n"
        "They say whether a result contradicts the scene, not how true its details are."
    )
    return _rich(_Grid(["Method", *(heading for heading, _ in NO_REFERENCE.values())], grid), title, caption)


def peaks_table(rows: Mapping[str, Metrics]) -> "Table":
    """CSAKD's scores, `psnr_peak` and `rmse_counts`, of those rows that have them; the best bold."""
    return _rich(_grid(rows, PEAKS), "the same, by CSAKD's definitions")


def noise_tables(
    levels: Mapping[float | None, Mapping[str, Metrics]],
    names: Mapping[str, str] | None = None,
    *,
    title: str | None = None,
) -> list["Table"]:
    """MPSNR and SAM of each method at each level of noise, and their mean over all of these: CSAKD's Table II.

    Args:
        levels: dB of noise (None is none) to method to its scores, the same methods at each; as `Scores.levels` of
            `lkcanet.evaluation.score`.
        names: what to call methods, where not by their own names.
        title: of the first table.
    """
    box = require("rich.box", extra="io")
    text = require("rich.text", extra="io").Text
    make = require("rich.table", extra="io").Table
    tables: list[Table] = []
    for key, head in (("mpsnr", "MPSNR (dB) ↑"), ("sam", "SAM (°) ↓")):
        first = title if not tables else None
        table = make(title=None if first is None else text(first), box=box.SIMPLE_HEAD, title_justify="left")
        table.add_column(head)
        for name in (*("clean" if level is None else f"{level:g} dB" for level in levels), "average"):
            table.add_column(name, justify="right", no_wrap=True)
        for method in next(iter(levels.values())):
            values: list[float] = [dict(rows[method])[key] for rows in levels.values()]  # type: ignore[misc]
            values.append(math.fsum(values) / len(values))
            table.add_row(text((names or {}).get(method, method)), *(f"{value:.3f}" for value in values))
        tables.append(table)
    return tables


def metrics_markdown(rows: Mapping[str, Metrics], *, ssim: SSIM = "uniform") -> str:
    """The table of `metrics_table` as GitHub Markdown, ending in a newline; the heading says which SSIM it is."""
    check_ssim(ssim)
    grid = _metrics_grid(rows)
    headings = [f"MSSIM ({SHORT[ssim]}) ↑" if heading == COLUMNS["mssim"][0] else heading for heading in grid.headings]
    return _markdown(replace(grid, headings=headings))


def _metrics_grid(rows: Mapping[str, Metrics], sizes: Sizes | None = None) -> _Grid:
    if not rows:
        raise ValueError("rows is empty, expected at least one method's scores")
    for name, scores in rows.items():
        if missing := [key for key in COLUMNS if key not in scores]:
            raise ValueError(f"rows[{name!r}] lacks {', '.join(missing)}")
    grid = _grid(rows, COLUMNS)
    if sizes is None:
        return grid
    counted = []
    for name, cells in grid.rows:
        counts = zip(sizes.get(name, (None, None)), SIZES.values(), strict=True)
        texts = ["-" if count is None else f"{count / unit:.3f}" for count, unit in counts]
        counted.append((name, [*((text, False) for text in texts), *cells]))
    return _Grid([grid.headings[0], *SIZES, *grid.headings[1:]], counted)


def _grid(rows: Mapping[str, Metrics], columns: Mapping[str, tuple[str, int, bool]]) -> _Grid:
    """Columns of those rows that have all of them."""
    found = {name: scores for name, scores in rows.items() if columns.keys() <= scores.keys()}
    each = [_column(list(found.values()), key, decimals, higher) for key, (_, decimals, higher) in columns.items()]
    headings = ["Method", *(heading for heading, _, _ in columns.values())]
    return _Grid(headings, [(name, list(cells)) for name, cells in zip(found, zip(*each, strict=True), strict=True)])


def _column(rows: list[Metrics], key: str, decimals: int, higher: bool) -> list[_Cell]:
    values: list[float] = [dict(scores)[key] for scores in rows]  # type: ignore[misc]
    texts = [number_text(value, decimals) for value in values]
    known = [(value, text) for value, text in zip(values, texts, strict=True) if not math.isnan(value)]
    best = (max if higher else min)(known)[1] if len(rows) > 1 and known else None
    return [(text, text == best) for text in texts]


def number_text(value: float, decimals: int) -> str:
    """A score in a table: a dash where there is none."""
    if math.isnan(value):
        return "-"
    return f"{value:.{decimals}f}" if math.isfinite(value) else "∞" if value > 0 else "-∞"


def _rich(grid: _Grid, title: str | None, caption: str | None = None) -> "Table":
    box = require("rich.box", extra="io")
    text = require("rich.text", extra="io").Text  # names may hold [brackets], which are no markup
    table: Table = require("rich.table", extra="io").Table(
        title=None if title is None else text(title),
        caption=caption,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        caption_justify="left",
    )
    for index, heading in enumerate(grid.headings):
        table.add_column(text(heading), justify="left" if index == 0 else "right", no_wrap=True)
    for name, cells in grid.rows:
        table.add_row(text(name), *(text(cell, style="bold" if best else "") for cell, best in cells))
    return table


def _markdown(grid: _Grid) -> str:
    lines = [grid.headings, ["---", *["---:"] * (len(grid.headings) - 1)]]
    lines += [[name, *(f"**{cell}**" if best else cell for cell, best in cells)] for name, cells in grid.rows]
    return "".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |\n" for line in lines)
