"""Every operator of lkops timed on its automatic backend against plain PyTorch, outputs checked first."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import lkops

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
    options: dict[str, Any]
    eager: Callable[..., Any]


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
    function = getattr(lkops, case.name)

    def operator() -> Any:
        return function(*case.tensors, **case.options)

    def eager() -> Any:
        return case.eager(*case.tensors)

    exact = _flat(function(*(tensor.double() for tensor in case.tensors), **case.options, backend="reference"))
    error, eager_error = ((_flat(run()) - exact).abs().max().item() for run in (operator, eager))
    allowed = 2 * eager_error + 4 * torch.finfo(torch.float32).eps * exact.abs().max().item()
    if not error <= allowed:
        raise RuntimeError(f"{case.name} on {backend} differs from the reference by {error:.3g}; allowed {allowed:.3g}")
    last = [t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t for t in case.tensors]
    runs = (operator, eager, lambda: case.eager(*last))
    times: tuple[list[float], ...] = tuple([] for _ in runs)
    end = time.perf_counter() + seconds
    while len(times[0]) < 5 or time.perf_counter() < end:
        for run, taken in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            taken.append(1e3 * (time.perf_counter() - start))
    own, *plains = (statistics.median(taken) for taken in times)
    plain = min(plains)
    return OperatorSpeed(case.name, tuple(case.tensors[0].shape), backend, own, plain, plain / own, error, allowed)


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
    yield _Case("depthwise_conv2d", (x, dw.weight, dw.bias), {"dilation": 7}, _dilated)
    yield _Case("channel_attention", (wide, *gates), {}, _gate)
    yield _Case("large_kernel_channel_attention", (x, *block.attention.arguments()), {}, _attention)
    yield _Case("norm_conv1x1_gelu", (x, *block.projection.arguments()), {}, _projection)
    yield _Case("lk_block", (x, *block.arguments()), {}, _block)
    yield _Case("bicubic_upsample", (lowres,), {"scale": 4}, _bicubic)
    yield _Case("upsample_add", (x, conv.weight, conv.bias, lowres), {"scale": 4}, _upsample)
    yield _Case("spectral_losses", cubes, {}, _losses)


def _depthwise(x: Tensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:
    padding = dilation * (weight.shape[-1] // 2)
    return F.conv2d(x, weight, bias, padding=padding, dilation=dilation, groups=x.shape[1])


def _dilated(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return _depthwise(x, weight, bias, 7)


def _gate(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    return x * F.conv2d(F.relu(F.conv2d(F.adaptive_avg_pool2d(x, 1), w1, b1)), w2, b2).sigmoid()


def _attention(u: Tensor, *parameters: Tensor) -> Tensor:
    dw1, b1, dw2, b2, *gates, mix, mix_bias = parameters
    a1 = _depthwise(u, dw1, b1, 5)
    concat = torch.cat((u, a1, _depthwise(a1, dw2, b2, 7)), 1)
    return F.conv2d(_gate(concat, *gates), mix, mix_bias, groups=concat.shape[1] // mix.shape[1]) * u


def _projection(x: Tensor, norm_weight: Tensor, norm_bias: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    normed = F.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), norm_weight, norm_bias, 1e-6).permute(0, 3, 1, 2)
    return F.gelu(F.conv2d(normed, weight, bias))


def _block(x: Tensor, *parameters: Tensor) -> Tensor:
    u = _projection(x, *parameters[:4])
    out, out_bias = parameters[-2:]
    return x + F.conv2d(_attention(u, *parameters[4:-2]), out, out_bias)


def _bicubic(x: Tensor) -> Tensor:
    """MATLAB's: torch's antialiased bicubic has its kernel, but not its mirrored border."""
    padded = torch.cat((x[..., :2, :].flip(-2), x, x[..., -2:, :].flip(-2)), -2)
    padded = torch.cat((padded[..., :2].flip(-1), padded, padded[..., -2:].flip(-1)), -1)
    large = F.interpolate(padded, scale_factor=4, mode="bicubic", align_corners=False, antialias=True)
    return large[..., 8:-8, 8:-8]


def _upsample(x: Tensor, weight: Tensor, bias: Tensor, lowres: Tensor) -> Tensor:
    groups = x.shape[1] // weight.shape[1]
    return F.pixel_shuffle(F.conv2d(x, weight, bias, padding=1, groups=groups), 4) + _bicubic(lowres)


def _losses(p: Tensor, t: Tensor) -> tuple[Tensor, ...]:
    def magnitude(x: Tensor) -> Tensor:
        here = x[:, 1:, 1:, 1:]
        differences = (here - x[:, :-1, 1:, 1:], here - x[:, 1:, :-1, 1:], here - x[:, 1:, 1:, :-1])
        return sum((d.square() for d in differences), torch.tensor(1e-6)).sqrt()

    cosine = F.cosine_similarity(p, t, dim=1)
    angle = cosine.clamp(-1 + 1e-6, 1 - 1e-6).acos().mean() / torch.pi
    return F.l1_loss(p, t), angle, (1 - cosine).mean(), F.l1_loss(magnitude(p), magnitude(t))
