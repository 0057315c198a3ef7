"""`python -m bench.cpu.edge` on tiny networks; no time is judged."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.cpu import edge, edge_worker
from bench.cpu.edge_networks import Given
from bench.cpu.edge_processes import Worker, in_turns, run_example
from bench.cpu.edge_report import RATIOS, markdown, targets
from lkcanet.benchmark import WrongOutput
from lkcanet.benchmark.runtimes import Unavailable

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory and clocks are Linux's to tell")


@pytest.fixture
def given(tmp_path: Path) -> Given:
    return Given("lkca_lr", 5, 4, tmp_path / "given", tiny=True)


def test_what_is_compared_is_measured() -> None:
    for side, ours, theirs in RATIOS:
        assert side in edge.SIDES
        assert {ours, theirs} <= {*edge.TIMED, edge.INT8}
    names = {*edge.STARTING, *edge.HOLDING, *edge.TIMED}
    assert {name for name in names if not name.startswith("lkedge ")} <= set(edge_worker.PROVIDERS)


def test_images_are_held_to_float64(given: Given) -> None:
    with torch.inference_mode():
        right = given.plain(given.lowres)[0][0].numpy()
    for provider in ("lkedge", "torch bf16", "openvino cached", "ncnn"):
        assert given.check(provider, right.reshape(-1)) <= 1
    for wrong in (right * 1.1, np.zeros_like(right), np.where(right == right.max(), np.nan, right)):
        with pytest.raises(WrongOutput):
            given.check("lkedge bf16", wrong)


def test_files_of_networks(given: Given) -> None:
    assert Path(given.file("lkedge bf16")).stat().st_size < Path(given.file("lkedge")).stat().st_size
    assert given.file("torch") == given.file("torch bf16")
    assert given.bytes == 4 * 5 * (4 * 4 + 16 * 16)
    with pytest.raises(ValueError, match="got 'jax'"):
        given.file("jax")


@pytest.mark.slow  # a process that imports torch
def test_a_worker_tells_of_its_start_and_answers(given: Given) -> None:
    with Worker(Path(sys.executable), "torch", given.file("torch"), given.lowres_file, 1) as own:
        assert given.check("torch", own.image) <= 1
        marks = [own.marks[name] for name in ("started", "begun", "numpy", "imported", "loaded", "first")]
        assert marks == sorted(marks)
        assert 1e6 < own.marks["begun bytes"] < own.marks["imported bytes"] <= own.marks["peak bytes"]
        assert all(0 < seconds < 60 for seconds in own.turn(0.001))


def test_a_worker_that_fails_says_why(given: Given, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"lkedge ended with 1: .*No module named 'lkedge'"):
        Worker(Path(sys.executable), "lkedge", str(tmp_path / "none.lkops"), given.lowres_file, 1)


def test_a_turn_warms_up_and_lasts(capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[int] = []
    edge_worker.turns(lambda: calls.append(1), io.StringIO("0\n0.001\n"))
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert len(first) == 1
    assert len(second) > 1
    assert len(calls) == len(first) + len(second) + 2


def test_providers_take_turns_in_both_orders() -> None:
    order: list[str] = []

    class Fake:
        def __init__(self, name: str) -> None:
            self.name = name

        def turn(self, seconds: float) -> list[float]:
            order.append(self.name)
            return [float(len(order))]

    times = in_turns({name: Fake(name) for name in "ab"}, 0.0, least=3)
    assert order == list("abbaab")
    assert times == {"a": [1.0, 4.0, 5.0], "b": [2.0, 3.0, 6.0]}


def test_the_program_is_measured_while_it_waits(tmp_path: Path) -> None:
    script = "#!/bin/sh\nsleep 0.1\nhead -c 20000 /dev/zero > $5\n"
    (program := tmp_path / "program").write_text(script)
    program.chmod(0o755)
    seconds, peak, image = run_example(program, "net", np.zeros((5, 4, 4), np.float32), tmp_path, 1)
    assert seconds > 0.1
    assert 1e5 < peak < 1e8
    assert image.shape == (5000,)
    program.write_text("#!/bin/sh\necho no image >&2\nexit 3\n")
    with pytest.raises(RuntimeError, match="ended with 3: no image"):
        run_example(program, "net", np.zeros((5, 4, 4), np.float32), tmp_path, 1)


def _found() -> dict[str, Any]:
    times = {"lkedge": 2.0, "torch": 2.2, "openvino": 3.0, "lkedge bf16": 1.0, "openvino bf16": 1.05}
    sizes = {"library, all instruction sets": 2_200_000, "library, portable alone": 1_100_000, "wheel": 900_000}
    start = {"begun": 20.0, "numpy": 60.0, "imported": 5.0, "loaded": 3.0, "first": 10.0, "total": 98.0}
    row = {"network": "lkca_lr", "bands": 128, "side": 64, "imported": 28e6}
    return {
        "environment": {},
        "load": 0.1,
        "sizes": {"bytes": sizes, "installed": {"lkedge": 2_400_000, "openvino": 150e6}},
        "start": [
            {"provider": "lkedge", **start, "library bytes": 2.4e6},
            {"provider": "lkedge in C", "total": 31.0, "library bytes": 2.2e6},
        ],
        "memory": [
            {**row, "provider": "lkedge", "bytes": 55e6, "file": 6.5e6, "weights": 1.6e6, "workspace": 10.8e6},
            {**row, "provider": "openvino", "bytes": 150e6},
        ],
        "speed": [{"side": 16, "milliseconds": times, "calls": {}}],
        "reasons": {"ncnn, 128 bands, 16 x 16": "ncnn is not installed"},
    }


def test_targets() -> None:
    by_name = {row.what: row for row in targets(_found())}
    assert (by_name["liblkops.so, portable alone (MB)"].value, by_name["wheel of lkedge (MB)"].holds) == (1.1, True)
    assert not by_name["liblkops.so, portable alone (MB)"].holds
    python = by_name["process start to first image in Python, numpy's import apart (ms)"]
    assert (python.value, python.holds) == (38.0, True)
    assert not by_name["process start to first image in C (ms)"].holds
    assert by_name["resident, LKCA-LR, 128 bands, 64x64, lkedge (MB)"].holds
    assert by_name["resident, LKCA-LR, 128 bands, 64x64, lkedge bf16 (MB)"].value is None
    assert by_name["lkedge against OpenVINO, 16x16"].holds
    against = by_name["lkedge against PyTorch with lkops, 16x16"]
    assert against.value == pytest.approx(1.1)
    assert not against.holds
    assert not by_name["lkedge bf16 against OpenVINO bf16, 16x16"].holds
    assert not by_name["lkedge int8 against lkedge bf16, 64x64"].holds
    assert targets({}) == []


def test_the_tables() -> None:
    text = markdown(_found())
    assert "| liblkops.so, portable alone (MB) | 1.1 | at most 1 MB | MISSED |" in text
    assert "| lkedge against OpenVINO, 16x16 | 1.50x | at least 1.3x | holds |" in text
    assert "| lkedge against ncnn, 16x16 | - | at least 1.5x | NOT MEASURED |" in text
    assert "lkedge 2.4, OpenVINO 150." in text
    assert "| lkedge | 20.0 | 60.0 | 5.0 | 3.0 | 10.0 | 98.0 | 38.0 | 2.4 |" in text
    assert "| LKCA-LR, 128 bands, 64x64 x4 | lkedge | 55 | 28 | 6.5 | 1.6 | 10.8 |" in text
    assert "| LKCA-LR, 128 bands, 64x64 x4 | OpenVINO | 150 | 28 | - | - | - |" in text
    assert "| OpenVINO bf16 | 1.05 (1.05x) |" in text
    assert "- ncnn, 128 bands, 16 x 16: ncnn is not installed" in text


def test_what_can_not_run_is_named(monkeypatch: pytest.MonkeyPatch, given: Given) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise Unavailable("ncnn is not installed")

    monkeypatch.setattr("bench.cpu.edge_networks.ncnn_files", refuse)
    bench = edge.Bench.__new__(edge.Bench)
    bench.python, bench.threads, bench.reasons = Path(sys.executable), 1, {}
    assert bench.worker("ncnn", given) is None
    assert bench.reasons == {"ncnn, 5 bands, 4 x 4": "ncnn is not installed"}


@pytest.mark.exhaustive  # builds two libraries, and many processes
def test_from_end_to_end(tmp_path: Path) -> None:
    pytest.importorskip("pybind11", reason="pybind11 is not installed")
    command = [sys.executable, "-m", "bench.cpu.edge", "--tiny", "--seconds", "0", "--rounds", "1", "--threads", "1"]
    command += ["--providers", "lkedge,lkedge bf16,lkedge int8", "--out", str(out := tmp_path / "new")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((out / "edge.json").read_text())
    assert set(edge.PIECES) < found.keys()
    assert found["environment"]["threads"] == 1
    assert {row["provider"] for row in found["start"]} == {"lkedge", "lkedge in C"}
    assert len(found["memory"]) == 3 + len(edge.OTHERS)
    for row in found["speed"]:
        assert row["milliseconds"].keys() >= {"lkedge", "lkedge bf16"}
    assert not found["reasons"]
    assert "## Times" in (out / "edge.md").read_text()


def test_a_wrong_part_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["--only", "power"], "--only names 'power'"),
        (["--rounds", "0"], "must be 1 or more"),
        (["--providers", "jax"], "--providers names 'jax'"),
    ):
        monkeypatch.setattr(sys, "argv", ["bench.cpu.edge", *arguments])
        with pytest.raises(SystemExit):
            edge.main()
        assert said in capsys.readouterr().err
