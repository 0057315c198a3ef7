"""The compression experiment as JSON, Markdown and a plot: quality against parameters and measured latency."""

import json
import os
import statistics
from pathlib import Path
from typing import Any

import torch

from bench.cpu.run import RESULTS
from bench.environment import environment
from bench.experiments.runs import Settings, bicubic_scores
from bench.forward import Forward
from lkcanet.benchmark import time_in_turns
from lkcanet.benchmark.providers import Runner
from lkcanet.common.files import atomic_path
from lkcanet.common.plots import plain
from lkcanet.evaluation.figures import save_figure
from lkcanet.models import load_model

SCRATCH = {"teacher": "LKCA-Net, 32 blocks (teacher)", "net": "LKCA-Net", "lr": "LKCA-LR", "kd": "LKCA-KD"}
KINDS = {"grouped": "8 groups", "permuted": "8 groups, inputs chosen", "factored": "rank 31"}
KINDS |= {"small": "rank 8", "share": "rank at a share of 0.5"}
HOWS = {
    "plain": "weights only",
    "aligned": "weights only, upsampler aligned",
    "calibrated": "calibrated",
    "calibrated_aligned": "calibrated, upsampler aligned",
    "calibrated_aligned_all": "calibrated, all aligned",
}
IMAGE = 64  # side of the low-resolution image for the latency
SECONDS = 6.0  # of timing


def label(method: str) -> str:
    """In words."""
    kind, _, how = method.partition("-")
    return SCRATCH[method] if method in SCRATCH else f"{KINDS[kind]}: {HOWS[how]}"


def latencies(folder: Path, methods: list[str], bands: int) -> dict[str, float]:
    """Median milliseconds of each network of seed 0, folded, called in turns; those of one structure share one."""
    torch.set_num_threads(os.cpu_count() or 1)
    image = torch.rand(1, bands, IMAGE, IMAGE)
    runners: dict[str, Runner] = {}
    key: dict[str, str] = {}
    for method in methods:
        model = load_model(folder / f"{method}-0" / "last.safetensors")
        key[method] = json.dumps(model.config, sort_keys=True)
        runners.setdefault(key[method], Forward(model.fold().eval(), image))
    times = time_in_turns(runners, SECONDS)
    return {method: 1e3 * statistics.median(times[key[method]]) for method in methods}


def collect(folder: Path, methods: list[str], seeds: range) -> dict[str, Any]:
    """Every run's result, and the latencies."""
    methods = [*SCRATCH, *methods]
    runs = [
        json.loads((folder / f"{method}-{seed}" / "result.json").read_text()) for method in methods for seed in seeds
    ]
    settings = runs[0]["settings"]
    milliseconds = latencies(folder, methods, runs[0]["network"]["bands"])
    return {
        "settings": settings,
        "bicubic": bicubic_scores(Settings(**settings)),
        "milliseconds": milliseconds,
        "environment": environment() | {"threads": torch.get_num_threads()},
        "runs": runs,
    }


def rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a method, over its seeds."""
    result = []
    for method, milliseconds in found["milliseconds"].items():
        runs = [run for run in found["runs"] if run["method"] == method]
        row = {"method": method, "label": label(method), "milliseconds": milliseconds}
        for name in ("parameters", "macs_16x16", "seconds", "expected_error", "output_error"):
            values = [run[name] for run in runs if name in run]
            row[name] = statistics.mean(values) if values else None
        for name in ("mpsnr", "mssim", "sam", "ergas"):
            row[name] = [run["scores"][name] for run in runs]
        result.append(row)
    return result


def markdown(found: dict[str, Any]) -> str:
    """The table."""
    settings, place = Settings(**found["settings"]), found["environment"]
    table = rows(found)
    net = next(row for row in table if row["method"] == "net")

    def spread(values: list[float], decimals: int) -> str:
        return f"{statistics.mean(values):.{decimals}f} ± {statistics.stdev(values):.{decimals}f}"

    lines = [
        "# Compressed after training: LKCA-Net with a cheaper upsampler",
        "",
        f"Written by `python -m bench.experiments.compression`, whose help has the commands. {settings.name}, "
        f"{found['runs'][0]['network']['bands']} bands, x{settings.scale}; networks trained from scratch for "
        f"{settings.steps} steps of {settings.batch_size} patches. Compressed networks come from the LKCA-Net of the "
        "same seed. Aligned: `lkops.distill_upsampler`, 200 steps of as many patches, on training patches only. "
        "Calibrated: on 64 training patches. Scores of the held-out region, mean ± sample deviation over the seeds; "
        f"latency of 1x{found['runs'][0]['network']['bands']}x{IMAGE}x{IMAGE}, folded, lkops on {place['cpu']}, "
        f"{place['threads']} threads, median. Error is that of the upsampler's output before training, relative, as "
        "expected (for white inputs; for the calibration patches where calibrated). Seconds are of approximation and "
        "alignment, or of training, on one thread.",
        "",
        "| | parameters | GMAC at 16x16 | ms | error | MPSNR (dB) | minus LKCA-Net | SAM (°) | ERGAS | s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        "| bicubic | - | - | - | - | {mpsnr:.3f} | - | {sam:.3f} | {ergas:.3f} | - |".format(**found["bicubic"]),
    ]
    for row in table:
        error = "-" if row["expected_error"] is None else f"{row['expected_error']:.1%}"
        lost = [one - other for one, other in zip(row["mpsnr"], net["mpsnr"], strict=True)]
        lines.append(
            f"| {row['label']} | {row['parameters'] / 1e6:.3f} M | {row['macs_16x16'] / 1e9:.3f} | "
            f"{row['milliseconds']:.2f} | {error} | {spread(row['mpsnr'], 3)} | {statistics.mean(lost):+.3f} | "
            f"{spread(row['sam'], 3)} | {spread(row['ergas'], 3)} | {row['seconds']:.0f} |"
        )
    return "\n".join([*lines, "", "![Quality against parameters and latency](compression.svg)", ""])


def plot(found: dict[str, Any]) -> Any:
    """Mean MPSNR against parameters and against latency."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.5, 4.8), layout="constrained")
    panels: Any = figure.subplots(1, 2, sharey=True)
    styles = {"": ("s", "#000000"), "grouped": ("o", "#0072b2"), "permuted": ("^", "#56b4e9")}
    styles |= {"factored": ("D", "#d55e00"), "share": ("v", "#e69f00"), "small": ("P", "#009e73")}
    fills = {"plain": "none", "aligned": "left", "calibrated": "bottom", "calibrated_aligned": "right"}
    for axis, key, unit in ((panels[0], "parameters", 1e6), (panels[1], "milliseconds", 1)):
        for row in rows(found):
            kind, _, how = row["method"].partition("-")
            if kind == "teacher":
                continue
            marker, colour = styles["" if row["method"] in SCRATCH else kind]
            axis.plot(
                row[key] / unit, statistics.mean(row["mpsnr"]), marker=marker, color=colour, markersize=8,
                linestyle="none", fillstyle=fills.get(how, "full"), label=row["label"],
            )  # fmt: skip
            if row["method"] in SCRATCH:
                place = (row[key] / unit, statistics.mean(row["mpsnr"]))
                axis.annotate(row["label"], place, xytext=(6, 4), textcoords="offset points", fontsize=9)
        axis.axhline(found["bicubic"]["mpsnr"], color="#888888", linestyle="--", linewidth=1)
        axis.annotate("bicubic", (1, found["bicubic"]["mpsnr"]), xycoords=("axes fraction", "data"), ha="right",
                      xytext=(-4, 3), textcoords="offset points", fontsize=9)  # fmt: skip
        plain(axis)
    panels[0].set_xlabel("Parameters (million)")
    panels[1].set_xlabel(f"Latency, {IMAGE} x {IMAGE} low-resolution pixels (ms)")
    panels[0].set_ylabel("MPSNR on the held-out region (dB)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=7, frameon=False)
    return figure


def write(folder: Path, methods: list[str], seeds: range) -> str:
    """Measure, and write the three files; returns the Markdown."""
    found = collect(folder, methods, seeds)
    text = markdown(found)
    for name, content in (("compression.json", json.dumps(found, indent=1) + "\n"), ("compression.md", text)):
        with atomic_path(RESULTS / name) as temporary:
            temporary.write_text(content)
    save_figure(plot(found), RESULTS / "compression.svg")
    return text
