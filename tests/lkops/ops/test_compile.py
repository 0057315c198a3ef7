"""opcheck of the private ops, torch.compile(fullgraph=True) with counted recompiles, and torch.export."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

import lkops
from lkops import testing
from lkops.testing import Draw, Example, arguments, as_tuple, cast, invoke
from tests.lkops.ops.harness import case_of, cases, raw_arguments, runs

RUNS = runs(every_dtype=False)
SIZES = [(2, 8, 8, 8), (3, 8, 16, 16), (4, 8, 24, 40), (5, 8, 9, 7), (6, 8, 31, 3)]
SMALL = [(2, 4, 8, 8), (3, 4, 9, 7), (4, 4, 5, 6)]  # where Triton is interpreted


def name_of(value: object) -> str:
    return value.name if isinstance(value, Example) else str(value).removeprefix("torch.")


OPCHECK_CASES = ("plain", "one_pixel", "zero_batch")


@pytest.mark.wide
@pytest.mark.parametrize("case_name", OPCHECK_CASES)
@pytest.mark.parametrize(
    ("operator", "backend", "device", "dtype"), runs(compiled_only=True, every_dtype=False), ids=name_of
)
def test_private_ops_pass_opcheck(operator, backend, device, dtype, case_name) -> None:
    case = next(case for case in cases(operator) if case.name == case_name)
    tensors, options = arguments(operator, case)
    found = testing.operator(operator)
    forward, options_of_backward = raw_arguments(operator, cast(tensors, dtype, device), options)
    op = getattr(torch.ops.lkops, f"{operator}_{backend}_fwd").default
    torch.library.opcheck(op, tuple(forward))
    if found.told:
        torch.library.opcheck(op, (*forward[:-1], False))
    draw, results = Draw(), as_tuple(op(*forward))
    outputs = results[: found.outputs]
    grads = [draw(*output.shape).to(output.device, output.dtype) for output in outputs]
    saved = found.saved(forward[: len(found.tensors)], results, forward[len(found.tensors) : len(forward) - found.told])
    backward = getattr(torch.ops.lkops, f"{operator}_{backend}_bwd").default
    torch.library.opcheck(backward, (*grads, *saved, *options_of_backward))


def sized(operator: str, shape: tuple[int, ...], dtype: torch.dtype, device: str):
    """Arguments of one shape, all else as in the operator's first case."""
    first = cases(operator)[0]
    tensors, options = arguments(operator, case_of("sized", shape, first.options))
    return cast(tensors, dtype, device), options


@pytest.mark.wide
@pytest.mark.parametrize(("operator", "backend", "device", "dtype"), RUNS, ids=name_of)
def test_compiles_whole_and_recompiles_at_most_once(operator, backend, device, dtype) -> None:
    torch.compiler.reset()
    counter = CompileCounterWithBackend("aot_eager")

    def function(*values):
        outputs = invoke(operator, dict(zip(names, values, strict=True)), options, backend)
        return sum(output.float().square().mean() for output in outputs)

    compiled = torch.compile(function, fullgraph=True, backend=counter)
    sizes = SMALL if (backend, device) == ("triton", "cpu") else SIZES
    for shape in sizes:
        tensors, options = sized(operator, shape, dtype, device)
        names = list(tensors)
        losses, grads = [], []
        for run in (function, compiled):
            leaves = [tensor.clone().requires_grad_() for tensor in tensors.values()]
            loss = run(*leaves)
            loss.backward()
            losses.append(loss.detach())
            grads.append([leaf.grad for leaf in leaves])
        torch.testing.assert_close(losses[1], losses[0], rtol=32 * torch.finfo(dtype).eps, atol=0)
        for compiled_grad, eager_grad in zip(grads[1], grads[0], strict=True):
            scale = float(eager_grad.abs().max())
            assert scale > 0
            torch.testing.assert_close(compiled_grad, eager_grad, rtol=0, atol=64 * torch.finfo(dtype).eps * scale)
    assert counter.frame_count <= 2, f"{counter.frame_count} compilations for {len(sizes)} sizes"


@pytest.mark.parametrize(
    ("operator", "backend", "device", "dtype"), [r for r in RUNS if r[3] is torch.float32], ids=name_of
)
def test_exports(operator, backend, device, dtype) -> None:
    tensors, options = sized(operator, SIZES[0], dtype, device)

    class Wrapper(torch.nn.Module):
        def forward(self, *values):
            return invoke(operator, dict(zip(tensors, values, strict=True)), options, backend)

    program = torch.export.export(Wrapper(), tuple(tensors.values()))
    expected = invoke(operator, tensors, options, backend)
    for got, right in zip(program.module()(*tensors.values()), expected, strict=True):
        torch.testing.assert_close(got, right)


def test_the_choice_of_backend_is_seen_by_compiled_code() -> None:
    """A compiled function follows `lkops.backend`: it recompiles, and does not keep the first choice."""
    torch.compiler.reset()
    x = torch.randn(1, 2, 4, 4)
    compiled = torch.compile(lambda t: lkops.bicubic_upsample(t, scale=2), fullgraph=True, backend="aot_eager")
    compiled(x)
    with lkops.backend("reference"):
        compiled(x)
    with lkops.backend("cuda"), pytest.raises(Exception, match="can't run bicubic_upsample"):
        compiled(x)
    compiled(x)


def test_autocast_compiles() -> None:
    torch.compiler.reset()
    block, x = lkops.nn.LKBlock(16, drop_path=0.5), torch.randn(2, 16, 9, 9)
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = compiled(x)
    assert output.dtype is torch.bfloat16
    output.float().square().sum().backward()
    assert all(p.grad is not None for p in block.parameters())


def test_a_tensor_given_twice_compiles() -> None:
    """As an image that is its own residual; its gradients add up."""
    torch.compiler.reset()
    weight = torch.randn(8, 8, 3, 3) / 8

    def of_conv(x):
        return lkops.conv2d(x, weight, activation="relu", residual=x)

    def of_losses(x):
        return lkops.spectral_losses(x, x * 1).l1 + lkops.spectral_losses(x, x).sam

    for function in (of_conv, of_losses):
        results = []
        for run in (function, torch.compile(function, fullgraph=True, backend="aot_eager")):
            x = torch.rand(2, 8, 6, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
            output = run(x)
            results.append((output.detach(), *torch.autograd.grad(output.square().sum(), x)))
        for ours, theirs in zip(*results, strict=True):
            assert torch.equal(ours, theirs)
