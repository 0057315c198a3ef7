"""Shapes that stand for what each operator meets, and how its Triton kernels are run for them.

They serve the ahead-of-time check (on the meta device, where only the launches are of interest) and the tuner (on a
GPU): LKCA-Net's sizes, where C = B = 128, and for each operator a general odd one with everything optional left out.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from math import prod
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

import lkops
from lkops import backends
from lkops._core import operator as _operator

Sizes = Mapping[str, Sequence[int] | None]  # of tensors by name; None for one that is left out
Size = tuple[int, int, int, int]

C, BANDS, GROUPS, HIDDEN = 128, 128, 4, 24
PATCHES: Sequence[Size] = [(n, C, side, side) for n in (1, 32) for side in (16, 32)]  # of training and of small images
IMAGES: Sequence[Size] = [*PATCHES, *((1, C, side, side) for side in (64, 128))]
ODD: Size = (3, 31, 13, 17)


@dataclass(frozen=True)
class Shape:
    """One call of an operator.

    Attributes:
        operator: name of the public function.
        tensors: their sizes.
        options: keyword arguments.
        data: tensors that need no gradient in training.
    """

    operator: str
    tensors: Sizes
    options: Mapping[str, Any] = field(default_factory=dict)
    data: Sequence[str] = ()

    def __str__(self) -> str:
        sizes = [f"{name} {'x'.join(map(str, size))}" for name, size in self.tensors.items() if size]
        return ", ".join([self.operator, *sizes[:2], *(f"{key}={value}" for key, value in self.options.items())])


def _odd(size: Size) -> bool:
    return size == ODD


def _gate(channels: int, hidden: int, biases: bool) -> dict[str, Sequence[int] | None]:
    return {
        "reduce_weight": (hidden, channels, 1, 1),
        "reduce_bias": (hidden,) if biases else None,
        "expand_weight": (channels, hidden, 1, 1),
        "expand_bias": (channels,) if biases else None,
    }


def _attention(size: Size, kernels: tuple[int, int] = (5, 7)) -> dict[str, Sequence[int] | None]:
    c, biases = size[1], not _odd(size)
    groups, hidden = (1, 7) if _odd(size) else (GROUPS, HIDDEN)
    return {
        "dw1_weight": (c, 1, kernels[0], kernels[0]),
        "dw1_bias": (c,) if biases else None,
        "dw2_weight": (c, 1, kernels[1], kernels[1]),
        "dw2_bias": (c,) if biases else None,
        **_gate(3 * c, hidden, biases),
        "mix_weight": (c, 3 * c // groups, 1, 1),
        "mix_bias": (c,) if biases else None,
    }


def _block(size: Size, keep: bool) -> Shape:
    c = size[1]
    tensors: Sizes = {
        "x": size,
        **{"norm_weight": (c,), "norm_bias": (c,), "in_weight": (c, c, 1, 1), "in_bias": (c,)},
        **_attention(size),
        **{"out_weight": (c, c, 1, 1), "out_bias": (c,), "keep": (size[0],) if keep else None},
    }
    return Shape("lk_block", tensors, data=("keep",))


def _projection(size: Size, outputs: int) -> Shape:
    c = size[1]
    bias = None if _odd(size) else (outputs,)
    tensors: Sizes = {**{"x": size, "norm_weight": (c,), "norm_bias": (c,), "weight": (outputs, c, 1, 1), "bias": bias}}
    return Shape("norm_conv1x1_gelu", tensors)


def _upsample(size: Size, bands: int, scale: int, groups: int, kernel: int = 3, *, whole: bool = True) -> Shape:
    n, c, h, w = size
    outputs = bands * scale**2
    tensors: Sizes = {
        "features": size,
        "weight": (outputs, c // groups, kernel, kernel),
        "bias": (outputs,) if whole else None,
        "lowres": (n, bands, h, w) if whole else None,
    }
    return Shape("upsample_add", tensors, {"scale": scale}, data=("lowres",))


def _losses(size: Size) -> Shape:
    return Shape("spectral_losses", {"prediction": size, "target": size}, data=("target",))


def _depthwise(size: Size, kernel: int, dilation: int) -> Shape:
    bias = None if _odd(size) else (size[1],)
    tensors: Sizes = {"x": size, "weight": (size[1], 1, kernel, kernel), "bias": bias}
    return Shape("depthwise_conv2d", tensors, {"dilation": dilation})


_SCALES = [(2, 8), (4, 8), (8, 8), (4, 1)]  # scale and groups of LKCA-Net's upsamplers
_PATCH, _IMAGE = (32, C, 16, 16), (1, C, 64, 64)
_TORCH = {"cubic_a": -0.75, "border": "replicate"}

SHAPES: Sequence[Shape] = (
    *(Shape("bicubic_upsample", {"x": size}, {"scale": 4}) for size in IMAGES),
    *(Shape("bicubic_upsample", {"x": size}, {"scale": scale}) for scale in (2, 8) for size in (_PATCH, _IMAGE)),
    Shape("bicubic_upsample", {"x": _IMAGE}, {"scale": 4, **_TORCH}),
    Shape("bicubic_upsample", {"x": ODD}, {"scale": 3}),
    *(_depthwise(size, kernel, kernel) for size in IMAGES for kernel in (5, 7)),
    _depthwise(ODD, 3, 1),
    *(Shape("channel_attention", {"x": size, **_gate(C, C // 16, True)}) for size in IMAGES),
    Shape("channel_attention", {"x": ODD, **_gate(ODD[1], 5, False)}),
    *(Shape("large_kernel_channel_attention", {"u": size, **_attention(size)}) for size in (*IMAGES, ODD)),
    Shape("large_kernel_channel_attention", {"u": _PATCH, **_attention(_PATCH)}, {"interleave": True}),
    Shape("large_kernel_channel_attention", {"u": PATCHES[0], **_attention(PATCHES[0]), **_gate(3 * C, 96, True)}),
    Shape("large_kernel_channel_attention", {"u": ODD, **_attention(ODD, (3, 5))}, {"dilations": (2, 3)}),
    *(_projection(size, C) for size in IMAGES),
    _projection(ODD, 37),
    *(_block(size, keep) for size in IMAGES for keep in (True, False)),
    _block(ODD, False),
    *(_losses((n, C, side, side)) for n in (1, 32) for side in (16, 64, 128)),
    *(_losses((1, C, side, side)) for side in (256, 512)),
    _losses(ODD),
    *(_upsample(size, BANDS, 4, 8) for size in IMAGES),
    *(_upsample(size, BANDS, scale, groups) for scale, groups in _SCALES for size in (_PATCH, _IMAGE)),
    _upsample(ODD, 5, 3, 1, 5, whole=False),
)


@contextmanager
def precision(kind: str) -> Iterator[None]:
    """Within the block torch's convs, and so our products, run in tf32 (kind "tf32") or in full float32 (any other)."""
    convs: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before, convs.fp32_precision = convs.fp32_precision, "tf32" if kind == "tf32" else "ieee"
    try:
        yield
    finally:
        convs.fp32_precision = before


# a kind of run: its tensors' dtype and, where the operator takes it beside that, the dtype of `data`
KINDS: Mapping[str, tuple[torch.dtype, torch.dtype]] = {
    "float32": (torch.float32, torch.float32),
    "tf32": (torch.float32, torch.float32),
    "bfloat16": (torch.bfloat16, torch.bfloat16),
    "float16": (torch.float16, torch.float16),
    "bfloat16 autocast": (torch.bfloat16, torch.float32),
}


class _Found(Exception):
    """Stops a public function once its arguments are known."""


def raw(operator: str, tensors: Mapping[str, Tensor | None], options: Mapping[str, Any]) -> tuple[Any, Any]:
    """What a public function hands to the kernels: tensors, and options in the order of the schema."""
    found: list[Any] = []

    def spy(name: str, backend: Any, tensors: Sequence[Tensor | None], options: Any = ()) -> None:
        found.extend((name, tensors, options))
        raise _Found

    with patch.object(_operator, "call", spy), suppress(_Found):
        getattr(lkops, operator)(**tensors, **options)
    assert found[0] == operator, f"{operator} runs {found[0]}"
    return found[1], found[2]


def tensors_of(shape: Shape, kind: str, device: str) -> dict[str, Tensor | None]:
    """Normal numbers; weights of convs are scaled down as at the start of training."""

    def draw(name: str, size: Sequence[int] | None) -> Tensor | None:
        if size is None:
            return None
        scale = prod(size[1:]) ** -0.5 if name.endswith("weight") and len(size) == 4 else 1.0
        return (scale * torch.randn(size, device=device)).to(KINDS[kind][name in shape.data])

    return {name: draw(name, size) for name, size in shape.tensors.items()}


@dataclass
class Kernels:
    """The two directions of one call; `forward` comes first, since `backward` takes what it saved.

    Attributes:
        forward: outputs, and what stays inside.
        backward: gradients, for which tensors need one.
    """

    forward: Callable[[], tuple[Tensor, ...]]
    backward: Callable[[Sequence[bool]], Sequence[Tensor]]
    given: Sequence[bool]  # which tensors are there
    trained: Sequence[bool]  # which need a gradient in training


def kernels(shape: Shape, kind: str, device: str = "meta") -> Kernels:
    """The Triton kernels of one call, straight, without autograd and dispatcher."""
    name = shape.operator
    named = tensors_of(shape, kind, device)
    tensors, options = raw(name, named, shape.options)
    module = importlib.import_module(f"{_operator._references[name].__module__.rpartition('.')[0]}.triton_kernels")
    saved: list[Tensor | None] = []
    grads: list[Tensor] = []

    def forward() -> tuple[Tensor, ...]:
        saving = [True] if _operator._saving[name] else []
        results = _operator._as_tuple(module.forward(*tensors, *options, *saving))
        everything = (*tensors, *results)
        saved[:] = [everything[i] for i in _operator._saves[name]]
        if not grads:
            grads[:] = [torch.randn_like(output) for output in results[: _operator._outputs[name]]]
        return results

    def backward(needs: Sequence[bool]) -> Sequence[Tensor]:
        masked = [tuple(needs)] if _operator._masked[name] else []
        return _operator._as_tuple(module.backward(*grads, *saved, *options, *masked))

    given = [tensor is not None for tensor in named.values()]
    trained = [there and key not in shape.data for key, there in zip(named, given, strict=True)]
    return Kernels(forward, backward, given, trained)


def runs(operators: Sequence[str] = ()) -> list[tuple[Shape, str]]:
    """Every shape and kind of run that has Triton kernels, of these operators or of all."""
    found = []
    for shape in SHAPES:
        key = (shape.operator, "triton")
        if key not in backends._kernels or (operators and shape.operator not in operators):
            continue
        for kind, (dtype, data) in KINDS.items():
            known = dtype in backends._kernels[key]
            if dtype is not data:  # the same configurations as for one dtype, so it is enough where it trains
                known &= key in backends._mixed and any(shape.tensors[name] == _PATCH for name in shape.data)
            if known:
                found.append((shape, kind))
    return found
