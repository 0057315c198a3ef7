"""`python -m bench.experiments.cave`: networks trained on CAVE by SSPSR's protocol, beside the published scores.

    lkca prepare cave complete_ms_data --out cave-x4 --scale 4
    python -m bench.experiments.cave train cave-x4 LKCA-Net --minutes 105    # hours; again: goes on where it was
    python -m bench.experiments.cave score cave-x4 LKCA-Net LKCA-Res
    python -m bench.experiments.cave report cave-x4     # tables, curves and a picture of what was scored
    python -m bench.experiments.cave publish cave-x4 LKCA-Net --name lkca-net-cave-x4

`train` runs `lkca train` or `lkca distill` with the options of `RUNS`. `score` looks at the twelve test scenes, once
for each finished run that is named, and counts its looks in bench/results/cave_x4.json (cave_x8.json): a run that was
scored before is refused unless `--again`. Everything is chosen on the validation scenes, two of the twenty that SSPSR
trains on. Networks are scored as the package stores them, weights rounded to bfloat16. `report` and `publish` score
nothing; the picture of `report` is of a test scene, drawn after its scores are known.
"""

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.cpu.run import RESULTS
from bench.environment import environment
from bench.experiments import cave_report
from lkcanet.common.files import atomic_path
from lkcanet.data import PreparedSet, load_prepared
from lkcanet.evaluation import mean_scores, score_tests
from lkcanet.models import Network, load_model_and_extra, pretrained
from lkcanet.training.state import read as read_state

CHECKPOINT, NOTE = "last.safetensors", "run.json"
DTYPE = "bfloat16"  # of the weights in the package
DATA = {
    "name": "CAVE multispectral image database, Columbia University: 18 of the 20 training scenes of SSPSR's protocol; "
    "chart_and_stuffed_toy and feathers validate",
    "terms": "research use; cite the source. The images are not part of this package",
    "citation": "F. Yasuma, T. Mitsunaga, D. Iso, S. K. Nayar: Generalized Assorted Pixel Camera: Postcapture Control "
    "of Resolution, Dynamic Range and Spectrum. IEEE Transactions on Image Processing 19(9), 2010",
}
# what every run has: chosen in runs of 400 to 1000 steps, on the validation scenes
COMMON = [
    *("--patch", "24", "--stride", "25", "--batch-size", "8"),
    *("--learning-rate", "1e-3", "--final-learning-rate", "2e-5", "--warmup", "200"),
    *("--whiten", "0.1", "--ema", "0.999", "--sam-weight", "0.2"),
    *("--threads", "1", "--validate-every", "500"),
]
PLAIN = ["--set", "weight_norm=false", "--drop-path", "0"]
RUNS: dict[str, list[str]] = {
    "LKCA-Net": ["train", "--network", "lkca_net", *PLAIN],
    "LKCA-Res": ["train", "--model", "lkca_res"],
    "LKCA-LR": ["train", "--network", "lkca_lr", *PLAIN],
    "Teacher": ["train", "--network", "lkca_net", "--blocks", "32", *PLAIN],
    "LKCA-KD": ["distill", "--teacher", "{runs}/teacher/last.safetensors", "--network", "lkca_lr", *PLAIN],
}
PROTOCOL = (
    "SSPSR's (Jiang et al., 2020): scenes sorted by name, the last twelve are tested on; values divided by the full "
    "scale of their PNGs; MATLAB's bicubic of the whole 512 x 512 images; means over the twelve; MSSIM with MATLAB's "
    "windows"
)


def main() -> None:
    """Parse the command line, and do what it says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in {"train": "one run", "score": "look at the test scenes", "report": "tables and pictures",
                       "publish": "into the package"}.items():  # fmt: skip
        command = commands.add_parser(name, help=text)
        command.add_argument("set", type=Path, help="the folder of `lkca prepare cave`")
        if name != "report":
            command.add_argument("labels", nargs="+" if name == "score" else 1, choices=tuple(RUNS), metavar="LABEL")
        command.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs")
        command.add_argument("--results", type=Path, default=RESULTS)
        if name == "train":
            command.add_argument("--minutes", type=float, required=True)
        if name == "score":
            command.add_argument("--again", action="store_true", help="also what was scored before: another look")
        if name == "publish":
            command.add_argument("--name", required=True)
            command.add_argument("--overwrite", action="store_true")
    given = parser.parse_args()
    prepared = load_prepared(given.set)
    if not isinstance(prepared, PreparedSet) or prepared.protocol != "cave":
        raise SystemExit(f"{given.set} is not a folder of `lkca prepare cave`")
    file = given.results / f"cave_x{prepared.scale}.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"networks": {}}
    if given.command == "train":
        train(given.set, given.labels[0], given.runs, given.minutes)
    elif given.command == "score":
        score(prepared, given.labels, found, given.runs, again=given.again)
        with atomic_path(file) as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n")
    elif given.command == "report":
        cave_report.write(prepared, found, lambda label: given.runs / folder_of(label) / CHECKPOINT, given.results)
    else:
        (label,) = given.labels
        file = given.runs / folder_of(label) / CHECKPOINT
        print(publish(found["networks"][label], file, given.name, overwrite=given.overwrite))


def folder_of(label: str) -> str:
    """The folder of a run."""
    return label.lower()


def train(data: Path, label: str, runs: Path, minutes: float) -> None:
    """Run or resume the training; note commit, command and machine beside it."""
    out = runs / folder_of(label)
    command, *options = [option.format(runs=runs) for option in RUNS[label]]
    line = ["lkca", command, str(data), *options, *COMMON, "--max-minutes", f"{minutes:g}", "--out", str(out)]
    resumes = (out / "state.safetensors").exists()
    if not resumes:
        out.mkdir(parents=True, exist_ok=True)
        place = environment()
        facts = {"commit": place["commit"], "command": " ".join(line), "machine": place["cpu"]}
        (out / NOTE).write_text(json.dumps(facts) + "\n")
    done = subprocess.run([sys.executable, "-m", "lkcanet.cli", *line[1:], *(["--resume"] if resumes else [])])
    raise SystemExit(done.returncode)


def score(prepared: PreparedSet, labels: list[str], found: dict[str, Any], runs: Path, *, again: bool) -> None:
    """Score the runs' last checkpoints, which hold averaged weights, on the test scenes."""
    known = [label for label in labels if label in found["networks"]]
    if known and not again:
        raise SystemExit(f"scored before: {', '.join(known)}; --again looks once more, and counts it")
    loaded = {label: load_model_and_extra(runs / folder_of(label) / CHECKPOINT) for label in labels}
    networks = {label: pretrained.stored(model, DTYPE) for label, (model, _) in loaded.items()}
    scores = score_tests(prepared, networks, ensemble=True, progress=print)
    found |= {"scale": prepared.scale, "ssim": prepared.ssim, "environment": environment()}
    found["validation"] = [scene.name for scene in prepared.validation]
    found["bicubic"] = _told(prepared, scores["bicubic"])
    for label, network in networks.items():
        found["networks"][label] = {
            **_facts(network, runs / folder_of(label), loaded[label][1]),
            "looks": found["networks"].get(label, {}).get("looks", 0) + 1,
            "scores": _told(prepared, scores[label]),
            "ensemble": _told(prepared, scores[f"{label} (ensemble)"]),
        }


def _told(prepared: PreparedSet, images: list[Any]) -> dict[str, Any]:
    named = dict(zip(prepared.test_names, (dict(image) for image in images), strict=True))
    return {"mean": dict(mean_scores(images)), "images": named}


def _facts(network: Network, folder: Path, extra: dict[str, Any]) -> dict[str, Any]:
    note = json.loads((folder / NOTE).read_text())
    return {
        "kind": network.kind,
        "config": network.config,
        "parameters": network.parameter_count(),
        "macs_16x16": network.macs(16, 16),
        "step": extra["step"],
        "training": {**note, "hours": round(read_state(folder / "state.safetensors").seconds / 3600, 2)},
        "curve": _log(folder / "metrics.csv"),
    }


def _log(file: Path) -> list[dict[str, float]]:
    """The validations of a run."""
    with file.open() as lines:
        rows = [row for row in csv.DictReader(lines) if row.get("validation_mpsnr")]
    names = ("validation_mpsnr", "validation_sam")
    return [{"step": int(row["step"]), **{name[11:]: float(row[name]) for name in names}} for row in rows]


def publish(network: dict[str, Any], file: Path, name: str, *, overwrite: bool, folder: Path | None = None) -> Path:
    """Put a scored network into the package, with its card."""
    card = {
        "data": DATA,
        "protocol": PROTOCOL,
        "wavelengths": [float(nm) for nm in range(400, 701, 10)],
        "peak": 65535.0,
        **{key: network[key] for key in ("scores", "ensemble", "training")},
        "test_looks": network["looks"],
        "notes": ["ended by the clock after the hours that `training` names, not by convergence"],
    }
    return pretrained.publish(file, name, card, dtype=DTYPE, folder=folder, overwrite=overwrite)


if __name__ == "__main__":
    main()
