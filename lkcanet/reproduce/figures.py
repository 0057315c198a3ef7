"""Figures of a report: learning curves, and one test image by every network that was trained, in false colour, with its
error maps and the difference of each band; scores over noise."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.optional import require
from ..common.plots import COLOURS, plain
from ..data import Prepared, PreparedSet, named_response, simulate_lowres, simulate_msi
from ..deploy.rank import plot_ranks
from ..evaluation.side_by_side import results_of, side_by_side
from ..evaluation.spectra import BandAxis
from ..models import load_model
from .outcomes import RUNS, Outcome
from .recipes import Entry
from .running import checkpoint_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..data import Scene
    from ..evaluation.pictures import Array
    from .material import Material

__all__ = ["curves", "differences", "figures_of", "noise_curves", "super_resolved"]

DPI = 110


def figures_of(
    entry: Entry, outcomes: Sequence[Outcome], material: "Material", out: Path, *, pictures: bool = True
) -> "list[tuple[str, str, Figure]]":
    """What a report shows: a title, a word for the file's name, and the figure; nothing where nothing was trained.

    `pictures=False` leaves out what takes time: the test images, which are super-resolved for it.
    """
    found: list[tuple[str, str, Figure]] = []
    trained = [one for one in outcomes if one.runs]
    if any(not one.along for one in trained):
        found.append(("Learning curves", "curves", curves(trained)))
    if entry.snrs and any(one.values for one in outcomes):
        found.append((f"Scores under noise on {entry.noise_on}", "noise", noise_curves(outcomes, entry.snrs)))
    ranks = {one.name: one.ranks for one in outcomes if one.ranks is not None}
    if ranks:
        found.append(("Singular values of the upsampling layers", "ranks", plot_ranks(ranks)))
    if pictures and entry.kind == "scores":
        for data, scale, response in dict.fromkeys((one.data, one.scale, one.response) for one in trained):
            if material.why_not(data, scale):
                continue
            rows = [one for one in trained if (one.data, one.scale, one.response) == (data, scale, response)]
            files = {one.name: checkpoint_of(out / RUNS, one.runs[0]["id"], one.along) for one in rows}
            psf = rows[0].runs[0]["run"]["options"]["psf_sigma"]
            target, cubes = super_resolved(material.get(data, scale), files, psf, response)
            what = f"{data} x{scale}" + ("" if response is None else f", MSI of {response}")
            title, word = f"{what}: the first test image", "-".join(filter(None, (data, f"x{scale}", _word(response))))
            chosen = None  # by the wavelengths, where the data has fewer bands than the paper's
            if entry.bands is not None and max(entry.bands) <= target.bands:
                chosen = [band - 1 for band in entry.bands]
            figure = side_by_side(cubes, target.pixels, bands=chosen, wavelengths=target.wavelengths)
            found.append((f"{title}, and errors", word, figure))
            found.append((f"{title}, difference of each band", f"{word}-bands", differences(target, cubes)))
    return found


def curves(outcomes: Sequence[Outcome]) -> "Figure":
    """MPSNR and SAM on the validation patches over the steps; the first seed of each row."""
    figure: Figure = require("matplotlib.figure", extra="io").Figure(figsize=(11, 4.4), dpi=DPI, layout="constrained")
    panels: Any = figure.subplots(1, 2)
    several = len({(one.data, one.scale, one.response) for one in outcomes}) > 1
    outcomes = [one for one in outcomes if not one.along]  # what trains along is not validated
    for axis, key, label in ((panels[0], "mpsnr", "MPSNR (dB)"), (panels[1], "sam", "SAM (°)")):
        for number, one in enumerate(outcomes):
            history = one.runs[0]["history"]
            style = ("-", "--", ":")[number // len(COLOURS) % 3]
            axis.plot(
                [each["step"] for each in history], [each[key] for each in history], style, marker=".",
                color=COLOURS[number % len(COLOURS)],
                label=" ".join(filter(None, (one.name, f"x{one.scale}", one.response))) if several else one.name,
            )  # fmt: skip
        axis.set_xlabel("Step")
        axis.set_ylabel(f"{label} on the validation patches")
        plain(axis)
    panels[0].legend(frameon=False, fontsize=8)
    return figure


def _word(response: str | None) -> str:
    """A response, which may be a file, as a part of a file's name."""
    return "" if response is None else Path(response).stem


def noise_curves(outcomes: Sequence[Outcome], snrs: Sequence[float]) -> "Figure":
    """PSNR and SAM over the dB of noise, ours as lines and the printed, where there are some, dashed."""
    figure: Figure = require("matplotlib.figure", extra="io").Figure(figsize=(11, 4.4), dpi=DPI, layout="constrained")
    panels: Any = figure.subplots(1, 2)
    for axis, key, label in ((panels[0], "psnr", "PSNR of each band's peak (dB)"), (panels[1], "sam", "SAM (°)")):
        for number, one in enumerate(outcomes):
            theirs = {} if one.printed is None else one.printed.values
            for values, style, whose in ((one.values, "-", "ours"), (theirs, "--", "paper")):
                if known := [snr for snr in snrs if f"{key}_{snr:g}" in values]:
                    axis.plot(known, [values[f"{key}_{snr:g}"] for snr in known], style, marker=".",
                              color=COLOURS[number % len(COLOURS)], label=f"{one.name} ({whose})")  # fmt: skip
        axis.set_xlabel("Signal-to-noise ratio (dB)")
        axis.set_ylabel(label)
        plain(axis)
    panels[0].legend(frameon=False, fontsize=8)
    return figure


def super_resolved(
    data: Prepared | PreparedSet,
    files: Mapping[str, Path],
    psf_sigma: float | None = None,
    response: str | None = None,
) -> "tuple[Scene, dict[str, Array]]":
    """The first test image, and by name what bicubic and networks make of its LR image.

    Args:
        data: prepared.
        files: name of a row to its checkpoint.
        psf_sigma: of the LR image, see `lkcanet.data.simulate_lowres`.
        response: of the MSI that networks which fuse get.
    """
    target = data.test_scene(0)
    lowres = simulate_lowres(target, data.scale, psf_sigma=psf_sigma)
    models = {name: load_model(file) for name, file in files.items()}
    msi = None if response is None else simulate_msi(target, named_response(response))
    return target, results_of(models, lowres, data.scale, target, msi)


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
