"""The CPU benchmarks on tiny shapes, from the rows to the report; no time is judged."""

import copy
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import lkops
from bench.cpu import never_slower, peak, report
from bench.cpu import run as bench_run
from bench.cpu import worker as cpu_worker
from bench.cpu.limits import COPIES, best, limit_seconds, measure_limits
from bench.cpu.peak import fma_peak
from bench.cpu.rows import SPAN, TARGETS, rows
from bench.without_gpu.work import Work
from lkcanet.benchmark import measure
from lkcanet.benchmark.providers import EVERY

ROOT = Path(__file__).parents[3]
ALL = rows()
needs_compiler = pytest.mark.skipif(
    not (shutil.which("make") and (shutil.which("c++") or shutil.which("g++"))), reason="no make or no C++ compiler"
)
LIMITS = {"peak": 2e11, "copy": {"1024": 1e11, "1048576": 5e10}}


def test_the_rows_are_those_of_the_issue() -> None:
    names = [row.name for row in ALL]
    assert len(set(names)) == len(names)
    assert [row.name for row in rows(tiny=True)] == names
    assert {row.name: row.targets for row in ALL if row.targets} == TARGETS
    for row in ALL:
        assert set(row.providers) <= set(EVERY)
        assert {"eager", "eager channels_last", "lkops"} | set(row.targets) <= set(row.providers), row.name
        assert row.work.bytes > 0
        assert row.work.matrix + row.work.vector > 0
    assert sum(row.kind == "span" for row in ALL) == len(SPAN) == 12
    assert {row[0] for row in SPAN} >= {31, 198}
    assert {row[1] for row in SPAN} == {2, 4, 8}
    assert {row[2] for row in SPAN} == {1, 8}
    assert {row[3][0] for row in SPAN} >= {1, 16}
    assert {side for row in SPAN for side in row[3][1:]} >= {16, 128}
    assert 0.8e9 < max(4 * n * bands * h * w * scale**2 for bands, scale, _, (n, h, w), _ in SPAN) < 1e9
    # every operator, forward and both ways
    titles = " ".join(row.title for row in ALL)
    assert all(operator in titles for operator in lkops.backends.operators())


def test_work_leaves_the_padding_out() -> None:
    by_name = {row.name: row for row in ALL}
    # 7 taps, 7 apart, of 16 pixels: offsets 0, 7 and 14 reach 16 + 2 * (9 + 2) outputs along an axis
    assert by_name["depthwise_16 forward"].work.vector == 128 * 38**2
    small, large = (by_name[f"attention_{size} forward"].work for size in ("16", "64"))
    assert large.vector > 40 * small.vector
    assert large.matrix == 16 * small.matrix
    both, back = by_name["losses_cube full"].work, by_name["losses_cube backward"].work
    assert both.bytes == 5 * 4 * 16 * 128 * 64 * 64
    assert back.bytes == both.bytes * 3 / 5


@pytest.mark.parametrize("row", [row for row in rows(tiny=True) if row.kind != "span"], ids=lambda row: row.name)
def test_rows_are_right(row) -> None:
    """Eager and lkops compute the same; the other providers have their own test."""
    torch.manual_seed(0)
    result = measure(row.make(), row.mode, ("eager", "eager channels_last", "lkops"), seconds=0.0, least=1)
    assert {name: measured.reason for name, measured in result.providers.items() if measured.reason} == {}


@needs_compiler
def test_limits() -> None:
    found = measure_limits(seconds=0.001)
    assert found["peak"] > 1e9
    assert set(found["copy"]) == {str(size) for size in COPIES}


def test_which_limit_it_is() -> None:
    assert limit_seconds(LIMITS, Work(1e6, 0, 0)) == (1e6 / 5e10, "memory")
    seconds, kind = limit_seconds(LIMITS, Work(1000, 1e9, 1e9))
    assert seconds == pytest.approx(4e9 / 2e11)
    assert kind == "products"


def test_the_best_of_limits() -> None:
    other = {"peak": 1.0, "copy": {key: 2 * rate for key, rate in LIMITS["copy"].items()}}
    assert best(LIMITS, other) == {"peak": LIMITS["peak"], "copy": other["copy"]} == best(other, LIMITS)


@needs_compiler
def test_the_fma_peak_is_above_what_torch_reaches() -> None:
    """Of one thread, whose runs other processes disturb least: a product of matrices can't be faster."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        a = torch.randn(512, 512)
        times = []
        for _ in range(10):
            start = time.perf_counter()
            torch.mm(a, a)
            times.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(before)
    found = fma_peak(1, 0.2)
    assert 2e-9 * 512**3 / min(times) < 1.1 * found["float32"] < 1000
    assert found["bfloat16"] > 0.5 * found["float32"]


def test_without_a_compiler_the_peak_says_why(monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    peak._build.cache_clear()
    with pytest.raises(RuntimeError, match=r"the FMA peak can't be measured: .*make"):
        fma_peak(1)
    with pytest.raises(ValueError, match="threads must be 1 or more, got 0"):
        fma_peak(0)


FILES = ["cpu.json", "cpu.md", "cpu_roofline.png", "cpu_speedup.png"]
PART = ("depthwise_64 full", "gating_16 forward", "gating_16 full", "span_31_x4_g8_1x16x16 forward")


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """A run as `python -m bench.cpu.run` makes it, but for compilers and for its processes, each of which imports
    torch."""
    if needs_compiler.args[0]:
        pytest.skip("no make or no C++ compiler")
    out = tmp_path_factory.mktemp("bench")

    def worker(tunables: str | None, threads: int, arguments: list[str]) -> tuple[Any, str]:
        patch.setenv("GLIBC_TUNABLES", tunables or "")
        cpu_worker.main([*arguments, "--out", str(out / "found.json")])
        return json.loads((out / "found.json").read_text()), ""

    chosen = [row for row in rows(tiny=True) if row.name in PART]
    providers = ("eager", "eager channels_last", "openvino", "lkops")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_run, "_worker", worker)
        bench_run.write(bench_run.run(chosen, threads=1, tiny=True, factor=0.01, providers=providers), out)
    torch.set_num_threads(before)
    return out


@needs_compiler
@pytest.mark.slow  # four processes that import torch
def test_processes_and_what_fails_in_them(tmp_path, monkeypatch) -> None:
    command = [sys.executable, "-m", "bench.cpu.run", "--quick", "-k", "attention_16 forward", "--threads", "1"]
    command += ["--providers", "eager,lkops"]
    done = subprocess.run([*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    run = json.loads((tmp_path / "cpu.json").read_text())[0]
    assert run["environment"]["allocator"] == "recycled"
    assert run["environment"]["threads"] == 1
    assert set(run["rows"][0]["providers"]) == {"eager", "lkops"}
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    (tmp_path / "cpu.md").unlink()
    monkeypatch.setattr(sys, "argv", ["bench.cpu.run", "--report", "--out", str(tmp_path)])
    bench_run.main()
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    found, failed = bench_run._worker(None, 1, ["--what", "nothing"])
    assert found is None
    assert "ended with 2" in failed
    assert "invalid choice" in failed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["-k", "warp"], "no row's name holds 'warp'"), (["--providers", "numpy"], "--providers must be of eager")],
)
def test_a_wrong_part_is_refused(arguments, said, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["bench.cpu.run", *arguments])
    with pytest.raises(SystemExit, match=said):
        bench_run.main()


def test_a_part_from_end_to_end(results) -> None:
    recycled, default = json.loads((results / "cpu.json").read_text())
    assert recycled["environment"]["allocator"] == "recycled"
    assert default["environment"]["allocator"] == "default"
    for found in (recycled, default):
        assert {"commit", "cpu", "threads", "torch", "openvino", "isa", "load"} <= found["environment"].keys()
        assert found["environment"]["threads"] == 1
        assert {"peak", "copy"} == found["limits"].keys()
    assert [row["row"] for row in recycled["rows"]] == list(PART)
    assert [row["row"] for row in default["rows"]] == ["depthwise_64 full"]
    for row in recycled["rows"]:
        assert row["providers"]["lkops"]["milliseconds"] > 0, row
        assert row["backends"]
        assert report.fraction(recycled["limits"], row)[0] > 0
        assert report.ratio(row, "eager") > 0
    assert set(recycled["rows"][0]["peak_bytes"]) >= {"eager", "eager channels_last", "lkops"}
    text = (results / "cpu.md").read_text()
    assert all(row["title"] in text for row in recycled["rows"])
    assert "## Never slower than eager" in text
    assert (results / "cpu_speedup.png").read_bytes().startswith(b"\x89PNG")
    assert (results / "cpu_roofline.png").read_bytes().startswith(b"\x89PNG")


def test_the_report_judges(results) -> None:
    run = json.loads((results / "cpu.json").read_text())[0]
    row: dict[str, Any] = copy.deepcopy(run["rows"][0])
    for name, ms in {"eager": 12.0, "eager channels_last": 8.0, "compile": 5.0, "lkops": 2.0}.items():
        row["providers"][name] = {**row["providers"]["eager"], "milliseconds": ms}
    row |= {"targets": {"eager": 4.0, "compile": 3.0}, "memory_target": 0.5}
    row["peak_bytes"] = {"eager": 300, "eager channels_last": 100, "lkops": 60}
    said = report.targets([row])
    assert "4.00x (target 4x)" in said
    assert "2.50x (target 3x, MISSED)" in said
    assert "0.60 of eager's (target 0.5, MISSED)" in said
    row["providers"]["lkops"] |= {"milliseconds": None, "reason": "WrongOutput: result 0"}
    assert "not measured (target 4x)" in report.targets([row])
    text = report.markdown([{**run, "rows": [row]}], [])
    assert "WrongOutput: result 0" in text
    failed = {key: value for key, value in row.items() if key not in ("providers", "backends", "peak_bytes")}
    assert "ended with -9" in report.markdown([{**run, "rows": [{**failed, "failed": "ended with -9"}]}], [])


def test_never_slower(tmp_path, results) -> None:
    run = json.loads((results / "cpu.json").read_text())[0]
    row = next(row for row in run["rows"] if row["kind"] == "span")
    slow, missing = copy.deepcopy(row), copy.deepcopy(row)
    for own, ms in ((row, 1.0), (slow, 9.0)):
        own["providers"]["eager"]["milliseconds"] = own["providers"]["eager channels_last"]["milliseconds"] = 3.0
        own["providers"]["lkops"]["milliseconds"] = ms
    missing["providers"]["lkops"] |= {"milliseconds": None, "reason": "killed"}
    found = never_slower.verdicts([row, slow, missing, {**row, "kind": "network"}])
    assert [(v.ratio, v.holds) for v in found] == [(3.0, True), (3.0 / 9.0, False), (None, False)]
    text = never_slower.markdown([row, slow, missing])
    assert "1 of 3 rows are not slower" in text
    assert "SLOWER" in text
    assert "NOT MEASURED: killed" in text
    for own, code in ((row, 0), (slow, 1)):
        (tmp_path / "cpu.json").write_text(json.dumps([{"rows": [own]}]))
        command = [sys.executable, "-m", "bench.cpu.never_slower", "--results", str(tmp_path / "cpu.json")]
        assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == code


@pytest.mark.slow
def test_pytest_benchmark_runs_a_row() -> None:
    pytest.importorskip("pytest_benchmark", reason="pytest_benchmark is not installed")
    code = "import os, pytest, sys; os.environ['BENCH_TINY'] = '1'; sys.exit(pytest.main(sys.argv[1:]))"
    arguments = ["-q", "-p", "no:xdist", "bench/cpu/test_cpu.py", "-k", "gating_batch and backward"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
