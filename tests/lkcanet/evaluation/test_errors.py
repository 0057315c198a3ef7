"""Errors by band and by brightness: against plain loops, whatever images they are summed over."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from lkcanet.evaluation.errors import (
    EDGES,
    ErrorSums,
    brightness_bins,
    draw_band_errors,
    draw_brightness_errors,
)
from lkcanet.evaluation.metrics import rmse
from lkcanet.evaluation.spectra import BandAxis, Quantity

RNG = np.random.default_rng(1)
TARGET = (RNG.random((5, 20, 30)) * np.geomspace(0.002, 1.2, 30)).astype(np.float32)
NEAR = (TARGET + RNG.normal(0, 0.01, TARGET.shape)).astype(np.float32)


def of(*pairs: tuple[Any, Any]) -> ErrorSums:
    sums = ErrorSums()
    for prediction, target in pairs:
        sums.add(prediction, target)
    return sums


def test_by_band_is_the_rmse_of_each() -> None:
    expected = [rmse(y[None], x[None]) for y, x in zip(NEAR, TARGET, strict=True)]
    np.testing.assert_allclose(of((NEAR, TARGET)).by_band(), expected, rtol=1e-6)


def test_by_brightness_is_of_the_pixels_in_each_bin() -> None:
    found = of((NEAR, TARGET)).by_brightness()
    y, x = (cube.astype(np.float64).reshape(5, -1) for cube in (NEAR, TARGET))
    brightness = np.sqrt((x**2).mean(0))
    filled = 0
    for number, (low, high) in enumerate(pairwise(EDGES)):
        there = (brightness >= low) & (brightness < high)
        assert found.share[number] == pytest.approx(there.mean())
        if not there.any():
            assert np.isnan(found.rmse[number])
            continue
        filled += 1
        a, b = y[:, there], x[:, there]
        assert found.rmse[number] == pytest.approx(np.sqrt(((a - b) ** 2).mean()), rel=1e-6)
        cosine = (a * b).sum(0) / np.sqrt((a**2).sum(0) * (b**2).sum(0))
        assert found.sam[number] == pytest.approx(np.degrees(np.arccos(cosine)).mean(), rel=1e-5)
    assert filled >= 8
    assert found.share.sum() == pytest.approx(1)


def test_images_add_up_and_holes_do_not_count() -> None:
    whole = of((NEAR, TARGET))
    parts = of((NEAR[:, :7], TARGET[:, :7]), (NEAR[:, 7:], TARGET[:, 7:]))
    np.testing.assert_allclose(parts.by_band(), whole.by_band(), rtol=1e-9)
    for a, b in zip(parts.by_brightness(), whole.by_brightness(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)
    holes = TARGET.copy()
    holes[:, 7:] = np.nan
    np.testing.assert_allclose(of((NEAR, holes)).by_band(), of((NEAR[:, :7], TARGET[:, :7])).by_band(), rtol=1e-9)


def test_zero_spectra_have_no_angle() -> None:
    dark = TARGET.copy()
    dark[:, 0, 0] = 0
    found = of((NEAR, dark)).by_brightness()
    assert np.isfinite(found.sam[:8]).all()


def test_negative_and_bright_pixels_have_a_bin() -> None:
    found = of((np.full((2, 1, 2), 3.0), np.array([[[-5.0, 7.0]]] * 2))).by_brightness()
    assert found.share[-1] == 1


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected that of target"):
        of((NEAR[:, :3], TARGET))
    with pytest.raises(ValueError, match="equal bands"):
        of((NEAR, TARGET), (NEAR[:3], TARGET[:3]))
    with pytest.raises(ValueError, match="no image"):
        ErrorSums().by_band()


def test_the_figures_show_them_in_units() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    sums = {"bicubic": of((1.1 * TARGET, TARGET)), "a $b$": of((NEAR, TARGET))}
    quantity = Quantity(1000.0, "counts")
    (axis,) = draw_band_errors(sums, BandAxis.of(5, [400, 420, 440, 900, 920]), quantity).axes
    y = np.asarray(axis.lines[1].get_ydata())
    np.testing.assert_allclose(y[~np.isnan(y)], 1000 * sums["a $b$"].by_band())
    assert np.isnan(y).sum() == 1
    assert axis.get_ylabel() == "RMSE (counts)"
    left, right, *behind = draw_brightness_errors(sums, quantity).axes
    np.testing.assert_allclose(np.asarray(left.lines[1].get_ydata()), 1000 * sums["a $b$"].by_brightness().rmse)
    np.testing.assert_allclose(np.asarray(right.lines[0].get_ydata()), sums["bicubic"].by_brightness().sam)
    heights = [patch.get_height() for patch in behind[0].patches]
    np.testing.assert_allclose(heights, 100 * sums["bicubic"].by_brightness().share)


def test_bins_are_named_in_units() -> None:
    assert brightness_bins(Quantity())[:2] == ["0-0.01", "0.01-0.02"]
    assert brightness_bins(Quantity(10000.0))[-1] == "8000 or more"
    assert len(brightness_bins(Quantity())) == len(EDGES) - 1
