"""The experiment on CAVE: its command lines are ones that the commands take, and its tables say what was found."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.experiments import cave, cave_report, cave_runs
from lkcanet.evaluation.reported import reported
from lkcanet.models import LKCANet, load_model_and_extra, pretrained, save_model

SCORES = {"cc": 0.99, "sam": 3.25, "rmse": 0.014, "ergas": 3.4, "mpsnr": 38.75, "mssim": 0.95}
BICUBIC = {**SCORES, "mpsnr": 34.7, "sam": 4.2}


def training(label: str) -> dict[str, Any]:
    facts = {"commit": "0123456789abcdef", "command": f"lkca train {label}", "machine": "a CPU"}
    scenes = {"training_scenes": 18, "validation_scenes": ["c_ms"]}
    return {"label": label, **facts, **scenes, "steps": 5000, "hours": 1.5}


def network(**changes: Any) -> dict[str, Any]:
    worse = {**SCORES, "mpsnr": 34.0}
    return {
        "kind": "lkcanet",
        "config": {},
        "parameters": 1_234_567,
        "macs_16x16": 371_000_000,
        "training": training("LKCA-X"),
        "curve": [{"step": 0, "mpsnr": 30.6, "sam": 3.9}, {"step": 500, "mpsnr": 31.7, "sam": 3.6}],
        "looks": 2,
        "scores": {"mean": SCORES, "images": {"a_ms": SCORES, "b_ms": worse}},
        "ensemble": {"mean": {**SCORES, "mpsnr": 38.9}, "images": {"a_ms": SCORES, "b_ms": SCORES}},
        **changes,
    }


@pytest.fixture
def found() -> dict[str, Any]:
    bicubic = {"mean": BICUBIC, "images": {"a_ms": BICUBIC, "b_ms": BICUBIC}}
    second = {**training("LKCA-Y"), "before": [training("LKCA-X")]}
    networks = {"LKCA-Net": network(), "LKCA-Res": network(looks=1, training=second)}
    networks["compressed"] = network(training=training("LKCA-Z"), curve=[])
    facts = {"scale": 4, "ssim": "matlab", "environment": {"cpu": "a CPU"}}
    return {**facts, "bicubic": bicubic, "networks": networks}


@pytest.mark.parametrize("label", cave_runs.RUNS)
def test_every_run_is_a_line_that_its_command_takes(label: str, tmp_path: Path, monkeypatch) -> None:
    import typer

    from lkcanet.commands.app import build

    seen: list[list[str]] = []

    class Done:
        returncode = 0

    monkeypatch.setattr(cave, "environment", lambda: {"commit": "abc", "cpu": "a CPU"})
    monkeypatch.setattr(cave.subprocess, "run", lambda line: seen.append(line) or Done())
    compresses = cave_runs.RUNS[label].command == "compress"
    prepared: Any = SimpleNamespace(train=[None] * 18, validation=[SimpleNamespace(name="c_ms")])
    for _ in range(1 if compresses else 2):
        with pytest.raises(SystemExit) as ended:
            cave.train(prepared, Path("cave-x4"), label, tmp_path, ["--max-minutes", "3.5"])
        assert ended.value.code == 0
        (tmp_path / cave.folder_of(label) / "state.safetensors").touch()
    first, *again = (line[line.index("lkcanet.cli") + 1 :] for line in seen)
    assert again == ([] if compresses else [[*first, "--resume"]])
    group: Any = typer.main.get_command(build())
    params = group.commands[first[0]].make_context(first[0], first[1:]).params
    out = tmp_path / cave.folder_of(label)
    if compresses:
        assert (params["out"], params["scene"]) == (out / "last.safetensors", [Path("cave-x4")])
    else:
        assert (params["max_minutes"], params["out"]) == (3.5, out)
    start = params["checkpoint" if compresses else "init"]
    before = cave_runs.RUNS[label].start
    assert (None if before is None else tmp_path / cave.folder_of(before) / "last.safetensors") == start
    assert params.get("whiten") == (0.1 if before is None else None)
    note = json.loads((tmp_path / cave.folder_of(label) / cave.NOTE).read_text())
    assert note["command"] == " ".join(["lkca", *first])
    assert (note["training_scenes"], note["validation_scenes"]) == (18, ["c_ms"])


def test_the_tables_tell_all(found) -> None:
    text = cave_report.markdown(found)
    rows = [line for line in text.splitlines() if "(published)" in line and line.startswith("|")]
    assert len(rows) == len(reported("cave", 4)) == 7
    assert "| **LKCA-Net** | 1.235 M | 0.371 | 0.9900 | 3.2500 | 0.0140 | 3.4000 | 38.7500 | 0.9500 |" in text
    assert "| LKCA-Net (ensemble) | 1.235 M | 0.371 | 0.9900 | 3.2500 | 0.0140 | 3.4000 | 38.9000 | 0.9500 |" in text
    assert "by which everything was chosen: c_ms; a run of 20" in text
    assert "Looks at the test scenes: LKCA-Net 2, LKCA-Res 1, compressed 2." in text
    assert "LKCA-Net is better than bicubic in MPSNR on 1 of 2." in text
    assert "| b_ms | 34.70 / 4.20 | 34.00 / 3.25 | 34.00 / 3.25 | 34.00 / 3.25 |" in text
    rows = [line for line in text.splitlines() if "`lkca train" in line]
    assert [row.split(" | ")[0] for row in rows] == ["| LKCA-X", "| LKCA-Y", "| LKCA-Z"]
    assert rows[0] == "| LKCA-X | 18 | 1.50 | 5000 | 0123456789ab | `lkca train LKCA-X` |"


def test_pairs_are_compared_scene_by_scene(found) -> None:
    first, second = cave_runs.PAIRS[0]
    better = {**SCORES, "mpsnr": SCORES["mpsnr"] + 0.5, "sam": SCORES["sam"] - 0.1}
    scores = {"mean": SCORES, "images": {"a_ms": SCORES, "b_ms": SCORES}}
    found["networks"] = {first: network(scores={"mean": SCORES, "images": {"a_ms": better, "b_ms": SCORES}})}
    assert " less " not in cave_report.markdown(found)
    found["networks"][second] = network(scores=scores)
    said = "mean over the scenes +- its standard error: +0.250 +- 0.250 dB, -0.050 +- 0.050 degrees."
    assert f"{first} less {second}, {said}" in cave_report.markdown(found)


def test_a_run_whose_weights_alone_are_left_was_scored_before(found, tmp_path: Path) -> None:
    """What is told of it, and of what it started from, is what was noted then."""
    label, start = "LKCA-Res-local", "LKCA-Res-24"
    assert cave_runs.history(label) == [label, start]
    (tmp_path / cave.folder_of(label)).mkdir()
    (tmp_path / cave.folder_of(label) / cave.NOTE).write_text(json.dumps(training(label)))
    first = {**training("LKCA-W"), "curve": [1]}
    scored = {start: network(training={**training(start), "before": [first]}, curve=[2])}
    told = cave._facts(LKCANet(31, 2, 16, 1, reduction=8), label, tmp_path, scored)
    assert told["training"]["before"] == [{**training(start), "curve": [2]}, first]
    assert [each["label"] for each in cave_report.stages(told["training"])] == ["LKCA-W", start, label]
    assert json.dumps(told)


def test_a_training_needs_an_end(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--minutes or --steps must be given for LKCA-LR-local-24"):
        cave_runs.command_line(Path("set"), "LKCA-LR-local-24", tmp_path, [])


def test_the_curves_start_at_the_first_validation(found) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    panels = cave_report.curves(found).axes
    assert [len(panel.lines) for panel in panels] == [3, 3]  # two curves and bicubic
    assert panels[0].lines[0].get_xydata().tolist() == [[0, 30.6], [500, 31.7]]
    assert panels[0].lines[2].get_xydata().tolist() == [[5000, 30.6], [5500, 31.7]]  # goes on where the first ended


def test_curves_are_those_of_validation_scenes(found) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    curve = [{"step": 0, "mpsnr": 29.0, "sam": 4.2}, {"step": 5000, "mpsnr": 31.0, "sam": 3.8}]
    on_all = {**training("LKCA-V"), "training_scenes": 20, "validation_scenes": []}
    last = {**on_all, "before": [{**training("LKCA-W"), "curve": curve}]}
    panel, _ = cave_report.curves({**found, "networks": {"LKCA-V": network(training=last)}}).axes
    drawn = {str(line.get_label()): line.get_xydata().tolist() for line in panel.lines}
    assert drawn["LKCA-W"] == [[0, 29.0], [5000, 31.0]]  # the first course; the second one has patches, not scenes
    assert "LKCA-V" not in drawn


def test_what_is_published_is_what_was_scored(found, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = LKCANet(31, 2, 16, 1, reduction=8)
    with torch.no_grad():
        model.upsample.conv.get_parameter("parametrizations.weight.original0").fill_(0.1)
    save_model(model, tmp_path / "net.safetensors", extra={"step": 5000})
    (tmp_path / "weights").mkdir()
    second = network(training={**training("LKCA-Y"), "before": [training("LKCA-X")]})
    file = cave.publish(second, tmp_path / "net.safetensors", "a-net", overwrite=False, folder=tmp_path / "weights")
    read, extra = load_model_and_extra(file)
    scored = pretrained.stored(model, cave.DTYPE)
    assert all(torch.equal(value, read.state_dict()[key]) for key, value in scored.state_dict().items())
    x = torch.rand(1, 31, 8, 8)
    assert (scored(x) - model.eval()(x)).abs().max() > 0  # rounded
    assert extra["peak"] == 65535
    card = json.loads(file.with_suffix(".json").read_text())
    assert card["scores"]["mean"] == SCORES
    assert card["test_looks"] == 2
    assert (card["training"]["command"], card["training"]["hours"]) == ("lkca train LKCA-Y", 3.0)
    assert card["data"]["name"].endswith(": 18 of the 20 training scenes of SSPSR's protocol; c_ms validate")
    assert "before that, LKCA-X: 5000 steps in 1.5 hours, `lkca train LKCA-X`" in card["notes"][1]
    assert len(card["wavelengths"]) == 31
