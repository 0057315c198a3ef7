"""The distillation experiment: runs that go on where they stopped, and a report that says what the numbers say."""

import json

import pytest

from bench.experiments import distillation, runs
from bench.experiments.report import differences, markdown, scores_table
from bench.experiments.runs import METHODS, Settings

for package in ("lightning", "safetensors", "scipy"):
    pytest.importorskip(package, reason=f"{package} is not installed")

BICUBIC = {"mpsnr": 30.0, "mssim": 0.8, "sam": 5.0, "ergas": 5.0, "cc": 0.9, "rmse": 0.02}
GAINS = {"teacher": 0.5, "net": 0.4, "lr": 0.3, "kd": 0.35, "kd_no_decay": 0.3, "kd_no_cosine": 0.2}


def scene(gains: dict[str, float] = GAINS, noise: float = 0.0) -> dict:
    """Results as the runs write them, with chosen gains over bicubic."""
    found = [
        {
            "method": method,
            "seed": seed,
            "settings": vars(Settings()),
            "network": {"bands": 48},
            "parameters": 1_000_000,
            "macs_16x16": 2e8,
            "train_patches": 5,
            "seconds": 60.0,
            "scores": {**BICUBIC, "mpsnr": 30 + gain + seed + noise * (-1) ** seed, "sam": 5 - gain},
            "environment": {"commit": "0123456789", "clean": True, "torch": "2", "cpu": "a CPU"},
        }
        for method, gain in gains.items()
        for seed in range(3)
    ]
    return {"settings": vars(Settings()), "bicubic": BICUBIC, "runs": found}


def test_differences_are_taken_at_equal_seeds():
    """The seeds' own level, here a whole decibel, drops out."""
    assert differences(scene(), "mpsnr")["kd"] == pytest.approx([0.05] * 3)
    assert "| LKCA-KD | +0.050 ± 0.000 | 3 of 3 | -0.050 ± 0.000 | 3 of 3 |" in markdown({"generated": scene()})


def test_means_and_deviations():
    assert "| LKCA-LR | 1.000 M | 0.200 | 31.300 ± 1.000 |" in scores_table(scene())


def test_the_statement_follows_from_the_figures():
    text = markdown({"generated": scene()})
    assert "generated: every run beats bicubic" in text
    assert "LKCA-KD minus LKCA-LR is +0.050 ± 0.000 dB: the same sign in every seed" in text
    assert "LKCA-KD, no decay (d = 1) minus LKCA-LR is +0.000 ± 0.000 dB: within the noise" in text
    worse = markdown({"generated": scene({**GAINS, "kd": -1.5})})
    assert "not better than bicubic: LKCA-KD (seed 0), LKCA-KD (seed 1), LKCA-KD (seed 2)" in worse


def test_runs_resume_and_are_reported(tmp_path, monkeypatch):
    settings = Settings(test=":,64:", patch=6, stride=11, channels=16, steps=2, batch_size=1)
    monkeypatch.setattr(runs, "demo_scene", lambda size, bands, seed: demo_scene((96, 96), 8, seed))
    monkeypatch.setattr(distillation, "RESULTS", tmp_path)
    from lkcanet.data import demo_scene

    assert runs.done(tmp_path, settings, "kd", 0) is None
    for method in METHODS:
        result = runs.run(tmp_path, settings, method, 0)
        assert result["scores"]["mpsnr"] > 15
    assert result["distillation"]["cosine_weight"] == 0
    assert runs.run(tmp_path, settings, "kd_no_cosine", 0) == result, "a finished run was run again"
    with pytest.raises(ValueError, match="other settings"):
        runs.done(tmp_path, Settings(steps=3), "kd", 0)
    distillation.write(distillation.summary(tmp_path, settings, [0]))
    written = json.loads((tmp_path / "distillation.json").read_text())["generated"]
    assert [entry["method"] for entry in written["runs"]] == list(METHODS)
    assert "LKCA-KD, no cosine loss" in (tmp_path / "distillation.md").read_text()
