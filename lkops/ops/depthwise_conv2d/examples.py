"""Examples of `depthwise_conv2d`: see `lkops.testing`."""

import torch.nn.functional as F
from torch import Tensor

from ..._core.examples import (
    BEYOND_THE_REACH,
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
    taps_inside,
)


def draw(draw: Draw, case: Example) -> Arguments:
    c = case.shape[1]
    return {"x": draw(*case.shape), "weight": draw.conv(c, 1, case.sizes.get("side", 5)), "bias": draw(c)}


def eager(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, dilation: int = 1) -> Tensor:
    padding = [dilation * (side // 2) for side in weight.shape[2:]]
    return F.conv2d(x, weight, bias, padding=padding, dilation=dilation, groups=weight.shape[0])


def conv_work(case: Example, size: int, side: int, dilation: int) -> Work:
    n, c, h, w = case.shape
    parameters = c * (side**2 + 1)
    vector = n * c * taps_inside(h, side, dilation) * taps_inside(w, side, dilation)
    return Work(size * 2 * n * c * h * w + 4 * parameters, vector=vector)


def work(case: Example, size: int) -> Work:
    return conv_work(case, size, case.sizes.get("side", 5), case.options.get("dilation", 1))


EXAMPLES = Examples(
    draw,
    eager,
    work,
    (
        *SHAPES,
        ONE_CHANNEL,
        BEYOND_THE_REACH,
        example("dilated", 2, 3, 23, 25, dilation=5),
        example("kernel_1", 2, 3, 6, 7, sizes={"side": 1}),
        example("kernel_9", 1, 3, 11, 7, dilation=2, sizes={"side": 9}),
        example("no_bias", 2, 3, 6, 7, without=("bias",)),
        example("megabytes", 1, 1, 3000, 1000, use="large", dilation=900, sizes={"side": 3}),
        *benchmarks(options={"dilation": 7}, sizes={"side": 7}),
        *benchmarks(suffix="_5x5", options={"dilation": 5}, sizes={"side": 5}),
        example("odd", *ODD, without=("bias",), use="benchmark", sizes={"side": 3}),
    ),
    images=("x",),
)
