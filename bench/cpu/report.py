"""Tables and plots of bench/results/cpu.json: targets, rows that may not be slower, everything that was timed."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.cpu import never_slower
from bench.cpu.limits import limit_seconds
from bench.cpu.rows import EAGER
from bench.environment import said
from bench.without_gpu.work import Work

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Entry = Mapping[str, Any]
NAMES = {
    "eager": "eager",
    "compile": "torch.compile",
    "openvino": "OpenVINO f32",
    "openvino bf16": "OpenVINO bf16",
    "onnxruntime": "onnxruntime",
    "ncnn": "ncnn",
    "lkops": "lkops",
    "lkops relaxed": "lkops relaxed",
    "lkops bf16": "lkops bf16",
}
BF16_MARK = ("openvino bf16", "lkops bf16")  # compared with each other
# Okabe and Ito's palette, told apart by colour-blind readers too
COLOURS = {"eager": "#56b4e9", "compile": "#e69f00", "openvino": "#009e73", "lkops": "#0072b2"}


def milliseconds(row: Entry, name: str) -> float | None:
    """Median of a provider; that of eager is the faster of its memory formats."""
    names = EAGER if name == "eager" else (name,)
    providers = row.get("providers", {})
    found = [providers[n]["milliseconds"] for n in names if n in providers]
    return min((ms for ms in found if ms), default=None)


def ratio(row: Entry, name: str, ours: str = "lkops") -> float | None:
    other, own = milliseconds(row, name), milliseconds(row, ours)
    return other / own if other and own else None


def memory_part(row: Entry) -> float | None:
    """Peak memory of lkops as a part of eager's, in eager's faster memory format."""
    peaks = row.get("peak_bytes", {})
    timed = [(row["providers"][n]["milliseconds"], n) for n in EAGER if n in row.get("providers", {}) and n in peaks]
    best = min(((ms, n) for ms, n in timed if ms), default=None)
    if best is None or not peaks.get("lkops") or not peaks[best[1]]:
        return None
    return float(peaks["lkops"] / peaks[best[1]])


def fraction(limits: Mapping[str, Any], row: Entry) -> tuple[float, str] | None:
    """Of the machine's measured limit that lkops reaches, and which limit it is."""
    ours = milliseconds(row, "lkops")
    if not ours:
        return None
    seconds, kind = limit_seconds(limits, Work(**row["work"]))
    return 1e3 * seconds / ours, kind


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(cells) + " |" for cells in body)]) + "\n"


def _times(value: float | None, target: float | None = None) -> str:
    if value is None:
        return "-" if target is None else f"not measured (target {target:g}x)"
    if target is None:
        return f"{value:.2f}x"
    return f"{value:.2f}x (target {target:g}x{'' if value >= target else ', MISSED'})"


def _ms(value: float | None) -> str:
    return f"{value:.3g}" if value is not None and value < 1 else f"{value:.2f}" if value is not None else "-"


def targets(rows: Iterable[Entry]) -> str:
    """What must be reached and what was."""
    body = []
    for row in rows:
        if not row["targets"]:
            continue
        cells = [_times(ratio(row, name), row["targets"].get(name)) for name in ("eager", "compile", "openvino")]
        if "openvino bf16" in row.get("providers", {}):
            cells.append(_times(ratio(row, *BF16_MARK)))
        else:
            cells.append("-")
        body.append([row["title"], _ms(milliseconds(row, "lkops")), *cells])
        if (most := row["memory_target"]) is not None:
            part = memory_part(row)
            said = "not measured" if part is None else f"{part:.2f} of eager's"
            missed = "" if part is not None and part <= most else ", MISSED"
            body.append(
                ["peak memory of that step beyond weights", "", f"{said} (target {most:g}{missed})", "", "", ""]
            )
    head = ["what", "lkops (ms)", "against eager", "torch.compile", "OpenVINO f32", "in bf16 against OpenVINO bf16"]
    return _table(head, body) if body else ""


def _everything(rows: Sequence[Entry], limits: Mapping[str, Any], *, whole: bool) -> str:
    """All rows with all providers; `whole` adds the fraction of the limit."""
    shown = [name for name in NAMES if any(name in _names(row) for row in rows)]
    head = ["what", "backend", *(f"{NAMES[name]} (ms)" for name in shown), "eager / lkops"]
    head += ["of the limit", "bound"] if whole else []
    body = []
    for row in rows:
        used = sorted(set(row.get("backends", {}).values()))
        cells = [row["title"], " + ".join(used) or "-"]
        for name in shown:
            wrong = [p["reason"] for n, p in row.get("providers", {}).items() if n == name and p["reason"]]
            cells.append("failed" if wrong else _ms(milliseconds(row, name)))
        cells.append(_times(ratio(row, "eager")))
        if whole:
            reached = fraction(limits, row)
            cells += [f"{100 * reached[0]:.0f} %", reached[1]] if reached else ["-", "-"]
        body.append(cells)
    return _table(head, body)


def _names(row: Entry) -> set[str]:
    return {"eager" if name in EAGER else name for name in row.get("providers", {})}


def _memory(rows: Iterable[Entry]) -> str:
    found = [row for row in rows if row.get("peak_bytes")]
    shown = [n for n in (*EAGER, "compile", "lkops", "lkops bf16") if any(n in row["peak_bytes"] for row in found)]
    body = [
        [
            row["title"],
            *(f"{p / 2**20:.1f}" if (p := row["peak_bytes"].get(name)) is not None else "-" for name in shown),
        ]
        for row in found
    ]
    return _table(["what", *(f"{name} (MiB)" for name in shown)], body) if body else ""


def _reasons(rows: Iterable[Entry]) -> str:
    """Why something has no time."""
    said = []
    for row in rows:
        if "failed" in row:
            said.append(f"- {row['title']}: {row['failed']}")
        said += [
            f"- {row['title']}, {name}: {provider['reason']}"
            for name, provider in row.get("providers", {}).items()
            if provider["reason"]
        ]
        if "memory_failed" in row:
            said.append(f"- {row['title']}, peak memory: {row['memory_failed']}")
    return "\n".join(said) + "\n" if said else ""


def _about(run: Entry) -> str:
    facts, limits = run["environment"], run["limits"]
    copies = ", ".join(f"{int(size) / 2**20:.3g} MiB {rate / 1e9:.0f}" for size, rate in limits["copy"].items())
    return (
        f"{said(facts)}; load before the run {facts.get('load', 0):.1f}.\n\n"
        f"Measured limits of this machine, best of before and after: {limits['peak'] / 1e9:.0f} GFLOP/s of float32 "
        f"multiply-adds on registers, all threads. Copies, GB/s of bytes read and written, by their size: {copies}.\n"
    )


HOW = """Times are medians of calls in turns: round by round every provider is called, so that other load on the machine
meets all alike. Outputs and gradients are compared with the float64 reference first (those of outputs above 64 MB with
eager float32); what is wrong has no time. Eager is idiomatic PyTorch in the faster of contiguous and channels_last
memory; torch.compile has freezing=True for inference. "backward" does not time its forward, "full" is both, a training
step is forward, H loss, backward and fused Adam. Recycled memory keeps glibc from giving memory back (targets hold
there); default is its default. The limit is the least time for the bytes that must be moved, at the rate of a copy of
that size, or for the products, at the FMA peak (bench/conv2d_kernels/peak.cpp), whichever is longer; padding is not
multiplied, and a 3x3 conv by Winograd's algorithm may pass 100 %. Peak memory is what one call adds to the resident
memory of a process whose allocator gives freed memory back at once: beyond inputs, weights and Adam's moments;
gradients count.
"""


def markdown(runs: Sequence[Entry], figures: Sequence[str]) -> str:
    """The report; `figures` are files beside it."""
    first = runs[0]
    rows = first["rows"]
    parts = ["# CPU benchmarks\n", _about(first), HOW, *(f"![{name}]({name})\n" for name in figures)]
    if text := targets(rows):
        parts += [f"## What must be reached, {first['environment']['allocator']} memory\n", text]
    if text := never_slower.markdown(rows):
        parts += ["## Never slower than eager\n", text]
    for run in runs:
        allocator, recycled = run["environment"]["allocator"], run is first
        for kind, title in (("network", "Networks"), ("operator", "Operators")):
            if own := [row for row in run["rows"] if row["kind"] == kind]:
                parts += [f"## {title}, {allocator} memory\n", _everything(own, run["limits"], whole=recycled)]
    if text := _memory(rows):
        parts += ["## Peak memory of a call\n", text]
    for run in runs:
        if text := _reasons(run["rows"]):
            parts += [f"## Without a time, {run['environment']['allocator']} memory\n", text]
    return "\n".join(parts)


def plots(runs: Sequence[Entry]) -> dict[str, "Figure"]:
    """Speed-up bars and a roofline, by file name; none where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return {}
    run = runs[0]
    main = [row for row in run["rows"] if row["targets"] or (row["kind"] == "operator" and "_64 f" in row["row"])]
    drawn = {}
    if bars := [row for row in main if ratio(row, "eager")]:
        figure = Figure(figsize=(10.5, 1.6 + 0.5 * len(bars)), layout="constrained")
        _bars(figure.add_subplot(), bars)
        drawn["cpu_speedup.png"] = figure
    if points := [row for row in main if milliseconds(row, "lkops")]:
        figure = Figure(figsize=(10.5, 6.5), layout="constrained")
        _roofline(figure.add_subplot(), points, run["limits"])
        drawn["cpu_roofline.png"] = figure
    return drawn


def _bars(axes: Any, rows: Sequence[Entry]) -> None:
    from matplotlib import ticker

    height, names = 0.27, ("eager", "compile", "openvino")
    for place, name in enumerate(names):
        known = [(i, value) for i, row in enumerate(rows) if (value := ratio(row, name))]
        ys = [i + (place - 1) * height for i, _ in known]
        # from 1 on: to the right where lkops is faster, to the left where it is slower
        axes.barh(ys, [v - 1 for _, v in known], height, 1, color=COLOURS[name], label=f"against {NAMES[name]}")
        for y, (i, value) in zip(ys, known, strict=True):
            axes.text(max(value, 1) * 1.03, y, f"{value:.1f}", va="center", fontsize=8)
            if target := rows[i]["targets"].get(name):
                axes.plot([target, target], [y - height / 2, y + height / 2], color="black", linewidth=1.8)
    axes.plot([], [], color="black", linewidth=1.8, label="target")
    axes.axvline(1, color="#666666", linewidth=0.8)
    axes.set(xscale="log", xlabel="times as fast (logarithmic)", yticks=range(len(rows)))
    axes.set_yticklabels([row["title"] for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_title("lkops on the CPU, float32, recycled memory", loc="left", fontsize=11, pad=26)
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _roofline(axes: Any, rows: Sequence[Entry], limits: Mapping[str, Any]) -> None:
    peak, memory = limits["peak"] / 1e9, limits["copy"][max(limits["copy"], key=int)] / 1e9
    cache = max(limits["copy"].values()) / 1e9
    left, right = 0.3, 200.0
    for rate, style, name in ((memory, "-", "memory"), (cache, "--", "cache")):
        knee = peak / rate
        label = f"copy in {name} {rate:.0f} GB/s"
        axes.plot([left, knee], [left * rate, peak], color="#666666", linestyle=style, linewidth=1.2, label=label)
    axes.plot([peak / cache, right], [peak, peak], color="black", linewidth=1.2, label=f"FMA peak {peak:.0f} GFLOP/s")
    for i, row in enumerate(rows):
        work = Work(**row["work"])
        operations = 2 * (work.matrix + work.vector)
        x = operations / work.bytes
        for name, marker in (("eager", "o"), ("lkops", "D")):
            if ms := milliseconds(row, name):
                said = NAMES[name] if i == 0 else None
                axes.plot(x, operations / ms / 1e6, marker, color=COLOURS[name], markersize=6, label=said)
        ours, plain = milliseconds(row, "lkops"), milliseconds(row, "eager")
        if ours and plain:
            axes.plot([x, x], [operations / ms / 1e6 for ms in (ours, plain)], color="#bbbbbb", linewidth=0.8, zorder=0)
            short = row["row"].removesuffix(" forward")
            axes.annotate(short, (x, operations / ours / 1e6), (4, 4), textcoords="offset points", fontsize=7)
    axes.set(xscale="log", yscale="log", xlim=(left, right))
    axes.set_ylim(top=2 * peak)
    axes.set(xlabel="operations a byte that must be moved", ylabel="GFLOP/s")
    axes.set_title("Roofline of this machine's measured limits", loc="left", fontsize=11)
    axes.legend(fontsize=8, loc="lower right")
    axes.grid(which="major", color="#eeeeee")
