"""ONNX: onnxruntime gives PyTorch's image for every size and batch; what differs or can't be written leaves no file."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lkcanet.deploy.export import export_onnx
from lkcanet.models import LKCANet, save_model
from lkops.testing import assert_as_good_as_eager

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

SMALL = {"channels": 16, "blocks": 2, "reduction": 8}
EXACT = {"border": "replicate", "cubic_a": -0.75, "interleave": True, "kernel_sizes": (3, 5), "dilations": (2, 3)}


def network(bands: int = 5, scale: int = 3, **options) -> LKCANet:
    """A network that does something, in training mode as any freshly made one."""
    torch.manual_seed(0)
    model = LKCANet(bands, scale, **{**SMALL, **options})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def run(path: Path, image: torch.Tensor, *, basic: bool = False) -> torch.Tensor:
    options = runtime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    if basic:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["lowres"]
    assert [o.name for o in session.get_outputs()] == ["image"]
    return torch.from_numpy(session.run(None, {"lowres": image.numpy()})[0])


def assert_right(path: Path, model: LKCANet, image: torch.Tensor, *, basic: bool = False) -> None:
    folded = model.fold().eval().float()
    with torch.no_grad():
        eager, exact = folded(image).double(), folded.double()(image.double())
        bicubic = folded.upsample(torch.zeros(len(image), 16, *image.shape[2:]).double(), image.double())
    result = run(path, image, basic=basic)
    assert result.dtype == torch.float32
    assert result.shape == exact.shape
    if not result.numel():
        return
    assert (exact - bicubic).abs().max() > 0.01  # the network itself takes part
    assert_as_good_as_eager(result, eager.float(), exact)


@pytest.mark.parametrize(
    ("bands", "scale", "options"),
    [(5, 3, {}), (4, 2, {"upsample_groups": 4, **EXACT}), (1, 4, {}), (3, 1, {"weight_norm": False})],
)
def test_every_size_and_batch(bands: int, scale: int, options: dict, tmp_path: Path) -> None:
    model = network(bands, scale, **options)
    report = export_onnx(model, tmp_path / "net.onnx")
    assert model.training
    assert report.inputs == ("batch", bands, "height", "width")
    assert len(report.checked) == 5
    assert 0 < report.error <= report.allowed < 1e-4
    generator = torch.Generator().manual_seed(1)
    for n, h, w in ((1, 1, 1), (1, 1, 2), (1, 2, 1), (3, 6, 7), (2, 7, 6), (1, 3, 40), (2, 29, 23)):
        assert_right(tmp_path / "net.onnx", model, torch.rand(n, bands, h, w, generator=generator))
    assert_right(tmp_path / "net.onnx", model, torch.rand(0, bands, 4, 5), basic=True)
    assert_right(tmp_path / "net.onnx", model, torch.rand(2, bands, 4, 5), basic=True)
    with pytest.raises(Exception, match="Got invalid dimensions"):  # onnxruntime's exceptions share no class
        run(tmp_path / "net.onnx", torch.rand(1, bands + 1, 4, 5))


def test_a_fixed_size_refuses_others(tmp_path: Path) -> None:
    model = network()
    report = export_onnx(model, tmp_path / "net.onnx", height=4, width=9)
    assert (report.inputs, report.outputs) == (("batch", 5, 4, 9), ("batch", 5, 12, 27))
    assert report.checked == ((1, 5, 4, 9), (2, 5, 4, 9))
    for n in (1, 3):
        assert_right(tmp_path / "net.onnx", model, torch.rand(n, 5, 4, 9))
    for shape in ((1, 5, 9, 4), (1, 5, 4, 8), (1, 4, 4, 9)):
        with pytest.raises(Exception, match="Got invalid dimensions"):
            run(tmp_path / "net.onnx", torch.rand(shape))


@pytest.mark.parametrize("opset", [13, 20])
def test_opsets(opset: int, tmp_path: Path) -> None:
    model = network()
    report = export_onnx(model.double(), tmp_path / "net.onnx", opset=opset)
    assert report.opset == opset
    graph = onnx.load(tmp_path / "net.onnx")
    assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", opset)]
    assert {node.domain for node in graph.graph.node} == {""}  # standard operators only
    assert_right(tmp_path / "net.onnx", model, torch.rand(2, 5, 8, 11))


def test_metadata(tmp_path: Path) -> None:
    model = network()
    extra = {"peak": 4095.5, "wavelengths": [400.0, 500.0, 600.0, 700.0, 800.0], "note": "text", "left out": None}
    export_onnx(model, tmp_path / "net.onnx", metadata=extra, check=False)
    properties = {entry.key: entry.value for entry in onnx.load(tmp_path / "net.onnx").metadata_props}
    assert (properties["format"], properties["bands"], properties["scale"]) == ("lkcanet-onnx-1", "5", "3")
    assert json.loads(properties["config"]) == model.config
    assert json.loads(properties["peak"]) == 4095.5
    assert json.loads(properties["wavelengths"]) == extra["wavelengths"]
    assert properties["note"] == "text"
    assert "left out" not in properties
    assert_right(tmp_path / "net.onnx", LKCANet(**json.loads(properties["config"])), torch.rand(0, 5, 3, 3), basic=True)


def test_a_file_that_computes_something_else_is_not_written(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "net.onnx").write_bytes(b"before")
    true = torch.onnx.export

    def fixed_bicubic(model, images, *args, **options):
        """As an exporter that takes the traced image's bicubic for that of every image."""
        kept = model.upsample.forward
        bicubic = kept(torch.zeros(2, 16, 6, 7), images[0] + 0.5)
        model.upsample.forward = lambda features, _: kept(features) + bicubic[:1, :, :1, :1]
        true(model, images, *args, **options)
        del model.upsample.forward

    def another_weight(model, *args, **options):
        with torch.no_grad():
            model.head.weight[3, 2, 1, 1] += 1e-3
            true(model, *args, **options)
            model.head.weight[3, 2, 1, 1] -= 1e-3

    for wrong in (fixed_bicubic, another_weight):
        monkeypatch.setattr(torch.onnx, "export", wrong)
        with pytest.raises(RuntimeError, match=r"differs from PyTorch's by .*: nothing was written"):
            export_onnx(network(), tmp_path / "net.onnx")
    from google.protobuf.message import DecodeError

    monkeypatch.setattr(torch.onnx, "export", lambda _model, _images, path, **_: Path(path).write_bytes(b"no model"))
    with pytest.raises(DecodeError):
        export_onnx(network(), tmp_path / "net.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
    assert (tmp_path / "net.onnx").read_bytes() == b"before"


def test_wrong_arguments(tmp_path: Path) -> None:
    model, path = network(), tmp_path / "net.onnx"
    for options, error, message in (
        ({"height": 4}, ValueError, "height and width go together, got 4 and None"),
        ({"height": 0, "width": 3}, ValueError, "height and width must be 1 or more, got 0 and 3"),
        ({"height": 4.0, "width": 3}, TypeError, "height must be a whole number, got 4.0"),
        ({"opset": 12}, ValueError, "opset must be 13 to 20, got 12"),
        ({"opset": True}, TypeError, "opset must be a whole number, got True"),
        ({"metadata": {"bands": 3}}, ValueError, "metadata must not name bands"),
        ({"metadata": {"peak": object()}}, ValueError, r"metadata\['peak'\] can't be written as JSON"),
    ):
        with pytest.raises(error, match=message):
            export_onnx(model, path, **options)
    with pytest.raises(ValueError, match=r"path must end in \.onnx, got"):
        export_onnx(model, tmp_path / "net.pt")
    with pytest.raises(TypeError, match=r"model must be a network as lkcanet\.models\.Network is, got Conv2d"):
        export_onnx(torch.nn.Conv2d(1, 1, 1), path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        export_onnx(model, tmp_path / "none" / "net.onnx")
    with torch.no_grad():
        model.head.bias[2] = np.nan
    with pytest.raises(ValueError, match=r"model has NaN or infinite values in head\.bias"):
        export_onnx(model, path)
    assert list(tmp_path.iterdir()) == []


def test_lkca_export(tmp_path: Path) -> None:
    testing = pytest.importorskip("typer.testing", reason="typer is not installed")
    pytest.importorskip("rich", reason="rich is not installed")
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    from lkcanet.cli import build_app

    def lkca(*args: object):
        return testing.CliRunner().invoke(build_app(), ["export", *map(str, args)])

    model, waves = network(), [400.0, 450.0, 500.0, 550.0, 600.0]
    save_model(model, tmp_path / "net.safetensors", extra={"peak": 1000.0, "scene": {"wavelengths": waves}})
    result = lkca(tmp_path / "net.safetensors", tmp_path / "net.onnx", "--json")
    facts = json.loads(result.stdout)
    assert facts["inputs"] == ["batch", 5, "height", "width"]
    assert facts["metadata"] == {"peak": 1000.0, "wavelengths": waves}
    assert facts["size"] == (tmp_path / "net.onnx").stat().st_size
    assert 0 < facts["error"] <= facts["allowed"]
    properties = {entry.key: entry.value for entry in onnx.load(tmp_path / "net.onnx").metadata_props}
    assert json.loads(properties["peak"]) == 1000
    assert_right(tmp_path / "net.onnx", model, torch.rand(1, 5, 4, 3))
    text = lkca(tmp_path / "net.safetensors", tmp_path / "fixed.onnx", "--size", "4,6", "--opset", 18)
    assert "(batch, 5, 4, 6) to (batch, 5, 12, 18), opset 18" in text.stdout
    assert "checked in onnxruntime on 1x5x4x6, 2x5x4x6: largest error" in text.stdout
    result = lkca(tmp_path / "net.safetensors", tmp_path / "unchecked.onnx", "--no-check")
    assert "not compared" in result.stderr
    for arguments, message in (
        (("none.safetensors", "x.onnx"), "no checkpoint at"),
        (("net.safetensors", "x.pt"), "unsupported suffix '.pt'"),
        (("net.safetensors", "none/x.onnx"), "does not exist"),
        (("net.safetensors", "x.onnx", "--size", "4"), "--size must be two whole numbers"),
        (("net.safetensors", "x.onnx", "--opset", "3"), "opset must be 13 to 20, got 3"),
    ):
        result = lkca(tmp_path / arguments[0], tmp_path / arguments[1], *arguments[2:])
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("error: ")
        assert message in result.stderr
    assert not (tmp_path / "x.onnx").exists()
