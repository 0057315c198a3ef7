"""Files for the runtime without PyTorch: what lies in them, and what can't be written. tests/edge runs them."""

import json
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import lkops.nn
from lkcanet.deploy import edge
from lkcanet.deploy.compression import compress_lkcanet
from lkcanet.deploy.edge import export_edge
from lkcanet.deploy.edge_file import write_network
from lkcanet.models import Capabilities, LKCANet, load_model, save_model
from lkcanet.models.chain import Link
from lkcanet.models.lkca_res import LKCARes

SMALL: dict[str, Any] = {"channels": 16, "blocks": 2, "reduction": 8}


def network(**options: Any) -> LKCANet:
    torch.manual_seed(0)
    model = LKCANet(5, 2, **{**SMALL, **options})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def parsed(path: Path) -> dict[str, Any]:
    """The file, read by struct alone."""
    data = path.read_bytes()
    magic, version, crc, size, *counts = struct.unpack_from("<8s2IQ6I", data)
    dtype, bands, scale, tensors, operators, text = counts
    assert (magic, version, crc, size) == (b"LKOPSNET", 1, zlib.crc32(data[16:]), len(data))
    found: list[np.ndarray] = []
    for i in range(tensors):
        offset, *shape = struct.unpack_from("<Q4I", data, 64 + 32 * i)
        assert offset % 64 == 0
        kind = np.dtype("<u2") if dtype else np.dtype("<f4")
        found.append(np.frombuffer(data, kind, int(np.prod(shape)), offset).reshape(shape))
    first = 64 + 32 * tensors
    records = [struct.unpack_from("<4I16I3Ifd", data, first + 128 * i) for i in range(operators)]
    begin = first + 128 * operators
    assert data[begin + text] == 0
    metadata = json.loads(data[begin : begin + text])
    return {"dtype": dtype, "bands": bands, "scale": scale, "tensors": found, "operators": records, "told": metadata}


def test_what_lies_in_a_file(tmp_path: Path) -> None:
    model = network(upsample_groups=4, interleave=True, dilations=(2, 3), cubic_a=-0.75, border="replicate")
    report = export_edge(model, tmp_path / "net.lkops", metadata={"peak": 7.0, "wavelengths": None}, check=False)
    assert report.size == (tmp_path / "net.lkops").stat().st_size
    assert (report.operators, report.checked) == (4, ())
    file = parsed(tmp_path / "net.lkops")
    assert (file["dtype"], file["bands"], file["scale"]) == (0, 5, 2)
    assert file["told"] == {"kind": "lkcanet", "config": model.fold().config, "peak": 7.0}
    kinds, values = [op[0] for op in file["operators"]], [op[2:4] for op in file["operators"]]
    none = 0xFFFFFFFF
    assert kinds == [0, 1, 1, 3]
    assert values == [(0, none), (1, none), (2, none), (3, 0)]
    flags, dilations = [op[1] for op in file["operators"]], [op[20:22] for op in file["operators"]]
    assert flags == [0, 1, 1, 0]
    assert dilations == [(1, 1), (2, 3), (2, 3), (1, 1)]
    assert file["operators"][1][23] == np.float32(1e-6)
    assert file["operators"][3][24] == -0.75
    folded = model.fold()
    weights = [folded.head.weight, folded.head.bias, *folded.blocks[0].arguments(), *folded.blocks[1].arguments()]
    weights += [folded.upsample.conv.weight, folded.upsample.conv.bias]
    assert len(file["tensors"]) == len(weights)
    for found, weight in zip(file["tensors"], weights, strict=True):
        assert weight is not None
        assert np.array_equal(found.reshape(weight.shape), weight.detach().numpy())


def test_bfloat16_rounds_as_torch_does(tmp_path: Path) -> None:
    model = network()
    export_edge(model, tmp_path / "net.lkops", dtype="bfloat16", check=False)
    file = parsed(tmp_path / "net.lkops")
    assert file["dtype"] == 1
    expected = model.fold().head.weight.detach().bfloat16().view(torch.int16).numpy().view(np.uint16)
    assert np.array_equal(file["tensors"][0], expected)


def test_residuals_and_long_skip(tmp_path: Path) -> None:
    export_edge(LKCARes(4, 2, 16, 2, residual_blocks=1, reduction=8), tmp_path / "net.lkops", check=False)
    operators = parsed(tmp_path / "net.lkops")["operators"]
    none = 0xFFFFFFFF
    told = [(op[0], *op[2:4], op[22]) for op in operators]
    group = [(0, 1, none, 1), (0, 2, 1, 0), (1, 3, none, 0), (0, 4, none, 1), (0, 5, 4, 0), (1, 6, none, 0)]
    assert told == [(0, 0, none, 0), *group, (2, 7, 1, 0), (3, 8, 0, 0)]


def test_compressed_networks(tmp_path: Path) -> None:
    for options in ({"rank": 5}, {"groups": 4, "permute": True}):
        compressed, _ = compress_lkcanet(network(), **options)  # type: ignore[arg-type]
        report = export_edge(compressed, tmp_path / "net.lkops", check=False)
        assert report.operators == (5 if "rank" in options else 4)
        assert parsed(tmp_path / "net.lkops")["tensors"]


def test_networks_that_are_no_chain(tmp_path: Path) -> None:
    class Other(LKCANet):
        def fold(self) -> LKCANet:
            return self

        def capabilities(self) -> Capabilities:
            return Capabilities()

    with pytest.raises(ValueError, match="lkcanet can't be run without PyTorch: it is no chain of the operators"):
        export_edge(Other(5, 2, **SMALL), tmp_path / "net.lkops")
    assert not list(tmp_path.iterdir())


def test_int8_file(tmp_path: Path) -> None:
    """Of version 2: the products' weights are whole numbers with a scale a row, all else is what bfloat16 has."""
    model = network(upsample_groups=4)
    with torch.no_grad():
        model.blocks[0].out.weight[3] = 0  # type: ignore[index, union-attr]
    export_edge(model, tmp_path / "int8.lkops", dtype="int8", check=False)
    export_edge(model, tmp_path / "bf16.lkops", dtype="bfloat16", check=False)
    data, plain = (tmp_path / "int8.lkops").read_bytes(), parsed(tmp_path / "bf16.lkops")
    assert struct.unpack_from("<2I", data, 8) == (2, zlib.crc32(data[16:]))
    tensors, operators = struct.unpack_from("<2I", data, 36)
    found = []
    for i in range(tensors):
        offset, *shape, kind, zero = struct.unpack_from("<Q6I", data, 64 + 32 * i)
        assert zero == 0
        dtype = np.dtype({0: "<u2", 1: "i1", 2: "<f4"}[kind])
        found.append(np.frombuffer(data, dtype, int(np.prod(shape)), offset).reshape(shape))
    none = 0xFFFFFFFF
    for i in range(operators):
        at = 64 + 32 * tensors + 128 * i
        record, scales = struct.unpack_from("<4I16I3Ifd", data, at), struct.unpack_from("<2I", data, at + 104)
        before = plain["operators"][i]
        assert record[:4] == before[:4]
        assert record[20:] == before[20:]
        products = {0: (), 1: (2, 14), 3: (0,)}[record[0]]
        assert scales == (*[s for s in scales if s != none], *[none] * (2 - len(products)))
        for number in range(16):
            if before[4 + number] == none:
                assert record[4 + number] == none
                continue
            now, was = found[record[4 + number]], plain["tensors"][before[4 + number]]
            if number not in products:
                assert np.array_equal(now, was)
                continue
            exact = (was.astype(np.uint32) << 16).view(np.float32).reshape(len(was), -1)
            scale, numbers = found[scales[products.index(number)]].ravel(), now.reshape(len(was), -1)
            assert now.dtype == np.int8
            assert scale.dtype == np.float32
            assert (scale > 0).all()
            largest = np.abs(numbers.astype(int)).max(1)
            assert set(largest) <= {0, 127}
            # half a step, and what bfloat16 loses
            assert (np.abs(numbers * scale[:, None] - exact) <= 0.502 * scale[:, None] + np.abs(exact) / 256).all()


def test_refusals_leave_nothing(tmp_path: Path) -> None:
    model = network()
    with pytest.raises(TypeError, match="model must be a network"):
        export_edge(nn.Identity(), tmp_path / "net.lkops")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"path must end in \.lkops"):
        export_edge(model, tmp_path / "net.onnx")
    with pytest.raises(ValueError, match="dtype must be float32, bfloat16 or int8, got 'int4'"):
        export_edge(model, tmp_path / "net.lkops", dtype="int4")
    with pytest.raises(ValueError, match="only an int8 file's loss is measured on one, and dtype is 'float32'"):
        export_edge(model, tmp_path / "net.lkops", scene=torch.zeros(5, 8, 8))
    for shape, words in (((4, 8, 8), r"scene must be floating, \(5, rows, columns\)"), ((5, 8, 7), "that 2 divides")):
        with pytest.raises(ValueError, match=words):
            export_edge(model, tmp_path / "net.lkops", dtype="int8", scene=torch.zeros(shape))
    with pytest.raises(ValueError, match="metadata must not name config, kind"):
        export_edge(model, tmp_path / "net.lkops", metadata={"kind": "x", "config": 1})
    for value in (float("nan"), object(), {(1, 2): 3}):
        with pytest.raises(ValueError, match="metadata can't be written as JSON"):
            export_edge(model, tmp_path / "net.lkops", metadata={"peak": value})
    with pytest.raises(FileNotFoundError):
        export_edge(model, tmp_path / "none" / "net.lkops")
    with torch.no_grad():
        model.head.bias[0] = torch.nan  # type: ignore[index]
    with pytest.raises(ValueError, match=r"NaN or infinite values in head\.bias"):
        export_edge(model, tmp_path / "net.lkops")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 4, 3, stride=2, padding=1),
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(4, 4, 2, padding=1),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding=(1, 2), dilation=(1, 2)),
        lkops.nn.Conv2d(4, 4, 3, residual_scale=0.5),
        lkops.nn.Conv2d(4, 4, 3, accuracy="relaxed"),
        lkops.nn.Conv2d(4, 4, 3, activation="prelu"),
    ],
)
def test_convs_that_the_format_has_not(conv: nn.Conv2d, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"can be written|can't be written"):
        write_network(tmp_path / "net.lkops", [Link(conv, 0)], 4, 2, "float32", {})
    assert not list(tmp_path.iterdir())


class _Wrong:
    """A runtime whose images are another network's."""

    @staticmethod
    def load(path: Path) -> Any:
        assert path.is_file()
        return lambda image: np.ones((*image.shape[:2], 2 * image.shape[2], 2 * image.shape[3]), np.float32)


def test_a_runtime_that_differs_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "_lkedge", lambda: _Wrong)
    (tmp_path / "net.lkops").write_bytes(b"before")
    with pytest.raises(RuntimeError, match="differs from PyTorch's by"):
        export_edge(network(), tmp_path / "net.lkops")
    assert [path.name for path in tmp_path.iterdir()] == ["net.lkops"]
    assert (tmp_path / "net.lkops").read_bytes() == b"before"


def test_lkedge_that_lacks_a_package_is_not_taken_for_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lkedge.py").write_text("import what_it_needs\n")
    monkeypatch.delitem(sys.modules, "lkedge", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="what_it_needs"):
        export_edge(network(), tmp_path / "net.lkops")
    assert not (tmp_path / "net.lkops").exists()


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    testing = pytest.importorskip("typer.testing", reason="typer is not installed")
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    from lkcanet.cli import build_app

    monkeypatch.setattr(edge, "_lkedge", lambda: None)
    save_model(network(), tmp_path / "net.safetensors", extra={"peak": 4095.0})

    def lkca(*words: Any) -> Any:
        return testing.CliRunner().invoke(build_app(), ["export", *map(str, words)])

    result = lkca(tmp_path / "net.safetensors", tmp_path / "net.lkops", "--dtype", "bfloat16")
    assert result.exit_code == 0, result.output
    assert "5 bands, x2, 4 operators, bfloat16" in result.output
    assert "lkedge is not installed" in result.output
    file = parsed(tmp_path / "net.lkops")
    assert file["told"]["peak"] == 4095
    assert file["told"]["config"] == load_model(tmp_path / "net.safetensors").fold().config
    for name, words in (
        ("x.lkops", ("--size", "4,4")),
        ("x.lkops", ("--opset", "17")),
        ("x.onnx", ("--dtype", "float32")),
    ):
        result = lkca(tmp_path / "net.safetensors", tmp_path / name, *words)
        assert result.exit_code != 0
        assert not (tmp_path / name).exists()
