"""What a run would take on this machine: a few steps of its network, extrapolated. Nothing is trained or written."""

import time
from dataclasses import dataclass

import torch

from ..data import bicubic_downsample, named_response
from ..models import Network
from ..objectives import Batch, KDObjective, Objective
from ..training import TrainOptions
from .plan import Run
from .running import objective_of

__all__ = ["Estimate", "estimate"]

SAMPLES, SECONDS = 2, 20.0  # patches of a measured step, and the time after which no further step is begun


@dataclass(frozen=True)
class Estimate:
    """Of a run: trainable parameters, multiply-adds at 16 x 16 LR pixels, steps (None: the clock ends it), seconds of a
    step and of the whole (its budget where that ends it sooner). Without validation and scoring."""

    parameters: int
    macs: int
    steps: int | None
    step_seconds: float
    seconds: float


def estimate(run: Run, patches: int, side: int) -> Estimate:
    """Measure a step of a run on random images, twice after one to warm up, and extrapolate.

    Args:
        run: of `plan`.
        patches: training patches.
        side: of one, in HR pixels.

    Steps are of 2 patches, and a batch is taken to last in proportion to its size: an upper bound where larger batches
    use a machine better.
    """
    options, count = run.options, min(SAMPLES, run.options.batch_size)
    with torch.random.fork_rng(devices=[]):
        model = run.make().train()
        device = "cuda" if torch.cuda.is_available() and options.device != "cpu" else "cpu"
        batch = _batch(run, side, count, device)
        model.to(device)
        each = _step_seconds(run, model, options, batch) * options.batch_size / count
    steps = options.total_steps(patches * options.orientations)
    course = float("inf") if steps is None else steps * each
    limit = float("inf") if options.max_minutes is None else 60 * options.max_minutes
    return Estimate(model.parameter_count(), model.macs(16, 16), steps, each, min(course, limit))


def _batch(run: Run, side: int, count: int, device: str) -> Batch:
    target = torch.rand(count, run.bands, side, side)
    lowres = bicubic_downsample(target, run.scale).to(device)
    msi = None if run.response is None else torch.rand(count, named_response(run.response).bands, side, side)
    return Batch(lowres, target.to(device), None if msi is None else msi.to(device))


def _step_seconds(run: Run, model: Network, options: TrainOptions, batch: Batch) -> float:
    if run.teacher is None:
        objective: Objective = objective_of(run, model)
    else:
        objective = KDObjective.taught(options, run.teacher.make(), run.distillation)
    objective.to(batch.target.device).train()
    learned = [p for p in (*model.parameters(), *objective.parameters()) if p.requires_grad]
    optimizer = torch.optim.Adam(learned, lr=1e-6)
    begun, times = time.monotonic(), []
    for _ in range(3):
        start = time.monotonic()
        optimizer.zero_grad()
        loss = objective(model, batch, 0.0)["loss"]
        assert isinstance(loss, torch.Tensor)
        loss.backward()
        optimizer.step()
        if batch.target.is_cuda:
            torch.cuda.synchronize()
        times.append(time.monotonic() - start)
        if time.monotonic() - begun > SECONDS:
            break
    return min(times[1:] or times)
