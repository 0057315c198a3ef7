"""Every operator of lkops timed on its automatic backend against plain PyTorch, outputs checked first."""

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import lkops

from . import eager as plain

__all__ = ["OperatorSpeed", "operator_speeds"]


@dataclass(frozen=True)
class OperatorSpeed:
    """One operator.

    Attributes:
        name: of the function in `lkops`.
        shape: of its first argument, float32.
        backend: that was chosen automatically.
        milliseconds, eager_milliseconds: medians, of the operator and of plain PyTorch in its faster memory format.
        ratio: eager / operator; above 1 the operator is faster.
        error, allowed: largest difference to the float64 reference, of the operator, and what is taken for rounding:
            2 max|eager - reference| + 4 eps max|reference|.
    """

    name: str
    shape: tuple[int, ...]
    backend: str
    milliseconds: float
    eager_milliseconds: float
    ratio: float
    error: float
    allowed: float


@dataclass(frozen=True)
class _Case:
    name: str
    tensors: tuple[Tensor, ...]
    options: dict[str, Any] = field(default_factory=dict)


def operator_speeds(*, quick: bool = False, seconds: float = 1.5) -> Iterator[OperatorSpeed]:
    """Time the operators one by one, without gradients, as in LKCA-LR with 128 bands and channels, x4, 64 x 64 pixels.

    Plain PyTorch is what one would write without lkops: `F.conv2d`, `F.layer_norm`, `F.pixel_shuffle`; in contiguous or
    in channels_last memory, whichever is faster. All are called in turn, so that other load on the machine meets all.

    Args:
        quick: tiny shapes, for tests.
        seconds: of timing for one operator; at least five calls of each are made.

    Yields:
        A row an operator, in the order of `lkops.backends.operators()`.

    Raises:
        RuntimeError: an output differs from the reference by more than rounding.
    """
    automatic = {row.operator: row.backend for row in lkops.backends.status() if row.automatic}
    cases = {case.name: case for case in _cases(*((16, 8) if quick else (128, 64)))}
    with torch.inference_mode():
        for name, backend in automatic.items():
            if name in cases:  # one that came later, without a case yet, is left out
                yield _measure(cases[name], backend, 0.01 if quick else seconds)


def _measure(case: _Case, backend: str, seconds: float) -> OperatorSpeed:
    function, plain_function = getattr(lkops, case.name), getattr(plain, case.name)

    def operator() -> Any:
        return function(*case.tensors, **case.options)

    def eager() -> Any:
        return plain_function(*case.tensors, **case.options)

    exact = _flat(function(*(tensor.double() for tensor in case.tensors), **case.options, backend="reference"))
    error, eager_error = ((_flat(run()) - exact).abs().max().item() for run in (operator, eager))
    allowed = 2 * eager_error + 4 * torch.finfo(torch.float32).eps * exact.abs().max().item()
    if not error <= allowed:
        raise RuntimeError(f"{case.name} on {backend} differs from the reference by {error:.3g}; allowed {allowed:.3g}")
    last = [t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t for t in case.tensors]
    runs = (operator, eager, lambda: plain_function(*last, **case.options))
    times: tuple[list[float], ...] = tuple([] for _ in runs)
    end = time.perf_counter() + seconds
    while len(times[0]) < 5 or time.perf_counter() < end:
        for run, taken in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            taken.append(1e3 * (time.perf_counter() - start))
    own, *eagers = (statistics.median(taken) for taken in times)
    best = min(eagers)
    return OperatorSpeed(case.name, tuple(case.tensors[0].shape), backend, own, best, best / own, error, allowed)


def _flat(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    outputs = (output,) if isinstance(output, Tensor) else output
    return torch.cat([tensor.double().flatten() for tensor in outputs])


def _cases(channels: int, side: int) -> Iterator[_Case]:
    """Arguments of a seeded block and upsampler, with bands = channels, x4."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        block = lkops.nn.LKBlock(channels).requires_grad_(False)
        upsample = lkops.nn.UpsampleAdd(channels, channels, 4, groups=8).requires_grad_(False)
        gate = lkops.nn.ChannelAttention(3 * channels).requires_grad_(False)
        x, lowres = torch.randn(1, channels, side, side), torch.rand(1, channels, side, side)
        wide = torch.randn(1, 3 * channels, side, side)
        cubes = torch.rand(2, 1, channels, 4 * side, 4 * side).unbind()
    dw, conv = block.attention.dw2, upsample.conv
    assert dw.bias is not None
    assert conv.bias is not None
    gates: Any = tuple(p for layer in (gate.reduce, gate.expand) for p in (layer.weight, layer.bias))
    yield _Case("depthwise_conv2d", (x, dw.weight, dw.bias), {"dilation": 7})
    yield _Case("channel_attention", (wide, *gates))
    yield _Case("large_kernel_channel_attention", (x, *block.attention.arguments()))
    yield _Case("norm_conv1x1_gelu", (x, *block.projection.arguments()))
    yield _Case("lk_block", (x, *block.arguments()))
    yield _Case("bicubic_upsample", (lowres,), {"scale": 4})
    yield _Case("upsample_add", (x, conv.weight, conv.bias, lowres), {"scale": 4})
    yield _Case("spectral_losses", cubes)
