"""SSPSR, ESSAformer and MSDformer by the command line: trained, looked at, scored, used."""

import json
from pathlib import Path

import pytest
import torch

from lkcanet.data import demo_scene, read_scene, write_scene
from lkcanet.inference import super_resolve
from lkcanet.models import KINDS, load_model

from .test_cli import fails, lkca

pytest.importorskip("lightning", reason="lightning is not installed")
pytest.importorskip("typer", reason="typer is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")

SETTINGS = {
    "sspsr": ("channels=8", "blocks=1", "group=4", "overlap=1", "reduction=4"),
    "essaformer": ("channels=8", "dropout=0"),
    "msdformer": ("channels=8", "blocks=1", "heads=2", "group=4", "overlap=1", "reduction=4", "unused=true"),
}
TRAIN = ["--scale", 2, "--patch", 8, "--batch-size", 2, "--steps", 4, "--validate-every", 2, "--test", ":,40:"]


@pytest.mark.parametrize("name", SETTINGS)
def test_train_info_evaluate_and_super_resolve(name: str, tmp_path: Path) -> None:
    scene = demo_scene((48, 64), 6, seed=1)
    write_scene(tmp_path / "scene.npz", scene)
    own = [part for setting in SETTINGS[name] for part in ("--set", setting)]
    done = lkca(
        "train", tmp_path / "scene.npz", "--model", name, *own, *TRAIN, "--threads", 1, "--out", tmp_path / "run"
    )
    assert done.exit_code == 0, done.output
    assert f"note: {name}: " in done.stderr
    best = tmp_path / "run" / "best.safetensors"
    model = load_model(best)
    assert type(model) is KINDS[name]
    told = json.loads(lkca("info", best, "--json").stdout)
    assert (told["network"], told["parameters"]) == (name, model.parameter_count())
    assert told["macs_16x16"] == model.macs(16, 16)
    scored = lkca("evaluate", tmp_path / "scene.npz", "-c", best, "--json", "--threads", 1)
    assert scored.exit_code == 0, scored.output
    assert [row["method"] for row in json.loads(scored.stdout)["scores"]] == ["bicubic", str(best)]
    write_scene(tmp_path / "lr.npz", scene)
    made = lkca("super-resolve", tmp_path / "lr.npz", tmp_path / "sr.npz", "-c", best)
    assert made.exit_code == 0, made.output
    expected = super_resolve(model, scene)
    torch.testing.assert_close(
        torch.from_numpy(read_scene(tmp_path / "sr.npz").pixels), torch.from_numpy(expected.pixels)
    )


def test_an_option_that_does_not_fit_the_scene_is_named(tmp_path: Path) -> None:
    write_scene(tmp_path / "scene.npz", demo_scene((48, 64), 6, seed=1))
    line = ["train", tmp_path / "scene.npz", "--model", "sspsr", *TRAIN, "--out", tmp_path / "run"]
    assert "group must be at most the bands of the image, 6; got 8" in fails(*line)
    line[3] = "msdformer"
    assert "scale must be 2, 4, 8 or a higher power of two" in fails(*line, "--set", "group=4", "--scale", 3)
