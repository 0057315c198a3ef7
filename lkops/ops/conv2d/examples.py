"""Examples of `conv2d`: see `lkops.testing`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..._core import checks
from ..._core import examples as common
from . import values

_RELU = {"activation": "relu"}


def _axes(case: common.Example) -> list[tuple[int, int, int, int, int, int]]:
    """For rows and for columns: size, kernel, stride, padding, dilation and size of the result. A kernel that would not
    fit into the padded image has one tap."""
    options, side = case.options, case.sizes.get("side", 3)
    strides = checks.one_or_two("stride", options.get("stride", 1))
    dilations = checks.one_or_two("dilation", options.get("dilation", 1))
    found = []
    for axis, size in enumerate(case.shape[2:]):
        for kernel in (side, 1):
            padding = values.padding(options.get("padding", "same"), (kernel, kernel), dilations)[axis]
            room = size + 2 * padding - dilations[axis] * (kernel - 1) - 1
            if room >= 0:
                break
        found.append((size, kernel, strides[axis], padding, dilations[axis], room // strides[axis] + 1))
    return found


def _outputs(case: common.Example) -> int:
    """Five times its groups if it does not say."""
    outputs: int = case.sizes.get("outputs", 5 * case.options.get("groups", 1))
    return outputs


def draw(draw: common.Draw, case: common.Example) -> common.Arguments:
    n, c, *_ = case.shape
    outputs, axes = _outputs(case), _axes(case)
    tensors: common.Arguments = {
        "input": draw(*case.shape),
        "weight": draw.conv(outputs, c // case.options.get("groups", 1), *(kernel for _, kernel, *_ in axes)),
        "bias": draw(outputs),
    }
    if case.options.get("activation") == "prelu":
        tensors["prelu_weight"] = draw(outputs)
    tensors["residual"] = draw(n, outputs, *(result for *_, result in axes))
    return tensors


def eager(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | tuple[int, int] = 1,
    padding: str | int | Sequence[int] = "same",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    activation: str | None = None,
    slope: float = 0.01,
    prelu_weight: Tensor | None = None,
    residual: Tensor | None = None,
    residual_scale: float = 1.0,
    **others: Any,
) -> Tensor:
    dilations = checks.one_or_two("dilation", dilation)
    y = F.conv2d(input, weight, bias, stride, values.padding(padding, weight.shape[2:], dilations), dilations, groups)
    if activation == "leaky_relu":
        y = F.leaky_relu(y, slope)
    elif prelu_weight is not None:
        y = F.prelu(y, prelu_weight)
    elif activation is not None:
        y = values.PLAIN[activation](y)
    if residual is not None:
        return torch.add(residual, y, alpha=residual_scale)
    return y if residual_scale == 1 else residual_scale * y


def _taps_inside(size: int, kernel: int, stride: int, padding: int, dilation: int, result: int) -> int:
    """Pairs of a tap and a result whose pixel is no padding."""
    pixels = (i * stride + tap * dilation - padding for i in range(result) for tap in range(kernel))
    return sum(0 <= pixel < size for pixel in pixels)


def work(case: common.Example, size: int) -> common.Work:
    n, c, h, w = case.shape
    outputs, inputs, axes = _outputs(case), c // case.options.get("groups", 1), _axes(case)
    results = n * outputs * axes[0][-1] * axes[1][-1]
    images = n * c * h * w + results * (1 if "residual" in case.without else 2)
    parameters = outputs * (inputs * axes[0][1] * axes[1][1] + 1)
    pairs = _taps_inside(*axes[0]) * _taps_inside(*axes[1])
    return common.Work(size * images + 4 * parameters, n * outputs * inputs * pairs)


def _in_use() -> tuple[common.Example, ...]:
    """Of networks: 3x3 at their widths, with a ReLU, and at the end of a residual block."""
    plain = [
        common.Example(
            f"c{c}_{side}", (1, c, side, side), _RELU, {"outputs": c}, without=("residual",), use="benchmark"
        )
        for c, side in ((64, 48), (64, 128), (128, 48), (128, 96), (180, 48), (180, 64), (256, 48), (256, 64))
    ]
    ends = [
        replace(case, name=f"{case.name}_residual", options={"residual_scale": 0.1}, without=())
        for case in plain
        if case.shape[1] in (64, 256)
    ]
    relaxed = [
        replace(case, name=f"{case.name}_relaxed", options={**case.options, "accuracy": "relaxed"}) for case in plain
    ]
    return (*plain, *ends, *relaxed)


EXAMPLES = common.Examples(
    draw,
    eager,
    work,
    (
        *common.SHAPES,
        common.ONE_CHANNEL,
        common.example("winograd", 2, 24, 11, 14, sizes={"outputs": 33}, residual_scale=0.5, activation="relu"),
        common.example("relaxed", 1, 17, 9, 18, sizes={"outputs": 18}, activation="silu", accuracy="relaxed"),
        common.example("larger", 1, 16, 11, 17, sizes={"outputs": 20, "side": 5}, activation="silu"),
        common.example("apart", 2, 17, 9, 14, sizes={"outputs": 18}, dilation=2, activation="relu"),
        common.example("many_channels", 1, 160, 6, 9, sizes={"outputs": 40}),
        common.example("kernel_1", 2, 5, 6, 7, sizes={"side": 1}, activation="gelu"),
        common.example("kernel_5_dilated", 1, 3, 11, 17, sizes={"side": 5}, dilation=2, activation="prelu"),
        common.example(
            "strided", 2, 6, 9, 14, sizes={"outputs": 4}, groups=2, stride=2, activation="leaky_relu", slope=0.2
        ),
        common.example("even_kernel", 1, 3, 8, 9, sizes={"side": 4}, padding=1, stride=3, activation="sigmoid"),
        common.example(
            "uneven", 1, 4, 9, 12, sizes={"outputs": 6}, stride=(1, 2), dilation=(2, 1), padding=(3, 0), groups=2
        ),
        common.example("valid", 1, 3, 8, 9, padding="valid", without=("residual",)),
        common.example("no_bias", 2, 3, 6, 7, without=("bias", "residual"), activation="relu"),
        common.example("megabytes", 1, 1500, 1, 64, use="large", sizes={"outputs": 1500, "side": 1}, activation="gelu"),
        *common.benchmarks(sizes={"outputs": common.CHANNELS}, without=("residual",), options=_RELU),
        *_in_use(),
        common.example("first_conv", 1, 31, 96, 96, use="benchmark", sizes={"outputs": 64}, without=("residual",)),
        common.example("first_conv_rgb", 1, 3, 128, 128, use="benchmark", sizes={"outputs": 64}, without=("residual",)),
        common.example("last_conv", 1, 64, 96, 96, use="benchmark", sizes={"outputs": 31}, without=("residual",)),
        common.example(
            *("odd", *common.ODD), without=("bias",), use="benchmark", sizes={"outputs": 37, "side": 5}, dilation=2
        ),
    ),
    images=("input", "residual"),
    of_size=lambda options: 1e-5 if options.get("accuracy") == "relaxed" else 0.0,
)
