"""Which objective a network is trained with."""

from collections.abc import Sequence
from typing import Any

from ..common.options import TrainOptions
from ..models import CSAKD, Network
from ..models.edlgfs import EDLGFS
from ..models.registry import own_objective, register_objective
from .base import Objective
from .csakd import OnlineDistillation
from .csakd_losses import CSAKDWeights
from .edlgfs import EdgeDistillation
from .supervised import HObjective

__all__ = ["objective_for"]


def objective_for(model: Network, options: TrainOptions | None = None, **own: Any) -> Objective:
    """What a network of its kind is trained on: H with the weights of the options, or the kind's own objective, as
    `lkcanet.models.register` got it.

    Args:
        model: the network to train.
        options: of the training.
        own: arguments of the kind's own objective: of `EdgeDistillation`; for CSAKD of `CSAKDWeights`, and `teacher`,
            the network that trains along, or `teacher_counts`, its CLRAs: the teacher is a fresh one of (6, 6, 4, 4)
            that is the network's like in all else if left out.

    Raises:
        ValueError: arguments that the objective does not take.
        TypeError: what is registered for the kind makes no `Objective`.
    """
    options, make = options or TrainOptions(), own_objective(model) or _supervised
    try:
        objective = make(model, options, **own)
    except TypeError as error:  # of Python's, that names the argument
        raise ValueError(f"the objective of {model.kind} can't be made: {error}") from error
    if not isinstance(objective, Objective):
        raise TypeError(f"the objective of {model.kind} must be an Objective, got {type(objective).__name__}")
    return objective


def _supervised(_: Network, options: TrainOptions, **own: Any) -> Objective:
    return HObjective.of(options, **own)


def _edge(_: Network, __: TrainOptions, **own: Any) -> Objective:
    return EdgeDistillation(**own)


def _online(
    model: CSAKD,
    _: TrainOptions,
    teacher: CSAKD | None = None,
    teacher_counts: Sequence[int] = (6, 6, 4, 4),
    **weights: Any,
) -> Objective:
    if teacher is None:
        own = {key: value for key, value in model.config.items() if key != "h_groups"}
        teacher = type(model)(**{**own, "counts": list(teacher_counts)})
    return OnlineDistillation(teacher, CSAKDWeights(**weights))


# here and not where the networks are: that room lies below this one
register_objective(EDLGFS.kind, _edge, default=True)
register_objective(CSAKD.kind, _online, default=True)
