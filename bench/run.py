"""`python -m bench.run`: all benchmarks, with recycled and default memory, into bench/results/cpu.json and cpu.md."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.environment import RECYCLED, environment
from lkcanet._files import atomic_path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"


def measure(tunables: str | None, selection: list[str]) -> dict[str, Any]:
    """One run of the suite in a process of its own: the allocator reads its settings at start."""
    env = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"} | (
        {"GLIBC_TUNABLES": tunables} if tunables else {}
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "benchmark.json"
        suite = ["bench/test_operators.py", "bench/test_bicubic.py", f"--benchmark-json={file}", *selection]
        subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", *suite], env=env, check=True, cwd=ROOT)
        code = "import json; from bench.environment import environment; print(json.dumps(environment()))"
        said = subprocess.run(
            [sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True, cwd=ROOT
        )
        rows = [
            {
                "name": row["group"],
                "provider": row["params"]["provider"],
                "backend": row["extra_info"].get("backend", ""),
                "median_ms": 1e3 * row["stats"]["median"],
                "least_ms": 1e3 * row["stats"]["min"],
                "iqr_ms": 1e3 * row["stats"]["iqr"],
                "rounds": row["stats"]["rounds"],
            }
            for row in json.loads(file.read_text())["benchmarks"]
        ]
    return {"environment": json.loads(said.stdout), "rows": rows}


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown: one line a benchmark, for both allocators the median milliseconds of eager in its faster memory format
    and of lkops, and their ratio."""
    head = "| what | backend | " + " | ".join(
        f"eager, {r['environment']['allocator']} (ms) | lkops (ms) | ratio" for r in runs
    )
    lines = [head + " |", "|---|---|" + "---:|" * (3 * len(runs))]
    for name in dict.fromkeys(row["name"] for row in runs[0]["rows"]):
        rows = [[row for row in run["rows"] if row["name"] == name] for run in runs]
        cells = [name, rows[0][0]["backend"]]
        for same in rows:
            eager = min(row["median_ms"] for row in same if row["provider"] != "lkops")
            ours = min(row["median_ms"] for row in same if row["provider"] == "lkops")
            cells += [f"{eager:.2f}", f"{ours:.2f}", f"{eager / ours:.2f}x"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-k", default="", help="only benchmarks whose name holds this")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of cpu.json and cpu.md")
    arguments = parser.parse_args()
    selection = ["-k", arguments.k] if arguments.k else []
    runs = [measure(tunables, selection) for tunables in (RECYCLED, None)]
    facts = environment()
    commit = facts["commit"][:12] + ("" if facts["clean"] else " with changes")
    text = (
        f"Medians, 1x128x64x64 float32 unless named otherwise; {facts['cpu']}, {facts['threads']} threads, "
        f"{facts['isa']}, torch {facts['torch']}, commit {commit}. "
        "Eager is the faster of contiguous and channels_last. "
        f"Recycled and default are settings of the memory allocator.\n\n{table(runs)}\n"
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, content in (("cpu.json", json.dumps(runs, indent=1) + "\n"), ("cpu.md", text)):
        with atomic_path(arguments.out / name) as temporary:
            temporary.write_text(content)
    print(text)


if __name__ == "__main__":
    main()
