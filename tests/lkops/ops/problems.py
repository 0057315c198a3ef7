"""Arguments for every operator; `harness.py` holds kernels to them. A new kernel is tested without changes here.

Arguments are drawn in float64 from a seed, so every dtype sees roundings of the same numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Arguments = dict[str, Tensor | None]


@dataclass(frozen=True)
class Case:
    """One shape (N, C, H, W) and the options of an operator for it."""

    name: str
    shape: tuple[int, int, int, int]
    options: dict[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()  # optional tensors that are left out


def _case(name: str, *shape: int, without: tuple[str, ...] = (), **options: Any) -> Case:
    return Case(name, shape, options, without)  # type: ignore[arg-type]


class Draw:
    """Normal numbers of unit size from one seed."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def conv(self, outputs: int, inputs: int, side: int) -> Tensor:
        return self(outputs, inputs, side, side, scale=(inputs * side * side) ** -0.5)


def _bicubic(draw: Draw, case: Case) -> Arguments:
    return {"x": draw(*case.shape)}


def _depthwise(draw: Draw, case: Case, side: int = 5) -> Arguments:
    c = case.shape[1]
    return {"x": draw(*case.shape), "weight": draw.conv(c, 1, side), "bias": draw(c)}


def _gate(draw: Draw, case: Case) -> Arguments:
    c, r = case.shape[1], max(case.shape[1] // 2, 1)
    return {
        "x": draw(*case.shape) + 0.5,
        "reduce_weight": draw.conv(r, c, 1),
        "reduce_bias": draw(r) + 0.5,
        "expand_weight": draw.conv(c, r, 1),
        "expand_bias": draw(c),
    }


def _attention(draw: Draw, case: Case, groups: int = 4, kernels: tuple[int, int] = (5, 7)) -> Arguments:
    c = case.shape[1]
    gate = _gate(draw, Case("", (1, 3 * c, 1, 1)))
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


def _projection(draw: Draw, case: Case, outputs: int = 0, mean: float = 1.0) -> Arguments:
    c = case.shape[1]
    return {
        "x": 2 * draw(*case.shape) + mean,
        "norm_weight": draw(c) + 1,
        "norm_bias": draw(c),
        "weight": draw.conv(outputs or c + 3, c, 1),
        "bias": draw(outputs or c + 3),
    }


def _block(draw: Draw, case: Case, groups: int = 4, kernels: tuple[int, int] = (5, 7)) -> Arguments:
    n, c = case.shape[:2]
    projection = _projection(draw, case, outputs=c)
    inner = _attention(draw, Case("", (1, c, 1, 1)), groups, kernels)
    inner.pop("u")
    return {
        "x": projection["x"],
        "norm_weight": projection["norm_weight"],
        "norm_bias": projection["norm_bias"],
        "in_weight": projection["weight"],
        "in_bias": projection["bias"],
        **inner,
        "out_weight": draw.conv(c, c, 1),
        "out_bias": draw(c),
        "keep": draw(n).abs() + 0.5,
    }


def _upsample(draw: Draw, case: Case, groups: int = 1, bands: int = 3, side: int = 3) -> Arguments:
    n, c, h, w = case.shape
    outputs = bands * case.options["scale"] ** 2
    return {
        "features": draw(*case.shape),
        "weight": draw.conv(outputs, c // groups, side),
        "bias": draw(outputs),
        "lowres": draw(n, bands, h, w),
    }


def _losses(draw: Draw, case: Case, empty_spectra: bool = False) -> Arguments:
    prediction, target = draw(*case.shape), draw(*case.shape)
    target = prediction + 0.5 * target
    if empty_spectra:
        prediction[:, :, 0, 0] = 0
        target[:, :, 1, 1] = 0
        prediction[:, :, 2, 2] = target[:, :, 2, 2] = 0
        prediction[:, :, 3, 3] = 1e-9
    return {"prediction": prediction, "target": target}


_SHAPES = (
    _case("plain", 2, 8, 8, 8),
    _case("prime", 3, 8, 13, 17),
    _case("one_pixel", 1, 4, 1, 1),
    _case("one_row", 2, 4, 1, 31),
    _case("one_column", 1, 4, 29, 1),
    _case("zero_batch", 0, 4, 5, 7),
)
_IMAGES = (*_SHAPES, _case("one_channel", 2, 1, 6, 5))
_LARGE = _case("beyond_the_reach", 1, 4, 45, 50)  # both dilated kernels have pixels that see no border


def _scaled(scale: int, *more: Case) -> tuple[Case, ...]:
    return (*(Case(c.name, c.shape, {"scale": scale}) for c in _IMAGES), *more)


# operator -> (what draws its arguments, its cases); keys of options that the drawing takes are in _DRAWING
PROBLEMS: dict[str, tuple[Callable[..., Arguments], tuple[Case, ...]]] = {
    "bicubic_upsample": (
        _bicubic,
        _scaled(
            4,
            *(_case(f"scale_{r}", 2, 3, 7, 6, scale=r) for r in (1, 2, 3, 5, 8)),
            _case("torch", 2, 3, 7, 9, scale=4, cubic_a=-0.75, border="replicate"),
            _case("torch_tiny", 2, 3, 1, 2, scale=2, cubic_a=-0.75, border="replicate"),
            _case("large", 1, 5, 40, 37, scale=4),
        ),
    ),
    "depthwise_conv2d": (
        _depthwise,
        (
            *_IMAGES,
            _LARGE,
            _case("dilated", 2, 3, 23, 25, dilation=5),
            _case("kernel_1", 2, 3, 6, 7, side=1),
            _case("kernel_9", 1, 3, 11, 7, side=9, dilation=2),
            _case("no_bias", 2, 3, 6, 7, without=("bias",)),
        ),
    ),
    "channel_attention": (
        _gate,
        (*_IMAGES, _case("no_bias", 2, 4, 5, 6, without=("reduce_bias", "expand_bias"))),
    ),
    "large_kernel_channel_attention": (
        _attention,
        (
            *_SHAPES,
            _LARGE,
            _case("interleaved", 2, 8, 9, 8, interleave=True),
            _case("other_kernels", 1, 6, 9, 8, dilations=(2, 3), kernels=(3, 5), groups=2),
            _case("one_group", 1, 3, 9, 8, groups=1),
            _case("many_groups", 5, 64, 3, 4, groups=64),  # few programs a group: each takes several samples
            _case("wide_groups", 1, 88, 3, 4, groups=2, interleave=True),  # more members than one program takes
            _case("very_wide_group", 2, 132, 2, 3, groups=1, interleave=True),  # more than one program can hold
            _case("large_planes", 1, 2, 67, 65, groups=1),  # more pixels than one program takes
            _case("no_bias", 1, 4, 6, 7, without=("dw1_bias", "dw2_bias", "reduce_bias", "expand_bias", "mix_bias")),
        ),
    ),
    "norm_conv1x1_gelu": (
        _projection,
        (
            *_IMAGES,
            _case("no_bias", 2, 8, 5, 6, without=("bias",)),
            _case("eps", 2, 8, 5, 6, eps=0.5),
            _case("mean_far_from_0", 1, 64, 6, 7, mean=100.0),
            _case("several_blocks", 1, 132, 11, 15),
            _case("many_channels", 1, 260, 3, 7),
        ),
    ),
    "lk_block": (
        _block,
        (
            *_SHAPES,
            _case("no_keep", 2, 8, 9, 8, without=("keep",)),
            _case("interleaved", 2, 8, 9, 8, interleave=True, dilations=(2, 3), kernels=(3, 5), groups=2),
        ),
    ),
    "spectral_losses": (
        _losses,
        (
            *_IMAGES,
            _case("empty_spectra", 2, 5, 6, 7, empty_spectra=True),
            _case("many_bands", 1, 130, 9, 8),
            _case("floor", 2, 5, 6, 7, floor=0.8),  # some pixels are below it, some above
            _case("floor_and_empty_spectra", 2, 5, 6, 7, floor=0.5, empty_spectra=True),
            _case("several_tiles", 1, 6, 3, 72),
            _case("several_tiles_unaligned", 1, 5, 3, 67),
        ),
    ),
    "upsample_add": (
        _upsample,
        _scaled(
            2,
            _case("grouped", 2, 8, 6, 7, scale=4, groups=8, bands=5),
            _case("scale_8", 1, 4, 5, 3, scale=8, groups=2, bands=2),
            _case("scale_1", 1, 4, 5, 3, scale=1),
            _case("kernel_1", 2, 4, 6, 7, scale=2, side=1),
            _case("kernel_5", 1, 4, 6, 7, scale=3, side=5),
            _case("no_lowres", 2, 4, 6, 7, scale=2, without=("lowres",)),
            _case("no_bias", 2, 4, 6, 7, scale=2, without=("bias",)),
            _case("torch", 1, 4, 6, 7, scale=2, cubic_a=-0.75, border="replicate"),
            _case("groups_part_planes", 2, 4, 5, 6, scale=2, groups=2),
            _case("groups_part_rows", 1, 8, 5, 6, scale=2, groups=4),
            _case("many_outputs", 1, 32, 5, 7, scale=4, groups=2, bands=13),
            _case("many_pixels", 1, 4, 37, 59, scale=2, bands=2),
        ),
    ),
}
_DRAWING = {"groups", "kernels", "outputs", "side", "bands", "mean", "empty_spectra"}


def arguments(operator: str, case: Case, draw: Draw | None = None) -> tuple[Arguments, dict[str, Any]]:
    """The tensors, by name and in order, in float64, and the keyword options of one case."""
    drawing = {key: value for key, value in case.options.items() if key in _DRAWING}
    options = {key: value for key, value in case.options.items() if key not in _DRAWING}
    tensors = PROBLEMS[operator][0](draw or Draw(), case, **drawing)
    return {name: None if name in case.without else tensor for name, tensor in tensors.items()}, options


def case_named(operator: str, name: str) -> Case:
    return next(case for case in PROBLEMS[operator][1] if case.name == name)
