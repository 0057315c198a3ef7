"""The private ops take tensors of any strides and return dense ones, as their fake kernels say.

The public functions hand over dense tensors, yet a compiler chooses layouts of its own between what it traced: a conv
before an operator runs in channels_last, and where backward is compiled too, its op gets what was saved as it lies.
"""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from lkops import testing
from lkops._core import library
from lkops.testing import Draw, arguments, as_tuple, cast, invoke
from tests.lkops.ops.harness import case_of, cases, raw_arguments, runs

COMPILED = runs(compiled_only=True, every_dtype=False)


def name_of(value: object) -> str:
    return str(value).removeprefix("torch.")


def scattered(value: object) -> object:
    """A tensor of the same numbers whose strides are not those of a dense one, as far as its shape allows."""
    if not isinstance(value, Tensor) or value.dim() == 0:
        return value
    if value.dim() == 4 and not (moved := value.contiguous(memory_format=torch.channels_last)).is_contiguous():
        return moved
    every_other = value.new_full((*value.shape[:-1], 2 * value.shape[-1]), torch.nan)
    every_other[..., ::2] = value
    return every_other[..., ::2]


def as_meta(value: object) -> object:
    if not isinstance(value, Tensor):
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")


def check(name: str, given: list) -> tuple[Tensor, ...]:
    op = getattr(torch.ops.lkops, name)
    strided = [scattered(value) for value in given]
    assert any(isinstance(v, Tensor) and not v.is_contiguous() for v in strided)
    expected, got = as_tuple(op(*given)), as_tuple(op(*strided))
    faked = as_tuple(library.fakes[name](*map(as_meta, strided)))
    for index, (ours, right, fake) in enumerate(zip(got, expected, faked, strict=True)):
        assert torch.equal(ours, right), f"result {index} of {name}"
        assert ours.is_contiguous(), f"result {index} of {name}"
        assert (fake.shape, fake.dtype, fake.stride()) == (ours.shape, ours.dtype, ours.stride()), f"fake {index}"
    return expected


@pytest.mark.parametrize(("operator", "backend", "device", "dtype"), COMPILED, ids=name_of)
def test_any_strides(operator, backend, device, dtype) -> None:
    case = case_of("strided", (2, 4, 5, 6), cases(operator)[0].options)
    tensors, options = arguments(operator, case)
    found = testing.operator(operator)
    forward, options_of_backward = raw_arguments(operator, cast(tensors, dtype, device), options)
    results = check(f"{operator}_{backend}_fwd", forward)
    draw = Draw()
    grads = [draw(*o.shape).to(o.device, o.dtype) for o in results[: found.outputs]]
    saved = found.saved(forward[: len(found.tensors)], results, forward[len(found.tensors) : len(forward) - found.told])
    check(f"{operator}_{backend}_bwd", [*grads, *saved, *options_of_backward])


@pytest.fixture
def compiled_backward() -> Iterator[None]:
    """Backward is compiled with the rest, by inductor, and nothing of it comes from an earlier run's cache."""
    from torch._inductor.utils import fresh_inductor_cache

    torch.compiler.reset()
    with torch._dynamo.config.patch(compiled_autograd=True), fresh_inductor_cache():
        yield
    torch.compiler.reset()


# each takes inductor many seconds
EVERY = [
    pytest.param(*run, marks=pytest.mark.slow if run[:2] == ("upsample_add", "cpu") else pytest.mark.exhaustive)
    for run in COMPILED
    if run[3] is torch.float32
]


@pytest.mark.parametrize(("operator", "backend", "device", "dtype"), EVERY, ids=name_of)
def test_a_step_compiled_with_its_backward(compiled_backward, operator, backend, device, dtype) -> None:
    """A conv, the operator, a loss and backward in one compiled function: the gradients of eager mode."""
    tensors, options = arguments(operator, case_of("step", (2, 4, 5, 6), cases(operator)[0].options))
    single = cast(tensors, dtype, device)
    names = list(single)
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(4, 4, 3, padding=1).to(device)

    def step(*values: Tensor) -> Tensor:
        outputs = invoke(operator, dict(zip(names, (conv(values[0]), *values[1:]), strict=True)), options, backend)
        loss = sum(output.float().square().mean() for output in outputs)
        loss.backward()
        return loss.detach()

    results = []
    for run in (step, torch.compile(step)):
        leaves = [single[name].clone().requires_grad_() for name in names]
        conv.zero_grad(set_to_none=True)
        loss = run(*leaves)
        results.append([loss, conv.weight.grad, conv.bias.grad, *(leaf.grad for leaf in leaves)])
    for name, ours, right in zip(("loss", "conv's weight", "conv's bias", *names), results[1], results[0], strict=True):
        scale = float(right.abs().max())
        assert scale > 0 or name != "conv's weight"
        torch.testing.assert_close(ours, right, rtol=0, atol=64 * torch.finfo(dtype).eps * scale, msg=f"{name} differs")
