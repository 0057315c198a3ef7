"""`lkca reproduce`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import _shared as shared

if TYPE_CHECKING:
    from lkcanet.reproduce import Material, Paper
    from lkcanet.reproduce.plan import Cell


def reproduce(
    paper: Annotated[
        str | None,
        typer.Argument(metavar="[PAPER]", help="lkca-net, edlgfs, csakd, cave, or a .toml file of recipes."),
    ] = None,
    what: Annotated[
        str | None, typer.Argument(metavar="[WHAT]", help="A table or figure of it, as --list names them: table-5.")
    ] = None,
    *,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]PATH",
            help="The published image, or a folder of lkca prepare; repeatable. Where several data sets are needed "
            "NAME says which it is: pavia_center=Pavia.mat.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the runs, prepared data and reports.")] = Path("results"),
    rows: Annotated[
        list[str] | None, typer.Option(metavar="NAME,...", help="These rows alone; repeatable. Default: all.")
    ] = None,
    scale: Annotated[list[int] | None, typer.Option(help="This scale alone; repeatable. Default: the table's.")] = None,
    seeds: Annotated[int, typer.Option(help="Train each row so often; mean and standard deviation are shown.")] = 1,
    minutes_per_row: Annotated[
        float | None,
        typer.Option(help="End each training after this time; the report says so. Default: the recipe's course."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would run, its size, and how long it would take on this machine."),
    ] = False,
    list_: Annotated[
        bool, typer.Option("--list", help="Name every table and figure, and what it runs, or why it can't be run.")
    ] = False,
    devices: Annotated[int, typer.Option(help="Train on so many devices together.")] = 1,
    threads: shared.Threads = None,
    json: shared.Json = False,
) -> None:
    """Run a table or figure of a paper: prepare the data, train every row, score it, and show it beside the printed.

    Each row is a run in OUT/runs, which goes on where it was interrupted and is not run again once it has ended. The
    report is OUT/PAPER-WHAT.html, with .md and .json beside it. Rows that need what is not there are the paper's.

    Example: lkca reproduce --list

    Example: lkca reproduce lkca-net table-7 --data Pavia.mat --out results --minutes-per-row 30

    Example: lkca reproduce lkca-net table-5 --data chikusei/ --rows LKCA-LR,LKCA-KD --scale 4 --dry-run
    """
    from lkcanet import reproduce as room

    shared.set_threads(threads)
    if list_:
        _list(paper, json)
        return
    if paper is None or what is None:
        raise ValueError(f"give PAPER and WHAT, or --list; PAPER is one of {', '.join(room.names())}")
    loaded = room.load(paper)
    entry = loaded.entry(what)
    budget = room.Budget(minutes=minutes_per_row, seeds=seeds, threads=threads, devices=devices, progress=not json)
    given: dict[str, Any] = {"data": data or (), "budget": budget, "scales": scale or ()}
    given |= {"rows": _names(rows or (), [row.name for row in entry.rows])}
    given["tell"] = lambda line: shared.note(f"note: {line}")
    if dry_run:
        if entry.why or entry.kind in ("parts", "weights"):
            shared.note(f"note: {entry.name} trains nothing{f': {entry.why}' if entry.why else ''}")
        _dry_run(loaded, *room.planned(loaded, entry, out, **given), json=json)
        return
    try:
        done = room.reproduce(loaded, entry, out, **given)
    except KeyboardInterrupt:
        shared.note("note: the same command goes on from there")
        raise
    if json:
        shared.print_json(done.report)
    else:
        from lkcanet.reproduce.pages import table

        for each in table(done.report):
            shared.print_table(each)
        print(f"{done.report['entry']['why'] or done.report['budget']['text']}\n{done.page}")
    if done.failed:
        shared.note(f"error: {len(done.failed)} runs failed: {', '.join(done.failed)}")
        raise typer.Exit(1)


def _names(texts: Sequence[str], known: Sequence[str]) -> list[str]:
    """Names of rows; one with a comma in it stands as it is, other texts are lists."""
    return [name for text in texts for name in ([text] if text in known else text.split(","))]


def _list(paper: str | None, json: bool) -> None:
    from lkcanet.reproduce import listing

    found = listing(paper)
    if json:
        shared.print_json({"entries": [vars(each) for each in found]})
        return
    for each in found:
        print(f"{each.paper} {each.what}: {each.title}\n    {each.runs or f'not run: {each.why}'}")


def _dry_run(paper: "Paper", cells: "Sequence[Cell]", material: "Material", *, json: bool) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from lkcanet.reproduce import forecast

    found = forecast(paper, cells, material, tell=lambda line: shared.note(f"note: {line}"))
    others = {f"{cell.row.name} x{cell.scale}": cell.why for cell in cells if cell.why}
    missing = dict.fromkeys(filter(None, (material.why_not(each.run.data, each.run.scale) for each in found)))
    total = sum(each.estimate.seconds for each in found if each.estimate is not None)
    if json:
        runs = [
            {"id": each.run.id, "rows": each.rows, "estimate": each.estimate and vars(each.estimate)} for each in found
        ]
        shared.print_json({"runs": runs, "paper_only": others, "missing_data": list(missing), "seconds": total})
        return
    table = Table(title=f"{len(found)} runs", box=SIMPLE_HEAD, title_justify="left")
    table.add_column("Row")
    for heading in ("Params (M)", "MACs (G)", "Steps", "s/step", "Time"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in found:
        name = ", ".join(each.rows) + (f", seed {each.run.options.seed}" if each.run.options.seed else "")
        if (one := each.estimate) is None:
            table.add_row(name, "", "", "", "", "done")
            continue
        steps = "by the clock" if one.steps is None else str(one.steps)
        table.add_row(
            name, f"{one.parameters / 1e6:.3f}", f"{one.macs / 1e9:.3f}", steps, f"{one.step_seconds:.3g}",
            _duration(one.seconds),
        )  # fmt: skip
    shared.print_table(table)
    for name, why in others.items():
        print(f"{name}: the paper's ({why})")
    for problem in missing:
        print(f"not without data: {problem}")
    print(f"about {_duration(total)} of training on this machine as it is now, without validation and scoring")


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
