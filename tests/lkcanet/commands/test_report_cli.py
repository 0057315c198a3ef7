"""`lkca report`: what a training left, on what it held out, read as it was read."""

import os
from pathlib import Path

import numpy as np
import pytest

from lkcanet.data import demo_scene, read_scene
from lkcanet.evaluation import score
from lkcanet.models import load_model

from ..command_line import lkca
from ..common.html_page import Page

for package in ("rich", "safetensors", "scipy", "matplotlib", "lightning"):
    pytest.importorskip(package, reason=f"{package} is not installed")

SMALL = ["--scale", 2, "--channels", 16, "--blocks", 1, "--patch", 8, "--batch-size", 2, "--steps", 2, "--threads", 1]


def page_of(path: Path) -> Page:
    page = Page(path.read_text("utf-8"))
    assert not page.open
    assert all(link.startswith("data:image/") for link in page.links)
    return page


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes of counts, bands last, under a key; a run on one of them, and one on three."""
    path = tmp_path_factory.mktemp("report")
    for number, name in enumerate(("a", "b", "c")):
        pixels = np.moveaxis(1000 * demo_scene((48, 64), 6, seed=number).pixels, 0, -1)
        np.savez(path / f"{name}.npz", cube=pixels, other=pixels[:16, :16])
    before = Path.cwd()
    os.chdir(path)
    try:
        reading = ["--key", "cube", "--axes", "hwc", "--peak", 900]
        for line in (["train", "a.npz", *reading, "--test", ":,40:", "--out", "run"],
                     ["train", "a.npz", "b.npz", "c.npz", *reading, "--validation", "b", "--out", "many"]):  # fmt: skip
            result = lkca(*line, *SMALL)
            assert result.exit_code == 0, result.stderr
    finally:
        os.chdir(before)
    return path


@pytest.fixture(autouse=True)
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def test_a_run_on_its_test_region(folder: Path) -> None:
    result = lkca("report", "run", "--unit", "counts", "--pixel", "roof=3,4")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "run/report.html\n"
    page = page_of(folder / "run" / "report.html")
    assert page.tags.count("img") == 4
    scene = read_scene("a.npz", key="cube", axes="hwc", peak=900)
    expected = score(scene, {"ours": load_model("run/best.safetensors")}, region=":,40:", floor=0.01).clean
    for name in ("bicubic", "ours"):
        assert f"{expected[name]['mpsnr']:.3f}" in page.words
        assert f"{expected[name]['ergas']:.3f}" in page.words
    for words in ("Of the test region, which the training never read.", "a, test 0:48,40:64", "counts", 'key: "cube"'):
        assert words in page.words


def test_a_run_that_held_out_scenes_and_no_test(folder: Path) -> None:
    result = lkca("report", "many", "--out", "many.html")
    assert result.exit_code == 0, result.stderr
    page = page_of(folder / "many.html")
    assert "no test region was held out" in page.words
    for name in ("a", "c"):
        assert f"{name} was trained on as a whole: it is not scored" in page.words
    scene = read_scene("b.npz", key="cube", axes="hwc", peak=900)
    expected = score(scene, {"ours": load_model("many/best.safetensors")}).clean["ours"]
    assert f"{expected['mpsnr']:.3f}" in page.words


def test_other_scenes_are_scored_as_a_whole(folder: Path) -> None:
    result = lkca("report", "run", "b.npz", "c.npz", "--out", "other.html")
    assert result.exit_code == 0, result.stderr
    page = page_of(folder / "other.html")
    assert "Of scenes that the training did not have" in page.words
    assert "of the network on each of the 2 images" in page.words
    wrong = lkca("report", "run", "b.npz", "--key", "other", "--axes", "chw", "--out", "x.html")
    assert wrong.exit_code == 1  # what is said now wins over what the run was told
    assert "bands, the network takes 6" in wrong.stderr
    assert not (folder / "x.html").exists()


def test_scenes_that_are_gone_leave_the_curves(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = lkca("report", folder / "run", "--out", "gone.html")
    assert result.exit_code == 0, result.stderr
    assert "a.npz not found from here: give the scenes as arguments" in result.stderr
    page = page_of(tmp_path / "gone.html")
    assert page.tags.count("img") == 1
    assert "there are no scores and pictures: no scene is known" in page.words


def test_a_prepared_folder_is_scored_on_its_tests(folder: Path, tmp_path: Path) -> None:
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    for name in ("a", "b", "c"):
        np.save(scenes / f"{name}.npy", np.moveaxis(np.load(f"{name}.npz")["cube"], -1, 0))
    done = lkca("prepare", "folder", scenes, "--out", tmp_path / "set", "--test", "c", "--peak", 1000, "--scale", 2,
                "--patch", 8)  # fmt: skip
    assert done.exit_code == 0, done.stderr
    trained = lkca("train", tmp_path / "set", "--out", tmp_path / "run", *SMALL[2:6], *SMALL[8:])
    assert trained.exit_code == 0, trained.stderr
    result = lkca("report", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    page = page_of(tmp_path / "run" / "report.html")
    assert "Of the test images, which the training never read." in page.words
    assert "may have seen" not in page.words
    from lkcanet.data import load_prepared
    from lkcanet.evaluation import score_tests

    net = load_model(tmp_path / "run" / "best.safetensors")
    expected = score_tests(load_prepared(tmp_path / "set"), {"ours": net})["ours"][0]
    assert f"{expected['mpsnr']:.3f}" in page.words


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["."], "holds no run: best.safetensors and metrics.csv missing; a run is what lkca train leaves in --out"),
        (["nowhere"], "nowhere: no such folder"),
        (["run", "--out", "a.png"], "unsupported suffix '.png', expected one of .html"),
        (["run", "--out", "none/a.html"], "the folder none does not exist"),
        (["run", "--pixel", "48,0"], "inside 48 x 24"),
        (["run", "--rgb", "1,2,7"], "--rgb must be three numbers from 1 to 6"),
        (["run", "none.npz"], "no such file"),
    ],
)
def test_what_is_wrong_is_one_line_and_no_page(words: list[str], text: str, folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    result = lkca("report", *words)
    assert result.exit_code == 1
    assert text in result.stderr.splitlines()[-1]
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
