"""The moving average of a network's weights over the steps of its training."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """a <- d a + (1 - d) w after every step, with d = min(decay, (1 + n) / (10 + n)) after step n: the first weights,
    which are far from the last, are forgotten sooner.

    Args:
        model: whose parameters are averaged; buffers are not.
        decay: in (0, 1).

    Source: Polyak averaging as in Tan and Le, EfficientNet, and tf.train.ExponentialMovingAverage (the rising d).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: value.detach().clone() for name, value in model.named_parameters()}

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Go on from what `values` was in another process."""
        self.values = {name: value.detach().clone() for name, value in values.items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """After so many steps."""
        weights = dict(model.named_parameters())
        for name, weight in weights.items():
            if self.values[name].device != weight.device:
                self.values[name] = self.values[name].to(weight.device)
        averages = [self.values[name] for name in weights]
        rest = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(averages, [weight.detach() for weight in weights.values()], rest)

    @contextmanager
    def in_place_of(self, model: nn.Module) -> Iterator[None]:
        """Let the network have the average; its own weights come back at the end, bit for bit."""
        own = {name: parameter.data for name, parameter in model.named_parameters()}
        try:
            self.put_into(model)
            yield
        finally:
            for name, parameter in model.named_parameters():
                parameter.data = own[name]

    def put_into(self, model: nn.Module) -> None:
        """Let the network have the average for good."""
        for name, parameter in model.named_parameters():
            parameter.data = self.values[name].to(parameter.device)
