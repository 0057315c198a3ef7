"""`--config`: options from a file, and the file that repeats a run."""

import json
import shlex
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from lkcanet.data import PROTOCOLS, demo_scene, read_scene, write_scene
from lkcanet.models import LKCANet, load_model, save_model

from ..command_line import lkca

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
pytest.importorskip("rich", reason="rich is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")

SMALL = [
    "--scale",
    2,
    "--channels",
    16,
    "--blocks",
    1,
    "--patch",
    12,
    "--batch-size",
    2,
    "--steps",
    2,
    "--groups",
    1,
    "--threads",
    1,
]


def fails(*args: object, code: int = 1) -> str:
    result = lkca(*args)
    assert result.exit_code == code, result.output
    return result.stderr.strip().splitlines()[-1].removeprefix("error: ")


def config(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_scene(tmp_path / "scene.npy", demo_scene((48, 64), 5, seed=1))
    return tmp_path


def rows(path: Path) -> int:
    return read_scene(path).size[0]


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".yaml", "scale: 2\nregion: 0:24,0:64  # half\n"),
        (".yml", "degrade:\n  scale: 2\n  region: '0:24,:'\nevaluate: {floor: 0}\n"),
        (".yaml", "scale: 8\nregion: 0:24,0:64\ndegrade: {scale: 2}\n"),  # the table wins
        (".toml", 'scale = 2\nregion = "0:24,:"\n'),
        (".toml", 'scale = 8\n[degrade]\nscale = 2\nregion = "0:24,:"\n[super-resolve]\nout_dir = "x"\n'),
    ],
)
def test_options_come_from_the_file_and_flags_win(folder: Path, suffix: str, text: str) -> None:
    file = config(folder / f"c{suffix}", text)
    assert lkca("degrade", folder / "scene.npy", folder / "a.npy", "--config", file).exit_code == 0
    assert rows(folder / "a.npy") == 12
    result = lkca("degrade", folder / "scene.npy", folder / "b.npy", "--config", file, "--scale", 4)
    assert result.exit_code == 0, result.stderr
    assert rows(folder / "b.npy") == 6


def test_arguments_flags_lists_and_spellings(folder: Path) -> None:
    scene, out = folder / "scene.npy", folder / "lr"
    text = f"scene: [{scene}]\nout: {out}.npy\nscale: 4\ndrop-bad-bands: false\nsnr: 3e1\nregion: null\n"
    result = lkca("degrade", "--config", config(folder / "c.yaml", text))
    assert result.exit_code == 0, result.stderr
    assert rows(folder / "lr.npy") == 12
    facts = json.loads(lkca("info", scene, "--config", config(folder / "d.toml", "json = true")).stdout)
    assert facts["bands"] == 5
    # words that YAML 1.1 would read another way
    file = config(folder / "e.yaml", "on: features\nalpha: 1e-3\nkey: no\n")
    said = fails("distill", scene, "--teacher", folder / "none", "--out", folder / "run", "--config", file)
    assert "no checkpoint" in said or "none" in said
    assert "e.yaml" not in said


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("c.yaml", "sclae: 2\n", r"c.yaml: lkca degrade has no option sclae; did you mean scale?"),
        ("c.toml", "[degrade]\nsteps = 2\n", "c.toml: lkca degrade has no option steps"),
        ("c.yaml", "config: other.yaml\n", "has no option config"),
        ("c.yaml", "degrade:\n  degrade: {scale: 2}\n", "has no option degrade"),
        ("c.yaml", "scale: many\n", "c.yaml: scale must be a whole number, got 'many'"),
        ("c.yaml", "scale: 2.5\n", "c.yaml: scale must be a whole number, got 2.5"),
        ("c.yaml", "scale: true\n", "c.yaml: scale must be a whole number, got True"),
        ("c.yaml", "scale: [2]\n", "c.yaml: scale must be one value, got [2]"),
        ("c.toml", 'snr = "30"\n', "c.toml: snr must be a number, got '30'"),
        ("c.toml", "region = false\n", "c.toml: region must be a text that is not empty, got False"),
        ("c.yaml", "region: ''\n", "c.yaml: region must be a text that is not empty, got ''"),
        ("c.yaml", "region: {a: 1}\n", "c.yaml: region must be a text"),
        ("c.yaml", "drop_bad_bands: 'yes'\n", "c.yaml: drop_bad_bands must be true or false, got 'yes'"),
        ("c.yaml", "psf-sigma: 1\npsf_sigma: 2\n", "c.yaml: psf_sigma is given twice, with - and with _"),
        ("c.yaml", "scale: 1\nscale: 2\n", "the key 'scale' stands there twice"),
        ("c.yaml", "- scale\n", "c.yaml: must hold keys and values, got list"),
        ("c.yaml", "scale: [\n", "c.yaml: cannot be read as YAML"),
        ("c.toml", "scale = \n", "c.toml: cannot be read as TOML"),
        ("c.json", "{}", "unsupported suffix '.json', expected .yaml, .yml or .toml"),
    ],
)
def test_errors_name_the_key_and_the_file(folder: Path, name: str, text: str, words: str) -> None:
    file = config(folder / name, text)
    assert words in fails("degrade", folder / "scene.npy", folder / "a.npy", "--config", file)
    assert not (folder / "a.npy").exists()


def test_other_values_that_are_none(folder: Path) -> None:
    file = config(folder / "c.yaml", "noise_on: everything\n")
    words = "c.yaml: noise_on must be one of both, lowres, got 'everything'"
    assert words in fails("evaluate", folder / "scene.npy", "--config", file)
    assert "x.yaml: no such file" in fails("info", "--config", folder / "x.yaml")


def test_every_command_takes_it() -> None:
    from lkcanet.commands.app import build

    for entry in build().registered_commands:
        assert "--config" in lkca(entry.name, "--help").stdout, entry.name


def test_a_training_is_repeated_by_its_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightning", reason="lightning is not installed")
    monkeypatch.chdir(folder)
    user = config(folder / "mine.toml", "learning-rate = 1e-2\naugment = false\n[train]\nset = []\n")
    words = ["train", "scene.npy", "--test", ":,40:", *SMALL, "--seed", 3, "--out", "run", "--config", user.name]
    result = lkca(*words)
    assert result.exit_code == 0, result.stderr
    text = (folder / "run" / "config.yaml").read_text()
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert f"# {shlex.join(['lkca', *map(str, words)])}" in comments
    assert f"in {folder}" in comments[-1]
    kept = yaml.safe_load(text)
    assert (kept["scene"], kept["learning_rate"], kept["augment"], kept["seed"]) == (["scene.npy"], 0.01, False, 3)
    assert not {"config", "overwrite", "resume", "json", "max_minutes"} & kept.keys()
    result = lkca("train", "--config", "run/config.yaml", "--out", "again")
    assert result.exit_code == 0, result.stderr
    ours, theirs = (load_model(Path(run) / "last.safetensors").state_dict() for run in ("run", "again"))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    other = lkca("train", "--config", "run/config.yaml", "--out", "other", "--seed", 4)
    assert other.exit_code == 0, other.stderr
    assert any(
        not torch.equal(ours[name], tensor)
        for name, tensor in load_model("other/last.safetensors").state_dict().items()
    )
    again = yaml.safe_load((folder / "again" / "config.yaml").read_text())
    assert again == {**kept, "out": "again"}


def test_the_file_of_an_interrupted_run_resumes_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightning", reason="lightning is not installed")
    from lkcanet.training.module import Module

    from ..training.training_helpers import at_step

    monkeypatch.setattr(Module, "on_before_optimizer_step", Module.on_before_optimizer_step)
    at_step(1, lambda: signal.raise_signal(signal.SIGINT))
    out = folder / "run"
    assert lkca("train", folder / "scene.npy", "--test", ":,40:", *SMALL, "--out", out).exit_code == 130
    monkeypatch.undo()
    resumed = lkca("train", "--config", out / "config.yaml", "--resume")
    assert resumed.exit_code == 0, resumed.stderr
    assert "went on from step 1" in resumed.stderr


def test_a_run_that_is_refused_leaves_no_file(folder: Path) -> None:
    pytest.importorskip("lightning", reason="lightning is not installed")
    out = folder / "run"
    common = ["train", folder / "scene.npy", "--test", ":,40:", *SMALL, "--out", out]
    fails(*common, "--patch", 99)
    assert not out.exists()
    assert lkca(*common).exit_code == 0
    before = (out / "config.yaml").read_bytes()
    assert "of another run" in fails(*common, "--seed", 9)
    assert (out / "config.yaml").read_bytes() == before


def test_compress_leaves_one_beside_its_checkpoint(folder: Path) -> None:
    torch.manual_seed(0)
    model = LKCANet(5, 2, 16, 1, 1, reduction=8)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    save_model(model, folder / "net.safetensors", extra={"peak": 1.0})
    out = folder / "small.safetensors"
    fails("compress", folder / "net.safetensors", out, "--groups", 3)
    assert not list(folder.glob("*.yaml"))
    assert lkca("compress", folder / "net.safetensors", out, "--groups", 4).exit_code == 0
    file = folder / "small.config.yaml"
    assert yaml.safe_load(file.read_text())["groups"] == 4
    again = folder / "again.safetensors"
    assert lkca("compress", "--config", file, folder / "net.safetensors", again).exit_code == 0
    ours, theirs = load_model(out).state_dict(), load_model(again).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_prepare_leaves_one_that_does_not_stand_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from .test_prepared_cli import SMALL as PROTOCOL

    monkeypatch.setitem(PROTOCOLS, "small", PROTOCOL)  # type: ignore[arg-type]
    image, out = tmp_path / "small.npy", tmp_path / "prepared"
    np.save(image, demo_scene((80, 64), 6, seed=2).pixels)
    result = lkca("prepare", "small", image, "--out", out, "--scale", 2)
    assert result.exit_code == 0, result.stderr
    kept = yaml.safe_load((out / "config.yaml").read_text())
    assert (kept["protocol"], kept["scale"]) == ("small", 2)
    result = lkca("prepare", "--config", out / "config.yaml", "--overwrite")
    assert result.exit_code == 0, result.stderr
    assert (out / "config.yaml").exists()
    result = lkca("prepare", "small", image, out, "--scale", 2, "--overwrite")  # OUT as an argument
    assert result.exit_code == 0, result.stderr
    result = lkca("prepare", "--config", out / "config.yaml", "--out", tmp_path / "other")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "other" / "protocol.json").exists()


def test_values_that_yaml_has_other_words_for(folder: Path) -> None:
    from lkcanet.commands._config import _yaml, _yaml_content

    values = [True, 1, 0.5, 1e-05, 2e20, float("inf"), float("-inf"), "0:512,3:5", "no", "1e3", 'a "b" #c', "ü\n", "~"]
    assert _yaml_content(f"x: {_yaml(values)}") == {"x": values}
    assert np.isnan(_yaml_content(f"x: {_yaml(float('nan'))}")["x"])
    assert _yaml_content("") == {}
