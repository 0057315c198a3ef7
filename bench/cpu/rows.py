"""The rows of the CPU benchmarks: what is run, by whom, what it must reach, and the least work it takes."""

# long: one table, and what its rows are made of

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from bench.without_gpu import work
from bench.without_gpu.work import Work
from lkcanet.benchmark.operators import operator_problem
from lkcanet.benchmark.providers import CHANNELS_LAST, RELAXED, Mode, Problem, network_problem
from lkcanet.models import LKCANet
from lkops import backends, testing
from lkops.testing import TORCH_BICUBIC

EAGER = ("eager", CHANNELS_LAST)
FLOAT = 4  # bytes


@dataclass(frozen=True)
class Row:
    """One line of the report.

    Attributes:
        name: of the problem and the mode, unique; rows of one `problem` share a process.
        title: in tables.
        make: the problem.
        providers: of `lkcanet.benchmark.providers.EVERY`.
        work: what must be moved and multiplied.
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


@dataclass(frozen=True)
class Kind:
    """What rows of an operator are made of.

    Attributes:
        name: of the public function.
        said: what follows it in tables.
        suffix: of its examples' names: with torch's own bicubic, which eager has as one op, so that none is slowed by
            emulating MATLAB's.
        half: whether bfloat16 is timed, too.
        more: further providers of its forward.
    """

    name: str
    said: str = ""
    suffix: str = ""
    half: bool = False
    more: tuple[str, ...] = ()


# by the first part of their rows' names; one that is not here has its own name
OPERATORS: Mapping[str, Kind] = {
    "attention": Kind("large_kernel_channel_attention", half=True),
    "projection": Kind("norm_conv1x1_gelu", half=True),
    "block": Kind("lk_block", half=True),
    "depthwise": Kind("depthwise_conv2d", " 7x7 dilation 7"),
    "gating": Kind("channel_attention"),
    "bicubic": Kind("bicubic_upsample", " x4", "_torch"),
    "upsample": Kind("upsample_add", " x4 g=8", "_torch", half=True),
    "conv2d": Kind("conv2d", " 3x3", half=True, more=("onnxruntime", "ncnn", RELAXED)),
    "losses": Kind("spectral_losses"),
}
# of a problem's name -> the example
SIZES = {"64": "image_64", "16": "patch_16", "batch": "batch_16"}
CUBES = {"64": "image_64", "cube": "batch_64"}  # of the losses
MODES: Mapping[str, tuple[Mode, ...]] = {
    "64": ("forward", "backward", "full"),
    "16": ("forward", "full"),
    "batch": ("forward", "backward", "full"),
    "cube": ("forward", "backward", "full"),
}


def _operators(tiny: bool) -> Iterator[Row]:
    known = {kind.name for kind in OPERATORS.values()}
    others = {name: Kind(name) for name in backends.operators() if name not in known}
    for key, kind in {**OPERATORS, **others}.items():
        examples = testing.examples(kind.name)
        for size, name in (CUBES if key == "losses" else SIZES).items():
            example = examples[name + kind.suffix]
            example = example.tiny() if tiny else example
            problem = f"{key}_{size}"
            for mode in MODES[size]:
                targets = TARGETS.get(f"{problem} {mode}", {})
                main = size == "64" and mode != "backward"
                inference = mode == "forward" and size in ("64", "16") and key != "losses"
                half = kind.half and mode == "forward" and size == "64"
                yield Row(
                    problem,
                    f"{kind.name}{kind.said}, {'x'.join(map(str, example.shape))}, {mode}",
                    mode,
                    partial(operator_problem, kind.name, example),
                    (
                        *EAGER,
                        *(("compile",) if main or targets else ()),
                        *(("openvino",) if inference else ()),
                        *(("openvino bf16",) if half else ()),
                        "lkops",
                        *(("lkops bf16",) if half else ()),
                        *(kind.more if inference else ()),
                    ),
                    work.least(kind.name, example, mode, FLOAT),
                    targets=targets,
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

    if mode == "training":
        with torch.device("meta"):
            parameters = model().parameter_count()
        least = work.training_step(n, h, w, FLOAT, parameters=parameters, **sizes)
    else:
        least = work.network(n, h, w, FLOAT, **sizes)
    name = f"LKCA-{'Net' if groups == 1 else 'LR'} x{scale} g={groups}"
    what = "training step" if mode == "training" else mode
    title = f"{name}, {n}x{bands}x{h}x{w}, {what}"
    return Row(problem, title, make=make, work=least, **facts)


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
