"""`python -m bench.cpu.comparators`: the networks of LKCA-Net's tables V to VII, timed: the claim that the others take
dozens to hundreds of times as long.

128 bands, x4, low-resolution images of 16 x 16 and 64 x 64 pixels: an inference, and a training step (H loss, Adam), in
eager PyTorch as an engineer would write each network, in the faster of two memory formats, and on lkops. Images are
compared first. Providers are called in turns; a time is the median. Peak memory is what a call adds to the resident
memory, in a process of its own. The bicubic image is given to those eager networks that their authors' loaders give it.
Writes comparators.json and .md. Wants an idle machine, and hours for the training steps at 64 x 64.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.cpu.peak import fma_peak, said_of
from bench.cpu.run import RESULTS
from bench.environment import RECYCLED, environment, said
from bench.networks.paired import Paired
from lkcanet.benchmark import eager, peak_memory, time_in_turns
from lkcanet.benchmark.providers import (
    CHANNELS_LAST,
    Adapter,
    Mode,
    Problem,
    Runner,
    ours_h_loss,
    plain_h_loss,
    runner,
    wake_up,
)
from lkcanet.common.files import atomic_path
from lkcanet.models.registry import PRESETS

BANDS, SCALE, SIDES = 128, 4, (16, 64)
MODES: tuple[Mode, ...] = ("forward", "training")
# torch's own bicubic is one op of eager PyTorch; without drop path both forms compute the same
_TORCHS = {"cubic_a": -0.75, "border": "replicate", "drop_path": 0.0}
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "VDSR": ("vdsr_lr", {}),
    "3DFCNN": ("cnn3d_lr", {}),
    "SSPSR": ("sspsr", {}),
    "MSDformer": ("msdformer", {}),
    "ESSAformer": ("essaformer", {}),
    "LKCA-Net": ("lkca_net", _TORCHS),
    "LKCA-LR": ("lkca_lr", _TORCHS),
}
TINY: dict[str, dict[str, Any]] = {
    "VDSR": {"channels": 4, "depth": 1},
    "SSPSR": {"channels": 8, "blocks": 1, "group": 4, "overlap": 1, "reduction": 4},
    "MSDformer": {"channels": 8, "blocks": 2, "heads": 2, "group": 4, "overlap": 1, "reduction": 4},
    "ESSAformer": {"channels": 8},
    "LKCA-Net": {"channels": 16, "blocks": 1, "reduction": 8},
    "LKCA-LR": {"channels": 16, "blocks": 1, "reduction": 8},
}
PROVIDERS = ("eager", CHANNELS_LAST, "lkops")
ALLOWED = 1e-4  # of the norm, between the images of eager and lkops in float32
UNRECYCLED = "glibc.malloc.mmap_threshold=65536"  # freed memory goes back at once: what is resident is what is held


def _ours_image(network: nn.Module, *tensors: Tensor) -> Tensor:
    image: Tensor = network(tensors[0])
    return image


def runners(name: str, side: int, mode: Mode, *, tiny: bool = False) -> dict[str, Runner]:
    """Provider to what runs one row, all found to agree with eager PyTorch.

    Raises:
        RuntimeError: an image, a loss or its gradients differ by more than `ALLOWED` or ten times that.
    """
    preset, options = ROWS[name]
    torch.manual_seed(0)
    bands = 9 if tiny else BANDS
    model: Any = PRESETS[preset].make(bands, SCALE, **{**options, **(TINY.get(name, {}) if tiny else {})})
    if preset.startswith("lkca"):
        wake_up(model)
    lowres = torch.rand(1, bands, side, side)
    if mode == "forward":
        model = model.eval().fold()
    paired = None if preset.startswith("lkca") else Paired(model.eval())
    plain = eager.Network(model, folded=mode == "forward") if paired is None else paired.net
    given = (lowres,) if paired is None else paired.inputs(lowres)
    # PyTorch has no such format for the weights of 3-D convs
    providers = [each for each in PROVIDERS if each != CHANNELS_LAST or all(p.dim() < 5 for p in plain.parameters())]
    outputs: tuple[Tensor, ...] = ()
    # compared without dropout, whose draws differ
    if mode == "training":
        target = torch.rand(1, bands, SCALE * side, SCALE * side)
        ours, theirs = Adapter(model.eval(), ours_h_loss), Adapter(plain.eval(), plain_h_loss)
        problem, outputs = Problem(ours, theirs, (*given, target), network=True), (torch.ones(()),)
    else:
        ours, theirs = Adapter(model.requires_grad_(False), _ours_image), Adapter(plain.requires_grad_(False))
        problem = Problem(ours, theirs, given, network=True)
    compare = _compare_steps if mode == "training" else _compare_images
    checked = {each: runner(problem, each, mode, outputs) for each in providers}
    for each in reversed(providers[1:]):
        compare(name, each, checked[each], checked["eager"])
    del checked
    if mode == "training":
        ours.train(), theirs.train()
    return {each: runner(problem, each, mode, outputs) for each in providers}


def _compare_images(name: str, provider: str, own: Runner, other: Runner) -> None:
    (image,), (expected,) = own.results(), other.results()
    error = float((image - expected).norm() / expected.norm())
    if not error <= ALLOWED:
        raise RuntimeError(f"{name}: {provider} and eager PyTorch differ by {error:.1e} of the image's norm")


def _compare_steps(name: str, provider: str, own: Runner, other: Runner) -> None:
    """By the loss and the norm of its gradients: the parameters of both forms are cut in other ways."""
    found = []
    for loss, *gradients in (own.results(), other.results()):
        found.append(torch.stack([loss, torch.nn.utils.get_total_norm(gradients)]))
    error = float(((found[0] - found[1]) / found[1]).abs().max())
    if not error <= 10 * ALLOWED:
        raise RuntimeError(f"{name}: loss or gradients of {provider} and eager PyTorch differ by {error:.1e}")


def times(name: str, side: int, mode: Mode, seconds: float, *, tiny: bool = False, least: int = 3) -> dict[str, float]:
    """Milliseconds by provider, medians of calls in turns; "eager" is the faster memory format."""
    taken = time_in_turns(runners(name, side, mode, tiny=tiny), seconds, least)
    found = {each: 1e3 * statistics.median(own) for each, own in taken.items()}
    return {"eager": min(value for each, value in found.items() if each != "lkops"), "lkops": found["lkops"]}


def memory(name: str, side: int, mode: Mode, *, tiny: bool = False) -> dict[str, int | None]:
    """Bytes by provider that a call adds at its peak, see `lkcanet.benchmark.peak_memory`."""
    own = runners(name, side, mode, tiny=tiny)
    return {each: peak_memory(own[each]) for each in ("eager", "lkops")}


def markdown(found: Mapping[str, Any]) -> str:
    """The tables: a row a network, what it takes, and how many times that is of LKCA-LR's in the same form."""
    lines = [
        "# The networks of LKCA-Net's tables",
        "",
        f"{said(found['environment'])}; load before the run {found['load']:.1f}. {said_of(found['peak'])} "
        f"{BANDS} bands, x{SCALE}, batch 1, float32, medians of calls in turns (`python -m bench.cpu.comparators`). "
        "Eager is the faster of two memory formats. In brackets: how many times LKCA-LR's in the same form.",
    ]
    for mode in MODES:
        for side in sorted({row["side"] for row in found["rows"] if row["mode"] == mode}):
            rows = [row for row in found["rows"] if (row["mode"], row["side"]) == (mode, side)]
            base = next((row for row in rows if row["network"] == "LKCA-LR"), None)
            what = "an inference" if mode == "forward" else "a training step"
            lines += ["", f"## {what.capitalize()}, {side} x {side} pixels", ""]
            lines += ["| network | eager (ms) | lkops (ms) | lkops against eager | eager (MB) | lkops (MB) |"]
            lines += ["|---|---:|---:|---:|---:|---:|"]
            for row in rows:
                ms, size = row["milliseconds"], row["bytes"]
                cells = [_cell(ms[each], base and base["milliseconds"][each], "{:.1f}") for each in ("eager", "lkops")]
                cells.append(f"{ms['eager'] / ms['lkops']:.2f}x")
                cells += [f"{size[each] / 1e6:.0f}" if size[each] is not None else "-" for each in ("eager", "lkops")]
                lines.append(f"| {row['network']} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _cell(value: float, base: float | None, form: str) -> str:
    return form.format(value) + (f" ({value / base:.1f}x)" if base else "")


def _memory_apart(arguments: argparse.Namespace, name: str, side: int, mode: Mode) -> dict[str, int | None]:
    command = [sys.executable, "-m", "bench.cpu.comparators", "--memory-of", json.dumps([name, side, mode])]
    command += ["--threads", str(arguments.threads), *(["--tiny"] if arguments.tiny else [])]
    env = {**os.environ, "GLIBC_TUNABLES": UNRECYCLED}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}, {side} x {side}, {mode}: {done.stderr.strip().splitlines()[-1:]}")
    sizes: dict[str, int | None] = json.loads(done.stdout.splitlines()[-1])
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(ROWS), help="names of networks, separated by commas")
    parser.add_argument("--sides", default=",".join(map(str, SIDES)), help="of the low-resolution images")
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--without", default="", metavar="MODE-SIDE,...", help="leave out, as training-64: hours of it")
    parser.add_argument("--seconds", type=float, default=20.0, help="of timing a row")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tiny", action="store_true", help="small networks of 9 bands: to see that it runs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        name, side, mode = json.loads(arguments.memory_of)
        print(json.dumps(memory(name, side, mode, tiny=arguments.tiny)))
        return
    if os.environ.get("GLIBC_TUNABLES") != RECYCLED:  # the allocator reads it when the process starts
        command = [sys.executable, "-m", "bench.cpu.comparators", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "GLIBC_TUNABLES": RECYCLED})
    chosen = [name.strip() for name in arguments.only.split(",")]
    if unknown := set(chosen) - set(ROWS):
        parser.error(f"--only names {min(unknown)!r}; expected some of {', '.join(ROWS)}")
    arguments.out.mkdir(parents=True, exist_ok=True)  # before hours of measuring, not after
    modes = [mode for mode in MODES if mode in arguments.modes.split(",")]
    found: dict[str, Any] = {"load": os.getloadavg()[0], "environment": environment(), "rows": []}
    found["peak"] = fma_peak(arguments.threads)
    for mode in modes:
        for side in map(int, arguments.sides.split(",")):
            if f"{mode}-{side}" in arguments.without.split(","):
                continue
            for name in chosen:
                row: dict[str, Any] = {"network": name, "side": side, "mode": mode}
                row["milliseconds"] = times(name, side, mode, arguments.seconds, tiny=arguments.tiny)
                row["bytes"] = _memory_apart(arguments, name, side, mode)
                found["rows"].append(row)
                print(json.dumps(row), flush=True)
    for file, text in (("comparators.json", json.dumps(found, indent=1)), ("comparators.md", markdown(found))):
        with atomic_path(arguments.out / file) as temporary:
            temporary.write_text(text)


if __name__ == "__main__":
    main()
