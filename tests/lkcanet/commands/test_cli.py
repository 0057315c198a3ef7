"""`lkca`: what each command writes, and that what goes wrong is one line and leaves no half-written file."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import lkops
from lkcanet.data import bicubic_downsample, bicubic_upsample, demo_scene, read_scene, scene_from_array, write_scene
from lkcanet.evaluation import side_by_side
from lkcanet.models import LKCANet, load_model, load_model_and_extra, save_model

from ..command_line import fails, lkca

pytest.importorskip("rich", reason="rich is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")
pytest.importorskip("matplotlib", reason="matplotlib is not installed")

ROOT = Path(__file__).parents[3]
SMALL = ["--scale", "2", "--channels", "16", "--blocks", "1", "--patch", "12", "--batch-size", "2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A scene of 8 bands, and a network for it that does something."""
    path = tmp_path_factory.mktemp("cli")
    scene = demo_scene((48, 64), 8, seed=1)
    write_scene(path / "scene.npz", scene)
    torch.manual_seed(0)
    model = LKCANet(8, 2, 16, 1, 1, reduction=8)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    facts = {"peak": scene.peak, "scene": {"shape": [8, 48, 64]}, "split": {"test": "0:48,40:64"}}
    save_model(model, path / "net.safetensors", extra=facts)
    return path


def test_every_command_has_an_example_and_the_help_is_quick() -> None:
    result = lkca("--help")
    assert result.exit_code == 0
    commands = ["info", "degrade", "prepare", "train", "distill", "evaluate", "super-resolve", "show", "rank", "export"]
    commands += ["demo", "bench", "reproduce", "view", "report"]
    assert all(command in result.stdout for command in commands)
    assert lkca().stdout == result.stdout
    for command in commands:
        text = lkca(command, "--help")
        assert text.exit_code == 0
        assert "Example: lkca " + command in text.stdout
    code = "import sys; from lkcanet.cli import build_app; build_app(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_without_typer_the_entry_point_says_what_to_install() -> None:
    code = "import sys; sys.modules['typer'] = None; from lkcanet.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr == "error: typer is not installed; it comes with `pip install lkops[io]`\n"


def test_version() -> None:
    import lkops

    assert lkca("--version").output == f"lkca {lkops.__version__}\n"


def test_info(folder: Path) -> None:
    scene = json.loads(lkca("info", folder / "scene.npz", "--region", "0:10,:", "--json").stdout)
    assert (scene["bands"], scene["rows"], scene["columns"]) == (8, 10, 64)
    assert scene["peak"] == read_scene(folder / "scene.npz").peak
    network = json.loads(lkca("info", folder / "net.safetensors", "--json").stdout)
    model = load_model(folder / "net.safetensors")
    assert network["parameters"] == model.parameter_count()
    assert network["macs_16x16"] == model.macs(16, 16)
    assert network["config"] == model.config
    assert network["peak"] == scene["peak"]
    here = json.loads(lkca("info", "--json").stdout)
    assert here["versions"]["torch"] == torch.__version__
    assert {row["operator"] for row in here["backends"]} >= {"lk_block", "spectral_losses"}
    for arguments in (["scene.npz"], ["net.safetensors"]):
        text = lkca("info", folder / arguments[0])
        assert text.exit_code == 0
        assert "peak" in text.stdout
        assert "crs" not in text.stdout  # nothing is printed of what it has not
    assert "lk_block" in lkca("info").stdout


def test_degrade_then_super_resolve(folder: Path, tmp_path: Path) -> None:
    scene = read_scene(folder / "scene.npz")
    assert lkca("degrade", folder / "scene.npz", tmp_path / "lr.npy", "--scale", 2).exit_code == 0
    lowres = read_scene(tmp_path / "lr.npy")
    assert np.array_equal(lowres.pixels, bicubic_downsample(scene.tensor(), 2)[0].numpy())
    assert lowres.peak == scene.peak
    result = lkca("super-resolve", tmp_path / "lr.npy", tmp_path / "sr.mat", "-c", folder / "net.safetensors", "--json")
    facts = json.loads(result.stdout)
    assert (facts["shape"], facts["scale"], facts["trained"]) == ([8, 48, 64], 2, True)
    assert facts["seconds"] > 0
    large = read_scene(tmp_path / "sr.mat")
    expected = load_model(folder / "net.safetensors")(lowres.tensor())[0]
    assert np.array_equal(large.pixels, expected.detach().numpy())
    assert large.peak == scene.peak
    assert large.wavelengths is not None
    assert scene.wavelengths is not None
    assert np.array_equal(large.wavelengths, scene.wavelengths)


def test_a_fresh_network_says_that_it_is_untrained(folder: Path, tmp_path: Path) -> None:
    write_scene(tmp_path / "lr.npy", scene_from_array(np.random.default_rng(0).random((8, 6, 5))))
    result = lkca("super-resolve", tmp_path / "lr.npy", tmp_path / "sr.npy", "--fresh", "lkca_lr", "--scale", 2)
    assert "untrained" in result.stderr
    assert "untrained" in result.stdout
    lowres, large = read_scene(tmp_path / "lr.npy"), read_scene(tmp_path / "sr.npy")
    np.testing.assert_allclose(large.pixels, bicubic_upsample(lowres.tensor(), 2)[0].numpy(), atol=1e-6)
    message = fails("super-resolve", tmp_path / "lr.npy", tmp_path / "x.npy", code=2)
    assert "give --checkpoint, or --fresh, and not both" in message


def test_evaluate(folder: Path) -> None:
    from lkcanet.evaluation.metrics import evaluate

    scene = read_scene(folder / "scene.npz")
    target = torch.tensor(scene.pixels[:, :, 40:])[None]
    lowres = bicubic_downsample(target, 2)
    expected = [
        evaluate(bicubic_upsample(lowres, 2), target, 2),
        evaluate(load_model(folder / "net.safetensors")(lowres).detach(), target, 2),
    ]
    result = lkca("evaluate", folder / "scene.npz", "-c", folder / "net.safetensors", "--json")
    report = json.loads(result.stdout)
    assert report["region"] == "0:48,40:64"  # the test region, on the scene of the training
    assert [row["method"] for row in report["scores"]] == ["bicubic", str(folder / "net.safetensors")]
    for row, scores in zip(report["scores"], expected, strict=True):
        for name, value in scores.items():
            assert row[name] == pytest.approx(value, rel=1e-5)
    assert expected[0]["mpsnr"] != pytest.approx(expected[1]["mpsnr"], abs=0.01)
    same = lkca("evaluate", folder / "scene.npz", "-c", folder / "net.safetensors", "--json", "--region", "test")
    assert json.loads(same.stdout) == report
    whole = lkca("evaluate", folder / "scene.npz", "-c", folder / "net.safetensors", "--json", "--region", ":,:")
    assert json.loads(whole.stdout)["shape"] == [8, 48, 64]
    table = lkca("evaluate", folder / "scene.npz", "-c", folder / "net.safetensors").stdout
    assert f"{expected[1]['mpsnr']:.3f}" in table
    assert "bicubic x2" in table


def test_evaluate_finished_results(folder: Path, tmp_path: Path) -> None:
    """What `degrade` and `super-resolve` wrote scores as the checkpoint itself does; so do sensor counts."""
    scene, net = folder / "scene.npz", folder / "net.safetensors"
    lkca("degrade", scene, tmp_path / "lr.npy", "--scale", 2)
    lkca("super-resolve", tmp_path / "lr.npy", tmp_path / "sr.npy", "-c", net)
    result = read_scene(tmp_path / "sr.npy")
    np.save(tmp_path / "counts.npy", result.pixels * result.peak)
    files = ("--prediction", tmp_path / "sr.npy", "--prediction", tmp_path / "counts.npy")
    report = json.loads(lkca("evaluate", scene, "-c", net, *files, "--region", ":,:", "--json").stdout)
    assert [row["method"] for row in report["scores"]] == ["bicubic", *map(str, (net, *files[1::2]))]
    bicubic, *same = [row["mpsnr"] for row in report["scores"]]
    assert same == pytest.approx(3 * [same[0]], abs=1e-4)
    np.save(tmp_path / "normalised.npy", result.pixels)  # not in the units of the scene's file
    said = lkca("evaluate", scene, "--prediction", tmp_path / "normalised.npy", "--scale", 2, "--peak", 1000)
    assert "predictions are taken in the units of the scene's file" in said.stderr
    assert abs(bicubic - same[0]) > 0.01
    alone = json.loads(lkca("evaluate", scene, *files[:2], "--scale", 2, "--region", ":,40:", "--json").stdout)
    assert [row["method"] for row in alone["scores"]] == ["bicubic", str(tmp_path / "sr.npy")]
    assert alone["shape"] == [8, 48, 24]
    assert "has shape (8, 24, 32), the part to score (8, 48, 64)" in fails(
        "evaluate", scene, "--prediction", tmp_path / "lr.npy"
    )
    assert "--scale is 4, but" in fails("evaluate", scene, "-c", net, "--scale", 4)
    assert "--scale must be 1 or more, got 0" in fails("evaluate", scene, "--scale", 0)


def test_show(folder: Path, tmp_path: Path) -> None:
    common = ["show", folder / "scene.npz", "-c", folder / "net.safetensors"]
    result = lkca(*common, "--pixel", "3,4", "--pixel", "20x10", "--error", "sam", "--out", tmp_path / "a.png")
    assert result.stdout == f"{tmp_path / 'a.png'}\n"
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    lkca(*common, "--lowres", "--region", "0:8,0:9", "--out", tmp_path / "b.png")
    assert (tmp_path / "b.png").stat().st_size > 10_000
    named = lkca(*common, "--pixel", "roof=3,4", "--unit", "counts", "--out", tmp_path / "a.svg")
    assert named.exit_code == 0, named.stderr
    assert "--pixel must be two whole numbers" in fails(*common, "--pixel", "3", "--out", tmp_path / "c.png")
    assert "NAME=ROW,COLUMN such as roof=40,60" in fails(*common, "--pixel", "=3,4", "--out", tmp_path / "c.png")
    assert "pixels" in fails(*common, "--pixel", "3,400", "--out", tmp_path / "c.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.svg", "b.png"]


def test_show_several(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    original = side_by_side.side_by_side
    monkeypatch.setattr(
        side_by_side, "side_by_side", lambda *args, **given: drawn.append(args) or original(*args, **given)
    )
    model, extra = load_model_and_extra(folder / "net.safetensors")
    with torch.no_grad():
        next(model.parameters()).add_(0.1)
    save_model(model, tmp_path / "other.safetensors", extra=extra)
    net, other = folder / "net.safetensors", tmp_path / "other.safetensors"
    common = ["show", folder / "scene.npz", "-c", net, "--out", tmp_path / "a.png"]
    assert lkca(*common, "-c", other, "--rgb", "3,1,8").exit_code == 0
    results, target = drawn[0]
    assert list(results) == ["bicubic", "net", "other"]
    assert target.shape == results["net"].shape
    assert not np.array_equal(results["net"], results["other"])
    assert lkca(*common, "-c", other, "--lowres").exit_code == 0
    assert drawn[1][1] is None
    assert lkca(*common, "--rgb", "3,1,8").exit_code == 0
    assert len(drawn) == 2
    given = []
    monkeypatch.setattr(
        side_by_side, "side_by_side", lambda *args, **keys: given.append(keys) or original(*args, **keys)
    )
    assert lkca(*common, "-c", other, "--pixel", "roof=3,4", "--pixel", "5,6").exit_code == 0
    assert (given[0]["pixels"], given[0]["names"]) == ([(3, 4), (5, 6)], ["roof", ""])
    assert given[0]["quantity"].factor == read_scene(folder / "scene.npz").peak
    waves = read_scene(folder / "scene.npz").wavelengths
    assert waves is not None
    rgb = ",".join(f"{waves[band] + 1:g}nm" for band in (7, 3, 0))
    assert lkca(*common, "-c", other, "--rgb", rgb).exit_code == 0
    assert given[1]["bands"] == [7, 3, 0]
    assert "--rgb must be three wavelengths from" in fails(*common, "--rgb", "9000nm,550nm,450nm")
    assert "--rgb must be three wavelengths from" in fails(*common, "--rgb", "500nm,550nm")
    assert "--rgb must be three numbers from 1 to 8" in fails(*common, "--rgb", "3,1,9")
    save_model(model, other, extra={**extra, "peak": 2.0})
    assert "of other bands, scale or peak" in fails(*common, "-c", other)


def test_train(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="lightning is not installed")
    common = ["train", folder / "scene.npz", "--test", ":,40:", "--out", tmp_path / "run", *SMALL, "--steps", "2"]
    result = lkca(*common, "--json", "--network", "lkca_net", "--validate-every", "1")
    report = json.loads(result.stdout)
    model, extra = load_model_and_extra(tmp_path / "run" / "best.safetensors")
    assert report["config"] == model.config
    assert model.config["upsample_groups"] == 1
    assert report["steps"] == 2
    assert report["split"]["test"] == "0:48,40:64"
    assert report["validation"]["mpsnr"] == extra["validation"]["mpsnr"]
    assert "step 1:" in result.stderr
    assert "holds best.safetensors, last.safetensors, state.safetensors of another run" in fails(*common)
    again = lkca(*common, "--overwrite")
    assert again.exit_code == 0
    assert "bicubic" in again.stdout
    scores = lkca("evaluate", folder / "scene.npz", "-c", tmp_path / "run" / "last.safetensors", "--json")
    assert json.loads(scores.stdout)["region"] == "0:48,40:64"


def test_wrong_arguments(folder: Path, tmp_path: Path) -> None:
    scene, net, out = folder / "scene.npz", folder / "net.safetensors", tmp_path / "out.npy"
    raw = tmp_path / "raw.npz"
    np.savez(raw, cube=np.random.default_rng(0).random((5, 10, 9)), other=np.zeros((5, 4, 4)))
    assert "2 that could be the scene: give key; keys: cube (5, 10, 9)" in fails("info", raw)
    assert "has no key 'x'" in fails("info", raw, "--key", "x")
    assert "axes 'hw' do not fit shape (5, 10, 9)" in fails("info", raw, "--key", "cube", "--axes", "hw")
    assert "the network takes 8" in fails("evaluate", raw, "--key", "cube", "-c", net)
    assert "has 5 bands" in fails("super-resolve", raw, out, "--key", "cube", "-c", net)
    assert "columns 40:80" in fails("degrade", scene, out, "--region", "0:10,40:80")
    assert "no such file" in fails("degrade", tmp_path / "none.mat", out)
    assert "does not exist" in fails("degrade", scene, tmp_path / "none" / "lr.npy")
    validation = ("--validation", 0, "--out", tmp_path / "run", "--scale", 2, "--patch", 8, "--groups", 1)
    assert "--validation must leave a block" in fails("train", scene, "--test", "0:48,40:64", *validation)
    assert "unsupported suffix '.bmp'" in fails("degrade", scene, tmp_path / "lr.bmp", "--scale", 2)
    for command, out in (("super-resolve", "sr.bmp"), ("show", "--out=show.bmp")):  # before the network runs
        missing = tmp_path / "none.safetensors"
        assert "unsupported suffix '." in fails(command, scene, out, "-c", missing)
    assert "no checkpoint at" in fails("evaluate", scene, "-c", tmp_path / "none.safetensors")
    assert "--size must be two whole numbers" in fails("info", raw, "--size", "ten")
    assert "peak must be a positive finite number" in fails("info", scene, "--peak", "-1")
    assert "--threads must be 1 or more" in fails("evaluate", scene, "-c", net, "--threads", 0)
    assert "Missing option" in fails("show", scene, code=2)
    assert "No such command" in fails("upscale", code=2)
    assert "No such option" in fails("info", "--colour", code=2)
    assert list(tmp_path.iterdir()) == [raw]


def test_wrong_arguments_of_train(folder: Path, tmp_path: Path) -> None:
    common = ["train", folder / "scene.npz", "--out", tmp_path / "run", "--steps", "1"]
    assert "upsample_groups must divide channels, 16; got 7" in fails(*common, "--test", ":,40:", *SMALL, "--groups", 7)
    assert "test: columns 40:99" in fails(*common, "--test", ":,40:99", *SMALL)
    assert "take a smaller patch" in fails(*common, "--test", ":,40:", *SMALL[:-4], "--patch", 40)
    assert "steps or epochs, not both" in fails(*common, "--test", ":,40:", *SMALL, "--epochs", 1)
    assert "validation: " in fails(*common, "--test", ":,40:", *SMALL, "--validation", "much")
    assert "--patch must be 1 or more" in fails(*common, "--test", ":,40:", *SMALL, "--patch", 0)
    assert list(tmp_path.iterdir()) == []


def test_damaged_files(folder: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((8, 16, 16))
    pixels[2, 3, 4] = np.nan
    np.save(tmp_path / "nan.npy", pixels)
    assert "1 of 2048 pixels are NaN or infinite, the first at band 2, row 3, column 4" in fails(
        "degrade", tmp_path / "nan.npy", tmp_path / "lr.npy"
    )
    whole = (folder / "scene.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    assert "truncated or corrupt" in fails("info", tmp_path / "half.npz")
    net = (folder / "net.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(net[: len(net) // 2])
    assert "not a complete safetensors file" in fails("info", tmp_path / "half.safetensors")
    assert not (tmp_path / "lr.npy").exists()


def test_a_full_disk(folder: Path, tmp_path: Path, monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "save", full)
    (tmp_path / "lr.npy").write_bytes(b"before")
    message = fails("degrade", folder / "scene.npz", tmp_path / "lr.npy", "--scale", 2)
    assert message == "error: No space left on device"
    assert (tmp_path / "lr.npy").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["lr.npy"]


def test_debug_shows_the_traceback(folder: Path) -> None:
    for place in (["--debug", "info", "none.mat"], ["info", "none.mat", "--debug"]):
        result = lkca(*place)
        assert result.exit_code == 1
        assert "Traceback (most recent call last)" in result.stderr
        assert result.stderr.splitlines()[-1].startswith("error: none.mat")
    assert "Traceback" not in lkca("info", "none.mat").stderr


def test_an_unusual_peak_is_noticed(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "reflectance.npy", np.random.default_rng(0).random((8, 16, 16)))
    result = lkca("evaluate", tmp_path / "reflectance.npy", "-c", folder / "net.safetensors", "--json")
    assert "give --peak" in result.stderr
    assert json.loads(result.stdout)["peak"] == read_scene(folder / "scene.npz").peak
    explicit = lkca("evaluate", tmp_path / "reflectance.npy", "-c", folder / "net.safetensors", "--json", "--peak", 1)
    assert "give --peak" not in explicit.stderr
    assert json.loads(explicit.stdout)["peak"] == 1


def test_ctrl_c_during_training(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="lightning is not installed")
    last = tmp_path / "run" / "last.safetensors"
    command = [sys.executable, "-m", "lkcanet.cli", "train", folder / "scene.npz", "--test", ":,40:", *SMALL]
    command += ["--steps", "1000000", "--validate-every", "1000000", "--out", last.parent, "--threads", "1"]
    # a shell without job control starts background processes with SIGINT ignored
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=ROOT,
        text=True,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        end = time.monotonic() + 300  # other tests may keep every core busy
        while not last.exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1].startswith(f"interrupted: {last} holds step ")
    assert "Traceback" not in errors
    assert output == ""
    _, extra = load_model_and_extra(last)
    assert 0 < extra["step"] == int(errors.split()[-1])
    names = {"best.safetensors", "config.yaml", "last.safetensors", "metrics.csv", "state.safetensors"}
    assert {path.name for path in last.parent.iterdir()} == names


def test_ctrl_c_elsewhere(folder: Path, tmp_path: Path, monkeypatch) -> None:
    from lkcanet import inference

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(inference, "super_resolve", interrupted)
    result = lkca("super-resolve", folder / "scene.npz", tmp_path / "sr.npy", "-c", folder / "net.safetensors")
    assert (result.exit_code, result.stderr.splitlines()[-1], result.stdout) == (130, "interrupted", "")
    assert list(tmp_path.iterdir()) == []


def test_default_stride_meets_every_phase_of_the_grid() -> None:
    from lkcanet.data import default_stride

    assert [default_stride(side, scale) for side, scale in ((64, 4), (32, 2), (128, 8), (45, 3), (1, 1))] == [
        33,
        17,
        65,
        22,
        1,
    ]


def test_bench(tmp_path: Path) -> None:
    small = ["--bands", 8, "--size", "6,5", "--train-size", "4", "--train-batch", 2, "--scale", 2, "--seconds", 0.01]
    small += ["--channels", 16, "--blocks", 1]
    result = lkca("bench", *small, "--json", "--out", tmp_path / "bench.json", "--groups", 2)
    report = json.loads(result.stdout)
    assert json.loads((tmp_path / "bench.json").read_text()) == report
    assert report["modes"]["forward"]["shape"] == [1, 8, 6, 5]
    assert report["modes"]["training"]["shape"] == [2, 8, 4, 4]
    assert {"cpu", "threads", "torch", "allocator"} <= report.keys()
    for mode in report["modes"].values():
        assert mode["faster_than"]["eager"] > 0
        assert mode["backends"]["lk_block"]
    table = lkca("bench", *small, "--what", "forward", "--backend", "reference").stdout
    assert "LKCA-LR x2, forward, 1x8x6x5" in table
    assert "lk_block: reference" in table
    drawn = lkca("bench", *small, "--what", "forward", "--groups", 2, "--operators", "--plot", tmp_path / "speeds.svg")
    assert all(name in drawn.stdout for name in lkops.backends.operators())
    assert "upsample_add" in (tmp_path / "speeds.svg").read_text()
    assert "--plot draws the operators: give --operators" in fails("bench", *small, "--plot", tmp_path / "x.svg")
    wrong = fails("bench", *small, "--operators", "--plot", tmp_path / "x.txt")
    assert "unsupported suffix '.txt', expected one of .png, .pdf, .svg" in wrong, "before anything is timed"
    assert "--seconds must be above 0" in fails("bench", *small[:-4], "--seconds", 0)
    assert "--size must be two whole numbers" in fails("bench", "--size", "x")
    assert "does not exist" in fails("bench", "--out", tmp_path / "none" / "bench.json")
    failed = lkca("bench", *small, "--what", "forward", "--backend", "cuda")
    assert failed.exit_code == 1
    assert "lkops was not timed" in failed.stderr
