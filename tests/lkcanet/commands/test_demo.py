"""`lkca demo --quick`: all its parts, and that it fails where the network does not beat bicubic."""

import contextlib
import dataclasses
import json
import math
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

import lkops
from lkcanet.benchmark import eager, speed
from lkcanet.common.toml import toml_content
from lkops import testing as operators

from ...rooms import ROOT
from ..models.pretrained_helpers import CARD, checkpoint, tiny

pytest.importorskip("lightning", reason="lightning is not installed")
pytest.importorskip("rich", reason="rich is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("scipy", reason="scipy is not installed")
pytest.importorskip("matplotlib", reason="matplotlib is not installed")
testing = pytest.importorskip("typer.testing", reason="typer is not installed")


def demo(*args: object):
    from lkcanet.cli import build_app

    return testing.CliRunner().invoke(build_app(), ["demo", "--quick", *map(str, args)])


def test_quick_demo(tmp_path: Path, monkeypatch) -> None:
    from lkcanet.models import pretrained

    (tmp_path / "weights").mkdir()
    monkeypatch.setattr(pretrained, "PACKAGED", tmp_path / "weights")
    file = checkpoint(tmp_path / "net.safetensors", tiny(31, 4), peak=65535.0, scene=None)
    pretrained.publish(file, "ready", {**CARD, "wavelengths": None})
    result = demo("--out", tmp_path / "demo", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    bicubic, network = report["quality"].values()
    assert network["mpsnr"] > bicubic["mpsnr"] + 0.1
    assert network["sam"] < bicubic["sam"]
    assert report["beats_bicubic"] is True
    assert report["pretrained"]["name"] == "ready"
    assert list(report["pretrained"]["quality"]) == ["bicubic", "ready"]
    assert "with ready, which needs no training" in result.stderr
    assert {row["name"] for row in report["operators"]} == set(lkops.backends.operators())
    assert Path(report["figure"]).read_bytes().startswith(b"\x89PNG")
    names = {path.name for path in (tmp_path / "demo").iterdir()}
    assert names >= {"demo.png", "scene.npy", "super-resolved.npy", "best.safetensors", "last.safetensors"}
    assert not [name for name in names if name.startswith(".")]


def test_a_network_that_does_not_beat_bicubic_fails_the_demo(tmp_path: Path, monkeypatch) -> None:
    from lkcanet import inference, training
    from lkcanet.data import bicubic_upsample
    from lkcanet.models import pretrained

    def no_better(model, image):
        return dataclasses.replace(image, pixels=bicubic_upsample(image.tensor(), model.scale)[0].numpy())

    monkeypatch.setattr(pretrained, "PACKAGED", tmp_path / "none")
    monkeypatch.setattr(inference, "super_resolve", no_better)
    monkeypatch.setattr(speed, "operator_speeds", lambda quick: iter(()))
    options = training.TrainOptions
    monkeypatch.setattr(training, "TrainOptions", lambda **given: options(**{**given, "steps": 1}))
    result = demo("--out", tmp_path)
    assert result.exit_code == 1
    assert "WARNING: the network does not beat bicubic: MPSNR" in result.stderr
    assert "no pretrained network of 31 bands and x4 is here" in result.stderr
    assert "pretrained" not in result.stdout
    assert "Quality on the held-out test region" in result.stdout
    assert str(tmp_path / "demo.png") in result.stdout


def test_the_folder_of_the_result_must_exist(tmp_path: Path) -> None:
    result = demo("--out", tmp_path / "a" / "b")
    assert result.exit_code == 1
    assert "does not exist" in result.stderr


def test_operator_speeds() -> None:
    rows = list(speed.operator_speeds(quick=True))
    assert [row.name for row in rows] == list(lkops.backends.operators())
    for row in rows:
        assert row.ratio == pytest.approx(row.eager_milliseconds / row.milliseconds)
        assert 0 <= row.error <= row.allowed < 1e-4
        assert math.prod(row.shape) > 0
        assert row.backend in lkops.backends.NAMES


def test_wrong_outputs_are_not_timed(monkeypatch) -> None:
    original = lkops.depthwise_conv2d

    def wrong(x, *args, backend=None, **options):
        result = original(x, *args, backend=backend, **options)
        return result if backend == "reference" else result * (1 + 1e-3)

    monkeypatch.setattr(lkops, "depthwise_conv2d", wrong)
    with pytest.raises(RuntimeError, match=r"depthwise_conv2d on .* differs from the reference by"):
        list(speed.operator_speeds(quick=True))


def test_eager_versions_compute_what_the_operators_do() -> None:
    with torch.inference_mode():
        for name in lkops.backends.operators():
            for case in operators.examples(name).of("benchmark"):
                tensors = operators.cast(operators.arguments(name, case.tiny())[0], torch.float32)
                expected = operators.invoke(name, tensors, case.options, "reference")
                plain = operators.examples(name).eager
                assert getattr(eager, name, plain) is plain, "lkcanet.benchmark.eager shows these"
                got = operators.as_tuple(plain(**tensors, **case.options))
                torch.testing.assert_close(got, expected, msg=f"{name} {case.name}")


WITHOUT = """
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        missing = name.partition(".")[0] in sys.argv[1].split(",")
        return None if missing else self.finder.find_spec(name, path, target)

sys.meta_path[:] = map(Without, sys.meta_path)
from lkcanet.cli import build_app
build_app()(["demo", "--quick", "--out", sys.argv[2]])
"""


@pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="no pyproject.toml beside these tests")
def test_the_extra_demo_is_enough(tmp_path: Path) -> None:
    """What `make demo` installs: all else that is here, as for the tests, can't be imported."""
    requirements = pytest.importorskip("packaging.requirements", reason="packaging is not installed")
    extras = toml_content((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted, enough = [*extras["demo"], "torch", "setuptools"], set[str]()
    while wanted:
        requirement = requirements.Requirement(wanted.pop())
        name = requirement.name.lower().replace("_", "-")
        if name in enough or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        enough.add(name)
        with contextlib.suppress(metadata.PackageNotFoundError):
            wanted += metadata.requires(name) or []
    others = {
        module
        for module, distributions in metadata.packages_distributions().items()
        if not any(one.lower().replace("_", "-") in {*enough, "lkops", "pip"} for one in distributions)
    }
    assert {"h5py", "skimage", "tensorboard", "onnx", "triton"} & others, "the tests have more than that"
    command = [sys.executable, "-c", WITHOUT, ",".join(others), str(tmp_path / "demo")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "lk_block" in done.stdout, done.stdout
