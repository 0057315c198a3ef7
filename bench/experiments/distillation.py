"""`python -m bench.experiments.distillation SCENE`: teacher, LKCA-Net, LKCA-LR, LKCA-KD and two ablations, three seeds.

    python -m bench.experiments.distillation generated --steps 400 --out runs
    python -m bench.experiments.distillation ../shared/data/cave/oil_painting_ms --peak 65535 --test 0:512,320:512 \\
        --train 0:512,0:320 --validation 128:256,0:128 --out runs

Three quarters of an hour for both on two cores: bench/results is of these. Stopped and started again it goes on with
the runs that are missing. Writes
bench/results/distillation.json and .md, with the scenes whose runs are complete; `--report` writes them only.

The committed results are older than the native scene: they are of the painting stretched to 640 columns, 20 bands, test
columns 320 to 575.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.cpu.run import RESULTS
from bench.experiments.report import markdown
from bench.experiments.runs import METHODS, Settings, add_settings, bicubic_scores, done, given_settings, run
from lkcanet.common.files import atomic_path


def in_process(out: Path, settings: Settings, method: str, seed: int) -> None:
    """A run in a Python of its own, unless it has ended already."""
    if done(out, settings, method, seed) is None:
        print(f"{settings.name} {method} seed {seed}", file=sys.stderr, flush=True)
        job = json.dumps({"out": str(out), "settings": asdict(settings), "method": method, "seed": seed})
        command = [sys.executable, "-m", "bench.experiments.distillation", "--job", job]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def run_all(out: Path, settings: Settings, methods: Iterable[str], seeds: Iterable[int], jobs: int) -> None:
    """Every run of a scene, `jobs` at once; first those that need no teacher."""
    with ThreadPoolExecutor(jobs) as pool:
        for with_teacher in (False, True):
            waiting = [
                pool.submit(in_process, out, settings, method, seed)
                for seed in seeds
                for method in methods
                if (METHODS[method].kd is not None) == with_teacher
            ]
            for future in waiting:
                future.result()


def summary(out: Path, settings: Settings, seeds: Iterable[int]) -> dict[str, Any]:
    """Bicubic's scores and every run's result."""
    found = [done(out, settings, method, seed) for seed in seeds for method in METHODS]
    return {
        "settings": asdict(settings),
        "bicubic": bicubic_scores(settings),
        "runs": [result for result in found if result],
    }


def write(scene: dict[str, Any]) -> None:
    """Put a scene's results beside those of the others."""
    path = RESULTS / "distillation.json"
    scenes = json.loads(path.read_text()) if path.is_file() else {}
    scenes[Settings(**scene["settings"]).name] = scene
    for target, text in ((path, json.dumps(scenes, indent=1) + "\n"), (path.with_suffix(".md"), markdown(scenes))):
        with atomic_path(target) as temporary:
            temporary.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_settings(parser)
    parser.add_argument("--methods", default=",".join(METHODS), help="some of them, without writing the report")
    parser.add_argument("--seeds", type=int, default=3, help="0 to this number, exclusive")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at once, of one thread each")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder of the runs")
    parser.add_argument("--report", action="store_true", help="only write the report again")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = vars(parser.parse_args())
    if arguments["job"]:
        job = json.loads(arguments["job"])
        run(Path(job["out"]), Settings(**job["settings"]), job["method"], job["seed"])
        return
    settings = given_settings(arguments)
    seeds = range(arguments["seeds"])
    methods = [name for name in METHODS if name in arguments["methods"].split(",")]
    if not arguments["report"]:
        run_all(arguments["out"], settings, methods, seeds, arguments["jobs"])
    if len(methods) < len(METHODS):
        return
    write(summary(arguments["out"], settings, seeds))
    print((RESULTS / "distillation.md").read_text())


if __name__ == "__main__":
    main()
