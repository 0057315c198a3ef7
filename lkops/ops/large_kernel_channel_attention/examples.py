"""Examples of `large_kernel_channel_attention`: see `lkops.testing`."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..._core import examples as common
from ..channel_attention import examples as channel_attention
from ..depthwise_conv2d import examples as depthwise_conv2d
from .parameters import AttentionParameters

BIASES = ("dw1_bias", "dw2_bias", "reduce_bias", "expand_bias", "mix_bias")
IN_USE = {"hidden": 3 * common.CHANNELS // 16}  # reduction of 16, four groups


def draw(draw: common.Draw, case: common.Example) -> common.Arguments:
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
    *tensors: Tensor | None,
    dilations: tuple[int, int] = (5, 7),
    interleave: bool = False,
    **named: Tensor | None,
) -> Tensor:
    """The parameters come in their order or by their names."""
    parameters = AttentionParameters(*tensors, **named)  # type: ignore[arg-type]
    a1 = depthwise_conv2d.eager(u, *parameters.convs[:2], dilation=dilations[0])
    a2 = depthwise_conv2d.eager(a1, *parameters.convs[2:], dilation=dilations[1])
    ac = channel_attention.eager(torch.cat((u, a1, a2), 1), *parameters.gate)
    groups = ac.shape[1] // parameters.mix_weight.shape[1]
    if interleave:  # (part, group, channels of the group) -> (group, part, channels of the group)
        ac = ac.unflatten(1, (3, groups, -1)).transpose(1, 2).flatten(1, 3)
    return F.conv2d(ac, *parameters.mix, groups=groups) * u


def work(case: common.Example, size: int) -> common.Work:
    n, c, h, w = case.shape
    groups, kernels = case.sizes.get("groups", 4), case.sizes.get("kernels", (5, 7))
    hidden, dilations = case.sizes.get("hidden", max(3 * c // 16, 1)), case.options.get("dilations", (5, 7))
    convs = [depthwise_conv2d.conv_work(case, 0, k, d) for k, d in zip(kernels, dilations, strict=True)]
    matrix = 3 * c * c // groups
    parameters = c * (sum(k * k for k in kernels) + 3) + 6 * c * hidden + hidden + 3 * c + matrix
    pixels = n * h * w
    vector = sum(conv.vector for conv in convs) + 3 * c * pixels + n * 6 * c * hidden
    return common.Work(2 * pixels * c * size + 4 * parameters, pixels * matrix, vector)


EXAMPLES = common.Examples(
    draw,
    eager,
    work,
    (
        *common.SHAPES,
        common.BEYOND_THE_REACH,
        common.example("interleaved", 2, 8, 9, 8, interleave=True),
        common.example("other_kernels", 1, 6, 9, 8, dilations=(2, 3), sizes={"kernels": (3, 5), "groups": 2}),
        common.example("one_group", 1, 3, 9, 8, sizes={"groups": 1}),
        # few programs a group: each takes several samples
        common.example("many_groups", 5, 64, 3, 4, sizes={"groups": 64}),
        # more members than one program takes, and than one can hold
        common.example("wide_groups", 1, 88, 3, 4, interleave=True, sizes={"groups": 2}),
        common.example("very_wide_group", 2, 132, 2, 3, interleave=True, sizes={"groups": 1}),
        common.example("large_planes", 1, 2, 67, 65, sizes={"groups": 1}),  # more pixels than one program takes
        common.example("no_bias", 1, 4, 6, 7, without=BIASES),
        common.example("megabytes", 1, 4, 800, 800, use="large"),
        *common.benchmarks(sizes=IN_USE),
        *common.benchmarks(("patches_16",), "_interleaved", sizes=IN_USE, options={"interleave": True}),
        *common.benchmarks(("patch_16",), "_wide_gate", sizes={"hidden": 96}),
        common.example("odd", *common.ODD, without=BIASES, use="benchmark", sizes={"groups": 1, "hidden": 7}),
        common.example(
            *("odd_other_kernels", *common.ODD),
            without=BIASES,
            use="benchmark",
            dilations=(2, 3),
            sizes={"groups": 1, "hidden": 7, "kernels": (3, 5)},
        ),
    ),
    images=("u",),
)
