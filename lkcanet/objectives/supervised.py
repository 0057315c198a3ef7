"""The supervised objective: the H loss of the network's image."""

from typing import Any

from torch import Tensor

from ..models import Network
from ..models.registry import enlarge
from .base import Batch, Objective
from .losses import h_loss

__all__ = ["HObjective"]


class HObjective(Objective):
    """The H loss of the network's image, see `lkcanet.objectives.losses.h_loss`.

    Attributes:
        floor: below which spectra have no angle.
    """

    terms: tuple[str, ...] = ("l1", "sam_loss", "gradient")

    def __init__(self, sam_weight: float = 0.5, gradient_weight: float = 0.1, floor: float = 0.0) -> None:
        super().__init__()
        self.weights = {"sam_weight": sam_weight, "gradient_weight": gradient_weight}
        self.floor = floor

    def forward(self, model: Network, batch: Batch, passes: float) -> dict[str, Tensor | float]:
        return self.supervised(enlarge(model, batch.lowres, batch.msi), batch.target)

    def supervised(self, image: Tensor, target: Tensor) -> dict[str, Tensor | float]:
        """H and its terms."""
        h = h_loss(image, target, floor=self.floor, **self.weights)
        return {"loss": h.total, "l1": h.l1, "sam_loss": h.sam, "gradient": h.gradient}

    def facts(self) -> dict[str, Any]:
        return {}  # its weights and floor are among the options
