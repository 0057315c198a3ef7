"""Examples of `large_kernel_channel_attention`: see `lkops.testing`."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..._core.examples import (
    BEYOND_THE_REACH,
    CHANNELS,
    ODD,
    SHAPES,
    Arguments,
    Draw,
    Example,
    Examples,
    Work,
    benchmarks,
    example,
)
from ..channel_attention import examples as channel_attention
from ..depthwise_conv2d import examples as depthwise_conv2d

BIASES = ("dw1_bias", "dw2_bias", "reduce_bias", "expand_bias", "mix_bias")
IN_USE = {"hidden": 3 * CHANNELS // 16}  # reduction of 16, four groups


def draw(draw: Draw, case: Example) -> Arguments:
    c = case.shape[1]
    groups, kernels = case.sizes.get("groups", 4), case.sizes.get("kernels", (5, 7))
    gate = channel_attention.draw(draw, replace(case, shape=(1, 3 * c, 1, 1)))
    gate.pop("x")
    return {
        "u": draw(*case.shape) + 0.5,
        "dw1_weight": draw.conv(c, 1, kernels[0]),
        "dw1_bias": draw(c),
        "dw2_weight": draw.conv(c, 1, kernels[1]),
        "dw2_bias": draw(c),
        **gate,
        "mix_weight": draw.conv(c, 3 * c // groups, 1),
        "mix_bias": draw(c),
    }


def eager(
    u: Tensor,
    dw1_weight: Tensor,
    dw1_bias: Tensor | None,
    dw2_weight: Tensor,
    dw2_bias: Tensor | None,
    reduce_weight: Tensor,
    reduce_bias: Tensor | None,
    expand_weight: Tensor,
    expand_bias: Tensor | None,
    mix_weight: Tensor,
    mix_bias: Tensor | None,
    *,
    dilations: tuple[int, int] = (5, 7),
    interleave: bool = False,
) -> Tensor:
    a1 = depthwise_conv2d.eager(u, dw1_weight, dw1_bias, dilation=dilations[0])
    a2 = depthwise_conv2d.eager(a1, dw2_weight, dw2_bias, dilation=dilations[1])
    ac = channel_attention.eager(torch.cat((u, a1, a2), 1), reduce_weight, reduce_bias, expand_weight, expand_bias)
    groups = ac.shape[1] // mix_weight.shape[1]
    if interleave:  # (part, group, channels of the group) -> (group, part, channels of the group)
        ac = ac.unflatten(1, (3, groups, -1)).transpose(1, 2).flatten(1, 3)
    return F.conv2d(ac, mix_weight, mix_bias, groups=groups) * u


def work(case: Example, size: int) -> Work:
    n, c, h, w = case.shape
    groups, kernels = case.sizes.get("groups", 4), case.sizes.get("kernels", (5, 7))
    hidden, dilations = case.sizes.get("hidden", max(3 * c // 16, 1)), case.options.get("dilations", (5, 7))
    convs = [depthwise_conv2d.conv_work(case, 0, k, d) for k, d in zip(kernels, dilations, strict=True)]
    matrix = 3 * c * c // groups
    parameters = c * (sum(k * k for k in kernels) + 3) + 6 * c * hidden + hidden + 3 * c + matrix
    pixels = n * h * w
    vector = sum(conv.vector for conv in convs) + 3 * c * pixels + n * 6 * c * hidden
    return Work(2 * pixels * c * size + 4 * parameters, pixels * matrix, vector)


EXAMPLES = Examples(
    draw,
    eager,
    work,
    (
        *SHAPES,
        BEYOND_THE_REACH,
        example("interleaved", 2, 8, 9, 8, interleave=True),
        example("other_kernels", 1, 6, 9, 8, dilations=(2, 3), sizes={"kernels": (3, 5), "groups": 2}),
        example("one_group", 1, 3, 9, 8, sizes={"groups": 1}),
        # few programs a group: each takes several samples
        example("many_groups", 5, 64, 3, 4, sizes={"groups": 64}),
        # more members than one program takes, and than one can hold
        example("wide_groups", 1, 88, 3, 4, interleave=True, sizes={"groups": 2}),
        example("very_wide_group", 2, 132, 2, 3, interleave=True, sizes={"groups": 1}),
        example("large_planes", 1, 2, 67, 65, sizes={"groups": 1}),  # more pixels than one program takes
        example("no_bias", 1, 4, 6, 7, without=BIASES),
        example("megabytes", 1, 4, 800, 800, use="large"),
        *benchmarks(sizes=IN_USE),
        *benchmarks(("patches_16",), "_interleaved", sizes=IN_USE, options={"interleave": True}),
        *benchmarks(("patch_16",), "_wide_gate", sizes={"hidden": 96}),
        example("odd", *ODD, without=BIASES, use="benchmark", sizes={"groups": 1, "hidden": 7}),
        example(
            *("odd_other_kernels", *ODD),
            without=BIASES,
            use="benchmark",
            dilations=(2, 3),
            sizes={"groups": 1, "hidden": 7, "kernels": (3, 5)},
        ),
    ),
    images=("u",),
)
