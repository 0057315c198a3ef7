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
    index = torch.arange(-2, size + 2, device=x.device)  # the taps reach two pixels beyond the image
    if symmetric:
        index = index % (2 * size)
        index = torch.where(index < size, index, 2 * size - 1 - index)
    padded = x.index_select(dim, index.clamp(0, size - 1))
    phases = []
    for phase, weights in enumerate(cubic_weights(scale, a)):
        first = 0 if 2 * phase + 1 < scale else 1  # floor((phase + 0.5) / scale - 0.5) - 1, in the padded image
        total = padded.narrow(dim, first, size) * weights[0]
        for tap in (1, 2, 3):
            total = torch.add(total, padded.narrow(dim, first + tap, size), alpha=weights[tap])
        phases.append(total)
    # every size spelled out, as `flatten` would not: ONNX can't infer one where the batch is empty
    return torch.stack(phases, dim + 1).reshape(*x.shape[:dim], scale * size, *x.shape[dim + 1 :])


def bicubic_upsample(x: Tensor, scale: int, cubic_a: float = -0.5, symmetric: bool = True) -> Tensor:
    return _along(_along(x, 2, scale, cubic_a, symmetric), 3, scale, cubic_a, symmetric)
