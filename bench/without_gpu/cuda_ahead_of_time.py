"""Compiles every csrc/*/cuda.cu for GPUs that are not here, and keeps what ptxas says of the kernels as a report.

    python -m bench.without_gpu.cuda_ahead_of_time              compile what changed, write the report, print its table,
    problems python -m bench.without_gpu.cuda_ahead_of_time --check      write nothing; fail if the report is not that
    of this source

A file's rows are kept as long as their key stands: a hash of the file, of all that it includes from csrc, of the flags
and of nvcc's version. Nothing is run on a GPU, and none is needed. Shared memory of these kernels is chosen at launch:
a C++ compiler runs the launchers' plans for LKCA-Net's convs.
"""

import argparse
import concurrent.futures
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.without_gpu import cuda_report_notes
from lkcanet.common.files import atomic_path

ROOT = Path(__file__).parents[2]
REPORT = Path(__file__).parents[1] / "results" / "cuda_ahead_of_time.json"
TARGETS = (80, 90, 100)
FLAGS = ("-std=c++17", "-Icsrc", "-Xptxas=-v", "-cubin")
PLANS = r"""
#include <cstdio>
#include <initializer_list>
#include "large_kernel_channel_attention/cuda.cuh"
using namespace lkops;
int main() {
  for (int64_t batch : {1, 32})
    for (int64_t side : {16, 32, 64, 96, 128}) {
      const CascadeProblem s{batch, 128, side, side, 5, 5, 5, 7, 7, 7};
      with_both(s, [&](const auto& a, const auto& b) {
        using A = std::decay_t<decltype(a)>;
        using B = std::decay_t<decltype(b)>;
        ForwardBody<float, A, B> forward{{}, {s, a, b}};
        BackwardBody<float, A, B> backward{{}, {}, {}, {s, a, b}};
        const long long first = forward.plan(), second = backward.plan();
        std::printf("%d %d %lld %d %lld %d\n", int(batch), int(side), 4 * first, forward.s.together, 4 * second,
                    backward.s.together);
      });
    }
}
"""

Row = dict[str, Any]


def sources() -> list[Path]:
    """The CUDA files, relative to the repository."""
    return sorted(path.relative_to(ROOT) for path in (ROOT / "csrc").glob("*/cuda.cu"))


def compiler() -> str | None:
    """nvcc of CUDA_HOME, else the one on the path; None where there is none."""
    home = os.environ.get("CUDA_HOME")
    return shutil.which("nvcc", path=str(Path(home) / "bin") if home else None)


@functools.cache
def nvcc_version() -> str:
    """Such as "13.0"; empty where there is no nvcc."""
    if (nvcc := compiler()) is None:
        return ""
    said = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"release (\S+),", said)
    return found[1] if found else "unknown"


def inputs(source: Path) -> list[Path]:
    """A file and all that it includes from csrc, relative to the repository."""
    found: list[Path] = []
    todo = [source]
    while todo:
        path = todo.pop()
        if path not in found:
            found.append(path)
            names = re.findall(r'^#include "(.+)"', (ROOT / path).read_text(), re.MULTILINE)
            todo += [Path("csrc") / name for name in names]
    return sorted(found)


def key(source: Path, version: str) -> str:
    """Of what a file's rows depend on."""
    content = hashlib.sha256(json.dumps([version, FLAGS, TARGETS]).encode())
    for path in inputs(source):
        content.update(str(path).encode() + b"\0" + (ROOT / path).read_bytes())
    return content.hexdigest()[:16]


def kernels(output: str) -> dict[str, dict[str, int]]:
    """What ptxas -v says: facts by the kernel's mangled name."""
    found: dict[str, dict[str, int]] = {}
    for part in re.split(r"Compiling entry function '", output)[1:]:
        name = part.partition("'")[0]
        numbers = {
            "stack": r"(\d+) bytes stack frame",
            "spill_stores": r"(\d+) bytes spill stores",
            "spill_loads": r"(\d+) bytes spill loads",
            "registers": r"Used (\d+) registers",
            "shared": r"(\d+) bytes smem",
        }
        matches = {fact: re.search(pattern, part) for fact, pattern in numbers.items()}
        if matches["registers"] is None or matches["stack"] is None:
            raise ValueError(f"ptxas says nothing of {name}: {part[:300]}")
        found[name] = {fact: int(match[1]) if match else 0 for fact, match in matches.items()}
    return found


def readable(names: Sequence[str]) -> list[str]:
    """Kernels' names in words: run<Convolve<float, Taps<5, 5, 4, false>>>."""
    done = subprocess.run(["c++filt", *names], capture_output=True, text=True, check=True)
    found = []
    for line in done.stdout.splitlines():
        match = re.match(r"void lkops::run(?:_phases)?<(.*)>\(", line)
        found.append((match[1] if match else line).replace("lkops::", "").replace(" >", ">").strip())
    return found


def compile_for(source: Path, arch: int) -> dict[str, dict[str, int]]:
    """Facts of one file's kernels on one GPU, by their mangled names."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(compiler()), *FLAGS, f"-arch=sm_{arch}", str(source), "-o", str(Path(folder) / "out")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    return kernels(done.stdout + done.stderr)


def compile_all(files: Sequence[Path], processes: int) -> list[Row]:
    """A row for each kernel of these files."""
    jobs = [(source, arch) for source in files for arch in TARGETS]
    with concurrent.futures.ThreadPoolExecutor(processes) as pool:
        facts = dict(zip(jobs, pool.map(lambda job: compile_for(*job), jobs), strict=True))
    rows: list[Row] = []
    for source in files:
        names = sorted(facts[source, TARGETS[0]])
        for mangled, name in zip(names, readable(names), strict=True):
            row: Row = {"file": str(source), "key": key(source, nvcc_version()), "kernel": name}
            rows.append(row | {f"sm_{arch}": facts[source, arch][mangled] for arch in TARGETS})
    return rows


def plans() -> list[dict[str, int]]:
    """Bytes of shared memory that a block of the cascade takes, and planes of a block, by batch and side of planes."""
    names = ("batch", "side", "forward", "forward_planes", "backward", "backward_planes")
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder) / "plans")
        command = [*os.environ.get("CXX", "c++").split(), "-std=c++17", "-Icsrc", "-x", "c++", "-", "-o", program]
        subprocess.run(command, cwd=ROOT, input=PLANS, text=True, check=True)
        said = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    return [dict(zip(names, map(int, line.split()), strict=True)) for line in said.splitlines()]


def problems(row: Row) -> list[str]:
    """Why a kernel can't stay: registers that lie in memory."""
    return [
        f"{row['kernel']}, sm_{arch}: {got['stack']} bytes of stack, {got['spill_stores']} spilled, "
        f"{got['spill_loads']} read back"
        for arch in TARGETS
        if (got := row[f"sm_{arch}"])["stack"] or got["spill_stores"] or got["spill_loads"]
    ]


def as_text(report: dict[str, Any]) -> str:
    """The report to read."""
    archs = " / ".join(map(str, TARGETS))
    lines = [
        f"What nvcc {report['nvcc']} makes of the CUDA kernels in csrc/*/cuda.cu; nothing was run. "
        "`python -m bench.without_gpu.cuda_ahead_of_time` writes this. Taps<side, dilation, pixels of a thread, whole "
        "columns> are kernels known when this is compiled, General is any other.",
        "",
        f"| kernel | registers, sm_{archs} | spilled bytes | stack |",
        "|---|---:|---:|---:|",
    ]
    for row in report["rows"]:
        got = [row[f"sm_{arch}"] for arch in TARGETS]
        numbers = " / ".join(str(facts["registers"]) for facts in got)
        spilled = max(facts["spill_stores"] + facts["spill_loads"] for facts in got)
        lines.append(f"| {row['kernel']} | {numbers} | {spilled} | {max(facts['stack'] for facts in got)} |")
    lines += [
        "",
        "Shared memory of a block of the cascade (5x5 dilated by 5, 7x7 by 7, 128 channels, float32), as launched, "
        "in bytes, and planes of a block. A GPU that has less (163 KiB on sm_80, 227 KiB on sm_90 and sm_100, 99 KiB "
        "on sm_89 and sm_120) takes the convs one by one, in tiles:",
        "",
        "| batch | plane | forward | planes | backward | planes |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for plan in report["shared"]:
        side, last = plan["side"], [plan[k] for k in ("forward", "forward_planes", "backward", "backward_planes")]
        lines.append(f"| {plan['batch']} | {side}x{side} | {' | '.join(map(str, last))} |")
    lines += ["", *cuda_report_notes.block_text(report["block"]), "", cuda_report_notes.LEFT_TO_TRITON.rstrip()]
    return "\n".join(lines) + "\n"


def as_json(report: dict[str, Any]) -> str:
    """One line a kernel."""
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in report["rows"])
    shared = json.dumps(report["shared"], separators=(",", ":"))
    block = json.dumps(report["block"], separators=(",", ":"))
    return f'{{"nvcc": "{report["nvcc"]}", "shared": {shared}, "block": {block}, "rows": [\n{lines}\n]}}\n'


def read(path: Path = REPORT) -> dict[str, Any]:
    """A report; an empty one where there is none."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"nvcc": "", "rows": []}
    return {"shared": [], "block": []} | found


def changed(report: dict[str, Any]) -> list[Path]:
    """Files that the report has no rows of, or rows of other code; told without nvcc."""
    kept = {row["file"]: row["key"] for row in report["rows"]}
    return [source for source in sources() if kept.get(str(source)) != key(source, report["nvcc"])]


def stale(report: dict[str, Any], path: Path = REPORT) -> list[str]:
    """How a report is not that of this source."""
    found = [f"{path.name}: {source} has changed since" for source in changed(report)]
    gone = {row["file"] for row in report["rows"]} - {str(source) for source in sources()}
    found += [f"{path.name}: {name} is no more" for name in sorted(gone)]
    text = path.with_suffix(".md")
    if not found and (not text.exists() or text.read_text() != as_text(report)):
        found.append(f"{text.name} is not what the rows say")
    return found


def renewed(report: dict[str, Any], processes: int) -> dict[str, Any]:
    """The report of this source by the nvcc that is here: what did not change is kept."""
    todo = changed(report) if report["nvcc"] == nvcc_version() else sources()
    kept = [row for row in report["rows"] if row["file"] in {str(s) for s in sources()} - {str(s) for s in todo}]
    rows = sorted([*kept, *compile_all(todo, processes)], key=lambda row: (row["file"], row["kernel"]))
    shared = plans() if todo or not report.get("shared") else report["shared"]
    block = cuda_report_notes.block_plans() if todo or not report.get("block") else report["block"]
    return {"nvcc": nvcc_version(), "shared": shared, "block": block, "rows": rows}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, fail on a report of other code")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=REPORT, help="the report; the table is beside it")
    a = parser.parse_args(argv)
    report = read(a.out)
    found = [f"{reason}; run `make ahead-of-time`" for reason in stale(report, a.out)] if a.check else []
    if compiler() is None:
        print("no nvcc on the path or in CUDA_HOME: nothing is compiled", file=sys.stderr)
        if not a.check:
            return 2
    else:
        report = renewed(report, a.processes)
    found += [reason for row in report["rows"] for reason in problems(row)]
    if not a.check:
        for name, text in ((a.out, as_json(report)), (a.out.with_suffix(".md"), as_text(report))):
            with atomic_path(name) as temporary:
                temporary.write_text(text)
        print(as_text(report))
    print(f"{len(report['rows'])} kernels, {len(found)} problems", *found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
