"""A pretrained network's name stands wherever a command takes a checkpoint; `lkca models`."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lkcanet.data import demo_scene, read_scene, scene_from_array, write_scene
from lkcanet.models import load_model, pretrained

from ..command_line import lkca
from ..models.pretrained_helpers import CARD, NANOMETRES, checkpoint, tiny

pytest.importorskip("rich", reason="rich is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("matplotlib", reason="matplotlib is not installed")

# parameters of commands that are checkpoints by these names; what the commands get for each of them below
CHECKPOINTS = {"checkpoint", "teacher", "init"}
TRAIN = (
    "--test 0:16,0:16 --validation 32:48,0:16 --out {out} --patch 4 --steps 1 --batch-size 1 --blocks 1 --channels 16"
)
TAKES = {
    "super-resolve": "{lowres} {out}.npy -c {net}",
    "evaluate": "{scene} -c {net} --region 0:32,0:32",
    "show": "{scene} -c {net} --region 0:32,0:32 --out {out}.png",
    "rank": "{net}",
    "compress": "{net} {out}.safetensors --rank 1",
    "export": "{net} {out}.onnx --no-check",
    "info": "{net}",
    "train --init": "{scene} --init {net} --scale 2 " + TRAIN,
    "distill --teacher": "{scene} --teacher {net} " + TRAIN,
    "distill --init": "{scene} --teacher best.safetensors --init {net} " + TRAIN,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scene, its low-resolution image, and the network "tiny-x2" among the pretrained ones."""
    monkeypatch.setattr(pretrained, "PACKAGED", tmp_path / "packaged")
    monkeypatch.setenv(pretrained.FOLDERS, str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    file = checkpoint(tmp_path / "best.safetensors")
    pretrained.publish(file, "tiny-x2", CARD, folder=tmp_path / "weights")
    pixels = demo_scene((48, 48), 6, 1).pixels
    for name, part in (("scene", pixels), ("lowres", pixels[:, :20, :24])):
        scene = scene_from_array(1000 * part, peak=1000.0, wavelengths=NANOMETRES, name=name)
        write_scene(tmp_path / f"{name}.npy", scene)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words(command: str, net: object, folder: Path) -> list[str]:
    paths = {"net": net, "scene": folder / "scene.npy", "lowres": folder / "lowres.npy", "out": folder / "result"}
    return [command.split()[0], *TAKES[command].format(**paths).split()]


def test_every_command_is_walked() -> None:
    """A new command with a checkpoint must be added to TAKES."""
    import typer

    from lkcanet.commands.app import build

    commands = typer.main.get_command(build()).commands
    taking = {(name, p.name) for name, each in commands.items() for p in each.params if p.name in CHECKPOINTS}
    walked = {tuple(key.replace("--", "").split()) for key in TAKES.keys() - {"info"}}
    assert taking == {key if len(key) == 2 else (*key, "checkpoint") for key in walked}


@pytest.mark.parametrize("command", TAKES)
def test_a_name_stands_for_a_checkpoint(command: str, folder: Path) -> None:
    if command.startswith(("train", "distill")):
        pytest.importorskip("lightning", reason="lightning is not installed")
    if command == "export":
        pytest.importorskip("onnx", reason="onnx is not installed")
    result = lkca(*words(command, "tiny-x2", folder))
    assert result.exit_code == 0, result.stderr
    if command not in ("rank", "info", "evaluate"):
        assert list(folder.glob("result*"))


@pytest.mark.parametrize("command", [command for command in TAKES if command != "info"])
def test_an_unknown_name_is_told_those_there_are(command: str, folder: Path) -> None:
    result = lkca(*words(command, "tiny-x4", folder))
    assert result.exit_code == 1
    assert "no checkpoint at tiny-x4, and no pretrained network of that name: tiny-x2" in result.stderr


def test_a_file_wins_over_a_name(folder: Path) -> None:
    checkpoint(folder / "other.safetensors", tiny(seed=3)).rename(folder / "tiny-x2")
    assert lkca("super-resolve", "lowres.npy", "a.npy", "-c", "tiny-x2").exit_code == 0
    assert lkca("super-resolve", "lowres.npy", "b.npy", "-c", folder / "weights" / "tiny-x2.safetensors").exit_code == 0
    image = read_scene("lowres.npy").tensor()
    with torch.inference_mode():
        expected = tiny(seed=3)(image)[0].numpy()
    np.testing.assert_allclose(read_scene("a.npy").pixels, expected, atol=1e-5)
    assert not np.allclose(read_scene("b.npy").pixels, expected, atol=1e-3)


def test_models_lists_them(folder: Path) -> None:
    result = lkca("models")
    assert result.exit_code == 0
    for part in ("tiny-x2", "x2", "400 to 500 nm", "31.500", "4.250", "0.0"):
        assert part in result.stdout
    (row,) = json.loads(lkca("models", "--json").stdout)["models"]
    model = load_model(folder / "best.safetensors").fold()
    assert row["parameters"] == model.parameter_count()
    assert row["wavelengths"] == NANOMETRES
    assert row["file"] == str(folder / "weights" / "tiny-x2.safetensors")


def test_models_prints_a_card(folder: Path) -> None:
    result = lkca("models", "tiny-x2")
    assert result.stdout.startswith("tiny-x2\n")
    assert "nobody, 2026" in result.stdout
    assert json.loads(lkca("models", "tiny-x2", "--json").stdout)["scores"] == CARD["scores"]
    unknown = lkca("models", "other")
    assert unknown.exit_code == 1
    assert "of that name: tiny-x2" in unknown.stderr


def test_models_without_any(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(pretrained.FOLDERS)
    result = lkca("models")
    assert result.exit_code == 0
    assert "none is here" in result.stderr
    assert json.loads(lkca("models", "--json").stdout) == {"models": []}
