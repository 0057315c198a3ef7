"""From the rows of a table to the runs that they need; equal runs are one, whichever rows and tables want them."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import torch

from ..data.responses import named_response
from ..evaluation.metrics import NAMES
from ..evaluation.printed import Printed, printed
from ..models import PRESETS, Network
from ..training import Distillation, TrainOptions
from ..training.state import FREE
from .recipes import Entry, NetworkRecipe, Paper, Row

__all__ = ["Budget", "Cell", "Run", "bands_of", "lacking", "plan", "runs_of"]

_MADE: set[tuple[object, ...]] = set()  # networks whose arguments were found good


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What differs from a recipe for all runs: the time of each, and how the machine runs them.

    Attributes:
        minutes: of each training at most; None is the recipe's whole course.
        seeds: how often each row is trained, with seeds from 0 on.
        threads, devices: see `TrainOptions`.
        progress: show each training's.
    """

    minutes: float | None = None
    seeds: int = 1
    threads: int | None = None
    devices: int = 1
    progress: bool = True

    def __post_init__(self) -> None:
        if type(self.seeds) is not int or self.seeds < 1:
            raise ValueError(f"seeds must be a whole number, 1 or more, got {self.seeds!r}")
        TrainOptions(max_minutes=self.minutes, threads=self.threads)  # raises where they are out of range


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training: a network on a data set, a seed.

    Attributes:
        network: its name in the recipe.
        preset, set: what makes it.
        data, scale, bands: protocol, r, B.
        options, objective, distillation, teacher: how it is trained; the teacher is a run of its own.
        response: through which the MSI of a network that fuses is made.
        start: the run whose weights it goes on from.
        along: networks that train along and are scored, by name.
        tested: see `Row`.
    """

    network: str
    preset: str
    set: dict[str, Any]
    data: str
    scale: int
    bands: int
    options: TrainOptions
    objective: dict[str, Any] = field(default_factory=dict)
    distillation: Distillation | None = None
    teacher: "Run | None" = None
    response: str | None = None
    start: "Run | None" = None
    along: tuple[str, ...] = ()
    tested: dict[str, float] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The name of its folder: the same for equal runs."""
        text = json.dumps(self.facts(), sort_keys=True)
        digest = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
        return f"{self.data}-x{self.scale}-{self.preset}-{digest}-seed{self.options.seed}"

    def facts(self) -> dict[str, Any]:
        """All that its result depends on but the pixels, JSON-serialisable."""
        options = {key: value for key, value in asdict(self.options).items() if key not in FREE}
        more: dict[str, Any] = {
            "response": self.response,
            "start": self.start and self.start.id,
            "along": list(self.along),
        }
        more["tested"] = self.tested
        return {
            "preset": self.preset,
            "set": self.set,
            "data": self.data,
            "scale": self.scale,
            "bands": self.bands,
            "options": options,
            "objective": self.objective,
            "distillation": None if self.distillation is None else asdict(self.distillation),
            "teacher": None if self.teacher is None else self.teacher.id,
            **{key: value for key, value in more.items() if value},  # others are known by what they were without
        }

    @property
    def before(self) -> "tuple[Run, ...]":
        """The runs that must have ended before it."""
        return tuple(run for run in (self.teacher, self.start) if run is not None)

    def make(self) -> Network:
        """The fresh network, by the seed.

        Raises:
            ValueError: arguments that the network does not take.
        """
        torch.manual_seed(self.options.seed)
        try:
            msi_bands = 0 if self.response is None else named_response(self.response).bands
            return PRESETS[self.preset].make(self.bands, self.scale, msi_bands, **self.set)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self.network} ({self.preset}) can't be made: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A row at one scale.

    Attributes:
        row, scale, data: which.
        runs: one a seed; none for bicubic, for what is counted only, and where `why` says why it can't be run.
        printed: what the paper has, None where nothing.
        ours: what was chosen for its network.
        why: it is shown as the paper's.
        network: its recipe; None where `why` stands for it.
        psf_sigma: of its LR images, see `TrainOptions`.
        response: through which the MSI is made, see `Entry.responses`; None where there is none.
        snrs, noise_on: noise that it is scored under, see `Entry`.
        scores: which the table has, see `Paper`.
    """

    row: Row
    scale: int
    data: str
    runs: tuple[Run, ...] = ()
    printed: Printed | None = None
    ours: str = ""
    why: str = ""
    network: NetworkRecipe | None = None
    psf_sigma: float | None = None
    response: str | None = None
    snrs: tuple[float, ...] = ()
    noise_on: Literal["both", "lowres"] = "both"
    scores: tuple[str, ...] = NAMES


def plan(
    paper: Paper,
    entry: Entry,
    budget: Budget | None = None,
    *,
    rows: Sequence[str] = (),
    scales: Sequence[int] = (),
    bands: dict[str, int] | None = None,
) -> list[Cell]:
    """The cells of a table, in its order, scale by scale. What the paper prints and the recipe lacks comes last, as the
    paper's.

    Args:
        paper, entry: from `lkcanet.reproduce.load`.
        budget: for all trainings.
        rows: names of rows; all if empty.
        scales: of these; all of the table's if empty.
        bands: of data sets that no protocol knows: name to B.

    Raises:
        ValueError: a row, scale or data set that there is not; lists those that there are. Arguments that a network
            does not take: names file, table and row.
    """
    budget = budget or Budget()
    where = f"{paper.file}: [entries.{entry.name}]"
    known = [row.name for row in entry.rows]
    for name in rows:
        if name not in known:
            raise ValueError(f"--rows must be among {', '.join(map(repr, known))} of {entry.name}; got {name!r}")
    for scale in scales:
        if scale not in entry.scales:
            raise ValueError(f"--scale must be one of {', '.join(map(str, entry.scales))} in {entry.name}; got {scale}")
    cells = []
    for scale in [scale for scale in entry.scales if not scales or scale in scales]:
        for response in entry.responses or (None,):
            paper_rows = printed(paper.name, entry.printed or entry.name, scale, response)
            common: dict[str, Any] = {"scale": scale, "response": response, "snrs": entry.snrs}
            common |= {"noise_on": entry.noise_on, "scores": paper.scores}
            for row in entry.rows:
                if rows and row.name not in rows:
                    continue
                cell = Cell(row=row, data=row.data or entry.data or "", printed=paper_rows.get(row.name), **common)
                cells.append(_filled(paper, entry, cell, budget, bands or {}, f"{where}: row {row.name!r}"))
            for name, values in paper_rows.items() if not rows and not entry.printed else ():
                if name not in known and entry.kind != "weights":
                    why = "the recipe has no such network"
                    row = Row(name=name, why=why)
                    cells.append(Cell(row=row, why=why, data=entry.data or "", printed=values, **common))
    return cells


def lacking(recipe: NetworkRecipe) -> str:
    """Why a network of a recipe can't be made; empty where it can."""
    missing = recipe.preset is not None and recipe.preset not in PRESETS
    return f"this version has no network {recipe.preset!r}" if missing else ""


def _filled(paper: Paper, entry: Entry, cell: Cell, budget: Budget, bands: dict[str, int], where: str) -> Cell:
    row = cell.row
    if row.why:
        return replace(cell, why=row.why)
    recipe = paper.networks[row.network or ""]
    cell = replace(cell, network=recipe, ours=recipe.ours, psf_sigma=paper.blur and paper.blur * cell.scale)
    if why := lacking(recipe):
        return replace(cell, why=why)
    if recipe.preset is None or entry.kind == "parts":
        return cell
    if PRESETS[recipe.preset].fuses and cell.response is None:
        raise ValueError(f"{where}: {row.network} fuses an MSI: the table lacks responses")
    runs = tuple(run_of(paper, row, cell, budget, bands, seed) for seed in range(budget.seeds))
    key = (recipe.preset, repr(runs[0].set), runs[0].bands, cell.scale, cell.response)
    if key not in _MADE:
        try:
            with torch.random.fork_rng(devices=[]), torch.device("meta"):
                runs[0].make()
            _MADE.add(key)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        except RuntimeError:  # of a constructor that computes: it can't be tried without memory, the run will tell
            pass
    return replace(cell, runs=runs)


def run_of(paper: Paper, row: Row, cell: Cell, budget: Budget, bands: dict[str, int], seed: int) -> Run:
    """The run of a row on the data of a cell, and of its teacher and its start before it."""
    assert row.network is not None
    data, scale = cell.data, cell.scale
    recipe = paper.networks[row.network]
    assert recipe.preset is not None
    before = {
        name: None if name is None else run_of(paper, Row(name=name, network=name), cell, budget, bands, seed)
        for name in (recipe.teacher, recipe.init)
    }
    teacher = before[recipe.teacher]
    told = {**paper.training, **recipe.training, **row.training}
    if paper.blur is not None:
        told["psf_sigma"] = paper.blur * scale
    told |= {"threads": budget.threads, "devices": budget.devices, "progress": budget.progress, "seed": seed}
    if budget.minutes is not None:
        told["max_minutes"] = budget.minutes
    return Run(
        network=row.network,
        preset=recipe.preset,
        set={**recipe.set, **row.set},
        data=data,
        scale=scale,
        bands=bands_of(paper, data, bands),
        options=TrainOptions(**told),
        objective={**recipe.objective, **row.objective},
        distillation=Distillation(**{**recipe.distillation, **row.distillation}) if teacher is not None else None,
        teacher=teacher,
        response=cell.response if PRESETS[recipe.preset].fuses else None,
        start=before[recipe.init],
        along=recipe.along,
        tested=row.tested,
    )


def bands_of(paper: Paper, data: str, given: Mapping[str, int]) -> int:
    """B of a data set: of its protocol, else of what is given (name to B), else as published. Raises a ValueError."""
    protocol = paper.protocol(data)
    if protocol is not None:
        return protocol.bands
    if data in given:
        return given[data]
    if data not in paper.sets:
        raise ValueError(f"{paper.file}: data {data!r} is no protocol: give a prepared folder of that protocol")
    return paper.sets[data].bands


def runs_of(cells: Sequence[Cell]) -> list[Run]:
    """The runs that cells need, each once, teachers and starts before what needs them."""

    def each() -> Iterator[Run]:
        for cell in cells:
            for run in cell.runs:
                yield from run.before
                yield run

    return list({run.id: run for run in each()}.values())
