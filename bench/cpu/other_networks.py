"""`python -m bench.cpu.other_networks`: CSAKD and EDLGFS on lkops against eager PyTorch, torch.compile and OpenVINO.

Sizes of the papers unless --small. Outputs are checked against float64 first (the larger ones against eager float32);
providers are called in turns, two threads, medians. Writes bench/results/other_networks.json and .md. Wants an idle
machine.
"""

import argparse
import copy
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench.cpu.peak import fma_peak, said_of
from bench.cpu.run import RESULTS
from bench.environment import RECYCLED, environment, said
from lkcanet.benchmark import Result, eager_csakd, eager_edlgfs, measure
from lkcanet.benchmark.providers import CHANNELS_LAST, LARGE, RELAXED, Adapter, Problem
from lkcanet.common.files import atomic_path

PROVIDERS = ("eager", CHANNELS_LAST, "compile", "openvino", "lkops", RELAXED)
NAMES = ("lkops", RELAXED, "eager", "compile", "openvino")
SMALL = {"csakd": {"features": 16, "growth": 8, "head_width": 4, "counts": (0, 1, 1, 1)}}
Row = tuple[str, Any, tuple[torch.Tensor, ...], Any]
# the published sizes: CSAKD's AVIRIS images of 256 x 256, EDLGFS's Houston test image of 256 x 256; and one patch
ROWS: dict[str, Callable[[bool], Row]] = {
    "csakd 64x64": lambda small: eager_csakd.benchmark_row(side=8 if small else 64, **_csakd(small)),
    "csakd 16x16": lambda small: eager_csakd.benchmark_row(side=8 if small else 16, **_csakd(small)),
    "edlgfs 64x64": lambda small: eager_edlgfs.benchmark_row(side=8 if small else 64, **_edlgfs(small)),
    "edlgfs 16x16": lambda small: eager_edlgfs.benchmark_row(side=8 if small else 16, **_edlgfs(small)),
}


def _csakd(small: bool) -> dict[str, Any]:
    return {"bands": 8, **SMALL["csakd"]} if small else {}


def _edlgfs(small: bool) -> dict[str, Any]:
    return {"bands": 8, "channels": 48, "stages": 1, "layers": 1} if small else {}


def run(name: str, seconds: float, *, small: bool = False) -> tuple[str, Result]:
    """Check and time one row's forward."""
    torch.manual_seed(0)
    title, model, inputs, plain = ROWS[name](small)
    values = model.bands * math.prod(inputs[0].shape[-2:]) * model.scale**2
    folded = model.fold().requires_grad_(False)
    relaxed = copy.deepcopy(folded)
    for module in relaxed.modules():
        if hasattr(module, "accuracy"):
            module.accuracy = "relaxed"
    problem = Problem(
        Adapter(folded),
        Adapter(plain.requires_grad_(False)),
        inputs,
        network=True,
        double=values < LARGE,
        relaxed=Adapter(relaxed),
    )
    return title, measure(problem, "forward", PROVIDERS, seconds=seconds)


def markdown(found: dict[str, Any]) -> str:
    """The table."""
    lines = [
        "# CSAKD and EDLGFS on lkops",
        "",
        f"{said(found['environment'])}; load before the run {found['load']:.1f}. {said_of(found['peak'])} Forward, "
        "float32, folded, medians "
        "in milliseconds, called in turns, outputs checked before (`python -m bench.cpu.other_networks`). Eager is the "
        "network as an engineer would write it, in the faster of two memory formats.",
        "",
        "| network | exact | relaxed | eager | torch.compile | OpenVINO | exact against eager | torch.compile | "
        "OpenVINO | relaxed against eager | torch.compile | OpenVINO |",
        "|---|" + "---:|" * 11,
    ]
    for row in found["rows"]:
        times = {name: row["milliseconds"].get(name) for name in NAMES}
        cells = [f"{value:.1f}" if value else "-" for value in times.values()]
        for ours in (times["lkops"], times[RELAXED]):
            theirs = [times[name] for name in ("eager", "compile", "openvino")]
            cells += [f"{each / ours:.2f}x" if each and ours else "-" for each in theirs]
        lines.append(f"| {row['network']} | {' | '.join(cells)} |")
        lines += [f"| {name}: {why} {'| ' * 11}|" for name, why in row["reasons"].items()]
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(ROWS), help="names of rows, separated by commas")
    parser.add_argument("--seconds", type=float, default=30.0, help="of timing a row")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--small", action="store_true", help="small networks: to see that it runs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    arguments = parser.parse_args()
    if os.environ.get("GLIBC_TUNABLES") != RECYCLED:  # the allocator reads it when the process starts
        command = [sys.executable, "-m", "bench.cpu.other_networks", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "GLIBC_TUNABLES": RECYCLED})
    torch.set_num_threads(arguments.threads)
    chosen = [name.strip() for name in arguments.only.split(",")]
    if unknown := set(chosen) - set(ROWS):
        parser.error(f"--only names {min(unknown)!r}; expected some of {', '.join(ROWS)}")
    found: dict[str, Any] = {"load": os.getloadavg()[0], "environment": environment(), "rows": []}
    found["peak"] = fma_peak(arguments.threads)
    for name in chosen:
        title, result = run(name, arguments.seconds, small=arguments.small)
        reasons = {key: value.reason for key, value in result.providers.items() if value.reason}
        row = {"network": title, "milliseconds": {key: result.milliseconds(key) for key in NAMES}, "reasons": reasons}
        found["rows"].append({**row, "result": result.as_dict()})
        print(markdown(found).splitlines()[-1], flush=True)
    for file, text in (("other_networks.json", json.dumps(found, indent=1)), ("other_networks.md", markdown(found))):
        with atomic_path(arguments.out / file) as temporary:
            temporary.write_text(text)


if __name__ == "__main__":
    main()
