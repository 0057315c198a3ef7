"""What `bicubic_upsample` computes, in any floating dtype."""

import torch
from torch import Tensor


def cubic_weights(scale: int, a: float) -> list[list[float]]:
    """For each of the `scale` phases of an output pixel, the weights of its four taps (Keys' cubic)."""

    def kernel(t: float) -> float:
        t = abs(t)
        if t <= 1:
            return ((a + 2) * t - (a + 3)) * t * t + 1
        return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a if t < 2 else 0.0

    weights = []
    for phase in range(scale):
        position = (2 * phase + 1 - scale) % (2 * scale) / (2 * scale)  # fraction of (phase + 0.5) / scale - 0.5
        weights.append([kernel(position + 1), kernel(position), kernel(1 - position), kernel(2 - position)])
    return weights


def _along(x: Tensor, dim: int, scale: int, a: float, symmetric: bool) -> Tensor:
    size = x.shape[dim]
    i = torch.arange(size * scale, device=x.device)
    first = (2 * i + 1 - scale).div(2 * scale, rounding_mode="floor") - 1  # floor((i + 0.5) / scale - 0.5) - 1
    table = torch.tensor(cubic_weights(scale, a), dtype=torch.float64, device=x.device).to(x.dtype)
    weights = table[i % scale].view([-1 if d == dim else 1 for d in range(4)] + [4])
    total = torch.zeros((), dtype=x.dtype, device=x.device)
    for tap in range(4):
        index = first + tap
        if symmetric:
            index = index % (2 * size)
            index = torch.where(index < size, index, 2 * size - 1 - index)
        else:
            index = index.clamp(0, size - 1)
        total = total + x.index_select(dim, index) * weights[..., tap]
    return total


def bicubic_upsample(x: Tensor, scale: int, cubic_a: float = -0.5, symmetric: bool = True) -> Tensor:
    return _along(_along(x, 2, scale, cubic_a, symmetric), 3, scale, cubic_a, symmetric)
