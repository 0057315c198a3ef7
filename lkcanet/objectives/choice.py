"""Which objective a network is trained with."""

from collections.abc import Sequence
from typing import Any

from ..common.options import TrainOptions
from ..models import Network
from .base import Objective
from .csakd import OnlineDistillation
from .csakd_losses import CSAKDWeights
from .edlgfs import EdgeDistillation
from .supervised import HObjective

__all__ = ["objective_for"]


def objective_for(model: Network, options: TrainOptions | None = None, **own: Any) -> Objective:
    """What a network of its kind is trained on: H with the weights of the options, or the kind's own objective.

    Args:
        model: the network to train.
        options: of the training.
        own: arguments of the kind's own objective: of `EdgeDistillation`; for CSAKD of `CSAKDWeights`, and `teacher`,
            the network that trains along, or `teacher_counts`, its CLRAs: the teacher is a fresh one of (6, 6, 4, 4)
            that is the network's like in all else if left out.

    Raises:
        ValueError: arguments that the objective does not take.
    """
    options = options or TrainOptions()
    try:
        if model.kind == "edlgfs":
            objective: Objective = EdgeDistillation(**own)
        elif model.kind == "csakd":
            objective = _online(model, **own)
        else:
            objective = HObjective(options.sam_weight, options.gradient_weight, options.floor, **own)
    except TypeError as error:  # of Python's, that names the argument
        raise ValueError(f"the objective of {model.kind} can't be made: {error}") from error
    return objective


def _online(
    model: Network, teacher: Network | None = None, teacher_counts: Sequence[int] = (6, 6, 4, 4), **weights: Any
) -> Objective:
    if teacher is None:
        own = {key: value for key, value in model.config.items() if key != "h_groups"}
        teacher = type(model)(**{**own, "counts": list(teacher_counts)})
    told = CSAKDWeights(**weights)
    objective: Objective = OnlineDistillation(teacher, told)
    return objective
