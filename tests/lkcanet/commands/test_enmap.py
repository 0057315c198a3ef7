"""A product of EnMAP's structure through `lkca`, without an option that one must know."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.lkcanet.enmap_helpers import EMPTY, NODATA, SCALE, save_enmap

from ..command_line import succeeds

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
pytest.importorskip("lightning", reason="lightning is not installed")


def reflectance(path: Path) -> np.ndarray:
    """(B, H, W), NaN without data, as a user of rasterio gets it."""
    with rasterio.open(path) as file:
        values = file.read(masked=True).astype(np.float64).filled(np.nan)
        return values * np.array(file.scales)[:, None, None] + np.array(file.offsets)[:, None, None]


@pytest.mark.filterwarnings("ignore")
def test_enmap_from_the_product_to_its_super_resolved_image(tmp_path: Path) -> None:
    image, lowres, sharp, run = (tmp_path / name for name in ("a.tif", "lr.tif", "sr.tif", "run"))
    truth = np.delete(save_enmap(image), list(EMPTY), 0)
    facts = json.loads(succeeds("info", image, "--json"))
    assert (facts["bands"], facts["band_choice"]["of"]) == (218, 224)
    assert facts["largest"] == pytest.approx(np.nanmax(truth), rel=1e-6)
    told = {"dtype": "int16", "scale": SCALE, "offset": 0, "nodata": NODATA, "units": "", "raw": False}
    assert {name: facts["stored"][name] for name in told} == told

    succeeds("degrade", image, lowres)
    network = ["--blocks", 1, "--channels", 16, "--batch-size", 4, "--patch", 4]
    succeeds("train", image, "--test", "32:,:", "--out", run, "--steps", 3, *network)
    best = run / "best.safetensors"
    scores = json.loads(succeeds("evaluate", image, "-c", best, "--json"))
    assert scores["region"] == "32:48,0:32"
    assert all(row["sam"] < 15 for row in scores["scores"])
    assert "int16" in succeeds("info", lowres)

    succeeds("super-resolve", lowres, sharp, "-c", best)
    with rasterio.open(image) as before, rasterio.open(sharp) as after:
        assert (set(after.dtypes), after.nodata, after.count) == ({"int16"}, NODATA, 218)
        assert after.scales == (SCALE,) * 218
        assert after.crs == before.crs
        assert (after.transform.a, after.transform.c, after.transform.f) == (30, 5e5, 5e6)
        assert after.tags()["sensor"] == "EnMAP"
        for band, source in ((1, 1), (131, 137)):
            assert after.descriptions[band - 1] == f"B{source}"
            assert float(after.tags(band)["wavelength"]) == float(before.tags(source)["wavelength"])
            assert (after.tags(band)["fwhm"], after.tags(band)["bbl"]) == ("7.5", "1")
    result = reflectance(sharp)
    assert result.shape == truth.shape
    assert np.isnan(result[:, :3, -3:]).all()
    seen = ~np.isnan(result)
    error = np.abs(result - truth)[seen]
    assert np.median(error) < 0.02  # of reflectances around 0.2
    assert 0.9 < np.median(result[seen]) / np.median(truth[seen]) < 1.1
    lake = np.s_[:, -4:, :5]  # away from the shore, which an LR pixel of 4 x 4 mixes with land
    assert truth[lake].max() < 0.013
    assert np.median(np.abs(result[lake] - truth[lake])) < 0.01
    assert result[lake].max() < 0.05 < np.nanmedian(result)


@pytest.mark.filterwarnings("ignore")
def test_counts_are_kept_where_they_are_asked_for(tmp_path: Path) -> None:
    truth = save_enmap(tmp_path / "a.tif")
    facts = json.loads(succeeds("info", tmp_path / "a.tif", "--raw", "--json"))
    assert facts["peak"] == round(np.nanmax(truth) / SCALE)
    assert facts["stored"]["raw"]
    succeeds("degrade", tmp_path / "a.tif", tmp_path / "raw.tif", "--raw")
    succeeds("degrade", tmp_path / "a.tif", tmp_path / "scaled.tif")
    apart = reflectance(tmp_path / "raw.tif") - reflectance(tmp_path / "scaled.tif")
    assert np.nanmax(np.abs(apart)) <= SCALE * 1.001  # one count, of rounding
