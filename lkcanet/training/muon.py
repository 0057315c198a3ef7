"""Adam, and for the weights between the first and the last conv steps of orthogonal directions."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..models import Network

__all__ = ["Muon", "hidden"]

MOMENTUM = 0.95
RMS = 0.2  # of an entry's step in learning rates: about Adam's, so that both go with one rate
# a polynomial that takes singular values in (0, 1] to about 1 in five rounds; Jordan's coefficients
ROUNDS, COEFFICIENTS = 5, (3.4445, -4.7750, 2.0315)


def hidden(model: Network) -> list[torch.nn.Parameter]:
    """The weights that are matrices between features: of convs and linear layers, but for the first and the last of
    them in the network's order, which take and give bands.

    Left to Adam besides: vectors, and depthwise convs (each filter is a vector).
    """
    matrices = [weight for weight in model.parameters() if weight.dim() >= 2 and min(weight.shape[:2]) > 1]
    return matrices[1:-1]


class Muon(torch.optim.Adam):
    """Adam, and momentum made orthogonal for some of the weights:

        M <- m M + (1 - m) G,    U = m M + (1 - m) G,    W <- W - lr 0.2 sqrt(max(a, b)) NS(U)

    with G the gradient of a weight as a matrix of a outputs and b inputs, m = 0.95, and NS(U) = U V^T of the singular
    vectors of U, about (five rounds of a Newton-Schulz iteration): every direction of the matrix moves alike, where
    Adam follows the few that the gradient is large in.

    Args:
        parameters: all, in order.
        orthogonal: those of them that step so, of two axes or more; further axes count as inputs.
        lr: of both.

    Source: Jordan et al., Muon: an optimizer for hidden layers in neural networks (2024); the factor that lets it share
    Adam's learning rate: Liu et al., Muon is scalable for LLM training (arXiv 2502.16982), eq. 4.
    """

    def __init__(self, parameters: Iterable[Tensor], orthogonal: Sequence[Tensor], lr: float) -> None:
        super().__init__(parameters, lr=lr)
        self.orthogonal = {id(weight) for weight in orthogonal}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; parameters without a gradient stay."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        (group,) = self.param_groups
        every = group["params"]
        group["params"] = [weight for weight in every if id(weight) not in self.orthogonal]
        try:
            super().step()
        finally:
            group["params"] = every
        for weight in every:
            if id(weight) in self.orthogonal and weight.grad is not None:
                self._turn(weight, group["lr"])
        return loss

    def _turn(self, weight: Tensor, rate: float) -> None:
        state = self.state[weight]
        if not state:
            state["step"] = torch.tensor(0.0)  # Adam asks every state for it when it is loaded
            state["momentum"] = torch.zeros_like(weight)
        state["step"] += 1
        gradient, momentum = weight.grad, state["momentum"]
        assert gradient is not None
        momentum.lerp_(gradient, 1 - MOMENTUM)
        update = orthogonal(gradient.lerp(momentum, MOMENTUM).flatten(1))
        size = RMS * max(update.shape) ** 0.5
        weight.add_(update.view_as(weight).to(weight.dtype), alpha=-rate * size)


def orthogonal(matrix: Tensor) -> Tensor:
    """About U V^T of the matrix U S V^T: singular values of all but tiny size become 0.7 to 1.2."""
    a, b, c = COEFFICIENTS
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / (torch.linalg.vector_norm(wide) + 1e-7)
    for _ in range(ROUNDS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide is matrix else x.T
