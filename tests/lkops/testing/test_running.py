"""`lkops.testing` on an operator from outside, with examples in its own room; and that it sees what is wrong."""

import sys
import types
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import lkops
from lkops import testing
from lkops.testing import Draw, Example, Examples, Kernels, Work, WrongResult, example, register

NAME = "doubled"
HOW: dict[str, float] = {}  # what is wrong with the kernel


def reference(x: Tensor, weight: Tensor, times: int) -> Tensor:
    return times * x * weight


def doubled(x: Tensor, weight: Tensor, *, times: int = 2, backend: str | None = None) -> Tensor:
    return testing.operator(NAME)((x, weight), lambda: (times,), backend)


def forward(x: Tensor, weight: Tensor, times: int) -> Tensor:
    return reference(x, weight, times) * HOW.get("forward", 1.0)


def backward(grad: Tensor, x: Tensor, weight: Tensor, times: int) -> tuple[Tensor, Tensor]:
    return HOW.get("backward", 1.0) * times * grad * weight, (times * grad * x).sum((0, 2, 3), keepdim=True)


def draw(draw: Draw, case: Example) -> testing.Arguments:
    return {"x": draw(*case.shape), "weight": draw(1, case.shape[1], 1, 1)}


EXAMPLES = Examples(
    draw,
    lambda x, weight, times=2: times * x * weight,
    lambda case, size: Work(2 * size * torch.Size(case.shape).numel()),
    (example("plain", 2, 3, 4, 5, use="small"), example("thrice", 1, 2, 3, 3, times=3)),
    images=("x",),
)


@pytest.fixture(scope="module")
def operator() -> Iterator[None]:
    """As a package of its own would have it: `doubled/{__init__,reference,examples}.py`."""
    room = types.ModuleType(f"outside.{NAME}")
    room.doubled = doubled
    told = types.ModuleType(f"outside.{NAME}.examples")
    told.EXAMPLES = EXAMPLES
    modules = {"outside": types.ModuleType("outside"), room.__name__: room, told.__name__: told}
    sys.modules.update(modules)
    reference.__module__ = f"{room.__name__}.reference"
    found = register(
        NAME,
        reference,
        kernels={"cpu": Kernels((torch.float32,))},
        forward="(Tensor x, Tensor weight, int times) -> Tensor y",
        backward="(Tensor grad_y, Tensor x, Tensor weight, int times) -> (Tensor, Tensor)",
        fake_forward=lambda x, weight, times: torch.empty_like(x),
        fake_backward=lambda grad, x, weight, times: (torch.empty_like(x), torch.empty_like(weight)),
    )
    implementations = torch.library.Library("lkops", "IMPL")
    implementations.impl(f"{NAME}_cpu_fwd", forward, "CPU")
    implementations.impl(f"{NAME}_cpu_bwd", backward, "CPU")
    found.missing["cpu"] = ""
    yield
    implementations._destroy()
    del testing.OPERATORS[NAME]
    for name in modules:
        del sys.modules[name]


def test_everything_takes_it_by_its_name(operator) -> None:
    assert [case.name for case in testing.examples(NAME).cases] == ["plain", "thrice"]
    for case in testing.examples(NAME).cases:
        testing.check(NAME, "cpu", "cpu", torch.float32, case)
    tensors, options = testing.arguments(NAME, "thrice")
    assert tensors["x"].dtype is torch.float64
    assert options == {"times": 3}
    direct = testing.operator(NAME).raw(**testing.cast(tensors, torch.float32), **options)
    assert direct.options == (3,)
    for wrong, words in (
        ({"forward": 1 + 1e-4}, "output 0"),
        ({"forward": 0.0}, "output 0 .* is all zeros"),
        ({"backward": 1 + 1e-4}, "gradient of x"),
        ({"backward": 0.0}, "gradient of x .* is all zeros"),
    ):
        HOW.clear()
        HOW.update(wrong)
        with pytest.raises(WrongResult, match=words):
            testing.check(NAME, "cpu", "cpu", torch.float32, "thrice")


@pytest.mark.parametrize("name", lkops.backends.operators())
def test_a_draw_is_the_same_again_and_none_on_meta(name) -> None:
    for case in testing.examples(name).of("small"):
        first, again = (testing.arguments(name, case)[0] for _ in range(2))
        shapes = testing.arguments(name, case, Draw(device="meta"))[0]
        for key, tensor in first.items():
            assert (tensor is None) == (shapes[key] is None)
            if tensor is not None:
                assert torch.equal(tensor, again[key])
                assert shapes[key].shape == tensor.shape
                assert shapes[key].device.type == "meta"
