"""The C++ kernels of conv2d: what the contract's small problems do not reach."""

import copy
import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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


def problem(seed: int, inputs: int, outputs: int, h: int, w: int, kind: str) -> tuple[Tensor, Tensor]:
    x, weight = drawn(seed, 1, inputs, h, w), drawn(seed + 1, outputs, inputs, 3, 3, scale=(9 * inputs) ** -0.5)
    return {"normal": x, "relu": x.relu(), "positive": x.abs()}[kind], weight


def results(x: Tensor, weight: Tensor, function) -> dict[str, Tensor]:
    """The result of a conv and its gradients, for a gradient of the result that is one of normal numbers."""
    leaves = x.clone().requires_grad_(), weight.clone().requires_grad_()
    y = function(*leaves)
    grads = torch.autograd.grad(y, leaves, drawn(99, *y.shape).to(y.dtype))
    return {"y": y.detach(), "gradient of x": grads[0], "gradient of weight": grads[1]}


def check(x: Tensor, weight: Tensor, dtype: torch.dtype) -> None:
    def eager(x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, padding=1)

    x, weight = x.to(dtype), weight.to(dtype)
    right, theirs = results(x.double(), weight.double(), eager), results(x, weight, eager)
    ours = results(x, weight, lambda x, weight: lkops.conv2d(x, weight, **CPU))
    assert_as_good_as_eager(ours, theirs, right, policy_of("cpu"))
    relaxed = results(x, weight, lambda x, weight: lkops.conv2d(x, weight, accuracy="relaxed", **CPU))
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
    ours, eager = lkops.conv2d(x, weight, accuracy="relaxed", **CPU), F.conv2d(x, weight, padding=1)
    with pytest.raises(WrongResult):
        assert_as_good_as_eager(ours, eager, F.conv2d(x.double(), weight.double(), padding=1))


def module_of(weight: Tensor) -> lkops.nn.Conv2d:
    conv = lkops.nn.Conv2d(weight.shape[1], weight.shape[0], 3, bias=False)
    conv.load_state_dict({"weight": weight})
    return conv.requires_grad_(False)


def changes(conv: torch.nn.Module) -> Iterator[str]:
    """Changes a conv's weight in one way after the other."""
    weight = conv.weight
    yield "nothing"
    weight.data[3, 2, 1, 0] += 1  # no version counter sees it
    yield "data"
    conv.load_state_dict({"weight": torch.randn_like(weight)})
    yield "load_state_dict"
    with torch.no_grad():
        weight.mul_(2)
    yield "in place"
    weight.data = torch.randn_like(weight)  # perhaps where the old one was
    yield "other memory"
    weight.detach().numpy()[0] = 0
    yield "numpy"
    weight.data[-1, -1, -1, -1] = 5  # the last value of all
    yield "the last value"
    optimizer = torch.optim.SGD([weight], lr=0.1)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    yield "a step"


@pytest.mark.parametrize("accuracy", ["exact", "relaxed"])
@pytest.mark.parametrize("channels", [2, 16, 160])
def test_the_result_follows_every_change_of_the_weight(channels, accuracy) -> None:
    """Also of one that takes several pieces to compare, and of one for the direct algorithm."""
    conv = lkops.nn.Conv2d(channels, max(channels, 4), 3, bias=False, accuracy=accuracy)
    x = drawn(0, 1, channels, 9, 10).float()
    if channels == 2:
        conv = lkops.nn.Conv2d(3, 4, 3, bias=False)
        x = drawn(0, 1, 3, 9, 10).float()
    with lkops.backend("cpu"):
        for change in changes(conv):
            for _ in range(2):
                with torch.no_grad():
                    ours, exact = conv(x), F.conv2d(x.double(), conv.weight.double(), padding=1)
                assert (ours.double() - exact).abs().max() < RELAXED * exact.abs().max(), change


def test_weights_of_other_forms_at_one_address() -> None:
    """The same numbers as another weight, of other sizes, groups or accuracy, one after the other and again."""
    memory, x = drawn(0, 96 * 48 * 9).float(), drawn(1, 1, 48, 12, 13).float()
    calls = [
        (memory.view(96, 48, 3, 3), {}),
        (memory.view(48, 96, 3, 3)[:, :48], {}),  # a copy of it is made
        (memory.view(192, 24, 3, 3), {"groups": 2}),
        (memory.view(96, 48, 3, 3), {"accuracy": "relaxed"}),
        (memory.view(864, 48, 1, 1), {}),
        (memory.view(288, 48, 3, 1), {"padding": (1, 0)}),
        (memory.view(288, 48, 1, 3), {"padding": (0, 1)}),
        (memory.view(96, 48, 3, 3), {"dilation": 2}),
    ]
    for _ in range(2):
        for weight, options in calls:
            ours = lkops.conv2d(x, weight, **options, **CPU)
            right = lkops.conv2d(x.double(), weight.double(), **options, backend="reference")
            assert (ours.double() - right).abs().max() <= RELAXED * right.abs().max(), (weight.shape, options)


def test_threads_that_change_and_use_weights_at_once() -> None:
    def work(seed: int) -> float:
        conv, x = module_of(drawn(seed, 16, 16, 3, 3).float()), drawn(seed + 50, 1, 16, 8, 9).float()
        worst = 0.0
        for change in range(30):
            conv.weight.data.fill_(1.0 + change)
            right = F.conv2d(x.double(), conv.weight.double(), padding=1)
            ours = lkops.conv2d(x, conv.weight, **CPU)
            worst = max(worst, float((ours.double() - right).abs().max() / right.abs().max()))
        return worst

    with ThreadPoolExecutor(4) as pool:
        assert max(pool.map(work, range(8))) < RELAXED


def test_what_is_kept_is_in_no_state_dict_and_no_pickle() -> None:
    conv = lkops.nn.Conv2d(16, 16, 3)
    before, keys = len(pickle.dumps(conv)), set(vars(conv))
    with torch.no_grad(), lkops.backend("cpu"):
        y = conv(torch.ones(1, 16, 8, 8))
        assert len(pickle.dumps(conv)) == before
        assert set(vars(conv)) == keys
        for again in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))):
            assert torch.equal(again(torch.ones(1, 16, 8, 8)), y)
    assert set(conv.state_dict()) == {"weight", "bias"}
    plain = torch.nn.Conv2d(16, 16, 3, padding=1)
    plain.load_state_dict(conv.state_dict())
    conv.load_state_dict(plain.state_dict())


# megabytes that a process holds more after it has used 200 weights of 2 MiB, which lie one over another
KEPT = """
    import torch, lkops

    def held():
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) >> 10

    memory, count = torch.rand(240 * 240 * 9 + 200 * 16), 240 * 240 * 9
    x = torch.rand(1, 240, 4, 4)
    lkops.conv2d(x, memory[:count].view(240, 240, 3, 3), accuracy="relaxed", backend="cpu")
    before = held()
    for i in range(1, 200):
        weight = memory[16 * i : 16 * i + count].view(240, 240, 3, 3)
        lkops.conv2d(x, weight, accuracy="relaxed", backend="cpu")
        if i == 20:
            few = held() - before
    print(few, held() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_what_is_kept_is_bounded() -> None:
    """Each takes 2 MiB, and 8 as packed: 2 GB in all."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KEPT)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    few, all_of_them = map(int, done.stdout.split())
    assert 100 < few < all_of_them <= 512 + 50, done.stdout


@pytest.mark.parametrize(
    ("shape", "outputs", "options"),
    [
        ((2, 40, 50, 67), 70, {}),
        ((1, 96, 16, 16), 96, {}),
        ((1, 96, 16, 16), 96, {"accuracy": "relaxed"}),
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


def test_an_infinite_pixel_stays_within_its_tiles() -> None:
    """What the docstring says of how far it reaches; and that it is not lost."""
    for accuracy in ("exact", "relaxed"):
        for value in (torch.inf, torch.nan):
            x, weight = drawn(0, 1, 16, 24, 28).float(), drawn(1, 16, 16, 3, 3).float()
            clean = lkops.conv2d(x, weight, accuracy=accuracy, **CPU)
            for row, column in ((0, 0), (7, 9), (11, 14), (23, 27)):
                spoilt = x.clone()
                spoilt[0, 3, row, column] = value
                y = lkops.conv2d(spoilt, weight, accuracy=accuracy, **CPU)
                rows, columns = torch.arange(24)[:, None], torch.arange(28)[None]
                distance = torch.maximum((rows - row).abs(), (columns - column).abs())
                assert not y[..., distance <= 1].isfinite().any()
                assert torch.equal(y[..., distance > 4], clean[..., distance > 4])
