"""Figures of a report: learning curves, and one test image by every network that was trained, in false colour, with its
error maps and the difference of each band."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.optional import require
from ..common.plots import COLOURS, plain
from ..data import Prepared, PreparedSet, simulate_lowres
from ..deploy.rank import plot_ranks
from ..evaluation.side_by_side import results_of, side_by_side
from ..evaluation.spectra import BandAxis
from ..models import load_model
from ..training.result import BEST
from .outcomes import RUNS, Outcome
from .recipes import Entry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..data import Scene
    from ..evaluation.pictures import Array
    from .material import Material

__all__ = ["curves", "differences", "figures_of", "super_resolved"]

DPI = 110


def figures_of(
    entry: Entry, outcomes: Sequence[Outcome], material: "Material", out: Path, *, pictures: bool = True
) -> "list[tuple[str, str, Figure]]":
    """What a report shows: a title, a word for the file's name, and the figure; nothing where nothing was trained.

    `pictures=False` leaves out what takes time: the test images, which are super-resolved for it.
    """
    found: list[tuple[str, str, Figure]] = []
    trained = [one for one in outcomes if one.runs]
    if trained:
        found.append(("Learning curves", "curves", curves(trained)))
    ranks = {one.name: one.ranks for one in outcomes if one.ranks is not None}
    if ranks:
        found.append(("Singular values of the upsampling layers", "ranks", plot_ranks(ranks)))
    if pictures and entry.kind == "scores":
        for data, scale in dict.fromkeys((one.data, one.scale) for one in trained):
            if material.why_not(data, scale):
                continue
            rows = [one for one in trained if (one.data, one.scale) == (data, scale)]
            files = {one.name: out / RUNS / one.runs[0]["id"] / BEST for one in rows}
            psf = rows[0].runs[0]["run"]["options"]["psf_sigma"]
            target, cubes = super_resolved(material.get(data, scale), files, psf)
            title, word = f"{data} x{scale}: the first test image", f"{data}-x{scale}"
            chosen = None  # by the wavelengths, where the data has fewer bands than the paper's
            if entry.bands is not None and max(entry.bands) <= target.bands:
                chosen = [band - 1 for band in entry.bands]
            waves = None if target.wavelengths is None else list(target.wavelengths)
            figure = side_by_side(cubes, target.pixels, bands=chosen, wavelengths=waves)
            found.append((f"{title}, and errors", word, figure))
            found.append((f"{title}, difference of each band", f"{word}-bands", differences(target, cubes)))
    return found


def curves(outcomes: Sequence[Outcome]) -> "Figure":
    """MPSNR and SAM on the validation patches over the steps; the first seed of each row."""
    figure: Figure = require("matplotlib.figure", extra="io").Figure(figsize=(11, 4.4), dpi=DPI, layout="constrained")
    panels: Any = figure.subplots(1, 2)
    several = len({(one.data, one.scale) for one in outcomes}) > 1
    for axis, key, label in ((panels[0], "mpsnr", "MPSNR (dB)"), (panels[1], "sam", "SAM (°)")):
        for number, one in enumerate(outcomes):
            history = one.runs[0]["history"]
            style = ("-", "--", ":")[number // len(COLOURS) % 3]
            axis.plot(
                [each["step"] for each in history], [each[key] for each in history], style, marker=".",
                color=COLOURS[number % len(COLOURS)], label=f"{one.name} x{one.scale}" if several else one.name,
            )  # fmt: skip
        axis.set_xlabel("Step")
        axis.set_ylabel(f"{label} on the validation patches")
        plain(axis)
    panels[0].legend(frameon=False, fontsize=8)
    return figure


def super_resolved(
    data: Prepared | PreparedSet, files: Mapping[str, Path], psf_sigma: float | None = None
) -> "tuple[Scene, dict[str, Array]]":
    """The first test image, and by name what bicubic and networks make of its LR image.

    Args:
        data: prepared.
        files: name of a row to its checkpoint.
        psf_sigma: of the LR image, see `lkcanet.data.simulate_lowres`.
    """
    target = data.test_scene(0)
    lowres = simulate_lowres(target, data.scale, psf_sigma=psf_sigma)
    models = {name: load_model(file) for name, file in files.items()}
    return target, results_of(models, lowres, data.scale, target)


def differences(target: "Scene", results: "Mapping[str, Array]") -> "Figure":
    """The mean absolute difference to the target of each band, a line for each result: spectral difference curves."""
    np = require("numpy", extra="io")
    figure: Figure = require("matplotlib.figure", extra="io").Figure(figsize=(8, 4), dpi=DPI, layout="constrained")
    axis: Any = figure.subplots()
    bands = BandAxis.of_scene(target)
    for number, (name, cube) in enumerate(results.items()):
        values = np.stack([np.nanmean(np.abs(a - b)) for a, b in zip(cube, target.pixels, strict=True)])
        bands.draw(axis, values, color=COLOURS[number % len(COLOURS)], label=name)
    bands.dress(axis)
    axis.set_ylabel("Mean absolute difference")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, fontsize=8)
    return figure
