"""Pictures: the arrays against loops, and what the figure shows against the cubes it was given."""

import dataclasses
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from lkcanet.data import bicubic_upsample, demo_scene, simulate_lowres
from lkcanet.evaluation.figures import before_and_after, comparison, save_figure
from lkcanet.evaluation.metrics import mpsnr, rmse, sam
from lkcanet.evaluation.pictures import colour_note, display_bands, error_map, false_colour, stretch_limits
from lkcanet.evaluation.spectra import Quantity
from lkcanet.inference import super_resolve
from lkcanet.models import LKCANet

WAVES = list(np.linspace(410, 690, 8))


def scene(height: int = 64, width: int = 80, bands: int = 8, scale: int = 4) -> dict[str, Any]:
    """Discs with spectra of their own, block-averaged, enlarged, and half repaired."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:height, :width]
    target = np.full((bands, height, width), 0.1, np.float32)
    for _ in range(9):
        disc = (rows - rng.integers(height)) ** 2 + (columns - rng.integers(width)) ** 2 < rng.integers(20, 200)
        target[:, disc] = rng.random(bands)[:, None]
    lowres = target.reshape(bands, height // scale, scale, width // scale, scale).mean((2, 4))
    bicubic = lowres.repeat(scale, 1).repeat(scale, 2)
    return {"lowres": lowres, "bicubic": bicubic, "prediction": (bicubic + target) / 2, "target": target}


def titles(figure: Figure) -> list[str]:
    return [axis.get_title() for axis in figure.axes if axis.get_title()]


@pytest.mark.parametrize(
    ("count", "waves", "expected"),
    [
        (128, None, (96, 64, 32)),
        (4, None, (3, 2, 1)),
        (3, None, (2, 1, 0)),
        (1, None, (0, 0, 0)),
        (20, range(400, 600, 10), (19, 15, 6)),
        (31, range(400, 710, 10), (24, 15, 6)),
        (31, range(700, 390, -10), (6, 15, 24)),
        (4, [900, 1000, 1100, 1200], (3, 2, 1)),
        (4, [1200, 1100, 1000, 900], (0, 1, 2)),
    ],
)
def test_display_bands(count: int, waves: Any, expected: tuple[int, int, int]) -> None:
    assert display_bands(count, waves) == expected


def test_false_colour_is_the_stretch_of_three_bands() -> None:
    cube = np.random.default_rng(0).random((9, 6, 7)).astype(np.float32)
    image = false_colour(cube, bands=(7, 0, 3))
    assert image.shape == (6, 7, 3)
    assert image.dtype == np.float32
    for channel, band in enumerate((7, 0, 3)):
        low, high = np.percentile(cube[band], 2), np.percentile(cube[band], 98)
        expected = np.clip((cube[band].astype(np.float64) - low) / (high - low), 0, 1)
        np.testing.assert_allclose(image[..., channel], expected, atol=1e-5)
    np.testing.assert_array_equal(image, false_colour(torch.from_numpy(cube)[None], bands=[7, 0, 3]))
    np.testing.assert_array_equal(false_colour(cube), false_colour(cube, bands=display_bands(9)))


def test_false_colour_with_shared_limits() -> None:
    cube = np.random.default_rng(0).random((3, 40, 40)).astype(np.float32)
    limits = stretch_limits(cube, (2, 1, 0))
    darker = false_colour(cube / 2, bands=(2, 1, 0), limits=limits)
    assert darker.max() < 0.55
    assert false_colour(cube / 2, bands=(2, 1, 0)).max() == 1


def test_false_colour_of_flat_and_missing_values() -> None:
    cube = np.ones((3, 8, 8), np.float32)
    cube[0] = np.arange(64).reshape(8, 8)
    cube[0, 7, 0] = np.nan
    image = false_colour(cube, bands=(0, 1, 2))
    assert image[7, 0, 0] == 0
    assert image[7, 7, 0] == 1
    assert (image[..., 1:] == 0).all()


def test_error_maps_agree_with_the_metrics() -> None:
    cubes = scene()
    y, x = cubes["bicubic"], cubes["target"]
    assert np.sqrt((error_map(y, x) ** 2).mean()) == pytest.approx(rmse(y, x))
    assert error_map(y, x, "sam").mean() == pytest.approx(sam(y, x))
    y[:, 2, 3] = 0
    angles = error_map(y, x, "sam")
    assert np.argwhere(np.isnan(angles)).tolist() == [[2, 3]]


@pytest.mark.parametrize("error", ["rmse", "sam"])
def test_comparison_shows_the_cubes(error: Any) -> None:
    cubes = scene()
    pixels = [(3, 70), (40, 12), (63, 0)]
    figure = comparison(**cubes, scale=4, wavelengths=WAVES, pixels=pixels, error=error, title="Discs")
    images: list[Any] = [axis.images[0] for axis in figure.axes if axis.images]
    assert len(images) == 6
    chosen = display_bands(8, WAVES)
    limits = stretch_limits(cubes["target"], chosen)
    for image, cube in zip(images[:4], cubes.values(), strict=True):
        np.testing.assert_allclose(image.get_array(), false_colour(cube, bands=chosen, limits=limits))
        assert image.get_extent() == [-0.5, 79.5, 63.5, -0.5]
    for image, name in zip(images[4:], ["bicubic", "prediction"], strict=True):
        np.testing.assert_allclose(image.get_array(), error_map(cubes[name], cubes["target"], error))
        assert image.get_clim() == images[4].get_clim()
        assert image.get_clim()[0] == 0
    panels = [axis for axis in figure.axes if axis.get_xlabel() == "Wavelength (nm)"]
    for axis, (row, column) in zip(panels, pixels, strict=True):
        lines: dict[str, Any] = {str(line.get_label()): line for line in axis.lines}
        assert list(lines) == ["Target", "Bicubic", "Super-resolved"]
        for label, name in zip(lines, ["target", "bicubic", "prediction"], strict=True):
            np.testing.assert_allclose(lines[label].get_xdata(), WAVES)
            np.testing.assert_allclose(lines[label].get_ydata(), cubes[name][:, row, column])
    for image in images[1:]:
        rings = [line.get_xydata().ravel().tolist() for line in image.axes.lines]
        assert rings == [[column, row] for row, column in pixels]
    unit = "Angle (degrees)" if error == "sam" else "RMSE"
    assert unit in {text.get_text() for text in figure.findobj(Text)}
    for image, name in zip(images[1:3], ["bicubic", "prediction"], strict=True):
        y, x = cubes[name], cubes["target"]
        assert image.axes.get_xlabel() == f"MPSNR {mpsnr(y, x):.2f} dB, SAM {sam(y, x):.2f}°"
    assert figure.get_suptitle() == "Discs"


def test_axes_are_in_the_scenes_units() -> None:
    cubes, pixels = scene(), [(3, 70), (40, 12)]
    quantity = Quantity(4000.0, "counts")
    names = ["roof", ""]
    figure = comparison(**cubes, scale=4, wavelengths=WAVES, pixels=pixels, quantity=quantity, names=names)
    texts = {text.get_text() for text in figure.findobj(Text)}
    assert {"Value (counts)", "RMSE (counts)", "A roof (3, 70)", "B (40, 12)"} <= texts
    panel = next(axis for axis in figure.axes if axis.get_title() == "A roof (3, 70)")
    np.testing.assert_allclose(np.asarray(panel.lines[0].get_ydata()), 4000 * cubes["target"][:, 3, 70], rtol=1e-6)
    maps: list[Any] = [axis.images[0].get_array() for axis in figure.axes if "error" in axis.get_title()]
    np.testing.assert_allclose(maps[0], 4000 * error_map(cubes["bicubic"], cubes["target"]), rtol=1e-6)
    mean = 4000 * error_map(cubes["bicubic"], cubes["target"]).mean()
    assert f"mean {mean:.0f}" in texts
    of_no_unit = comparison(**cubes, scale=4, quantity=Quantity(4000.0))
    assert "Value (units of the file)" in {text.get_text() for text in of_no_unit.findobj(Text)}


def test_scores_are_of_the_pixels_with_data() -> None:
    cubes = scene()
    y, x = cubes["prediction"].copy(), cubes["target"].copy()
    x[:, :10] = y[:, :10] = np.nan
    figure = comparison(cubes["lowres"], cubes["bicubic"], y, x, scale=4)
    expected = f"MPSNR {mpsnr(y[:, 10:], x[:, 10:]):.2f} dB, SAM {sam(y[:, 10:], x[:, 10:]):.2f}°"
    assert expected in {axis.get_xlabel() for axis in figure.axes}


def test_the_note_tells_natural_colour_from_false() -> None:
    waves = list(range(400, 710, 10))
    assert colour_note(display_bands(31, waves), waves).startswith("Natural colour: 640 / 550 / 460 nm as")
    assert colour_note((30, 15, 6), waves).startswith("False colour: 700 / 550 / 460 nm as")
    assert colour_note((2, 1, 0)).startswith("False colour: bands 3 / 2 / 1 as")


def test_comparison_without_target_and_wavelengths() -> None:
    cubes = scene()
    del cubes["target"]
    tensors: dict[str, Any] = {name: torch.from_numpy(cube)[None] for name, cube in cubes.items()}
    figure = comparison(**tensors, scale=4)
    assert not any("error" in title for title in titles(figure))
    panels = [axis for axis in figure.axes if axis.get_xlabel() == "Band"]
    assert len(panels) == 3
    np.testing.assert_array_equal(panels[0].lines[0].get_xdata(), np.arange(1, 9))


def test_default_pixels_are_the_worst_of_bicubic_and_apart() -> None:
    cubes = scene()
    cubes["target"][:, 20, 30] += 5
    first, second = (comparison(**cubes, scale=4) for _ in range(2))
    assert titles(first) == titles(second)
    assert "A (20, 30)" in titles(first)
    (_, a), (_, b) = (title.split(" ", 1) for title in titles(first) if title[:3] in ("A (", "B ("))
    (r, c), (s, d) = (map(int, text.strip("()").split(",")) for text in (a, b))
    assert (r - s) ** 2 + (c - d) ** 2 >= 16**2


@pytest.mark.parametrize(
    ("height", "width", "count", "with_target"),
    [(64, 80, 0, True), (96, 48, 6, True), (32, 128, 6, True), (32, 128, 0, True), (64, 80, 6, False)],
)
def test_labels_do_not_overlap(height: int, width: int, count: int, with_target: bool) -> None:
    cubes = scene(height, width)
    cubes = cubes if with_target else {**cubes, "target": None}
    figure = comparison(**cubes, scale=4, wavelengths=WAVES, pixels=[(5 * i, 7 * i) for i in range(count)])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    ticks = {tick for axis in figure.findobj(Axes) for tick in axis.get_xticklabels() + axis.get_yticklabels()}
    letters = set("ABCDEF")
    texts = [t for t in figure.findobj(Text) if t.get_text() and t not in ticks and t.get_text() not in letters]
    boxes = [(t.get_text(), t.get_window_extent(canvas.get_renderer())) for t in texts]
    boxes = [(text, box) for text, box in boxes if box.width > 1]  # 1 x 1 is matplotlib's box of a hidden text
    assert len(boxes) > 10
    for (a, box), (b, other) in combinations(boxes, 2):
        assert not box.shrunk(0.98, 0.9).overlaps(other.shrunk(0.98, 0.9)), f"{a!r} covers {b!r}"
    for text, box in boxes:
        assert box.x0 >= -1, text
        assert box.x1 <= figure.bbox.width + 1, text


def test_save_figure(tmp_path: Path) -> None:
    path = save_figure(comparison(**scene(), scale=4), tmp_path / "a.png")
    assert path == tmp_path / "a.png"
    picture = iio.imread(path)
    assert picture.shape[1] == 1600
    assert picture[..., :3].std() > 20
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_save_figure_keeps_the_old_file_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def fail(self: Figure, name: Path, **_: Any) -> None:
        Path(name).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        save_figure(Figure(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_save_figure_names_a_bad_path(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.xyz.*png"):
        save_figure(Figure(), tmp_path / "a.xyz")
    with pytest.raises(FileNotFoundError):
        save_figure(Figure(), tmp_path / "absent" / "a.png")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bicubic": np.zeros((8, 60, 80))}, r"bicubic has shape \(8, 60, 80\), expected \(8, 64, 80\)"),
        ({"lowres": np.zeros((8, 16))}, "lowres has shape"),
        ({"scale": 0}, "scale is 0"),
        ({"pixels": [(64, 0)]}, "pixels is"),
        ({"pixels": [(0, 0)] * 7}, "at most 6"),
        ({"wavelengths": [500.0]}, "wavelengths has 1 values"),
        ({"wavelengths": [0.4] * 8}, "nanometres"),
        ({"error": "psnr"}, "'rmse' or 'sam'"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        comparison(**{**scene(), "scale": 4, **change})


def test_bad_bands_and_limits_are_named() -> None:
    cube = np.zeros((3, 4, 4))
    with pytest.raises(ValueError, match="bands holds 3"):
        false_colour(cube, bands=(0, 1, 3))
    with pytest.raises(ValueError, match="three indices"):
        false_colour(cube, bands=(0, 1))
    with pytest.raises(ValueError, match="limits has shape"):
        false_colour(cube, limits=np.zeros(2))


def test_imports_are_lazy_and_leave_pyplot_alone() -> None:
    code = (
        "import sys, lkcanet.evaluation.figures as f, lkcanet.evaluation.tables\n"
        "assert not {'matplotlib', 'rich'} & set(sys.modules)\n"
        "import numpy as np; big = np.ones((3, 16, 16)); big[:, 3, 4] = 2\n"
        "f.comparison(big[:, ::4, ::4], big, big, 0.5 * big, scale=4).savefig('/dev/null', format='png')\n"
        "assert 'matplotlib.figure' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=root)


def test_a_symbolic_link_stays_one(tmp_path):
    (tmp_path / "real.png").write_bytes(b"old")
    (tmp_path / "link.png").symlink_to(tmp_path / "real.png")
    save_figure(Figure(), tmp_path / "link.png")
    assert (tmp_path / "link.png").is_symlink()
    assert (tmp_path / "real.png").read_bytes().startswith(b"\x89PNG")


def test_before_and_after_is_the_comparison_of_what_the_network_makes(tmp_path: Path) -> None:
    pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")
    target = demo_scene((32, 40), 8, seed=1)
    valid = np.ones(target.size, bool)
    valid[:4, :4] = False
    target = dataclasses.replace(target, valid=valid, peak=4000.0)
    lowres = simulate_lowres(target, 2)
    torch.manual_seed(0)
    model = LKCANet(8, 2, 16, 1, 1, reduction=8).eval()
    with torch.no_grad():
        model.upsample.conv.get_parameter("parametrizations.weight.original0").fill_(0.3)
    result = super_resolve(model, lowres)
    holes = [np.where(valid, cube, np.nan) for cube in (
        bicubic_upsample(lowres.tensor(), 2)[0].numpy(), result.pixels, target.pixels)]  # fmt: skip
    low = np.where(np.asarray(lowres.valid), lowres.pixels, np.nan)
    assert target.wavelengths is not None
    given: dict[str, Any] = {"pixels": [(9, 9)], "title": "t", "error": "sam"}
    expected = comparison(low, *holes, scale=2, wavelengths=list(target.wavelengths), **given,
                          quantity=Quantity(4000.0, "counts"))  # fmt: skip
    pictures = []
    for name, figure in (
        ("expected", expected),
        ("ours", before_and_after(model, lowres, target, unit="counts", **given)),
    ):
        pictures.append(iio.imread(save_figure(figure, tmp_path / f"{name}.png")))
    assert np.array_equal(*pictures)
    plain = iio.imread(save_figure(before_and_after(model, lowres), tmp_path / "plain.png"))
    assert plain.shape != pictures[0].shape or not np.array_equal(plain, pictures[0])
