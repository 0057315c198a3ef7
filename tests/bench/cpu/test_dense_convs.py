"""`python -m bench.cpu.dense_convs` on tiny rows; no time is judged."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cpu import dense_convs
from lkcanet.benchmark import Measured, Result

ROOT = Path(__file__).parents[3]


def test_the_rows() -> None:
    found = dense_convs.rows()
    assert len(found) == 4 * 4 + 1
    assert found["1x180x96x96 forward"] == ("forward", 1, 180, 96)
    assert found["8x64x48x48 full"] == ("full", 8, 64, 48)
    assert {row[0] for row in dense_convs.rows(tiny=True).values()} == {"forward", "full"}
    for mode, names in (("forward", dense_convs.FORWARD), ("full", dense_convs.FULL)):
        assert {name for name in names if name.startswith("lkops")} == {
            ours for m, ours in dense_convs.TARGETS if m == mode
        }


def test_the_peer_that_is_hardest_to_beat_is_the_yardstick() -> None:
    times = {"eager": 5.0, "eager channels_last": 4.0, "openvino": 2.0, "openvino bf16": 1.0, "ncnn": None}
    times |= {"lkops": 2.5, "lkops relaxed": 1.6, "lkops bf16": 0.5}
    result = Result("forward", {name: Measured(ms) for name, ms in times.items()})
    exact, relaxed, half = (dense_convs.comparison(result, ours) for ours in ("lkops", "lkops relaxed", "lkops bf16"))
    assert exact == {"ours": "lkops", "peer": "openvino", "ratio": 0.8, "target": 1.0, "holds": False}
    assert (relaxed["peer"], relaxed["ratio"], relaxed["holds"]) == ("openvino", 1.25, True)
    assert (half["peer"], half["ratio"]) == ("openvino bf16", 2.0)
    alone = dense_convs.comparison(Result("full", {"eager": Measured(1.2), "lkops": Measured(1.0)}), "lkops")
    assert alone == {"ours": "lkops", "peer": "eager", "ratio": 1.2, "target": 1.3, "holds": False}
    nothing = dense_convs.comparison(Result("forward", {"lkops": Measured(1.0)}), "lkops")
    assert (nothing["peer"], nothing["holds"]) == (None, False)


def test_it_counts_the_products_that_are_not_in_the_padding() -> None:
    row = dense_convs.run(("forward", 1, 16, 8), 0.0, ("eager", "lkops"))
    assert row["gflops"] == pytest.approx(2e-9 * (16 * (3 * 8 - 2)) ** 2)
    assert row["milliseconds"]["lkops"] > 0
    assert row["comparisons"][0]["peer"] == "eager"
    assert row["milliseconds"]["ncnn"] is None


@pytest.mark.exhaustive  # a process, and torch.compile
@pytest.mark.skipif(not (shutil.which("make") and shutil.which("g++")), reason="no make or no C++ compiler")
def test_from_end_to_end(tmp_path) -> None:
    command = [sys.executable, "-m", "bench.cpu.dense_convs", "--tiny", "--seconds", "0.01", "--threads", "1"]
    done = subprocess.run([*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "dense_convs.json").read_text())
    assert found["environment"]["allocator"] == "recycled"
    assert found["environment"]["threads"] == 1
    assert found["peak"]["float32"] > 1
    for row, known in zip(found["rows"], (dense_convs.FORWARD, dense_convs.FULL), strict=True):
        assert set(row["providers"]) == set(known)
        reasons = {measured["reason"] for measured in row["providers"].values()} - {""}
        assert all("is not installed" in reason for reason in reasons)
    text = (tmp_path / "dense_convs.md").read_text()
    assert "| 1x16x8x8 |" in text
    assert "| 2x16x8x8 |" in text
    assert found["environment"]["isa"] in text


def test_a_wrong_part_is_refused(monkeypatch, capsys) -> None:
    for arguments, said in ((["--only", "7x7"], "--only names no row"), (["--providers", "jax"], "names 'jax'")):
        monkeypatch.setattr(sys, "argv", ["bench.cpu.dense_convs", *arguments])
        with pytest.raises(SystemExit):
            dense_convs.main()
        assert said in capsys.readouterr().err
