"""Training of a network on the training regions of one scene or many, with or without a teacher."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..common.launched import launch, speaks
from ..common.optional import require
from ..common.options import PRECISIONS, TrainOptions
from ..common.runs import begins
from ..data.multispectral import simulate_msi
from ..data.responses import SpectralResponse
from ..data.scenes import Scene
from ..data.splits import Split
from ..models import Network, pretrained, start_from
from ..models.capabilities import head_of
from ..objectives import Batch, HObjective, KDObjective, Objective, objective_for
from ..objectives.distillation import Distillation, check_pair
from . import state as _state
from .batches import mixed
from .facts import describe, identity_of
from .material import read_material
from .muon import hidden
from .rehearsal import rehearse
from .result import BEST, LAST, TrainResult
from .whitening import whiten

__all__ = [
    "PRECISIONS", "Batch", "Distillation", "Objective", "TrainOptions", "TrainResult", "describe", "distill",
    "objective_for", "train",
]  # fmt: skip


def train(
    model: Network,
    scene: Scene | Sequence[Scene],
    split: Split | Sequence[Split],
    options: TrainOptions | None = None,
    out_dir: str | os.PathLike[str] = "run",
    *,
    msi: Scene | Sequence[Scene] | SpectralResponse | None = None,
    objective: Objective | None = None,
    init: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    resume: bool = False,
) -> TrainResult:
    """Train `model` with its objective and Adam; keep the checkpoint that is best on the validation block or patches.

    The objective is the H loss, or the loss of the network's own paper. Validations score the network's image by H,
    whatever the objective, so that runs can be compared.

    Only pixels of the training patches and of the validation are read, never those of the test region. LR images are
    made by the MATLAB-exact bicubic (or `options.psf_sigma`) from each patch, and from the validation block cropped to
    whole LR pixels; patches of the MSI are cut at the same places, and its pixels elsewhere aren't read either. The
    validation block (of several scenes each one's) is super-resolved as one image before the first step, every
    `options.validate_every` steps and after the last; where `split.validation` is None, or that block holds invalid
    pixels, the patches at `split.validation_origins` are. Scores are means over the images. Patches that touch invalid
    pixels of the scene are left out, and counted in the checkpoints.
    Checkpoints appear under their names only when complete.

    Ctrl-C and SIGTERM end the run after the step at hand, with `last.safetensors` written, by a KeyboardInterrupt. It
    is validated first, so that `best.safetensors` counts that step; a second Ctrl-C leaves that out. What it finds is
    forgotten by a run that goes on.

    A run that was interrupted, killed or lost its machine goes on with `resume`, from its last validation (after
    Ctrl-C: from its last step), and gives what it would have given: on the CPU with the same number of threads and
    devices the same bits, in the checkpoints and in the log. It is called as the first time; other arguments are
    refused by name, but for the options workers, threads, device, devices, tensorboard and progress. So are other
    steps, epochs or minutes: the learning rate of every step depends on them. The clock of `max_minutes` goes on where
    it stood. A run from before there was a floor goes on without one, where `options` leave the floor at its default.

    In processes that torchrun started, on one machine or several, all train as one: each calls this alike, `devices` is
    their number, and `batch_size` is of all together. The first writes the files, into a folder that all see. What
    torchrun starts again, since a process was lost (`--max-restarts`), goes on by itself, unless it overwrites. With
    the same number of processes a run gives the same bits as with `devices` on one machine.

    Args:
        model: trained in place; it holds the weights of the last step afterwards, in eval mode, on the CPU.
        scene: of `model.bands` bands; or several, of any sizes, such as memory maps. Patches are drawn over all of
            them alike.
        split: of this scene, with a validation block or patches; its patch is `model.scale` times the LR patch. Of
            several scenes one each, in their order, see `lkcanet.data.split_scenes`; some may train alone, and some
            validate alone.
        options: how to train.
        out_dir: folder of `best.safetensors`, `last.safetensors`, `metrics.csv`, and `state.safetensors`, which
            `resume` needs (three times as large as a checkpoint); made where it is missing. Networks that train along
            lie beside them, of the step of `best.safetensors`: an online teacher in `teacher.safetensors`.
        msi: the multispectral scene that a network which fuses takes, of the scene's rows and columns; of several
            scenes one each, in their order; or the spectral response through which they are made of the scenes, see
            `lkcanet.data.multispectral.simulate_msi`. Those are held in memory, b of B bands.
        objective: what to minimise; see `lkcanet.objectives.objective_for` for the default.
        init: a checkpoint whose weights the network starts from, as far as they fit it: see
            `lkcanet.models.start_from`. The checkpoints of the run tell what was taken.
        overwrite: replace the checkpoints of another run in `out_dir`.
        resume: go on with the run in `out_dir`. Where it had ended already, nothing is done: see
            `TrainResult.resumed_from`.

    Returns:
        `TrainResult`.

    Raises:
        ValueError: the model, the scene and the split do not fit each other; the scene holds NaN in its training or
            validation region, or no patch of valid pixels there; a run to resume is another, or damaged.
        FileExistsError: `out_dir` holds checkpoints, and `overwrite` and `resume` are False.
        FileNotFoundError: there is nothing to resume.
        FloatingPointError: the loss or its gradient is not finite; the message names the step, the epoch and the
            patches of the batch. The weights are those of before that step, and checkpoints written before remain.
        KeyboardInterrupt: after Ctrl-C or SIGTERM.
        OSError: a file can't be written.
        ModuleNotFoundError: lightning is not installed.
    """
    return _run(model, scene, split, options, out_dir, msi, objective, init, overwrite=overwrite, resume=resume)


def distill(
    student: Network,
    teacher: Network,
    scene: Scene | Sequence[Scene],
    split: Split | Sequence[Split],
    options: TrainOptions | None = None,
    distillation: Distillation | None = None,
    out_dir: str | os.PathLike[str] = "run",
    *,
    teacher_file: str | os.PathLike[str] | None = None,
    init: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    resume: bool = False,
) -> TrainResult:
    """Train `student` as `train` does, drawn towards a trained teacher: LKCA-KD.

        L = D alpha KD(student, teacher) + H(student, target),   D = d^floor(epoch / f)

    The teacher is a folded copy, frozen and in eval mode; `teacher` itself is left as it is, in every respect. The log
    has kd (unweighted), its terms kd_cosine, kd_sam and kd_gradient, and decay (D) besides those of `train`; loss is L.
    The validation scores the student alone, by H.

    Args:
        student: trained in place, as `model` of `train`.
        teacher: of the student's bands and scale; usually deeper, with a dense upsampler. Neither may fuse an MSI.
        scene, split, options, out_dir, init, overwrite, resume: as for `train`.
        distillation: how the student is drawn.
        teacher_file: where the teacher comes from, noted in the checkpoints.

    Returns, raises:
        As `train`; ValueError where the teacher does not fit the student.

    Source: LKCA-Net (arXiv 2501.18664), section III-D, eq. 17 to 21.
    """
    options, distillation = options or TrainOptions(), distillation or Distillation()
    check_pair(student, teacher, distillation)
    source = None if teacher_file is None else str(teacher_file)
    objective = KDObjective.taught(options, teacher, distillation, source)
    return _run(student, scene, split, options, out_dir, None, objective, init, overwrite=overwrite, resume=resume)


def _run(
    model: Network,
    scene: Scene | Sequence[Scene],
    split: Split | Sequence[Split],
    options: TrainOptions | None,
    out_dir: str | os.PathLike[str],
    msi: Scene | Sequence[Scene] | SpectralResponse | None,
    objective: Objective | None,
    init: str | os.PathLike[str] | None,
    *,
    overwrite: bool,
    resume: bool,
) -> TrainResult:
    options = options or TrainOptions()
    if overwrite and resume:
        raise ValueError("give overwrite or resume, not both")
    options = _among_others(options)
    if (started := launch()) is not None and started.restarts and not overwrite:
        resume = resume or (Path(out_dir) / _state.STATE).exists()
    if options.whiten is not None:
        if init is not None:
            raise ValueError("options.whiten makes the first conv anew, which init gives weights: give one of both")
        head_of(model)  # raises where there is none
    if resume and _state.knew_no_floor(Path(out_dir) / _state.STATE) and options.floor == TrainOptions.floor:
        options = replace(options, floor=0.0)
        if isinstance(objective, HObjective):
            objective.floor = 0.0
        if options.progress:
            print("note: the run began before there was a floor, and goes on with a floor of 0", file=sys.stderr)
    scenes = (scene,) if isinstance(scene, Scene) else tuple(scene)
    splits = (split,) if isinstance(split, Split) else tuple(split)
    response = msi if isinstance(msi, SpectralResponse) else None
    sharp = _msis(scenes, msi)
    material = read_material(model, scenes, splits, options.batch_size, sharp, options.psf_sigma)
    require("lightning.pytorch", extra="train")
    require("safetensors", extra="train")
    if options.tensorboard:
        require("tensorboard", extra="train")
    from . import lightning  # defines subclasses of Lightning's

    if objective is None:
        with torch.random.fork_rng():  # what learns along starts from the seed, too
            torch.manual_seed(mixed(options.seed, 2))
            objective = objective_for(model, options)
    facts = describe(scenes, material.splits, options, sharp, response) | {"left_out": material.left_out}
    facts |= objective.facts()
    if init is not None:
        facts["init"] = {"file": str(init)} if resume else _start(model, Path(init), options.progress)
    if options.progress and any(material.left_out.values()):
        counts = " and ".join(f"{count} {part}" for part, count in material.left_out.items() if count)
        print(f"note: {counts} patches touch invalid pixels and are left out", file=sys.stderr, flush=True)
        held = material.validation.patches
        if held is not None and any(split.validation is not None for split in splits):
            print(f"note: the validation block is scored by its {len(held)} patches of valid pixels", file=sys.stderr)
    identity = identity_of(model, scenes, material, facts, objective)
    out = Path(out_dir)
    if resume:
        state = _state.read(out / _state.STATE)
        _state.check_same(identity, state.identity)
        total = options.total_steps(len(material.patches) * options.orientations)
        learned = [*model.parameters(), *(p for p in objective.parameters() if p.requires_grad)]
        matrices = {id(weight) for weight in hidden(model)} if options.optimizer == "muon" else set()
        turned = frozenset(index for index, weight in enumerate(learned) if id(weight) in matrices)
        _state.check_fits(out / _state.STATE, state, model, total, learned, objective.state(), turned)
    else:
        state = _state.State(0, 0.0, [], {}, 0, identity)
    along = [f"{name}.safetensors" for name in objective.companions()]
    names = (BEST, LAST, _state.STATE, *along)
    present = [name for name in names if (out / name).exists()]
    if present and not overwrite and not resume:
        raise FileExistsError(
            f"{out} holds {', '.join(present)} of another run: choose another folder, overwrite, or resume it"
        )
    if options.whiten is not None and not resume:
        whiten(model, material.patches, options.whiten)
    if state.ended_by is None:
        rehearse(model, objective, material, options)
    if speaks():  # others begin to train only when this one does
        out.mkdir(parents=True, exist_ok=True)
        _state.remove_strays(out, names)
        # or a run that ends early would leave the files of two runs side by side
        for name in () if resume else present:
            (out / name).unlink()
        begins(out)
    return lightning.fit(model, objective, material, options, out, facts, state)


def _among_others(options: TrainOptions) -> TrainOptions:
    """The options of this process, where torchrun started several: all together are the devices, the first one tells
    how it goes."""
    started = launch()
    if started is None:
        return options
    if options.devices not in (1, started.world):
        what = f"the processes that torchrun started, {started.world}"
        raise ValueError(f"devices are {what}: leave devices out, got {options.devices}")
    return replace(options, devices=started.world, progress=options.progress and speaks())


def _msis(scenes: Sequence[Scene], msi: Scene | Sequence[Scene] | SpectralResponse | None) -> tuple[Scene, ...]:
    """The MSI of each scene; none where there is no MSI."""
    if msi is None:
        return ()
    if isinstance(msi, SpectralResponse):
        return tuple(simulate_msi(scene, msi) for scene in scenes)
    return (msi,) if isinstance(msi, Scene) else tuple(msi)


def _start(model: Network, init: Path, tell: bool) -> dict[str, Any]:
    """Give the network the weights of a checkpoint; what the run's checkpoints tell of it."""
    taken = start_from(model, pretrained.load(init))
    if tell:
        left = "" if taken.complete else f"; not these, which start afresh: {', '.join(taken.left)}"
        print(f"note: {len(taken.taken)} of the network's tensors are those of {init}{left}", file=sys.stderr)
    return {"file": str(init), "taken": list(taken.taken), "left": list(taken.left)}
