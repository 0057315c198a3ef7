"""The C++ kernels of conv2d: what the contract's small problems do not reach."""

import pickle

import pytest
import torch
import torch.nn.functional as F

import lkops
from lkops._extension import extension_error
from tests.lkops.harness import assert_as_good_as_eager

if extension_error("_C_cpu"):
    pytest.skip(extension_error("_C_cpu"), allow_module_level=True)

CPU = {"backend": "cpu"}


def drawn(seed: int, *shape: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem(seed: int, inputs: int, outputs: int, h: int, w: int, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    x, weight = drawn(seed, 1, inputs, h, w), drawn(seed + 1, outputs, inputs, 3, 3, scale=(9 * inputs) ** -0.5)
    return {"normal": x, "relu": x.relu(), "positive": x.abs()}[kind], weight


def check(x: torch.Tensor, weight: torch.Tensor, dtype: torch.dtype) -> None:
    x, weight = x.to(dtype), weight.to(dtype)
    exact, eager = F.conv2d(x.double(), weight.double(), padding=1), F.conv2d(x, weight, padding=1)
    assert_as_good_as_eager("exact", lkops.conv2d(x, weight, **CPU), eager, exact)
    if dtype is torch.float32:
        relaxed = lkops.conv2d(x, weight, accuracy="relaxed", **CPU)
        assert (relaxed.double() - exact).abs().max() <= 1e-5 * exact.abs().max()


KINDS = ("normal", "relu", "positive")
DTYPES = (torch.float32, torch.bfloat16)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("inputs", [16, 33, 130, 260])
def test_accuracy(inputs, dtype) -> None:
    for seed, kind in enumerate(KINDS):
        check(*problem(2 * seed, inputs, 20, 12, 21, kind), dtype)


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("inputs", [12, 32, 64, 128, 256, 512, 1024])
def test_accuracy_of_hundreds_of_problems(inputs, dtype) -> None:
    for seed in range(60):
        check(*problem(2 * seed, inputs, 24, 12, 20, KINDS[seed % 3]), dtype)


def test_the_result_follows_every_change_of_the_weight() -> None:
    conv = lkops.nn.Conv2d(16, 16, 3, bias=False)
    x = drawn(0, 1, 16, 9, 10).float()
    other = {"weight": torch.randn_like(conv.weight)}

    def changes():
        yield "nothing"
        conv.weight.data[3, 2, 1, 0] += 1  # no version counter sees it
        yield "data"
        conv.load_state_dict(other)
        yield "load_state_dict"
        with torch.no_grad():
            conv.weight.mul_(2)
        yield "in place"
        conv.weight.data = torch.randn_like(conv.weight)  # perhaps where the old one was
        yield "other memory"
        conv.weight.detach().numpy()[0] = 0
        yield "numpy"

    with torch.no_grad(), lkops.backend("cpu"):
        for change in changes():
            for _ in range(2):
                exact = F.conv2d(x.double(), conv.weight.double(), padding=1)
                assert (conv(x).double() - exact).abs().max() < 1e-5 * exact.abs().max(), change


def test_what_is_kept_is_in_no_state_dict_and_no_pickle() -> None:
    conv = lkops.nn.Conv2d(16, 16, 3)
    before = len(pickle.dumps(conv))
    with torch.no_grad(), lkops.backend("cpu"):
        conv(torch.zeros(1, 16, 8, 8))
    assert len(pickle.dumps(conv)) == before
    plain = torch.nn.Conv2d(16, 16, 3, padding=1)
    plain.load_state_dict(conv.state_dict())
    conv.load_state_dict(plain.state_dict())


def test_blocks_splits_and_threads_change_no_bit() -> None:
    threads = torch.get_num_threads()
    try:
        for shape, outputs in (((2, 40, 50, 67), 70), ((1, 96, 16, 16), 96), ((1, 3, 65, 130), 20)):
            x = drawn(1, *shape).float().requires_grad_()
            weight = drawn(2, outputs, shape[1], 3, 3, scale=0.1).float().requires_grad_()
            results = []
            for count in (1, 2, 5):
                torch.set_num_threads(count)
                y = lkops.conv2d(x, weight, activation="gelu", **CPU)
                results.append((y.detach(), *torch.autograd.grad(y.square().sum(), (x, weight))))
            for other in results[1:]:
                assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True)), shape
            assert_as_good_as_eager(
                "y",
                results[0][0],
                F.gelu(F.conv2d(x, weight, padding=1)).detach(),
                F.gelu(F.conv2d(x.double(), weight.double(), padding=1)).detach(),
            )
    finally:
        torch.set_num_threads(threads)


def test_a_prelu_of_one_slope() -> None:
    x, weight = drawn(0, 1, 8, 6, 7).float(), drawn(1, 8, 8, 3, 3, scale=0.1).float()
    slope = torch.tensor([0.3], requires_grad=True)
    y = lkops.conv2d(x, weight, activation="prelu", prelu_weight=slope, **CPU)
    expected = F.prelu(F.conv2d(x, weight, padding=1), slope)
    torch.testing.assert_close(y, expected)
    (ours,), (theirs,) = torch.autograd.grad(y.sum(), slope), torch.autograd.grad(expected.sum(), slope)
    torch.testing.assert_close(ours, theirs)
