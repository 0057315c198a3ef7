"""What there is to reproduce, and what of it runs: for `lkca reproduce --list` and `--dry-run`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from . import loader
from .estimates import Estimate, estimate
from .material import Material, patches_of
from .outcomes import RUNS
from .plan import Cell, Run, lacking, runs_of
from .recipes import Entry, Paper
from .running import result_of

__all__ = ["Forecast", "Listed", "forecast", "listing"]


@dataclass(frozen=True)
class Listed:
    """A table or figure: what it runs, or why it can't be run."""

    paper: str
    what: str
    title: str
    runs: str
    why: str


def listing(paper: str | None = None) -> list[Listed]:
    """Every table and figure of the papers, or of one."""
    loaded = [loader.load(name) for name in ([paper] if paper else loader.names())]
    return [
        Listed(each.name, entry.name, entry.title, _runs(each, entry), entry.why)
        for each in loaded
        for entry in sorted(each.entries.values(), key=_order)
    ]


def _order(entry: Entry) -> tuple[int, int]:
    """Tables, then figures, by their numbers; others come first."""
    kind, _, number = entry.name.partition("-")
    return {"table": 1, "figure": 2}.get(kind, 0), int(number) if number.isdigit() else 0


def _runs(paper: Paper, entry: Entry) -> str:
    if entry.why:
        return ""
    scales = " and ".join(f"x{scale}" for scale in entry.scales)
    if entry.kind == "weights":
        return f"scores the package's networks at {scales}, on {entry.data}"
    data = " and ".join(dict.fromkeys(row.data or entry.data or "" for row in entry.rows if not row.why))
    reason = {row.name: row.why or lacking(paper.networks[row.network or ""]) for row in entry.rows}
    missing = {name: why for name, why in reason.items() if why}
    count = len(entry.rows) - len(missing)
    does = {"scores": "trains and scores", "rank": "trains and takes the ranks of", "parts": "counts"}[entry.kind]
    text = f"{does} {count} of {len(entry.rows)} rows at {scales}, {data}"
    if entry.responses:
        text += f", MSIs of {' and '.join(entry.responses)}"
    if entry.snrs:
        text += f", under noise of {', '.join(f'{snr:g}' for snr in entry.snrs)} dB on {entry.noise_on}"
    reasons = {why: [name for name, its in missing.items() if its == why] for why in dict.fromkeys(missing.values())}
    return text + "".join(f"; not {', '.join(names)}: {why}" for why, names in reasons.items())


@dataclass(frozen=True)
class Forecast:
    """A run that would be carried out: which rows want it ("teacher of ..." too), and its `Estimate`; None where it has
    ended before."""

    run: Run
    rows: tuple[str, ...]
    estimate: Estimate | None


def forecast(
    paper: Paper, cells: Sequence[Cell], material: Material, tell: Callable[[str], None] = lambda _: None
) -> list[Forecast]:
    """The runs of cells, each with what it would take on this machine: a few steps of each network are measured, runs
    that differ in other things than network, losses and course share a measurement. Nothing is written."""
    wanted: dict[str, list[str]] = {}
    for cell in cells:
        for run in cell.runs:
            wanted.setdefault(run.id, []).append(f"{cell.row.name} x{cell.scale}")
            for what, before in (("teacher", run.teacher), ("start", run.start)):
                if before is not None:
                    wanted.setdefault(before.id, []).append(f"{what} of {cell.row.name} x{cell.scale}")
    found, measured = [], dict[tuple[object, ...], Estimate]()
    for run in runs_of(cells):
        rows = tuple(dict.fromkeys(wanted[run.id]))
        if result_of(run, material.out / RUNS) is not None:
            found.append(Forecast(run, rows, None))
            continue
        patches, side = patches_of(paper, run.data, run.scale, material.there(run.data, run.scale))
        key = _costs(run)
        if key not in measured:
            tell(f"measuring {run.network} x{run.scale}")
            measured[key] = estimate(run, patches, side)
        found.append(Forecast(run, rows, measured[key]))
    return found


def _costs(run: Run) -> tuple[object, ...]:
    """What an estimate depends on; not on the seed, rates and weights of losses."""
    options, teacher = run.options, run.teacher and (run.teacher.preset, repr(run.teacher.set))
    losses = [run.objective.get(key) for key in ("name", "teacher_counts")]
    course = (options.batch_size, options.epochs, options.steps, options.orientations, options.max_minutes)
    return (run.preset, repr(run.set), run.data, run.scale, run.response, teacher, repr(losses), course)
