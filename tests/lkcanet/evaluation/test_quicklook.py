"""A scene at a glance: what the picture shows against the pixels, and a page that refers to nothing."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lkcanet.data import Encoding, Scene, scene_from_array
from lkcanet.evaluation import quicklook, quicklook_page, save_figure
from lkcanet.evaluation.pictures import display_bands, false_colour
from lkcanet.evaluation.quicklook import MASKS, band_values, told, typical_pixels

from ..common.html_page import Page

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
pytest.importorskip("scipy", reason="scipy is not installed")
colors = pytest.importorskip("matplotlib.colors")

WAVES = np.concatenate([np.linspace(420, 1340, 12), np.linspace(1740, 1900, 4)])


def fields() -> Scene:
    """Four fields of unlike spectra with a little noise, a hole, a negative and two saturated pixels; counts."""
    rng = np.random.default_rng(0)
    kinds = rng.random((16, 4)) * 800 + 100
    cube = np.empty((16, 40, 60))
    for number, part in enumerate(np.s_[:20, :30] if i == 0 else p for i, p in enumerate(
        [np.s_[:20, :30], np.s_[:20, 30:], np.s_[20:, :30], np.s_[20:, 30:]]
    )):  # fmt: skip
        cube[(slice(None), *part)] = kinds[:, number][:, None, None]
    cube += rng.normal(0, 2, cube.shape)
    cube[3, 5, 7] = -20
    cube[4, 30, 40:42] = 2000
    valid = np.ones((40, 60), bool)
    valid[:4, :6] = False
    return replace(scene_from_array(cube, wavelengths=WAVES, name="fields"), valid=valid)


def test_typical_pixels_are_of_each_kind_and_valid() -> None:
    scene = fields()
    assert scene.valid is not None
    found = typical_pixels(scene)
    assert {(row // 20, column // 30) for row, column in found} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert all(scene.valid[mark] for mark in found)
    assert found == typical_pixels(scene) == sorted(found)
    flat = scene_from_array(np.ones((3, 4, 5)))
    assert typical_pixels(flat) == [(0, 0)]


def test_values_of_bands_are_of_valid_pixels_in_units() -> None:
    scene = fields()
    assert scene.valid is not None
    values = band_values(scene)
    seen = scene.pixels.astype(np.float64)[:, scene.valid] * scene.peak
    for got, expected in zip(values, (seen.min(1), seen.max(1), seen.mean(1), seen.std(1)), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert values.smallest[3] == pytest.approx(-20, rel=1e-5)


def test_the_picture_shows_the_scene() -> None:
    scene = fields()
    assert scene.valid is not None
    figure = quicklook(scene, pixels=[(10, 10), (30, 50)], names=["meadow"], unit="counts")
    image, masks, spectra, histogram, facts = figure.axes
    shown = np.where(scene.valid, scene.pixels, np.nan)
    drawn: Any = image.images[0].get_array()
    np.testing.assert_allclose(drawn, false_colour(shown, bands=display_bands(16, list(WAVES))), atol=1e-6)
    picture: Any = masks.images[0].get_array()
    for name, colour in MASKS:
        there = np.isclose(picture, colors.to_rgb(colour)).all(-1)
        expected = {
            "no data": ~scene.valid,
            "below zero": (scene.pixels < 0).any(0) & scene.valid,
            "at the largest value": (scene.pixels == scene.pixels.max()).any(0),
        }[name]
        np.testing.assert_array_equal(there, expected)
    legend = [text.get_text() for text in masks.get_legend().get_texts()]  # type: ignore[union-attr]
    assert legend == ["no data: 1.00%", "below zero: 0.04%", "at the largest value: 0.08%"]
    lines = {str(line.get_label()): line for line in spectra.lines}
    assert list(lines) == ["median", "A meadow (10, 10)", "B (30, 50)"]
    y = np.asarray(lines["B (30, 50)"].get_ydata())
    np.testing.assert_allclose(y[~np.isnan(y)], scene.pixels[:, 30, 50] * scene.peak, rtol=1e-6)
    assert np.isnan(y).sum() == 1  # the gap between 1340 and 1740 nm
    assert spectra.get_ylabel() == histogram.get_xlabel() == "Value (counts)"
    heights = sum(patch.get_height() for patch in histogram.patches[:80])
    assert heights == pytest.approx(99.8, abs=0.1)
    assert "Bands: 16" in facts.texts[0].get_text()
    assert figure.get_suptitle() == "fields"


def test_large_scenes_are_thinned() -> None:
    scene = scene_from_array(np.random.default_rng(0).random((3, 3, 2500)))
    figure = quicklook(scene, facts=False)
    drawn: Any = figure.axes[0].images[0].get_array()
    assert drawn.shape == (1, 834, 3)
    assert figure.axes[0].images[0].get_extent() == [-0.5, 2499.5, 2.5, -0.5]


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 4), (2, 1, 9), (5, 3, 3)])
def test_small_scenes(shape: tuple[int, int, int], tmp_path) -> None:
    scene = scene_from_array(np.random.default_rng(0).random(shape) + 0.1, name="a $b$ _{c}")
    assert save_figure(quicklook(scene), tmp_path / "a.png").stat().st_size > 10_000


def test_what_is_told() -> None:
    lines = told(fields(), "counts")
    assert lines["Wavelengths"] == "420 to 1900 nm"
    assert lines["Pixels"] == "40 rows x 60 columns"
    assert lines["Unit"] == "counts"
    assert lines["No data"] == "1.00% of the pixels"
    assert lines["Values"].startswith("-20 to 2000, mean ")
    assert "CRS" not in lines
    assert told(fields().with_bands([0, 2]))["Bands"] == "2 of 16"
    good = tuple(band != 3 for band in range(16))
    stored = Encoding("int16", 1e-4, -0.1, nodata=-32768.0, units="reflectance", good=good)
    lines = told(replace(fields(), encoding=stored))
    assert lines["Stored as"] == "int16 x 0.0001 + -0.1, nodata -32768"
    assert lines["Unit"] == "reflectance"
    assert lines["Bad bands"] == "1, by the file's marks"
    raw = told(replace(fields(), encoding=Encoding("uint8", (1.0,) * 8 + (2.0,) * 8, raw=True)))
    assert (raw["Stored as"], raw["Unit"]) == ("uint8 x 1 to 2 (not applied)", "counts")


def test_the_page_holds_everything() -> None:
    name = "<script>alert(1)</script>"
    scene = replace(fields(), name=name, source='/tmp/"><img src=x onerror=alert(1)>.npy')
    page = Page(quicklook_page(scene, unit="counts"))
    assert not page.open
    assert "script" not in page.tags
    assert page.tags.count("img") == 1
    assert [link[:22] for link in page.links] == ["data:image/png;base64,"]
    assert name in page.words
    assert scene.source in page.words
    assert page.tags.count("tr") == 17
    assert f"{band_values(scene).mean[15]:.5g}" in page.words
    assert "Of the valid pixels; values (counts)." in page.words


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="inside 40 x 60"):
        quicklook(fields(), pixels=[(40, 0)])
    with pytest.raises(ValueError, match="bands holds 16"):
        quicklook(fields(), bands=[0, 1, 16])
    with pytest.raises(ValueError, match="expected three indices"):
        quicklook(fields(), bands=[0, 1])
