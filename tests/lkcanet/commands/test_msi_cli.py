"""Networks with an MSI, from the command line: pairs, training, scores under noise, results, what is refused."""

import csv
import json
from pathlib import Path
from unittest.mock import ANY

import numpy as np
import pytest
import torch

from lkcanet.data import PROTOCOLS, Rect, bicubic_upsample, demo_scene, load_prepared, read_scene, write_scene
from lkcanet.data.multispectral import gaussian_downsample, simulate_msi, simulate_pair
from lkcanet.data.responses import named_response
from lkcanet.evaluation.metrics import evaluate
from lkcanet.evaluation.scoring import score_tests
from lkcanet.inference import super_resolve
from lkcanet.models import LKCANet, load_model, load_model_and_extra, save_model

from .test_cli import fails, lkca
from .test_prepared_cli import SMALL

pytest.importorskip("lightning", reason="lightning is not installed")
pytest.importorskip("typer", reason="typer is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")

from ..training.msi_helpers import ToyMsiNetwork

TRAIN = ["--model", "toy_msi", "--set", "features=6", "--scale", 2, "--patch", 8, "--batch-size", 2, "--steps", 6]
TRAIN += ["--validate-every", 3, "--test", ":,40:", "--threads", 1]
WALD = ["--response", "average-2", "--psf-sigma", 1.2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A scene, its MSI in other units, networks of both kinds, and a trained one."""
    path = tmp_path_factory.mktemp("msi")
    scene = demo_scene((48, 64), 8, seed=1)
    write_scene(path / "scene.npz", scene)
    made = lkca("degrade", path / "scene.npz", path / "lr.npz", "--scale", 2, *WALD, "--msi-out", path / "msi.npz")
    assert made.exit_code == 0, made.output
    write_scene(path / "small.npz", read_scene(path / "msi.npz").cropped(Rect(0, 24, 0, 32)))
    np.savez(path / "counts.npz", pixels=read_scene(path / "msi.npz").pixels * 5000)
    torch.manual_seed(0)
    save_model(LKCANet(8, 2, 16, 1, 1, reduction=8), path / "lkca.safetensors", extra={"peak": scene.peak})
    result = lkca("train", path / "scene.npz", *TRAIN, *WALD, "--snr", 40, "--msi-snr", 45, "--out", path / "run")
    assert result.exit_code == 0, result.output
    assert "note: toy_msi: " in result.stderr
    return path


def scores(*args: object) -> dict[str, object]:
    result = lkca("evaluate", *args, "--json", "--threads", 1)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_degrade_makes_the_pair(folder: Path) -> None:
    scene, lowres, msi = (read_scene(folder / f"{name}.npz") for name in ("scene", "lr", "msi"))
    assert np.abs(msi.pixels - simulate_msi(scene, named_response("average-2")).pixels).max() < 1e-6
    assert np.abs(lowres.pixels - gaussian_downsample(scene.tensor(), 2, 1.2)[0].numpy()).max() < 1e-6
    assert msi.wavelengths[0] == pytest.approx(scene.wavelengths[:4].mean())
    assert msi.peak == pytest.approx(scene.peak)


def test_degrade_adds_noise_by_its_seed(folder: Path, tmp_path: Path) -> None:
    command = ["degrade", folder / "scene.npz", tmp_path / "a.npz", "--scale", 2, *WALD, "--msi-out"]
    assert lkca(*command, tmp_path / "b.npz", "--snr", 30, "--msi-snr", 20, "--seed", 3).exit_code == 0
    scene = read_scene(folder / "scene.npz")
    pair = simulate_pair(scene, 2, named_response("average-2"), psf_sigma=1.2, snr=30, msi_snr=20, seed=3)
    assert np.abs(read_scene(tmp_path / "a.npz").pixels - pair.lowres.pixels).max() < 1e-6
    assert np.abs(read_scene(tmp_path / "b.npz").pixels - pair.msi.pixels).max() < 1e-6


def test_training_notes_how_its_images_were_made(folder: Path) -> None:
    model, extra = load_model_and_extra(folder / "run" / "best.safetensors")
    assert isinstance(model, ToyMsiNetwork)
    assert model.config == {"bands": 8, "msi_bands": 2, "scale": 2, "features": 6}
    assert (extra["options"]["psf_sigma"], extra["options"]["snr"], extra["options"]["msi_snr"]) == (1.2, 40, 45)
    assert extra["msi"]["response"]["name"] == "average-2"
    result = lkca("info", folder / "run" / "best.safetensors", "--json")
    facts = json.loads(result.stdout)
    assert (facts["kind"], facts["network"], facts["msi"]["shape"]) == ("checkpoint", "toy_msi", [2, 48, 64])


def test_scores_are_those_of_the_pair(folder: Path) -> None:
    """Response and point spread function come from the checkpoint; with the file of the MSI it is the same."""
    best = folder / "run" / "best.safetensors"
    told = scores(folder / "scene.npz", "-c", best)
    assert told["region"] == "0:48,40:64"
    assert told["psf_sigma"] == 1.2
    scene, model = read_scene(folder / "scene.npz"), load_model(best)
    part = scene.pixels[:, :, 40:].copy()
    lowres = gaussian_downsample(torch.from_numpy(part)[None], 2, 1.2)[0].numpy()
    msi = simulate_msi(scene, named_response("average-2")).pixels[:, :, 40:].copy()
    expected = evaluate(super_resolve(model, lowres, msi=msi), part, 2)
    (bicubic, ours) = told["scores"]
    assert (bicubic["method"], ours["method"]) == ("bicubic", str(best))
    for name, value in expected.items():
        assert ours[name] == pytest.approx(value, rel=1e-5), name
    assert ours["mpsnr"] != pytest.approx(bicubic["mpsnr"], abs=1e-3)
    for given in (["--msi", folder / "msi.npz"], ["--msi", folder / "counts.npz", "--msi-peak", 5000]):
        again = scores(folder / "scene.npz", "-c", best, *given)["scores"][1]
        assert again["mpsnr"] == pytest.approx(ours["mpsnr"], abs=1e-3)


def test_scores_under_noise(folder: Path) -> None:
    best = folder / "run" / "best.safetensors"
    told = scores(folder / "scene.npz", "-c", best, "--snr", "20,35", "--seed", 4)
    rows = {(row["method"], row["snr"]): row for row in told["scores"]}
    assert set(rows) == {(method, level) for method in ("bicubic", str(best)) for level in (20, 35, None)}
    for method in ("bicubic", str(best)):
        quality = [rows[method, level]["mpsnr"] for level in (20, 35, None)]
        angles = [rows[method, level]["sam"] for level in (20, 35, None)]
        assert quality[0] < quality[1] - 0.5 < quality[2]
        assert angles == sorted(angles, reverse=True)
    clean = scores(folder / "scene.npz", "-c", best)["scores"]
    assert {key: value for key, value in rows[str(best), None].items() if key != "snr"} == clean[1]
    lowres = scores(folder / "scene.npz", "-c", best, "--snr", "20", "--noise-on", "lowres", "--seed", 4)["scores"]
    assert lowres[0]["mpsnr"] == rows["bicubic", 20]["mpsnr"]
    assert abs(lowres[1]["mpsnr"] - rows[str(best), 20]["mpsnr"]) > 1e-6
    table = lkca("evaluate", folder / "scene.npz", "-c", best, "--snr", "20,35", "--seed", 4).stdout
    heads = [line for line in table.splitlines() if "20 dB" in line]
    assert [word for word in heads[0].split() if word in ("20", "35", "clean", "average")] == [
        "20",
        "35",
        "clean",
        "average",
    ]
    for first, method in (("bicubic x2", "bicubic"), ("run", str(best))):
        lines = [line.strip() for line in table.splitlines() if line.strip().startswith(first)]
        assert len(lines) == 2
        for line, key in zip(lines, ("mpsnr", "sam"), strict=True):
            cells = [float(number) for number in line.removeprefix(first).split()]
            expected = [rows[method, level][key] for level in (20, 35, None)]
            assert cells == pytest.approx([*expected, sum(expected) / 3], abs=1e-3)


def test_results(folder: Path, tmp_path: Path) -> None:
    best, model = folder / "run" / "best.safetensors", load_model(folder / "run" / "best.safetensors")
    lowres, msi = read_scene(folder / "lr.npz"), read_scene(folder / "msi.npz")
    command = ["super-resolve", folder / "lr.npz", tmp_path / "sr.npz", "-c", best, "--threads", 1]
    result = lkca(*command, "--msi", folder / "msi.npz", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["shape"] == [8, 48, 64]
    whole = super_resolve(model, lowres, msi=msi)
    assert np.abs(read_scene(tmp_path / "sr.npz").pixels * lowres.peak / lowres.peak - whole.pixels).max() < 1e-5
    part = lkca(*command[:2], tmp_path / "part.npz", *command[3:], "--msi", folder / "msi.npz", "--region", "4:20,:16")
    assert part.exit_code == 0, part.output
    expected = super_resolve(model, lowres.pixels[:, 4:20, :16].copy(), msi=msi.pixels[:, 8:40, :32].copy())
    assert np.abs(read_scene(tmp_path / "part.npz").pixels - expected).max() < 1e-5
    tiles = lkca(*command[:2], tmp_path / "t.npy", *command[3:], "--msi", folder / "msi.npz", "--tile", "16,16")
    assert tiles.exit_code == 0, tiles.output
    assert np.abs(read_scene(tmp_path / "t.npy").pixels - whole.pixels).mean() < 1e-3
    several = ["super-resolve", folder / "lr.npz", folder / "scene.npz", "--out-dir", tmp_path / "out", "-c", best]
    assert "give --msi for each of 2, got 1" in fails(*several, "--msi", folder / "msi.npz")


def test_training_with_a_file_and_the_h_loss(folder: Path, tmp_path: Path) -> None:
    command = ["train", folder / "scene.npz", *TRAIN, "--out", tmp_path / "run"]
    result = lkca(*command, "--msi", folder / "counts.npz", "--msi-peak", 5000, "--objective", "h", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["network"] == "toy_msi"
    extra = load_model_and_extra(tmp_path / "run" / "last.safetensors")[1]
    assert (extra["msi"]["peak"], extra["msi"]["response"]) == (5000, None)
    with (tmp_path / "run" / "metrics.csv").open() as file:
        assert "sam_loss" in next(csv.reader(file))
    again = lkca(*command, "--msi", folder / "counts.npz", "--msi-peak", 5000, "--objective", "h", "--resume")
    assert "had ended with step 6" in again.stderr
    last = tmp_path / "run" / "last.safetensors"
    assert "give --msi FILE or --response NAME" in fails("evaluate", folder / "scene.npz", "-c", last)


def test_what_is_refused(folder: Path, tmp_path: Path) -> None:
    scene, best, out = folder / "scene.npz", folder / "run" / "best.safetensors", tmp_path / "x"
    lkca_file, msi, lowres = folder / "lkca.safetensors", folder / "msi.npz", folder / "lr.npz"
    small = folder / "small.npz"
    train = ["train", scene, *TRAIN, "--out", out]
    cases = [
        (["train", scene, "--model", "other", "--test", ":,40:", "--out", out], "--model must be one of lkca_lr, lkca"),
        (train, "toy_msi fuses an MSI with the scene: give --msi FILE or --response NAME"),
        ([*train, "--msi", msi, "--response", "average-2"], "give --msi or --response, not both"),
        ([*train, "--response", "average-2", "--msi-peak", 3], "--msi-peak goes with --msi"),
        ([*train, *WALD, "--channels", 16], "--channels is of LKCA-Nets; arguments of toy_msi are given by --set"),
        ([*train, *WALD, "--set", "colour=1"], "toy_msi can't be made: "),
        ([*train, *WALD, "--set", "colour"], "--set must be NAME=VALUE such as features=32, got 'colour'"),
        ([*train, *WALD, "--objective", "colour=1"], "the objective of toy_msi can't be made: "),
        ([*train, "--response", "landsat-tm-9"], "a response is landsat-tm-4, landsat-tm-6, average-N"),
        ([*train, "--response", tmp_path / "none.csv"], "no response at "),
        ([*train, "--response", "average-9"], "average-9 makes 9 bands of "),
        ([*train, "--msi", lowres], "the MSI must be of 48 x 64 pixels, 2 times the low-resolution image's; "),
        ([*train, *WALD, "--psf-sigma", 0], "psf_sigma must be a positive finite number, got 0.0"),
        ([*train, *WALD, "--snr", "nan"], "snr must be a finite number of dB, got nan"),
        (["train", scene, "--response", "average-2", "--test", ":,40:", "--out", out], "--response goes with a fusion"),
        (["distill", scene, "--teacher", best, "--out", out], "that fuses an MSI, which lkca distill does not take"),
        (["distill", scene, "--teacher", lkca_file, *TRAIN[:2], *WALD, "--out", out], "does not go with lkca distill"),
        (["rank", best], "best.safetensors: toy_msi has no upsampler: it names no conv before a PixelShuffle"),
        (
            ["compress", best, tmp_path / "x.safetensors"],
            "best.safetensors: toy_msi can't be compressed: its config",
        ),
        (["show", scene, "-c", best, "--out", tmp_path / "x.png"], "fuses an MSI, which lkca show does not take"),
        (["evaluate", scene, "-c", best, "--snr", "20,x"], "--snr must be numbers of dB such as 20,25,30"),
        (["evaluate", scene, "-c", best, "--snr", "20", "--prediction", scene], "does not go with --prediction"),
        (["evaluate", scene, "-c", best, "--msi", small], "the MSI must be of 48 x 24 pixels, 2 times the low-resol"),
        (["evaluate", scene, "-c", best, "--response", "average-3"], "takes an MSI of 2 bands, 'demo MSI' has 3"),
        (["evaluate", scene, "-c", lkca_file, "-c", best], "was trained with another point spread function than "),
        (["super-resolve", lowres, tmp_path / "x.npz", "-c", best], "give --msi for each of 1, got 0"),
        (["super-resolve", lowres, tmp_path / "x.npz", "-c", lkca_file, "--msi", msi], "--msi goes with a fusion netw"),
        (["super-resolve", lowres, tmp_path / "x.npz", "-c", best, "--msi", small], "msi must be of shape"),
        (["super-resolve", lowres, msi, "-c", best, "--msi", msi, "--overwrite"], "would replace the scene"),
        (["degrade", scene, tmp_path / "x.npz", "--msi-out", tmp_path / "y.npz"], "--msi-out and --response go togeth"),
        (["degrade", scene, tmp_path / "x.npz", *WALD, "--msi-out", tmp_path / "x.npz"], "would replace the scene"),
        (["degrade", scene, tmp_path / "x.npz", "--psf-sigma", -1], "sigma must be a positive finite number"),
        (
            ["degrade", scene, tmp_path / "x.npz", "--scale", 99, *WALD, "--msi-out", tmp_path / "y.npz"],
            "the scene 0:48,0:64 of 48 x 64 pixels is too small: at scale 99 at least 99 x 99 are needed",
        ),
    ]
    for arguments, message in cases:
        line = fails(*arguments)
        assert message in line, (arguments, line)
        assert list(tmp_path.iterdir()) == [], arguments


def test_a_fusion_network_as_onnx(folder: Path, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnx", reason="onnx is not installed")
    result = lkca("export", folder / "run" / "best.safetensors", tmp_path / "x.onnx", "--json")
    assert result.exit_code == 0, result.output
    session = runtime.InferenceSession(str(tmp_path / "x.onnx"), providers=["CPUExecutionProvider"])
    lowres, msi = torch.rand(1, 8, 5, 7), torch.rand(1, 2, 10, 14)
    image = session.run(None, {"lowres": lowres.numpy(), "msi": msi.numpy()})[0]
    with torch.no_grad():
        expected = load_model(folder / "run" / "best.safetensors")(lowres, msi)
    assert np.abs(image - expected.numpy()).max() < 1e-5


def test_a_prepared_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The MSI of its test images is made through the response of the training."""
    monkeypatch.setitem(PROTOCOLS, "small", SMALL)
    savemat = pytest.importorskip("scipy.io").savemat
    savemat(tmp_path / "small.mat", {"scene": demo_scene((80, 64), 6, seed=2).pixels.transpose(1, 2, 0) * 4000})
    folder, out = tmp_path / "prepared", tmp_path / "run"
    made = lkca("prepare", "small", tmp_path / "small.mat", "--out", folder, "--scale", 2, "--validation", "block")
    assert made.exit_code == 0, made.output
    command = ["train", folder, *TRAIN[:4], *TRAIN[8:12], "--out", out, "--threads", 1]
    assert "--msi " in fails(*command, "--msi", tmp_path / "small.mat")
    result = lkca(*command, "--response", "average-3")
    assert result.exit_code == 0, result.output
    told = scores(folder, "-c", out / "last.safetensors")["scores"][1]["images"]
    prepared, model = load_prepared(folder), load_model(out / "last.safetensors")
    for rect, image in zip(prepared.tests, told, strict=True):
        target = prepared.scene.cropped(rect)
        lowres, msi = simulate_pair(target, 2, named_response("average-3"), psf_sigma=None)
        expected = evaluate(super_resolve(model, lowres, msi=msi).pixels, target.pixels, 2)
        assert image["mpsnr"] == pytest.approx(expected["mpsnr"], abs=1e-4)
    with pytest.raises(ValueError, match="fuses an MSI of 3 bands, and there is no response"):
        score_tests(prepared, {"one": model})
    # blurred: test images are made as those of the training
    blurred = tmp_path / "blurred"
    result = lkca(*command[:-3], blurred, "--threads", 1, "--response", "average-3", "--psf-sigma", 1.2)
    assert result.exit_code == 0, result.output
    report = scores(folder, "-c", blurred / "best.safetensors", "--band-peaks")
    assert report["psf_sigma"] == 1.2
    target = prepared.test_scene(0)
    lowres = simulate_pair(target, 2, named_response("average-3"), psf_sigma=1.2).lowres
    expected = evaluate(bicubic_upsample(lowres.tensor(), 2)[0].numpy(), target.pixels, 2, unit=target.peak)
    assert report["scores"][0]["images"][0] == pytest.approx({**expected, "sam_above": ANY})
    both = ["-c", blurred / "best.safetensors", "-c", out / "best.safetensors"]
    assert "was trained with another point spread function than" in fails("evaluate", folder, *both)
    noisy = lkca("evaluate", folder, *both[:2], "--snr", "10,30", "--noise-on", "lowres")
    assert noisy.exit_code == 0, noisy.output
    assert "noise on lowres" in " ".join(noisy.stdout.split())
    told = scores(folder, *both[:2], "--snr", "10,30")["scores"]
    found = {(row["method"], row["snr"]): row["mpsnr"] for row in told}
    assert found["bicubic", 10] < found["bicubic", 30] < found["bicubic", None]
    assert found["blurred", None] == report["scores"][1]["mpsnr"]
    assert "--per-image does not go with --snr" in fails("evaluate", folder, *both[:2], "--snr", "10", "--per-image")
