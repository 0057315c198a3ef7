"""Scores of scenes as `lkca evaluate` shows them: of one, or of several with their mean."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..common.ssim import SSIM
from . import _prepared as prepared
from . import _shared as shared

if TYPE_CHECKING:
    from lkcanet.evaluation import Scores
    from lkcanet.evaluation.metrics import Metrics

    Levels = Mapping[float | None, Mapping[str, Metrics]]


class Scored(NamedTuple):
    """A scene, its scores, and what else is told of them in JSON."""

    path: Path
    scores: "Scores"
    facts: dict[str, Any]


def rows_of(levels: "Levels", *, noisy: bool) -> list[dict[str, Any]]:
    """An entry for each method, with noise for each level too."""
    return [
        {"method": name, **({"snr": level} if noisy else {}), **row}
        for level, rows in levels.items()
        for name, row in rows.items()
    ]


def mean_levels(each: "Sequence[Levels]") -> "dict[float | None, dict[str, Metrics]]":
    """The plain mean over scenes at each level, of each method."""
    from lkcanet.evaluation import mean_scores

    return {
        level: {name: mean_scores([levels[level][name] for levels in each]) for name in rows}
        for level, rows in each[0].items()
    }


def show(
    found: Sequence[Scored],
    failed: Sequence[dict[str, Any]],
    floor: float,
    networks: Sequence[Path],
    *,
    noisy: bool,
    json: bool,
) -> None:
    """Print the scores of several scenes, a row each, and their mean; of those that did not fail."""
    from lkcanet.evaluation import scenes_table

    means = mean_levels([one.scores.levels for one in found]) if found else {}
    if json:
        scenes = [{**one.facts, "scores": rows_of(one.scores.levels, noisy=noisy)} for one in found]
        shared.print_json({"scenes": scenes, "mean": rows_of(means, noisy=noisy), "failed": list(failed)})
        return
    if not found:
        return
    of = f"{len(found)} scenes" if not failed else f"{len(found)} of {len(found) + len(failed)} scenes"
    scale, ssim = found[0].scores.scale, found[0].scores.ssim
    clean = {} if noisy else means[None]
    names = prepared.short_names([one.path for one in found])
    for method in clean:
        rows = {name: one.scores.clean[method] for name, one in zip(names, found, strict=True)}
        title = f"bicubic x{scale}" if method == "bicubic" else method
        shared.print_table(scenes_table({**rows, f"mean of {of}": clean[method]}, title=title, ssim=ssim))
    show_levels(means, scale, f"mean of {of}", floor, networks, ssim)


def show_levels(levels: "Levels", scale: int, title: str, floor: float, networks: Sequence[Path], ssim: SSIM) -> None:
    """Print the scores of all methods, or where there is noise their MPSNR and SAM at its levels."""
    from lkcanet.evaluation import above_table, metrics_table, noise_tables, peaks_table
    from lkcanet.evaluation.scoring import ensemble_of

    bicubic = f"bicubic x{scale}"
    if len(levels) > 1:
        names = dict(zip(map(str, networks), prepared.short_names(networks), strict=True))
        names |= {ensemble_of(path): ensemble_of(name) for path, name in names.items()} | {"bicubic": bicubic}
        for table in noise_tables(levels, names, title=title):
            shared.print_table(table)
        return
    shown = {bicubic if name == "bicubic" else name: row for name, row in levels[None].items()}
    shared.print_table(metrics_table(shown, title=title, ssim=ssim))
    if floor:
        shared.print_table(above_table(shown, floor))
    if all("psnr_peak" in row for row in shown.values()):
        shared.print_table(peaks_table(shown))
