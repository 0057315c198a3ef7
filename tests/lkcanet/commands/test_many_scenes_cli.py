"""`lkca train` and `lkca distill` on several scenes and on prepared sets of them."""

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lightning", reason="lightning is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scenes")

from lkcanet.data import demo_scene, load_prepared, named_response, simulate_pair, write_scene
from lkcanet.evaluation.metrics import evaluate
from lkcanet.inference import super_resolve
from lkcanet.models import load_model, load_model_and_extra
from lkcanet.training import state as _state

from ..command_line import fails, lkca

NETWORK = ["--channels", 16, "--blocks", 1, "--patch", 8, "--batch-size", 2, "--threads", 1, "--scale", 2]
STEPS = ["--steps", 2, "--learning-rate", 1e-4, "--final-learning-rate", 1e-4]


def succeeds(*args: object) -> Any:
    result = lkca(*args)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes of three sizes and two peaks."""
    folder = tmp_path_factory.mktemp("scenes")
    for seed, (name, size) in enumerate({"one": (40, 48), "two": (36, 32), "three": (48, 33)}.items()):
        scene = dataclasses.replace(demo_scene(size, 6, seed=seed), peak=100.0 if name == "two" else 200.0)
        write_scene(folder / f"{name}.npy", dataclasses.replace(scene, name=name))
    return folder


def test_one_validates_the_others_train(folder: Path, tmp_path: Path) -> None:
    paths = [folder / f"{name}.npy" for name in ("one", "two", "three")]
    result = succeeds("train", *paths, "--validation", "two", "--out", tmp_path, "--json", *NETWORK, *STEPS)
    assert "training patches of 2 scenes" in result.stderr
    assert "validation 0:36,0:32 of 1 scenes" in result.stderr
    extra = load_model_and_extra(tmp_path / "last.safetensors")[1]
    assert [each["name"] for each in extra["scenes"]] == ["one", "two", "three"]
    assert [each["train"] is None for each in extra["scenes"]] == [False, True, False]
    assert extra["peak"] is None
    assert json.loads(result.stdout)["scenes"][1]["peak"] == 100


def test_a_folder_and_a_list_name_them(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"# some\n{folder / 'one.npy'}\n\n{folder / 'three.npy'}\n")
    for scenes, names in ((folder, ["one", "three", "two"]), (tmp_path / "list.txt", ["one", "three"])):
        out = tmp_path / scenes.stem
        succeeds("train", scenes, "--out", out, "--one-peak", *NETWORK, *STEPS)
        extra = load_model_and_extra(out / "best.safetensors")[1]
        assert [each["name"] for each in extra["scenes"]] == names
        assert extra["peak"] == 200
        assert all(each["validation"] is not None for each in extra["scenes"])


def test_a_student_has_the_teachers_peak(folder: Path, tmp_path: Path) -> None:
    succeeds("train", folder, "--one-peak", "--out", tmp_path / "teacher", *NETWORK, *STEPS)
    teacher = tmp_path / "teacher" / "best.safetensors"
    more = ["--teacher", teacher, "--validation", "patches:0.2", "--out", tmp_path / "student"]
    succeeds("distill", folder / "one.npy", folder / "two.npy", *more, *NETWORK, *STEPS)
    extra = load_model_and_extra(tmp_path / "student" / "best.safetensors")[1]
    assert extra["peak"] == 200
    assert extra["split"]["validation_patches"] > 0
    assert extra["distillation"]["alpha"] == 0.01


def test_weights_to_start_from(folder: Path, tmp_path: Path) -> None:
    first = ["train", folder, "--one-peak", *NETWORK]
    succeeds(*first, "--out", tmp_path / "first", *STEPS)
    checkpoint = tmp_path / "first" / "last.safetensors"
    again = [*first, "--init", checkpoint, "--out", tmp_path / "again", "--ema", 0.9, *STEPS]
    result = succeeds(*again)
    assert f"of the network's tensors are those of {checkpoint}\n" in result.stderr
    state = _state.read(tmp_path / "again" / "state.safetensors")
    before = load_model_and_extra(checkpoint)[1]["validation"]
    assert state.history[0]["mpsnr"] == pytest.approx(before["mpsnr"], abs=1e-6)
    assert state.bicubic["mpsnr"] != state.history[0]["mpsnr"]  # what it starts from is not bicubic
    extra = load_model_and_extra(tmp_path / "again" / "last.safetensors")[1]
    assert extra["init"]["file"] == str(checkpoint)
    assert not extra["init"]["left"]
    assert "had ended with step 2" in succeeds(*again, "--resume").stderr
    other = [*first, "--init", checkpoint, "--out", tmp_path / "wide", "--channels", 32, "--steps", 1]
    assert "not these, which start afresh: head.weight, " in succeeds(*other).stderr


def test_a_set_trains_with_its_own_scenes_or_with_other_patches(folder: Path, tmp_path: Path) -> None:
    made = tmp_path / "set"
    succeeds("prepare", "folder", folder, "--out", made, "--scale", 2, "--test", "two", "--validation", "three",
             "--patch", 8, "--stride", 5)  # fmt: skip
    network = NETWORK[:4] + NETWORK[6:10]  # without patch and scale, which the set has
    result = succeeds("train", made, "--out", tmp_path / "run", *network, *STEPS)
    extra = load_model_and_extra(tmp_path / "run" / "best.safetensors")[1]
    assert [each["name"] for each in extra["scenes"]] == ["one", "three"]
    assert (extra["split"]["patch"], extra["split"]["stride"]) == (16, 5)
    line = shlex.split(result.stdout.splitlines()[-1].removeprefix("next: "))
    assert line[:3] == ["lkca", "evaluate", str(made)]
    succeeds(*line[1:])
    succeeds("train", made, "--out", tmp_path / "other", "--patch", 12, *network, *STEPS)
    split = load_model_and_extra(tmp_path / "other" / "best.safetensors")[1]["split"]
    assert (split["patch"], split["stride"] % 2) == (24, 1)
    assert load_model(tmp_path / "other" / "best.safetensors").bands == load_prepared(made).bands
    for option, value in (
        ("--test", ":,8:"),
        ("--scale", 4),
        ("--peak", 3.0),
        ("--validation", "0.1"),
        ("--axes", "hwc"),
    ):
        line = fails("train", made, "--out", tmp_path / "no", option, value, *network, *STEPS)
        assert f"{option} {value} does not go with" in line
    assert not (tmp_path / "no").exists()


def test_a_set_without_validation_asks_for_one(folder: Path, tmp_path: Path) -> None:
    made, network = tmp_path / "set", NETWORK[:4] + NETWORK[6:8]
    succeeds("prepare", "folder", folder, "--out", made, "--scale", 2, "--test", "two", "--validation", "none",
             "--patch", 8)  # fmt: skip
    assert "has no validation scenes: give --validation" in fails("train", made, "--out", tmp_path / "a", *network)
    succeeds("train", made, "--validation", "patches:0.2", "--out", tmp_path / "b", *network, *STEPS)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--validation", "four"], "no scene is called that; there are one, three, two"),
        (["--validation", "0"], "--validation must leave a block"),
        (["--msi", "x.npy", "--model", "csakd-student"], "--msi goes with one scene: --response makes the MSI of each"),
        (["--patch", "40"], "scene "),
    ],
)
def test_what_does_not_go(folder: Path, tmp_path: Path, more: list[str], message: str) -> None:
    network = [] if "--model" in more else NETWORK
    assert message in fails("train", folder, "--out", tmp_path / "run", *network, *STEPS, *more)
    assert not (tmp_path / "run").exists()


def test_one_peak_is_of_several(folder: Path, tmp_path: Path) -> None:
    told = fails("train", folder / "one.npy", "--one-peak", "--test", ":,30:", "--out", tmp_path / "run", *NETWORK)
    assert "--one-peak is of several scenes" in told


def test_scenes_that_do_not_fit_are_named(folder: Path, tmp_path: Path) -> None:
    write_scene(tmp_path / "odd.npy", demo_scene((40, 40), 4, seed=7))
    told = fails("train", folder, tmp_path / "odd.npy", "--out", tmp_path / "run", *NETWORK, *STEPS)
    assert "odd" in told
    assert not (tmp_path / "run").exists()


def test_a_set_trains_a_network_that_fuses(folder: Path, tmp_path: Path) -> None:
    """Response and blur go with a set, and are those of its test scenes when it is scored."""
    from ..training import msi_helpers

    assert msi_helpers.ToyMsiNetwork.kind == "toy_msi"
    made, out = tmp_path / "set", tmp_path / "run"
    succeeds("prepare", "folder", folder, "--out", made, "--scale", 2, "--test", "two", "--validation", "one",
             "--patch", 8)  # fmt: skip
    fusing = ["--model", "toy_msi", "--response", "average-2", "--psf-sigma", 1.5]
    succeeds("train", made, "--out", out, *fusing, *STEPS)
    told = json.loads(succeeds("evaluate", made, "-c", out / "best.safetensors", "--json").stdout)
    assert told["psf_sigma"] == 1.5
    target, model = load_prepared(made).test_scene(0), load_model(out / "best.safetensors")
    pair = simulate_pair(target, 2, named_response("average-2"), psf_sigma=1.5)
    expected = evaluate(super_resolve(model, pair.lowres, msi=pair.msi).pixels, target.pixels, 2)
    assert told["scores"][1]["images"][0]["sam"] == pytest.approx(expected["sam"], abs=1e-4)
    succeeds("train", folder, "--validation", "two", "--out", tmp_path / "all", *fusing, "--scale", 2, "--patch", 8,
             *STEPS)  # fmt: skip
    assert load_model_and_extra(tmp_path / "all" / "best.safetensors")[1]["msi"]["response"]["name"] == "average-2"
