"""A scene at a glance, without a network: colour, spectra, distribution of values, masks, and its facts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lkcanet.common.optional import require
from lkcanet.common.pages import Block, Facts, Heading, Table, Text, picture_of, render
from lkcanet.common.plots import COLOURS, literal, plain
from lkcanet.evaluation.pictures import check_bands, colour_note, display_bands, false_colour
from lkcanet.evaluation.spectra import BandAxis, Quantity, check_pixels, mark_pixels, pixel_title

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lkcanet.data.encoding import Encoding
    from lkcanet.data.scenes import Scene

__all__ = ["BandValues", "band_values", "quicklook", "quicklook_page", "told", "typical_pixels"]

SIDE = 1200  # pixels of a picture's longer side, at most: a larger scene is thinned
SPECTRA = 20000  # pixels whose values are looked at, at most
CLUSTERED = 4000  # of these, for typical pixels
MASKS = (("no data", "#4d4d4d"), ("below zero", "#56b4e9"), ("at the largest value", "#d55e00"))
SMALL, MEDIUM, LARGE = 9, 11, 14  # points


class BandValues(NamedTuple):
    """Of the valid pixels of each band, in the units of the source, (B,) each."""

    smallest: "np.ndarray"
    largest: "np.ndarray"
    mean: "np.ndarray"
    deviation: "np.ndarray"


def band_values(scene: "Scene") -> BandValues:
    """Smallest, largest, mean and standard deviation of each band, a band at a time, in float64."""
    np = require("numpy", extra="io")
    rows = []
    for band in scene.pixels:
        seen = (band if scene.valid is None else band[scene.valid]).astype(np.float64)
        rows.append((seen.min(), seen.max(), seen.mean(), seen.std()))
    return BandValues(*(scene.peak * np.array(column) for column in zip(*rows, strict=True)))


def typical_pixels(scene: "Scene", count: int = 4) -> list[tuple[int, int]]:
    """Pixels of unlike spectra, (row, column), by rows: those nearest to the centres of `count` k-means clusters of at
    most 4000 valid spectra, chosen at random; fewer where the scene has no more. The same for every call."""
    np = require("numpy", extra="io")
    rows, columns = _drawn(scene, CLUSTERED)
    spectra = scene.pixels[:, rows, columns].T.astype(np.float64)
    if len(np.unique(spectra, axis=0)) <= count:
        _, first = np.unique(spectra, axis=0, return_index=True)
        return sorted((int(rows[i]), int(columns[i])) for i in first)
    vq = require("scipy.cluster.vq", extra="io")
    centres, _ = vq.kmeans2(spectra, count, minit="++", seed=0, missing="raise")
    found = {int(((spectra - centre) ** 2).sum(1).argmin()) for centre in centres}
    return sorted((int(rows[i]), int(columns[i])) for i in found)


def quicklook(
    scene: "Scene",
    *,
    pixels: Sequence[tuple[int, int]] = (),
    names: Sequence[str] = (),
    bands: Sequence[int] | None = None,
    unit: str | None = None,
    title: str | None = None,
    facts: bool = True,
) -> "Figure":
    """Colour with marked pixels, masks, spectra of the pixels over the range of all, histogram, facts.

    A scene larger than 1200 pixels a side is drawn thinned, and ranges and histogram are those of at most 20,000 valid
    pixels, chosen at random. Masks are of all pixels that are drawn: no data; below zero in a band; at the scene's
    largest value in a band, as saturated pixels are.

    Args:
        scene: any.
        pixels: (row, column), at most 6; `typical_pixels` by default.
        names: what to call them besides A, B, ...
        bands: three indices to show as red, green and blue; `display_bands` by default.
        unit: of the scene's values, such as "reflectance"; what its file says by default.
        title: above the figure; the scene's name by default.
        facts: write what `told` tells into the figure.

    Raises:
        ValueError: a pixel outside of the scene, more than 6, or bands that there are not.
    """
    marks = check_pixels(pixels, scene.size) or typical_pixels(scene)
    chosen = display_bands(scene.bands, scene.wavelengths) if bands is None else check_bands(bands, scene.bands)
    quantity, axis_of_bands = Quantity.of(scene, unit), BandAxis.of_scene(scene)
    height, width = scene.size
    cell = 5.2
    tall = min(7.0, max(1.2, cell * height / width))
    figure: Figure = require("matplotlib.figure", extra="io").Figure(
        figsize=(12.8, tall + 4.9), dpi=125, layout="constrained"
    )
    parts: Any = figure.subfigures(2, 1, height_ratios=[tall + 0.7, 4.0])
    top, bottom = parts
    image, masks = top.subplots(1, 2)
    step = max(1, -(-max(height, width) // SIDE))
    _draw_image(image, scene, chosen, step)
    mark_pixels(image, marks)
    _draw_masks(masks, scene, step)
    spectra, histogram, *texts = bottom.subplots(1, 3 if facts else 2, width_ratios=[1.5, 1, 1][: 3 if facts else 2])
    rows, columns = _drawn(scene, SPECTRA)
    values = scene.pixels[:, rows, columns] * quantity.factor
    _draw_spectra(spectra, scene, values, marks, names, axis_of_bands, quantity)
    _draw_histogram(histogram, values, chosen, scene.wavelengths, quantity)
    for axis in texts:
        axis.axis("off")
        lines = [f"{name}: {text}" for name, text in told(scene, unit).items()]
        text = literal("\n".join(_cut(line) for line in lines))
        axis.text(0, 1, text, va="top", fontsize=SMALL, linespacing=1.5)
    figure.suptitle(literal(title or scene.name or "Scene"), fontsize=LARGE, fontweight="bold")
    note = colour_note(chosen, scene.wavelengths).replace(" for all images", "")
    figure.supxlabel(note, fontsize=SMALL, x=0.01, ha="left", color="#444444")
    return figure


def told(scene: "Scene", unit: str | None = None) -> dict[str, str]:
    """What `lkcanet.data.describe_scene` says, in words, for people."""
    from lkcanet.data import describe_scene
    from lkcanet.data.georeference import system_name

    facts, quantity = describe_scene(scene), Quantity.of(scene, unit)
    lines = {"Source": scene.source} if scene.source else {}
    choice = scene.band_choice
    lines["Bands"] = f"{scene.bands}" + ("" if choice is None else f" of {choice.of}")
    if scene.wavelengths is not None:
        lines["Wavelengths"] = f"{scene.wavelengths.min():g} to {scene.wavelengths.max():g} nm"
    lines["Pixels"] = f"{facts['rows']} rows x {facts['columns']} columns"
    lines["Values"] = f"{facts['smallest']:g} to {facts['largest']:g}, mean {facts['mean']:.4g}"
    lines["Unit"] = quantity.unit or "not known"
    lines["Peak"] = f"{scene.peak:g}"
    if scene.encoding is not None:
        lines["Stored as"] = _stored(scene.encoding)
    if facts.get("bad_bands"):
        lines["Bad bands"] = f"{len(facts['bad_bands'])}, by the file's marks"
    lines["No data"] = f"{facts['invalid']:.2%} of the pixels"
    if facts["pixel_size"] is not None:
        lines["Pixel size"] = " x ".join(f"{side:g}" for side in facts["pixel_size"])
    if facts["crs"]:
        lines["CRS"] = system_name(facts["crs"])
    return lines


def quicklook_page(
    scene: "Scene",
    *,
    pixels: Sequence[tuple[int, int]] = (),
    names: Sequence[str] = (),
    bands: Sequence[int] | None = None,
    unit: str | None = None,
    title: str | None = None,
) -> str:
    """`quicklook` as a page of HTML that refers to nothing, with the facts and a table of all bands; arguments and
    errors as there."""
    heading = title or scene.name or "Scene"
    figure = quicklook(scene, pixels=pixels, names=names, bands=bands, unit=unit, title=heading, facts=False)
    blocks: list[Block] = [Facts(told(scene, unit)), picture_of(f"Quicklook of {heading}", figure)]
    head = ["Band", "Wavelength (nm)", "Name", "Smallest", "Largest", "Mean", "Standard deviation"]
    values = band_values(scene)
    rows = []
    for band in range(scene.bands):
        nanometres = "" if scene.wavelengths is None else f"{scene.wavelengths[band]:g}"
        name = "" if scene.band_names is None else scene.band_names[band]
        rows.append([str(band + 1), nanometres, name, *(f"{column[band]:.5g}" for column in values)])
    blocks += [Heading("Bands"), Text(f"Of the valid pixels; {Quantity.of(scene, unit).label('values').lower()}.")]
    blocks.append(Table(head, rows, folded=scene.bands > 12, caption=f"all {scene.bands} bands"))
    return render(heading, blocks)


def _stored(encoding: "Encoding") -> str:
    """ "int16 x 0.0001 + -0.1, nodata -32768"; several scales as their range."""
    text = encoding.dtype
    for sign, values, none in ((" x", encoding.scale, 1.0), (" +", encoding.offset, 0.0)):
        each = values if isinstance(values, tuple) else (values,)
        if set(each) != {none}:
            text += f"{sign} {min(each):g}" + ("" if len(set(each)) == 1 else f" to {max(each):g}")
    text += " (not applied)" if encoding.raw and text != encoding.dtype else ""
    return text + ("" if encoding.nodata is None else f", nodata {encoding.nodata:g}")


def _drawn(scene: "Scene", most: int) -> "tuple[np.ndarray, np.ndarray]":
    """Rows and columns of at most so many valid pixels, all where there are no more, in their order; the same for every
    call."""
    np = require("numpy", extra="io")
    valid = None if scene.valid is None else np.flatnonzero(scene.valid)
    count = scene.size[0] * scene.size[1] if valid is None else len(valid)
    # at random: every n-th could follow the columns, and see stripes
    chosen = np.arange(count) if count <= most else np.unique(np.random.default_rng(0).integers(0, count, most))
    rows, columns = np.unravel_index(chosen if valid is None else valid[chosen], scene.size)
    return rows, columns


def _draw_image(axis: "Axes", scene: "Scene", chosen: Sequence[int], step: int) -> None:
    np = require("numpy", extra="io")
    thin = np.stack([scene.pixels[band, ::step, ::step] for band in chosen])
    if scene.valid is not None:
        thin = np.where(scene.valid[::step, ::step], thin, np.float32(np.nan))
    axis.imshow(false_colour(thin, bands=(0, 1, 2)), extent=_extent(scene))
    axis.set_title(f"{scene.size[0]} rows x {scene.size[1]} columns", fontsize=MEDIUM)
    axis.tick_params(labelsize=8)
    axis.locator_params(nbins=5)


def _draw_masks(axis: "Axes", scene: "Scene", step: int) -> None:
    """Which pixels have no data, are negative or saturated, with their shares."""
    np = require("numpy", extra="io")
    thin = scene.pixels[:, ::step, ::step]
    below, highest = np.zeros(thin.shape[1:], bool), np.full(thin.shape[1:], -np.inf)
    for band in thin:
        below |= band < 0
        np.maximum(highest, band, out=highest)
    valid = np.ones(below.shape, bool) if scene.valid is None else scene.valid[::step, ::step]
    top = highest[valid].max() if valid.any() else np.inf
    each = {"no data": ~valid, "below zero": below & valid, "at the largest value": (highest == top) & valid}
    picture = np.ones((*below.shape, 3), np.float32) * np.float32(0.93)
    colors = require("matplotlib.colors", extra="io")
    patches = require("matplotlib.patches", extra="io")
    handles = []
    for name, colour in MASKS:
        picture[each[name]] = colors.to_rgb(colour)
        handles.append(patches.Patch(color=colour, label=f"{name}: {_share(each[name])}"))
    axis.imshow(picture, extent=_extent(scene), interpolation="nearest")
    axis.set_title("Masks", fontsize=MEDIUM)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=3, fontsize=SMALL,
                frameon=False, handlelength=1, columnspacing=1)  # fmt: skip


def _draw_spectra(
    axis: "Axes",
    scene: "Scene",
    values: "np.ndarray",
    marks: Sequence[tuple[int, int]],
    names: Sequence[str],
    bands: BandAxis,
    quantity: Quantity,
) -> None:
    np = require("numpy", extra="io")
    low, middle, high = np.percentile(values, (5, 50, 95), axis=1)
    x, lower = bands.line(low)
    axis.fill_between(x, lower, bands.line(high)[1], color="#dddddd", linewidth=0, label="5-95 %")
    bands.draw(axis, middle, color="#888888", linewidth=1.2, linestyle="--", label="median")
    for number, (row, column) in enumerate(marks):
        spectrum = scene.pixels[:, row, column] * quantity.factor
        name = pixel_title(number, (row, column), names)
        bands.draw(axis, spectrum, color=COLOURS[number], linewidth=1.5, label=name)
    bands.dress(axis)
    axis.set_ylabel(quantity.label(), fontsize=SMALL)
    axis.set_title("Spectra", fontsize=MEDIUM)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), fontsize=8, frameon=False, ncols=4)


def _draw_histogram(
    axis: "Axes", values: "np.ndarray", chosen: Sequence[int], waves: "np.ndarray | None", quantity: Quantity
) -> None:
    """Of all bands, and of those that are shown; the outermost 0.1 % are left out, and stand in the facts."""
    np = require("numpy", extra="io")
    low, high = np.percentile(values, (0.1, 99.9))
    edges = np.linspace(low, high if high > low else low + 1, 81).tolist()
    axis.hist(
        values.ravel(), edges, weights=np.full(values.size, 100 / values.size), color="#cccccc", label="all bands"
    )
    for band, colour in zip(dict.fromkeys(chosen), ("#d62728", "#2ca02c", "#1f77b4"), strict=False):
        label = f"band {band + 1}" if waves is None else f"{waves[band]:.0f} nm"
        weights = np.full(values.shape[1], 100 / values.shape[1])
        axis.hist(values[band], edges, weights=weights, histtype="step", color=colour, linewidth=1.3, label=label)
    axis.set_xlabel(quantity.label(), fontsize=SMALL)
    axis.set_ylabel("Share (%)", fontsize=SMALL)
    axis.set_title("Histogram", fontsize=MEDIUM)
    axis.tick_params(labelsize=SMALL)
    axis.locator_params(axis="x", nbins=5)
    axis.legend(loc="upper right", fontsize=8, frameon=False)
    plain(axis)


def _extent(scene: "Scene") -> tuple[float, float, float, float]:
    return (-0.5, scene.size[1] - 0.5, scene.size[0] - 0.5, -0.5)


def _share(mask: "np.ndarray") -> str:
    count = int(mask.sum())
    return "none" if not count else f"{count / mask.size:.2%}" if count >= 0.0001 * mask.size else f"{count} pixels"


def _cut(line: str, most: int = 58) -> str:
    return line if len(line) <= most else f"{line[: most // 2]}...{line[-most // 2 + 3 :]}"
