"""A scene is generated, a small network trained on it, and its held-out part scored and drawn; then a network that is
trained already, where one is here, enlarges a scene of its own."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..common.files import atomic_path
from ..common.optional import require
from ..evaluation import Metrics, comparison, evaluate, save_figure
from ..models import Network, pretrained
from .result import TrainResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..data import Scene

__all__ = ["SCALE", "DemoResult", "PretrainedResult", "best_pretrained", "run_demo", "run_pretrained"]

SCALE = 4
# beside the checkout; none of CAVE's training scenes
PAINTING = Path(__file__).parents[3] / "shared" / "data" / "cave" / "oil_painting_ms"
BANDS, PEAK = 31, 65535.0  # of CAVE


@dataclass(frozen=True)
class PretrainedResult:
    """What `run_pretrained` finds.

    Attributes:
        name: of the network.
        scene: what it enlarged, in words.
        quality: the scores of "bicubic" and the network's name on all of that scene.
        figure: the picture, to be saved by `lkcanet.evaluation.save_figure`.
    """

    name: str
    scene: str
    quality: dict[str, Metrics]
    figure: "Figure"


@dataclass(frozen=True)
class DemoResult:
    """What `run_demo` leaves behind.

    Attributes:
        quality: the scores of "bicubic" and "LKCA-LR" on the held-out part.
        training: the run.
        parameters: of the network.
        figure: the file of the picture: of the trained network, and below it of the pretrained one.
        pretrained: what a network that was trained before reaches on another scene; None where there is none.
    """

    quality: dict[str, Metrics]
    training: TrainResult
    parameters: int
    figure: Path
    pretrained: PretrainedResult | None = None

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
    """Train LKCA-LR, x4, on the left five eighths of `lkcanet.data.demo_scene`, and score it on the rest. Then, where a
    pretrained network is here, `run_pretrained`.

    60 bands of 256 x 256 pixels, 1400 steps or two minutes.

    Args:
        out_dir: folder, made where it is missing, that receives scene.npy, super-resolved.npy, demo.png, and what
            `lkcanet.training.train` writes; what a demo before left there is replaced.
        quick: 8 bands of 128 x 128 pixels and 240 steps: seconds, for tests.
        seed: of the scene and the training.
        progress: is called with a line for the user before each part.

    Raises:
        OSError: a file can't be written.
        ModuleNotFoundError: a package of the extras "io" or "train" is not installed.
    """
    from ..data import demo_scene, region_split, write_scene
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
    title = f"LKCA-LR x{SCALE} on the held-out part of the demo scene"
    network, quality, figure = _scored(load_model(result.best), scene.cropped(split.test), "LKCA-LR", title)
    write_scene(out / "super-resolved.npy", network)
    ready = run_pretrained(quick=quick, seed=seed, progress=progress)
    drawn = _saved([figure, *([] if ready is None else [ready.figure])], out / "demo.png")
    return DemoResult(quality, result, model.parameter_count(), drawn, ready)


def best_pretrained() -> str | None:
    """The name of the pretrained network for CAVE's 31 bands and x4 whose card has the highest mean MPSNR."""
    cards = {name: pretrained.card(name) for name in pretrained.fitting(BANDS, scale=SCALE)}
    names = [name for name, told in cards.items() if not told.network["config"].get("msi_bands")]
    return max(names, key=lambda name: cards[name].scores["mean"].get("mpsnr", 0.0), default=None)


def run_pretrained(
    *, quick: bool = False, seed: int = 0, progress: Callable[[str], None] | None = None
) -> PretrainedResult | None:
    """Let the best pretrained network for CAVE's bands, x4, enlarge CAVE's oil painting where that lies beside the
    checkout, which none of them was trained on, else a generated scene of 31 bands; score and draw the result.

    Args:
        quick: a quarter of the scene's sides.
        seed: of a generated scene.
        progress: is called with a line for the user.

    Returns:
        What it reaches; None where there is no such network: the line says so.
    """
    from ..data import Rect, demo_scene, read_scene

    tell, name = progress or (lambda _: None), best_pretrained()
    if name is None:
        tell(f"no pretrained network of {BANDS} bands and x{SCALE} is here: nothing to show without training")
        return None
    if PAINTING.is_dir():
        scene, what = read_scene(PAINTING, peak=PEAK), "CAVE's oil painting"
    else:
        scene, what = demo_scene((256, 256), BANDS, seed), f"a generated scene of {BANDS} bands"
    if quick:
        rows, columns = (side // 4 for side in scene.size)
        scene, what = scene.cropped(Rect(0, rows, 0, columns)), f"a corner of {what}"
    tell(f"super-resolving {what} with {name}, which needs no training")
    _, quality, figure = _scored(pretrained.load(name), scene, name, f"{name} on {what}, without any training here")
    return PretrainedResult(name, what, quality, figure)


def _scored(model: Network, target: "Scene", name: str, title: str) -> "tuple[Scene, dict[str, Metrics], Figure]":
    """The network's image of a scene that is degraded first; its scores beside bicubic's; and the picture."""
    from ..data import simulate_lowres
    from ..data.degrade import bicubic_upsample
    from ..inference import super_resolve

    lowres = simulate_lowres(target, SCALE)
    bicubic = bicubic_upsample(lowres.tensor(), SCALE)[0]
    network = super_resolve(model, lowres)
    quality = {
        "bicubic": evaluate(bicubic, target.pixels, SCALE),
        name: evaluate(network.pixels, target.pixels, SCALE),
    }
    drawn = comparison(
        lowres.pixels,
        bicubic,
        network.pixels,
        target.pixels,
        scale=SCALE,
        wavelengths=target.wavelengths,
        title=title,
    )
    return network, quality, drawn


def _saved(figures: "list[Figure]", path: Path) -> Path:
    """The figures below one another in one .png."""
    import numpy as np

    if len(figures) == 1:
        return save_figure(figures[0], path)
    agg = require("matplotlib.backends.backend_agg", extra="io")
    pictures = []
    for figure in figures:
        canvas = agg.FigureCanvasAgg(figure)
        canvas.draw()
        pictures.append(np.asarray(canvas.buffer_rgba())[..., :3])
    with atomic_path(path) as temporary:
        require("imageio.v3", extra="io").imwrite(temporary, np.concatenate(pictures))  # all are of one width
    return path
