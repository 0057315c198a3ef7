"""`python -m bench.cpu.run`: the CPU benchmarks, into bench/results/cpu.json, cpu.md and two plots. About 20 minutes.

Every problem runs in a process of its own, first with recycled memory (where the targets hold), then its main rows with
the default allocator. `-k` runs some rows and writes nothing unless `--out` says where: results of several commits are
never mixed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from bench.cpu.limits import best
from bench.cpu.rows import EAGER, Row, rows
from bench.environment import RECYCLED
from lkcanet.benchmark.providers import EVERY
from lkcanet.common.files import atomic_path

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench" / "results"
# gives freed memory back at once, or the resident memory says nothing of what lives
RETURNED = "glibc.malloc.mmap_threshold=65536:glibc.malloc.trim_threshold=65536"
TIMEOUT = 900
# without torch.compile: its times depend on the allocator as those of eager do, and it compiles for long
DEFAULT_PROVIDERS = (*EAGER, "openvino", "openvino bf16", "lkops", "lkops bf16")


def _worker(tunables: str | None, threads: int, arguments: Sequence[str]) -> tuple[Any, str]:
    """What a worker found, or None and the end of what it said."""
    env = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}
    env |= {"OMP_NUM_THREADS": str(threads)} | ({"GLIBC_TUNABLES": tunables} if tunables else {})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "found.json"
        command = [sys.executable, "-m", "bench.cpu.worker", "--out", str(file), *arguments]
        try:
            done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            return None, f"not done after {TIMEOUT} s"
        if done.returncode or not file.exists():
            return None, f"ended with {done.returncode}: {' '.join((done.stdout + done.stderr).split())[-400:]}"
        return json.loads(file.read_text()), ""


def _described(row: Row) -> dict[str, Any]:
    return {
        "row": row.name,
        "title": row.title,
        "mode": row.mode,
        "kind": row.kind,
        "targets": dict(row.targets),
        "memory_target": row.memory_target,
        "work": {"bytes": row.work.bytes, "matrix": row.work.matrix, "vector": row.work.vector},
    }


def _problems(chosen: Iterable[Row]) -> list[list[Row]]:
    return [list(own) for _, own in groupby(chosen, key=lambda row: row.problem)]


def _results(own: list[Row], tunables: str | None, threads: int, extra: list[str]) -> dict[str, dict[str, Any]]:
    names = ",".join(row.name for row in own)
    found, failed = _worker(tunables, threads, ["--rows", names, *extra])
    if found is None:
        return {row.name: {"row": row.name, "failed": failed} for row in own}
    return {entry["row"]: entry for entry in found}


def _limits(tunables: str | None, threads: int, common: list[str]) -> dict[str, Any]:
    """The environment and the limits of the machine, as a process with this allocator finds them."""
    about, failed = _worker(tunables, threads, ["--what", "limits", *common])
    if about is None:
        raise SystemExit(f"the limits of the machine could not be measured: {failed}")
    return about


def run(
    chosen: list[Row],
    *,
    threads: int,
    tiny: bool = False,
    factor: float = 1.0,
    providers: Sequence[str] = EVERY,
    partial: Path | None = None,
) -> list[dict[str, Any]]:
    """Both runs, as they go into cpu.json: environment, limits and rows of each allocator. `partial` has what is known
    so far, after every problem."""
    runs: list[dict[str, Any]] = []
    common = ["--factor", str(factor), *(["--tiny"] if tiny else [])]
    for tunables in (RECYCLED, None):
        own = chosen if tunables else [row for row in chosen if row.default]
        if not own:
            continue
        load = os.getloadavg()[0]
        about = _limits(tunables, threads, common)
        about["environment"]["load"] = load
        found: dict[str, dict[str, Any]] = {}
        for problem in _problems(own):
            start = time.perf_counter()
            extra = ["--providers", ",".join(p for p in providers if tunables or p in DEFAULT_PROVIDERS)]
            found |= _results(problem, tunables, threads, common + extra)
            if tunables and (measured := [row for row in problem if row.memory]):
                for name, entry in _results(measured, RETURNED, threads, ["--what", "memory", *common, *extra]).items():
                    found[name]["peak_bytes" if "peak_bytes" in entry else "memory_failed"] = entry.get(
                        "peak_bytes", entry.get("failed")
                    )
            taken = time.perf_counter() - start
            said = ", ".join(f"{row.mode} {_said(found[row.name])}" for row in problem)
            known = {**about, "rows": [_described(row) | found[row.name] for row in own if row.name in found]}
            if partial is not None:
                with atomic_path(partial) as temporary:
                    temporary.write_text(json.dumps([*runs, known]))
            print(f"{about['environment']['allocator']:9} {problem[0].problem:28} {taken:5.0f} s  {said}", flush=True)
        runs.append({**known, "limits": best(known["limits"], _limits(tunables, threads, common)["limits"])})
    return runs


def _said(entry: dict[str, Any]) -> str:
    if "failed" in entry:
        return f"FAILED ({entry['failed'][:200]})"
    ours = entry["providers"].get("lkops", {})
    eager = [entry["providers"][name]["milliseconds"] for name in EAGER if name in entry["providers"]]
    known = [ms for ms in eager if ms]
    if not ours.get("milliseconds") or not known:
        return f"FAILED ({ours.get('reason') or 'eager has no time'})"
    return f"{min(known) / ours['milliseconds']:.2f}x"


def write(runs: list[dict[str, Any]], out: Path) -> str:
    """cpu.json, cpu.md and the plots; returns the text of cpu.md."""
    from bench.cpu.report import markdown, plots

    out.mkdir(parents=True, exist_ok=True)
    drawn = plots(runs)
    text = markdown(runs, list(drawn))
    for name, content in {"cpu.json": json.dumps(runs, indent=1) + "\n", "cpu.md": text}.items():
        with atomic_path(out / name) as temporary:
            temporary.write_text(content)
    for name, figure in drawn.items():
        with atomic_path(out / name) as temporary:
            figure.savefig(temporary, dpi=125)
    return text


def main() -> None:
    from bench.cpu.report import markdown

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", default="", help="only rows whose name holds one of these, separated by commas")
    parser.add_argument("--out", type=Path, help="folder of the results; bench/results for a whole run")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of every provider")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, for tests; writes nothing without --out")
    parser.add_argument("--factor", type=float, default=1.0, help="on the seconds of timing of every row")
    parser.add_argument("--providers", default="", help=f"only these, separated by commas, of {', '.join(EVERY)}")
    parser.add_argument(
        "--report", action="store_true", help="write cpu.md and the plots again, from cpu.json of --out"
    )
    parser.add_argument("--list", action="store_true", help="print the names of the rows")
    arguments = parser.parse_args()
    if arguments.report:
        folder = arguments.out or RESULTS
        print(write(json.loads((folder / "cpu.json").read_text()), folder))
        return
    parts = arguments.k.split(",")
    chosen = [row for row in rows(tiny=arguments.quick) if any(part.strip() in row.name for part in parts)]
    if arguments.list:
        print("\n".join(f"{row.name:40} {row.title}" for row in chosen))
        return
    if not chosen:
        raise SystemExit(f"no row's name holds {arguments.k!r}; --list prints them")
    if arguments.threads < 1 or not arguments.factor > 0:
        raise SystemExit("--threads must be 1 or more and --factor above 0")
    providers = arguments.providers.split(",") if arguments.providers else EVERY
    if unknown := [name for name in providers if name not in EVERY]:
        raise SystemExit(f"--providers must be of {', '.join(EVERY)}; got {', '.join(unknown)}")
    factor = 0.01 if arguments.quick else arguments.factor
    whole = not (arguments.k or arguments.providers or arguments.quick) and factor >= 0.5
    out: Path | None = arguments.out or (RESULTS if whole else None)
    partial = None
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        partial = out / "cpu.partial.json"
    start = time.perf_counter()
    runs = run(
        chosen, threads=arguments.threads, tiny=arguments.quick, factor=factor, providers=providers, partial=partial
    )
    print(write(runs, out) if out else markdown(runs, []))
    if partial is not None:
        partial.unlink()
    print(f"{(time.perf_counter() - start) / 60:.1f} minutes")
    if out is None:
        print("Nothing was written: this was a part of the suite (--out FOLDER writes it).")
    if any("failed" in row for found in runs for row in found["rows"]):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
