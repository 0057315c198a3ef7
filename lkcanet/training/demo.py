"""A scene is generated, a small network trained on it, and its held-out part scored and drawn."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ..evaluation import Metrics, comparison, evaluate, save_figure
from .result import TrainResult

__all__ = ["SCALE", "DemoResult", "run_demo"]

SCALE = 4


@dataclass(frozen=True)
class DemoResult:
    """What `run_demo` leaves behind.

    Attributes:
        quality: the scores of "bicubic" and "LKCA-LR" on the held-out part.
        training: the run.
        parameters: of the network.
        figure: the file of the picture.
    """

    quality: dict[str, Metrics]
    training: TrainResult
    parameters: int
    figure: Path

    @property
    def beats_bicubic(self) -> bool:
        """Whether the network is better in both MPSNR and SAM."""
        bicubic, network = self.quality.values()
        return network["mpsnr"] > bicubic["mpsnr"] and network["sam"] < bicubic["sam"]


def run_demo(
    out_dir: str | os.PathLike[str],
    *,
    quick: bool = False,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> DemoResult:
    """Train LKCA-LR, x4, on the left five eighths of `lkcanet.data.demo_scene`, and score it on the rest.

    60 bands of 256 x 256 pixels, 1400 steps or two minutes.

    Args:
        out_dir: folder, made where it is missing, that receives scene.npy, super-resolved.npy, demo.png, and what
            `lkcanet.training.train` writes; what a demo before left there is replaced.
        quick: 8 bands of 128 x 128 pixels and 240 steps: seconds, for tests.
        seed: of the scene and the training.
        progress: is called with a line for the user before training and before scoring.

    Raises:
        OSError: a file can't be written.
        ModuleNotFoundError: a package of the extras "io" or "train" is not installed.
    """
    from ..data import demo_scene, region_split, simulate_lowres, write_scene
    from ..data.degrade import bicubic_upsample
    from ..inference import super_resolve
    from ..models import lkca_lr, load_model
    from . import TrainOptions, train

    out, tell = Path(out_dir), progress or (lambda _: None)
    out.mkdir(exist_ok=True)
    side, bands, patch, stride = (128, 8, 32, 8) if quick else (256, 60, 64, 7)
    scene = demo_scene((side, side), bands, seed)
    write_scene(out / "scene.npy", scene)
    edge = side * 5 // 8
    # an odd stride lets patches meet every phase of the LR grid, not only that of the test region
    split = region_split(scene.pixels.shape, f":,{edge}:", patch=patch, stride=stride)
    torch.manual_seed(seed)
    model = lkca_lr(bands, SCALE, channels=32, blocks=1 if quick else 2)
    tell(
        f"training LKCA-LR ({model.parameter_count():,} parameters) on columns 0 to {edge} of a generated scene of "
        f"{bands} bands, {side} x {side} pixels"
    )
    # a small network on a short course; the clock ends it on a slow machine, with the learning rate cooled down
    if quick:
        options = TrainOptions(steps=240, batch_size=4, learning_rate=3e-3, validate_every=120, seed=seed)
    else:
        options = TrainOptions(steps=1400, max_minutes=2, batch_size=8, validate_every=50, seed=seed)
    result = train(model, scene, split, options, out, overwrite=True)
    tell(f"super-resolving and scoring the test region, columns {edge} to {side}")
    assert split.test is not None
    target = scene.cropped(split.test)
    lowres = simulate_lowres(target, SCALE)
    bicubic = bicubic_upsample(lowres.tensor(), SCALE)[0]
    network = super_resolve(load_model(result.best), lowres)
    write_scene(out / "super-resolved.npy", network)
    quality = {
        "bicubic": evaluate(bicubic, target.pixels, SCALE),
        "LKCA-LR": evaluate(network.pixels, target.pixels, SCALE),
    }
    figure = comparison(
        lowres.pixels,
        bicubic,
        network.pixels,
        target.pixels,
        scale=SCALE,
        wavelengths=None if scene.wavelengths is None else list(scene.wavelengths),
        title=f"LKCA-LR x{SCALE} on the held-out part of the demo scene",
    )
    return DemoResult(quality, result, model.parameter_count(), save_figure(figure, out / "demo.png"))
