"""A run as one page of HTML that refers to nothing: settings, curves, scores, pictures, where it is wrong."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..common.optional import require
from ..common.pages import Block, Code, Facts, Heading, Items, Picture, Table, Text, picture_of, render
from ..common.plots import COLOURS, plain
from ..common.ssim import SSIM, WINDOWS
from ..data import Scene, SpectralResponse, simulate_lowres
from ..evaluation.errors import ErrorSums, brightness_bins, draw_band_errors, draw_brightness_errors
from ..evaluation.figures import comparison
from ..evaluation.metrics import Metrics
from ..evaluation.scoring import mean_scores, score_scene
from ..evaluation.side_by_side import results_of, seen
from ..evaluation.spectra import BandAxis, Quantity
from ..evaluation.tables import COLUMNS, number_text
from ..inference.msi import msi_for, seen_by_both
from .run_files import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Drawn", "Image", "curves_figure", "run_page"]

DPI = 110
NETWORK = "network"  # what the run's own is called in tables and legends


class Image(NamedTuple):
    """An image to score a run on.

    Attributes:
        name: of it, and of the part.
        target: the truth, divided by the peak of the training; whole low-resolution pixels.
        relation: to the training, in a sentence.
        msi: of a network that fuses: its multispectral scene of these pixels, or the response to make it by.
    """

    name: str
    target: Scene
    relation: str = ""
    msi: Scene | SpectralResponse | None = None


class Drawn(NamedTuple):
    """What the picture of the first image shows: as for `lkcanet.evaluation.before_and_after`."""

    pixels: Sequence[tuple[int, int]] = ()
    names: Sequence[str] = ()
    bands: Sequence[int] | None = None
    unit: str | None = None


class _Found(NamedTuple):
    """What the images gave."""

    scores: dict[str, dict[str, Metrics]]  # image to method to its scores
    relations: list[str]
    sums: dict[str, ErrorSums]
    picture: Picture  # of the first image, as what follows
    bands: BandAxis
    quantity: Quantity


def run_page(
    run: Run,
    images: Iterable[Image] = (),
    *,
    notes: Sequence[str] = (),
    drawn: Drawn = Drawn(),  # noqa: B008 (it is immutable)
    ssim: SSIM = "uniform",
) -> str:
    """The page of a run.

    Args:
        run: from `lkcanet.training.run_files.read_run`.
        images: that it is scored on; one is in memory at a time. The first is drawn. Without any there are no scores.
        notes: what else to say; read after the images.
        drawn: of the picture.
        ssim: of which windows MSSIM is.

    Returns:
        HTML, with all pictures in it.

    Raises:
        ValueError: images of other bands than the network's, or that its scale does not divide; a network that fuses
            and an image without MSI; pixels or bands that there are not.
    """
    found = _score(run, images, drawn, ssim)
    blocks: list[Block] = [Facts(_facts(run)), Items([*_warnings(run), *notes])]
    if run.validations or run.steps:
        blocks += [Heading("Curves"), picture_of("Learning curves", curves_figure(run), "svg")]
        blocks += [Text("MPSNR and SAM are of the validation; the dotted line is the best checkpoint.")]
    if found is not None:
        blocks += _scored_blocks(found, ssim)
    blocks += _settings(run)
    return render(f"Run {run.folder.resolve().name}", blocks)


def curves_figure(run: Run) -> "Figure":
    """MPSNR and SAM of the validations, and the loss of training and validation, over the steps."""
    figure: Figure = require("matplotlib.figure", extra="io").Figure(figsize=(13, 3.8), dpi=DPI, layout="constrained")
    panels: Any = figure.subplots(1, 3)
    for axis, key, label in ((panels[0], "mpsnr", "MPSNR (dB)"), (panels[1], "sam", "SAM (°)")):
        _plot(axis, run.validations, key, marker=".", color=COLOURS[0])
        axis.set_ylabel(f"{label} of the validation")
    _plot(panels[2], run.steps, "loss", color="#bbbbbb", linewidth=0.9, label="training")
    _plot(panels[2], run.validations, "loss", marker=".", color=COLOURS[0], label="validation")
    panels[2].set_ylabel("Loss")
    if all(each["loss"] > 0 for each in (*run.steps, *run.validations) if "loss" in each):
        panels[2].set_yscale("log")
    panels[2].legend(frameon=False, fontsize=8)
    for axis in panels:
        axis.set_xlabel("Step")
        plain(axis)
        if run.best_step is not None:
            axis.axvline(run.best_step, color="#888888", linestyle=":", linewidth=1)
    return figure


def _plot(axis: Any, rows: Sequence[Mapping[str, float]], key: str, **style: Any) -> None:
    there = [row for row in rows if key in row]
    axis.plot([row["step"] for row in there], [row[key] for row in there], **style)


def _score(run: Run, images: Iterable[Image], drawn: Drawn, ssim: SSIM) -> _Found | None:
    """Each image super-resolved once: for its scores, the sums of errors, and the picture of the first."""
    model, scores, first = run.model.fold().eval(), {}, None
    sums, relations = {"bicubic": ErrorSums(), NETWORK: ErrorSums()}, dict[str, None]()
    for image in images:
        target = image.target
        relations[image.relation] = None
        msi = msi_for(model, image.msi, target)
        target = seen_by_both(target, msi)
        if target.bands != model.bands:
            raise ValueError(f"{image.name} has {target.bands} bands, the network of {run.folder} {model.bands}")
        lowres = simulate_lowres(target, model.scale, psf_sigma=run.record.psf_sigma)
        results = results_of({NETWORK: model}, lowres, model.scale, target, msi)
        scores[image.name] = {
            name: score_scene(cube, target, model.scale, run.record.floor, ssim) for name, cube in results.items()
        }
        truth = seen(target.pixels, target.valid)
        for name, cube in results.items():
            sums[name].add(cube, truth)
        if first is None:
            quantity = Quantity.of(target, drawn.unit)
            figure = comparison(
                seen(lowres.pixels, lowres.valid),
                results["bicubic"],
                results[NETWORK],
                truth,
                scale=model.scale,
                wavelengths=target.wavelengths,
                pixels=drawn.pixels,
                title=f"{image.name} x{model.scale}",
                bands=drawn.bands,
                quantity=quantity,
                names=drawn.names,
                taken=None if target.band_choice is None else target.band_choice.taken,
            )
            first = (picture_of(f"{image.name}, before and after", figure), BandAxis.of_scene(target), quantity)
    return None if first is None else _Found(scores, list(relations), sums, *first)


def _scored_blocks(found: _Found, ssim: SSIM) -> list[Block]:
    quantity = found.quantity
    means = {name: mean_scores([rows[name] for rows in found.scores.values()]) for name in found.sums}
    count = len(found.scores)
    of = f"the mean of {count} images" if count > 1 else next(iter(found.scores))
    blocks: list[Block] = [Heading("Scores"), *(Text(each) for each in found.relations if each)]
    blocks.append(_table(means, "Method"))
    blocks.append(Text(f"Of {of}, beside bicubic; MSSIM is of {WINDOWS[ssim]}."))
    if count > 1:
        each = {name: rows[NETWORK] for name, rows in found.scores.items()}
        blocks.append(_table(each, "Image", folded=f"of the network on each of the {count} images"))
    blocks += [Heading("Before and after"), found.picture, Heading("Error of each band")]
    blocks += [picture_of("RMSE of each band", draw_band_errors(found.sums, found.bands, quantity))]
    blocks += [Heading("Error by brightness")]
    blocks.append(picture_of("Errors by brightness", draw_brightness_errors(found.sums, quantity)))
    blocks.append(_brightness_table(found.sums, quantity))
    return blocks


def _table(rows: Mapping[str, Metrics], first: str, folded: str = "") -> Table:
    columns = dict(COLUMNS)
    if all("sam_above" in row for row in rows.values()):
        columns["sam_above"] = ("SAM above the floor (°) ↓", 3, False)
    head = [first, *(heading for heading, _, _ in columns.values())]
    cells = []
    for name, row in rows.items():
        values = [(dict(row)[key], decimals) for key, (_, decimals, _) in columns.items()]
        cells.append([name, *(number_text(value, decimals) for value, decimals in values)])  # type: ignore[arg-type]
    classes = ["ours" if name == NETWORK else "plain" for name in rows]
    return Table(head, cells, classes, folded=bool(folded), caption=folded)


def _brightness_table(sums: Mapping[str, ErrorSums], quantity: Quantity) -> Table:
    head = [quantity.label("Root mean square"), "Share of pixels (%)"]
    head += [f"{name}: {score}" for score in ("RMSE", "SAM (°)") for name in sums]
    found = {name: errors.by_brightness() for name, errors in sums.items()}
    rows = []
    for place, bin_ in enumerate(brightness_bins(quantity)):
        cells = [f"{100 * found[NETWORK].share[place]:.2f}"]
        cells += [quantity.text(each.rmse[place]) for each in found.values()]
        cells += [number_text(each.sam[place], 3) for each in found.values()]
        rows.append([bin_, *cells])
    return Table(head, rows)


def _facts(run: Run) -> dict[str, str]:
    model, record, extra = run.model, run.record, run.record.extra
    scene, split = extra.get("scene", {}), extra.get("split", {})
    facts = {
        "Folder": str(run.folder.resolve()),
        "Network": f"{model.kind}, {model.parameter_count() / 1e6:.3f} M parameters",
    }
    facts["Bands, scale"] = f"{model.bands} bands, x{model.scale}"
    scenes = [str(one.get("name")) for one in extra.get("scenes") or [scene] if one.get("name")]
    if scenes:
        facts["Trained on"] = f"{', '.join(scenes[:6])}{', ...' if len(scenes) > 6 else ''} ({len(scenes)} in all)"
    if record.peak is not None:
        facts["Peak"] = f"{record.peak:g}"
    for name, key in (("Test region", "test"), ("Training inside", "train"), ("Validation", "validation")):
        if split.get(key):
            facts[name] = str(split[key])
    if "train_patches" in split:
        facts["Patches"] = f"{split['train_patches']} of {split['patch']} x {split['patch']} pixels"
    last = max((row["step"] for row in (*run.validations, *run.steps)), default=0)
    facts["Steps"] = f"{last:g} logged; the best checkpoint is of step {run.best_step}"
    best = extra.get("validation") or {}
    if "mpsnr" in best:
        facts["Best validation"] = f"MPSNR {best['mpsnr']:.3f} dB, SAM {best['sam']:.3f}°, loss {best['loss']:.5f}"
    return facts


def _warnings(run: Run) -> list[str]:
    """What speaks against the run, as far as its files tell."""
    found = []
    if run.best_step == 0 and len(run.validations) > 1:
        found.append("warning: the best checkpoint is the network that the training started from (step 0)")
    return found


def _settings(run: Run) -> list[Block]:
    blocks: list[Block] = [Heading("Settings")]
    if run.config is not None:
        return [*blocks, Code(run.config)]
    options = run.record.extra.get("options") or {}
    config = {f"network: {name}": str(value) for name, value in run.model.config.items()}
    return [*blocks, Facts({**config, **{name: str(value) for name, value in options.items()}})]
