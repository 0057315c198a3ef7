"""`lkca reproduce`: rows are trained, scored and shown beside the printed; what has ended is not run again."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from lkcanet.data import load_prepared
from lkcanet.evaluation import mean_scores, score, score_tests
from lkcanet.models import lkca_net, load_model, pretrained
from lkcanet.models.capabilities import upsampler_of
from lkcanet.reproduce import running

from .. import command_line
from ..common.html_page import Page
from ..models.pretrained_helpers import CARD, checkpoint
from .conftest import report_of

lkca = partial(command_line.lkca, "reproduce")

PROTOCOL = """
[protocols.small]
title = "Small"
bands = 6
shape = [80, 64]
crop = [0, 80, 0, 64]
test = [0, 24, 0, 48]
test_size = 24
train = [24, 80, 0, 64]
patch = 24
stride = 8
scales = [2]
source = "this test"
"""


def fails(*args: object) -> str:
    """The one line that the command leaves on stderr."""
    result = lkca(*args)
    assert result.exit_code == 1, result.output
    lines = result.stderr.strip().splitlines()
    assert lines[-1].startswith("error: "), result.stderr
    return lines[-1]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that are trained from now on."""
    found: list[str] = []
    original = running._train

    def train(run, data, folder, out, *, resume):
        found.append(run.id)
        return original(run, data, folder, out, resume=resume)

    monkeypatch.setattr(running, "_train", train)
    return found


def test_a_table(recipe: Callable[..., Path], prepared: Path, tmp_path: Path, trained: list[str]) -> None:
    file, out = recipe(), tmp_path / "out"
    done = lkca(file, "table-1", "--data", prepared, "--out", out, "--threads", 1)
    assert done.exit_code == 0, done.output
    assert [re.search(r"lkca_\w+", name)[0] for name in trained] == ["lkca_net", "lkca_lr"]
    rows = {row["row"]: row for row in report_of(out, "tiny-table-1")["rows"]}
    assert list(rows) == ["bicubic", "net", "KD", "absent", "never"]

    # scores are those of the checkpoints on the test images
    data = load_prepared(prepared)
    nets = {name: load_model(out / "runs" / rows[name]["runs"][0] / "best.safetensors") for name in ("net", "KD")}
    for name, images in score_tests(data, nets).items():
        expected = mean_scores(images)
        assert {key: rows[name]["ours"][key] for key in expected} == expected
    assert rows["net"]["ours"]["parameters"] == nets["net"].parameter_count() / 1e6
    assert rows["KD"]["ours"] != rows["net"]["ours"]
    for name, why in (("absent", "this version has no network 'no_such_network'"), ("never", "nobody has its weights")):
        assert rows[name]["ours"] is None
        assert rows[name]["why"] == why

    text = (out / "tiny-table-1.html").read_text()
    page = Page(text)
    assert not page.open
    assert all(name in page.words for name in rows)
    assert f"{rows['KD']['ours']['mpsnr']:.4f}" in page.words
    assert "6 steps" in page.words
    assert len(page.links) == 3  # curves, the test image, and the difference of each band
    assert all(link.startswith("data:image/") for link in page.links), "it opens without a network"
    markdown = (out / "tiny-table-1.md").read_text()
    assert all(name in markdown for name in rows)
    assert all((out / name).is_file() for name in report_of(out, "tiny-table-1")["pictures"])

    # what has ended is not run again, and other tables share it: the teacher here
    trained.clear()
    before = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*") if path.is_file()}
    again = lkca(file, "table-1", "--data", prepared, "--out", out, "--threads", 1)
    assert again.exit_code == 0, again.output
    assert not trained
    assert before == {path: path.stat().st_mtime_ns for path in before}
    other = lkca(file, "table-2", "--data", prepared, "--out", out, "--threads", 1, "--json")
    assert other.exit_code == 0, other.output
    assert len(trained) == 1
    assert json.loads(other.stdout)["rows"][0]["ours"] == rows["net"]["ours"]


def test_the_printed_stand_beside_ours(recipe: Callable[..., Path], prepared: Path, tmp_path: Path) -> None:
    """A recipe that is called as a paper's has its printed tables."""
    file = tmp_path / "lkca-net.toml"
    file.write_text(recipe(('"net", "KD", "absent"', '{ name = "16", network = "net" }')).read_text())
    done = lkca(file, "table-1", "--data", prepared, "--out", tmp_path / "out", "--threads", 1)
    assert done.exit_code == 0, done.output
    rows = {row["row"]: row for row in report_of(tmp_path / "out", "lkca-net-table-1")["rows"]}
    assert rows["16"]["printed"]["mpsnr"] == 40.3106
    assert rows["16"]["difference"]["mpsnr"] == rows["16"]["ours"]["mpsnr"] - 40.3106
    assert "parameters" not in rows["16"]["difference"]
    assert rows["64"]["printed"]["mpsnr"] == 40.5793
    assert rows["64"]["ours"] is None
    words = Page((tmp_path / "out" / "lkca-net-table-1.html").read_text()).words
    assert "40.3106" in words
    assert f"{rows['16']['difference']['mpsnr']:+.4f}" in words


def test_a_dry_run_leaves_nothing(
    recipe: Callable[..., Path], prepared: Path, tmp_path: Path, trained: list[str]
) -> None:
    out = tmp_path / "out"
    done = lkca(recipe(), "table-1", "--data", prepared, "--out", out, "--dry-run", "--threads", 1, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [run["rows"] for run in told["runs"]] == [["net x2", "teacher of KD x2"], ["KD x2"]]
    for run in told["runs"]:
        assert run["estimate"]["steps"] == 6
        assert run["estimate"]["seconds"] == pytest.approx(6 * run["estimate"]["step_seconds"])
        assert run["estimate"]["step_seconds"] > 0
    assert told["paper_only"]["never x2"] == "nobody has its weights"
    text = lkca(recipe(), "table-1", "--data", prepared, "--out", out, "--dry-run", "--threads", 1)
    assert "teacher of KD x2" in text.stdout
    assert not trained
    assert not out.exists()


def test_a_dry_run_needs_no_data(recipe: Callable[..., Path], tmp_path: Path) -> None:
    """Of a protocol: its patches are counted, 90 % of them train."""
    file = recipe()
    file.write_text(file.read_text().replace("steps = 6", "epochs = 3") + PROTOCOL)
    done = lkca(file, "figure-1", "--out", tmp_path / "out", "--dry-run", "--threads", 1, "--json")
    assert done.exit_code == 0, done.output
    patches = 5 * 6
    assert json.loads(done.stdout)["runs"][0]["estimate"]["steps"] == 3 * 8 * 0.9 * patches / 2
    assert json.loads(done.stdout)["missing_data"] == ["no --data of small"]


def test_a_dry_run_tells_courses_apart(recipe: Callable[..., Path], prepared: Path, tmp_path: Path) -> None:
    """Runs share a measurement where they take as long: not where their orientations, time or losses are others."""
    rows = '"net", { name = "one", network = "net", training = { augment = false, max_minutes = 1e-6 } }'
    file = recipe(("steps = 6", "epochs = 3"), ('"net", "KD", "absent"', rows))
    done = lkca(file, "table-1", "--data", prepared, "--out", tmp_path / "out", "--dry-run", "--threads", 1, "--json")
    assert done.exit_code == 0, done.output
    eight, one = (run["estimate"] for run in json.loads(done.stdout)["runs"])
    assert eight["steps"] == 8 * 3 * load_prepared(prepared).split.counts["train"] / 2 > 0
    assert one["steps"] == -(-eight["steps"] // 8)
    assert one["seconds"] == pytest.approx(60e-6)


def test_a_budget_of_time(recipe: Callable[..., Path], prepared: Path, tmp_path: Path) -> None:
    file, out = recipe(("steps = 6", "epochs = 300")), tmp_path / "out"
    done = lkca(file, "figure-1", "--data", prepared, "--out", out, "--threads", 1, "--minutes-per-row", 0.01)
    assert done.exit_code == 0, done.output
    report = report_of(out, "tiny-figure-1")
    assert report["runs"][0]["ended_by"] == "time"
    text = report["budget"]["text"]
    assert "0.01 minutes" in text
    assert "The paper's course is longer, 300 epochs" in text
    assert text in Page((out / "tiny-figure-1.html").read_text()).words
    assert report["rows"][0]["ours"]["rank"] >= 1
    assert any("ranks" in name for name in report["pictures"])


def test_seeds(recipe: Callable[..., Path], prepared: Path, tmp_path: Path) -> None:
    given = ("--data", prepared, "--out", tmp_path / "out", "--threads", 1, "--seeds", 2, "--rows", "net,bicubic")
    assert lkca(recipe(), "table-1", *given).exit_code == 0
    report = report_of(tmp_path / "out", "tiny-table-1")
    rows = {row["row"]: row for row in report["rows"]}
    assert list(rows) == ["bicubic", "net"]
    first, second = (run["scores"]["mean"]["mpsnr"] for run in report["runs"])
    assert first != second
    assert rows["net"]["ours"]["mpsnr"] == pytest.approx((first + second) / 2)
    assert rows["net"]["spread"]["mpsnr"] == pytest.approx(abs(first - second) / 2**0.5)
    assert "±" in (tmp_path / "out" / "tiny-table-1.md").read_text()


def test_a_file_is_prepared(recipe: Callable[..., Path], image: Path, tmp_path: Path) -> None:
    file, out = recipe(), tmp_path / "out"
    file.write_text(file.read_text() + PROTOCOL)
    for given in (image, f"small={image}"):
        done = lkca(file, "figure-1", "--data", given, "--out", out, "--threads", 1)
        assert done.exit_code == 0, done.output
    assert load_prepared(out / "prepared" / "small-x2").protocol == "small"
    again = lkca(file, "figure-1", "--out", out)  # what is prepared needs no --data
    assert again.exit_code == 0, again.output
    other = tmp_path / "other.npy"
    other.write_bytes(image.read_bytes())
    assert "choose another --out" in fails(file, "table-1", "--data", other, "--out", out)


def test_blurred_images(recipe: Callable[..., Path], prepared: Path, tmp_path: Path) -> None:
    """Of a recipe with `blur` all LR images are made by that Gaussian: of training, of bicubic, and scored ones."""
    table = 'scales = [2]\nrows = ["bicubic"'
    sized = table.replace("rows", "macs_size = [8, 4]\nrows")
    file, out = recipe(('place = "nowhere"', "blur = 0.5"), (table, sized)), tmp_path / "out"
    done = lkca(file, "table-1", "--data", prepared, "--out", out, "--threads", 1, "--rows", "bicubic,net")
    assert done.exit_code == 0, done.output
    report = report_of(out, "tiny-table-1")
    rows = {row["row"]: row["ours"] for row in report["rows"]}
    assert report["runs"][0]["run"]["options"]["psf_sigma"] == 1.0
    model = load_model(out / "runs" / report["runs"][0]["id"] / "best.safetensors")
    data = load_prepared(prepared)
    blurred, sharp = (score_tests(data, {"net": model}, psf_sigma=sigma) for sigma in (1.0, None))
    for name in ("bicubic", "net"):
        assert rows[name]["mpsnr"] == mean_scores(blurred[name])["mpsnr"] != mean_scores(sharp[name])["mpsnr"]
    assert rows["net"]["macs"] == model.macs(8, 4) / 1e9
    first = data.test_scene(0)
    expected = score(first, scale=2, psf_sigma=1.0).clean["bicubic"]
    assert blurred["bicubic"][0] == expected


def test_spoilt_images(recipe: Callable[..., Path], prepared: Path, tmp_path: Path) -> None:
    """A row that is trained and tested on noise or random values has scores of its own."""
    row = '{ name = "bad", network = "net", training = { impulses = 0.2 }, tested = { impulses = 0.2, snr = 20.0 } }'
    file, out = recipe(('"bicubic", "net", "KD", "absent"', row)), tmp_path / "out"
    done = lkca(file, "table-1", "--data", prepared, "--out", out, "--threads", 1)
    assert done.exit_code == 0, done.output
    report = report_of(out, "tiny-table-1")
    (run,) = report["runs"]
    model, data = load_model(out / "runs" / run["id"] / "best.safetensors"), load_prepared(prepared)
    scores = {
        name: mean_scores(score_tests(data, {"net": model}, **given)["net"])["mpsnr"]
        for name, given in (("clean", {}), ("impulses", {"impulses": 0.2}), ("both", {"impulses": 0.2, "snr": 20.0}))
    }
    assert scores["both"] < scores["impulses"] < scores["clean"]
    assert report["rows"][0]["ours"]["mpsnr"] == scores["both"]
    assert "has an unknown key 'snrs'" in fails(recipe(('"absent"', row.replace("snr =", "snrs ="))), "table-1")


def test_a_run_that_fails_stops_no_other(recipe: Callable[..., Path], prepared: Path, tmp_path: Path) -> None:
    file = recipe(
        ('"net", "KD", "absent"', '{ name = "bad", network = "net", training = { learning_rate = 1e38 } }, "net"')
    )
    line = fails(file, "table-1", "--data", prepared, "--out", tmp_path / "out", "--threads", 1)
    assert line.startswith("error: 1 runs failed")
    rows = {row["row"]: row for row in report_of(tmp_path / "out", "tiny-table-1")["rows"]}
    assert rows["bad"]["failed"]
    assert rows["bad"]["why"].startswith("failed: ")
    assert rows["net"]["ours"] is not None
    assert rows["bad"]["why"] in Page((tmp_path / "out" / "tiny-table-1.html").read_text()).words


def test_what_is_wrong_is_said(recipe: Callable[..., Path], prepared: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    assert "PAPER must be one of lkca-net, cave, csakd, edlgfs" in fails("lkcanet", "table-5")
    assert "WHAT must be one of figure-1," in fails("lkca-net", "table-50")
    assert "give PAPER and WHAT, or --list" in fails("lkca-net")
    assert "--rows must be among 'bicubic'" in fails(recipe(), "table-1", "--data", prepared, "--rows", "nut", *out)
    assert "there is no such file or folder" in fails("lkca-net", "table-7", "--data", tmp_path / "none.mat", *out)
    several = fails("lkca-net", "figure-4", "--data", recipe(), *out)
    assert "chikusei=PATH, houston2018=PATH, pavia_center=PATH" in several
    assert "seeds must be a whole number" in fails(recipe(), "table-1", "--data", prepared, "--seeds", 0, *out)
    assert "max_minutes must be" in fails(recipe(), "table-1", "--data", prepared, "--minutes-per-row", 0, *out)
    assert "of which x4 has none" in fails("cave", "x4", "--rows", "SSPSR", *out)
    assert "figure-2 trains nothing" in lkca("lkca-net", "figure-2", "--dry-run", *out).stderr
    assert not (tmp_path / "out").exists()


def test_other_data_is_refused(recipe: Callable[..., Path], prepared: Path, tmp_path: Path) -> None:
    given = (recipe(), "figure-1", "--data", prepared, "--out", tmp_path / "out", "--threads", 1)
    assert lkca(*given).exit_code == 0
    (result,) = (tmp_path / "out" / "runs").glob("*lkca_net*/result.json")
    found = json.loads(result.read_text())
    result.write_text(json.dumps({**found, "fingerprint": "another"}))
    assert "is of other data than" in fails(*given)
    result.write_text("{")
    assert "damaged" in fails(*given)


def test_without_data_rows_say_so(tmp_path: Path) -> None:
    done = lkca("lkca-net", "table-7", "--scale", 4, "--out", tmp_path, "--json")
    assert done.exit_code == 0, done.output
    rows = {row["row"]: row for row in json.loads(done.stdout)["rows"]}
    assert len(rows) == 9
    assert rows["LKCA-KD"]["why"] == "no --data of pavia_center"
    assert rows["LKCA-KD"]["printed"]["mpsnr"] == 32.6104


def test_figures_that_run_nothing(tmp_path: Path) -> None:
    assert lkca("lkca-net", "figure-2", "--out", tmp_path).exit_code == 0
    assert "nothing is computed" in Page((tmp_path / "lkca-net-figure-2.html").read_text()).words
    assert lkca("csakd", "table-4", "--out", tmp_path).exit_code == 0
    assert "35.544" in Page((tmp_path / "csakd-table-4.html").read_text()).words
    parts = lkca("lkca-net", "figure-1", "--out", tmp_path, "--json")
    rows = {row["row"]: row["ours"] for row in json.loads(parts.stdout)["rows"]}
    # the paper's section III-C: the upsampler's 9 C B r^2 of 3.707 M, and a bias and a gain a channel
    assert rows["LKCA-Net"]["upsampler"] == pytest.approx(100 * (9 * 128 * 2048 + 2 * 2048) / 3.7067e6, rel=1e-3)


def test_parts_of_networks_for_data_of_ones_own(recipe: Callable[..., Path], prepared: Path, tmp_path: Path) -> None:
    """B is that of the prepared folder, where no protocol tells."""
    file = recipe(('kind = "rank"', 'kind = "parts"'))
    done = lkca(file, "figure-1", "--data", prepared, "--out", tmp_path, "--json")
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)["rows"]
    model = lkca_net(6, 2, channels=16, blocks=1, reduction=8)
    assert row["ours"]["upsampler"] == pytest.approx(100 * upsampler_of(model).parameters / model.parameter_count())
    assert "is no protocol: give a prepared folder" in fails(file, "figure-1", "--out", tmp_path / "none")


def test_the_networks_of_the_package(tmp_path: Path) -> None:
    """Without data: as their cards say, beside the published table."""
    done = lkca("cave", "x4", "--out", tmp_path, "--json")
    assert done.exit_code == 0, done.output
    rows = {row["row"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["SSPSR"]["printed"]["mpsnr"] == 39.0892
    names = [name for name in pretrained.names() if name.endswith("cave-x4")]
    assert names
    for name in names:
        assert rows[name]["ours"]["mpsnr"] == pretrained.card(name).scores["mean"]["mpsnr"]


def test_the_networks_of_the_package_are_scored_on_data(
    tmp_path: Path, recipe: Callable[..., Path], prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "PACKAGED", tmp_path / "packaged")
    monkeypatch.setenv(pretrained.FOLDERS, str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    card = {**CARD, "data": {**CARD["data"], "name": "small: a generated image"}}
    pretrained.publish(checkpoint(tmp_path / "best.safetensors"), "tiny-x2", card, folder=tmp_path / "weights")
    file = recipe()
    file.write_text(file.read_text() + '[entries.x2]\ntitle = "W"\nkind = "weights"\ndata = "small"\nscales = [2]\n')
    done = lkca(file, "x2", "--data", prepared, "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    rows = {row["row"]: row["ours"] for row in json.loads(done.stdout)["rows"]}
    scores = score_tests(load_prepared(prepared), {"tiny-x2": pretrained.load("tiny-x2")}, ensemble=True)
    assert rows.keys() == scores.keys()
    for name, images in scores.items():
        assert rows[name]["mpsnr"] == mean_scores(images)["mpsnr"]
    # kept: not scored again
    monkeypatch.setattr("lkcanet.reproduce.outcomes.score_tests", None)
    assert lkca(file, "x2", "--data", prepared, "--out", tmp_path / "out").exit_code == 0
