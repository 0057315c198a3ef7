"""Examples of `lk_block`: see `lkops.testing`."""

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from ..._core import examples as common
from ..large_kernel_channel_attention import examples as attention
from ..norm_conv1x1_gelu import examples as projection
from .parameters import BlockParameters


def draw(draw: common.Draw, case: common.Example) -> common.Arguments:
    n, c = case.shape[:2]
    first = projection.draw(draw, replace(case, sizes={"outputs": c}))
    inner = attention.draw(draw, replace(case, shape=(1, c, 1, 1)))
    inner.pop("u")
    return {
        "x": first["x"],
        "norm_weight": first["norm_weight"],
        "norm_bias": first["norm_bias"],
        "in_weight": first["weight"],
        "in_bias": first["bias"],
        **inner,
        "out_weight": draw.conv(c, c, 1),
        "out_bias": draw(c),
        "keep": draw(n).abs() + 0.5,
    }


def eager(
    x: Tensor,
    *tensors: Tensor | None,
    keep: Tensor | None = None,
    dilations: tuple[int, int] = (5, 7),
    interleave: bool = False,
    eps: float = 1e-6,
    **named: Tensor | None,
) -> Tensor:
    """The parameters come in their order or by their names."""
    parameters = BlockParameters(*tensors, **named)  # type: ignore[arg-type]
    u = projection.eager(x, *parameters.projection, eps=eps)
    y = attention.eager(u, *parameters.attention, dilations=dilations, interleave=interleave)
    y = F.conv2d(y, *parameters.out)
    return x + (y if keep is None else y * keep[:, None, None, None])


def work(case: common.Example, size: int) -> common.Work:
    """As the attention, with the two 1x1 convs and the norm."""
    n, c, h, w = case.shape
    pixels = n * h * w
    return attention.work(case, size) + common.Work(4 * (2 * c * c + 4 * c), 2 * pixels * c * c, pixels * 10 * c)


KEEP = ("keep",)
EXAMPLES = common.Examples(
    draw,
    eager,
    work,
    (
        *common.SHAPES,
        common.example("no_keep", 2, 8, 9, 8, without=KEEP),
        common.example(
            *("interleaved", 2, 8, 9, 8),
            interleave=True,
            dilations=(2, 3),
            sizes={"kernels": (3, 5), "groups": 2},
        ),
        common.example("megabytes", 1, 4, 800, 800, use="large"),
        *common.benchmarks(sizes=attention.IN_USE, without=KEEP),
        *common.benchmarks(suffix="_keep", sizes=attention.IN_USE),
        common.example(
            "odd", *common.ODD, without=(*attention.BIASES, *KEEP), use="benchmark", sizes={"groups": 1, "hidden": 7}
        ),
    ),
    images=("x", "keep"),
    data=KEEP,
)
