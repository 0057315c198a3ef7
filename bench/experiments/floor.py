"""`python -m bench.experiments.floor DATA`: what the floor under the spectral angle does to dark pixels, three scenes.

    OMP_NUM_THREADS=1 nice python -m bench.experiments.floor ../shared/data --out runs

A generated scene with lakes (5 % of it, at 1 % of the land's root mean square), CAVE's oil painting of 31 bands (for
1000 and for 400 steps) and Jasper Ridge, for each a small LKCA-LR on a short course, for every floor and seed. DATA is
the folder that holds cave/oil_painting_ms and jasper_ridge.mat. A quarter of an hour of one core. Stopped and started
again it goes on with the runs that are missing; `--scenes` and `--floors` run some of them, without the report. Writes
bench/results/floor.json and .md.
"""

import argparse
import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch

from bench.cpu.run import RESULTS
from bench.environment import environment
from lkcanet.common.files import atomic_path
from lkcanet.data import Scene, bicubic_downsample, bicubic_upsample, demo_scene, read_scene, region_split
from lkcanet.data.splits import parse_rect
from lkcanet.evaluation.metrics import evaluate
from lkcanet.inference import super_resolve
from lkcanet.models import LKCANet
from lkcanet.training import TrainOptions, train

SCALE = 4
FLOORS = (0.0, 0.005, 0.01, 0.02, 0.05)
SHARE = 0.05  # of pixels that are dark: the lakes, and the darkest of the other scenes' test regions
LEVEL = 0.01  # of a lake's root mean square to the land's
COURSE: dict[str, Any] = {"batch_size": 4, "learning_rate": 2e-3, "final_learning_rate": 2e-4}
NETWORK = {"channels": 32, "blocks": 4, "upsample_groups": 8}


@dataclass(frozen=True)
class Place:
    """A scene and its regions, as `region_split` takes them; the side of patches in LR pixels."""

    label: str
    test: str
    train: str | None = None
    validation: str | float = 0.1
    patch: int = 16
    steps: int = 400


PLACES = {
    "lakes": Place("generated, with lakes", "0:256,160:256"),
    "painting": Place("oil painting", "0:512,320:512", steps=1000),
    "painting_short": Place("oil painting, briefly", "0:512,320:512"),
    "jasper": Place("Jasper Ridge", "0:96,0:32", "0:100,32:100", "68:100,32:64", 8),
}
COLUMNS = {"mpsnr": "MPSNR (dB)", "dark_rmse": "RMSE, dark", "rest_sam": "SAM, rest (°)", "dark_sam": "SAM, dark (°)"}


def lake_scene(size: tuple[int, int] = (256, 256), bands: int = 31, seed: int = 1) -> tuple[Scene, np.ndarray]:
    """`demo_scene` with lakes of smooth shores on SHARE of it, and where they are: clear water, brightest at 500 nm."""
    from scipy.ndimage import gaussian_filter

    scene = demo_scene(size, bands, seed)
    assert scene.wavelengths is not None
    ground = gaussian_filter(np.random.default_rng(seed).normal(size=size), 10, mode="wrap")
    lakes = ground > np.quantile(ground, 1 - SHARE)
    cover = gaussian_filter(lakes.astype(np.float64), 0.7)  # a sensor's blur, as the scene's own
    land = rms(scene.pixels)[~lakes].mean()
    water = 0.3 + np.exp(-0.5 * ((scene.wavelengths - 500) / 90) ** 2)
    water *= LEVEL * land / math.sqrt(np.square(water).mean())
    pixels = (1 - cover) * scene.pixels + cover * water[:, None, None]
    return replace(scene, pixels=pixels.astype(np.float32), name="lakes"), lakes


def rms(pixels: np.ndarray) -> np.ndarray:
    """Root mean square over the bands, (H, W)."""
    return np.sqrt(np.square(pixels, dtype=np.float64).mean(0))


def load(name: str, data: Path) -> tuple[Scene, np.ndarray]:
    """The scene, and which pixels of its test region are dark."""
    rect = None
    if name == "lakes":
        scene, lakes = lake_scene()
        rect = parse_rect(PLACES[name].test, lakes.shape)
        return scene, lakes[rect.slices]
    if name.startswith("painting"):
        scene = read_scene(data / "cave" / "oil_painting_ms", peak=65535)
    else:
        scene = read_scene(data / "jasper_ridge.mat", key="Y", axes="cp", size=(100, 100))
    rect = parse_rect(PLACES[name].test, scene.pixels.shape)
    levels = rms(scene.pixels[(slice(None), *rect.slices)])
    return scene, levels <= np.quantile(levels, SHARE)


def scores(image: np.ndarray, target: np.ndarray, dark: np.ndarray) -> dict[str, float]:
    """MPSNR of all pixels; RMSE and SAM of the dark ones, SAM of the others and of all, against floors too."""
    found = {"mpsnr": evaluate(image, target, SCALE)["mpsnr"]}
    found["dark_rmse"] = evaluate(image, target, SCALE, valid=dark)["rmse"]
    for part, where in (("dark_sam", dark), ("rest_sam", ~dark), ("sam", np.ones_like(dark))):
        found[part] = evaluate(image, target, SCALE, valid=where)["sam"]
    return found


def run(name: str, floor: float, seed: int, data: Path, out: Path) -> dict[str, Any]:
    """One training and its scores; of a run that has ended, what it wrote."""
    path = out / f"floor-{name}-{floor:g}-{seed}.json"
    if path.is_file():
        return json.loads(path.read_text())
    scene, dark = load(name, data)
    place = PLACES[name]
    regions: dict[str, Any] = {"validation": place.validation, "train": place.train}
    split = region_split(scene.pixels.shape, place.test, patch=place.patch * SCALE, stride=5, **regions)
    torch.manual_seed(seed)
    model = LKCANet(scene.bands, SCALE, **NETWORK)  # type: ignore[arg-type]
    more: dict[str, Any] = {
        "steps": place.steps,
        "validate_every": place.steps,
        "device": "cpu",
        "threads": 1,
        "progress": False,
    }
    with tempfile.TemporaryDirectory() as folder:
        train(model, scene, split, TrainOptions(**COURSE, **more, floor=floor, seed=seed), folder)
    assert split.test is not None
    target = scene.cropped(split.test)
    lowres = target.shrunk(bicubic_downsample(target.tensor(), SCALE)[0].numpy(), SCALE)
    result = {"scene": name, "floor": floor, "seed": seed, "environment": environment()}
    result["scores"] = scores(super_resolve(model, lowres).pixels, target.pixels, dark)
    result["bicubic"] = scores(bicubic_upsample(lowres.tensor(), SCALE)[0].numpy(), target.pixels, dark)
    result["dark_rms"] = float(rms(target.pixels)[dark].mean())
    result["rest_rms"] = float(rms(target.pixels)[~dark].mean())
    out.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n")
    return result


def lines(runs: list[dict[str, Any]]) -> Iterator[str]:
    """The report."""
    first = runs[0]["environment"]
    seeds = len({entry["seed"] for entry in runs})
    yield "# The floor under the spectral angle\n\n"
    commits = ", ".join(sorted({entry["environment"]["commit"][:8] for entry in runs}))
    changed = "" if all(entry["environment"]["clean"] for entry in runs) else " (some with changes)"
    yield (
        f"`python -m bench.experiments.floor`: LKCA-LR of {NETWORK['channels']} channels and {NETWORK['blocks']} "
        f"blocks, x{SCALE}, H loss, the last step, {COURSE['batch_size']} patches in each; means over "
        f"{seeds} seeds (each run is in floor.json). Scenes are divided by their peak; the floor is in these units. "
        f"Dark: the lakes, and the darkest {SHARE:.0%} of the other test regions. {first['cpu']}, one thread, torch "
        f"{first['torch']}; commits {commits}{changed}.\n"
    )
    for name, place in PLACES.items():
        of_scene = [entry for entry in runs if entry["scene"] == name]
        dark, rest, bicubic = of_scene[0]["dark_rms"], of_scene[0]["rest_rms"], of_scene[0]["bicubic"]
        yield f"\n## {place.label}, test region {place.test}, {place.steps} steps\n\n"
        yield f"Root mean square of dark pixels {dark:.4f}, of the "
        yield f"rest {rest:.4f}.\n\n| floor | {' | '.join(COLUMNS.values())} |\n|---|{'---:|' * len(COLUMNS)}\n"
        yield f"| bicubic | {' | '.join(f'{bicubic[key]:.4f}' for key in COLUMNS)} |\n"
        for floor in FLOORS:
            found = [entry["scores"] for entry in of_scene if entry["floor"] == floor]
            cells = [f"{mean(entry[key] for entry in found):.4f}" for key in COLUMNS]
            yield f"| {floor:g} | {' | '.join(cells)} |\n"
    yield "\n## What the default has to do\n\nMeans over the seeds: RMSE of dark pixels not above bicubic's, SAM of "
    yield "the rest below bicubic's, MPSNR not below that of floor 0.\n\n"
    yield f"| floor | {' | '.join(place.label for place in PLACES.values())} |\n|---|{'---|' * len(PLACES)}\n"
    for floor in FLOORS:
        yield f"| {floor:g} | {' | '.join(verdict(runs, name, floor) for name in PLACES)} |\n"
    yield (
        f"\nThe default is {TrainOptions.floor:g}: of the floors that reach all on the full courses the smallest, "
        "which costs the least angle. Differences of some hundredths of a decibel or a degree are those between "
        "seeds.\n"
    )


def verdict(runs: list[dict[str, Any]], name: str, floor: float) -> str:
    """What a floor does not reach on a scene."""

    def average(key: str, at: float) -> float:
        return mean(entry["scores"][key] for entry in runs if entry["scene"] == name and entry["floor"] == at)

    bicubic = next(entry["bicubic"] for entry in runs if entry["scene"] == name)
    missed = []
    if average("dark_rmse", floor) > bicubic["dark_rmse"]:
        missed.append("dark RMSE")
    if average("rest_sam", floor) >= bicubic["rest_sam"]:
        missed.append("SAM of the rest")
    if average("mpsnr", floor) < average("mpsnr", 0.0):
        missed.append("MPSNR")
    return f"misses {', '.join(missed)}" if missed else "all"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder of the runs' results")
    parser.add_argument("--scenes", default=",".join(PLACES))
    parser.add_argument("--floors", default=",".join(f"{floor:g}" for floor in FLOORS))
    parser.add_argument("--seeds", type=int, default=2, help="0 to this number, exclusive")
    given = parser.parse_args()
    scenes, floors = given.scenes.split(","), [float(floor) for floor in given.floors.split(",")]
    runs = []
    for seed in range(given.seeds):
        for name in scenes:
            for floor in floors:
                runs.append(run(name, floor, seed, given.data, given.out))
                shown = {key: round(value, 4) for key, value in runs[-1]["scores"].items()}
                print(f"{name}, floor {floor:g}, seed {seed}: {shown}", flush=True)
    if scenes == list(PLACES) and floors == list(FLOORS):
        for path, text in (
            (RESULTS / "floor.json", json.dumps({"course": COURSE, "network": NETWORK, "runs": runs}, indent=1) + "\n"),
            (RESULTS / "floor.md", "".join(lines(runs))),
        ):
            with atomic_path(path) as temporary:
                temporary.write_text(text)


if __name__ == "__main__":
    main()
