"""`python -m bench.experiments.compression SCENE --runs DIR`: LKCA-Nets compressed after training, three seeds.

    python -m bench.experiments.distillation ../shared/data/cave/oil_painting_ms --peak 65535 --test 0:512,320:512 \\
        --train 0:512,0:320 --validation 128:256,0:128 --steps 800 --batch-size 4 --methods teacher,net,lr,kd --out runs
    python -m bench.experiments.compression runs/oil_painting_ms
    python -m bench.experiments.compression runs/oil_painting_ms --report

Takes the trained networks of the distillation experiment, compresses each LKCA-Net in several ways, with and without
calibration and alignment, and scores all on the same test region. `--report` measures latencies, which needs an idle
machine, and writes bench/results/compression.json, .md and .svg. Stopped and started again it goes on.

The committed results are older than the native scene: they are of the painting stretched to 640 columns, 20 bands, test
columns 320 to 575.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import lkops
from bench.environment import environment
from bench.experiments.compression_report import write
from bench.experiments.runs import Settings, held_out, load
from lkcanet.common.files import atomic_path
from lkcanet.deploy.compression import PatchBatches, compress_lkcanet
from lkcanet.evaluation.metrics import evaluate
from lkcanet.inference import super_resolve
from lkcanet.models import LKCANet, load_model, save_model
from lkcanet.training.material import read_material

CALIBRATION = 64  # patches
STEPS, LEARNING_RATE = 200, 3e-4  # of an alignment
KINDS: dict[str, dict[str, Any]] = {
    "grouped": {"groups": 8},
    "permuted": {"groups": 8, "permute": True},
    "factored": {"rank": 31},  # as many parameters as 8 groups have
    "small": {"rank": 8},
    "share": {"share": 0.5},  # 0.9 takes more parameters than the conv has: short training leaves it of high rank
}


@dataclass(frozen=True)
class How:
    """What follows the approximation: `train` is what an alignment trains."""

    calibrated: bool
    train: str | None = None


HOWS = {
    "plain": How(False),
    "aligned": How(False, "upsampler"),
    "calibrated": How(True),
    "calibrated_aligned": How(True, "upsampler"),
    "calibrated_aligned_all": How(True, "all"),
}


def run(folder: Path, kind: str, how: str, seed: int) -> None:
    """Compress one network, score it on the test region, write checkpoint and result."""
    torch.set_num_threads(1)
    made = HOWS[how]
    net = load_model(folder / f"net-{seed}" / "last.safetensors")
    assert isinstance(net, LKCANet)
    settings = Settings(**json.loads((folder / f"net-{seed}" / "result.json").read_text())["settings"])
    scene, split = load(settings)
    patches = read_material(net, [scene], [split], settings.batch_size).patches.parts[0]
    batches = PatchBatches(patches, settings.batch_size, seed)
    start = time.monotonic()
    calibration = batches.calibration(CALIBRATION) if made.calibrated else None
    target, lowres = held_out(scene, split, settings.scale)
    student, report = compress_lkcanet(net, calibration=calibration, example_input=lowres.tensor(), **KINDS[kind])
    if made.train is not None:
        torch.manual_seed(seed)
        lkops.distill_upsampler(net, student, batches, steps=STEPS, learning_rate=LEARNING_RATE, train=made.train)
    seconds = time.monotonic() - start
    image = super_resolve(student, lowres)
    out = folder / f"{kind}-{how}-{seed}"
    out.mkdir(exist_ok=True)
    save_model(student, out / "last.safetensors")
    (part,) = report.compressed
    result = {
        "method": f"{kind}-{how}",
        "seed": seed,
        "seconds": seconds,
        "network": student.config,
        "parameters": student.parameter_count(),
        "macs_16x16": student.macs(16, 16),
        "expected_error": part.error,
        "output_error": report.output_error,
        "scores": evaluate(image.pixels, target.pixels, settings.scale),
        "environment": environment(),
    }
    with atomic_path(out / "result.json") as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n")


def run_all(folder: Path, seeds: range, jobs: int) -> None:
    """Every run that has no result yet, `jobs` at once, each in a Python of its own."""

    def one(kind: str, how: str, seed: int) -> None:
        if (folder / f"{kind}-{how}-{seed}" / "result.json").is_file():
            return
        print(f"{kind} {how} seed {seed}", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "bench.experiments.compression", str(folder), "--job", kind, how, str(seed)]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    with ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(one, kind, how, seed) for seed in seeds for kind in KINDS for how in HOWS]
        for future in waiting:
            future.result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder of a scene's runs, of bench.experiments.distillation")
    parser.add_argument("--seeds", type=int, default=3, help="0 to this number, exclusive")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at once, of one thread each")
    parser.add_argument("--report", action="store_true", help="measure latencies and write the report")
    parser.add_argument("--job", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        kind, how, seed = arguments.job
        run(arguments.runs, kind, how, int(seed))
        return
    if not arguments.report:
        run_all(arguments.runs, range(arguments.seeds), arguments.jobs)
        return
    print(write(arguments.runs, [f"{kind}-{how}" for kind in KINDS for how in HOWS], range(arguments.seeds)))


if __name__ == "__main__":
    main()
