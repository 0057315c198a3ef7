"""What training minimises: a network's loss, and what learns along with it."""

from .base import Batch, Objective
from .choice import objective_for
from .distillation import KDObjective
from .supervised import HObjective

__all__ = ["Batch", "HObjective", "KDObjective", "Objective", "objective_for"]
