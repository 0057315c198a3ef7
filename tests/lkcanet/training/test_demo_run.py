"""The demo from Python: its files are what its scores are of."""

from pathlib import Path

import numpy as np
import pytest

from lkcanet import training
from lkcanet.data import bicubic_downsample, bicubic_upsample, read_scene
from lkcanet.evaluation import evaluate
from lkcanet.models import load_model
from lkcanet.training.demo import SCALE, run_demo

pytest.importorskip("lightning", reason="lightning is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")
pytest.importorskip("matplotlib", reason="matplotlib is not installed")


def test_its_scores_are_of_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert lines[1:] == ["super-resolving and scoring the test region, columns 80 to 128"]
