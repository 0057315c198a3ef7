"""The rows of the CPU benchmarks: what is run, by whom, what it must reach, and the least work it takes."""

# long: one table, and what its rows are made of

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import lkops
import lkops.nn
from bench.without_gpu import work
from bench.without_gpu.work import Work
from lkcanet.benchmark import eager
from lkcanet.benchmark.providers import CHANNELS_LAST, Adapter, Mode, Problem, network_problem
from lkcanet.models import LKCANet

# torch's own bicubic: what eager has as one op, so that none is slowed by emulating MATLAB's
TORCH_BICUBIC: dict[str, Any] = {"cubic_a": -0.75, "border": "replicate"}
EAGER = ("eager", CHANNELS_LAST)
FLOAT = 4  # bytes
Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class Row:
    """One line of the report.

    Attributes:
        name: of the problem and the mode, unique; rows of one `problem` share a process.
        title: in tables.
        make: the problem.
        providers: of `lkcanet.benchmark.PROVIDERS`.
        work: what must be moved and multiplied.
        product: outputs, inputs and pixels of the matrix product that most of the work is, if there is one.
        targets: provider to how many times faster than it lkops must be.
        memory: whether peak memory is measured, too; `memory_target`: at most this part of eager's.
        kind: "operator", "network" or "span": one of the rows on which nothing may be slower than eager.
        default: whether it is run with the default allocator as well.
        seconds: of timing.
    """

    problem: str
    title: str
    mode: Mode
    make: Callable[[], Problem]
    providers: tuple[str, ...]
    work: Work
    product: tuple[int, int, int] | None = None
    targets: Mapping[str, float] = field(default_factory=dict)
    memory: bool = False
    memory_target: float | None = None
    kind: str = "operator"
    default: bool = False
    seconds: float = 2.0

    @property
    def name(self) -> str:
        return f"{self.problem} {self.mode}"


# problem and mode -> what must be reached
TARGETS: Mapping[str, Mapping[str, float]] = {
    "attention_64 forward": {"eager": 3.0, "compile": 2.5},
    "attention_16 forward": {"eager": 4.5, "compile": 2.5},
    "attention_batch full": {"eager": 4.0, "compile": 4.0},
    "upsample_64 forward": {"eager": 2.2, "compile": 1.8},
    "losses_cube full": {"eager": 16.0, "compile": 2.2},
    "lkca_lr_64 forward": {"eager": 2.2, "compile": 1.6, "openvino": 1.5},
    "lkca_lr_16 forward": {"eager": 4.5, "compile": 3.6, "openvino": 1.0},
    "lkca_lr_step training": {"eager": 2.5, "compile": 1.6},
}
MEMORY_TARGET = {"lkca_lr_step training": 0.5}


def _inside(size: int, kernel: int, dilation: int) -> int:
    """Pairs of a tap and an output along one axis whose input is no padding."""
    reach = kernel // 2
    return sum(max(0, size - abs(tap) * dilation) for tap in range(-reach, reach + 1))


def _padding(shape: Shape) -> Work:
    """Products of the two depthwise convs with zeros of the padding: `work` counts them, nobody has to compute them."""
    n, c, h, w = shape
    zeros = sum(h * w * k * k - _inside(h, k, d) * _inside(w, k, d) for k, d in ((5, 5), (7, 7)))
    return Work(vector=-n * c * zeros)


def _attention(shape: Shape) -> tuple[Problem, Work]:
    module = lkops.nn.LargeKernelChannelAttention(shape[1])
    plain = Adapter(module, lambda m, u: eager.large_kernel_channel_attention(u, *m.arguments()))
    return Problem(Adapter(module), plain, _images(shape)), work.attention(*shape, FLOAT) + _padding(shape)


def _images(*shapes: Shape) -> tuple[Tensor, ...]:
    return tuple(torch.randn(shape).requires_grad_() for shape in shapes)


def _projection(shape: Shape) -> tuple[Problem, Work]:
    n, c, h, w = shape
    module = lkops.nn.NormConv1x1GELU(c, c)
    plain = Adapter(module, lambda m, x: eager.norm_conv1x1_gelu(x, *m.arguments()))
    pixels = n * h * w
    least = Work(FLOAT * (2 * pixels * c + c * c + 3 * c), pixels * c * c, pixels * 10 * c)
    return Problem(Adapter(module), plain, _images(shape)), least


def _depthwise(shape: Shape) -> tuple[Problem, Work]:
    n, c, h, w = shape
    module = lkops.nn.DepthwiseConv2d(c, 7, dilation=7)
    plain = Adapter(module, lambda m, x: eager.depthwise_conv2d(x, m.weight, m.bias, dilation=7))
    least = Work(FLOAT * (2 * n * c * h * w + 50 * c), vector=n * c * _inside(h, 7, 7) * _inside(w, 7, 7))
    return Problem(Adapter(module), plain, _images(shape)), least


def _gate(m: Any, x: Tensor) -> Tensor:
    return eager.channel_attention(x, m.reduce.weight, m.reduce.bias, m.expand.weight, m.expand.bias)


def _gating(shape: Shape) -> tuple[Problem, Work]:
    n, c, h, w = shape
    module = lkops.nn.ChannelAttention(c)
    values = n * c * h * w
    return Problem(Adapter(module), Adapter(module, _gate), _images(shape)), Work(2 * FLOAT * values, vector=2 * values)


def _bicubic(shape: Shape) -> tuple[Problem, Work]:
    n, c, h, w = shape
    module = lkops.nn.BicubicUpsample(4, **TORCH_BICUBIC)
    plain = Adapter(module, lambda m, x: eager.bicubic_upsample(x, scale=4, **TORCH_BICUBIC))
    large = 16 * n * c * h * w
    return Problem(Adapter(module), plain, _images(shape)), Work(FLOAT * (large + large // 16), vector=5 * large)


def _block(shape: Shape) -> tuple[Problem, Work]:
    module = lkops.nn.LKBlock(shape[1])
    plain = Adapter(module, lambda m, x: eager.lk_block(x, *m.arguments()))
    return Problem(Adapter(module), plain, _images(shape)), work.block(*shape, FLOAT) + _padding(shape)


def _upsample(shape: Shape) -> tuple[Problem, Work]:
    c = shape[1]
    module = lkops.nn.UpsampleAdd(c, c, 4, groups=8, **TORCH_BICUBIC)

    def plain(m: Any, features: Tensor, lowres: Tensor) -> Tensor:
        return eager.upsample_add(features, m.conv.weight, m.conv.bias, lowres, scale=4, **TORCH_BICUBIC)

    activations = (*_images(shape), torch.rand(shape))
    least = work.upsample_add(*shape, FLOAT, bands=c, scale=4, groups=8)
    return Problem(Adapter(module), Adapter(module, plain), activations), least


def _losses(shape: Shape) -> tuple[Problem, Work]:
    target = torch.rand(shape)
    prediction = (target + 0.1 * torch.randn(shape)).requires_grad_()
    module = lkops.nn.SpectralLosses()
    plain = Adapter(module, lambda _, *cubes: eager.spectral_losses(*cubes))
    both = work.losses(*shape, FLOAT)
    problem = Problem(
        Adapter(module),
        plain,
        (prediction, target),
        lambda outputs: tuple(torch.full_like(o, g) for o, g in zip(outputs, (1.0, 0.5, 0.3, 0.1), strict=True)),
        kinks=1e-5,
    )
    return problem, Work(both.bytes * 2 / 5, vector=both.vector / work.BACKWARD)


Maker = Callable[[Shape], tuple[Problem, Work]]
OPERATORS: Mapping[str, tuple[str, Maker]] = {
    "attention": ("large_kernel_channel_attention", _attention),
    "projection": ("norm_conv1x1_gelu", _projection),
    "block": ("lk_block", _block),
    "depthwise": ("depthwise_conv2d 7x7 dilation 7", _depthwise),
    "gating": ("channel_attention", _gating),
    "bicubic": ("bicubic_upsample x4", _bicubic),
    "upsample": ("upsample_add x4 g=8", _upsample),
    "losses": ("spectral_losses", _losses),
}
MODES: Mapping[str, tuple[Mode, ...]] = {
    "64": ("forward", "backward", "full"),
    "16": ("forward", "full"),
    "batch": ("forward", "backward", "full"),
    "cube": ("forward", "backward", "full"),
}


def _product(key: str, shape: Shape) -> tuple[int, int, int] | None:
    pixels, c = shape[0] * shape[2] * shape[3], shape[1]
    products = {
        "attention": (c // 4, 3 * c // 4, pixels),
        "projection": (c, c, pixels),
        "block": (c, c, pixels),
        "upsample": (2 * c, 9 * c // 8, pixels),
    }
    return products.get(key)


def _in_mode(forward: Work, mode: Mode, outputs: int) -> Work:
    if mode == "forward":
        return forward
    full = work.with_backward(forward, outputs)
    return full if mode == "full" else full + forward * -1


def _results(key: str, shape: Shape) -> int:
    """Bytes of an operator's outputs."""
    n, c, h, w = shape
    return 0 if key == "losses" else FLOAT * n * c * h * w * (16 if key in ("bicubic", "upsample") else 1)


def _operators(tiny: bool) -> Iterator[Row]:
    c, large, small, n = (16, 8, 4, 2) if tiny else (128, 64, 16, 16)
    shapes: dict[str, Shape] = {"64": (1, c, large, large), "16": (1, c, small, small), "batch": (n, c, small, small)}
    for key, (title, make) in OPERATORS.items():
        own = {"64": shapes["64"], "cube": (n, c, large, large)} if key == "losses" else shapes
        for size, shape in own.items():
            problem = f"{key}_{size}"
            with torch.device("meta"):  # the work, not the numbers
                forward = make(shape)[1]
            for mode in MODES[size]:
                name = f"{problem} {mode}"
                targets = TARGETS.get(name, {})
                main = size == "64" and mode != "backward"
                inference = mode == "forward" and size in ("64", "16") and key != "losses"
                half = mode == "forward" and size == "64" and key in ("attention", "projection", "block", "upsample")
                least = _in_mode(forward, mode, _results(key, shape))
                if key == "losses" and mode != "forward":  # the target gets no gradient
                    least = work.losses(*shape, FLOAT) + (forward * -1 if mode == "backward" else Work())
                if key == "bicubic" and mode != "forward":  # linear and without weights: the same way back
                    least = forward * (1 if mode == "backward" else 2)
                yield Row(
                    problem,
                    f"{title}, {'x'.join(map(str, shape))}, {mode}",
                    mode,
                    lambda make=make, shape=shape: make(shape)[0],  # type: ignore[misc]
                    (
                        *EAGER,
                        *(("compile",) if main or targets else ()),
                        *(("openvino",) if inference else ()),
                        *(("openvino bf16",) if half else ()),
                        "lkops",
                        *(("lkops bf16",) if half else ()),
                    ),
                    least,
                    _product(key, shape),
                    targets,
                    memory=main and mode == "full",
                    default=main or bool(targets),
                )


def _network(
    problem: str, bands: int, scale: int, groups: int, shape: tuple[int, int, int], *, tiny: bool, **facts: Any
) -> Row:
    """`shape` is batch, height, width; `facts` go to `Row`."""
    channels, blocks = (16, 1) if tiny else (128, 16)
    n, h, w = shape
    mode: Mode = facts["mode"]
    sizes = {"bands": bands, "channels": channels, "blocks": blocks, "scale": scale, "groups": groups}

    def model() -> LKCANet:
        return LKCANet(bands, scale, channels, blocks, groups, drop_path=0.0, **TORCH_BICUBIC)

    def make() -> Problem:
        return network_problem(model(), (n, bands, h, w), training=mode == "training")

    zeros = _padding((n, channels, h, w)) * blocks
    if mode == "training":
        with torch.device("meta"):
            parameters = model().parameter_count()
        least = work.training_step(n, h, w, FLOAT, parameters=parameters, **sizes) + zeros * work.BACKWARD
    else:
        least = work.network(n, h, w, FLOAT, **sizes) + zeros
    name = f"LKCA-{'Net' if groups == 1 else 'LR'} x{scale} g={groups}"
    what = "training step" if mode == "training" else mode
    title = f"{name}, {n}x{bands}x{h}x{w}, {what}"
    return Row(problem, title, make=make, work=least, product=(channels, channels, n * h * w), **facts)


def _networks(tiny: bool) -> Iterator[Row]:
    bands, large, small, n = (8, 8, 4, 2) if tiny else (128, 64, 16, 16)
    inference = (*EAGER, "compile", "openvino", "openvino bf16", "lkops", "lkops bf16")
    shared: dict[str, Any] = {"kind": "network", "default": True, "memory": True, "tiny": tiny}
    for problem, side, seconds in (("lkca_lr_64", large, 15.0), ("lkca_lr_16", small, 8.0)):
        targets = TARGETS[f"{problem} forward"]
        facts = {**shared, "mode": "forward", "providers": inference, "targets": targets, "seconds": seconds}
        yield _network(problem, bands, 4, 8, (1, side, side), **facts)
    name = "lkca_lr_step training"
    training = (*EAGER, "compile", "lkops", "lkops bf16")
    facts = {**shared, "mode": "training", "providers": training, "targets": TARGETS[name], "seconds": 35.0}
    yield _network("lkca_lr_step", bands, 4, 8, (n, small, small), memory_target=MEMORY_TARGET[name], **facts)


# bands, scale, groups, (batch, rows, columns), mode: sizes 16 to 128, batches 1 to 16, 31 to 198 bands, g 1 and 8,
# x2, x4 and x8, and an output of 0.83 GB
SPAN: Sequence[tuple[int, int, int, tuple[int, int, int], Mode]] = (
    (31, 4, 8, (1, 16, 16), "forward"),
    (31, 2, 1, (1, 64, 64), "forward"),
    (48, 2, 8, (4, 32, 32), "forward"),
    (48, 8, 8, (1, 64, 64), "forward"),
    (102, 4, 1, (1, 48, 80), "forward"),
    (102, 4, 8, (16, 16, 16), "forward"),
    (128, 4, 1, (1, 32, 32), "forward"),
    (128, 4, 8, (1, 128, 128), "forward"),
    (198, 2, 1, (2, 47, 53), "forward"),
    (198, 8, 8, (1, 128, 128), "forward"),
    (31, 4, 8, (8, 32, 32), "training"),
    (128, 2, 1, (16, 16, 16), "training"),
)


def _span(tiny: bool) -> Iterator[Row]:
    for bands, scale, groups, shape, mode in SPAN:
        n, h, w = shape
        problem = f"span_{bands}_x{scale}_g{groups}_{n}x{h}x{w}"
        own = (8, (min(n, 2), 4, 4)) if tiny else (bands, shape)
        yield _network(
            *(problem, own[0], scale, groups, own[1]),
            tiny=tiny,
            mode=mode,
            providers=(*EAGER, "lkops"),
            kind="span",
            seconds=8.0,
        )


def rows(*, tiny: bool = False) -> list[Row]:
    """All rows, those of one problem one after the other; `tiny` ones have the same names and cost nothing."""
    return [*_operators(tiny), *_networks(tiny), *_span(tiny)]
