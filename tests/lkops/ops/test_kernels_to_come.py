"""What `Operator` promises to kernels that are not there yet: several tensors, some left out, several outputs, and
results of forward that only backward sees."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from lkops._core import extension
from lkops._core.autograd import OPERATORS
from lkops._core.library import gradients_like
from lkops._core.registration import register, why_missing
from lkops.testing import Kernels

NAME = "scale_and_shift"  # an operator of this file only


def reference(x: Tensor, weight: Tensor, bias: Tensor | None, times: int) -> tuple[Tensor, Tensor]:
    y = times * x * weight
    return (y if bias is None else y + bias), weight.exp()


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, times: int) -> tuple[Tensor, Tensor, Tensor]:
    return *reference(x, weight, bias, times), times * x


asked: list[list[bool]] = []  # what each backward was told of the gradients that are needed


def backward(
    grad: Tensor, other: Tensor, weight: Tensor, bias: Tensor | None, larger: Tensor, times: int, needs: list[bool]
) -> tuple[Tensor, ...]:
    asked.append(list(needs))
    gradients = (times * grad * weight, (grad * larger).sum(0) + other * weight.exp(), grad.sum(0))
    return tuple(g if needed else g.new_empty(0) for g, needed in zip(gradients, needs, strict=True))


@pytest.fixture(scope="module", autouse=True)
def operator() -> Iterator[None]:
    found = register(
        NAME,
        reference,
        kernels={"cpu": Kernels((torch.float32,))},
        forward="(Tensor x, Tensor weight, Tensor? bias, int times) -> (Tensor y, Tensor grown, Tensor larger)",
        backward="(Tensor grad_y, Tensor grad_grown, Tensor weight, Tensor? bias, Tensor larger, int times, "
        "bool[] needs) -> (Tensor, Tensor, Tensor)",
        fake_forward=lambda x, weight, bias, times: (
            torch.empty_like(x),
            torch.empty_like(weight),
            torch.empty_like(x),
        ),
        fake_backward=lambda grad, other, weight, bias, larger, times, needs: tuple(
            gradients_like(needs, grad, weight, bias)
        ),
    )
    implementations = torch.library.Library("lkops", "IMPL")
    implementations.impl(f"{NAME}_cpu_fwd", forward, "CPU")
    implementations.impl(f"{NAME}_cpu_bwd", backward, "CPU")
    assert why_missing(NAME, "cpu") == extension.extension_error("_C_cpu")
    assert (found.outputs, found.saves, found.masked, found.told) == (2, ("weight", "bias", "larger"), True, False)
    found.missing["cpu"] = ""
    yield
    implementations._destroy()
    del OPERATORS[NAME]


def call(backend: str, *tensors: Tensor | None) -> tuple[Tensor, Tensor]:
    return OPERATORS[NAME](tensors, lambda: (3,), backend)


def draw(with_bias: bool) -> list[Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((5, 4), (4,), (4,))[: 2 + with_bias]
    return [*(torch.randn(shape, generator=generator) for shape in shapes), *([] if with_bias else [None])]


def gradients(function, tensors: list[Tensor | None], need: tuple[int, ...], outputs: tuple[int, ...]):
    leaves = [None if t is None else t.clone().requires_grad_(i in need) for i, t in enumerate(tensors)]
    got = function(*leaves)
    sum(got[i].square().sum() for i in outputs).backward()
    return [None if leaf is None else leaf.grad for leaf in leaves]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("need", "outputs"),  # all but x alone with the second output, which does not depend on it
    [
        (need, outputs)
        for need in ((0, 1, 2), (0,), (1,))
        for outputs in ((0,), (1,), (0, 1))
        if (need, outputs) != ((0,), (1,))
    ],
)
@pytest.mark.parametrize("with_bias", [True, False])
def test_gradients_of_several_tensors_and_outputs(with_bias, need, outputs, compiled) -> None:
    tensors = draw(with_bias)

    def function(*leaves):
        return call("cpu", *leaves)

    torch.compiler.reset()
    ours = torch.compile(function, fullgraph=True, backend="aot_eager") if compiled else function
    got = gradients(ours, tensors, need, outputs)
    assert asked[-1] == [i in need and t is not None for i, t in enumerate(tensors)]
    expected = gradients(lambda *leaves: call("reference", *leaves), tensors, need, outputs)
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        assert (a is not None) == (i in need and tensors[i] is not None)
        if a is not None:
            torch.testing.assert_close(a, torch.zeros_like(a) if b is None else b)


@pytest.mark.parametrize("no_grad", [False, True])
@pytest.mark.parametrize("with_bias", [True, False])
def test_compiles_where_nothing_needs_a_gradient(with_bias, no_grad) -> None:
    tensors = draw(with_bias)
    if no_grad:
        tensors = [None if t is None else t.requires_grad_() for t in tensors]
    torch.compiler.reset()
    compiled = torch.compile(lambda *leaves: call("cpu", *leaves), fullgraph=True, backend="aot_eager")
    with torch.set_grad_enabled(not no_grad):
        for got, expected in zip(compiled(*tensors), call("reference", *tensors), strict=True):
            torch.testing.assert_close(got, expected)
            assert not got.requires_grad


def test_double_backward_raises() -> None:
    x, weight, bias = (t.requires_grad_() for t in draw(True) if t is not None)
    (grad,) = torch.autograd.grad(call("cpu", x, weight, bias)[0].sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=f"{NAME} has no double backward on this backend"):
        grad.square().sum().backward()
