"""`python -m bench.experiments.cave`: networks trained on CAVE by SSPSR's protocol, beside the published scores.

    lkca prepare cave complete_ms_data --out cave-x4 --scale 4
    python -m bench.experiments.cave train cave-x4 LKCA-Net-24 --minutes 105    # hours; again: goes on where it was
    python -m bench.experiments.cave train cave-x4 LKCA-Net --minutes 96        # what starts from it
    python -m bench.experiments.cave score cave-x4 LKCA-Net LKCA-Res
    python -m bench.experiments.cave report cave-x4     # tables, curves and a picture of what was scored
    python -m bench.experiments.cave publish cave-x4 LKCA-Net --name lkca-net-cave-x4

`train` runs `lkca train`, `distill` or `compress` as `cave_runs.RUNS` says. `score` looks at the twelve test scenes,
once for each finished run that is named, and counts its looks in bench/results/cave_x4.json (cave_x8.json): a run that
was scored before is refused unless `--again`. Everything is chosen on the validation scenes, two of the twenty that
SSPSR trains on; a last course, when nothing is left to be chosen, may have all twenty (`lkca prepare cave --validation
none`). Networks are scored as the package stores them, weights rounded to bfloat16. `report` and `publish`
score nothing; the picture of `report` is of a test scene, drawn after its scores are known.
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
from bench.experiments.cave_runs import CHECKPOINT, RUNS, command_line, folder_of, history
from lkcanet.common.files import atomic_path
from lkcanet.data import PreparedSet, load_prepared
from lkcanet.evaluation import score_tests
from lkcanet.evaluation.scoring import named_scores
from lkcanet.models import Network, load_model, pretrained
from lkcanet.training.state import read as read_state

NOTE = "run.json"
DTYPE = "bfloat16"  # of the weights in the package
DATA = {
    "name": "CAVE multispectral image database, Columbia University",
    "terms": "research use; cite the source. The images are not part of this package",
    "citation": "F. Yasuma, T. Mitsunaga, D. Iso, S. K. Nayar: Generalized Assorted Pixel Camera: Postcapture Control "
    "of Resolution, Dynamic Range and Spectrum. IEEE Transactions on Image Processing 19(9), 2010",
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
            ends = command.add_mutually_exclusive_group()
            ends.add_argument("--minutes", type=float, help="of training")
            ends.add_argument("--steps", type=int, help="of training: as many as another run had, to compare with it")
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
        told = {"--max-minutes": given.minutes, "--steps": given.steps}
        end = [text for option, value in told.items() if value is not None for text in (option, str(value))]
        train(prepared, given.set, given.labels[0], given.runs, end)
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


def train(prepared: PreparedSet, data: Path, label: str, runs: Path, end: list[str]) -> None:
    """Run or resume the training, or compress; note commit, command, machine and scenes beside it."""
    out, line = runs / folder_of(label), command_line(data, label, runs, end)
    resumes = (out / "state.safetensors").exists()
    if not resumes:
        out.mkdir(parents=True, exist_ok=True)
        place = environment()
        facts = {
            "commit": place["commit"],
            "command": " ".join(["lkca", *line]),
            "machine": place["cpu"],
            "training_scenes": len(prepared.train),
            "validation_scenes": [scene.name for scene in prepared.validation],
        }
        (out / NOTE).write_text(json.dumps(facts) + "\n")
    done = subprocess.run([sys.executable, "-m", "lkcanet.cli", *line, *(["--resume"] if resumes else [])])
    raise SystemExit(done.returncode)


def score(prepared: PreparedSet, labels: list[str], found: dict[str, Any], runs: Path, *, again: bool) -> None:
    """Score the runs' last checkpoints, which hold averaged weights, on the test scenes."""
    known = [label for label in labels if label in found["networks"]]
    if known and not again:
        raise SystemExit(f"scored before: {', '.join(known)}; --again looks once more, and counts it")
    loaded = {label: load_model(runs / folder_of(label) / CHECKPOINT) for label in labels}
    networks = {label: pretrained.stored(model, DTYPE) for label, model in loaded.items()}
    scores = score_tests(prepared, networks, ensemble=True, progress=print)
    found |= {"scale": prepared.scale, "ssim": prepared.ssim, "environment": environment()}
    found["bicubic"] = named_scores(prepared.test_names, scores["bicubic"])
    for label, network in networks.items():
        found["networks"][label] = {
            **_facts(network, label, runs, found["networks"]),
            "looks": found["networks"].get(label, {}).get("looks", 0) + 1,
            "scores": named_scores(prepared.test_names, scores[label]),
            "ensemble": named_scores(prepared.test_names, scores[f"{label} (ensemble)"]),
        }


def _facts(network: Network, label: str, runs: Path, scored: dict[str, Any]) -> dict[str, Any]:
    """Of the network and its training. What a run was that it started from, and whose weights alone are here, was noted
    when that was scored."""
    before: list[dict[str, Any]] = []
    for run in history(label)[1:]:
        if not (runs / folder_of(run) / NOTE).exists():
            *earlier, last = cave_report.stages(scored[run]["training"])
            last = {key: value for key, value in last.items() if key != "before"}
            before += [{**last, "curve": scored[run]["curve"]}, *reversed(earlier)]
            break
        before.append({**_training(runs / folder_of(run), run), "curve": _log(runs / folder_of(run) / "metrics.csv")})
    first = _training(runs / folder_of(label), label)
    return {
        "kind": network.kind,
        "config": network.config,
        "parameters": network.parameter_count(),
        "macs_16x16": network.macs(16, 16),
        "training": {**first, "before": before} if before else first,
        "curve": _log(runs / folder_of(label) / "metrics.csv"),
    }


def _training(folder: Path, label: str) -> dict[str, Any]:
    """Steps and hours of a run; none of a compression, which takes seconds."""
    note, state = json.loads((folder / NOTE).read_text()), folder / "state.safetensors"
    if not state.exists():
        return {"label": label, **note, "steps": 0, "hours": 0.0}
    read = read_state(state)
    return {"label": label, **note, "steps": read.step, "hours": round(read.seconds / 3600, 2)}


def _log(file: Path) -> list[dict[str, float]]:
    """The validations of a run; none of a compression."""
    if not file.exists():
        return []
    with file.open() as lines:
        rows = [row for row in csv.DictReader(lines) if row.get("validation_mpsnr")]
    names = ("validation_mpsnr", "validation_sam")
    return [{"step": int(row["step"]), **{name[11:]: float(row[name]) for name in names}} for row in rows]


def publish(network: dict[str, Any], file: Path, name: str, *, overwrite: bool, folder: Path | None = None) -> Path:
    """Put a scored network into the package, with its card."""
    *before, last = cave_report.stages(network["training"])
    hours = round(last["hours"] + sum(told["hours"] for told in before), 2)
    card = {
        "data": {**DATA, "name": f"{DATA['name']}: {_scenes(last)}"},
        "protocol": PROTOCOL,
        "wavelengths": [float(nm) for nm in range(400, 701, 10)],
        "peak": 65535.0,
        **{key: network[key] for key in ("scores", "ensemble")},
        "training": {**{name: last[name] for name in ("commit", "command", "machine", "steps")}, "hours": hours},
        "test_looks": network["looks"],
        "notes": [
            "ended by the clock, not by convergence; hours are of all its runs together",
            *(
                f"before that, {told['label']}: {told['steps']} steps in {told['hours']} hours, `{told['command']}`, "
                f"commit {told['commit'][:12]}; {_scenes(told)}"
                for told in before
            ),
        ],
    }
    return pretrained.publish(file, name, card, dtype=DTYPE, folder=folder, overwrite=overwrite)


def _scenes(training: dict[str, Any]) -> str:
    count, validation = training["training_scenes"], training["validation_scenes"]
    said = f"{count} of the 20 training scenes of SSPSR's protocol"
    return f"{said}; {' and '.join(validation)} validate" if validation else said


if __name__ == "__main__":
    main()
