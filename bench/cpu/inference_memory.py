"""`python -m bench.cpu.inference_memory`: memory of whole-scene inference, measured and as `lkcanet.inference.memory`
says.

LKCA-LR x4 on a low-resolution scene of 128 bands and 512 x 512 pixels, each case in a process of its own. Peak is the
largest resident size (Linux's VmHWM) beyond that after a first small image. Writes bench/results/inference_memory.md.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.cpu.run import RESULTS
from bench.environment import environment, said
from lkcanet.common.files import atomic_path

BANDS, SCALE = 128, 4
CASES: dict[str, dict[str, Any]] = {
    "whole, result in memory": {"mapped": False, "tile": None},
    "whole, result into an .npy file": {"mapped": True, "tile": None},
    "tiles of 128 x 128, into an .npy file": {"mapped": True, "tile": [128, 128]},
}


def status(key: str) -> int:
    """A size of this process in bytes."""
    found = re.search(key + r":\s*(\d+)", Path("/proc/self/status").read_text())
    assert found is not None, f"/proc/self/status has no {key}"
    return int(found[1]) << 10


def measure(case: dict[str, Any], size: int) -> dict[str, float]:
    """Peak and statement in bytes, and seconds, of one case in this process."""
    import torch

    from lkcanet.data import Scene
    from lkcanet.inference import memory, super_resolve
    from lkcanet.models import lkca_lr

    torch.manual_seed(0)
    model = lkca_lr(BANDS, SCALE)
    tile = case["tile"] and tuple(case["tile"])

    def scene(side: int) -> Scene:
        return Scene(np.random.default_rng(0).random((BANDS, side, side), np.float32), 1.0)

    super_resolve(model, scene(16))  # libraries are loaded, threads are there
    base = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
    image = scene(size)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        result = super_resolve(model, image, out=Path(folder) / "out.npy" if case["mapped"] else None, tile=tile)
        seconds = time.perf_counter() - start
        assert result.size == (size * SCALE, size * SCALE)
        peak = status("VmHWM") - base
    stated = memory(model, size, size, tile=tile, mapped=case["mapped"]).peak
    return {"peak": peak, "stated": stated, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512, help="rows and columns of the low-resolution scene")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of inference_memory.md")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(json.loads(arguments.case), arguments.size)))
        return
    place = environment()
    text = (
        "# Memory of whole-scene inference\n\n"
        f"LKCA-LR x{SCALE}, {BANDS} bands, a low-resolution scene of {arguments.size} x {arguments.size} pixels, "
        "float32, on the CPU. Peak: largest resident size beyond that after a first small image, in a process of its "
        "own; stated: what `lkcanet.inference.memory` says beforehand. Seconds are of one run, perhaps beside other "
        f"work.\n\n{said(place)}. Written by `python -m bench.cpu.inference_memory`.\n\n"
        "| | peak (GB) | stated (GB) | seconds |\n|---|---:|---:|---:|\n"
    )
    for name, case in CASES.items():
        command = [sys.executable, "-m", "bench.cpu.inference_memory", "--size", str(arguments.size)]
        done = subprocess.run([*command, "--case", json.dumps(case)], check=True, capture_output=True, text=True)
        found = json.loads(done.stdout)
        text += f"| {name} | {found['peak'] / 1e9:.2f} | {found['stated'] / 1e9:.2f} | {found['seconds']:.0f} |\n"
    with atomic_path(arguments.out / "inference_memory.md") as temporary:
        temporary.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
