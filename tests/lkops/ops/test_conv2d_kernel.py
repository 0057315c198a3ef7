"""The C++ kernels of conv2d: what the contract's small problems do not reach."""

import itertools
import re

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import lkops
from lkops._core.extension import extension_error
from lkops.testing import WrongResult, assert_as_good_as_eager, compare, examples, policy_of
from tests.lkops.ops.drawing import threads
from tests.lkops.ops.options import outcome

if extension_error("_C_cpu"):
    pytest.skip(extension_error("_C_cpu"), allow_module_level=True)

CPU = {"backend": "cpu"}
KINDS = ("normal", "relu", "positive")
DTYPES = (torch.float32, torch.bfloat16)
RELAXED = 1e-5  # of the largest value


def drawn(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem(
    seed: int, inputs: int, outputs: int, h: int, w: int, kind: str, kernel: tuple[int, int] = (3, 3)
) -> tuple[Tensor, Tensor]:
    scale = (kernel[0] * kernel[1] * inputs) ** -0.5
    x, weight = drawn(seed, 1, inputs, h, w), drawn(seed + 1, outputs, inputs, *kernel, scale=scale)
    return {"normal": x, "relu": x.relu(), "positive": x.abs()}[kind], weight


def results(x: Tensor, weight: Tensor, function) -> dict[str, Tensor]:
    """The result of a conv and its gradients, for a gradient of the result that is one of normal numbers."""
    leaves = x.clone().requires_grad_(), weight.clone().requires_grad_()
    y = function(*leaves)
    grads = torch.autograd.grad(y, leaves, drawn(99, *y.shape).to(y.dtype))
    return {"y": y.detach(), "gradient of x": grads[0], "gradient of weight": grads[1]}


def check(x: Tensor, weight: Tensor, dtype: torch.dtype, dilation: int = 1) -> None:
    padding = tuple(dilation * (side // 2) for side in weight.shape[2:])
    options = {"dilation": dilation, **CPU}

    def eager(x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, padding=padding, dilation=dilation)

    x, weight = x.to(dtype), weight.to(dtype)
    right, theirs = results(x.double(), weight.double(), eager), results(x, weight, eager)
    ours = results(x, weight, lambda x, weight: lkops.conv2d(x, weight, **options))
    assert_as_good_as_eager(ours, theirs, right, policy_of("cpu"))
    relaxed = results(x, weight, lambda x, weight: lkops.conv2d(x, weight, accuracy="relaxed", **options))
    if dtype is not torch.float32:
        assert_as_good_as_eager(relaxed, theirs, right, policy_of("cpu"))
    else:
        for what, value in relaxed.items():
            assert (value.double() - right[what]).abs().max() <= RELAXED * right[what].abs().max(), what


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("inputs", [3, 16, 33, 130, 260])
def test_accuracy(inputs, dtype) -> None:
    for seed, kind in enumerate(KINDS):
        check(*problem(2 * seed, inputs, 24, 12, 21, kind), dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("kernel", "dilation"), [((5, 5), 1), ((7, 3), 1), ((9, 9), 1), ((3, 3), 2), ((3, 3), 3), ((5, 7), 2)], ids=str
)
def test_accuracy_of_other_kernels(kernel, dilation, dtype) -> None:
    for inputs, kind in zip((12, 33, 100), KINDS, strict=True):
        check(*problem(inputs, inputs, 24, 13, 21, kind, kernel), dtype, dilation)


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("inputs", [12, 32, 64, 128, 256, 512, 1024])
def test_accuracy_of_hundreds_of_problems(inputs, dtype) -> None:
    for seed in range(60):
        check(*problem(2 * seed, inputs, 24, 12, 20, KINDS[seed % 3]), dtype)


def test_relaxed_is_another_algorithm_that_nobody_gets_unasked() -> None:
    x, weight = problem(0, 48, 48, 16, 20, "normal")
    x, weight = x.float(), weight.float()
    exact, relaxed = lkops.conv2d(x, weight, **CPU), lkops.conv2d(x, weight, accuracy="relaxed", **CPU)
    assert not torch.equal(exact, relaxed)
    assert torch.equal(exact, lkops.conv2d(x, weight, accuracy="exact", **CPU))
    assert torch.equal(exact, lkops.nn.Conv2d.forward(module_of(weight), x))
    errors = [(y.double() - F.conv2d(x.double(), weight.double(), padding=1)).abs().max() for y in (exact, relaxed)]
    assert 2 * errors[0] < errors[1]


def test_the_rule_of_what_is_close_knows_relaxed() -> None:
    """`lkops.testing.compare` adds 1e-5 of the size where it was asked for, and only there."""
    x, weight = problem(0, 256, 24, 12, 20, "positive")
    tensors = {"input": x, "weight": weight}
    facts = ("conv2d", "cpu", "cpu", torch.float32, tensors)
    assert compare(*facts, {"accuracy": "relaxed"}) <= 1
    assert compare(*facts, {}) <= 1
    known = examples("conv2d")
    assert (known.of_size({}), known.of_size({"accuracy": "relaxed"})) == (0, RELAXED)
    x, weight = x.float(), weight.float()
    ours, exact = lkops.conv2d(x, weight, accuracy="relaxed", **CPU), F.conv2d(x.double(), weight.double(), padding=1)
    with pytest.raises(WrongResult):  # of one that rounds once: what eager's own error is differs between CPUs
        assert_as_good_as_eager(ours, exact.float(), exact)


def module_of(weight: Tensor) -> lkops.nn.Conv2d:
    conv = lkops.nn.Conv2d(weight.shape[1], weight.shape[0], 3, bias=False)
    conv.load_state_dict({"weight": weight})
    return conv.requires_grad_(False)


@pytest.mark.parametrize(
    ("shape", "outputs", "options"),
    [
        ((2, 40, 50, 67), 70, {}),
        ((1, 96, 16, 16), 96, {}),
        ((1, 96, 16, 16), 96, {"accuracy": "relaxed"}),
        ((1, 40, 43, 37), 70, {"dilation": 2}),
        ((1, 3, 65, 130), 20, {}),
        ((1, 20, 33, 140), 18, {"stride": 2}),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_blocks_splits_and_threads_change_no_bit(shape, outputs, options, dtype) -> None:
    x = drawn(1, *shape).to(dtype)
    weight = drawn(2, outputs, shape[1], 3, 3, scale=(9 * shape[1]) ** -0.5).to(dtype)

    def ours(backend: str):
        return lambda x, weight: lkops.conv2d(x, weight, activation="gelu", **options, backend=backend)

    found = []
    for count in (1, 2, 5):
        with threads(count):
            found.append(results(x, weight, ours("cpu")))
    for other in found[1:]:
        assert all(torch.equal(value, other[what]) for what, value in found[0].items())
    if "accuracy" not in options:
        eager, exact = results(x, weight, ours("reference")), results(x.double(), weight.double(), ours("reference"))
        assert_as_good_as_eager(found[0], eager, exact, policy_of("cpu"))


ACTIVATIONS = {
    "relu": F.relu,
    "leaky_relu": lambda y: F.leaky_relu(y, 0.3),
    "prelu": lambda y: F.prelu(y, torch.linspace(-0.5, 0.5, 20).to(y.dtype)),
    "gelu": F.gelu,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("side", [3, 1])
def test_every_activation_after_every_algorithm(side, activation, dtype) -> None:
    """With its gradients, whose jumps bfloat16 must not see move."""
    x, weight = drawn(1, 2, 24, 9, 11).to(dtype), drawn(2, 20, 24, side, side, scale=(24 * side**2) ** -0.5).to(dtype)
    slopes = {"prelu_weight": torch.linspace(-0.5, 0.5, 20).to(dtype)} if activation == "prelu" else {}

    def ours(x: Tensor, weight: Tensor) -> Tensor:
        return lkops.conv2d(x, weight, activation=activation, slope=0.3, residual_scale=0.7, **slopes, **CPU)

    def plain(x: Tensor, weight: Tensor) -> Tensor:
        return 0.7 * ACTIVATIONS[activation](F.conv2d(x, weight, padding=side // 2))

    exact, eager = results(x.double(), weight.double(), plain), results(x, weight, plain)
    assert_as_good_as_eager(results(x, weight, ours), eager, exact, policy_of("cpu"))
    with torch.no_grad():
        assert_as_good_as_eager(ours(x, weight), eager["y"], exact["y"], policy_of("cpu"))


def test_a_prelu_of_one_slope() -> None:
    x, weight = drawn(0, 1, 8, 6, 7).float(), drawn(1, 8, 8, 3, 3, scale=0.1).float()
    slope = torch.tensor([0.3], requires_grad=True)
    y = lkops.conv2d(x, weight, activation="prelu", prelu_weight=slope, **CPU)
    expected = F.prelu(F.conv2d(x, weight, padding=1), slope)
    torch.testing.assert_close(y, expected)
    (ours,), (theirs,) = torch.autograd.grad(y.sum(), slope), torch.autograd.grad(expected.sum(), slope)
    torch.testing.assert_close(ours, theirs)
    with torch.no_grad():
        assert torch.equal(lkops.conv2d(x, weight, activation="prelu", prelu_weight=slope, **CPU), y)


@pytest.mark.parametrize("padding", [0, 1, 3, 7, (0, 9)], ids=str)
@pytest.mark.parametrize("stride", [1, 2, 3, (5, 1)], ids=str)
def test_paddings_and_strides_that_no_network_has(stride, padding) -> None:
    """Results that see nothing but padding, gradients of pixels that nobody sees."""
    for side, dilation in ((1, 1), (2, 1), (3, 1), (3, 2), (4, 1)):
        x, weight = drawn(3, 1, 16, 8, 9).float(), drawn(4, 16, 16, side, side, scale=0.1).float()
        options = {"stride": stride, "padding": padding, "dilation": dilation}

        def plain(x: Tensor, weight: Tensor, options=options) -> Tensor:
            return F.conv2d(x, weight, **options)

        ours = results(x, weight, lambda x, weight, o=options: lkops.conv2d(x, weight, **o, **CPU))
        assert_as_good_as_eager(
            ours, results(x, weight, plain), results(x.double(), weight.double(), plain), policy_of("cpu")
        )


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("size", [1 << 20, 1 << 31, 1 << 50, 1 << 62])
@pytest.mark.parametrize("option", ["padding", "dilation", "stride"])
def test_sizes_beyond_all_memory(option, size, gradient) -> None:
    """A result or an error, and no memory of others."""
    x, weight = drawn(3, 1, 4, 5, 6).float().requires_grad_(gradient), drawn(4, 4, 4, 3, 3).float()
    kind, result = outcome(lambda: lkops.conv2d(x, weight, **{option: size}, **CPU))
    if option == "stride":
        assert kind == "returns"
        assert result.shape == (1, 4, 1, 1)
    else:
        assert kind in ("OutOfMemoryError", "RuntimeError"), result
        assert "out of memory" in result or "overflows" in result


def test_the_private_ops_refuse_what_does_not_fit() -> None:
    """For small images nothing in Python looks at the arguments before them."""
    x, weight, bias, y = torch.rand(1, 4, 5, 6), torch.rand(4, 2, 3, 3), torch.rand(4), torch.rand(1, 4, 5, 6)
    options = {"strides": (1, 1), "padding": (1, 1), "dilations": (1, 1), "groups": 2, "activation": 0}

    def forward(x=x, weight=weight, bias=bias, prelu=None, residual=y, **changes):
        given = {**options, **changes}
        numbers = (*given["strides"], *given["padding"], *given["dilations"], given["groups"], given["activation"])
        numbers = (*numbers, 0.1, 1.0, False, False, False, False, False)
        return torch.ops.lkops.conv2d_cpu_fwd(x, weight, bias, prelu, residual, *numbers)

    def backward(grad=y, before=y, needs=(True,) * 5, activation=1, from_result=False):
        numbers = (1, 1, 1, 1, 1, 1, 2, activation)
        numbers = (*numbers, 0.1, 1.0, False, False, False, from_result)
        return torch.ops.lkops.conv2d_cpu_bwd(grad, x, weight, bias, None, before, *numbers, needs)

    assert forward()[0].shape == backward()[0].shape == x.shape
    for call, arguments, message in (
        (forward, {"x": x[0]}, "input must be (N, C, H, W)"),
        (forward, {"x": x.double()}, "input must be float32 or bfloat16"),
        (forward, {"weight": weight[:, :1]}, "weight must have shape (4, 2, 3, 3), got (4, 1, 3, 3)"),
        (forward, {"weight": weight.bfloat16()}, "weight must be of torch dtype number"),
        (forward, {"weight": weight[..., :0]}, "weight must have four sizes, none 0"),
        (forward, {"bias": bias[:3]}, "bias must have shape (4), got (3)"),
        (forward, {"prelu": bias}, "prelu_weight must be given for prelu and for no other"),
        (forward, {"activation": 3}, "prelu_weight must be given for prelu and for no other"),
        (forward, {"activation": 7}, "activation must be one of the known numbers, got 7"),
        (forward, {"activation": -1}, "activation must be one of the known numbers, got -1"),
        (forward, {"residual": y[..., :5]}, "residual must have shape (1, 4, 5, 6), got (1, 4, 5, 5)"),
        (forward, {"strides": (0, 1)}, "stride and dilation must be 1 or more, padding 0 or more"),
        (forward, {"dilations": (1, 0)}, "stride and dilation must be 1 or more, padding 0 or more"),
        (forward, {"padding": (1, -1)}, "stride and dilation must be 1 or more, padding 0 or more"),
        (forward, {"groups": 3}, "groups must divide the channels of input and the outputs, got 3"),
        (forward, {"dilations": (4, 1)}, "weight's kernel is larger than the padded input"),
        (backward, {"grad": y[..., :5]}, "grad must have shape (1, 4, 5, 6), got (1, 4, 5, 5)"),
        (backward, {"before": y[:0]}, "before must have shape (1, 4, 5, 6), got (0, 4, 5, 6)"),
        (backward, {"activation": 4, "from_result": True}, "from_result needs relu or sigmoid"),
        (backward, {"needs": (True,) * 4}, "needs must have 5 entries, got 4"),
    ):
        with pytest.raises(RuntimeError, match=re.escape(message)):
            call(**arguments)


def test_an_infinite_pixel_stays_within_its_tiles() -> None:
    """What the docstring says of how far it reaches; and that it is not lost."""
    for accuracy, side, dilation in itertools.product(("exact", "relaxed"), (3, 5, 7), (1, 2)):
        options = {"accuracy": accuracy, "dilation": dilation, **CPU}
        x, weight = drawn(0, 1, 16, 36, 40).float(), drawn(1, 16, 16, side, side).float()
        clean, rows, columns = lkops.conv2d(x, weight, **options), torch.arange(36)[:, None], torch.arange(40)[None]
        for value, (row, column) in itertools.product((torch.inf, torch.nan), ((0, 0), (7, 9), (21, 17), (35, 39))):
            spoilt = x.clone()
            spoilt[0, 3, row, column] = value
            y = lkops.conv2d(spoilt, weight, **options)
            down, across = rows - row, columns - column
            distance = torch.maximum(down.abs(), across.abs())
            of_taps = (down % dilation == 0) & (across % dilation == 0) & (distance <= dilation * (side // 2))
            assert not y[..., of_taps].isfinite().any()
            assert torch.equal(y[..., distance > dilation * (side + 1)], clean[..., distance > dilation * (side + 1)])


@pytest.mark.parametrize(("activation", "scale"), [("relu", 0.5), ("sigmoid", -2.0)])
def test_backward_starts_from_the_result_where_it_can(activation, scale) -> None:
    """So that conv + bias is not stored; a result that is changed in between raises, as torch's own does."""
    x, weight = drawn(1, 2, 24, 9, 11).float().requires_grad_(), drawn(2, 20, 24, 3, 3, scale=0.1).float()
    y = lkops.conv2d(x, weight, activation=activation, residual_scale=scale, **CPU)
    expected = scale * ACTIVATIONS[activation](F.conv2d(x, weight, padding=1))
    (ours,), (right,) = (torch.autograd.grad(result.square().sum(), x) for result in (y, expected))
    torch.testing.assert_close(ours, right, rtol=0, atol=1e-5 * float(right.abs().max()))
    y = lkops.conv2d(x, weight, activation=activation, residual_scale=scale, **CPU)
    saved = [tensor for tensor in y.grad_fn.saved_tensors if tensor is not None]
    assert sum(tensor.numel() for tensor in saved) == x.numel() + weight.numel() + y.numel()
    with torch.no_grad():
        y.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
