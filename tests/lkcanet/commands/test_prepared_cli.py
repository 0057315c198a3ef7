"""From a published file to the table, by the command line: prepare, train, evaluate."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lkcanet import training
from lkcanet.data import (
    PROTOCOLS,
    Prepared,
    bicubic_downsample,
    bicubic_upsample,
    demo_scene,
    is_prepared,
    load_prepared,
    write_scene,
)
from lkcanet.evaluation.metrics import evaluate
from lkcanet.evaluation.scoring import mean_scores, score_tests
from lkcanet.inference import super_resolve
from lkcanet.models import LKCANet, save_model

from ..command_line import fails, lkca
from ..data.protocol_helpers import SMALL

scipy_io = pytest.importorskip("scipy.io", reason="scipy is not installed")
pytest.importorskip("rich", reason="rich is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")

NETWORK = ["--channels", "16", "--blocks", "1", "--groups", "1", "--batch-size", "2", "--steps", "2"]


@pytest.fixture(autouse=True)
def small(monkeypatch) -> None:
    monkeypatch.setitem(PROTOCOLS, "small", SMALL)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("image") / "small.mat"
    scipy_io.savemat(file, {"scene": demo_scene((80, 64), 6, seed=2).pixels.transpose(1, 2, 0) * 4000})
    return file


@pytest.fixture
def folder(tmp_path, image) -> Path:
    out = tmp_path / "prepared"
    result = lkca("prepare", "small", image, "--out", out, "--scale", "2", "--validation", "block")
    assert result.exit_code == 0, result.output
    assert "2 images of 24 x 24" in result.stdout
    return out


def network(path: Path, folder: Path, test: str = "0:24,0:48", **changes) -> LKCANet:
    """A network that does something, as if trained on the folder."""
    torch.manual_seed(3)
    model = LKCANet(**{"bands": 6, "scale": 2, "channels": 16, "blocks": 1, "reduction": 8, **changes})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    path.parent.mkdir(exist_ok=True)
    save_model(model, path, extra={"peak": load_prepared(folder).scene.peak, "split": {"test": test}})
    return model.eval()


@pytest.mark.parametrize(
    "validation",
    ["block", "patches"],
)
def test_three_commands_from_file_to_table(tmp_path, image, validation) -> None:
    pytest.importorskip("lightning", reason="lightning is not installed")
    out, run = tmp_path / "prepared", tmp_path / "run"
    result = lkca("prepare", "small", image, "--out", out, "--scale", "2", "--validation", validation, "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["validation"]["kind"] == validation
    assert facts["patches"] == load_prepared(out).split.counts
    result = lkca("train", out, "--out", run, *NETWORK)
    assert result.exit_code == 0, result.output
    assert "test 0:24,0:48" in result.stderr
    result = lkca("evaluate", out, "-c", run / "best.safetensors", "-c", run / "last.safetensors", "--json")
    assert result.exit_code == 0, result.output
    assert "warning" not in result.stderr
    scores = json.loads(result.stdout)["scores"]
    assert [row["method"] for row in scores] == ["bicubic", "run", "last"]
    assert scores[0]["mpsnr"] > 15
    assert abs(scores[2]["mpsnr"] - scores[0]["mpsnr"]) < 3
    assert scores[2]["mpsnr"] != scores[0]["mpsnr"]


def test_a_student_learns_on_a_prepared_folder(folder) -> None:
    pytest.importorskip("lightning", reason="lightning is not installed")
    teacher, out = folder.parent / "teacher" / "best.safetensors", folder.parent / "student"
    network(teacher, folder)
    result = lkca("distill", folder, "--teacher", teacher, "--out", out, "--json", *NETWORK)
    assert result.exit_code == 0, result.output
    assert "may have seen" not in result.stderr
    facts = json.loads(result.stdout)
    assert facts["split"]["test"] == "0:24,0:48"
    assert facts["split"]["train_patches"] == len(load_prepared(folder).split.train_origins)
    assert facts["peak"] == 4000
    assert "--test 0:24,0:48 does not go with" in fails(
        "distill", folder, "--teacher", teacher, "--out", out, "--test", "0:24,0:48", *NETWORK
    )
    network(teacher, folder, scale=4)
    assert "is of scale 4" in fails("distill", folder, "--teacher", teacher, "--out", out, *NETWORK)


def test_training_gets_what_the_manifest_says(tmp_path, image, monkeypatch) -> None:
    """Also with the paper's validation patches; the network itself has other tests."""
    out = tmp_path / "prepared"
    assert lkca("prepare", "small", image, "--out", out, "--scale", "2", "--seed", "4").exit_code == 0
    seen = []

    def train(model, scenes, splits, *_, **__):
        seen.append((model, *scenes, *splits))
        raise ValueError("far enough")

    monkeypatch.setattr(training, "train", train)
    assert "far enough" in fails("train", out, "--out", tmp_path / "run", *NETWORK)
    assert "far enough" in fails("train", out, "--out", tmp_path / "run", "--scale", "2", "--patch", "12", *NETWORK)
    prepared = load_prepared(out)
    model, scene, split = seen[0]
    assert (model.bands, model.scale) == (6, 2)
    assert isinstance(scene.pixels, np.memmap)
    assert np.array_equal(split.train_origins, prepared.split.train_origins)
    assert len(split.validation_origins) == round(0.1 * 5 * 6)
    for option, value, told in (
        ("--test", "0:24,0:48", "leave it out"),
        ("--scale", "4", "there it is 2"),
        ("--patch", "16", "there it is 12"),
        ("--stride", "7", "there it is 8"),
        ("--validation", "0.2", "leave it out"),
        ("--train-region", "24:80,0:64", "leave it out"),
        ("--peak", "1.0", "there it is 4000"),
        ("--axes", "hwc", "leave it out"),
    ):
        line = fails("train", out, "--out", tmp_path / "run", option, value, *NETWORK)
        assert f"{option} {value} does not go with" in line
        assert told in line
    assert len(seen) == 2
    assert not (tmp_path / "run").exists()


def test_a_scene_that_is_not_prepared_still_needs_its_test_region(tmp_path) -> None:
    write_scene(tmp_path / "scene.npz", demo_scene((48, 48), 6))
    assert "--test is missing" in fails("train", tmp_path / "scene.npz", "--out", tmp_path / "run", *NETWORK)
    line = fails("train", tmp_path / "scene.npz", "--test", "0:8,:", "--scale", "0", "--out", tmp_path / "run")
    assert "--scale must be 1 or more, got 0" in line
    assert "goes with a folder of `lkca prepare`" in fails("evaluate", tmp_path / "scene.npz", "--per-image")


def test_scores_are_the_mean_over_test_images_degraded_on_their_own(folder) -> None:
    model = network(folder.parent / "run" / "best.safetensors", folder)
    result = lkca("evaluate", folder, "-c", folder.parent / "run" / "best.safetensors", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["tests"] == ["0:24,0:24", "0:24,24:48"]
    bicubic, run = found["scores"]
    scene = load_prepared(folder).scene.pixels
    expected: dict[str, list] = {"bicubic": [], "run": []}
    for left in (0, 24):
        target = torch.tensor(scene[:, :24, left : left + 24])[None]
        lowres = bicubic_downsample(target, 2)
        expected["bicubic"].append(evaluate(bicubic_upsample(lowres, 2), target, 2))
        with torch.no_grad():
            expected["run"].append(evaluate(model(lowres), target, 2))
    for row in (bicubic, run):
        images = expected[row["method"]]
        for key in ("mpsnr", "mssim", "sam", "cc", "rmse", "ergas"):
            assert row[key] == pytest.approx((images[0][key] + images[1][key]) / 2, rel=1e-5)
            assert [image[key] for image in row["images"]] == pytest.approx([image[key] for image in images], rel=1e-5)
    assert bicubic["images"][0] != bicubic["images"][1]
    assert abs(run["mpsnr"] - bicubic["mpsnr"]) > 0.01
    assert (run["parameters"], run["macs_16x16"]) == (model.parameter_count(), model.macs(16, 16))
    assert bicubic["parameters"] is None


def test_the_ensemble_is_a_row_of_its_own(folder) -> None:
    file = folder.parent / "run" / "best.safetensors"
    model = network(file, folder, test="0:40,0:64")
    result = lkca("evaluate", folder, "-c", file, "--ensemble", "--json")
    assert result.exit_code == 0, result.output
    assert result.stderr.count("held out") == 1
    rows = {row["method"]: row for row in json.loads(result.stdout)["scores"]}
    assert list(rows) == ["bicubic", "run", "run (ensemble)"]
    told = rows["run (ensemble)"]
    assert (told["parameters"], told["macs_16x16"]) == (model.parameter_count(), 8 * model.macs(16, 16))
    assert told["checkpoint"] == str(file)
    expected = score_tests(load_prepared(folder), {"run": model}, ensemble=True)
    assert told["mpsnr"] == pytest.approx(mean_scores(expected["run (ensemble)"])["mpsnr"])
    assert told["mpsnr"] != rows["run"]["mpsnr"]
    target = torch.tensor(load_prepared(folder).scene.pixels[:, :24, :24])[None]
    by_hand = super_resolve(model, bicubic_downsample(target, 2), ensemble=True)
    assert told["images"][0]["mpsnr"] == pytest.approx(evaluate(by_hand, target, 2)["mpsnr"], rel=1e-5)
    assert "--resample True does not go with" in fails("evaluate", folder, "-c", file, "--resample")


def test_the_table_has_sizes_images_and_the_papers_rows(folder, monkeypatch) -> None:
    a, b = folder.parent / "a" / "best.safetensors", folder.parent / "b" / "best.safetensors"
    model, _ = network(a, folder), network(b, folder)
    result = lkca("evaluate", folder, "-c", a, "-c", b, "--per-image")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    text = " ".join(result.stdout.split())
    assert "small x2, mean over 2 test images" in text
    assert all(heading in text for heading in ("Params (M)", "MACs (G)", "MPSNR", "ERGAS"))
    rows = [line.split() for line in lines]
    row = next(row for row in rows if row and row[0] == "a")
    assert row[1:3] == [f"{model.parameter_count() / 1e6:.3f}", f"{model.macs(16, 16) / 1e9:.3f}"]
    assert sum(row[:1] == ["b"] for row in rows) == 4  # the mean, its SAM above the floor, both images
    assert sum("test image" in line and "0:24,24:48" in line for line in lines) == 1
    assert "no table for protocol small" in fails("evaluate", folder, "--reported")
    from lkcanet.evaluation import reported as module

    monkeypatch.setitem(module._TABLES, ("small", 2), module._TABLES["pavia_center", 4])
    result = lkca("evaluate", folder, "--reported")
    assert "it does not state its normalisation" in result.stderr
    text = result.stdout
    row = next(line.split() for line in text.splitlines() if line.split()[:2] == ["LKCA-KD", "(paper)"])
    assert row[2:] == ["1.552", "0.315", "32.610", "0.8971", "6.141", "0.9491", "0.0260", "6.213"]
    found = json.loads(lkca("evaluate", folder, "--reported", "--json").stdout)["scores"]
    assert found[-1]["source"] == "paper"
    assert found[-1]["parameters"] == pytest.approx(1.552e6)
    assert "source" not in found[0]


def test_evaluate_warns_and_refuses(folder) -> None:
    path = folder.parent / "net.safetensors"
    network(path, folder, test="0:40,0:64")
    result = lkca("evaluate", folder, "-c", path)
    assert "trained with 0:40,0:64 held out, not 0:24,0:48" in result.stderr
    save_model(LKCANet(6, 2, 16, 1, 1, reduction=8), path)
    assert "does not tell what its training held out" in lkca("evaluate", folder, "-c", path).stderr
    network(path, folder, bands=4)
    assert "net is of 4 bands and scale 2" in fails("evaluate", folder, "-c", path)
    network(path, folder, scale=4)
    assert "--scale 4 does not go with" in fails("evaluate", folder, "--scale", "4")
    assert "of 6 bands and scale 4" in fails("evaluate", folder, "-c", path)
    assert "--region 0:8,0:8 does not go with" in fails("evaluate", folder, "--region", "0:8,0:8")
    assert "--prediction x.npy does not go with" in fails("evaluate", folder, "--prediction", "x.npy")
    (folder / "protocol.json").write_text("{")
    assert "not JSON, cut short" in fails("evaluate", folder)
    assert "not JSON, cut short" in fails("info", folder)
    assert "not JSON, cut short" in fails("train", folder, "--out", folder.parent / "run", *NETWORK)


def test_patches_and_strides_are_free(tmp_path, image) -> None:
    def prepared(name: str, *options: str) -> tuple[Prepared, str]:
        line = ["prepare", "small", image, tmp_path / name, "--scale", "2", "--validation", "block"]
        result = lkca(*line, *options)
        assert result.exit_code == 0, result.output
        done = load_prepared(tmp_path / name)
        assert isinstance(done, Prepared)
        assert done.manifest["train"]["patch"] == done.split.patch
        return done, result.stderr

    found = {
        name: prepared(name, *options)
        for name, options in {
            "published": [],
            "wide": ["--patch", "10"],
            "steps": ["--stride", "3"],
            "both": ["--patch", "5", "--stride", "4"],
            "same": ["--patch", "12"],
        }.items()
    }
    assert {name: (done.split.patch, done.split.stride) for name, (done, _) in found.items()} == {
        "published": (24, 8),
        "wide": (20, 11),  # half a patch shares a factor with the scale: the next step does not
        "steps": (24, 3),
        "both": (10, 4),
        "same": (24, 8),
    }
    assert {name for name, (_, told) in found.items() if "half of the taps" in told} == {"published", "steps"}
    assert "patches of 12 LR pixels, step 8, as published" in found["published"][1]
    rows, columns = found["both"][0].split.train_origins.T
    assert rows.max() + 10 <= 80
    assert set((columns % 4).tolist()) == {0}
    assert "--patch must be 1 or more, got 0" in fails("prepare", "small", image, tmp_path / "o", "--patch", "0")
    line = fails("prepare", "small", image, tmp_path / "o", "--scale", "2", "--patch", "33")
    assert "patches of 66 x 66" in line


def test_other_commands_take_the_folder_as_its_scene(folder) -> None:
    assert is_prepared(folder)
    assert not is_prepared(folder.parent)
    facts = json.loads(lkca("info", folder, "--json").stdout)
    assert "80" in json.dumps(facts)
    path = folder.parent / "net.safetensors"
    network(path, folder)
    out = folder.parent / "sr.npy"
    assert lkca("super-resolve", folder, out, "-c", path, "--region", "0:20,0:20").exit_code == 0
    assert np.load(out).shape == (6, 40, 40)


def test_prepare_says_what_is_wrong_in_one_line(tmp_path, image) -> None:
    assert "protocol must be one of chikusei" in fails("prepare", "pavia", image, "--out", tmp_path / "o")
    assert "of 102 bands" in fails("prepare", "pavia_center", image, "--out", tmp_path / "o")
    assert "--columns must be ranges" in fails("prepare", "small", image, "--out", tmp_path / "o", "--columns", "1-4")
    assert "scale must be 2" in fails("prepare", "small", image, "--out", tmp_path / "o")
    line = fails("prepare", "small", image, "--out", tmp_path / "o", "--scale", "2", "--columns", "0:30,34:60")
    assert "columns kept make 80 rows x 56" in line
    assert list(tmp_path.iterdir()) == []


def test_scoring_checks_its_networks(folder) -> None:
    prepared = load_prepared(folder)
    with pytest.raises(ValueError, match="'bicubic' is the name"):
        score_tests(prepared, {"bicubic": LKCANet(6, 2, 16, 1, 1, reduction=8)})
    with pytest.raises(ValueError, match="images is empty"):
        mean_scores([])
