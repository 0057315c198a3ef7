"""Examples of `norm_conv1x1_gelu`: see `lkops.testing`."""

import torch.nn.functional as F
from torch import Tensor

from ..._core import examples as common


def draw(draw: common.Draw, case: common.Example) -> common.Arguments:
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


def work(case: common.Example, size: int) -> common.Work:
    n, c, h, w = case.shape
    pixels, outputs = n * h * w, case.sizes.get("outputs", c + 3)
    moved = size * pixels * (c + outputs) + 4 * (outputs * c + 2 * c + outputs)
    return common.Work(moved, pixels * outputs * c, pixels * 10 * c)


EXAMPLES = common.Examples(
    draw,
    eager,
    work,
    (
        *common.SHAPES,
        common.ONE_CHANNEL,
        common.example("no_bias", 2, 8, 5, 6, without=("bias",)),
        common.example("eps", 2, 8, 5, 6, eps=0.5),
        common.example("mean_far_from_0", 1, 64, 6, 7, sizes={"mean": 100.0}),
        common.example("several_blocks", 1, 132, 11, 15),
        common.example("many_channels", 1, 260, 3, 7),
        common.example("megabytes", 1, 1500, 1, 64, use="large"),
        *common.benchmarks(sizes={"outputs": common.CHANNELS}),
        common.example("odd", *common.ODD, without=("bias",), use="benchmark", sizes={"outputs": 37}),
    ),
    images=("x",),
)
