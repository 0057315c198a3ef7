"""A network's inference, for timing."""

from typing import Any

import torch
from torch import Tensor, nn

from lkcanet.benchmark.providers import Runner


class Forward(Runner):
    """Calls a network on images, in evaluation mode and without gradients."""

    def __init__(self, model: nn.Module, *images: Tensor) -> None:
        self.model, self.images = model.eval(), images

    def run(self, state: Any) -> None:
        with torch.no_grad():
            self.model(*self.images)
