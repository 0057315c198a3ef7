"""Ratios, targets and tables of the GPU gate's results."""

from typing import Any

from bench.gpu import cascade as gpu_cascade
from bench.gpu.rows import Row
from bench.without_gpu.work import Rates, Work

NOTE = (
    "Medians of CUDA-event times after warm-up; inputs of operators go round through more sets than the cache holds, "
    "where one would fit in it. Eager is lkcanet/benchmark/eager.py in the faster of contiguous and channels_last; "
    "compiled is torch.compile of the same, the faster of its default and, where tried, max-autotune "
    "(without CUDA graphs). "
    "float32 has tf32 off. bfloat16 is autocast with activations in bfloat16 and float32 parameters, cast anew in "
    "each call. Outputs and gradients were checked against float64 first: at most twice eager's error (whole "
    "networks: three times, as norms) and four roundings. Bandwidth: bytes that must move (each pass reads its inputs "
    "and writes its results once) over the time and the measured copy bandwidth; of the limit: the longer of these "
    "bytes at that bandwidth and the products at the measured rate, over the time (bench/without_gpu/work.py)."
)


def milliseconds(row: Row, result: dict[str, Any], provider: str, *, graph: bool | None = None) -> float | None:
    """The time that counts for this row: of graphs or of calls; "eager" and "compile" mean the faster of their kind."""
    key = "graph_ms" if (row.graph if graph is None else graph) else "ms"
    providers = result["providers"]
    kinds = {"eager": ("eager", "eager channels_last"), "compile": ("compile", "compile max-autotune")}
    times = [providers[name][key] for name in kinds.get(provider, (provider,)) if key in providers.get(name, {})]
    return min(times) if times else None


def judge(row: Row, result: dict[str, Any], work: Work, limits: Rates | None) -> dict[str, Any]:
    """Ratios, fractions of the limits, and for every target what was reached and whether that is enough.

    Where there are no graphs (dry runs), plain times take their place.
    """
    graph = row.graph and milliseconds(row, result, "lkops") is not None
    ours = milliseconds(row, result, "lkops", graph=graph)
    reached: dict[str, float | None] = dict.fromkeys(("eager", "compile", "bandwidth", "limit"))
    plain: dict[str, float | None] = {}
    if ours is not None:
        if limits is not None:
            moved, products = limits.seconds(work, result["dtype"])
            reached |= {"bandwidth": 1e3 * moved / ours, "limit": 1e3 * max(moved, products) / ours}
        for other in ("eager", "compile"):
            theirs = milliseconds(row, result, other, graph=graph)
            reached[other] = theirs / ours if theirs else None
            calls = [milliseconds(row, result, name, graph=False) for name in (other, "lkops")]
            plain[other] = calls[0] / calls[1] if calls[0] and calls[1] else None
    targets = {
        name: {"target": t, "reached": reached[name], "met": (reached[name] or 0) >= t}
        for name, t in row.targets.items()
    }
    return {"ms": ours, "graph": graph, **reached, "without_graphs": plain if row.graph else None, "targets": targets}


def _number(value: float | None, form: str = "{:.3g}") -> str:
    return "-" if value is None else form.format(value)


def _wrong(result: dict[str, Any]) -> str:
    """Why there is no time of lkops; empty where there is one."""
    return str(result["providers"].get("lkops", {"error": result.get("incomplete", "")}).get("error", ""))


def _elsewhere(results: dict[str, Any], result: dict[str, Any]) -> str:
    """Why a row of a GPU does not count although its outputs are right; empty where it ran on Triton, or on CUDA
    kernels that have beaten Triton's."""
    found = result.get("backends", ["triton"])
    return (
        ""
        if results["dry_run"] or (found and {*found} <= {"triton", "cuda"})
        else f"ran on {', '.join(found) or 'nothing'}, not on triton"
    )


def _no_graph(result: dict[str, Any]) -> str:
    return str(result["providers"].get("lkops", {}).get("graph_error", ""))


def bench_table(rows: dict[str, Row], results: list[dict[str, Any]]) -> list[str]:
    """Markdown: a line a row and dtype."""
    lines = [
        "| row | dtype | ran on | launches | lkops (ms) | p20 to p80 | eager (ms) | compiled (ms) | to eager "
        "| to compiled | bandwidth | of the limit | peak memory, lkops / eager (MB) | targets |",
        "|---|---|---|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    order = list(rows)
    for result in sorted(results, key=lambda result: order.index(result["row"])):
        row, judged = rows[result["row"]], result.get("judged")
        title = row.title + (" (CUDA graphs)" if judged and judged["graph"] else "")
        if not judged or judged["ms"] is None:
            lines.append(f"| {title} | {result['dtype']} | no time: {_wrong(result)} |" + " |" * 11)
            continue
        own, eager = (result["providers"].get(name, {}) for name in ("lkops", "eager"))
        prefix = "graph_" if judged["graph"] else ""
        memory = [p.get("peak_bytes") for p in (own, eager)]
        cells = [
            title,
            result["dtype"],
            ", ".join(result["backends"]),
            str(result["launches"]),
            _number(judged["ms"]),
            f"{_number(own[f'{prefix}p20_ms'])} to {_number(own[f'{prefix}p80_ms'])}",
            *(_number(milliseconds(row, result, name, graph=judged["graph"])) for name in ("eager", "compile")),
            *(_number(judged[name], "{:.2f}x") for name in ("eager", "compile")),
            *(_number(judged[name], "{:.0%}") for name in ("bandwidth", "limit")),
            " / ".join(_number(m and m / 1e6) for m in memory),
            "; ".join(f"{name} {_number(t['target'])}: {_met(t)}" for name, t in judged["targets"].items()),
        ]
        lines.append("| " + " | ".join(cells) + " |")
        if (calls := judged["without_graphs"]) and judged["graph"]:
            ratios = ", ".join(f"{name} {_number(ratio, '{:.2f}x')}" for name, ratio in calls.items())
            ours = milliseconds(row, result, "lkops", graph=False)
            lines.append(f"| ... without graphs | {result['dtype']} | | | {_number(ours)} | | {ratios} |" + " |" * 7)
    return lines


def _commit(environment: dict[str, Any]) -> str:
    commit = str(environment["commit"])
    return commit if commit == "unknown" else commit[:12] + ("" if environment["clean"] else " with changes")


def _met(target: dict[str, Any]) -> str:
    return "met" if target["met"] else f"missed ({_number(target['reached'])})"


def markdown(results: dict[str, Any], rows: dict[str, Row]) -> str:
    """The report."""
    e = results["environment"]
    head = "**Dry run on a CPU: nothing here is a measurement.** " if results["dry_run"] else ""
    lines = [
        f"{head}{results['device']}, driver {e['driver']}, CUDA {e['cuda']}, torch {e['torch']}, triton {e['triton']}, "
        f"commit {_commit(e)}, {results['date']}.",
        "",
    ]
    if bench := results.get("bench"):
        if limits := bench.get("limits"):
            rates = ", ".join(f"{name} {rate / 1e12:.3g}" for name, rate in limits["operations"].items())
            lines += [f"Measured limits: copy {limits['bandwidth'] / 1e12:.3g} TB/s; products, TFLOP/s: {rates}.", ""]
        if "limits_error" in bench:
            lines += [f"Limits not measured: {bench['limits_error']}.", ""]
        if "block" in bench:
            kernels = ", ".join(f"{name} {count}" for name, count in bench["block"].items()) or "none"
            lines += [f"Triton launches of a block at batch 1 of 16x16, inference: {kernels}.", ""]
        lines += [*bench_table(rows, bench["rows"]), "", NOTE, ""]
    if cascade := results.get("cascade"):
        lines += [gpu_cascade.table(cascade), ""]
    lines += verdicts(results, rows)
    return "\n".join(lines) + "\n"


def failures(results: dict[str, Any]) -> list[str]:
    """What makes the gate fail: a build, a test, a sanitizer's finding, a wrong or missing output. Not a slow row, nor
    one that had no time left."""
    parts = {piece: results[piece] for piece in ("build", "tests") if piece in results}
    found = [f"{name}: {part['reason']}" for name, part in parts.items() if not part["ok"] and not part.get("late")]
    found += [f"{run['tool']}: {run['reason']}" for run in results.get("sanitize", []) if run["status"] == "failed"]
    for row in results.get("cascade", {}).get("rows", []):
        wrong = [f"{name}: {row[key]}" for name in ("cuda", "triton") if (key := f"{name}_wrong") in row]
        found += [f"{row['what']}, {row['dtype']}, {row['shape']}: {'; '.join(wrong)}"] if wrong else []
    for result in results.get("bench", {}).get("rows", []):
        providers = result["providers"]
        triton = str(providers.get("lkops triton", {}).get("error", ""))
        late = result.get("late") and "lkops" not in providers
        error = "" if late else _wrong(result) or _elsewhere(results, result)
        error = error or ("" if "can't run" in triton else triton) or _no_graph(result)
        if error:
            found.append(f"{result['row']}, {result['dtype']}: {error}")
    return found


def unfinished(results: dict[str, Any]) -> list[str]:
    """What was begun or planned, and was not done to its end; what failed besides is in `failures`."""
    found = ["tests"] if results.get("tests", {}).get("late") else []
    found += ["cuda against triton"] if results.get("cascade", {}).get("late") else []
    found += ["limits"] if "limits_error" in results.get("bench", {}) else []
    rows = results.get("bench", {}).get("rows", [])
    return found + [f"{result['row']}, {result['dtype']}" for result in rows if "incomplete" in result]


def verdicts(results: dict[str, Any], rows: dict[str, Row]) -> list[str]:
    """The short table that is printed last."""
    lines = ["| what | verdict |", "|---|---|"]
    parts = {piece: results[piece] for piece in ("build", "tests") if piece in results}
    for piece, part in parts.items():
        word = "ok" if part["ok"] else "INCOMPLETE" if part.get("late") else "FAILED"
        lines.append(f"| {piece} | {word}: {part['reason']} |")
    lines += [f"| {run['tool']} | {run['status']}: {run['reason']} |" for run in results.get("sanitize", [])]
    for result in results.get("bench", {}).get("rows", []):
        judged, title = result.get("judged"), f"{rows[result['row']].title} {result['dtype']}"
        if not judged or judged["ms"] is None:
            lines.append(f"| {title} | NO TIME: {_wrong(result)} |")
        elif results["dry_run"]:
            lines.append(f"| {title} | correct |")
        else:
            targets = [
                f"{name} {_number(t['reached'])} of {_number(t['target'])}" for name, t in judged["targets"].items()
            ]
            met = "targets met" if all(t["met"] for t in judged["targets"].values()) else "targets missed"
            rest = f"; incomplete: {result['incomplete']}" if "incomplete" in result else ""
            rest += f"; no graph: {_no_graph(result)}" if _no_graph(result) else ""
            first = _elsewhere(results, result).upper() or "correct"
            lines.append(f"| {title} | {first}; {met}: {', '.join(targets)}{rest} |")
    found = failures(results)
    lines += ["", f"FAILED: {'; '.join(found)}" if found else "No check failed."]
    if missing := unfinished(results):
        lines.append(f"INCOMPLETE: {'; '.join(missing)}")
    if results["dry_run"]:
        lines.append("Dry run: times are of an interpreter on a CPU and mean nothing.")
    return lines
