"""One step of a run on copies, before the run leaves any trace: what can't be trained fails here."""

import copy

import torch
from torch import Tensor

from ..common.options import TrainOptions
from ..models import Network
from ..objectives import Batch, Objective
from .material import Material


def rehearse(model: Network, objective: Objective, material: Material, options: TrainOptions) -> None:
    """Raise where the objective can't train the network: it refuses it or its images, gives no loss, terms that the log
    has no column for, or no gradient to any of the network's parameters.

    A forward and a backward on one or two patches, of copies; random numbers are left as they were. What can't be
    copied is not rehearsed.

    Raises:
        ValueError: says what the objective or the network said.
    """
    try:
        model, objective = copy.deepcopy((model, objective))
    except Exception:  # of any kind: a module may hold what can't be copied
        return
    device = _device(options)
    model.to(device).train()
    objective.to(device).train()
    patches = material.patches
    samples = [patches[index % len(patches)] for index in range(min(2, options.batch_size // options.devices))]
    batch = Batch(*(torch.stack(images).to(device) for images in zip(*samples, strict=True)))
    name = type(objective).__name__
    try:
        with torch.random.fork_rng(), torch.enable_grad():
            terms = objective(model, batch, 0.0)
            loss = terms.get("loss")
            if not isinstance(loss, Tensor) or loss.dim() or not loss.requires_grad:
                raise ValueError("its loss must be a scalar tensor that has a gradient")
            loss.backward()
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except (ValueError, TypeError, RuntimeError, ArithmeticError, LookupError, AttributeError) as error:
        raise ValueError(f"{name} can't train this network ({model.kind}): {_text(error)}") from error
    if not any(parameter.grad is not None for parameter in model.parameters()):
        raise ValueError(f"{name} can't train this network ({model.kind}): no parameter gets a gradient")
    if unknown := [term for term in terms if term not in ("loss", *objective.terms)]:
        raise ValueError(
            f"{name} gives {', '.join(unknown)}, which its terms ({', '.join(objective.terms)}) don't name"
        )


def _device(options: TrainOptions) -> torch.device:
    return torch.device("cuda" if options.device != "cpu" and torch.cuda.is_available() else "cpu")


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
