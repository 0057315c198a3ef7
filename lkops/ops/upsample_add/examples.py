"""Examples of `upsample_add`: see `lkops.testing`."""

from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ..._core import examples as common
from ..bicubic_upsample import examples as bicubic

IN_USE = {"bands": common.CHANNELS, "groups": 8}  # of LKCA-LR; LKCA-Net's has one group


def draw(draw: common.Draw, case: common.Example) -> common.Arguments:
    n, c, h, w = case.shape
    bands = case.sizes.get("bands", 3)
    outputs = bands * case.options["scale"] ** 2
    return {
        "features": draw(*case.shape),
        "weight": draw.conv(outputs, c // case.sizes.get("groups", 1), case.sizes.get("side", 3)),
        "bias": draw(outputs),
        "lowres": draw(n, bands, h, w),
    }


def eager(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    lowres: Tensor | None = None,
    *,
    scale: int,
    **bicubic_options: Any,
) -> Tensor:
    groups, padding = features.shape[1] // weight.shape[1], [side // 2 for side in weight.shape[2:]]
    up = F.pixel_shuffle(F.conv2d(features, weight, bias, padding=padding, groups=groups), scale)
    return up if lowres is None else up + bicubic.eager(lowres, scale=scale, **bicubic_options)


def work(case: common.Example, size: int) -> common.Work:
    """The image and the result are float32."""
    n, c, h, w = case.shape
    scale, bands, side = case.options["scale"], case.sizes.get("bands", 3), case.sizes.get("side", 3)
    image = bicubic.work(replace(case, shape=(n, bands, h, w)), 4)
    products = side**2 * c * bands * scale**2 // case.sizes.get("groups", 1)
    moved = n * h * w * c * size + 4 * (products + bands * scale**2)
    return image + common.Work(moved, n * h * w * products)


EXAMPLES = common.Examples(
    draw,
    eager,
    work,
    (
        *(replace(case, options={"scale": 2}) for case in (*common.SHAPES, common.ONE_CHANNEL)),
        common.example("grouped", 2, 8, 6, 7, scale=4, sizes={"groups": 8, "bands": 5}),
        common.example("scale_8", 1, 4, 5, 3, scale=8, sizes={"groups": 2, "bands": 2}),
        common.example("scale_1", 1, 4, 5, 3, scale=1),
        common.example("kernel_1", 2, 4, 6, 7, scale=2, sizes={"side": 1}),
        common.example("kernel_5", 1, 4, 6, 7, scale=3, sizes={"side": 5}),
        common.example("no_lowres", 2, 4, 6, 7, scale=2, without=("lowres",)),
        common.example("no_bias", 2, 4, 6, 7, scale=2, without=("bias",)),
        common.example("torch", 1, 4, 6, 7, scale=2, **common.TORCH_BICUBIC),
        common.example("groups_part_planes", 2, 4, 5, 6, scale=2, sizes={"groups": 2}),
        common.example("groups_part_rows", 1, 8, 5, 6, scale=2, sizes={"groups": 4}),
        common.example("many_outputs", 1, 32, 5, 7, scale=4, sizes={"groups": 2, "bands": 13}),
        common.example("winograd", 2, 16, 5, 7, scale=2, sizes={"bands": 5}, without=("lowres",)),
        common.example("winograd_odd", 1, 17, 7, 6, scale=3, sizes={"bands": 3}, without=("lowres", "bias")),
        common.example("winograd_groups", 1, 34, 6, 9, scale=4, sizes={"bands": 4, "groups": 2}, without=("lowres",)),
        common.example("winograd_image", 1, 64, 9, 5, scale=4, sizes={"bands": 3}),
        common.example("winograd_relaxed", 1, 64, 9, 17, scale=2, sizes={"bands": 6}, accuracy="relaxed"),
        common.example("many_pixels", 1, 4, 37, 59, scale=2, sizes={"bands": 2}),
        common.example("megabytes", 1, 32, 32, 32, use="large", scale=16, sizes={"bands": 16}),
        *common.benchmarks(sizes=IN_USE, options={"scale": 4}),
        *common.benchmarks(
            ("patch_16", "batch_16", "image_64", "image_128"),
            "_torch",
            sizes=IN_USE,
            options={"scale": 4, **common.TORCH_BICUBIC},
        ),
        *(
            case
            for scale, groups in ((2, 8), (8, 8), (4, 1))
            for case in common.benchmarks(
                ("patches_16", "image_64"),
                f"_x{scale}" + ("" if groups == 8 else "_one_group"),
                options={"scale": scale},
                sizes={**IN_USE, "groups": groups},
            )
        ),
        common.example(
            *("odd", *common.ODD), without=("bias", "lowres"), use="benchmark", scale=3, sizes={"bands": 5, "side": 5}
        ),
    ),
    images=("features", "lowres"),
    data=("lowres",),
)
