"""Examples of `channel_attention`: see `lkops.testing`."""

import torch.nn.functional as F
from torch import Tensor

from ..._core import examples as common


def draw(draw: common.Draw, case: common.Example) -> common.Arguments:
    c = case.shape[1]
    hidden = case.sizes.get("hidden", max(c // 2, 1))
    return {
        "x": draw(*case.shape) + 0.5,
        "reduce_weight": draw.conv(hidden, c, 1),
        "reduce_bias": draw(hidden) + 0.5,
        "expand_weight": draw.conv(c, hidden, 1),
        "expand_bias": draw(c),
    }


def eager(
    x: Tensor,
    reduce_weight: Tensor,
    reduce_bias: Tensor | None,
    expand_weight: Tensor,
    expand_bias: Tensor | None,
) -> Tensor:
    hidden = F.relu(F.conv2d(F.adaptive_avg_pool2d(x, 1), reduce_weight, reduce_bias))
    return x * F.conv2d(hidden, expand_weight, expand_bias).sigmoid()


def work(case: common.Example, size: int) -> common.Work:
    n, c, h, w = case.shape
    values, products = n * c * h * w, 2 * c * case.sizes.get("hidden", max(c // 2, 1))
    return common.Work(2 * size * values + 4 * products, vector=2 * values + n * products)


EXAMPLES = common.Examples(
    draw,
    eager,
    work,
    (
        *common.SHAPES,
        common.ONE_CHANNEL,
        common.example("no_bias", 2, 4, 5, 6, without=("reduce_bias", "expand_bias")),
        common.example("megabytes", 1, 1500, 1, 1, use="large"),
        *common.benchmarks(sizes={"hidden": common.CHANNELS // 16}),
        # of the concat of three, as the attention has it
        common.example(
            "image_64_wide",
            1,
            3 * common.CHANNELS,
            64,
            64,
            use="benchmark",
            sizes={"hidden": 3 * common.CHANNELS // 16},
        ),
        common.example(
            "odd", *common.ODD, without=("reduce_bias", "expand_bias"), use="benchmark", sizes={"hidden": 5}
        ),
    ),
    images=("x",),
)
