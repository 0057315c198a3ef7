"""How operators' Triton kernels are run straight, without autograd and dispatcher, for the examples of `lkops.testing`.

They serve the ahead-of-time check (on the meta device, where only the launches are of interest) and the tuner (on a
GPU), for sizes of use: LKCA-Net's, where C = B = 128, and for each operator a general odd one with everything optional
left out.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lkops import backends, testing


@dataclass(frozen=True)
class Call:
    """One call of an operator."""

    operator: str
    example: testing.Example

    @property
    def odd(self) -> bool:
        """Whether it is the general case, not one of LKCA-Net's sizes."""
        return self.example.name.startswith("odd")

    def tensors(self) -> testing.Arguments:
        """Its tensors by name, of which only the shapes are drawn; None for one that it has not."""
        return testing.examples(self.operator).arguments(self.example, testing.Draw(device="meta"))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the tensors that are there, by name."""
        return {name: tuple(tensor.shape) for name, tensor in self.tensors().items() if tensor is not None}

    def __str__(self) -> str:
        sizes = [f"{name} {'x'.join(map(str, size))}" for name, size in self.shapes().items()]
        options = (f"{key}={value}" for key, value in self.example.options.items())
        return ", ".join([self.operator, *sizes[:2], *options])


@contextmanager
def precision(kind: str) -> Iterator[None]:
    """Within the block torch's convs, and so our products, run in tf32 (kind "tf32") or in full float32 (any other)."""
    convs: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before, convs.fp32_precision = convs.fp32_precision, "tf32" if kind == "tf32" else "ieee"
    try:
        yield
    finally:
        convs.fp32_precision = before


# a kind of run: its tensors' dtype and, where the operator takes it beside that, the dtype of what needs no gradient
KINDS: Mapping[str, tuple[torch.dtype, torch.dtype]] = {
    "float32": (torch.float32, torch.float32),
    "tf32": (torch.float32, torch.float32),
    "bfloat16": (torch.bfloat16, torch.bfloat16),
    "float16": (torch.float16, torch.float16),
    "bfloat16 autocast": (torch.bfloat16, torch.float32),
}
TRAINED = "patches_16"  # examples of this size are those of training


def tensors_of(call: Call, kind: str, device: str) -> testing.Arguments:
    """The example's tensors in the dtypes of this kind of run."""
    known = testing.examples(call.operator)
    drawn = known.arguments(call.example, testing.Draw(device="meta" if device == "meta" else "cpu"))
    dtype, data = KINDS[kind]
    return {
        name: None if t is None else t.to(device, data if name in known.data else dtype) for name, t in drawn.items()
    }


@dataclass
class Kernels:
    """The two directions of one call; `forward` comes first, since `backward` takes what it saved.

    Attributes:
        forward: outputs, and what stays inside.
        backward: gradients, for which tensors need one.
        given: which tensors are there.
        trained: which need a gradient in training.
        outputs: how many of the results of forward the public function returns.
    """

    forward: Callable[[], tuple[Tensor, ...]]
    backward: Callable[[Sequence[bool]], Sequence[Tensor]]
    given: Sequence[bool]
    trained: Sequence[bool]
    outputs: int


def kernels(call: Call, kind: str, device: str = "meta") -> Kernels:
    """The Triton kernels of one call, straight, without autograd and dispatcher."""
    operator = testing.operator(call.operator)
    named = tensors_of(call, kind, device)
    tensors, options = operator.raw(**named, **call.example.options)
    module = operator.triton()
    saved: list[Tensor | None] = []
    grads: list[Tensor] = []

    def forward() -> tuple[Tensor, ...]:
        results = testing.as_tuple(module.forward(*tensors, *options, *operator.telling(True)))
        saved[:] = operator.saved(tensors, results, options)
        if not grads:
            grads[:] = [torch.randn_like(output) for output in results[: operator.outputs]]
        return results

    def backward(needs: Sequence[bool]) -> Sequence[Tensor]:
        return testing.as_tuple(module.backward(*grads, *saved, *options, *operator.masking(needs)))

    # in the order of the schema: an example names no tensor that its options have no use for
    given = [named.get(name) is not None for name in operator.tensors]
    trained = [named.get(name) is not None and name not in operator.examples.data for name in operator.tensors]
    return Kernels(forward, backward, given, trained, operator.outputs)


def runs(operators: Sequence[str] = ()) -> list[tuple[Call, str]]:
    """Every benchmark example and kind of run that has Triton kernels, of these operators or of all."""
    found = []
    for name in backends.operators():
        operator = testing.operator(name)
        if "triton" not in operator.kernels or (operators and name not in operators):
            continue
        known = operator.kernels["triton"]
        for example in operator.examples.of("benchmark"):
            for kind, (dtype, data) in KINDS.items():
                there = dtype in known.dtypes
                if dtype is not data:  # the same configurations as for one dtype, so it is enough where it trains
                    there &= known.mixes and bool(operator.examples.data) and example.name.startswith(TRAINED)
                if there:
                    found.append((Call(name, example), kind))
    return found
