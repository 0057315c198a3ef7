"""Sets of scenes by the command line: prepare cave, prepare folder, evaluate; and free patches."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lkcanet.data import PreparedSet, bicubic_downsample, bicubic_upsample, cave, load_prepared
from lkcanet.evaluation.metrics import evaluate
from lkcanet.evaluation.reported import reported
from lkcanet.models import LKCANet, save_model

from ..command_line import fails, lkca
from ..data.set_helpers import SIDE, write_cave, write_set

pytest.importorskip("rich", reason="rich is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")

SIX = ("mpsnr", "mssim", "sam", "cc", "rmse", "ergas")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cave, "SIZE", (SIDE, SIDE))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cave(tmp_path_factory.mktemp("cave") / "set", lambda name: f"{name}/{name}")


@pytest.fixture(scope="module")
def prepared(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "cave4"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cave, "SIZE", (SIDE, SIDE))
        result = lkca("prepare", "cave", images, out, "--patch", "4")
    assert result.exit_code == 0, result.output
    assert "31 bands, peak 65535" in result.stdout
    assert "test: 12 scenes" in result.stdout
    assert "train: 18 scenes, in patches of 16 x 16 at a step of 9" in result.stdout
    assert "validation: chart_and_stuffed_toy_ms, feathers_ms" in result.stdout
    assert f"next: lkca train {out} --out run" in result.stdout
    return out


def network(path: Path, extra: dict, **changes: int) -> LKCANet:
    torch.manual_seed(3)
    model = LKCANet(**{"bands": 31, "scale": 4, "channels": 16, "blocks": 1, "reduction": 8, **changes})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    path.parent.mkdir(exist_ok=True)
    save_model(model, path, extra=extra)
    return model.eval()


def test_prepare_cave_in_json(images: Path, tmp_path: Path) -> None:
    line = ["prepare", "cave", images, "--out", tmp_path / "a", "--scale", "8", "--patch", "2", "--stride", "3"]
    result = lkca(*line, "--validation", "face,hairs_ms", "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["validation"] == {"kind": "names", "scenes": ["face_ms", "hairs_ms"]}
    assert facts["train"] == {"patch": 16, "stride": 3}
    assert facts["ssim"] == "matlab"
    assert facts["scale"] == load_prepared(tmp_path / "a").scale == 8
    result = lkca("prepare", "cave", images, tmp_path / "b", "--patch", "2", "--validation", "none")
    assert "validation: none" in result.stdout
    assert "--validation patches:0.1" in result.stdout.splitlines()[-1]
    assert "train: 20 scenes" in result.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scale", "3"], "scale must be 4 or 8 in protocol cave, got 3"),
        (["--peak", "65535"], "--peak does not go with protocol cave"),
        (["--test", "face"], "--test does not go with protocol cave"),
        (["--patches"], "--patches does not go with protocol cave"),
        (["--patch", "7"], "a patch must be 6 LR pixels or less at scale 4, got 7"),
        (["--patch", "4", "--validation", "paints"], "validation: paints is none of the"),
        (["--patch", "0"], "--patch must be 1 or more, got 0"),
        (["--stride", "-1"], "--stride must be 1 or more, got -1"),
    ],
)
def test_prepare_cave_says_what_is_wrong(images: Path, tmp_path: Path, options: list[str], message: str) -> None:
    assert message in fails("prepare", "cave", images, tmp_path / "o", *options)
    assert not list(tmp_path.iterdir())


def test_the_folder_to_make_is_given_once(images: Path, tmp_path: Path) -> None:
    assert "the folder to make is missing" in fails("prepare", "cave", images)
    assert "and once" in fails("prepare", "cave", images, tmp_path / "a", "--out", tmp_path / "b")
    assert "chikusei, houston2018, pavia_center, cave, folder; got 'caves'" in fails(
        "prepare", "caves", images, tmp_path / "a"
    )


def test_prepare_folder(tmp_path: Path) -> None:
    scenes = write_set(tmp_path / "scenes", {"a": (20, 24), "b": (24, 20), "c": (20, 20), "d": (21, 23)})
    line = ["prepare", "folder", scenes, tmp_path / "set", "--test", "b", "--scale", "2", "--patch", "4"]
    result = lkca(*line, "--peak", "1000", "--validation", "0.3", "--seed", "1")
    assert result.exit_code == 0, result.output
    done = load_prepared(tmp_path / "set")
    assert isinstance(done, PreparedSet)
    assert (done.peak, done.scale, done.patch, done.stride, len(done.train), len(done.validation)) == (
        1000,
        2,
        8,
        5,
        2,
        1,
    )
    assert "peak 1000 (given by the user), scale 2" in result.stdout
    result = lkca("prepare", "folder", scenes, tmp_path / "each", "--test", "0.5", "--peak", "each", "--patch", "2")
    assert result.exit_code == 0, result.output
    assert "peak of their own" in result.stdout
    for options, message in (
        ([], "--test must name the scenes"),
        (["--test", "none"], "--test must name the scenes"),
        (["--test", "x"], "test: x is none of the 4 scenes a, b, c, d"),
        (["--test", "a", "--peak", "most"], "--peak must be a number, common or each, got 'most'"),
        (["--test", "a", "--columns", "0:3"], "--columns does not go with protocol folder"),
        (["--test", "a"], "smaller than a patch of 32 LR pixels"),
    ):
        assert message in fails("prepare", "folder", scenes, tmp_path / "o", *options)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["each", "scenes", "set"]


def test_a_preparation_is_repeated_by_its_config(tmp_path: Path) -> None:
    scenes = write_set(tmp_path / "scenes", {"a": (20, 24), "b": (24, 20), "c": (20, 20), "d": (21, 23)})
    line = ["prepare", "folder", scenes, tmp_path / "set", "--test", "b,c", "--patch", "3", "--peak", "1000"]
    assert lkca(*line).exit_code == 0
    config = tmp_path / "set" / "config.yaml"
    result = lkca("prepare", "--config", config, "--out", tmp_path / "again")
    assert result.exit_code == 0, result.output
    one, other = load_prepared(tmp_path / "set"), load_prepared(tmp_path / "again")
    assert one.manifest == other.manifest
    assert lkca(*line, "--overwrite").exit_code == 0  # the config is no file of others'
    assert load_prepared(tmp_path / "set").manifest == one.manifest
    scored = json.loads(lkca("evaluate", scenes / "a.npy", scenes / "b.npy", "--ssim", "matlab", "--json").stdout)
    assert [scene["ssim"] for scene in scored["scenes"]] == ["matlab", "matlab"]
    assert "MSSIM of MATLAB's" in lkca("evaluate", scenes / "a.npy", scenes / "b.npy", "--ssim", "matlab").stdout


def test_scores_are_the_mean_over_whole_scenes(prepared: Path, tmp_path: Path) -> None:
    path = tmp_path / "run" / "best.safetensors"
    model = network(path, {"peak": 65535, "scenes": [{"name": "face_ms", "peak": 65535}]})
    result = lkca("evaluate", prepared, "-c", path, "--json")
    assert result.exit_code == 0, result.output
    assert "warning" not in result.stderr
    found = json.loads(result.stdout)
    assert found["tests"] == list(cave.TEST)
    assert (found["ssim"], found["protocol"], found["peak"]) == ("matlab", "cave", 65535)
    done = load_prepared(prepared)
    assert isinstance(done, PreparedSet)
    expected: dict[str, list] = {"bicubic": [], "run": []}
    for scene in done.test:
        target = torch.from_numpy(np.array(scene.pixels))[None]
        lowres = bicubic_downsample(target, 4)
        expected["bicubic"].append(evaluate(bicubic_upsample(lowres, 4), target, 4, ssim="matlab"))
        with torch.no_grad():
            expected["run"].append(evaluate(model(lowres), target, 4, ssim="matlab"))
    for row in found["scores"]:
        of_images = expected[row["method"]]
        assert len(row["images"]) == 12
        for key in SIX:
            assert row[key] == pytest.approx(np.mean([image[key] for image in of_images]), rel=1e-5)
            assert [i[key] for i in row["images"]] == pytest.approx([i[key] for i in of_images], rel=1e-5)
    uniform = json.loads(lkca("evaluate", prepared, "--ssim", "uniform", "--json").stdout)
    assert uniform["ssim"] == "uniform"
    assert uniform["scores"][0]["mssim"] != pytest.approx(found["scores"][0]["mssim"], abs=1e-4)


def test_what_was_trained_on_a_set_is_scored_on_it(prepared: Path, tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="lightning is not installed")
    small = ["--channels", "16", "--blocks", "1", "--groups", "1", "--batch-size", "2", "--steps", "2"]
    result = lkca("train", prepared, "--out", tmp_path / "run", *small)
    assert result.exit_code == 0, result.output
    result = lkca("evaluate", prepared, "-c", tmp_path / "run" / "last.safetensors", "--json")
    assert result.exit_code == 0, result.output
    assert "warning" not in result.stderr  # no test scene was seen, and the peak is the same
    bicubic, last = json.loads(result.stdout)["scores"]
    assert 0 < abs(bicubic["mpsnr"] - last["mpsnr"]) < 3


def test_the_table_with_the_published_rows(prepared: Path) -> None:
    result = lkca("evaluate", prepared, "--reported", "--per-image")
    assert result.exit_code == 0, result.output
    assert "figs/Cave.png of its repository junjun-jiang/SSPSR" in result.stderr
    assert "normalisation" not in result.stderr
    assert "compare" not in result.stderr
    lines = result.stdout.splitlines()
    assert "cave x4, mean over 12 test images" in result.stdout
    row = next(line.split() for line in lines if line.split()[:2] == ["SSPSR", "(paper)"])
    assert row[2:] == ["-", "-", "39.089", "0.9553", "3.185", "0.9939", "0.0138", "3.338"]
    assert sum("MSSIM of MATLAB's Gaussian windows of 11 x 11" in line for line in lines) == 13
    assert sum("test image 12, watercolors_ms" in line for line in lines) == 1
    result = lkca("evaluate", prepared, "--reported", "--ssim", "uniform")
    assert "MSSIM of 7 x 7 windows" in result.stdout
    assert "their MSSIM is of MATLAB's" in result.stderr
    found = json.loads(lkca("evaluate", prepared, "--reported", "--json").stdout)["scores"]
    assert [row["method"] for row in found] == [
        "bicubic", "bicubic", "EDSR", "RCAN", "SAN", "3DCNN", "GDRRN", "SSPSR"
    ]  # fmt: skip
    assert found[1]["source"] == "paper"
    assert found[1]["ssim"] == "matlab"
    assert "SSPSR" in found[1]["table"]
    assert {key: found[6][key] for key in SIX} == {
        "cc": 0.9934, "sam": 3.4143, "rmse": 0.0145, "ergas": 3.5086, "mpsnr": 38.4507, "mssim": 0.9538
    }  # fmt: skip


def test_the_published_rows_are_all_there() -> None:
    for scale in (4, 8):
        rows = reported("cave", scale)
        assert len(rows) == 7
        for worse, better in zip(rows[:1] * 6, rows[1:], strict=True):
            assert better.scores["mpsnr"] > worse.scores["mpsnr"]
            assert better.scores["ergas"] < worse.scores["ergas"]
        # sums of the columns as the issue has them, which was typed from the figure by another hand
        sums = [round(sum(dict(row.scores)[key] for row in rows), 4) for key in SIX]  # type: ignore[misc]
        assert (
            sums
            == {
                4: [265.872, 6.6473, 24.8711, 6.947, 0.1083, 26.253],
                8: [226.5478, 6.1903, 38.37, 6.8359, 0.1989, 23.8711],
            }[scale]
        )
    assert reported("cave", 2) == []
    assert {row.ssim for row in reported("pavia_center", 4)} == {"uniform"}


def test_evaluate_warns_and_refuses(prepared: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    network(path, {"peak": 1000, "scenes": [{"name": "paints_ms"}, {"name": "face_ms"}]})
    stderr = lkca("evaluate", prepared, "-c", path).stderr
    assert "was trained with paints_ms, tested on here" in stderr
    assert "was trained with peak 1000, here it is 65535" in stderr
    network(path, {"scene": {"name": "paints_ms", "shape": [31, 24, 24]}})
    assert "was trained with paints_ms, tested on here" in lkca("evaluate", prepared, "-c", path).stderr
    network(path, {})
    assert "does not tell what it was trained on" in lkca("evaluate", prepared, "-c", path).stderr
    network(path, {}, scale=2)
    assert "of 31 bands and scale 2" in fails("evaluate", prepared, "-c", path)
    assert "--region 0:8,0:8 does not go with" in fails("evaluate", prepared, "--region", "0:8,0:8")
    assert "there it is 65535" in fails("evaluate", prepared, "--peak", "255")
    assert "--scale 8 does not go with" in fails("evaluate", prepared, "--scale", "8")


def test_one_scene_is_scored_by_either_ssim(prepared: Path) -> None:
    file = prepared / "test" / "paints_ms.npy"
    found = {
        ssim: json.loads(lkca("evaluate", file, "--ssim", ssim, "--json").stdout) for ssim in ("uniform", "matlab")
    }
    default = json.loads(lkca("evaluate", file, "--json").stdout)
    assert default == found["uniform"]
    assert found["matlab"]["ssim"] == "matlab"
    assert found["matlab"]["scores"][0]["mssim"] != found["uniform"]["scores"][0]["mssim"]
    assert "MSSIM of MATLAB's" in lkca("evaluate", file, "--ssim", "matlab").stdout


def test_a_set_is_no_scene_of_other_commands(prepared: Path) -> None:
    assert "is a prepared set of 32 scenes, expected one: give its file, as" in fails("info", prepared)
    facts = json.loads(lkca("info", prepared / "test" / "paints_ms.npy", "--json").stdout)
    assert "paints_ms" in json.dumps(facts)
