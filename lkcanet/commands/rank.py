"""`lkca rank`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import _shared as shared

if TYPE_CHECKING:
    from rich.table import Table

    from lkcanet.deploy.rank import RankReport


def rank(
    checkpoint: Annotated[
        list[Path] | None,
        typer.Argument(metavar="CHECKPOINT...", help="Networks, by file or name."),
    ] = None,
    share: Annotated[float, typer.Option(help="Of the sum of singular values, above 0, up to 1.")] = 0.9,
    energy: Annotated[bool, typer.Option("--energy", help="Shares of the squared singular values.")] = False,
    fresh: Annotated[
        shared.NetworkName | None,
        typer.Option(
            show_default="none",
            help="An untrained network of the paper's size, too: its rank is that of random numbers.",
        ),
    ] = None,
    bands: Annotated[int, typer.Option(help="Bands of --fresh.")] = 128,
    scale: Annotated[int, typer.Option(help="Upsampling factor of --fresh.")] = 4,
    size: Annotated[
        str, typer.Option(metavar="ROWS,COLUMNS", help="Low-resolution pixels that multiply-adds are counted for.")
    ] = "16,16",
    out: Annotated[
        Path | None, typer.Option(show_default="not drawn", help="Draw the shares to this file: .png, .pdf or .svg.")
    ] = None,
    json: shared.Json = False,
) -> None:
    """Say how few singular values carry the upsampler's weight, and what part of the network it is.

    The paper's Fig. 4: 90 % is reached at a rank of about 60 (Chikusei, Houston) and 130 (Pavia Center). Of a grouped
    upsampler, this is the rank of the stacked matrix, which the groups bound.

    Example: lkca rank run/best.safetensors other/best.safetensors --out rank.png
    """
    from lkcanet.deploy.rank import plot_ranks, rank_report
    from lkcanet.evaluation.figures import save_figure
    from lkcanet.models.capabilities import upsampler_of

    if not checkpoint and fresh is None:
        raise typer.BadParameter("give a checkpoint, or --fresh")
    if out is not None:
        shared.check_output(out, shared.FIGURES)
    rows, columns = shared.parse_pair(size, "--size")
    if rows < 1 or columns < 1:
        raise ValueError(f"--size must be 1,1 or more, got {size}")
    reports: dict[str, RankReport] = {}
    for path in checkpoint or ():
        model, _ = shared.load_able(path, upsampler_of)
        reports[str(path)] = rank_report(model, share, energy=energy, size=(rows, columns))
    if fresh is not None:
        model = shared.fresh_network(fresh, bands, scale)
        reports[f"{fresh} (fresh)"] = rank_report(model, share, energy=energy, size=(rows, columns))
    for name, report in reports.items():
        if report.weight == "direction":
            shared.note(f"note: the upsampler of {name} is still zero; taken is its direction, which is random")
    if out is not None:
        save_figure(plot_ranks(reports), out)
    if json:
        shared.print_json(
            {"out": out, "networks": [{"network": name, **report.as_dict()} for name, report in reports.items()]}
        )
        return
    shared.print_table(_table(reports))
    if out is not None:
        print(out)


def _table(reports: "dict[str, RankReport]") -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    first = next(iter(reports.values()))
    shares = sorted({first.share, *first.ranks})
    table = Table(title="Upsampler: rank at a share of its" + (" squared" * first.energy) + " singular values",
                  box=SIMPLE_HEAD, title_justify="left")  # fmt: skip
    table.add_column("Network", overflow="fold")
    for heading in ("Groups", "Matrix", *(f"{100 * share:g} %" for share in shares), "Parameters", "of them up"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("MACs", justify="right", no_wrap=True)
    table.add_column("of them up", justify="right", no_wrap=True)
    for name, report in reports.items():
        ranks = {**report.ranks, report.share: report.rank}
        cells = [str(report.groups), "x".join(map(str, report.matrix)), *(str(ranks[share]) for share in shares)]
        cells += [f"{report.parameters.total / 1e6:.3f} M", f"{100 * report.parameters.upsampler_share:.1f} %"]
        cells += [f"{report.macs.total / 1e9:.3f} G", f"{100 * report.macs.upsampler_share:.1f} %"]
        table.add_row(Text(name), *cells)
    return table
