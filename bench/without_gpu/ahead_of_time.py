"""Compiles every launch of the Triton kernels for GPUs that are not here, and keeps what became of it as a report.

    python -m bench.without_gpu.ahead_of_time             compile what is new, write the report, print the problems
    python -m bench.without_gpu.ahead_of_time --check     write nothing; fail if the report is not that of this source
    python -m bench.without_gpu.ahead_of_time --sample 8  also compile eight rows of the report again and compare

The launches are those of the operators' benchmark examples, so every entry of `lkops/triton/table.json` that those
reach is compiled; one that none reaches is a problem. A row is kept as long as its key stands: a hash of the kernel's
code, of what the compiler is told and of Triton's version. Not for a process with TRITON_INTERPRET.
"""

import argparse
import json
import multiprocessing
import random
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import triton

import lkops.triton
from bench import launchers
from bench.without_gpu.compiled import code_of, describe, facts, key, name_of
from lkcanet.common.files import atomic_path
from lkops.triton import Choice, Launch

REPORT = Path(__file__).parents[1] / "results" / "triton_ahead_of_time.json"
# target -> bytes of shared memory that one program may have (CUDA C programming guide, "technical specifications")
TARGETS = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10, 120: 99 << 10}
TENSOR_MEMORY = 512  # columns, sm_100
# kernels whose half or tf32 products may stay off tensor cores, and why
DELIBERATE: Mapping[str, str] = {
    "bicubic_upsample.backward_kernel": "interpolation weights keep their float32, as in eager; "
    "memory binds it, not products"
}

Row = dict[str, Any]


@dataclass
class Reached:
    """What the examples reach: launches that differ for the compiler, by key, and entries of the table."""

    launches: dict[str, Launch] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)  # without facts
    entries: set[tuple[str, str, int]] = field(default_factory=set)

    def add(self, launch: Launch, kind: str) -> None:
        said = describe(launch)
        name = key(launch, said)
        self.launches.setdefault(name, launch)
        row = self.rows.setdefault(name, {"key": name, "kernel": name_of(launch.kernel), "kinds": [], **said})
        if kind not in row["kinds"]:
            row["kinds"].append(kind)

    def choose(self, choice: Choice) -> None:
        self.entries.add((choice.kernel, choice.kind, choice.entry))

    def missed(self) -> list[str]:
        """Entries of the table that no shape reaches."""
        return [
            f"{kernel} {kind} up_to {entry['up_to']}: no benchmark example reaches this entry of the table"
            for kernel, kinds in lkops.triton.table().items()
            for kind, entries in kinds.items()
            for i, entry in enumerate(entries)
            if (kernel, kind, i) not in self.entries
        ]


def reach(operators: Sequence[str] = ()) -> Reached:
    """All launches of all examples, kinds and sets of gradients, of these operators or of all.

    Both half precisions have the same entries of the table, so float16 counts only where it may matter to the compiler:
    in kernels with products, which bfloat16 could reach tensor cores in and float16 not.
    """
    reached = Reached()
    for call, kind in launchers.runs(operators):
        launches: list[Launch] = []
        with launchers.precision(kind), lkops.triton.watch(launches.append, choices=reached.choose, run=False):
            kernels = launchers.kernels(call, kind)
            kernels.forward()
            for needs in dict.fromkeys((tuple(kernels.given), tuple(kernels.trained))):
                kernels.backward(needs)
        for launch in launches:
            if kind != "float16" or "dot(" in code_of(launch.kernel):
                reached.add(launch, kind)
    return reached


def problems(row: Row) -> list[str]:
    """Why a row can't stay: it spills, does not fit its target, or leaves tensor cores idle."""
    if "error" in row:
        return [f"does not compile: {row['error']}"]
    found: list[str] = []
    for arch, limit in TARGETS.items():
        got, says = row[f"sm_{arch}"], found.append
        if got.get("stack") or got.get("spills"):
            says(f"sm_{arch}: {got.get('stack', 0)} bytes of stack, {got.get('spills', 0)} spilling instructions")
        if got.get("shared", 0) > limit:
            says(f"sm_{arch}: {got['shared']} bytes of shared memory, {limit} are there")
        if got.get("tensor_memory", 0) > TENSOR_MEMORY:
            says(f"sm_{arch}: {got['tensor_memory']} columns of tensor memory, {TENSOR_MEMORY} are there")
        if row["kernel"] not in DELIBERATE:
            quick = [kind for kind in got.get("products", ()) if kind != "f32"]
            idle = [kind for kind in got.get("without", ()) if kind != "f32"]
            if idle or (quick and "matrix" not in got):
                says(f"sm_{arch}: a product in {', '.join(idle or quick)} does not run on tensor cores")
            if "f32" in got.get("products", ()) and "float32" not in row["kinds"]:
                says(f"sm_{arch}: a product of {', '.join(row['kinds'])} tensors runs in full float32")
    return found


def compile_row(launch: Launch) -> Row:
    """Facts by target, without the zeros."""
    try:
        return {f"sm_{arch}": {k: v for k, v in facts(launch, arch).items() if v} for arch in TARGETS}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {str(error).strip()[:300]}"}


_pending: list[Launch] = []  # a launch can't be sent to another process: they are forked and take it from here


def _compile_pending(i: int) -> Row:
    return compile_row(_pending[i])


def compile_all(launches: Sequence[Launch], processes: int) -> Iterator[Row]:
    """`compile_row` of each, in as many processes."""
    _pending[:] = launches
    if _pending:
        with multiprocessing.get_context("fork").Pool(min(processes, len(_pending))) as pool:
            yield from pool.imap(_compile_pending, range(len(_pending)))


def read(path: Path = REPORT) -> dict[str, Row]:
    """Rows of a report, by key. One that failed to compile is never among them: it is tried again each time."""
    return {row["key"]: row for row in json.loads(path.read_text())["rows"]} if path.exists() else {}


def as_json(rows: Iterable[Row]) -> str:
    """One line a row, in an order that does not depend on the keys, so that a change of code changes few lines."""
    order = ("kernel", "kinds", "arguments", "constants", "options")
    lines = [json.dumps(row, separators=(",", ":")) for row in sorted(rows, key=lambda r: [r[k] for k in order])]
    return f'{{"triton": "{triton.__version__}", "rows": [\n' + ",\n".join(lines) + "\n]}\n"


def _kind(row: Row) -> str:
    kinds = {"float32": "float32", "tf32": "tf32"}
    classes = {kinds.get(kind, "half") for kind in row["kinds"]}
    if classes == {"float32", "tf32"}:  # it has no products
        return "float32"
    return classes.pop() if len(classes) == 1 else "all"


def _most(rows: Sequence[Row], what: str) -> list[int]:
    return [max(row[f"sm_{arch}"].get(what, 0) for row in rows) for arch in TARGETS]


def _union(rows: Sequence[Row], what: str) -> str:
    found = {name for row in rows for arch in TARGETS for name in row[f"sm_{arch}"].get(what, ())}
    return " ".join(sorted(found, key=lambda name: (-int(name), "") if name.isdigit() else (0, name))) or "-"


def table(rows: Sequence[Row]) -> str:
    """Markdown: for each kernel and class of dtypes the worst of its launches, then the worst launches of all."""
    archs = " / ".join(str(arch) for arch in TARGETS)
    head = ["kernel", "tensors", "launches", f"registers, sm_{archs}", "shared memory, bytes", "spills"]
    head += ["loads, bits", "stores, bits", "products", "matrix instructions"]
    lines = ["| " + " | ".join(head) + " |", "|---|---|" + "---:|" * 4 + "---|" * 4]
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["kernel"], _kind(row)), []).append(row)
    for (kernel, kind), same in sorted(groups.items()):
        cells = [kernel, kind, str(len(same)), " / ".join(map(str, _most(same, "registers")))]
        cells += [" / ".join(map(str, _most(same, "shared"))), str(max(_most(same, "spills")))]
        cells += [_union(same, what) for what in ("loads", "stores", "products", "matrix")]
        lines.append("| " + " | ".join(cells) + " |")
    for what in ("registers", "shared"):
        # of each kernel the worst launch only
        worst: dict[str, Row] = {}
        for row in sorted(rows, key=lambda r: (-max(_most([r], what)), r["kernel"], r["constants"], r["arguments"])):
            if max(_most([row], what)):
                worst.setdefault(row["kernel"], row)
        unit = "bytes of shared memory" if what == "shared" else what
        lines += ["", f"Most {unit} (sm_{archs}):", ""]
        for kernel, row in list(worst.items())[:8]:
            numbers = " / ".join(map(str, _most([row], what)))
            lines.append(f"- {numbers}: {kernel}, {', '.join(row['kinds'])}, {row['constants']} {row['options']}")
    return "\n".join(lines)


def as_text(rows: Sequence[Row]) -> str:
    """The report to read."""
    return (
        f"What Triton {triton.__version__} and its ptxas make of the {len(rows)} launches of the operators' "
        f"benchmark examples, for {', '.join(f'sm_{arch}' for arch in TARGETS)}; nothing was run. "
        "`python -m bench.without_gpu.ahead_of_time` writes this. "
        "Each line gives the worst of a kernel's launches, and all widths of global loads and stores that "
        "occur in them: odd shapes, which can't be aligned, are among them.\n\n" + table(rows) + "\n"
    )


def write(rows: Iterable[Row], path: Path) -> None:
    """The report and, beside it, its table; without what failed to compile."""
    rows = sorted_rows(row for row in rows if "error" not in row)
    for name, text in ((path, as_json(rows)), (path.with_suffix(".md"), as_text(rows))):
        with atomic_path(name) as temporary:
            temporary.write_text(text)


def stale(kept: Mapping[str, Row], reached: Reached, path: Path = REPORT) -> list[str]:
    """How a report is not that of this source."""
    missing, gone = reached.rows.keys() - kept.keys(), kept.keys() - reached.rows.keys()
    found = []
    if missing or gone:
        kernels = sorted({reached.rows[k]["kernel"] for k in missing} | {kept[k]["kernel"] for k in gone})
        found.append(f"{len(missing)} launches are missing and {len(gone)} are of other code: {', '.join(kernels)}")
    elif any({**kept[k], **row} != kept[k] for k, row in reached.rows.items()):
        found.append("rows name other launches than their keys")
    elif not (md := path.with_suffix(".md")).exists() or md.read_text() != as_text(sorted_rows(kept.values())):
        found.append(f"{path.with_suffix('.md').name} is not what the rows say")
    return found


def sorted_rows(rows: Iterable[Row]) -> list[Row]:
    """In the order of the file."""
    return list(json.loads(as_json(rows))["rows"])


def differing(kept: Mapping[str, Row], reached: Reached, count: int, seed: str, processes: int) -> list[str]:
    """Compile some rows of a report again: which are not what it says."""
    names = sorted(kept.keys() & reached.rows.keys())
    chosen = random.Random(seed).sample(names, min(count, len(names)))
    found = []
    for name, again in zip(chosen, compile_all([reached.launches[n] for n in chosen], processes), strict=True):
        row = {**reached.rows[name], **again}
        if row != kept[name]:
            found.append(f"{row['kernel']} {row['constants']}: compiled again it differs from the report")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, fail on a report of other code")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="compile N rows of the report again")
    parser.add_argument("--seed", default="", help="chooses the sample; default: what the report holds")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=REPORT, help="the report; the table is beside it")
    arguments = parser.parse_args()
    if triton.knobs.runtime.interpret:
        sys.exit("TRITON_INTERPRET is set: nothing can be compiled")
    reached, kept, out = reach(), read(arguments.out), arguments.out
    found = reached.missed()
    fresh = arguments.sample and differing(
        kept, reached, arguments.sample, arguments.seed or "".join(sorted(kept)), arguments.processes
    )
    found += [f"{out.name}: {reason}" for reason in fresh or ()]
    if arguments.check:
        found += [f"{out.name}: {reason}; run `make ahead-of-time`" for reason in stale(kept, reached, out)]
    missing = [name for name in reached.rows if name not in kept]
    rows = {name: {**kept.get(name, {}), **row} for name, row in reached.rows.items()}
    again = compile_all([reached.launches[name] for name in missing], arguments.processes)
    for i, (name, row) in enumerate(zip(missing, again, strict=True), 1):
        rows[name].update(row)
        if i % 50 == 0:
            print(f"compiled {i} of {len(missing)}", flush=True)
            if not arguments.check:  # what is done is kept if this is stopped
                write((row for n, row in rows.items() if n not in missing[i:]), out)
    for row in rows.values():
        found += [f"{row['kernel']} ({row['constants']}): {reason}" for reason in problems(row)]
    if not arguments.check:
        write(rows.values(), out)
        print(table([row for row in rows.values() if "error" not in row]))
    print(f"{len(rows)} launches, {len(missing)} compiled now, {len(found)} problems", *found, sep="\n")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
