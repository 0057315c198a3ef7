"""CSAKD's kind of table: sets of many images, networks that fuse and their teachers, MSIs of two kinds, noise."""

import json
from pathlib import Path

import numpy as np
import pytest

from lkcanet.data import demo_scene, load_prepared, named_response, prepare_folder, simulate_pair
from lkcanet.evaluation import mean_scores, score_tests
from lkcanet.evaluation.metrics import evaluate
from lkcanet.inference import super_resolve
from lkcanet.models import load_model, load_model_and_extra
from lkcanet.reproduce import Budget, load, plan, reproduce
from lkcanet.reproduce.loader import read
from lkcanet.reproduce.recipes import Paper

from .conftest import report_of
from .test_reproduce import Page, fails, lkca

RECIPE = """
title = "A fusion paper"
source = "this test"
[training]
steps = 4
batch_size = 2
validate_every = 2
log_every = 1
floor = 0.0
[recipe]
blur = 0.5
scores = ["psnr_peak", "sam", "rmse_counts"]
[networks.bicubic]
[networks.plain]
preset = "lkca_net"
set = { channels = 16, blocks = 1, reduction = 8 }
[networks.Student]
preset = "csakd-student"
set = { counts = [0, 1, 1, 1], features = 8, growth = 4, heads = 2, head_width = 4, h_groups = 4 }
along = ["teacher"]
objective = { teacher_counts = [1, 1, 1, 1] }
[networks.Ext]
preset = "csakd-student"
set = { counts = [0, 1, 1, 1], features = 8, growth = 4, heads = 2, head_width = 4, h_groups = 4 }
init = "Student"
along = ["teacher"]
objective = { teacher_counts = [1, 1, 1, 1] }
training = { steps = 2 }
[sets.flights]
bands = 8
test = 0.3
validation = 0.25
lr_size = 8
stride = 8
file_bands = { 9 = "0:4,5:" }
[entries.table-1]
title = "Two MSIs"
data = "flights"
scales = [2]
responses = ["average-2", "average-3"]
macs_size = [8, 8]
rows = ["bicubic", "plain", { name = "Teacher", network = "Student", along = "teacher" }, "Student"]
[entries.figure-1]
title = "Noise"
data = "flights"
scales = [2]
responses = ["average-2"]
snrs = [10, 30]
noise_on = "lowres"
rows = ["Ext", { name = "Teacher", network = "Student", along = "teacher" }]
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    file = tmp_path / "fusion.toml"
    file.write_text(RECIPE)
    return file


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two sizes and of peaks of their own; nine bands, of which one is left out."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(6):
        scene = demo_scene((33, 32) if number % 2 else (32, 37), 9, seed=number)
        np.save(folder / f"flight{number}.npy", scene.pixels * 1000 * (number + 1))
    return folder


@pytest.fixture(scope="module")
def prepared(images: Path) -> Path:
    out = images.parent / "prepared"
    made = prepare_folder(images, out, test=0.3, validation=0.25, scale=2, peak="each", lr_size=8, stride=8,
                          bands="0:4,5:")  # fmt: skip
    return made.folder


def test_a_table(recipe: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = lkca(recipe, "table-1", "--data", images, "--out", out, "--threads", 1)
    assert done.exit_code == 0, done.output
    data = load_prepared(out / "prepared" / "flights-x2")
    assert (len(data.train), len(data.validation), len(data.test), data.bands) == (3, 1, 2, 8)
    report = report_of(out, "fusion-table-1")
    rows = {(row["row"], row["response"]): row for row in report["rows"]}
    assert len(rows) == 8
    assert {run["network"] for run in report["runs"]} == {"plain", "Student"}
    assert len(report["runs"]) == 3  # the plain one sees no MSI: it is trained once

    # the scores of a test image, by hand
    target, response = data.test_scene(0), named_response("average-3")
    pair = simulate_pair(target, 2, response, psf_sigma=1.0)
    for name, file in (("Student", "best"), ("Teacher", "teacher")):
        row = rows[name, "average-3"]
        model = load_model(out / "runs" / row["runs"][0] / f"{file}.safetensors")
        images_of = score_tests(data, {"it": model}, responses={"it": response}, psf_sigma=1.0, band_peaks=True)["it"]
        expected = evaluate(super_resolve(model, pair.lowres, msi=pair.msi).pixels, target.pixels, 2, unit=target.peak)
        assert images_of[0] == pytest.approx(expected)
        mean = mean_scores(images_of)
        ours = {key: mean[key] for key in ("psnr_peak", "sam", "rmse_counts")}
        ours |= {"parameters": model.parameter_count() / 1e6, "macs": model.macs(8, 8) / 1e9}
        assert row["ours"] == pytest.approx(ours)
    assert rows["Student", "average-2"]["ours"]["sam"] != rows["Student", "average-3"]["ours"]["sam"]
    assert rows["plain", "average-2"]["ours"] == rows["plain", "average-3"]["ours"]
    bicubic = mean_scores(score_tests(data, {}, psf_sigma=1.0, band_peaks=True)["bicubic"])
    assert rows["bicubic", "average-2"]["ours"]["psnr_peak"] == bicubic["psnr_peak"]

    text = (out / "fusion-table-1.html").read_text()
    words = Page(text).words
    assert "flights x2, MSI of average-3" in words
    assert "PSNR of each band's peak" in words
    assert "MSSIM" not in words
    assert sum("average" in name for name in report["pictures"]) == 4


def test_noise(recipe: Path, prepared: Path, tmp_path: Path) -> None:
    """A set that was prepared before stands in the recipe's place."""
    paper, out = read(recipe), tmp_path / "out"
    given = {"data": [str(prepared)], "budget": Budget(threads=1, progress=False)}
    reproduce(paper, paper.entry("figure-1"), out, **given)
    report = report_of(out, "fusion-figure-1")
    rows = {row["row"]: row for row in report["rows"]}
    row = rows["Teacher"]
    model = load_model(out / "runs" / row["runs"][0] / "teacher.safetensors")
    data = load_prepared(prepared)
    how = {"responses": {"it": named_response("average-2")}, "psf_sigma": 1.0, "band_peaks": True}
    found = {}
    for level, snr in (("10", 10.0), ("30", 30.0), ("clean", None)):
        mean = mean_scores(score_tests(data, {"it": model}, **how, snr=snr, noise_on="lowres")["it"])
        found |= {f"psnr_{level}": mean["psnr_peak"], f"sam_{level}": mean["sam"]}
    assert found["sam_10"] > found["sam_30"] > found["sam_clean"]
    found["psnr"] = np.mean([found[f"psnr_{level}"] for level in ("10", "30", "clean")])
    found["sam"] = np.mean([found[f"sam_{level}"] for level in ("10", "30", "clean")])
    assert {key: row["ours"][key] for key in found} == pytest.approx(found)
    assert any("noise" in name for name in report["pictures"])
    assert "SAM (°) ↓, 10 dB" in Page((out / "fusion-figure-1.html").read_text()).words
    # Ext goes on from the student and its teacher
    extra = load_model_and_extra(out / "runs" / rows["Ext"]["runs"][0] / "best.safetensors")[1]
    student = rows["Teacher"]["runs"][0]
    assert student in extra["init"]["file"]
    assert not extra["init"]["left"]
    start = load_model(out / "runs" / student / "teacher.safetensors").state_dict()
    along = load_model(out / "runs" / rows["Ext"]["runs"][0] / "teacher.safetensors").state_dict()
    moved = max(float((along[key] - start[key]).abs().max()) for key in start)
    assert moved < 0.01  # two steps of Adam at 2e-3; a fresh teacher is far from it
    kept = out / "runs" / row["runs"][0] / "noise-lowres.json"
    before = kept.stat().st_mtime_ns
    reproduce(paper, paper.entry("figure-1"), out, **given)
    assert kept.stat().st_mtime_ns == before


def test_a_dry_run(recipe: Path, images: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out", "--dry-run", "--threads", 1, "--json")
    told = json.loads(lkca(recipe, "figure-1", "--data", images, *out).stdout)
    assert [run["rows"] for run in told["runs"]] == [["start of Ext x2", "Teacher x2"], ["Ext x2"]]
    assert [run["estimate"]["steps"] for run in told["runs"]] == [4, 2]
    assert json.loads(lkca(recipe, "table-1", *out).stdout)["missing_data"] == ["no --data of flights"]
    assert not (tmp_path / "out").exists()


def test_what_is_wrong_is_said(recipe: Path, prepared: Path, tmp_path: Path) -> None:
    def refused(old: str, new: str) -> str:
        file = tmp_path / "bad.toml"
        file.write_text(RECIPE.replace(old, new, 1))
        with pytest.raises(ValueError, match=r"bad\.toml") as error:
            plan(read(file), read(file).entry("table-1"))
        return str(error.value)

    assert "along must be among ['teacher'] of Student" in refused('along = "teacher"', 'along = "tutor"')
    assert "init must be a network of the file without one" in refused('init = "Student"', 'init = "Ext"')
    assert "responses: a response is landsat-tm-4" in refused('"average-3"', '"landsat"')
    assert "fuses an MSI: the table lacks responses" in refused('responses = ["average-2", "average-3"]\n', "")
    assert "snrs must be numbers of dB" in refused("snrs = [10, 30]", 'snrs = ["10"]')
    assert "scores must be among mpsnr" in refused('"rmse_counts"]', '"rmse_count"]')
    assert "test must be a number, got '0.3'" in refused("test = 0.3", 'test = "0.3"')
    assert "lr_size must be a whole number, got 8.0" in refused("lr_size = 8", "lr_size = 8.0")
    (tmp_path / "empty").mkdir()
    assert "holds no .png image and no scene" in fails(recipe, "figure-1", "--data", tmp_path / "empty")


def test_the_papers_tables_without_data(tmp_path: Path) -> None:
    done = lkca("csakd", "table-1", "--out", tmp_path, "--json")
    assert done.exit_code == 0, done.output
    rows = {(row["row"], row["response"]): row for row in json.loads(done.stdout)["rows"]}
    assert rows["Proposed-Student", "landsat-tm-6"]["printed"]["sam"] == 1.205
    assert rows["Proposed-Student", "landsat-tm-6"]["why"] == "no --data of aviris"
    assert rows["USDN", "landsat-tm-4"]["why"] == "this package has no such network"


def test_networks_of_a_recipe_train_on_a_set(prepared: Path, tmp_path: Path) -> None:
    """Of protocol "folder", as a prepared set is called that no recipe knows."""
    file = tmp_path / "own.toml"
    file.write_text(RECIPE.replace('data = "flights"', 'data = "folder"').replace("[sets.flights]", "[sets.others]"))
    paper: Paper = read(file)
    given = {"data": [str(prepared)], "budget": Budget(threads=1, progress=False), "rows": ["plain", "bicubic"]}
    done = reproduce(paper, paper.entry("table-1"), tmp_path / "out", **given)
    assert {row.name for row in done.rows if row.values} == {"plain", "bicubic"}
    assert load("csakd").sets.keys() == {"aviris"}
