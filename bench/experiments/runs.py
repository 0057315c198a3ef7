"""The runs of the distillation experiment: which networks, trained how, on which part of which scene.

LKCA-Net, arXiv 2501.18664, Tables II to V, in small: the same networks (128 channels; teacher of 32 blocks) on one
scene each, trained for minutes instead of days.
"""

import argparse
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from bench.environment import environment
from lkcanet.common.files import atomic_path
from lkcanet.data import (
    Scene,
    Split,
    bicubic_downsample,
    bicubic_upsample,
    demo_scene,
    read_scene,
    region_split,
    whole_pixels,
)
from lkcanet.evaluation.metrics import evaluate
from lkcanet.inference import super_resolve
from lkcanet.models import LKCANet, load_model
from lkcanet.objectives.distillation import Distillation
from lkcanet.training import TrainOptions, distill, train

GENERATED = "generated"
TEACHER = "teacher"
DECAYS = 10  # in a course; the paper's f = 10 epochs at the 100 epochs that are usual in the field


@dataclass(frozen=True)
class Method:
    """A network and its training: `kd` is what differs from the paper's distillation, None is without a teacher."""

    label: str
    blocks: int
    groups: int
    kd: dict[str, Any] | None = None


METHODS = {
    TEACHER: Method("LKCA-Net, 32 blocks (the teacher)", 32, 1),
    "net": Method("LKCA-Net", 16, 1),
    "lr": Method("LKCA-LR", 16, 8),
    "kd": Method("LKCA-KD", 16, 8, {}),
    "kd_no_decay": Method("LKCA-KD, no decay (d = 1)", 16, 8, {"decay": 1.0}),
    "kd_no_cosine": Method("LKCA-KD, no cosine loss", 16, 8, {"cosine_weight": 0.0}),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all runs on a scene share.

    Attributes:
        scene: a path that `read_scene` reads, or "generated": `demo_scene` of 384 x 384 pixels and 48 bands.
        peak: of the scene's file; None is its maximum.
        test, train, validation: regions as "rows,columns"; `validation` may be a fraction.
        scale, patch, stride: r; side of the patches in LR pixels; step between them in HR pixels.
        channels: C of all networks.
        steps, batch_size, learning_rate, final_learning_rate: of every run.
    """

    scene: str = GENERATED
    peak: float | None = None
    test: str = ":,240:"
    train: str | None = None
    validation: str = "0.1"
    scale: int = 4
    patch: int = 24
    stride: int = 21
    channels: int = 128
    steps: int = 1000
    batch_size: int = 2
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-5

    @property
    def name(self) -> str:
        """Of the scene."""
        return self.scene if self.scene == GENERATED else Path(self.scene).stem


def add_settings(parser: argparse.ArgumentParser, **defaults: Any) -> None:
    """An option for each of the settings, with these defaults; the scene is the first argument."""
    parser.add_argument("scene", nargs="?", default=Settings.scene)
    for field in fields(Settings):
        if field.name != "scene":
            kind = {"peak": float, "train": str}.get(field.name, type(field.default))
            default = defaults.get(field.name, field.default)
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=default)


def given_settings(arguments: dict[str, Any]) -> Settings:
    """Those of a parsed command line."""
    return Settings(**{field.name: arguments[field.name] for field in fields(Settings)})


def load(settings: Settings) -> tuple[Scene, Split]:
    """The scene and its regions."""
    if settings.scene == GENERATED:
        scene = demo_scene((384, 384), 48, seed=1)
    else:
        scene = read_scene(settings.scene, peak=settings.peak)
    try:
        validation: float | str = float(settings.validation)
    except ValueError:
        validation = settings.validation
    split = region_split(
        scene.pixels.shape,
        settings.test,
        patch=settings.patch * settings.scale,
        stride=settings.stride,
        validation=validation,
        train=settings.train,
        scale=settings.scale,
    )
    return scene, split


def held_out(scene: Scene, split: Split, scale: int) -> tuple[Scene, Scene]:
    """The test region and its LR image, cropped to whole LR pixels."""
    assert split.test is not None
    target = scene.cropped(whole_pixels(split.test, scale))
    return target, target.shrunk(bicubic_downsample(target.tensor(), scale)[0].numpy(), scale)


def bicubic_scores(settings: Settings) -> dict[str, float]:
    """What every network has to beat on the test region."""
    target, lowres = held_out(*load(settings), settings.scale)
    return dict(evaluate(bicubic_upsample(lowres.tensor(), settings.scale)[0], target.pixels, settings.scale))  # type: ignore[arg-type]


def result_path(out: Path, settings: Settings, method: str, seed: int) -> Path:
    """Where a run's result lies."""
    return out / settings.name / f"{method}-{seed}" / "result.json"


def done(out: Path, settings: Settings, method: str, seed: int) -> dict[str, Any] | None:
    """The result of a run that has ended, or None; of other settings: an error."""
    path = result_path(out, settings, method, seed)
    if not path.is_file():
        return None
    found = json.loads(path.read_text())
    if found["settings"] != asdict(settings):
        raise ValueError(f"{path} is of other settings: choose another --out")
    return found


def run(out: Path, settings: Settings, method: str, seed: int) -> dict[str, Any]:
    """Train one network, score its last checkpoint on the test region, write the result.

    The last, not the best on validation: all runs have the same course, and choosing would add noise of its own.
    """
    if found := done(out, settings, method, seed):
        return found
    torch.set_num_threads(1)  # as many runs at once as there are cores: faster than threads, and the same bits anywhere
    scene, split = load(settings)
    kind = METHODS[method]
    torch.manual_seed(seed)
    model = LKCANet(scene.bands, settings.scale, settings.channels, kind.blocks, kind.groups)
    options = TrainOptions(
        steps=settings.steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        final_learning_rate=settings.final_learning_rate,
        validate_every=max(1, settings.steps // 4),
        floor=0.0,  # the papers' losses
        seed=seed,
        threads=1,
        device="cpu",
        progress=False,
    )
    folder = result_path(out, settings, method, seed).parent
    distillation = None
    if kind.kd is None:
        trained = train(model, scene, split, options, folder, overwrite=True)
    else:
        teacher = load_model(result_path(out, settings, TEACHER, seed).with_name("last.safetensors"))
        epochs = settings.steps * settings.batch_size / (8 * len(split.train_origins))
        distillation = Distillation(**{"frequency": epochs / DECAYS, **kind.kd})
        trained = distill(model, teacher, scene, split, options, distillation, folder, overwrite=True)
    target, lowres = held_out(scene, split, settings.scale)
    image = super_resolve(load_model(trained.last), lowres)
    result = {
        "method": method,
        "seed": seed,
        "settings": asdict(settings),
        "distillation": None if distillation is None else asdict(distillation),
        "network": model.config,
        "parameters": model.parameter_count(),
        "macs_16x16": model.macs(16, 16),
        "train_patches": len(split.train_origins),
        "seconds": trained.seconds,
        "validation": trained.history[-1],
        "scores": evaluate(image.pixels, target.pixels, settings.scale),
        "environment": environment(),
    }
    path = result_path(out, settings, method, seed)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n")
    return json.loads(path.read_text())
