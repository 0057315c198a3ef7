"""Every operator, and LKCA-LR whole, against eager PyTorch: outputs and gradients are checked before they are timed.

`python -m bench.run` runs this with recycled and with default memory and writes the report.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import lkops
import lkops.nn
from lkcanet import eager
from lkcanet.models import lkca_lr

N, C, SIDE, BANDS, SCALE = 1, 128, 64, 128, 4
TORCH_BICUBIC: dict[str, Any] = {"cubic_a": -0.75, "border": "replicate"}  # what eager has

Function = Callable[[], Any]
Problem = tuple[Function, Function, list[Tensor]]  # lkops, eager, and what has gradients


def _problem(name: str, channels_last: bool = False) -> Problem:
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(N, C, SIDE, SIDE).contiguous(memory_format=layout).requires_grad_()
    block = lkops.nn.LKBlock(C)
    attention = block.attention
    if name == "bicubic_upsample":
        return (
            lambda: lkops.bicubic_upsample(x, scale=SCALE, **TORCH_BICUBIC),
            lambda: eager.bicubic_upsample(x, scale=SCALE, **TORCH_BICUBIC),
            [x],
        )
    if name == "depthwise_conv2d":
        conv = attention.dw2
        return lambda: conv(x), lambda: eager.depthwise_conv2d(x, conv.weight, conv.bias, dilation=7), [x]
    if name == "channel_attention":
        module = lkops.nn.ChannelAttention(C)
        gate = [p for conv in (module.reduce, module.expand) for p in (conv.weight, conv.bias)]
        return lambda: module(x), lambda: eager.channel_attention(x, *gate), [x]  # type: ignore[arg-type]
    if name == "large_kernel_channel_attention":
        parameters = attention.arguments()
        return lambda: attention(x), lambda: eager.large_kernel_channel_attention(x, *parameters), [x]
    if name == "norm_conv1x1_gelu":
        projection = block.projection
        return lambda: projection(x), lambda: eager.norm_conv1x1_gelu(x, *projection.arguments()), [x]
    if name == "lk_block":
        return lambda: block(x), lambda: eager.lk_block(x, *block.arguments()), [x]
    if name == "upsample_add":
        up = lkops.nn.UpsampleAdd(C, BANDS, SCALE, groups=8, **TORCH_BICUBIC)
        image, weight, bias = torch.rand(N, BANDS, SIDE, SIDE), up.conv.weight, up.conv.bias
        assert bias is not None
        return (
            lambda: up(x, image),
            lambda: eager.upsample_add(x, weight, bias, image, scale=SCALE, **TORCH_BICUBIC),
            [x],
        )
    if name == "spectral_losses":
        target = torch.randn_like(x)
        return lambda: lkops.spectral_losses(x, target), lambda: eager.spectral_losses(x, target), [x]
    model = lkca_lr(BANDS, SCALE, drop_path=0.0, **TORCH_BICUBIC)
    with torch.no_grad():
        model.upsample.conv.get_parameter("parametrizations.weight.original0").fill_(0.1)
    folded = model.eval().fold()
    side = int(name.rpartition("_")[2])
    lowres = torch.rand(N, BANDS, side, side).contiguous(memory_format=layout).requires_grad_()
    network = eager.Network(folded)
    return lambda: folded(lowres), lambda: network(lowres), [lowres]


NETWORKS = ("lkca_lr_16", "lkca_lr_64")  # at inference; training steps come with the CPU kernels
CASES = [(name, direction) for name in lkops.backends.operators() for direction in ("forward", "full")]
CASES += [(name, "forward") for name in NETWORKS]


def _tensors(output: Any) -> tuple[Tensor, ...]:
    return (output,) if isinstance(output, Tensor) else tuple(output)


def _outputs_and_gradients(function: Function, leaves: list[Tensor]) -> tuple[Tensor, ...]:
    outputs = _tensors(function())
    return (*outputs, *torch.autograd.grad(outputs, leaves, [torch.ones_like(output) for output in outputs]))


def check(ours: Function, theirs: Function, leaves: list[Tensor]) -> None:
    """Both compute the same outputs and gradients, up to float32 rounding, and not zeros."""
    pairs = zip(_outputs_and_gradients(ours, leaves), _outputs_and_gradients(theirs, leaves), strict=True)
    for a, b in pairs:
        if not (a - b).abs().max() <= 1e-4 * b.abs().max() or not b.abs().max() > 0:
            raise AssertionError(f"results differ by {(a - b).abs().max():.2e} of {b.abs().max():.2e}")


@pytest.mark.parametrize("provider", ["eager", "eager_channels_last", "lkops"])
@pytest.mark.parametrize(("name", "direction"), CASES)
def test_operators(benchmark: Any, name: str, direction: str, provider: str) -> None:
    ours, theirs, leaves = _problem(name, channels_last=provider == "eager_channels_last")
    check(ours, theirs, leaves)
    if name in lkops.backends.operators():
        chosen = next(row.backend for row in lkops.backends.status() if row.operator == name and row.automatic)
        benchmark.extra_info["backend"] = chosen
    function = ours if provider == "lkops" else theirs

    def forward() -> Any:
        with torch.inference_mode():
            return function()

    def full() -> Any:
        for leaf in leaves:
            leaf.grad = None
        outputs = _tensors(function())
        torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])

    benchmark.group = f"{name} {direction}"
    benchmark.pedantic(forward if direction == "forward" else full, rounds=15, warmup_rounds=3)
