"""The demo from Python: its files are what its scores are of."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lkcanet import training
from lkcanet.data import bicubic_downsample, bicubic_upsample, demo_scene, read_scene
from lkcanet.evaluation import evaluate
from lkcanet.inference import super_resolve
from lkcanet.models import load_model, pretrained
from lkcanet.training import demo
from lkcanet.training.demo import SCALE, run_demo

from ..models.pretrained_helpers import CARD, checkpoint, tiny

pytest.importorskip("lightning", reason="lightning is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")
pytest.importorskip("matplotlib", reason="matplotlib is not installed")


def test_its_scores_are_of_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "PACKAGED", tmp_path / "none")
    options, lines = training.TrainOptions, []
    monkeypatch.setattr(training, "TrainOptions", lambda **given: options(**{**given, "steps": 2, "progress": False}))
    result = run_demo(tmp_path / "demo", quick=True, seed=3, progress=lines.append)
    scene = read_scene(tmp_path / "demo" / "scene.npy")
    part = np.ascontiguousarray(scene.pixels[:, :, 80:])
    lowres = bicubic_downsample(scene.tensor()[..., 80:], SCALE)
    expected = {
        "bicubic": evaluate(bicubic_upsample(lowres, SCALE), part, SCALE),
        "LKCA-LR": evaluate(read_scene(tmp_path / "demo" / "super-resolved.npy").pixels, part, SCALE),
    }
    assert result.quality["bicubic"] == pytest.approx(expected["bicubic"], rel=1e-4)
    assert result.quality["LKCA-LR"] == pytest.approx(expected["LKCA-LR"], rel=1e-4)
    better = [expected["LKCA-LR"]["mpsnr"] > expected["bicubic"]["mpsnr"],
              expected["LKCA-LR"]["sam"] < expected["bicubic"]["sam"]]  # fmt: skip
    assert result.beats_bicubic is all(better)
    assert result.parameters == load_model(result.training.best).parameter_count()
    assert result.figure == tmp_path / "demo" / "demo.png"
    assert result.figure.read_bytes().startswith(b"\x89PNG")
    assert lines[0].startswith(f"training LKCA-LR ({result.parameters:,} parameters) on columns 0 to 80")
    assert lines[1:] == [
        "super-resolving and scoring the test region, columns 80 to 128",
        "no pretrained network of 31 bands and x4 is here: nothing to show without training",
    ]
    assert result.pretrained is None


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pretrained networks of 31 bands, and others that are none for CAVE at x4; the best is "second"."""
    monkeypatch.setattr(pretrained, "PACKAGED", tmp_path)
    for seed, (name, bands, scale, decibels) in enumerate(
        [("first", 31, 4, 30.0), ("second", 31, 4, 35.0), ("third", 31, 2, 40.0), ("fourth", 30, 4, 40.0)]
    ):
        file = checkpoint(tmp_path / "net.pth.safetensors", tiny(bands, scale, seed), peak=65535.0, scene=None)
        card = {**CARD, "scores": {"mean": {"mpsnr": decibels}}, "wavelengths": None}
        pretrained.publish(file, name, card, folder=tmp_path)
        file.unlink()
    return tmp_path


@pytest.mark.parametrize("painting", [True, False])
def test_the_best_pretrained_network_enlarges_a_scene(painting: bool, weights: Path, monkeypatch) -> None:
    if painting and not demo.PAINTING.is_dir():
        pytest.skip(f"the painting is not at hand: {demo.PAINTING}")
    if not painting:
        monkeypatch.setattr(demo, "PAINTING", weights / "not there")
    lines: list[str] = []
    result = demo.run_pretrained(quick=True, seed=5, progress=lines.append)
    assert result.name == demo.best_pretrained() == "second"
    whole = read_scene(demo.PAINTING, peak=65535).pixels if painting else demo_scene((256, 256), 31, 5).pixels
    side = 128 if painting else 64
    target = torch.tensor(whole[:, :side, :side])[None]
    lowres = bicubic_downsample(target, SCALE)
    expected = evaluate(super_resolve(tiny(31, 4, 1), lowres), target, SCALE)
    assert result.quality["second"] == pytest.approx(expected, rel=1e-4)
    assert result.quality["bicubic"] == pytest.approx(
        evaluate(bicubic_upsample(lowres, SCALE), target, SCALE), rel=1e-4
    )
    assert abs(result.quality["second"]["mpsnr"] - result.quality["bicubic"]["mpsnr"]) > 0.01
    what = "a corner of CAVE's oil painting" if painting else "a corner of a generated scene of 31 bands"
    assert result.scene == what
    assert lines == [f"super-resolving {what} with second, which needs no training"]


def test_both_networks_are_in_the_picture(tmp_path: Path, weights: Path, monkeypatch) -> None:
    import imageio.v3 as imageio

    options = training.TrainOptions
    monkeypatch.setattr(training, "TrainOptions", lambda **given: options(**{**given, "steps": 1, "progress": False}))
    both = run_demo(tmp_path / "both", quick=True)
    assert both.pretrained.name == "second"
    monkeypatch.setattr(pretrained, "PACKAGED", tmp_path / "none")
    alone = run_demo(tmp_path / "alone", quick=True)
    assert alone.pretrained is None
    tall, short = imageio.imread(both.figure), imageio.imread(alone.figure)
    assert tall.shape[1] == short.shape[1]
    assert tall.shape[0] > 1.5 * short.shape[0]
    assert np.array_equal(tall[: len(short), :, :3], short[..., :3])
