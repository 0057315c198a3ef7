"""channels_last in and out of conv2d: the same numbers as in planes, in the format that was asked for."""

import itertools

import pytest
import torch
from torch import Tensor

import lkops
from lkops._core.extension import extension_error
from tests.lkops.ops.drawing import threads
from tests.lkops.ops.test_conv2d_kernel import drawn

BACKENDS = ["reference"] if extension_error("_C_cpu") else ["cpu", "reference"]
LAST, PLANAR = torch.channels_last, torch.contiguous_format
# inputs, outputs, side of the kernel, options
CONVS = [
    (16, 24, 3, {}),
    (20, 33, 3, {"accuracy": "relaxed"}),
    (3, 40, 3, {}),
    (40, 3, 3, {}),
    (31, 17, 1, {}),
    (64, 64, 1, {}),
    (6, 9, 5, {"groups": 3, "dilation": 2}),
    (8, 16, 3, {"stride": 2}),
    (5, 7, 1, {"stride": (2, 1), "padding": (1, 0)}),
]


def is_in(y: Tensor, memory_format: torch.memory_format) -> bool:
    return y.stride() == torch.empty(y.shape, memory_format=memory_format).stride()


def results(x: Tensor, weight: Tensor, residual: Tensor, last_grad: bool, **options) -> dict[str, Tensor]:
    """The result and all gradients, for a gradient in channels_last or not."""
    leaves = [t.detach().requires_grad_() for t in (x, weight, residual)]
    if options.get("activation") == "prelu":
        slopes = torch.linspace(-0.5, 0.5, weight.shape[0]).to(x.dtype).requires_grad_()
        options["prelu_weight"] = slopes
        leaves.append(slopes)
    y = lkops.conv2d(leaves[0], leaves[1], residual=leaves[2], residual_scale=0.5, **options)
    grad = drawn(7, *y.shape).to(y.dtype)
    grads = torch.autograd.grad(y, leaves, grad.contiguous(memory_format=LAST) if last_grad else grad)
    return {"y": y.detach(), **{f"gradient {i}": grad for i, grad in enumerate(grads)}}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("inputs", "outputs", "side", "options"), CONVS, ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_in_every_format(backend, inputs, outputs, side, options, dtype) -> None:
    x, groups = drawn(1, 2, inputs, 9, 14).to(dtype), options.get("groups", 1)
    weight = drawn(2, outputs, inputs // groups, side, side, scale=(inputs * side**2) ** -0.5).to(dtype)
    like = lkops.conv2d(x, weight, **options, backend="reference")
    residual = drawn(3, *like.shape).to(dtype)
    for activation in (None, "relu", "prelu", "silu"):
        given = {**options, "activation": activation, "backend": backend}
        expected = results(x, weight, residual, False, **given)
        assert is_in(expected["y"], PLANAR)
        for into, of_residual, of_grad in itertools.product((PLANAR, LAST), (PLANAR, LAST), (False, True)):
            for out in (None, PLANAR, LAST):
                found = results(
                    x.contiguous(memory_format=into),
                    weight,
                    residual.contiguous(memory_format=of_residual),
                    of_grad,
                    memory_format=out,
                    **given,
                )
                assert is_in(found["y"], out or into)
                if backend == "cpu":
                    assert is_in(found["gradient 0"], into)
                for what, value in found.items():
                    if backend == "cpu":
                        assert torch.equal(value, expected[what]), what
                    else:  # torch's own kernels may sum in another order
                        size = float(expected[what].abs().max())
                        atol = 32 * torch.finfo(dtype).eps * size
                        torch.testing.assert_close(value, expected[what], rtol=0, atol=atol)


@pytest.mark.parametrize("backend", BACKENDS)
def test_where_both_formats_are_one_the_result_is_contiguous(backend) -> None:
    weight = drawn(0, 8, 1, 3, 3).float()
    for shape in ((2, 1, 5, 6), (0, 1, 5, 6)):
        x = drawn(1, *shape).float().contiguous(memory_format=LAST)
        assert is_in(lkops.conv2d(x, weight, backend=backend), PLANAR)
        assert is_in(lkops.conv2d(x, weight, memory_format=LAST, backend=backend), LAST)
    one_pixel = drawn(1, 3, 8, 1, 1).float().contiguous(memory_format=LAST)
    assert is_in(lkops.conv2d(one_pixel, drawn(0, 8, 8, 3, 3).float(), backend=backend), PLANAR)
    empty = torch.empty(0, 8, 5, 6, memory_format=LAST, requires_grad=True)
    y = lkops.conv2d(empty, drawn(0, 4, 8, 3, 3).float(), memory_format=LAST, backend=backend)
    assert y.shape == (0, 4, 5, 6)
    y.sum().backward()
    assert empty.grad.shape == empty.shape


@pytest.mark.parametrize("backend", BACKENDS)
def test_views_that_are_in_no_format(backend) -> None:
    """Of channels, of rows, and expanded over the batch; as input and as residual."""
    large = drawn(1, 2, 24, 18, 20).float().contiguous(memory_format=LAST)
    weight = drawn(2, 16, 16, 3, 3, scale=0.1).float()
    for view in (large[:, 4:20], large[:, :16, ::2], large[:1, :16].expand(3, -1, -1, -1), large.flip(3)[:, :16]):
        residual = view.transpose(2, 3).contiguous().transpose(2, 3)
        expected = lkops.conv2d(view.contiguous(), weight, residual=view.contiguous(), backend=backend)
        for memory_format in (PLANAR, LAST):
            y = lkops.conv2d(view, weight, residual=residual, memory_format=memory_format, backend=backend)
            assert is_in(y, memory_format)
            torch.testing.assert_close(y, expected, rtol=0, atol=1e-5)


@pytest.mark.skipif("cpu" not in BACKENDS, reason="no C++ kernels here")
@pytest.mark.parametrize(("inputs", "outputs", "side", "options"), CONVS[:6], ids=str)
def test_threads_change_no_bit(inputs, outputs, side, options) -> None:
    x = drawn(1, 2, inputs, 23, 34).float().contiguous(memory_format=LAST)
    weight = drawn(2, outputs, inputs, side, side, scale=(inputs * side**2) ** -0.5).float()
    residual = drawn(3, 2, outputs, 23, 34).float()
    found = []
    for count in (1, 2, 5):
        with threads(count):
            found.append(results(x, weight, residual, True, activation="gelu", **options, backend="cpu"))
    for other in found[1:]:
        assert all(torch.equal(value, other[what]) for what, value in found[0].items())


@pytest.mark.parametrize("backend", BACKENDS)
def test_compiled_and_checked_as_an_op(backend) -> None:
    """The fake kernels give the formats that the kernels give."""
    torch.compiler.reset()
    weight = drawn(2, 16, 16, 3, 3, scale=0.1).float().requires_grad_()

    def step(x: Tensor, memory_format: torch.memory_format | None) -> Tensor:
        return lkops.conv2d(x, weight, activation="relu", memory_format=memory_format, backend=backend)

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    for into, out in itertools.product((PLANAR, LAST), (None, PLANAR, LAST)):
        x = drawn(1, 2, 16, 9, 14).float().contiguous(memory_format=into).requires_grad_()
        ours, expected = compiled(x, out), step(x, out)
        assert torch.equal(ours, expected)
        assert ours.stride() == expected.stride()
        torch.testing.assert_close(
            torch.autograd.grad(ours.sum(), x)[0], torch.autograd.grad(expected.sum(), x)[0], rtol=0, atol=1e-5
        )
        if backend == "cpu":
            given = {"input": x.detach(), "weight": weight.detach(), "activation": "gelu", "memory_format": out}
            raw = lkops.testing.operator("conv2d").raw(**given)
            arguments = (*raw.tensors, *raw.options, True)
            torch.library.opcheck(torch.ops.lkops.conv2d_cpu_fwd.default, arguments)
            y, before = torch.ops.lkops.conv2d_cpu_fwd(*arguments)
            rest = (y, *raw.tensors[:4], before, *raw.options, [True] * 5)
            torch.library.opcheck(torch.ops.lkops.conv2d_cpu_bwd.default, rest)
