"""The GPU gate without a GPU: a dry run from end to end, and that it refuses what is wrong."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import lkops.nn
from bench import gpu, gpu_report, gpu_run
from bench.gpu_measure import WrongOutput, compare
from bench.gpu_rows import Row, rows
from bench.gpu_sanitize import DONE, FOUND, verdict
from bench.work import H100, Rates, Work

ROOT = Path(__file__).parents[2]


def test_a_dry_run_does_everything_but_the_device(tmp_path) -> None:
    command = [sys.executable, "-m", "bench.gpu", "--dry-run", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "gpu-dry-run.json").read_text())
    assert results["dry_run"]
    assert results["build"]["ok"]
    assert results["tests"]["passed"] >= 1
    assert [run["status"] for run in results["sanitize"]] == ["unavailable"] * 2
    bench = results["bench"]
    assert bench["limits"].keys() == {"bandwidth", "operations"}
    assert [(r["row"], r["dtype"]) for r in bench["rows"]] == [
        (row.name, dtype) for row in rows() for dtype in ("float32", "bfloat16")
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


@pytest.mark.parametrize(
    "spoil",
    [lambda t: 1.01 * t, torch.zeros_like, lambda t: t / 0, lambda t: t.detach() + 0 * t],
    ids=["one_percent", "zeros", "nan", "no_gradient"],
)
def test_a_wrong_kernel_has_no_time_and_fails_the_gate(tmp_path, monkeypatch, capsys, spoil) -> None:
    right = lkops.nn.spectral_losses

    def wrong(p, t):
        losses = right(p, t)
        return losses if p.dtype is torch.float64 else tuple(spoil(loss) + 0 * p.sum() for loss in losses)

    monkeypatch.setattr(lkops.nn, "spectral_losses", wrong)
    monkeypatch.setattr(gpu, "rows", lambda tiny: rows(tiny=tiny)[:1])
    arguments = ["--dry-run", "--only", "bench", "--out", str(tmp_path)]
    assert gpu.main(arguments, isolate=False) == 1
    result = json.loads((tmp_path / "gpu-dry-run.json").read_text())["bench"]["rows"][0]
    assert result["providers"]["lkops"].keys() == {"error"}
    assert result["providers"]["lkops"]["error"].startswith("wrong: result")
    assert result["judged"]["ms"] is None
    assert "FAILED: spectral_losses, float32: wrong: result" in capsys.readouterr().out


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
    tell(event="result", row=unit)
"""


def test_a_row_that_hangs_or_dies_loses_no_other(monkeypatch) -> None:
    monkeypatch.setattr(
        gpu_run, "_command", lambda events, units, **_: [sys.executable, "-c", WORKER, str(events), *units]
    )
    heard: list[dict] = []
    gpu_run.bench(["a", "hangs", "b", "dies", "c"], heard.append, time.monotonic() + 60, 1.5, dry=True)
    ends = [(e["event"], e.get("row", e.get("unit")), e.get("error")) for e in heard if e["event"] != "start"]
    assert ends == [
        ("result", "a", None),
        ("failed", "hangs", "nothing new within 2 s"),
        ("result", "b", None),
        ("failed", "dies", "it died: out of luck"),
        ("result", "c", None),
    ]
    heard.clear()
    gpu_run.bench(["hangs", "a"], heard.append, time.monotonic() + 1, 60, dry=True)
    assert [e["error"] for e in heard if e["event"] == "failed"] == ["no time was left"] * 2


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
    for status, output in ((1, "Error: Device not supported"), (None, ""), (1, "ModuleNotFoundError"), (0, clean)):
        assert verdict("memcheck", status, output, 1)["status"] == "unavailable"


def test_without_a_gpu_it_says_so(capsys) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    assert gpu.main([]) == 2
    assert "no CUDA device is here; --dry-run" in capsys.readouterr().err
