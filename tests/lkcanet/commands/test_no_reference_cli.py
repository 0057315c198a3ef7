"""`lkca evaluate --no-reference`: a real low-resolution scene, networks and finished results."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lkcanet.data import bicubic_downsample, demo_scene, read_scene, scene_from_array, write_scene
from lkcanet.evaluation import consistency, spectral_distortion
from lkcanet.models import load_model

from ..command_line import lkca
from ..models.pretrained_helpers import NANOMETRES, checkpoint

pytest.importorskip("rich", reason="rich is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    checkpoint(tmp_path / "net.safetensors")
    pixels = demo_scene((32, 40), 6, 1).pixels
    for name, cube in (("lr", pixels[:, :16, :20]), ("other", pixels[:, 16:, 20:])):
        write_scene(tmp_path / f"{name}.npy", scene_from_array(1000 * cube, peak=1000.0, wavelengths=NANOMETRES))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_scene_without_truth(folder: Path) -> None:
    result = lkca("evaluate", "lr.npy", "-c", "net.safetensors", "--no-reference", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["scale"], report["shape"], report["reference"]) == (2, [6, 16, 20], None)
    assert [row["method"] for row in report["scores"]] == ["bicubic", "net.safetensors"]
    scene = read_scene(folder / "lr.npy")
    with torch.no_grad():
        image = load_model("net.safetensors")(scene.tensor())
    expected = {**consistency(image, scene.tensor()), "d_lambda": spectral_distortion(image, scene.tensor())}
    for name, value in expected.items():
        assert report["scores"][1][name] == pytest.approx(value, rel=1e-4), name
    table = lkca("evaluate", "lr.npy", "-c", "net.safetensors", "--no-reference")
    assert f"{expected['consistency_mpsnr']:.3f}" in table.stdout
    assert "not how true its details are" in " ".join(table.stdout.split())
    cut = lkca("evaluate", "lr.npy", "-c", "net.safetensors", "--no-reference", "--region", "0:10,:", "--json")
    assert json.loads(cut.stdout)["shape"] == [6, 10, 20]


def test_a_finished_result_scores_as_its_network(folder: Path) -> None:
    assert lkca("super-resolve", "lr.npy", "sr.npy", "-c", "net.safetensors").exit_code == 0
    line = ["evaluate", "lr.npy", "-c", "net.safetensors", "--prediction", "sr.npy", "--no-reference", "--json"]
    _, ours, theirs = json.loads(lkca(*line).stdout)["scores"]
    for name in ("consistency_mpsnr", "consistency_sam", "d_lambda"):
        assert ours[name] == pytest.approx(theirs[name], rel=1e-3)
    alone = json.loads(lkca("evaluate", "lr.npy", "--prediction", "sr.npy", "--no-reference", "--json").stdout)
    assert alone["scores"][1]["method"] == "sr.npy"


def test_several_scenes_and_one_that_fails(folder: Path) -> None:
    np.save(folder / "bad.npy", np.ones((3, 16, 16)))
    result = lkca("evaluate", "lr.npy", "bad.npy", "other.npy", "-c", "net.safetensors", "--no-reference", "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert [one["scene"] for one in report["scenes"]] == ["lr.npy", "other.npy"]
    assert report["failed"][0]["scene"] == "bad.npy"


def test_the_point_spread_function_is_that_of_the_training(folder: Path) -> None:
    checkpoint(folder / "blur.safetensors", options={"psf_sigma": 1.5})
    scene = read_scene(folder / "lr.npy")
    with torch.no_grad():
        image = load_model("blur.safetensors")(scene.tensor())
    expected = consistency(image, scene.tensor(), psf_sigma=1.5)["consistency_mpsnr"]
    result = lkca("evaluate", "lr.npy", "-c", "blur.safetensors", "--no-reference", "--json")
    assert json.loads(result.stdout)["scores"][1]["consistency_mpsnr"] == pytest.approx(expected, rel=1e-4)
    assert bicubic_downsample(image, 2).shape == scene.tensor().shape


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--snr", "20"], "--snr needs the true scene: it does not go with --no-reference"),
        (["--floor", "0"], "--floor needs the true scene"),
        (["--ssim", "matlab"], "--ssim needs the true scene"),
        (["--response", "landsat-tm-4"], "--response needs the true scene"),
        (["--band-peaks"], "--band-peaks needs the true scene"),
        (["--region", "test"], "--region test is of the true scene"),
        (["--prediction", "lr.npy", "--region", ":,:"], "--region does not go with --prediction and --no-reference"),
    ],
)
def test_what_needs_the_truth_is_refused(words: list[str], text: str, folder: Path) -> None:
    result = lkca("evaluate", "lr.npy", "-c", "net.safetensors", "--no-reference", *words)
    assert result.exit_code == 1
    assert text in result.stderr
    assert result.stdout == ""


def test_nothing_to_score_is_refused(folder: Path) -> None:
    assert "give one" in lkca("evaluate", "lr.npy", "--no-reference").stderr
