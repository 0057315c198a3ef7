"""`python -m bench.cpu.fusion`: how much faster networks run after `lkops.fuse`.

First those of `bench.networks` at their published sizes, against compilers and runtimes (`bench.cpu.fusion_networks`);
then the example networks of tests/lkops/fusion/foreign.py. Each of these is fused with an example, which compares
outputs and gradients first. Then the model as it is, the same in channels_last memory and the fused model are called in
turn, round by round, on two threads, in an inference and in forward and backward; a time is the median. Writes
bench/results/fusion.json and .md.
"""

import argparse
import copy
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import lkops
from bench.cpu import fusion_networks
from bench.cpu.peak import fma_peak, said_of
from bench.environment import RECYCLED, environment, said
from bench.forward import Forward
from lkcanet.benchmark import time_in_turns
from lkcanet.benchmark.providers import Runner
from lkcanet.common.files import atomic_path
from tests.lkops.fusion.foreign import NETWORKS

RESULTS = Path(__file__).parents[1] / "results"
# sizes of networks and of the low-resolution image (bands, rows, columns) as they are in use
CASES: dict[str, tuple[dict[str, int], tuple[int, int, int]]] = {
    "EDSR": ({"channels": 64, "blocks": 16, "scale": 4}, (3, 48, 48)),
    "RCAN": ({"channels": 64, "groups": 2, "blocks": 6, "scale": 2}, (3, 48, 48)),
    "RCAN, linear": ({"channels": 64, "groups": 2, "blocks": 6, "scale": 2}, (3, 48, 48)),
    "VDSR": ({"bands": 128, "channels": 64, "depth": 4, "scale": 4, "groups": 8}, (128, 48, 48)),
    "VAN": ({"channels": 64, "blocks": 6, "scale": 4}, (3, 64, 64)),
    "SwinIR": ({"channels": 60, "blocks": 6, "scale": 4, "window": 8, "heads": 6}, (3, 64, 64)),
    "functional": ({"bands": 31, "channels": 64, "blocks": 4, "scale": 4}, (31, 48, 48)),
    "recursive": ({"bands": 31, "channels": 64, "times": 4, "scale": 4}, (31, 48, 48)),
    "weight norm": ({"channels": 32, "blocks": 8, "scale": 4}, (3, 64, 64)),
    "untraceable": ({"channels": 64, "blocks": 6, "scale": 4}, (3, 64, 64)),
}
# those with depthwise convs, a bicubic skip or dense convs must be faster by such a factor, the others not slower
TARGET = dict.fromkeys(("VDSR", "VAN", "functional", "recursive", "untraceable"), 1.5) | {"EDSR": 1.4, "RCAN": 1.4}


class _Training(Runner):
    def __init__(self, model: nn.Module, image: Tensor) -> None:
        self.model, self.image = model.train(), image
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def run(self, state: Any) -> None:
        torch.autograd.grad(self.model(self.image).square().mean(), self.parameters)


def measure(name: str, seconds: float, *, tiny: bool = False) -> dict[str, Any]:
    """One network: milliseconds of each provider in each mode, and what the report says."""
    sizes, shape = CASES[name]
    if tiny:
        sizes, shape = {"scale": 2}, ({"VDSR": 5, "functional": 4}.get(name, 3), 8, 8)
    torch.manual_seed(0)
    model = NETWORKS[name](**sizes)
    image = torch.rand(1, *shape)
    fused, report = lkops.fuse(model, image)
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    image_last = image.contiguous(memory_format=torch.channels_last)
    row: dict[str, Any] = {"network": name, "sizes": sizes, "image": [1, *shape], "target": TARGET.get(name, 1.0)}
    kinds: tuple[tuple[str, Any], ...] = (("inference", Forward), ("training", _Training))
    for mode, make in kinds:
        runners: dict[str, Runner] = {
            "eager": make(model, image),
            "channels_last": make(last, image_last),
            "fused": make(fused, image),
        }
        times = time_in_turns(runners, seconds)
        row[mode] = {provider: 1e3 * statistics.median(taken) for provider, taken in times.items()}
        row[mode]["ratio"] = row[mode]["eager"] / row[mode]["fused"]
    row["replaced"] = [[part.place, part.pattern, part.operator] for part in report.replaced]
    row["left"] = [[part.place, part.what, part.why] for part in report.left]
    row["share"], row["most"] = report.share, report.most
    return row


def markdown(found: dict[str, Any]) -> str:
    """The table, with how it was made."""
    lines = [
        "# Networks after `lkops.fuse`",
        "",
        f"{said(found['environment'])}; load before the run {found['load']:.1f}. "
        f"{said_of(found['peak'])} Milliseconds are medians of calls in turns, recycled memory "
        "(`python -m bench.cpu.fusion`).",
        "",
        *fusion_networks.tables(found["networks"]),
    ]
    if not found["rows"]:
        return "\n".join(lines)
    lines += [
        "## Example networks",
        "",
        "Small networks of the tests, in the styles of the field. Outputs and gradients were compared before. The "
        "ratio is that of the model as it is to the fused one. With depthwise convs or a bicubic skip the target "
        "is 1.5x, of EDSR and RCAN 1.4x; the others must not be slower.",
        "",
        "| network | image | model (ms) | channels_last (ms) | fused (ms) | ratio | target | forward and "
        "backward: model (ms) | fused (ms) | ratio |",
        "|---|---|---:|---:|---:|---:|---|---:|---:|---:|",
    ]
    for row in found["rows"]:
        one, two = row["inference"], row["training"]
        verdict = "holds" if one["ratio"] >= row["target"] * (1 if row["target"] > 1 else 0.98) else "MISSED"
        lines.append(
            f"| {row['network']} | {'x'.join(map(str, row['image']))} | {one['eager']:.2f} | "
            f"{one['channels_last']:.2f} | {one['fused']:.2f} | {one['ratio']:.2f}x | "
            f"{row['target']:g}x: {verdict} | {two['eager']:.1f} | {two['fused']:.1f} | {two['ratio']:.2f}x |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="names of networks, separated by semicolons")
    parser.add_argument("--seconds", type=float, default=4.0, help="of timing for each example network and mode")
    parser.add_argument("--network-seconds", type=float, default=15.0, help="the same for those of published sizes")
    parser.add_argument("--providers", default="", help="only these, for networks of published sizes; by commas")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tiny", action="store_true", help="small networks and images: to see that it runs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of fusion.json and fusion.md")
    arguments = parser.parse_args()
    if os.environ.get("GLIBC_TUNABLES") != RECYCLED:  # the allocator reads it when the process starts
        command = [sys.executable, "-m", "bench.cpu.fusion", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "GLIBC_TUNABLES": RECYCLED})
    torch.set_num_threads(arguments.threads)
    every = [*fusion_networks.NETWORKS, *CASES]
    chosen = [name.strip() for name in arguments.only.split(";") if name.strip()] or every
    if unknown := set(chosen) - set(every):
        parser.error(f"--only names {min(unknown)!r}; expected some of {'; '.join(every)}")
    providers = [name.strip() for name in arguments.providers.split(",") if name.strip()]
    if unknown := set(providers) - set(fusion_networks.NAMES):
        parser.error(f"--providers names {min(unknown)!r}; expected some of {', '.join(fusion_networks.NAMES)}")
    found: dict[str, Any] = {"load": os.getloadavg()[0], "environment": environment(), "networks": [], "rows": []}
    found["peak"] = fma_peak(arguments.threads)
    for name in chosen:
        if name in CASES:
            found["rows"].append(measure(name, arguments.seconds, tiny=arguments.tiny))
            print(markdown(found).splitlines()[-1], flush=True)
        else:
            seconds, least = arguments.network_seconds, 1 if arguments.tiny else 5
            row = fusion_networks.measure_network(name, seconds, providers=providers, tiny=arguments.tiny, least=least)
            found["networks"].append(row)
            print("\n".join(fusion_networks.tables([row])[4:]), flush=True)
    found["peak"] = {key: max(rate, found["peak"][key]) for key, rate in fma_peak(arguments.threads).items()}
    for file, text in (("fusion.json", json.dumps(found, indent=1)), ("fusion.md", markdown(found))):
        with atomic_path(arguments.out / file) as temporary:
            temporary.write_text(text)
    print(f"{arguments.out / 'fusion.md'} is written")


if __name__ == "__main__":
    main()
