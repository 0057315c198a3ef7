"""`python -m bench.cpu.dense_convs`: `lkops.conv2d` against eager, torch.compile, OpenVINO, onnxruntime and ncnn.

3x3 convs with a bias and a ReLU, of one image, as networks have them; and one forward with backward, without the ReLU.
Outputs and gradients are compared with float64 first, all providers of a row are called in turns, a time is the median.
Writes bench/results/dense_convs.json and dense_convs.md; wants an idle machine for about ten minutes.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bench.cpu.peak import fma_peak, said_of
from bench.environment import RECYCLED, environment, said
from lkcanet.benchmark import Result, measure
from lkcanet.benchmark.operators import operator_problem
from lkcanet.benchmark.providers import CHANNELS_LAST, RELAXED, Mode, Problem
from lkcanet.common.files import atomic_path
from lkops import testing

RESULTS = Path(__file__).parents[1] / "results"
CHANNELS, SIDES = (64, 128, 180, 256), (48, 64, 96, 128)
PEERS = ("eager", "compile", "openvino", "onnxruntime", "ncnn")
NAMES = {
    "eager": "eager",
    "compile": "torch.compile",
    "openvino": "OpenVINO",
    "onnxruntime": "onnxruntime",
    "ncnn": "ncnn",
    "openvino bf16": "OpenVINO bf16",
    "lkops": "exact",
    RELAXED: "relaxed",
    "lkops bf16": "bf16",
}
FORWARD = ("eager", CHANNELS_LAST, *PEERS[1:], "openvino bf16", "lkops", RELAXED, "lkops bf16")
FULL = ("eager", CHANNELS_LAST, "compile", "lkops", RELAXED)
# mode and form of ours -> at least so many times as fast as each of its peers; eager in the faster of its two formats
TARGETS: Mapping[tuple[Mode, str], Mapping[str, float]] = {
    ("forward", "lkops"): {**dict.fromkeys(PEERS, 1.0), "eager": 1.5},
    ("forward", RELAXED): {**dict.fromkeys(PEERS, 1.2), "eager": 2.0},
    ("forward", "lkops bf16"): {"openvino bf16": 1.1},
    ("full", "lkops"): {"eager": 1.3, "compile": 1.0},
    ("full", RELAXED): {"eager": 1.3, "compile": 1.0},
}
Row = tuple[Mode, int, int, int]  # mode, batch, channels, side


def rows(*, tiny: bool = False) -> dict[str, Row]:
    """Rows by name; tiny ones are two."""
    if tiny:
        chosen: list[Row] = [("forward", 1, 16, 8), ("full", 2, 16, 8)]
    else:
        chosen = [("forward", 1, c, side) for c in CHANNELS for side in SIDES]
        chosen.append(("full", 8, 64, 48))
    return {f"{n}x{c}x{side}x{side} {mode}": (mode, n, c, side) for mode, n, c, side in chosen}


def problem(mode: Mode, n: int, channels: int, side: int) -> Problem:
    """A conv with bias in all its forms, with the same weights; with a ReLU in an inference. Among millions of values
    rounding decides on which side of its kink some lie, and gradients could not be compared."""
    shape, sizes = (n, channels, side, side), {"outputs": channels}
    options = {"activation": "relu"} if mode == "forward" else {}
    return operator_problem("conv2d", testing.Example("row", shape, options, sizes, without=("residual",)))


def run(row: Row, seconds: float, providers: Sequence[str] = ()) -> dict[str, Any]:
    """Check and time one row."""
    mode, n, channels, side = row
    torch.manual_seed(0)
    known = FORWARD if mode == "forward" else FULL
    chosen = [name for name in known if not providers or name in providers]
    result = measure(problem(*row), mode, chosen, seconds=seconds)
    products = n * (channels * (3 * side - 2)) ** 2  # of the taps that are not in the padding
    return {
        "shape": [n, channels, side, side],
        "milliseconds": {name: result.milliseconds(name) for name in NAMES if name in known},
        "gflops": 2e-9 * products * (1 if mode == "forward" else 3),
        "comparisons": [comparison(result, ours) for ours in NAMES if (mode, ours) in TARGETS],
        **result.as_dict(),
    }


def comparison(result: Result, ours: str) -> dict[str, Any]:
    """Our form against the peer whose target it passes least: its name, the ratio, the target, whether it holds."""
    own, targets = result.milliseconds(ours), TARGETS[(result.mode, ours)]
    times = {name: ms for name in targets if (ms := result.milliseconds(name))}
    if not times or not own:
        return {"ours": ours, "peer": None, "ratio": None, "target": max(targets.values()), "holds": False}
    peer = min(times, key=lambda name: times[name] / targets[name])
    ratio, target = times[peer] / own, targets[peer]
    return {"ours": ours, "peer": peer, "ratio": ratio, "target": target, "holds": ratio >= target}


def markdown(found: Mapping[str, Any]) -> str:
    """The table, with how it was made."""
    lines = [
        "# `lkops.conv2d` against others",
        "",
        f"{said(found['environment'])}; load before the run {found['load']:.1f}. {said_of(found['peak'])}",
        "",
        "3x3 convs with a bias and, in an inference, a ReLU, from as many channels to as many; float32 but where "
        "bf16 stands. Medians in milliseconds of calls in turns, recycled memory, outputs and gradients compared "
        "with float64 before (`python -m bench.cpu.dense_convs`). Eager is the faster of contiguous and "
        "channels_last; torch.compile has frozen weights in an inference; ncnn has its Winograd convs on and "
        "computes in float32. The ratio is that of a peer to ours, of all peers the one that is nearest to its "
        "target or farthest below: for the exact form 1.5 times eager and no slower than the others, of the "
        "relaxed one 2 times eager and 1.2 times the others, of bf16 1.1 times OpenVINO, with a backward 1.3 "
        "times eager. Of the peak counts the products of a direct conv, so that Winograd's algorithm may pass 100 "
        "%.",
        "",
    ]
    for mode, title, names in (("forward", "Inference", FORWARD), ("full", "Forward and backward", FULL)):
        own = [row for row in found["rows"] if row["mode"] == mode]
        if own:
            lines += [f"## {title}", "", *_table(own, [n for n in names if n != CHANNELS_LAST], found["peak"]), ""]
    if reasons := [
        f"- {'x'.join(map(str, row['shape']))} {row['mode']}, {name}: {measured['reason']}"
        for row in found["rows"]
        for name, measured in row["providers"].items()
        if measured["reason"]
    ]:
        lines += ["## Without a time", "", *reasons, ""]
    return "\n".join(lines)


def _table(found: Sequence[Mapping[str, Any]], names: Sequence[str], peak: Mapping[str, float]) -> list[str]:
    forms = [name for name in names if name.startswith("lkops")]
    head = ["input", *(f"{NAMES[name]}" for name in names if name not in forms)]
    for name in forms:
        head += [f"lkops {NAMES[name]}", "of the peak", "peer / ours", "target"]
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    for row in found:
        times = row["milliseconds"]
        cells = ["x".join(map(str, row["shape"])), *(_ms(times.get(name)) for name in names if name not in forms)]
        said_of = {each["ours"]: each for each in row["comparisons"]}
        for name in forms:
            each, own = said_of[name], times.get(name)
            limit = peak["bfloat16" if name.endswith("bf16") else "float32"]
            cells += [_ms(own), f"{100 * row['gflops'] / own * 1e3 / limit:.0f} %" if own else "-"]
            if each["ratio"] is None:
                cells += ["-", f"{each['target']:g}x: not measured"]
            else:
                cells.append(f"{each['ratio']:.2f}x ({NAMES[each['peer']]})")
                cells.append(f"{each['target']:g}x: {'holds' if each['holds'] else 'MISSED'}")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _ms(value: float | None) -> str:
    return f"{value:.3g}" if value is not None else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="parts of rows' names, separated by commas")
    parser.add_argument("--providers", default="", help="only these, separated by commas")
    parser.add_argument("--seconds", type=float, default=6.0, help="of timing a row")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tiny", action="store_true", help="two small rows: to see that it runs")
    parser.add_argument("--list", action="store_true", help="print the names of the rows")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of dense_convs.json and dense_convs.md")
    arguments = parser.parse_args()
    parts = [part.strip() for part in arguments.only.split(",")]
    chosen = {name: row for name, row in rows(tiny=arguments.tiny).items() if any(part in name for part in parts)}
    if arguments.list:
        print("\n".join(chosen))
        return
    providers = [name.strip() for name in arguments.providers.split(",") if name.strip()]
    if not chosen:
        parser.error(f"--only names no row; expected parts of {', '.join(rows(tiny=arguments.tiny))}")
    if unknown := set(providers) - set(FORWARD):
        parser.error(f"--providers names {min(unknown)!r}; expected some of {', '.join(FORWARD)}")
    if os.environ.get("GLIBC_TUNABLES") != RECYCLED:  # the allocator reads it when the process starts
        command = [sys.executable, "-m", "bench.cpu.dense_convs", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "GLIBC_TUNABLES": RECYCLED})
    torch.set_num_threads(arguments.threads)
    found: dict[str, Any] = {"load": os.getloadavg()[0], "environment": environment(), "rows": []}
    found["peak"] = fma_peak(arguments.threads)
    for name, row in chosen.items():
        found["rows"].append({"row": name, **run(row, arguments.seconds, providers)})
        for each in found["rows"][-1]["comparisons"]:
            print(name, each["ours"], f"{each['ratio']:.2f}x of {each['peer']}" if each["ratio"] else "-", flush=True)
    found["peak"] = {key: max(rate, found["peak"][key]) for key, rate in fma_peak(arguments.threads).items()}
    arguments.out.mkdir(parents=True, exist_ok=True)
    for file, text in (("dense_convs.json", json.dumps(found, indent=1) + "\n"), ("dense_convs.md", markdown(found))):
        with atomic_path(arguments.out / file) as temporary:
            temporary.write_text(text)
    print(f"{arguments.out / 'dense_convs.md'} is written")


if __name__ == "__main__":
    main()
