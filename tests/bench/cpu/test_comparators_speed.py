"""`python -m bench.cpu.comparators` on tiny networks; no time is judged."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.cpu import comparators
from bench.networks.paired import KINDS, Paired
from lkcanet.evaluation.reported import reported
from lkcanet.models.baselines import CNN3DLR, VDSRLR
from lkcanet.models.registry import PRESETS

ROOT = Path(__file__).parents[3]


def test_every_network_of_the_tables_is_timed() -> None:
    rows = {row.method for row in reported("chikusei", 4)} - {"bicubic", "LKCA-KD"}  # LKCA-KD is LKCA-LR, trained
    assert set(comparators.ROWS) == rows
    assert {PRESETS[preset].kind for preset, _ in comparators.ROWS.values()} == {"lkcanet", *KINDS}


@pytest.mark.parametrize("model", [VDSRLR(5, 2, 8, 2), VDSRLR(5, 3, 8, 1, bicubic=False), CNN3DLR(5, 2)])
def test_plain_forms_of_local_networks(model: VDSRLR | CNN3DLR) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = torch.rand(2, 5, 6, 4)
    torch.testing.assert_close(Paired(model)(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", comparators.MODES)
@pytest.mark.parametrize("name", comparators.ROWS)
def test_every_row_runs(name: str, mode: str) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = comparators.times(name, 5, mode, 0.0, tiny=True, least=1)
    finally:
        torch.set_num_threads(before)
    assert set(found) == {"eager", "lkops"}
    assert all(value > 0 for value in found.values())


def test_what_differs_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparators, "ALLOWED", 0.0)
    with pytest.raises(RuntimeError, match=r"SSPSR: lkops and eager PyTorch differ by .* of the image's norm"):
        comparators.runners("SSPSR", 5, "forward", tiny=True)


def test_a_step_of_wrong_gradients_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = comparators.ours_h_loss

    def wrong(network: torch.nn.Module, *tensors: torch.Tensor) -> torch.Tensor:
        loss = right(network, *tensors)
        return 1.5 * loss - 0.5 * loss.detach()  # of the same value

    monkeypatch.setattr(comparators, "ours_h_loss", wrong)
    with pytest.raises(RuntimeError, match="MSDformer: loss or gradients of lkops and eager PyTorch differ by 5"):
        comparators.runners("MSDformer", 5, "training", tiny=True)


@pytest.mark.parametrize("mode", comparators.MODES)
def test_eager_in_the_other_memory_format_is_checked_too(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = comparators.runner

    def wrong(problem, name, *how):
        own = right(problem, name, *how)
        if name == comparators.CHANNELS_LAST:
            with torch.no_grad():
                next(iter(own.module.parameters())).mul_(1.1)
        return own

    monkeypatch.setattr(comparators, "runner", wrong)
    with pytest.raises(RuntimeError, match=r"ESSAformer: .*eager channels_last and eager PyTorch differ"):
        comparators.runners("ESSAformer", 5, mode, tiny=True)


def test_the_tables() -> None:
    sizes = {"eager": 3_000_000, "lkops": None}
    rows = [
        {"network": "SSPSR", "side": 16, "mode": "forward", "milliseconds": {"eager": 300.0, "lkops": 200.0}},
        {"network": "LKCA-LR", "side": 16, "mode": "forward", "milliseconds": {"eager": 10.0, "lkops": 4.0}},
        {"network": "SSPSR", "side": 64, "mode": "training", "milliseconds": {"eager": 30.0, "lkops": 20.0}},
    ]
    found = {
        "load": 0.0,
        "environment": {},
        "peak": {"float32": 1.0, "bfloat16": 2.0},
        "rows": [{**row, "bytes": sizes} for row in rows],
    }
    text = comparators.markdown(found)
    assert "| SSPSR | 300.0 (30.0x) | 200.0 (50.0x) | 1.50x | 3 | - |" in text
    assert "| LKCA-LR | 10.0 (1.0x) | 4.0 (1.0x) | 2.50x | 3 | - |" in text
    assert "## A training step, 64 x 64 pixels" in text
    assert "| SSPSR | 30.0 | 20.0 | 1.50x |" in text


@pytest.mark.exhaustive  # processes
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is Linux's to tell")
def test_from_end_to_end(tmp_path) -> None:
    command = [
        sys.executable,
        "-m",
        "bench.cpu.comparators",
        "--tiny",
        "--only",
        "ESSAformer,LKCA-LR",
        "--seconds",
        "0",
    ]
    command += ["--sides", "5", "--threads", "1", "--out", str(out := tmp_path / "new")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((out / "comparators.json").read_text())
    assert [(row["network"], row["mode"]) for row in found["rows"]] == [
        (name, mode) for mode in ("forward", "training") for name in ("ESSAformer", "LKCA-LR")
    ]
    assert found["environment"]["allocator"] == "recycled"
    assert "## An inference, 5 x 5 pixels" in (out / "comparators.md").read_text()
