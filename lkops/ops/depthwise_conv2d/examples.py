"""Examples of `depthwise_conv2d`: see `lkops.testing`."""

import torch.nn.functional as F
from torch import Tensor

from ..._core import examples as common


def draw(draw: common.Draw, case: common.Example) -> common.Arguments:
    c = case.shape[1]
    return {"x": draw(*case.shape), "weight": draw.conv(c, 1, case.sizes.get("side", 5)), "bias": draw(c)}


def eager(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, dilation: int = 1) -> Tensor:
    padding = [dilation * (side // 2) for side in weight.shape[2:]]
    return F.conv2d(x, weight, bias, padding=padding, dilation=dilation, groups=weight.shape[0])


def conv_work(case: common.Example, size: int, side: int, dilation: int) -> common.Work:
    n, c, h, w = case.shape
    parameters = c * (side**2 + 1)
    vector = n * c * common.taps_inside(h, side, dilation) * common.taps_inside(w, side, dilation)
    return common.Work(size * 2 * n * c * h * w + 4 * parameters, vector=vector)


def work(case: common.Example, size: int) -> common.Work:
    return conv_work(case, size, case.sizes.get("side", 5), case.options.get("dilation", 1))


EXAMPLES = common.Examples(
    draw,
    eager,
    work,
    (
        *common.SHAPES,
        common.ONE_CHANNEL,
        common.BEYOND_THE_REACH,
        common.example("dilated", 2, 3, 23, 25, dilation=5),
        common.example("kernel_1", 2, 3, 6, 7, sizes={"side": 1}),
        common.example("kernel_9", 1, 3, 11, 7, dilation=2, sizes={"side": 9}),
        common.example("no_bias", 2, 3, 6, 7, without=("bias",)),
        common.example("megabytes", 1, 1, 3000, 1000, use="large", dilation=900, sizes={"side": 3}),
        *common.benchmarks(options={"dilation": 7}, sizes={"side": 7}),
        *common.benchmarks(suffix="_5x5", options={"dilation": 5}, sizes={"side": 5}),
        common.example("odd", *common.ODD, without=("bias",), use="benchmark", sizes={"side": 3}),
    ),
    images=("x",),
)
