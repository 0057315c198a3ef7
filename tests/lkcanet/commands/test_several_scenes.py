"""Commands of several scenes: the same for each as for it alone, one failure loses no other result."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lkcanet.data import demo_scene, read_scene, scene_from_array, write_scene
from lkcanet.evaluation import mean_scores
from lkcanet.inference import super_resolve
from lkcanet.models import LKCANet, load_model, load_model_and_extra, save_model

from ..command_line import fails, lkca

pytest.importorskip("rich", reason="rich is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")

SIZES = {"a": (32, 24), "b": (20, 28), "c": (24, 24)}


def good(*args: object) -> Any:
    result = lkca(*args)
    assert result.exit_code == 0, result.output
    return result


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """A folder of scenes a, b and c of different sizes and peaks."""
    folder = tmp_path / "scenes"
    folder.mkdir()
    for seed, (name, size) in enumerate(SIZES.items()):
        pixels = demo_scene(size, 6, seed=seed).pixels * (900 + 50 * seed)
        write_scene(folder / f"{name}.npy", scene_from_array(pixels, name=name, peak=1000.0))
    return folder


@pytest.fixture
def net(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = LKCANet(6, 2, 16, 1, 1, reduction=8)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    save_model(model, tmp_path / "net.safetensors", extra={"peak": 1000.0})
    return tmp_path / "net.safetensors"


def broken(folder: Path) -> Path:
    (folder / "broken.npy").write_bytes(b"\x93NUMPY nothing")
    return folder / "broken.npy"


def same(one: Path, other: Path) -> bool:
    return np.array_equal(read_scene(one).pixels, read_scene(other).pixels)


@pytest.mark.parametrize("how", ["scenes", "folder", "list"])
def test_degrade_makes_of_each_what_it_makes_of_it_alone(scenes: Path, tmp_path: Path, how: str) -> None:
    files = [scenes / f"{name}.npy" for name in "abc"]
    (tmp_path / "list.txt").write_text("scenes/a.npy\n# not this\nscenes/b.npy\nscenes/c.npy\n")
    given = {"scenes": files, "folder": [scenes], "list": [tmp_path / "list.txt"]}[how]
    out, options = tmp_path / "new" / "lr", ["--scale", 2, "--snr", 30, "--seed", 5]
    result = good("degrade", *given, out, *options)
    assert names(out) == ["a.npy", "b.npy", "c.npy"]
    assert len(result.stdout.splitlines()) == 3
    for name in "abc":
        good("degrade", scenes / f"{name}.npy", tmp_path / "alone.npy", *options)
        assert same(out / f"{name}.npy", tmp_path / "alone.npy")


def test_degrade_in_pairs_and_another_format(scenes: Path, tmp_path: Path) -> None:
    pair = ["--msi-out", tmp_path / "msi", "--response", "average-2", "--suffix", ".npz", "--scale", 2]
    good("degrade", scenes, tmp_path / "lr", *pair)
    assert names(tmp_path / "lr") == names(tmp_path / "msi") == ["a.npz", "b.npz", "c.npz"]
    assert read_scene(tmp_path / "msi" / "b.npz").size == SIZES["b"]
    same_folder = ["--msi-out", tmp_path / "x", "--response", "average-2"]
    assert "would replace the scene" in fails("degrade", scenes, tmp_path / "x", *same_folder)
    assert not (tmp_path / "x").exists()


def test_a_folder_that_is_there_takes_one_scene_too(scenes: Path, tmp_path: Path, net: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    good("degrade", scenes / "a.npy", out, "--scale", 2)
    good("super-resolve", out / "a.npy", out, "-c", net, "--suffix", ".npz")
    assert names(out) == ["a.npy", "a.npz"]


def test_what_exists_is_refused_before_the_first(scenes: Path, tmp_path: Path, net: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in "bc":
        (out / f"{name}.npy").write_bytes(b"mine")
    for command in (["degrade"], ["super-resolve", "-c", net]):
        line = fails(*command, scenes, out)
        assert "b.npy, " in line
        assert "c.npy exist: choose another folder, or --overwrite" in line
        assert names(out) == ["b.npy", "c.npy"]
    good("super-resolve", "-c", net, scenes, out, "--skip-existing")
    assert (out / "b.npy").read_bytes() == b"mine"
    assert read_scene(out / "a.npy").size == (64, 48)
    good("degrade", scenes, out, "--scale", 2, "--overwrite")
    assert [read_scene(out / f"{name}.npy").size for name in "abc"] == [(16, 12), (10, 14), (12, 12)]


def test_what_can_not_be_written_is_refused(scenes: Path, tmp_path: Path, net: Path) -> None:
    a, b = scenes / "a.npy", scenes / "b.npy"
    (tmp_path / "file").touch()
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.npz").write_bytes(a.read_bytes())
    for command in (["degrade"], ["super-resolve", "-c", net]):
        assert "must be a folder, for the results of 2 scenes" in fails(*command, a, b, tmp_path / "file")
        assert "would replace the scene" in fails(*command, a, b, scenes)
        assert "would both become" in fails(*command, a, other / "a.npz", tmp_path / "out")
        assert "named more than once" in fails(*command, a, scenes, tmp_path / "out")
        assert "x.npy: no such file or folder" in fails(*command, a, scenes / "x.npy", tmp_path / "out")
        assert "--suffix must be one of" in fails(*command, a, b, tmp_path / "out", "--suffix", ".bmp")
        assert "--suffix goes with" in fails(*command, a, tmp_path / "one.npy", "--suffix", ".npy")
        assert not (tmp_path / "out").exists()
    fails("super-resolve", "-c", tmp_path / "none.safetensors", a, b, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    forgotten = fails("super-resolve", "-c", net, a, b, scenes / "c.npy", code=2)
    assert "is no folder for the results of several scenes" in forgotten


def test_a_scene_that_fails_loses_no_other(scenes: Path, tmp_path: Path, net: Path) -> None:
    bad, out = broken(scenes), tmp_path / "out"
    for command in (["degrade", "--scale", 2], ["super-resolve", "-c", net], ["super-resolve", "-c", net, "--json"]):
        result = lkca(*command, scenes, out, "--overwrite")
        assert result.exit_code == 1
        lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert "cannot be read" in lines[0]
        assert lines[-1] == f"error: 1 of 4 scenes failed: {bad}"
        assert names(out) == ["a.npy", "b.npy", "c.npy"]
    facts = json.loads(result.stdout)
    assert [Path(one["out"]).name for one in facts["results"]] == ["a.npy", "b.npy", "c.npy"]
    assert [one["scene"] for one in facts["failed"]] == [str(bad)]


def test_super_resolve_into_a_folder(scenes: Path, tmp_path: Path, net: Path) -> None:
    good("super-resolve", scenes / "a.npy", scenes / "b.npy", tmp_path / "out", "-c", net)
    for name in "ab":
        expected = super_resolve(load_model(net), read_scene(scenes / f"{name}.npy", peak=1000.0)).pixels
        assert np.array_equal(read_scene(tmp_path / "out" / f"{name}.npy").pixels, expected)
    good("super-resolve", scenes, "--out-dir", tmp_path / "other", "-c", net)
    assert names(tmp_path / "other") == ["a.npy", "b.npy", "c.npy"]


def test_info_gives_a_list(scenes: Path, net: Path) -> None:
    facts = json.loads(good("info", scenes, net, "--json").stdout)
    assert [one["kind"] for one in facts] == ["scene"] * 3 + ["checkpoint"]
    alone = json.loads(good("info", scenes / "b.npy", "--json").stdout)
    assert facts[1] == alone
    text = good("info", scenes / "a.npy", scenes / "b.npy").stdout
    first, second = text.split("\n\n")
    assert first + "\n" == good("info", scenes / "a.npy").stdout
    assert second == good("info", scenes / "b.npy").stdout
    bad = broken(scenes)
    result = lkca("info", scenes, "--json")
    assert result.exit_code == 1
    assert [one["kind"] for one in json.loads(result.stdout)] == ["scene", "scene", "failed", "scene"]
    assert result.stderr.splitlines()[-1] == f"error: 1 of 4 files failed: {bad}"


def test_evaluate_gives_a_row_a_scene_and_the_mean(scenes: Path, net: Path) -> None:
    report = json.loads(good("evaluate", scenes, "-c", net, "--json").stdout)
    assert report["failed"] == []
    alone = [json.loads(good("evaluate", scenes / f"{n}.npy", "-c", net, "--json").stdout) for n in "abc"]
    assert report["scenes"] == alone
    for number, row in enumerate(report["mean"]):
        each = [one["scores"][number] for one in alone]
        assert row == {"method": each[0]["method"], **mean_scores([{**one} for one in each])}  # type: ignore[typeddict-item]
    assert [row["method"] for row in report["mean"]] == ["bicubic", str(net)]
    text = good("evaluate", scenes, "-c", net).stdout
    assert text.count("mean of 3 scenes") == 3
    for row in [*(one["scores"][1] for one in alone), report["mean"][1]]:
        assert f"{row['mpsnr']:.3f}" in text


def test_evaluate_with_ensembles(scenes: Path, net: Path) -> None:
    report = json.loads(good("evaluate", scenes, "-c", net, "--ensemble", "--json").stdout)
    assert [row["method"] for row in report["mean"]] == ["bicubic", str(net), f"{net} (ensemble)"]
    alone = json.loads(good("evaluate", scenes / "b.npy", "-c", net, "--ensemble", "--json").stdout)
    assert report["scenes"][1] == alone
    assert "mean of 3 scenes" in good("evaluate", scenes, "-c", net, "--ensemble").stdout
    noisy = good("evaluate", scenes / "b.npy", "-c", net, "--ensemble", "--snr", "20,30").stdout
    assert f"{net.stem} (ensemble)" in noisy
    assert str(net.parent) not in "".join(line for line in noisy.splitlines() if "ensemble" in line)


def test_evaluate_says_of_how_many_the_mean_is(scenes: Path, net: Path) -> None:
    bad = broken(scenes)
    result = lkca("evaluate", scenes, "-c", net)
    assert result.exit_code == 1
    assert "mean of 3 of 4 scenes" in result.stdout
    assert result.stderr.splitlines()[-1] == f"error: 1 of 4 scenes failed: {bad}"
    for name in "abc":
        (scenes / f"{name}.npy").write_bytes(bad.read_bytes())
    result = lkca("evaluate", scenes, "-c", net, "--json")
    assert result.exit_code == 1
    assert (json.loads(result.stdout)["mean"], len(json.loads(result.stdout)["failed"])) == ([], 4)


def test_evaluate_under_noise_and_finished_results(scenes: Path, tmp_path: Path, net: Path) -> None:
    noisy = json.loads(good("evaluate", scenes, "-c", net, "--snr", "20,30", "--json").stdout)
    assert [(row["method"], row["snr"]) for row in noisy["mean"]][:2] == [("bicubic", 20.0), (str(net), 20.0)]
    alone = json.loads(good("evaluate", scenes / "c.npy", "-c", net, "--snr", "20,30", "--json").stdout)
    assert noisy["scenes"][2] == alone
    assert "20 dB" in good("evaluate", scenes, "-c", net, "--snr", "20,30").stdout
    lowres, results = tmp_path / "lr", tmp_path / "results"
    good("degrade", scenes, lowres, "--scale", 2)
    good("super-resolve", lowres, results, "-c", net)
    report = json.loads(good("evaluate", scenes, "-c", net, "--prediction", results, "--json").stdout)
    _, ours, theirs = report["mean"]
    assert theirs["method"] == str(results)
    assert theirs["mpsnr"] == pytest.approx(ours["mpsnr"], abs=1e-4)
    (results / "b.npy").unlink()
    result = lkca("evaluate", scenes, "--scale", 2, "--prediction", results)
    assert result.exit_code == 1
    assert "holds no result of the scene b" in result.stderr
    line = fails("evaluate", scenes, "--scale", 2, "--prediction", results / "a.npy")
    assert line.startswith("error: 3 of 3 scenes failed")
    assert "--msi goes with one scene, got 3" in fails("evaluate", scenes, "-c", net, "--msi", scenes / "a.npy")


def told(scenes: Path) -> list[dict[str, Any]]:
    parts = {"a": ("0:32,0:24", None), "b": ("0:20,0:28", None), "c": (None, "0:24,0:24")}
    return [
        {"name": n, "shape": [6, *SIZES[n]], "peak": 1000.0, "test": None, "train": train, "validation": held}
        for n, (train, held) in parts.items()
    ]


def test_compress_calibrates_on_several_scenes(scenes: Path, tmp_path: Path, net: Path) -> None:
    model, extra = load_model_and_extra(net)
    save_model(model, net, extra={**extra, "scenes": told(scenes), "split": {"patch": 8, "stride": 4}})
    a, b, c = (scenes / f"{name}.npy" for name in "abc")
    out = tmp_path / "small.safetensors"

    def weights(*given: object) -> dict[str, torch.Tensor]:
        words = [word for path in given for word in ("--scene", path)]
        report = json.loads(good("compress", net, out, "--rank", 2, "--overwrite", "--json", *words).stdout)
        assert report["compression"]["calibrated"] == bool(given)
        return load_model(out).state_dict()

    one, other, both = weights(a), weights(b), weights(a, b)
    for single in (one, other, weights()):
        assert any(not torch.allclose(single[name], both[name]) for name in both)
    good("compress", net, out, "--rank", 2, "--overwrite", "--scene", a, "--scene", b, "--align", 2)
    said = good("compress", net, out, "--rank", 2, "--overwrite", "--scene", scenes).stderr
    assert f"did not train it: {c}\n" in said  # of the folder the one that validated is left out
    assert all(torch.equal(both[name], weight) for name, weight in load_model(out).state_dict().items())
    write_scene(scenes / "d.npy", demo_scene((16, 16), 6, seed=9))
    assert "d.npy: give --test" in fails("compress", net, out, "--rank", 2, "--overwrite", "--scene", scenes)
    (scenes / "d.npy").unlink()
    assert "which chose its checkpoint" in fails("compress", net, out, "--rank", 2, "--overwrite", "--scene", c)
    with_test = ["--scene", scenes, "--test", "0:20,16:"]
    good("compress", net, out, "--rank", 2, "--overwrite", *with_test)
    assert load_model_and_extra(out)[1]["scenes"] == told(scenes)
