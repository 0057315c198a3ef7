"""Axes of bands: where lines break, and what stands on the axes."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lkcanet.data import scene_from_array
from lkcanet.evaluation.side_by_side import side_by_side
from lkcanet.evaluation.spectra import BandAxis, Quantity, check_pixels, worst_pixels

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

# 224 bands as EnMAP has them, less those of water vapour at 1400 and 1900 nm
FULL = np.concatenate([np.linspace(420, 1000, 91), np.linspace(1010, 2450, 133)])
DRY = FULL[~(((FULL > 1350) & (FULL < 1430)) | ((FULL > 1800) & (FULL < 1950)))]


def test_lines_break_at_the_bands_of_water_vapour() -> None:
    axis = BandAxis.of(len(DRY), DRY)
    assert [len(FULL), 1] == [224, len(BandAxis.of(224, FULL).pieces)]
    ends = [(axis.places[piece][0], axis.places[piece][-1]) for piece in axis.pieces]
    assert len(ends) == 3
    assert ends[0][1] < 1351 < 1429 < ends[1][0]
    assert ends[1][1] < 1801 < 1949 < ends[2][0]
    x, y = axis.line(np.arange(len(DRY)))
    assert np.isnan(x).sum() == np.isnan(y).sum() == 2
    np.testing.assert_array_equal(x[~np.isnan(x)], DRY)
    np.testing.assert_array_equal(y[~np.isnan(y)], np.arange(len(DRY)))
    np.testing.assert_array_equal(np.isnan(x), np.isnan(y))


@pytest.mark.parametrize(
    ("waves", "pieces"),
    [
        (np.arange(400, 710, 10.0), 1),
        (np.array([443, 490, 560, 665, 705, 740, 783, 842, 865, 1610, 2190.0]), 3),  # Sentinel-2
        (np.array([443, 482, 561, 655, 865, 1609, 2201.0]), 2),  # Landsat 8
        (np.array([500.0, 900.0]), 1),
        (np.array([500.0]), 1),
        (np.array([400.0, 401, 402, 420, 421, 422]), 1),  # 18 nm: not worth a gap
        (np.array([660.0, 550, 460]), 1),
        (np.array([500.0, 500, 500, 510]), 1),
    ],
)
def test_pieces(waves: Any, pieces: int) -> None:
    axis = BandAxis.of(len(waves), waves)
    assert len(axis.pieces) == pieces
    assert sum(piece.stop - piece.start for piece in axis.pieces) == len(waves)
    np.testing.assert_array_equal(axis.places, np.sort(waves))


def test_bands_that_were_chosen_break_by_their_numbers() -> None:
    axis = BandAxis.of(5, None, (0, 1, 2, 9, 10))
    assert axis.pieces == (slice(0, 3), slice(3, 5))
    np.testing.assert_array_equal(axis.places, [1, 2, 3, 4, 5])
    scene = scene_from_array(np.random.default_rng(0).random((12, 4, 4))).with_bands([0, 1, 2, 9, 10])
    assert BandAxis.of_scene(scene).pieces == axis.pieces
    assert BandAxis.of_scene(scene).label == "Band"


def test_a_band_alone_is_a_dot() -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure()
    axis = figure.subplots()
    waves = [443, 490, 560, 665, 705, 740, 783, 842, 865, 1610, 2190.0]
    BandAxis.of(11, waves).draw(axis, np.arange(11.0), color="red", label="target")
    line, dots = axis.lines
    assert line.get_label() == "target"
    assert dots.get_xdata().tolist() == [1610, 2190]
    assert dots.get_ydata().tolist() == [9, 10]
    assert (dots.get_marker(), dots.get_color()) == (".", "red")


def test_quantities() -> None:
    scene = scene_from_array(np.random.default_rng(0).random((3, 4, 4)), peak=250.0)
    assert Quantity.of(scene) == (250.0, None)
    assert Quantity.of(scene, "radiance").label() == "Value (radiance)"
    assert Quantity.of(scene).label("RMSE") == "RMSE (units of the file)"
    assert Quantity().label() == "Value"
    assert [Quantity(250.0).text(value) for value in (0.5, 2, 0.0001, 0)] == ["125", "500", "0.0250", "0.00"]
    told: Any = SimpleNamespace(peak=2.0, encoding=SimpleNamespace(raw=False, units="W m-2"))
    assert Quantity.of(told).label() == "Value (W m-2)"
    assert Quantity.of(told, "reflectance").unit == "reflectance"
    told.encoding = SimpleNamespace(raw=True, units="W m-2")
    assert Quantity.of(told).unit == "counts"


def test_pixels_outside_are_refused() -> None:
    assert check_pixels([(1, 2)], (3, 3)) == [(1, 2)]
    with pytest.raises(ValueError, match=r"pixels is \[\(3, 0\)\], expected at most 6 \(row, column\) inside 3 x 3"):
        check_pixels([(3, 0)], (3, 3))


def test_worst_pixels_keep_apart() -> None:
    error = np.zeros((40, 40))
    error[20, 20], error[21, 21], error[5, 30] = 3, 2, 1
    assert worst_pixels(error, 2) == [(20, 20), (5, 30)]


def test_side_by_side_draws_spectra() -> None:
    target = np.random.default_rng(3).random((6, 12, 10), dtype=np.float32)
    results = {"near": target + np.float32(0.01), "far": 0.5 * target}
    figure = side_by_side(results, target, pixels=[(2, 3), (7, 8)], names=["lake"], quantity=Quantity(1000.0, "counts"))
    panels = [axis for axis in figure.axes if axis.get_title() in ("A lake (2, 3)", "B (7, 8)")]
    assert len(panels) == 2
    assert panels[0].get_ylabel() == "Value (counts)"
    for line, cube in zip(panels[1].lines, (target, *results.values()), strict=True):
        np.testing.assert_allclose(np.asarray(line.get_ydata()), 1000 * cube[:, 7, 8], rtol=1e-6)
    assert [str(line.get_label()) for line in panels[1].lines] == ["target", "near", "far"]
    scores = [axis.get_xlabel() for axis in figure.axes if "dB" in axis.get_xlabel()]
    assert scores[0].startswith("MPSNR 40.00 dB, SAM ")
    assert "10.0" in {axis.get_xlabel() for axis in figure.axes}  # mean error of "near", counts
    scene = replace(scene_from_array(target), wavelengths=np.arange(400, 460, 10.0))
    assert BandAxis.of_scene(scene).label == "Wavelength (nm)"
