"""Supervised training of a network on the training region of one scene."""

import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ._optional import require
from .data.degrade import bicubic_downsample
from .data.patches import SuperResolutionPatches
from .data.scenes import Scene
from .data.splits import Split
from .models import LKCANet

__all__ = ["TrainOptions", "TrainResult", "train"]

BEST, LAST, LOG = "best.safetensors", "last.safetensors", "metrics.csv"
PRECISIONS = ("32-true", "64-true", "bf16-mixed", "16-mixed", "bf16-true")


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How to train; the defaults are the paper's, where it says (LKCA-Net, section IV-B).

    Training ends after `steps`, or `epochs`, or `max_minutes`, whichever comes first; with neither it runs 100 epochs.
    The learning rate falls as half a cosine from the first to the last value over that course. With `max_minutes` it
    follows the clock where that is ahead of the steps, so that a run which the time ends has cooled down as well; its
    weights then depend on the speed of the machine.

    Attributes:
        steps, epochs: one of them, or none. An epoch is every training patch once in each of its eight orientations
            (once, without `augment`).
        max_minutes: of training, without loading.
        batch_size: patches of a step.
        learning_rate, final_learning_rate: of Adam, first and last.
        sam_weight, gradient_weight: of the H loss.
        augment: the eight rotations and reflections.
        gradient_clip: largest norm of all gradients together; None does not clip.
        precision: as Lightning's Trainer takes it: "32-true", "bf16-mixed", ...
        validate_every: steps between validations; each one writes checkpoints.
        monitor: what makes a checkpoint the best: "loss" or "mpsnr" of the validation block. The loss weighs spectra
            too; MPSNR alone has picked checkpoints of worse SAM.
        log_every: steps between lines of the log.
        seed: of the order of patches and of drop path. On the CPU one seed gives one result, bit for bit, for one
            number of threads and without `max_minutes`.
        workers: processes that load patches; 0 loads in this one, which is enough for a scene in memory.
        threads: that torch computes with; None leaves torch's number.
        device: "auto", "cpu" or "cuda".
        progress: show it on stderr: a bar on a terminal, a line a validation elsewhere.

    Raises:
        ValueError: a value that is out of range, named.
    """

    steps: int | None = None
    epochs: int | None = None
    max_minutes: float | None = None
    batch_size: int = 32
    learning_rate: float = 2e-3
    final_learning_rate: float = 2e-4
    sam_weight: float = 0.5
    gradient_weight: float = 0.1
    augment: bool = True
    gradient_clip: float | None = None
    precision: str = "32-true"
    validate_every: int = 200
    monitor: str = "loss"
    log_every: int = 10
    seed: int = 0
    workers: int = 0
    threads: int | None = None
    device: str = "auto"
    progress: bool = True

    def __post_init__(self) -> None:
        if self.steps is not None and self.epochs is not None:
            raise ValueError(f"give steps or epochs, not both; got steps {self.steps} and epochs {self.epochs}")
        for name, least in {"steps": 1, "epochs": 1, "batch_size": 1, "validate_every": 1, "log_every": 1}.items():
            self._whole(name, least)
        for name in ("seed", "workers"):
            self._whole(name, 0)
        self._whole("threads", 1)
        for name in ("learning_rate", "final_learning_rate", "max_minutes", "gradient_clip"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and 0 < value < math.inf):
                raise ValueError(f"{name} must be a positive finite number, got {value!r}")
        if self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"final_learning_rate must be at most learning_rate, {self.learning_rate:g}; "
                f"got {self.final_learning_rate:g}"
            )
        for name in ("sam_weight", "gradient_weight"):
            value = getattr(self, name)
            if not (_is_number(value) and 0 <= value < math.inf):
                raise ValueError(f"{name} must be a finite number, 0 or more, got {value!r}")
        for name, choices in {
            "precision": PRECISIONS,
            "monitor": ("mpsnr", "loss"),
            "device": ("auto", "cpu", "cuda"),
        }.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}; got {getattr(self, name)!r}")

    def _whole(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if value is None and name in ("steps", "epochs", "threads"):
            return
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be a whole number, {least} or more, got {value!r}")

    def total_steps(self, samples: int) -> int | None:
        """Steps of a run over this many samples an epoch; None where only the clock ends it."""
        if self.steps is not None:
            return self.steps
        if self.epochs is None and self.max_minutes is not None:
            return None
        return math.ceil((self.epochs or 100) * samples / self.batch_size)

    def rate(self, fraction: float) -> float:
        """The learning rate after this part of the course, 0 to 1."""
        fall = 0.5 * (1 + math.cos(math.pi * min(max(fraction, 0.0), 1.0)))
        return self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * fall


@dataclass(frozen=True)
class TrainResult:
    """What a run left behind.

    Attributes:
        best, last: checkpoints, to be read by `lkcanet.models.load_model`.
        log: the CSV file with every logged term.
        steps: that were taken.
        seconds: that they took, validation included.
        ended_by: "steps" or "time".
        best_step: the step of `best`; 0 is the fresh network, that is bicubic.
        bicubic, validation: loss, l1, sam_loss, gradient, mpsnr and sam of the validation block at step 0 and at
            `best_step`.
        history: one entry a validation, with the step and the terms above, in order.
    """

    best: Path
    last: Path
    log: Path
    steps: int
    seconds: float
    ended_by: str
    best_step: int
    bicubic: dict[str, float]
    validation: dict[str, float]
    history: tuple[dict[str, float], ...]


def train(
    model: LKCANet,
    scene: Scene,
    split: Split,
    options: TrainOptions | None = None,
    out_dir: str | os.PathLike[str] = "run",
    *,
    overwrite: bool = False,
) -> TrainResult:
    """Train `model` with the H loss and Adam; keep the checkpoint that is best on the validation block.

    Only pixels of the training patches and of the validation block are read, never those of the test region. LR images
    are made by the MATLAB-exact bicubic from each patch, and from the validation block cropped to whole LR pixels.
    The validation block is super-resolved as one image before the first step, every `options.validate_every` steps
    and after the last. Checkpoints appear under their names only when complete.

    Ctrl-C ends the run after the step at hand, with `last.safetensors` written, by a KeyboardInterrupt.

    Args:
        model: trained in place; it holds the weights of the last step afterwards, in eval mode, on the CPU.
        scene: of `model.bands` bands.
        split: of this scene, with a validation block; its patch is `model.scale` times the LR patch.
        options: how to train.
        out_dir: folder of `best.safetensors`, `last.safetensors` and `metrics.csv`; made where it is missing.
        overwrite: replace the checkpoints of another run in `out_dir`.

    Returns:
        `TrainResult`.

    Raises:
        ValueError: the model, the scene and the split do not fit each other, or the scene holds NaN in its training
            region.
        FileExistsError: `out_dir` holds checkpoints and `overwrite` is False.
        FloatingPointError: the loss is not finite; the message names the step. Checkpoints written before remain.
        KeyboardInterrupt: after Ctrl-C.
        OSError: a file can't be written.
        ModuleNotFoundError: lightning is not installed.
    """
    options = options or TrainOptions()
    patches, lowres, highres = _prepare(model, scene, split, options)
    require("lightning.pytorch", extra="train")
    from . import _lightning  # defines subclasses of Lightning's

    out = Path(out_dir)
    present = [name for name in (BEST, LAST) if (out / name).exists()]
    if present and not overwrite:
        raise FileExistsError(f"{out} holds {' and '.join(present)} of another run: choose another folder or overwrite")
    out.mkdir(parents=True, exist_ok=True)
    for name in present:  # or a run that ends early would leave the checkpoints of two runs side by side
        (out / name).unlink()
    return _lightning.fit(model, patches, (lowres, highres), options, out, describe(scene, split, options))


def describe(scene: Scene, split: Split, options: TrainOptions) -> dict[str, Any]:
    """What checkpoints tell about their training, JSON-serialisable."""
    return {
        "peak": scene.peak,
        "scene": {
            "name": scene.name,
            "source": scene.source,
            "shape": list(scene.pixels.shape),
            "wavelengths": None if scene.wavelengths is None else [float(nm) for nm in scene.wavelengths],
        },
        "split": {
            "test": str(split.test),
            "validation": str(split.validation),
            "patch": split.patch,
            "stride": split.stride,
            **{f"{part}_patches": count for part, count in split.counts.items()},
        },
        "options": asdict(options),
    }


def _prepare(
    model: LKCANet, scene: Scene, split: Split, options: TrainOptions
) -> tuple[SuperResolutionPatches, Tensor, Tensor]:
    """The training patches, and the validation block as (LR, HR)."""
    if scene.bands != model.bands:
        raise ValueError(f"the network takes {model.bands} bands, the scene {scene.name!r} has {scene.bands}")
    if tuple(split.shape) != scene.size:
        raise ValueError(f"the split is of a scene of {split.shape} pixels, {scene.name!r} has {scene.size}")
    if split.patch % model.scale:
        raise ValueError(f"split.patch must be a multiple of the network's scale, {model.scale}; got {split.patch}")
    if split.validation is None:
        raise ValueError("split.validation is None: training needs a validation block to choose the best checkpoint")
    patches = SuperResolutionPatches(
        scene,
        scale=model.scale,
        lr_size=split.patch // model.scale,
        origins=split.train_origins,
    )
    _check_finite(scene, split)
    rows, columns = split.validation.slices
    highres = torch.tensor(scene.pixels[:, rows, columns]).unsqueeze(0)
    height, width = (size // model.scale * model.scale for size in highres.shape[-2:])
    highres = highres[..., :height, :width].contiguous()
    if not highres.isfinite().all():
        raise ValueError("the validation block holds NaN or infinite pixels")
    return patches, bicubic_downsample(highres, model.scale), highres


def _check_finite(scene: Scene, split: Split) -> None:
    """No training patch may hold NaN or infinity. Patches overlap: every pixel of theirs is read once, and no other."""
    windows = [
        (slice(row, row + split.patch), slice(column, column + split.patch))
        for row, column in split.train_origins.tolist()
    ]
    trained, bad = torch.zeros(scene.size, dtype=torch.bool), torch.zeros(scene.size, dtype=torch.bool)
    for window in windows:
        trained[window] = True
    for band in scene.pixels:
        bad[trained] |= ~torch.from_numpy(band)[trained].isfinite()
    if bad.any():
        rows, columns = next(window for window in windows if bad[window].any())
        raise ValueError(f"the training patch at row {rows.start}, column {columns.start} holds NaN or infinite pixels")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
