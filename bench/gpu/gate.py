"""`python -m bench.gpu` (`make gpu`): builds, tests, sanitizes and times lkops on the GPU here, in nine minutes.

Writes gpu-<device>.json and .md, and what pytest and compute-sanitizer printed, into bench/results; results of another
piece stay if they are of the same device and commit. Everything is written as soon as it is known. Ends with a table of
verdicts and a status of 1 where a test or a check failed, else 3 where time ran out before all was done (a piece alone,
with --only, has all the time); a row that misses its target for speed is reported only.
"""

import argparse
import datetime
import json
import math
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from bench.cpu.run import RESULTS
from bench.environment import environment
from bench.gpu import report, run
from bench.gpu.measure import DTYPES
from bench.gpu.rows import rows
from bench.gpu.sanitize import sanitize
from bench.without_gpu.work import Rates
from lkcanet.common.files import atomic_path

PIECES = ("tests", "sanitize", "bench")
TEST_SECONDS, SANITIZE_SECONDS, CASCADE_SECONDS = 190, 75, 60
ROW_SECONDS, NETWORK_SECONDS = 120, 240  # of silence; a network's training step may take minutes to compile


def _driver() -> str:
    try:
        return Path("/sys/module/nvidia/version").read_text().strip()
    except OSError:
        return run.first_line("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader") or "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


class Results:
    """The gate's results, written to files at every change."""

    def __init__(self, folder: Path, *, dry: bool, commit: str | None) -> None:
        device = "dry run" if dry else torch.cuda.get_device_name()
        self.stem = folder / f"gpu-{re.sub(r'[^a-z0-9]+', '-', device.lower()).strip('-')}"
        self.rows = {row.name: row for row in rows(tiny=dry)}
        facts = environment()
        facts |= {"driver": "none" if dry else _driver(), "cuda": torch.version.cuda, "triton": _version("triton")}
        facts["clean"] = bool(commit) or (facts["clean"] and bool(facts["commit"]))
        facts["commit"] = commit or facts["commit"] or "unknown"
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
        self.partial: dict[str, Any] = {}  # of the row at hand
        self.data: dict[str, Any] = {"device": device, "dry_run": dry, "date": now, "environment": facts}
        try:
            before = json.loads(self.path("json").read_text())
        except (OSError, ValueError):
            return
        if (before["device"], before["environment"]["commit"]) == (device, facts["commit"]) and facts["clean"]:
            self.data = before | self.data
        else:
            same = "of another commit" if facts["clean"] else "kept only for a known commit without changes (--commit)"
            print(f"{self.path('json')}: earlier results are dropped: {same}", file=sys.stderr)

    def path(self, suffix: str) -> Path:
        return self.stem.with_name(f"{self.stem.name}{'-' if '.' in suffix else '.'}{suffix}")

    def put(self, **pieces: Any) -> None:
        self.data |= pieces
        text = json.dumps(self.data, indent=1) + "\n"
        for suffix, content in (("json", text), ("md", report.markdown(self.data, self.rows))):
            with atomic_path(self.path(suffix)) as temporary:
                temporary.write_text(content)

    def hear(self, event: dict[str, Any]) -> None:
        """Take in one event of a worker."""
        bench, kind = self.data["bench"], event.pop("event")
        if kind == "limits":
            bench["limits"] = event
        elif kind == "limits_failed":
            bench.setdefault("limits_error", event["error"])
        elif kind == "block":
            bench["block"] = event["launches"]
        elif kind == "partial":
            self.partial = event
        elif kind == "result":
            bench["rows"].append(self.judged(event))
        elif kind == "failed":
            name, _, dtype = event["unit"].partition(":")
            known = self.partial if (self.partial.get("row"), self.partial.get("dtype")) == (name, dtype) else {}
            result = {"row": name, "dtype": dtype, "providers": {}, **known, "incomplete": event["error"]}
            result["late"] = event.get("late", False)
            bench["rows"].append(self.judged(result))
        if kind in ("limits", "limits_failed", "block", "result", "failed"):
            self.put()

    def judged(self, result: dict[str, Any]) -> dict[str, Any]:
        row = self.rows[result["row"]]
        work = row.make("meta", result["dtype"] == "bfloat16").work
        result["work"] = {"bytes": work.bytes, "matrix_products": work.matrix, "vector_products": work.vector}
        limits = self.data["bench"].get("limits")
        result["judged"] = report.judge(row, result, work, Rates(**limits) if limits else None)
        return result


def gate(only: Sequence[str], results: Results, deadline: float, *, dry: bool, isolate: bool) -> None:
    """Run the pieces; see the module's docstring."""
    # should time run out, each row has been run in one dtype rather than half of them in both
    units = [f"{name}:{dtype}" for dtype in DTYPES for name in results.rows]

    def left(most: float) -> float:
        """A piece's limit, so that something is left for the others."""
        return max(min(most if len(only) > 1 and not dry else math.inf, deadline - time.monotonic()), 1.0)

    def silence(unit: str) -> float:
        row = results.rows.get(unit.partition(":")[0])
        return NETWORK_SECONDS if row and row.network else ROW_SECONDS

    results.put(build=run.build(dry=dry))
    with run.preparing(units, wanted="bench" in only and only != ["bench"] and not dry):
        if "tests" in only:
            results.put(tests=run.tests(results.path("tests.txt"), left(TEST_SECONDS), dry=dry))
        if "sanitize" in only:
            results.put(sanitize=sanitize(results.path("sanitize.txt"), left(SANITIZE_SECONDS), dry=dry))
    if "bench" in only:
        results.put(cascade=run.cascade(left(CASCADE_SECONDS), dry=dry))
        results.put(bench={"rows": []})
        if isolate:
            run.bench(units, results.hear, deadline, silence, dry=dry)
        else:
            run.bench_here(units, results.hear, dry=dry)


def main(argv: Sequence[str] | None = None, *, isolate: bool = True) -> int:
    """The command; `isolate=False` runs the rows in this process. Returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=PIECES, help="this piece only; may be repeated")
    parser.add_argument("--dry-run", action="store_true", help="everything but the device: tiny, interpreted, no times")
    parser.add_argument("--out", type=Path, help="folder of the results; default bench/results, or a temporary one")
    parser.add_argument("--minutes", type=float, default=8.75, help="nothing runs after these")
    parser.add_argument("--commit", help="what to call the code where there is no git")
    a = parser.parse_args(argv)
    if not a.dry_run and not torch.cuda.is_available():
        print("no CUDA device is here; --dry-run runs everything but the device", file=sys.stderr)
        return 2
    deadline = time.monotonic() + 60 * a.minutes
    out = a.out or (Path(tempfile.mkdtemp(prefix="lkops-gpu-")) if a.dry_run else RESULTS)
    out.mkdir(parents=True, exist_ok=True)
    results = Results(out, dry=a.dry_run, commit=a.commit)
    gate([p for p in PIECES if p in (a.only or PIECES)], results, deadline, dry=a.dry_run, isolate=isolate)
    print("\n".join(report.verdicts(results.data, results.rows)))
    print(f"Results: {results.path('json')}, {results.path('md').name}")
    if report.failures(results.data):
        return 1
    return 3 if report.unfinished(results.data) else 0


if __name__ == "__main__":
    sys.exit(main())
