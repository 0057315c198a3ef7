"""The contract of every operator on every backend and dtype that exists here: values, gradients, awkward inputs,
double backward, determinism. `problems.py` draws the arguments."""

from collections.abc import Iterator

import pytest
import torch

import lkops
from lkops import backends
from lkops.testing import (
    Draw,
    Example,
    arguments,
    as_tuple,
    assert_as_good_as_eager,
    cast,
    check,
    examples,
    invoke,
    policy_of,
    run,
)
from lkops.testing import operator as operator_of
from tests.lkops.ops.harness import DEVICES, OPERATORS, cases, runs


def name_of(value: object) -> str:
    return value.name if isinstance(value, Example) else str(value).removeprefix("torch.")


RUNS = runs()
COMPILED = runs(compiled_only=True, every_dtype=False)
RUN_CASES = [(*r, case) for r in RUNS for case in cases(r[0])]
every_run = pytest.mark.parametrize(("operator", "backend", "device", "dtype"), runs(every_dtype=False), ids=name_of)
every_compiled = pytest.mark.parametrize(("operator", "backend", "device", "dtype"), COMPILED, ids=name_of)


def test_every_operator_has_problems_and_every_kernel_that_is_here_runs() -> None:
    assert set(OPERATORS) == set(backends.operators())
    here = {(operator, backend) for operator, backend, _, _ in RUNS}
    for name in OPERATORS:
        found = operator_of(name)
        for backend, missing in found.missing.items():
            reason = missing or (set(backends.DEVICES[backend]).isdisjoint(DEVICES) and "no such device")
            assert reason or (name, backend) in here


@pytest.mark.wide("cpu")
@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("operator", "backend", "device", "dtype", "case"), RUN_CASES, ids=name_of)
def test_values_and_gradients(operator, backend, device, dtype, case) -> None:
    check(operator, backend, device, dtype, case)


def test_zeros_would_not_pass() -> None:
    exact = Draw()(3, 4)
    with pytest.raises(AssertionError, match=r"result of shape .* error"):
        assert_as_good_as_eager(1e-9 * exact.float(), exact.float(), exact)
    with pytest.raises(AssertionError, match="all zeros"):  # an eager that is wrong itself does not hide it
        assert_as_good_as_eager(torch.zeros(3, 4), torch.zeros(3, 4), exact)


# left out of gradcheck: many entries, or entries at a kink of the function; the other cases cover the formulas
LEFT_OUT = ("large", "beyond_the_reach", "many_bands", "prime", "empty_spectra")
LEFT_OUT += ("floor", "floor_and_empty_spectra")  # its gradient leaves something out: test_losses_floor_kernel.py
REFERENCE_CASES = [(op, case) for op in OPERATORS for case in cases(op) if case.name not in LEFT_OUT]


@pytest.mark.parametrize(("operator", "case"), REFERENCE_CASES, ids=name_of)
def test_reference_gradients_are_true(operator, case) -> None:
    tensors, options = arguments(operator, case)
    names = [name for name, tensor in tensors.items() if tensor is not None]
    leaves = [tensor.requires_grad_() for tensor in tensors.values() if tensor is not None]

    def function(*values):
        return invoke(operator, {**tensors, **dict(zip(names, values, strict=True))}, options, "reference")

    assert torch.autograd.gradcheck(function, leaves, fast_mode=True)
    if case.name == "plain":
        assert torch.autograd.gradgradcheck(function, leaves, fast_mode=True)


def strided(tensor: torch.Tensor, layout: str) -> torch.Tensor:
    if layout == "channels_last":
        return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor
    if layout == "transposed":
        return tensor.transpose(-1, -2).contiguous().transpose(-1, -2) if tensor.dim() > 1 else tensor
    every_other = tensor.new_full((*tensor.shape[:-1], 2 * tensor.shape[-1]), torch.nan)  # "sliced"
    every_other[..., ::2] = tensor
    return every_other[..., ::2]


@pytest.mark.wide("cpu")
@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("layout", ["channels_last", "transposed", "sliced"])
@every_run
def test_any_strides_give_the_same_and_inputs_stay(operator, backend, device, dtype, layout) -> None:
    tensors, options = arguments(operator, examples(operator)["plain"])
    dense = cast(tensors, dtype, device)
    views = {name: None if t is None else strided(t, layout) for name, t in dense.items()}
    assert any(t is not None and not t.is_contiguous() for t in views.values())
    versions = {name: t._version for name, t in views.items() if t is not None}
    expected, got = run(operator, dense, options, backend), run(operator, views, options, backend)
    for what, value in got.items():
        if backend == "reference":  # torch's own kernels may sum in another order for other strides
            scale = float(expected[what].abs().max())
            torch.testing.assert_close(value, expected[what], rtol=0, atol=32 * torch.finfo(dtype).eps * scale)
        else:
            assert torch.equal(value, expected[what]), what
    follows = operator_of(operator).strided and layout == "channels_last"  # the input's format
    for output in invoke(operator, views, options, backend):
        assert output.is_contiguous(memory_format=torch.channels_last if follows else torch.contiguous_format)
    for name, tensor in views.items():
        if tensor is not None:
            assert tensor._version == versions[name]
            assert torch.equal(tensor, dense[name]), f"{name} was written to"


@pytest.mark.wide("cpu")
@pytest.mark.usefixtures("two_threads")
@every_compiled
def test_an_expanded_gradient(operator, backend, device, dtype) -> None:
    tensors, options = arguments(operator, examples(operator)["plain"])
    rounded = cast(tensors, dtype, device)
    grads = []
    for values, how in ((rounded, backend), (rounded, "reference"), (cast(rounded, torch.float64, "cpu"), "reference")):
        leaves = {name: None if t is None else t.clone().requires_grad_() for name, t in values.items()}
        sum(output.sum() for output in invoke(operator, leaves, options, how)).backward()
        grads.append([leaf.grad for leaf in leaves.values() if leaf is not None])
    for ours, eager, exact in zip(*grads, strict=True):
        assert_as_good_as_eager(ours, eager, exact, policy_of(backend, device))


@pytest.mark.wide("cpu")
@pytest.mark.usefixtures("two_threads")
@every_run
def test_each_gradient_alone(operator, backend, device, dtype) -> None:
    tensors, options = arguments(operator, examples(operator)["plain"])
    rounded = cast(tensors, dtype, device)
    together = run(operator, rounded, options, backend)
    # torch's own kernels on a GPU may sum in another order where fewer gradients are asked for
    roundings = 32 if (backend, device) == ("reference", "cuda") else 4
    for name, tensor in rounded.items():
        if tensor is None:
            continue
        leaf = tensor.clone().requires_grad_()
        outputs = invoke(operator, {**rounded, name: leaf}, options, backend)
        draw = Draw()
        torch.autograd.backward(outputs, [draw(*o.shape).to(o.device, o.dtype) for o in outputs])
        scale = float(together[f"gradient of {name}"].abs().max())
        tolerance = roundings * torch.finfo(dtype).eps * scale
        torch.testing.assert_close(leaf.grad, together[f"gradient of {name}"], rtol=0, atol=tolerance)


@pytest.mark.usefixtures("two_threads")
@every_compiled
def test_double_backward_raises_also_in_a_gradient_penalty(operator, backend, device, dtype) -> None:
    tensors, options = arguments(operator, examples(operator)["plain"])
    leaves = {name: None if t is None else t.requires_grad_() for name, t in cast(tensors, dtype, device).items()}
    present = [leaf for leaf in leaves.values() if leaf is not None]
    total = sum(output.square().sum() for output in invoke(operator, leaves, options, backend))
    grads = torch.autograd.grad(total, present, create_graph=True)
    with pytest.raises(RuntimeError, match=f"{operator} has no double backward on this backend"):
        sum(grad.square().sum() for grad in grads).backward()
    if not operator_of(operator).saves:
        return  # linear: its gradient does not depend on the arguments, so there is nothing to differentiate again
    total = sum(output.sum() for output in invoke(operator, leaves, options, backend))
    grads = torch.autograd.grad(total, present, create_graph=True)  # grad_output needs no gradient here
    with pytest.raises(RuntimeError, match=f"{operator} has no double backward on this backend"):
        (total + sum(grad.square().sum() for grad in grads)).backward()


# torch's own backward of index_select adds atomically on a GPU
DETERMINISTIC = [run for run in runs(every_dtype=False) if run[1] != "reference" or run[2] == "cpu"]


@pytest.mark.wide("cpu")
@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("operator", "backend", "device", "dtype"), DETERMINISTIC, ids=name_of)
def test_same_bits_again(operator, backend, device, dtype) -> None:
    tensors, options = arguments(operator, examples(operator)["prime"])
    rounded = cast(tensors, dtype, device)
    first, second = run(operator, rounded, options, backend), run(operator, rounded, options, backend)
    assert all(torch.equal(first[what], second[what]) for what in first)


# Triton's programs know nothing of torch's threads, nor does a GPU
THREADED = [run for run in COMPILED if run[1] != "triton" and run[2] == "cpu"]


@pytest.mark.parametrize(("operator", "backend", "device", "dtype"), THREADED, ids=name_of)
def test_same_bits_for_any_number_of_threads(operator, backend, device, dtype) -> None:
    for case in cases(operator):
        tensors, options = arguments(operator, case)
        rounded = cast(tensors, dtype, device)
        before, results = torch.get_num_threads(), []
        try:
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                results.append(run(operator, rounded, options, backend))
        finally:
            torch.set_num_threads(before)
        for other in results[1:]:
            assert all(torch.equal(results[0][what], other[what]) for what in other), case.name


@pytest.fixture
def tf32() -> Iterator[None]:
    """Within the test, torch's own setting allows tf32 in convs and products."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


# Triton's interpreter multiplies in full float32; that tf32 reaches tensor cores is test_triton_ahead_of_time.py's
SINGLE = [run for run in COMPILED if run[2] == "cuda" and run[3] is torch.float32]


@pytest.mark.skipif(not SINGLE, reason="no GPU here")
@pytest.mark.parametrize(("operator", "backend", "device", "dtype"), SINGLE, ids=name_of)
def test_tf32_products(tf32, operator, backend, device, dtype) -> None:
    """Where torch allows tf32, results are as good as ten bits of mantissa, truncated: tensor cores do not round their
    operands, and a block has five products in a row."""
    for case in cases(operator)[:2]:
        tensors, options = arguments(operator, case)
        single = cast(tensors, dtype, device)
        exact = run(operator, cast(single, torch.float64, "cpu"), options, "reference")
        for what, value in run(operator, single, options, backend).items():
            error = (value.cpu().double() - exact[what]).norm() / exact[what].norm()
            assert error <= 5e-3, f"{what} of {case.name}: relative error {error:.1e}"


AUTOCAST = [
    (operator, backend, device)
    for operator, backend, device, dtype in RUNS
    if dtype is torch.float32 and not backends.why_not(operator, backend, device, [torch.bfloat16])
]


@pytest.mark.parametrize(("operator", "backend", "device"), AUTOCAST)
def test_autocast(operator, backend, device) -> None:
    """Products run in the autocast dtype, losses in float32, bicubic in its own; gradients keep their leaf's dtype."""
    tensors, options = arguments(operator, examples(operator)["plain"])
    single = cast(tensors, torch.float32, device)
    leaves = {name: None if t is None else t.requires_grad_() for name, t in single.items()}
    with torch.autocast(device, dtype=torch.bfloat16):
        outputs = invoke(operator, leaves, options, backend)
    keeps = operator in ("spectral_losses", "bicubic_upsample", "upsample_add")  # the last adds a float32 image
    assert all(output.dtype is (torch.float32 if keeps else torch.bfloat16) for output in outputs)
    exact = invoke(operator, cast(tensors, torch.float64), options, "reference")
    for output, right in zip(outputs, exact, strict=True):
        tolerance = 1e-5 if operator in ("spectral_losses", "bicubic_upsample") else 0.06
        assert (output.detach().cpu().double() - right).abs().max() <= tolerance * right.abs().max()
    sum(output.float().square().sum() for output in outputs).backward()
    for name, leaf in leaves.items():
        if leaf is not None:
            assert leaf.grad.dtype is torch.float32, name
            assert leaf.grad.abs().max() > 0, name


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_meta_device_gives_shapes(operator) -> None:
    tensors, options = arguments(operator, examples(operator)["plain"])
    meta = cast(tensors, torch.float32, "meta")
    expected = invoke(operator, cast(tensors, torch.float32), options, "reference")
    for got, right in zip(invoke(operator, meta, options, None), expected, strict=True):
        assert got.device.type == "meta"
        assert (got.shape, got.dtype) == (right.shape, right.dtype)


@pytest.mark.wide("cpu")
@pytest.mark.usefixtures("two_threads")
@every_run
def test_inference_mode_gives_the_bits_of_training(operator, backend, device, dtype) -> None:
    if (operator, backend) == ("lk_block", "cuda"):
        pytest.skip("its inference of small images is a kernel of its own: test_cuda_block.py")
    tensors, options = arguments(operator, examples(operator)["plain"])
    rounded = cast(tensors, dtype, device)
    leaves = {name: None if t is None else t.clone().requires_grad_() for name, t in rounded.items()}
    expected = [output.detach() for output in invoke(operator, leaves, options, backend)]
    with torch.inference_mode():
        got = as_tuple(getattr(lkops, operator)(**rounded, **options, backend=backend))
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
