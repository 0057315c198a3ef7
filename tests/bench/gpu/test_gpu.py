"""The GPU gate without a GPU: a dry run from end to end, and that it refuses what is wrong."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch

import lkops.nn
import lkops.triton
from bench import launchers
from bench.gpu import gate
from bench.gpu import report as gpu_report
from bench.gpu import run as gpu_run
from bench.gpu.clock import Clock
from bench.gpu.measure import Measurement, WrongOutput, compare
from bench.gpu.rows import Row, rows
from bench.gpu.sanitize import DONE, FOUND, STARTED, chosen, verdict
from bench.without_gpu.traffic import count
from bench.without_gpu.work import H100, Rates, Work
from lkops.testing import arguments, cast, examples, run

ROOT = Path(__file__).parents[3]


@pytest.mark.exhaustive
def test_a_dry_run_does_everything_but_the_device(tmp_path) -> None:
    command = [sys.executable, "-m", "bench.gpu", "--dry-run", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "gpu-dry-run.json").read_text())
    assert results["dry_run"]
    assert results["build"]["ok"]
    assert results["tests"]["passed"] >= 1
    runs = [(run["tool"], run["status"]) for run in results["sanitize"]]
    assert runs == [(tool, "unavailable") for tool in ("memcheck", "racecheck", "initcheck", "synccheck")]
    bench = results["bench"]
    assert bench["limits"].keys() == {"bandwidth", "operations"}
    assert [(r["row"], r["dtype"]) for r in bench["rows"]] == [
        (row.name, dtype) for dtype in ("float32", "bfloat16") for row in rows()
    ]
    for result in bench["rows"]:
        for provider in ("lkops", "eager", "eager channels_last", "compile"):
            assert result["providers"][provider]["ms"] > 0, (result["row"], provider)
        assert result["judged"]["eager"] > 0
        assert result["judged"]["targets"]
    assert len(list(tmp_path.iterdir())) <= 8
    report = (tmp_path / "gpu-dry-run.md").read_text()
    assert "nothing here is a measurement" in report
    assert all(row.title in report for row in rows(tiny=True))
    assert done.stdout.rstrip().splitlines()[-3:-1] == [
        "No check failed.",
        "Dry run: times are of an interpreter on a CPU and mean nothing.",
    ]


@pytest.mark.wide(most=1)
@pytest.mark.parametrize(
    "spoil",
    [lambda t: 1.01 * t, torch.zeros_like, lambda t: t / 0, lambda t: t.detach() + 0 * t],
    ids=["one_percent", "zeros", "nan", "no_gradient"],
)
def test_a_wrong_kernel_has_no_time_and_fails_the_gate(tmp_path, monkeypatch, capsys, spoil) -> None:
    right = lkops.spectral_losses

    def wrong(prediction, target, **options):
        losses = right(prediction, target, **options)
        if prediction.dtype is torch.float64:
            return losses
        return tuple(spoil(loss) + 0 * prediction.sum() for loss in losses)

    monkeypatch.setattr(lkops, "spectral_losses", wrong)
    monkeypatch.setattr(gate, "rows", lambda tiny: rows(tiny=tiny)[:1])
    arguments = ["--dry-run", "--only", "bench", "--out", str(tmp_path)]
    assert gate.main(arguments, isolate=False) == 1
    result = json.loads((tmp_path / "gpu-dry-run.json").read_text())["bench"]["rows"][0]
    assert result["providers"]["lkops"].keys() == {"error"}
    assert result["providers"]["lkops"]["error"].startswith("wrong: result")
    assert result["judged"]["ms"] is None
    assert "FAILED: spectral_losses, float32: wrong: result" in capsys.readouterr().out


def test_a_refused_capture_costs_only_the_graph(monkeypatch) -> None:
    measurement = Measurement(next(row for row in rows(tiny=True) if row.graph), "float32", Clock("cpu"), dry=True)
    measurement.clock.on_gpu = True
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)

    def refuse(*_) -> None:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    monkeypatch.setattr("lkcanet.inference.graphs.capture", refuse)
    assert measurement._graph(lambda i: None)["graph_error"].startswith("RuntimeError: CUDA error: operation not")
    monkeypatch.setattr(torch.cuda, "synchronize", refuse)  # this time the process is done for
    with pytest.raises(RuntimeError, match="CUDA error"):
        measurement._graph(lambda i: None)


ROW = Row("row", "a row", lambda device, half: None, {"eager": 2.0, "bandwidth": 0.5})  # type: ignore[arg-type,return-value]


def test_errors_beyond_rounding_are_refused() -> None:
    exact = torch.randn(1000, dtype=torch.float64)
    eager, other = (exact * (1 + 1e-7 * torch.randn(1000).double())).float(), exact.float()
    assert compare(ROW, [other], [eager], [exact], 2) <= 1
    for wrong in (exact * (1 + 1e-5), 0 * exact, exact.where(exact != exact[0], torch.nan), exact[:-1], exact + 1e-5):
        with pytest.raises(WrongOutput):
            compare(ROW, [wrong.float()], [eager], [exact], 2)
        with pytest.raises(WrongOutput):
            compare(Row(**{**vars(ROW), "network": True}), [wrong.float()], [eager], [exact], 2)


def test_an_eager_that_is_wrong_itself_allows_nothing() -> None:
    exact = torch.randn(1000, dtype=torch.float64)
    with pytest.raises(WrongOutput, match="eager PyTorch and float64 differ"):
        compare(ROW, [exact.float()], [1.1 * exact.float()], [exact], 2)


def test_only_so_many_values_may_lie_at_kinks() -> None:
    exact = torch.randn(1000, dtype=torch.float64)
    row = Row(**{**vars(ROW), "kinks": 0.002})
    for flipped, fits in ((2, True), (3, False)):
        ours = exact.clone()
        ours[:flipped] *= -1
        if fits:
            compare(row, [ours.float()], [exact.float()], [exact], 2)
        else:
            with pytest.raises(WrongOutput):
                compare(row, [ours.float()], [exact.float()], [exact], 2)
    for far in (torch.inf, torch.nan, 1e3):
        ours = exact.clone()
        ours[0] = far
        with pytest.raises(WrongOutput, match=r"at a kink" if far == 1e3 else "not finite"):
            compare(row, [ours.float()], [exact.float()], [exact], 2)


WORKER = """
import json, os, sys, time
events, units = sys.argv[1], sys.argv[2:]
def tell(**event):
    with open(events, "a") as file:
        file.write(json.dumps(event) + "\\n")
for unit in units:
    tell(event="start", unit=unit)
    if unit == "hangs":
        time.sleep(60)
    if unit == "dies":
        print("out of luck", flush=True)
        os._exit(3)
    if unit == "breaks":  # the worker's own words, and it ends by itself
        tell(event="failed", unit=unit, error="CUDA error")
        sys.exit(1)
    tell(event="result", row=unit)
"""


def test_a_row_that_hangs_or_dies_loses_no_other(monkeypatch) -> None:
    monkeypatch.setattr(
        gpu_run, "_command", lambda events, units, **_: [sys.executable, "-c", WORKER, str(events), *units]
    )
    heard: list[dict] = []
    units = ["a", "hangs", "b", "dies", "c", "breaks", "d"]
    gpu_run.bench(units, heard.append, time.monotonic() + 60, lambda unit: 1.5 if unit else 30, dry=True)
    ends = [(e["event"], e.get("row", e.get("unit")), e.get("error")) for e in heard if e["event"] != "start"]
    assert ends == [
        ("result", "a", None),
        ("failed", "hangs", "nothing new within 2 s"),
        ("result", "b", None),
        ("failed", "dies", "it died: out of luck"),
        ("result", "c", None),
        ("failed", "breaks", "CUDA error"),
        ("result", "d", None),
    ]
    heard.clear()
    gpu_run.bench(["hangs", "a"], heard.append, time.monotonic() + 1, lambda unit: 60, dry=True)
    assert [(e["error"], e["late"]) for e in heard if e["event"] == "failed"] == [("no time was left", True)] * 2


@pytest.mark.parametrize(("ready", "first"), [(True, "limits_failed"), (False, "failed")])
def test_a_worker_that_begins_no_row_is_not_started_for_ever(monkeypatch, ready, first) -> None:
    """What dies while it measures the card costs the limits; what tells nothing at all, a row each time."""
    worker = "import sys\nif sys.argv[2:]: print('{\"event\": \"ready\"}', file=open(sys.argv[1], 'a'), flush=True)\n"
    monkeypatch.setattr(
        gpu_run, "_command", lambda events, units, **_: [sys.executable, "-c", worker, str(events), *["ready"] * ready]
    )
    heard: list[dict] = []
    gpu_run.bench(["a", "b"], heard.append, time.monotonic() + 60, lambda unit: 30, dry=True)
    ends = [(e["event"], e.get("unit")) for e in heard if e["event"] != "ready"]
    assert ends == [(first, None)] * ready + [("failed", "a"), ("failed", "b")]


def test_the_callers_choices_do_not_reach_a_real_run(monkeypatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setenv("LKOPS_BACKEND", "reference")
    with tempfile.TemporaryFile("w+") as file:
        code = "import os; print(*(os.environ.get(key) for key in ('TRITON_INTERPRET', 'LKOPS_BACKEND', 'MORE')))"
        with gpu_run.running([sys.executable, "-c", code], file, dry=False, MORE="more") as process:
            process.wait()
        file.seek(0)
        assert file.read() == "None None more\n"


def test_no_time_left_is_incomplete_and_another_backend_a_failure() -> None:
    times = {name: {"ms": 1.0} for name in ("lkops", "eager")}
    right = {"row": "row", "dtype": "float32", "backends": ["triton"], "providers": times, "launches": 1}
    late = {"row": "row", "dtype": "bfloat16", "providers": {}, "incomplete": gpu_run.LATE, "late": True}
    died = {**late, "incomplete": "it died", "late": False}
    elsewhere = {**right, "backends": ["reference"]}
    without = {**right, "providers": {**times, "lkops": {"ms": 1.0, "graph_error": "wrong: a graph"}}}
    for found, failed, missing in (
        ([right], 0, 0),
        ([right, late], 0, 1),
        ([died], 1, 1),
        ([elsewhere], 1, 0),
        ([without], 1, 0),
    ):
        for result in found:
            result["judged"] = gpu_report.judge(ROW, result, Work(1e6), H100)
        results = {"dry_run": False, "bench": {"rows": found}}
        assert (len(gpu_report.failures(results)), len(gpu_report.unfinished(results))) == (failed, missing)
        said = "\n".join(gpu_report.verdicts(results, {"row": ROW}))
        assert ("FAILED" in said, "INCOMPLETE" in said) == (bool(failed), bool(missing))
        assert ("RAN ON REFERENCE, NOT ON TRITON" in said) == (found == [elsewhere])


def test_pytest_that_had_no_time_is_late_unless_a_test_failed() -> None:
    assert gpu_run._unfinished("..s.. [ 50%]\n...", 9)["late"]
    assert not gpu_run._unfinished("..s.. [ 50%]\n..F.", 9)["late"]


def test_ratios_and_limits() -> None:
    """2e9 bytes at 1e12 a second are 2 ms, 3e9 products at 1e12 operations a second 6 ms."""
    times = {"lkops": 8.0, "eager": 40.0, "eager channels_last": 20.0, "compile": 12.0}
    result = {"row": "row", "dtype": "float32", "providers": {name: {"ms": ms} for name, ms in times.items()}}
    limits = Rates(1e12, {"float32": 1e12, "tf32": 8e12, "bfloat16": 16e12})
    judged = gpu_report.judge(ROW, result, Work(2e9, 2e9, 1e9), limits)
    assert (judged["eager"], judged["compile"]) == (2.5, 1.5)
    assert (judged["bandwidth"], judged["limit"]) == (0.25, 0.75)
    assert [judged["targets"][name]["met"] for name in ("eager", "bandwidth")] == [True, False]
    assert limits.seconds(Work(2e9, 2e9, 1e9), "bfloat16")[1] == 2e-3  # tensor cores and FMA units at once
    graphs = Row(**{**vars(ROW), "graph": True})
    for name, ms in times.items():
        result["providers"][name]["graph_ms"] = ms / 4 if name == "lkops" else ms
    judged = gpu_report.judge(graphs, result, Work(), H100)
    assert (judged["ms"], judged["eager"], judged["without_graphs"]["eager"]) == (2, 10, 2.5)
    del result["providers"]["lkops"]
    assert gpu_report.judge(ROW, result, Work(), None)["ms"] is None


def test_what_the_sanitizer_says() -> None:
    clean, found = "========= ERROR SUMMARY: 0 errors", "========= ERROR SUMMARY: 3 errors"
    assert verdict("memcheck", 0, f"{DONE}: 4\n{clean}", 1)["status"] == "passed"
    assert verdict("racecheck", 0, f"{DONE}: 4\n===== RACECHECK SUMMARY: 0 hazards displayed", 1)["status"] == "passed"
    assert verdict("memcheck", FOUND, f"{DONE}: 4\n{found}", 1)["status"] == "failed"
    assert verdict("memcheck", 1, found, 1)["status"] == "failed"
    assert verdict("memcheck", FOUND, f"Unable to read x\n{found}", 1)["status"] == "failed"
    invalid = "========= Invalid __global__ write of size 4 bytes"
    assert verdict("memcheck", None, invalid, 1)["reason"] == invalid.strip("= ")
    raised = f"{STARTED}\nTraceback (most recent call last):\nValueError: not supported here\n{clean}"
    assert verdict("memcheck", 1, raised, 1) == {
        **{"tool": "memcheck", "seconds": 1, "status": "failed"},
        "reason": "exit status 1: ValueError: not supported here",
    }
    races = "========= RACECHECK SUMMARY: 3 hazards displayed ({} errors, 3 warnings)"
    warned = verdict("racecheck", FOUND, f"{DONE}: 4\n===== Warning: Race reported\n{races.format(0)}", 1)
    assert warned["status"] == "passed"
    assert "3 warnings" in warned["reason"]
    assert verdict("racecheck", 0, f"{DONE}: 4\n{races.format(1)}", 1)["status"] == "failed"
    for status, output in ((1, "Error: Device not supported"), (None, ""), (1, "ModuleNotFoundError"), (0, clean)):
        assert verdict("memcheck", status, output, 1)["status"] == "unavailable"
    refused = f"{STARTED}\n========= Error: Device not supported\nTraceback"
    assert verdict("memcheck", 1, refused, 1)["status"] == "unavailable"


def test_the_sanitizers_cases_reach_every_kernel() -> None:
    expected: set[str] = set()

    def add(launch) -> None:
        function = getattr(launch.kernel, "fn", launch.kernel)
        expected.add(f"{function.__module__.split('.')[-2]}.{function.__name__.removesuffix('_kernel')}")

    for call, kind in launchers.runs():
        with launchers.precision(kind), lkops.triton.watch(add, run=False):
            kernels = launchers.kernels(call, kind)
            kernels.forward()
            kernels.backward(kernels.trained)
    reached: set[str] = set()
    for operator, dtype, case in chosen():
        tensors, options = arguments(operator, examples(operator)[case])
        meta = cast(tensors, dtype, "meta")
        reached |= count(lambda o=operator, t=meta, k=options: run(o, t, k, "triton")).kernels.keys()
    assert len(expected) > 30
    assert expected <= reached


def test_without_a_gpu_it_says_so(capsys) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    assert gate.main([]) == 2
    assert "no CUDA device is here; --dry-run" in capsys.readouterr().err
