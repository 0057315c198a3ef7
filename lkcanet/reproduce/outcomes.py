"""A table or figure carried out: what each of its rows gave, ours and printed."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..common.errors import error_text
from ..data import Prepared, PreparedSet
from ..deploy.rank import RankReport, rank_report
from ..evaluation import mean_scores, score_tests
from ..evaluation.printed import Printed, printed
from ..evaluation.scoring import ensemble_of
from ..models import PRESETS, Lacking, load_model, pretrained
from ..models.capabilities import upsamplers_of
from . import running
from .material import Material, fingerprint
from .plan import Cell, Run, bands_of, runs_of
from .recipes import Entry, Paper

__all__ = ["Outcome", "carry_out", "collected", "count_parts", "paper_only", "weights"]

RUNS = "runs"  # folder of the runs in --out
FAILURES = (ValueError, OSError, ArithmeticError, MemoryError, RuntimeError, ImportError)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A row at one scale.

    Attributes:
        name, data, scale, response: which; the response is that of the MSI, None where there is none.
        printed: the paper's.
        values: ours, the mean over the seeds: the scores of the paper's tables, "rank" or "upsampler" (per cent of the
            parameters); empty where there are none yet. Under noise "psnr_25" and "sam_25" at 25 dB, "psnr_clean" and
            "sam_clean", and their means over all of these, "psnr" and "sam": PSNR by each band's peak.
        spread: their standard deviations, of several seeds.
        parameters, macs: of the network, in millions and billions; macs at 16 x 16 LR pixels.
        why: what stands in place of our values; empty where there are some.
        failed: whether that is an error.
        note: what was chosen here for this row.
        runs: results of its runs.
        along: which of the networks that trained along it is of; empty where it is the network itself.
        ranks: of `rank_report`, for a figure.
    """

    name: str
    data: str
    scale: int
    response: str | None = None
    printed: Printed | None = None
    values: dict[str, float] = field(default_factory=dict)
    spread: dict[str, float] = field(default_factory=dict)
    parameters: float | None = None
    macs: float | None = None
    why: str = ""
    failed: bool = False
    note: str = ""
    runs: tuple[dict[str, Any], ...] = ()
    along: str = ""
    ranks: RankReport | None = None

    @property
    def difference(self) -> dict[str, float]:
        """Ours less the printed, of what both have."""
        theirs = {} if self.printed is None else self.printed.values
        return {key: value - theirs[key] for key, value in self.values.items() if key in theirs}


def carry_out(
    cells: Sequence[Cell],
    material: Material,
    out: Path,
    tell: Callable[[str], None] = lambda _: None,
    after: Callable[[Mapping[str, str]], object] = lambda _: None,
) -> dict[str, str]:
    """Train and score what cells need and has not ended yet, run by run.

    Args:
        cells: of `plan`.
        material: where the data is; runs without data are left out.
        out: for the folders `runs` and `prepared`.
        tell: called with lines for the user.
        after: called after each run with the failures up to then.

    Returns:
        ID of each run that failed, and its error in words. The others go on.

    Raises:
        ValueError: data that does not fit its protocol, results of other data, a damaged result.
        KeyboardInterrupt: after Ctrl-C; called again it goes on from there.
    """
    runs, failed = runs_of(cells), dict[str, str]()
    (out / RUNS).mkdir(parents=True, exist_ok=True)
    for cell in cells:
        if not cell.why and not cell.runs and cell.network is not None and not material.why_not(cell.data, cell.scale):
            running.bicubic(material.get(cell.data, cell.scale), out / RUNS, cell.data, cell.psf_sigma)
    for number, run in enumerate(runs):
        if material.why_not(run.data, run.scale):
            continue
        data = material.get(run.data, run.scale)
        if running.result_of(run, out / RUNS, data) is not None:  # raises where it is of other data, or damaged
            continue
        tell(f"run {number + 1} of {len(runs)}")
        try:
            running.carry_out(run, data, out / RUNS, tell)
        except FAILURES as error:
            _fail(run, error, failed, tell)
        after(failed)
    _under_noise(cells, material, out / RUNS, failed, tell)
    return failed


def _under_noise(
    cells: Sequence[Cell], material: Material, folder: Path, failed: dict[str, str], tell: Callable[[str], None]
) -> None:
    """Score what has ended under the noise of its table."""
    for cell, run in ((each, run) for each in cells if each.snrs for run in each.runs):
        if running.result_of(run, folder) is None or material.why_not(run.data, run.scale):
            continue
        try:
            running.noise(run, material.get(run.data, run.scale), folder, cell.snrs, cell.noise_on, tell)
        except FAILURES as error:
            _fail(run, error, failed, tell)


def _fail(run: Run, error: Exception, failed: dict[str, str], tell: Callable[[str], None]) -> None:
    failed[run.id] = error_text(error)
    tell(f"{run.id} failed: {failed[run.id]}")


def collected(
    entry: Entry, cells: Sequence[Cell], material: Material, out: Path, failed: Mapping[str, str]
) -> list[Outcome]:
    """What there is of each cell: results of runs that have ended, and why there are none of others."""
    return [_outcome(entry, cell, material, out / RUNS, failed) for cell in cells]


def _outcome(entry: Entry, cell: Cell, material: Material, folder: Path, failed: Mapping[str, str]) -> Outcome:
    given: dict[str, Any] = {"name": cell.row.name, "data": cell.data, "scale": cell.scale, "printed": cell.printed}
    given |= {"note": cell.ours, "response": cell.response, "along": cell.row.along}
    if cell.why:
        return Outcome(**given, why=cell.why)
    missing = material.why_not(cell.data, cell.scale) or "not run yet"
    if not cell.runs:
        found = running.read(running.bicubic_folder(folder, cell.data, cell.scale, cell.psf_sigma) / running.RESULT)
        scores = {} if found is None else _kept(found["scores"]["mean"], cell)
        return Outcome(**given, values=scores, why="" if found else missing)
    results = [(run, running.result_of(run, folder)) for run in cell.runs]
    done = [(run, result) for run, result in results if result is not None]
    errors = [failed[each.id] for run in cell.runs for each in (run, *run.before) if each.id in failed]
    if errors:
        given |= {"failed": True}
    if not done:
        return Outcome(**given, why=f"failed: {errors[0]}" if errors else missing)
    given["runs"] = tuple(result for _, result in done)
    parts = [result["along"][cell.row.along] if cell.row.along else result for _, result in done]
    macs = parts[0]["macs_16x16"]
    if entry.macs_size != (16, 16):
        macs = load_model(running.file_of(done[0][0], folder, cell.row.along)).macs(*entry.macs_size)
    given |= {"parameters": parts[0]["parameters"] / 1e6, "macs": macs / 1e9}
    if entry.kind == "rank":
        try:
            reports = [rank_report(load_model(running.file_of(run, folder))) for run, _ in done]
        except Lacking as error:
            return Outcome(**given, why=str(error))
        values = [{"rank": float(report.rank)} for report in reports]
        given["ranks"] = reports[0]
    elif cell.snrs:
        levels = [_levels(running.noise_file(run, folder, cell.noise_on), cell) for run, _ in done]
        if None in levels:
            return Outcome(**given, why=f"failed: {errors[0]}" if errors else "not scored under noise yet")
        values = [_noisy(part, each or {}, cell) for part, each in zip(parts, levels, strict=True)]
    else:
        values = [_kept(part["scores"]["mean"], cell) for part in parts]
    mean = {key: statistics.fmean(each[key] for each in values) for key in values[0]}
    spread = {key: statistics.stdev(each[key] for each in values) for key in mean} if len(values) > 1 else {}
    short = "" if len(done) == len(cell.runs) else f"{len(done)} of {len(cell.runs)} seeds"
    return Outcome(**{**given, "note": "; ".join(filter(None, (cell.ours, short)))}, values=mean, spread=spread)


def _kept(scores: Mapping[str, float], cell: Cell) -> dict[str, float]:
    """Those that the paper's tables have."""
    return {key: scores[key] for key in cell.scores if key in scores}


def _levels(path: Path, cell: Cell) -> dict[str, Any] | None:
    """What `running.noise` found, where all levels of a cell are there."""
    found = running.read(path)
    levels: dict[str, Any] = {} if found is None else found["levels"]
    return levels if all(f"{snr:g}" in levels for snr in cell.snrs) else None


def _noisy(part: Mapping[str, Any], noise: Mapping[str, Any], cell: Cell) -> dict[str, float]:
    """The scores of a network under noise, see `Outcome.values`."""
    levels = {f"{snr:g}": noise[f"{snr:g}"][cell.row.along or "ours"] for snr in cell.snrs}
    levels["clean"] = part["scores"]["mean"]
    pairs = {"psnr": "psnr_peak", "sam": "sam"}
    found = {f"{name}_{level}": each[key] for level, each in levels.items() for name, key in pairs.items()}
    return found | {name: statistics.fmean(each[key] for each in levels.values()) for name, key in pairs.items()}


def count_parts(paper: Paper, cells: Sequence[Cell], bands: Mapping[str, int]) -> list[Outcome]:
    """What part of the parameters the upsampler is, of fresh networks: nothing is trained. `bands`: as of `plan`."""
    outcomes = []
    for cell in cells:
        given: dict[str, Any] = {"name": cell.row.name, "data": cell.data, "scale": cell.scale, "note": cell.ours}
        if cell.why or cell.network is None or cell.network.preset is None:
            outcomes.append(Outcome(**given, why=cell.why or "has no parameters"))
            continue
        settings = {**cell.network.set, **cell.row.set}
        model = PRESETS[cell.network.preset].make(bands_of(paper, cell.data, bands), cell.scale, **settings)
        try:
            steps = upsamplers_of(model).values()
            share = 100 * sum(step.parameters for step in steps) / model.parameter_count()
        except Lacking as error:
            outcomes.append(Outcome(**given, why=str(error)))
            continue
        counts: dict[str, Any] = {"parameters": model.parameter_count() / 1e6, "macs": model.macs(16, 16) / 1e9}
        outcomes.append(Outcome(**given, **counts, values={"upsampler": share}))
    return outcomes


def weights(
    paper: Paper, entry: Entry, material: Material, out: Path, tell: Callable[[str], None] = lambda _: None
) -> list[Outcome]:
    """The networks of the package that were trained on a data set, beside its published table: scored on the data that
    is given, else as their cards say."""
    data, outcomes = entry.data or "", []
    for scale in entry.scales:
        theirs = printed(paper.name, entry.name, scale)
        cards = [card for card in map(pretrained.card, pretrained.names()) if card.scale == scale]
        cards = [card for card in cards if data.lower() in card.data["name"].lower()]
        here = not material.why_not(data, scale)
        ours: dict[str, Any] = {}
        if here:
            loaded = material.get(data, scale)
            ours["bicubic"] = running.bicubic(loaded, out / RUNS, data)["scores"]["mean"]
            for card in cards:
                ours |= _scored(card, loaded, out / RUNS, tell)
        else:
            for card in cards:
                ours["bicubic"] = ours.get("bicubic") or (card.bicubic or {}).get("mean")
                ours[card.name] = card.scores["mean"]
                ours[ensemble_of(card.name)] = (card.ensemble or {}).get("mean")
        why = {} if here else {"bicubic": "give --data to score it"}
        source = "scored on --data" if here else "as its card says: give --data to score it anew"
        sizes = {name: card for card in cards for name in (card.name, ensemble_of(card.name))}
        for name in [*theirs, *(name for name in ours if name not in theirs)]:
            its, values = sizes.get(name), ours.get(name)
            if values is None and name not in theirs:
                continue
            outcomes.append(
                Outcome(
                    name=name,
                    data=data,
                    scale=scale,
                    printed=theirs.get(name),
                    values=values or {},
                    parameters=None if its is None else its.parameters / 1e6,
                    macs=None if its is None else its.macs_16x16 * (1 if name == its.name else 8) / 1e9,
                    why=""
                    if values
                    else why.get(name, "published by others; the package holds no trained network of this kind"),
                    note=source if values else "",
                )
            )
        if not cards:
            tell(f"the package has no network of {data} at x{scale} (lkca models lists those that there are)")
    return outcomes


def _scored(card: Any, data: Prepared | PreparedSet, folder: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    """Scores of a network of the package and of its ensemble; computed once for its weights and the data."""
    path = folder / f"{card.name}-scores" / running.RESULT
    found = running.read(path)
    if found is None or (found["fingerprint"], found["sha256"]) != (fingerprint(data), card.sha256):
        tell(f"scoring {card.name} on {len(data.test_names)} test images, and the mean over eight orientations")
        scores = score_tests(data, {card.name: pretrained.load(card.name)}, ensemble=True, progress=tell)
        means = {name: dict(mean_scores(images)) for name, images in scores.items() if name != "bicubic"}
        found = {"format": running.FORMAT, "fingerprint": fingerprint(data), "sha256": card.sha256, "scores": means}
        path.parent.mkdir(parents=True, exist_ok=True)
        running.write_json(path, found | {"machine": running.machine()})
    return dict(found["scores"])


def paper_only(paper: Paper, entry: Entry) -> list[Outcome]:
    """The printed rows of a table that can't be run."""
    return [
        Outcome(name=name, data=entry.data or "as printed", scale=4, printed=values, why=entry.why)
        for name, values in printed(paper.name, entry.printed or entry.name, 4).items()
    ]
