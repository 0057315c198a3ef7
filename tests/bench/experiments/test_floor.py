"""The experiment that chose the floor: its lakes, its report, and that the default is what the results say."""

import json
from pathlib import Path

import numpy as np
import pytest

from bench.experiments import floor
from bench.experiments.floor import FLOORS, PLACES, lake_scene, lines, rms, scores, verdict
from lkcanet.training import TrainOptions

pytest.importorskip("scipy", reason="scipy is not installed")

RESULTS = Path(floor.__file__).parents[1] / "results" / "floor.json"


def entry(name: str, value: float, **changes: float) -> dict:
    bicubic = {"mpsnr": 30.0, "dark_rmse": 0.02, "rest_sam": 5.0, "dark_sam": 9.0}
    facts = {"commit": "0123456789", "clean": True, "cpu": "a CPU", "torch": "2"}
    found = {"mpsnr": 31.0, "dark_rmse": 0.01, "rest_sam": 4.0, "dark_sam": 9.0, **changes}
    shared = {"seed": 0, "dark_rms": 0.01, "rest_rms": 0.3, "environment": facts}
    return {"scene": name, "floor": value, "scores": found, "bicubic": bicubic, **shared}


def test_the_verdict_names_what_is_missed() -> None:
    runs = [entry("lakes", value) for value in FLOORS]
    assert verdict(runs, "lakes", 0.01) == "all"
    runs[2] = entry("lakes", 0.01, dark_rmse=0.021)
    assert verdict(runs, "lakes", 0.01) == "misses dark RMSE"
    runs[2] = entry("lakes", 0.01, mpsnr=30.9, rest_sam=5.0)
    assert verdict(runs, "lakes", 0.01) == "misses SAM of the rest, MPSNR"


def test_the_report() -> None:
    text = "".join(lines([entry(name, value) for name in PLACES for value in FLOORS]))
    assert "commits 01234567.\n" in text
    assert all(place.label in text for place in PLACES.values())
    assert text.count("| 0.02 | 31.0000 | 0.0100 | 4.0000 | 9.0000 |") == len(PLACES)


def test_lakes() -> None:
    scene, lakes = lake_scene((96, 96), 12, seed=2)
    level = rms(scene.pixels)
    assert lakes.mean() == pytest.approx(floor.SHARE, abs=0.002)
    assert level[lakes].min() == pytest.approx(floor.LEVEL * level[~lakes].mean(), rel=0.1)
    again, _ = lake_scene((96, 96), 12, seed=2)
    assert np.array_equal(scene.pixels, again.pixels)


def test_scores_of_parts() -> None:
    rng = np.random.default_rng(0)
    target = rng.uniform(0.5, 1, (5, 12, 12))
    dark = np.zeros((12, 12), bool)
    dark[:8, :8] = True
    image = target.copy()
    image[0, dark] += 0.1
    found = scores(image, target, dark)
    assert found["dark_rmse"] == pytest.approx(0.1 / 5**0.5)
    assert found["rest_sam"] == 0 < found["sam"] < found["dark_sam"]


def test_the_default_is_what_was_measured() -> None:
    runs = json.loads(RESULTS.read_text())["runs"]
    assert {entry["floor"] for entry in runs} == set(FLOORS)
    for name in ("lakes", "painting", "jasper"):
        assert verdict(runs, name, TrainOptions.floor) == "all"
    assert "dark RMSE" in verdict(runs, "lakes", 0.0)  # the fault
