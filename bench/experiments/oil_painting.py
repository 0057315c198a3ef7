"""`python -m bench.experiments.oil_painting RUN`: what a training run on CAVE's oil painting reached, into
bench/results.

    lkca train ../shared/data/cave/oil_painting_ms --peak 65535 --test 0:512,320:512 --train-region 0:512,0:320 \\
        --validation 128:256,0:128 --network lkca_lr --patch 32 --batch-size 4 --stride 3 --learning-rate 1e-3 \\
        --final-learning-rate 1e-5 --steps 3000 --max-minutes 30 --monitor mpsnr --out run
    python -m bench.experiments.oil_painting run --commit COMMIT --minutes 30

The committed result is older than the native scene: it is of the painting stretched to 640 columns, 20 bands, test
columns 320 to 575.

RUN is the folder that `lkca train` wrote. Scores are of the test region that the training never read, for both
checkpoints: the best on the validation block by what the run monitored, and the last. Writes
oil_painting.json (settings, curve, scores, machine, commit) and oil_painting.png (of the last).
"""

import argparse
import csv
import json
from pathlib import Path
from typing import Any

from bench.cpu.run import RESULTS
from bench.environment import environment
from lkcanet.common.files import atomic_path
from lkcanet.data import bicubic_downsample, bicubic_upsample, parse_rect, read_scene, whole_pixels
from lkcanet.evaluation.figures import comparison, save_figure
from lkcanet.evaluation.metrics import evaluate
from lkcanet.evaluation.tables import metrics_markdown
from lkcanet.inference import super_resolve
from lkcanet.models import load_model_and_extra

SCENE = Path(__file__).parents[3] / "shared" / "data" / "cave" / "oil_painting_ms"


def curve(log: Path) -> list[dict[str, float]]:
    """One entry a validation: step, and the scores and loss of the validation block."""
    with log.open() as file:
        rows = [row for row in csv.DictReader(file) if row["validation_mpsnr"]]
    return [
        {"step": int(row["step"])}
        | {key.removeprefix("validation_"): float(value) for key, value in row.items() if key.startswith("validation_")}
        for row in rows
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder that `lkca train` wrote")
    parser.add_argument("--scene", type=Path, default=SCENE)
    parser.add_argument("--commit", required=True, help="commit that the training ran on")
    parser.add_argument("--minutes", type=float, required=True, help="that the training took")
    arguments = parser.parse_args()
    checkpoints = {name: load_model_and_extra(arguments.run / f"{name}.safetensors") for name in ("best", "last")}
    model, extra = checkpoints["last"]
    scene = read_scene(arguments.scene, peak=extra["peak"])
    test = parse_rect(extra["split"]["test"], scene.pixels.shape)
    rows, columns = whole_pixels(test, model.scale).slices
    target = scene.tensor()[:, :, rows, columns].contiguous()
    lowres = bicubic_downsample(target, model.scale)
    images = {"bicubic": bicubic_upsample(lowres, model.scale)}
    images |= {name: super_resolve(network, lowres) for name, (network, _) in checkpoints.items()}
    scores = {name: evaluate(image, target, model.scale) for name, image in images.items()}
    results: dict[str, Any] = {
        "scene": f"CAVE oil painting, {scene.bands} bands of {scene.size[0]} x {scene.size[1]} pixels",
        "peak": extra["peak"],
        "network": model.config,
        "parameters": model.parameter_count(),
        "split": extra["split"],
        "options": extra["options"],
        "steps": {name: facts["step"] for name, (_, facts) in checkpoints.items()},
        "minutes": arguments.minutes,
        "test_scores": scores,
        "curve": curve(arguments.run / "metrics.csv"),
        "environment": environment() | {"trained_at_commit": arguments.commit},
    }
    with atomic_path(RESULTS / "oil_painting.json") as temporary:
        temporary.write_text(json.dumps(results, indent=1) + "\n")
    figure = comparison(
        lowres[0],
        images["bicubic"][0],
        images["last"][0],
        target[0],
        scale=model.scale,
        wavelengths=[400 + 10 * band for band in range(scene.bands)],
        title=f"LKCA-LR x{model.scale} on the held-out part of CAVE's oil painting",
    )
    save_figure(figure, RESULTS / "oil_painting.png", dpi=100)
    print(metrics_markdown(scores))


if __name__ == "__main__":
    main()
