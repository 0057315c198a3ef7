"""The supervised objective: the H loss of the network's image."""

from typing import Any

from torch import Tensor

from ..common.options import TrainOptions
from ..models import Network
from ..models.registry import enlarge
from .base import Batch, Objective
from .losses import h_loss, log_rmse

__all__ = ["HObjective"]


class HObjective(Objective):
    """The H loss of the network's image, see `lkcanet.objectives.losses.h_loss`, and `psnr_weight` times
    `lkcanet.objectives.losses.log_rmse`.

    Attributes:
        floor: below which spectra have no angle.
    """

    terms: tuple[str, ...] = ("l1", "sam_loss", "gradient")

    def __init__(
        self, sam_weight: float = 0.5, gradient_weight: float = 0.1, floor: float = 0.0, psnr_weight: float = 0.0
    ) -> None:
        super().__init__()
        self.weights = {"sam_weight": sam_weight, "gradient_weight": gradient_weight}
        self.floor, self.psnr_weight = floor, psnr_weight
        if psnr_weight:
            self.terms = (*self.terms, "log_rmse")

    @classmethod
    def of(cls, options: TrainOptions, **own: Any) -> "HObjective":
        """With the weights and the floor of a training's options; a TypeError for what else is given."""
        return cls(options.sam_weight, options.gradient_weight, options.floor, options.psnr_weight, **own)

    def forward(self, model: Network, batch: Batch, passes: float) -> dict[str, Tensor | float]:
        return self.supervised(enlarge(model, batch.lowres, batch.msi), batch.target)

    def supervised(self, image: Tensor, target: Tensor) -> dict[str, Tensor | float]:
        """The loss and its terms."""
        h = h_loss(image, target, floor=self.floor, **self.weights)
        terms: dict[str, Tensor | float] = {"loss": h.total, "l1": h.l1, "sam_loss": h.sam, "gradient": h.gradient}
        if self.psnr_weight:
            error = log_rmse(image, target)
            terms |= {"loss": h.total + self.psnr_weight * error, "log_rmse": error}
        return terms

    def facts(self) -> dict[str, Any]:
        return {}  # its weights and floor are among the options
