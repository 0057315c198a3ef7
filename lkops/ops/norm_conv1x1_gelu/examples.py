"""Examples of `norm_conv1x1_gelu`: see `lkops.testing`."""

import torch.nn.functional as F
from torch import Tensor

from ..._core.examples import (
    CHANNELS,
    ODD,
    ONE_CHANNEL,
    SHAPES,
    Arguments,
    Draw,
    Example,
    Examples,
    Work,
    benchmarks,
    example,
)


def draw(draw: Draw, case: Example) -> Arguments:
    c = case.shape[1]
    outputs = case.sizes.get("outputs", c + 3)
    return {
        "x": 2 * draw(*case.shape) + case.sizes.get("mean", 1.0),
        "norm_weight": draw(c) + 1,
        "norm_bias": draw(c),
        "weight": draw.conv(outputs, c, 1),
        "bias": draw(outputs),
    }


def eager(
    x: Tensor, norm_weight: Tensor, norm_bias: Tensor, weight: Tensor, bias: Tensor | None = None, *, eps: float = 1e-6
) -> Tensor:
    normed = F.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), norm_weight, norm_bias, eps).permute(0, 3, 1, 2)
    return F.gelu(F.conv2d(normed, weight, bias))


def work(case: Example, size: int) -> Work:
    n, c, h, w = case.shape
    pixels, outputs = n * h * w, case.sizes.get("outputs", c + 3)
    moved = size * pixels * (c + outputs) + 4 * (outputs * c + 2 * c + outputs)
    return Work(moved, pixels * outputs * c, pixels * 10 * c)


EXAMPLES = Examples(
    draw,
    eager,
    work,
    (
        *SHAPES,
        ONE_CHANNEL,
        example("no_bias", 2, 8, 5, 6, without=("bias",)),
        example("eps", 2, 8, 5, 6, eps=0.5),
        example("mean_far_from_0", 1, 64, 6, 7, sizes={"mean": 100.0}),
        example("several_blocks", 1, 132, 11, 15),
        example("many_channels", 1, 260, 3, 7),
        example("megabytes", 1, 1500, 1, 64, use="large"),
        *benchmarks(sizes={"outputs": CHANNELS}),
        example("odd", *ODD, without=("bias",), use="benchmark", sizes={"outputs": 37}),
    ),
    images=("x",),
)
