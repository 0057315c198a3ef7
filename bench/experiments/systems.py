"""`python -m bench.experiments.systems SCENE`: EDLGFS, CSAKD and the baselines in small, beside LKCA-LR and LKCA-KD.

    python -m bench.experiments.systems ../shared/data/cave/oil_painting_ms --peak 65535 --test 0:512,320:512 \\
        --train 0:512,0:320 --validation 128:256,0:128 --out systems --also runs/oil_painting_ms
    ... the same with --report, on an idle machine

All are trained with the same patches, batches and steps on one thread each, and scored on the test region that
training never reads. CSAKD, student and teacher in the same run, sees a multispectral image too, simulated by averaging
bands. `--also` takes LKCA-Net's runs of the same settings from bench.experiments.distillation. `--report` measures
latencies and writes bench/results/systems.json and .md. Stopped and started again it goes on.

The committed results are older than the native scene: they are of the painting stretched to 640 columns, 20 bands, test
columns 320 to 575.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from bench.cpu.run import RESULTS
from bench.environment import environment
from bench.experiments.runs import Settings, add_settings, bicubic_scores, given_settings, held_out, load
from bench.forward import Forward
from lkcanet.benchmark import time_in_turns
from lkcanet.benchmark.providers import Runner
from lkcanet.common.files import atomic_path
from lkcanet.data.multispectral import simulate_msi
from lkcanet.data.responses import named_response
from lkcanet.evaluation.metrics import evaluate
from lkcanet.inference import super_resolve
from lkcanet.models import load_model
from lkcanet.models.registry import PRESETS
from lkcanet.objectives import HObjective, objective_for
from lkcanet.training import TrainOptions, train

RESPONSE = "average-4"
IMAGE = 64  # side of the low-resolution image that latency and multiply-adds are of
SECONDS = 6.0


@dataclass(frozen=True)
class System:
    """A network of reduced size: a preset with options, its objective ("H" or its own) and the options of that, and the
    first learning rate, if it is not the settings': the last is a hundredth of it. A few were tried on seed 0."""

    label: str
    preset: str
    options: dict[str, Any] = field(default_factory=dict)
    objective: dict[str, Any] = field(default_factory=dict)
    loss: str = "own"
    learning_rate: float | None = None
    steps: int | None = None  # other than the settings'


_EDLGFS = {"channels": 48, "stages": 2, "layers": 2}
_CSAKD = {"features": 32, "growth": 16, "counts": (0, 2, 2, 1), "residual": True}
SYSTEMS = {
    "vdsr": System("VDSR-LR, with the bicubic image", "vdsr_lr", {"bicubic": True}, loss="H", learning_rate=2e-4),
    "cnn3d": System("3DFCNN-LR, with the bicubic image", "cnn3d_lr", {"bicubic": True}, loss="H", learning_rate=2e-4),
    "edlgfs": System("EDLGFS, 48 channels, 2 stages of 2 layers", "edlgfs", _EDLGFS, learning_rate=3e-4, steps=2400),
    "edlgfs_h": System(
        "EDLGFS, the same, H loss", "edlgfs", {**_EDLGFS, "edge_branch": False}, loss="H", learning_rate=3e-4
    ),
    "csakd": System(
        "CSAKD student (0, 2, 2, 1), 32 features", "csakd-student", _CSAKD, {"teacher_counts": (2, 2, 1, 1)}
    ),
}
TEACHER = "CSAKD teacher (2, 2, 1, 1), trained along"
ALSO = {"lr": "LKCA-LR", "kd": "LKCA-KD (teacher of 32 blocks)", "net": "LKCA-Net"}


def run(out: Path, settings: Settings, name: str, seed: int) -> None:
    """Train one system, score its last checkpoint and that of its teacher."""
    torch.set_num_threads(1)
    scene, split = load(settings)
    system = SYSTEMS[name]
    preset = PRESETS[system.preset]
    response = named_response(RESPONSE) if preset.fuses else None
    torch.manual_seed(seed)
    model = preset.make(scene.bands, settings.scale, response.bands if response else 0, **system.options)
    options = TrainOptions(
        steps=system.steps or settings.steps,
        batch_size=settings.batch_size,
        learning_rate=system.learning_rate or settings.learning_rate,
        final_learning_rate=system.learning_rate / 100 if system.learning_rate else settings.final_learning_rate,
        validate_every=max(1, (system.steps or settings.steps) // 4),
        floor=0.0,  # the papers' losses
        seed=seed,
        threads=1,
        device="cpu",
        progress=False,
    )
    folder = out / f"{name}-{seed}"
    objective = HObjective() if system.loss == "H" else objective_for(model, options, **system.objective)
    told = train(model, scene, split, options, folder, msi=response, objective=objective, overwrite=True)
    target, lowres = held_out(scene, split, settings.scale)
    msi = simulate_msi(target, response) if response else None
    networks = {name: load_model(told.last)}
    for companion, network in objective.companions().items():
        networks[f"{name}-{companion}"] = network
    results = []
    for method, network in networks.items():
        image = super_resolve(network.eval(), lowres, msi=msi)
        results.append(
            {
                "method": method,
                "seed": seed,
                "seconds": told.seconds,
                "learning_rate": options.learning_rate,
                "steps": options.steps,
                "kind": network.kind,
                "network": network.config,
                "parameters": network.fold().parameter_count(),
                "macs": network.macs(IMAGE, IMAGE),
                "scores": evaluate(image.pixels, target.pixels, settings.scale),
                "environment": environment(),
            }
        )
    with atomic_path(folder / "result.json") as temporary:
        temporary.write_text(json.dumps({"settings": asdict(settings), "results": results}, indent=1) + "\n")


def run_all(out: Path, settings: Settings, seeds: range, jobs: int) -> None:
    """Every run that has no result yet, `jobs` at once."""

    def one(name: str, seed: int) -> None:
        if not (out / f"{name}-{seed}" / "result.json").is_file():
            print(f"{name} seed {seed}", file=sys.stderr, flush=True)
            job = json.dumps({"out": str(out), "settings": asdict(settings), "name": name, "seed": seed})
            command = [sys.executable, "-m", "bench.experiments.systems", "--job", job]
            subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    with ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(one, name, seed) for seed in seeds for name in reversed(SYSTEMS)]  # longest first
        for future in waiting:
            future.result()


def collect(out: Path, settings: Settings, seeds: range, also: Path | None) -> dict[str, Any]:
    """Every result, and latencies of the networks of seed 0."""
    torch.set_num_threads(os.cpu_count() or 1)
    results, runners = [], dict[str, Runner]()
    for name in SYSTEMS:
        for seed in seeds:
            if seed and not (out / f"{name}-{seed}" / "result.json").is_file():
                continue  # the table says how many there are
            found = json.loads((out / f"{name}-{seed}" / "result.json").read_text())
            if found["settings"] != asdict(settings):
                raise ValueError(f"{out / f'{name}-{seed}'} is of other settings")
            results += found["results"]
    for method in ALSO if also else ():
        for seed in seeds:
            result = json.loads((also / f"{method}-{seed}" / "result.json").read_text())  # type: ignore[operator]
            if result["settings"] != asdict(settings):
                raise ValueError(f"{also} is of other settings")
            network = load_model(also / f"{method}-{seed}" / "last.safetensors")  # type: ignore[operator]
            results.append({**result, "kind": "lkcanet", "macs": network.macs(IMAGE, IMAGE)})
    for result in results:
        if result["method"] not in runners:
            folder = also if result["method"] in ALSO else out
            file = "teacher" if result["method"].endswith("-teacher") else "last"
            place = folder / f"{result['method'].removesuffix('-teacher')}-{seeds[0]}"  # type: ignore[operator]
            model = load_model(place / f"{file}.safetensors").fold()
            images = [torch.rand(1, model.bands, IMAGE, IMAGE)]
            if model.msi_bands:
                images.append(torch.rand(1, model.msi_bands, IMAGE * model.scale, IMAGE * model.scale))
            runners[result["method"]] = Forward(model, *images)
    times = time_in_turns(runners, SECONDS)
    return {
        "settings": asdict(settings),
        "bicubic": bicubic_scores(settings),
        "milliseconds": {method: 1e3 * statistics.median(taken) for method, taken in times.items()},
        "environment": environment() | {"threads": torch.get_num_threads()},
        "results": results,
    }


def markdown(found: dict[str, Any]) -> str:
    """The table."""
    settings, place = Settings(**found["settings"]), found["environment"]
    bands = found["results"][0]["network"]["bands"]
    lines = [
        "# Other systems in small, on the same operators",
        "",
        f"Written by `python -m bench.experiments.systems`, whose help has the commands. {settings.name}, {bands} "
        f"bands, x{settings.scale}; test {settings.test}, training inside {settings.train}; steps of "
        f"{settings.batch_size} patches of {settings.patch} LR pixels, the learning rate falling to a hundredth; "
        "scores of the last checkpoint on the held-out region. The networks are reduced as their names say; "
        "LKCA-Net's have 128 channels and 16 blocks. "
        f"CSAKD sees a multispectral image of 4 bands too ({RESPONSE}): its scores compare with nobody's here. "
        f"Parameters of the folded networks; MACs by each paper's convention and latency for {bands}x{IMAGE}x{IMAGE}, "
        f"lkops on {place['cpu']}, {place['threads']} threads, median; torch {place['torch']}.",
        "",
        "| | parameters | GMAC | ms | seeds | steps | learning rate | MPSNR (dB) | MSSIM | SAM (°) | ERGAS |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        "| bicubic | - | - | - | - | - | - | {mpsnr:.3f} | {mssim:.4f} | {sam:.3f} | {ergas:.3f} |".format(
            **found["bicubic"]
        ),
    ]
    labels = {**{name: system.label for name, system in SYSTEMS.items()}, "csakd-teacher": TEACHER, **ALSO}
    for method, milliseconds in found["milliseconds"].items():
        runs = [result for result in found["results"] if result["method"] == method]

        def mean(key: str, decimals: int, runs: list[dict[str, Any]] = runs) -> str:
            values = [run["scores"][key] for run in runs]
            spread = f" ± {statistics.stdev(values):.{decimals}f}" if len(values) > 1 else ""
            return f"{statistics.mean(values):.{decimals}f}{spread}"

        rate, steps = (runs[0].get(key, getattr(settings, key)) for key in ("learning_rate", "steps"))
        cells = [labels[method], f"{runs[0]['parameters'] / 1e6:.3f} M", f"{runs[0]['macs'] / 1e9:.2f}"]
        cells += [f"{milliseconds:.1f}", str(len(runs)), str(steps), f"{rate:g}"]
        cells += [mean(key, decimals) for key, decimals in (("mpsnr", 3), ("mssim", 4), ("sam", 3), ("ergas", 3))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_settings(parser, steps=800, batch_size=4)
    parser.add_argument("--seeds", type=int, default=3, help="0 to this number, exclusive")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at once, of one thread each")
    parser.add_argument("--out", type=Path, default=Path("systems"), help="folder of the runs")
    parser.add_argument("--also", type=Path, help="a scene's runs of bench.experiments.distillation")
    parser.add_argument("--report", action="store_true", help="measure latencies and write the report")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = vars(parser.parse_args())
    if arguments["job"]:
        job = json.loads(arguments["job"])
        run(Path(job["out"]), Settings(**job["settings"]), job["name"], job["seed"])
        return
    settings = given_settings(arguments)
    seeds = range(arguments["seeds"])
    if not arguments["report"]:
        run_all(arguments["out"], settings, seeds, arguments["jobs"])
        return
    found = collect(arguments["out"], settings, seeds, arguments["also"])
    text = markdown(found)
    for name, content in (("systems.json", json.dumps(found, indent=1) + "\n"), ("systems.md", text)):
        with atomic_path(RESULTS / name) as temporary:
            temporary.write_text(content)
    print(text)


if __name__ == "__main__":
    main()
