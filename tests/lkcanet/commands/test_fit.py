"""Scenes of other bands and units: what is refused, what would fit, --resample; --ensemble."""

import json
from pathlib import Path

import numpy as np
import pytest

from lkcanet.data import bicubic_downsample, demo_scene, read_scene, scene_from_array, write_scene
from lkcanet.evaluation import score
from lkcanet.inference import resampled, super_resolve
from lkcanet.models import load_model, pretrained

from ..command_line import lkca
from ..models.pretrained_helpers import CARD, NANOMETRES, checkpoint, tiny

pytest.importorskip("rich", reason="rich is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")

DENSE = [385.0 + 11 * band for band in range(12)]  # to 506 nm


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Networks of 6 and 12 bands, and scenes in counts up to 1000."""
    monkeypatch.setattr(pretrained, "PACKAGED", tmp_path / "packaged")
    monkeypatch.setenv(pretrained.FOLDERS, str(tmp_path))
    pretrained.publish(checkpoint(tmp_path / "net.safetensors"), "six", CARD, folder=tmp_path)
    scene = {"wavelengths": DENSE}
    other = checkpoint(tmp_path / "other.safetensors", tiny(12), scene=scene)
    pretrained.publish(other, "twelve", CARD, folder=tmp_path)
    for name, nanometres, bands in (
        ("six", NANOMETRES, 6),
        ("shifted", [nm + 300 for nm in NANOMETRES], 6),
        ("near", [nm + 7 for nm in NANOMETRES], 6),
        ("nameless", None, 6),
        ("dense", DENSE, 12),
        ("dense_nameless", None, 12),
    ):
        pixels = demo_scene((32, 40), bands, 1).pixels
        scene_of = scene_from_array(1000 * pixels / pixels.max(), peak=1000.0, wavelengths=nanometres, name=name)
        write_scene(tmp_path / f"{name}_scene.npy", scene_of)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", ["super-resolve", "evaluate", "show", "compress"])
def test_other_bands_are_refused_with_what_fits(command: str, folder: Path) -> None:
    def run(scene: str):
        words = {
            "super-resolve": [scene, "sr.npy", "-c", "six"],
            "evaluate": [scene, "-c", "six"],
            "show": [scene, "-c", "six"],
            "compress": ["six", "small.safetensors", "--rank", 1, "--scene", scene, "--test", "0:8,0:8", "--patch", 4],
        }
        return lkca(command, *words[command])

    few = run("dense_scene.npy")
    assert few.exit_code == 1
    text = "dense_scene.npy has 12 bands, the network takes 6; networks for it: twelve"
    assert text in few.stderr
    offered = command in ("super-resolve", "evaluate")
    assert ("--resample takes it, approximately" in few.stderr) is offered
    assert ("--resample needs a scene with wavelengths" in run("dense_nameless_scene.npy").stderr) is offered
    shifted = run("shifted_scene.npy")
    assert shifted.exit_code == 1
    expected = "shifted_scene.npy has other bands, 700 to 800 nm, than the network, 400 to 500 nm"
    assert expected in shifted.stderr
    assert "networks for it" not in shifted.stderr
    for near in ("near_scene.npy", "nameless_scene.npy"):
        assert run(near).exit_code == 0
        (folder / "small.safetensors").unlink(missing_ok=True)
        (folder / "sr.npy").unlink(missing_ok=True)


def test_evaluate_checks_every_network(folder: Path) -> None:
    checkpoint(folder / "far.safetensors", scene={"wavelengths": [nm + 300 for nm in NANOMETRES]})
    result = lkca("evaluate", "six_scene.npy", "-c", "six", "-c", "far.safetensors")
    assert result.exit_code == 1
    assert "than the network, 700 to 800 nm; networks for it: six" in result.stderr


@pytest.mark.parametrize("factor", [0.001, 100.0])
def test_units_that_are_others_are_refused_by_name_and_doubted_by_file(factor: float, folder: Path) -> None:
    values = factor * read_scene("six_scene.npy", peak=1.0).pixels
    np.save("units.npy", values)
    refused = lkca("super-resolve", "units.npy", "sr.npy", "-c", "six")
    assert refused.exit_code == 1
    assert "by 1000, the peak of six, so that its units seem to be others: give --peak" in refused.stderr
    given = lkca("super-resolve", "units.npy", "sr.npy", "-c", "six", "--peak", 1000 * factor)
    assert given.exit_code == 0, given.stderr
    expected = super_resolve(load_model("net.safetensors"), read_scene("six_scene.npy"))
    np.testing.assert_allclose(read_scene("sr.npy").pixels, expected.pixels, atol=1e-5)
    assert lkca("super-resolve", "units.npy", "as_is.npy", "-c", "six", "--peak", 1000).exit_code == 0
    doubted = lkca("super-resolve", "units.npy", "b.npy", "-c", "net.safetensors")
    assert doubted.exit_code == 0
    assert "warning: the scene reaches" in doubted.stderr


@pytest.mark.parametrize("options", [[], ["--tile", "16,16"], ["--ensemble"]])
def test_super_resolve_resamples(options: list[str], folder: Path) -> None:
    result = lkca("super-resolve", "dense_scene.npy", "sr.npy", "-c", "six", "--resample", *options)
    assert result.exit_code == 0, result.stderr
    assert "--resample is an approximation: the network was trained on 400 to 500 nm; 1 of 12 bands" in result.stderr
    scene, got = read_scene("dense_scene.npy"), read_scene("sr.npy")
    given = {"tile": (16, 16)} if "--tile" in options else {"ensemble": bool(options)}
    model = resampled(load_model("net.safetensors"), NANOMETRES, DENSE)
    np.testing.assert_allclose(got.pixels, super_resolve(model, scene, **given).pixels, atol=1e-6)
    assert got.pixels.shape == (12, 64, 80)
    assert got.wavelengths.tolist() == DENSE


def test_what_resample_needs(folder: Path) -> None:
    def stderr(*words: object) -> str:
        result = lkca("super-resolve", *words, "--resample")
        assert result.exit_code == 1
        assert not (folder / "sr.npy").exists()
        return result.stderr

    told = stderr("dense_nameless_scene.npy", "sr.npy", "-c", "six")
    assert "--resample needs wavelengths, which dense_nameless_scene.npy does not tell" in told
    bare = checkpoint(folder / "bare.safetensors", scene=None)
    assert f"which {bare} does not tell" in stderr("dense_scene.npy", "sr.npy", "-c", bare)
    assert "see 0% of them" in stderr("shifted_scene.npy", "sr.npy", "-c", "six")
    assert "--resample goes with --checkpoint" in stderr("dense_scene.npy", "sr.npy", "--fresh", "lkca_lr")
    same = lkca("super-resolve", "six_scene.npy", "sr.npy", "-c", "six", "--resample")
    assert "nothing to resample" in same.stderr
    expected = super_resolve(load_model("net.safetensors"), read_scene("six_scene.npy")).pixels
    assert np.array_equal(read_scene("sr.npy").pixels, expected)


def test_evaluate_resamples_and_ensembles(folder: Path) -> None:
    words = ["evaluate", "dense_scene.npy", "-c", "six", "-c", "twelve", "--resample", "--ensemble", "--json"]
    result = lkca(*words)
    assert result.exit_code == 0, result.stderr
    rows = {row["method"]: row for row in json.loads(result.stdout)["scores"]}
    assert list(rows) == ["bicubic", "six", "six (ensemble)", "twelve", "twelve (ensemble)"]
    scene = read_scene("dense_scene.npy", peak=1000.0)
    networks = {
        "six": resampled(load_model("net.safetensors"), NANOMETRES, DENSE),
        "twelve": load_model("other.safetensors"),
    }
    expected = score(scene, networks, ensemble=True, floor=rows["six"].get("floor", 0.01)).clean
    for name, row in rows.items():
        assert row["mpsnr"] == pytest.approx(expected[name]["mpsnr"], abs=1e-5)
    assert len({row["mpsnr"] for row in rows.values()}) == 5
    lowres = bicubic_downsample(scene.tensor(), 2)
    by_hand = super_resolve(networks["six"], lowres, ensemble=True)[0].numpy()
    error = np.mean([10 * np.log10(1 / np.mean((a - b) ** 2)) for a, b in zip(by_hand, scene.pixels, strict=True)])
    assert rows["six (ensemble)"]["mpsnr"] == pytest.approx(error, abs=0.01)


def test_evaluate_without_resample_refuses_networks_of_other_bands(folder: Path) -> None:
    result = lkca("evaluate", "dense_scene.npy", "-c", "twelve", "-c", "six")
    assert result.exit_code == 1
    assert "is of other bands, scale or peak than twelve" in result.stderr


def test_the_ensemble_s_cost_and_memory_are_said(folder: Path) -> None:
    result = lkca("super-resolve", "six_scene.npy", "sr.npy", "-c", "six", "--ensemble", "--json")
    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout)
    assert facts["ensemble"] is True
    assert facts["memory"]["ensemble"] is True
    assert "runs eight times" in result.stderr
    plain = json.loads(lkca("super-resolve", "six_scene.npy", "b.npy", "-c", "six", "--json").stdout)
    assert facts["memory"]["peak"] > plain["memory"]["peak"]
    expected = super_resolve(load_model("net.safetensors"), read_scene("six_scene.npy"), ensemble=True)
    assert np.array_equal(read_scene("sr.npy").pixels, expected.pixels)
