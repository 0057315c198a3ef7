"""`python -m bench.cpu.fusion` on tiny networks; no time is judged."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.cpu import fusion, fusion_networks
from bench.networks import NETWORKS
from lkcanet.benchmark.providers import EVERY

ROOT = Path(__file__).parents[3]
OURS = ("eager", "eager channels_last", "lkops", "lkops relaxed")


def test_providers_and_networks_are_known() -> None:
    assert set(fusion_networks.NAMES) <= set(EVERY)
    assert {*fusion_networks.TRAINED, *fusion_networks.WITHOUT_NCNN} <= set(NETWORKS)
    assert not set(NETWORKS) & set(fusion.CASES)


@pytest.mark.slow  # fuses each network twice
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_measured(name) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        row = fusion_networks.measure_network(name, 0.0, providers=OURS, tiny=True, least=1)
    finally:
        torch.set_num_threads(before)
    for mode in ("inference", *(["training"] if name in fusion_networks.TRAINED else [])):
        assert row[mode]["reasons"] == {}
        assert set(row[mode]["milliseconds"]) == set(OURS) - ({"lkops relaxed"} if mode == "training" else set())
        assert all(ms > 0 for ms in row[mode]["milliseconds"].values())
    assert row["images"] == [list(shape) for shape in NETWORKS[name].tiny_shapes]


def test_the_tables() -> None:
    times = {"eager": 8.0, "eager channels_last": 6.0, "compile": None, "onnxruntime": 4.0, "openvino bf16": 1.0}
    entry = {"milliseconds": {**times, "lkops": 2.0, "lkops relaxed": 1.0}, "reasons": {"compile": "WrongOutput: off"}}
    row = {"network": "SSPSR x4", "images": [[1, 128, 16, 16]], "inference": entry, "training": {"batch": 4, **entry}}
    assert fusion_networks.fastest(entry) == ("onnxruntime", 4.0)
    text = "\n".join(fusion_networks.tables([row]))
    assert "| SSPSR x4 | 1x128x16x16 | 8.00 | 6.00 | - | - | 4.00 | - | 2.00 | 1.00 | 1.00 | 3.00x | 6.00x | " in text
    assert "2.00x (onnxruntime) | 4.00x (onnxruntime) |" in text
    assert "| SSPSR x4 | 4 | 8.00 | 6.00 | 2.00 | 3.00x |" in text
    assert "- SSPSR x4, inference, torch.compile: WrongOutput: off" in text
    assert "- SSPSR x4, ncnn: " in text
    assert fusion_networks.tables([]) == []
    assert fusion_networks.ratio({"milliseconds": {"eager": 1.0}}, "lkops") is None


@pytest.mark.slow  # a process that fuses
@pytest.mark.skipif(not (shutil.which("make") and shutil.which("g++")), reason="no make or no C++ compiler")
def test_from_end_to_end(tmp_path) -> None:
    command = [sys.executable, "-m", "bench.cpu.fusion", "--tiny", "--only", "EDSR-baseline x4;weight norm"]
    command += ["--seconds", "0.01", "--network-seconds", "0.01", "--providers", ",".join(OURS), "--threads", "1"]
    done = subprocess.run([*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "fusion.json").read_text())
    assert [row["network"] for row in found["networks"]] == ["EDSR-baseline x4"]
    assert [row["network"] for row in found["rows"]] == ["weight norm"]
    assert found["environment"]["allocator"] == "recycled"
    text = (tmp_path / "fusion.md").read_text()
    assert "| EDSR-baseline x4 | 1x3x8x10 |" in text
    assert "| EDSR-baseline x4 | 2 |" in text
    assert "| weight norm | 1x3x8x8 |" in text
    assert f"FMA peak {found['peak']['float32']:.0f} GFLOP/s" in text


def test_a_wrong_part_is_refused(monkeypatch, capsys) -> None:
    for arguments, said in ((["--only", "ResNet"], "names 'ResNet'"), (["--providers", "jax"], "names 'jax'")):
        monkeypatch.setattr(sys, "argv", ["bench.cpu.fusion", *arguments])
        monkeypatch.setenv("GLIBC_TUNABLES", fusion.RECYCLED)
        before = torch.get_num_threads()
        with pytest.raises(SystemExit):
            fusion.main()
        torch.set_num_threads(before)
        assert said in capsys.readouterr().err
