"""A loss of a network on a batch, and what learns along with it."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..models import Network

__all__ = ["Batch", "Objective"]


class Batch(NamedTuple):
    """Images of a step: `lowres` (N, B, h, w), `target` (N, B, r h, r w), and `msi` (N, b, r h, r w) or None."""

    lowres: Tensor
    target: Tensor
    msi: Tensor | None = None


class Objective(nn.Module):
    """A loss of a network on a batch.

    It may own parameters and networks that train along (an online teacher, learnable weights): those that require a
    gradient join the optimizer behind the network's. What `state` gives is kept with the run, so that it goes on to the
    bit. Frozen parameters are not: they must be the same when the run is resumed, and `facts` must tell them apart.
    It is in training mode throughout, validations included. For training on several devices it must be picklable.

    Attributes:
        terms: the names that are logged besides "loss".
    """

    terms: tuple[str, ...] = ()

    def forward(self, model: Network, batch: Batch, passes: float) -> dict[str, Tensor | float]:
        """The loss and its terms.

        Args:
            model: in training mode.
            batch: on the network's device.
            passes: passes over the training samples before this step, not rounded.

        Returns:
            "loss" first, a scalar tensor, then `terms`: scalar tensors, which must be finite, or floats, which are
            logged as they are.
        """
        raise NotImplementedError

    def after_step(self) -> None:
        """Called after each optimizer step, before anything is saved: such as a projection of learnable weights."""

    def companions(self) -> dict[str, Network]:
        """Networks to save beside `best.safetensors`, of its step, by name: "teacher" becomes teacher.safetensors."""
        return {}

    def facts(self) -> dict[str, Any]:
        """What checkpoints tell of it, JSON-serialisable; a run is resumed only with the same."""
        return {"objective": {"name": type(self).__name__}}

    def state(self) -> dict[str, Tensor]:
        """Its state dict without frozen parameters."""
        frozen = {key for key, parameter in self.named_parameters() if not parameter.requires_grad}
        return {key: tensor for key, tensor in self.state_dict().items() if key not in frozen}

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        """Take on what `state` gave, in its dtype."""
        own = self.state_dict(keep_vars=True)
        for key, tensor in state.items():
            own[key].data = tensor.clone()
