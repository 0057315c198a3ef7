"""`lkca view`: a scene of any format as a picture or a page."""

from pathlib import Path

import numpy as np
import pytest

from ..command_line import lkca
from ..common.html_page import Page

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
pytest.importorskip("scipy", reason="scipy is not installed")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Counts of 12 bands by GDAL: wavelengths with a gap, a corner of nodata."""
    rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
    rng = np.random.default_rng(0)
    pixels = rng.integers(50, 4000, (12, 30, 40)).astype("uint16")
    pixels[:, :6, :10] = 65535
    waves = [*np.linspace(450, 900, 10), 1600, 1650]
    options = {"driver": "GTiff", "height": 30, "width": 40, "count": 12, "dtype": "uint16", "nodata": 65535}
    with rasterio.open(tmp_path / "scene $1$ <b>.tif", "w", **options) as file:
        file.write(pixels)
        for band, wave in enumerate(waves, 1):
            file.update_tags(band, wavelength=f"{wave:g}", wavelength_units="nm")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_geotiff_as_a_page(folder: Path) -> None:
    result = lkca("view", "scene $1$ <b>.tif", "--out", "a.html", "--unit", "counts", "--pixel", "lake=10,20")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "a.html\n"
    page = Page((folder / "a.html").read_text("utf-8"))
    assert not page.open
    assert "b" not in page.tags
    assert "scene $1$ <b>" in page.words
    assert "450 to 1650 nm" in page.words
    assert "5.00% of the pixels" in page.words
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert len(page.links) == 1
    assert page.tags.count("tr") == 13


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_as_a_picture(suffix: str, folder: Path) -> None:
    result = lkca("view", "scene $1$ <b>.tif", "--out", f"a{suffix}", "--rgb", "900nm,650nm,550nm")
    assert result.exit_code == 0, result.stderr
    assert (folder / f"a{suffix}").stat().st_size > 10_000


def test_what_is_shown_is_what_was_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lkcanet import evaluation

    given, original = [], evaluation.quicklook
    monkeypatch.setattr(
        evaluation, "quicklook", lambda *args, **keys: given.append((args, keys)) or original(*args, **keys)
    )
    line = ["view", "scene $1$ <b>.tif", "--region", "5:30,:", "--bands", "0:10", "--rgb", "3,1,10", "--pixel", "1,2"]
    assert lkca(*line).exit_code == 0
    (scene,), shown = given[0]
    assert scene.shape == (10, 25, 40)
    assert (shown["bands"], shown["pixels"], shown["names"], shown["unit"]) == ([2, 0, 9], [(1, 2)], [""], None)
    assert shown["title"] == "scene $1$ <b>, region 5:30,:"
    assert (folder / "view.png").is_file()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--out", "a.jpg"], "unsupported suffix '.jpg', expected one of .png, .pdf, .svg, .html"),
        (["--out", "none/a.png"], "the folder none does not exist"),
        (["--pixel", "30,0"], "inside 30 x 40"),
        (["--rgb", "1,2,13"], "--rgb must be three numbers from 1 to 12"),
        (["--rgb", "1,2"], "--rgb must be three numbers from 1 to 12"),
        (["--pixel", "a,b"], "--pixel must be two whole numbers"),
        (7 * ["--pixel", "1,2"], "--pixel may be given six times, got 7"),
    ],
)
def test_what_is_wrong_is_one_line_and_no_file(words: list[str], text: str, folder: Path) -> None:
    result = lkca("view", "scene $1$ <b>.tif", *words)
    assert result.exit_code == 1
    assert text in result.stderr.splitlines()[-1]
    assert [path.name for path in folder.iterdir()] == ["scene $1$ <b>.tif"]


def test_wavelengths_are_needed_for_colours_in_nm(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random((4, 8, 8)))
    result = lkca("view", tmp_path / "a.npy", "--rgb", "650nm,550nm,450nm", "--out", tmp_path / "a.png")
    assert "the scene has no wavelengths; give numbers of bands, from 1 to 4" in result.stderr
