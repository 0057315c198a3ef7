"""Multiply-adds of a model. `torch.utils.flop_counter` counts them too, and imports Triton for it."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten


def _product(a: Tensor, b: Tensor) -> int:
    return math.prod(a.shape) * b.shape[-1]


def _conv(x: Tensor, weight: Tensor, output: Tensor, transposed: bool) -> int:
    return (x if transposed else output).numel() * math.prod(weight.shape[1:])


def _attention(query: Tensor, key: Tensor, value: Tensor) -> int:
    return _product(query, key.transpose(-1, -2)) + math.prod(query.shape[:-1]) * math.prod(value.shape[-2:])


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, (tuple, list)) else output


# op -> multiply-adds of its arguments and output
_COUNTS: dict[Any, Callable[[Sequence[Any], Any], int]] = {
    aten.mm: lambda given, output: _product(*given[:2]),
    aten.bmm: lambda given, output: _product(*given[:2]),
    aten.addmm: lambda given, output: _product(*given[1:3]),
    aten.baddbmm: lambda given, output: _product(*given[1:3]),
    aten.convolution: lambda given, output: _conv(given[0], given[1], output, given[6]),
    aten._convolution: lambda given, output: _conv(given[0], given[1], output, given[6]),
    **{
        getattr(aten, name): lambda given, output: _attention(*given[:3])
        for name in (
            "_scaled_dot_product_flash_attention_for_cpu",
            "_scaled_dot_product_flash_attention",
            "_scaled_dot_product_efficient_attention",
            "_scaled_dot_product_cudnn_attention",
        )
    },
}


class CountMacs(TorchDispatchMode):
    """Within the block, adds to `total` the multiply-adds of convs, matrix products and attention (of it all, masked
    or not)."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """torch would import its compiler, and with it Triton, to tell it to leave this alone."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        count = _COUNTS.get(func._overloadpacket)
        if count is None:  # under inference_mode, ops arrive that are made of others
            with self:
                output = func.decompose(*args, **kwargs)
            if output is not NotImplemented:
                return output
        output = func(*args, **kwargs)
        if count is not None:
            self.total += count(args, _first(output))
        return output
