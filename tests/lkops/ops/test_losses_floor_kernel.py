"""`floor` of `spectral_losses`: what it leaves out, that 0 leaves nothing out, and that its weights are constants."""

import math

import numpy as np
import pytest
import torch

import lkops
from lkops.testing import arguments, assert_as_good_as_eager, cast, operator, policy_of, run
from tests.lkops.ops.harness import case_of, runs

RUNS = [(backend, device, dtype) for operator, backend, device, dtype in runs() if operator == "spectral_losses"]
KERNELS = [run for run in RUNS if run[0] != "reference"]  # C++: spectral_losses_cpu_fwd and _bwd
MIXED = [(backend, device) for backend, device, dtype in KERNELS
         if dtype is torch.float32 and operator("spectral_losses").kernels[backend].mixes]  # fmt: skip
SHAPE = (2, 5, 4, 6)


def name_of(value: object) -> str:
    return str(value).removeprefix("torch.")


every_run = pytest.mark.parametrize(("backend", "device", "dtype"), RUNS, ids=name_of)


def cubes(dtype=torch.float64, device: str = "cpu", shape=SHAPE) -> dict[str, torch.Tensor]:
    """Pixels of a root mean square from 0.01 to 10."""
    tensors, _ = arguments("spectral_losses", case_of("", shape))
    levels = torch.logspace(-2, 1, shape[-1] * shape[-2], dtype=torch.float64).view(shape[2:])
    return {name: (tensor * levels).to(device, dtype) for name, tensor in tensors.items() if tensor is not None}


def by_hand(prediction: torch.Tensor, target: torch.Tensor, floor: float) -> tuple[float, float]:
    """sam and cosine, pixel by pixel in Python's floats."""
    n, c, h, w = prediction.shape
    sam = cosine = 0.0
    for k in range(n * h * w):
        p, t = (x.double().permute(0, 2, 3, 1).reshape(-1, c)[k].tolist() for x in (prediction, target))
        rms = math.sqrt(sum(b * b for b in t) / c)
        weight = max(0.0, 1 - (floor / rms) ** 2)
        cos = sum(a * b for a, b in zip(p, t, strict=True)) / (math.hypot(*p) * math.hypot(*t))
        sam += weight * math.acos(max(-1 + 1e-6, min(1 - 1e-6, cos))) / math.pi
        cosine += weight * (1 - cos)
    return sam / (n * h * w), cosine / (n * h * w)


@pytest.mark.parametrize("floor", [0.0, 0.1, 1.0, 100.0])
def test_the_formula(floor) -> None:
    x = cubes()
    losses = lkops.spectral_losses(**x, floor=floor)
    sam, cosine = by_hand(**x, floor=floor)
    assert losses.sam.item() == pytest.approx(sam, rel=1e-12)
    assert losses.cosine.item() == pytest.approx(cosine, rel=1e-12)
    assert (sam == 0) == (floor == 100)
    plain = lkops.spectral_losses(**x)
    assert losses.l1 == plain.l1
    assert losses.gradient == plain.gradient
    assert lkops.sam_loss(**x, floor=floor) == losses.sam
    assert lkops.cosine_loss(**x, floor=floor) == losses.cosine
    assert lkops.nn.SpectralLosses(floor)(*x.values()) == losses


@pytest.mark.parametrize("floor", [0.1, 1.0, 1e-25, 1e25])
@pytest.mark.parametrize(("backend", "device", "dtype"), KERNELS, ids=name_of)
def test_kernels_with_a_floor(backend, device, dtype, floor) -> None:
    """Values and both gradients; floors whose square a float32 does not hold."""
    x = cubes(dtype, device)
    exact = run("spectral_losses", cast(x, torch.float64), {"floor": floor}, "reference")
    eager = run("spectral_losses", x, {"floor": floor}, "reference")
    assert_as_good_as_eager(
        run("spectral_losses", x, {"floor": floor}, backend), eager, exact, policy_of(backend, device)
    )


@pytest.mark.parametrize("halves", [("prediction",), ("target",)])
@pytest.mark.parametrize(("backend", "device"), MIXED)
def test_the_floor_is_the_targets_where_dtypes_differ(backend, device, halves) -> None:
    x = cubes(torch.float32, device)
    x = {name: tensor.to(torch.bfloat16) if name in halves else 3 * tensor for name, tensor in x.items()}
    exact = run("spectral_losses", cast(x, torch.float64), {"floor": 0.7}, "reference")
    eager = run("spectral_losses", x, {"floor": 0.7}, "reference")
    assert_as_good_as_eager(
        run("spectral_losses", x, {"floor": 0.7}, backend), eager, exact, policy_of(backend, device)
    )


@every_run
def test_without_a_floor_the_bits_are_those_of_no_weights(backend, device, dtype) -> None:
    """Those of floor = 0, and of a floor so far below that every weight rounds to 1."""
    x = cubes(dtype, device)
    plain = run("spectral_losses", x, {}, backend)
    for floor in (0.0, 0, 1e-9):
        for what, value in run("spectral_losses", x, {"floor": floor}, backend).items():
            assert torch.equal(value, plain[what]), what


@every_run
def test_pixels_below_the_floor_have_no_part_in_the_angle(backend, device, dtype) -> None:
    x = {name: tensor.requires_grad_() for name, tensor in cubes(dtype, device).items()}
    dark = x["target"].double().square().mean(1, keepdim=True).sqrt() <= 0.5
    assert 10 < int(dark.sum()) < dark.numel() - 10
    losses = lkops.spectral_losses(**x, floor=0.5, backend=backend)
    (losses.sam + losses.cosine).backward()
    for tensor in x.values():
        assert tensor.grad is not None
        changed = tensor.grad.abs().amax(1, keepdim=True) > 0
        assert torch.equal(changed, ~dark)


def test_weights_are_constants_for_both_gradients() -> None:
    """As of a loss that multiplies each pixel with a number."""
    x = {name: tensor.requires_grad_() for name, tensor in cubes().items()}
    weight = (1 - 0.25 / x["target"].detach().square().mean(1)).clamp(min=0)
    angle = torch.nn.functional.cosine_similarity(*x.values(), dim=1).clamp(-1 + 1e-6, 1 - 1e-6)
    by_weight = (weight * angle.acos()).mean() / math.pi
    expected = torch.autograd.grad(by_weight, list(x.values()))
    got = torch.autograd.grad(lkops.sam_loss(**x, floor=0.5), list(x.values()))
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_gradient_of_the_prediction_is_true_with_a_floor() -> None:
    x = cubes(shape=(1, 4, 2, 3))
    prediction = x["prediction"].requires_grad_()
    assert torch.autograd.gradcheck(lambda p: lkops.spectral_losses(p, x["target"], floor=0.3)[1:3], prediction)


@pytest.mark.parametrize("floor", [np.float32(0.25), np.float64(0.25), 1, np.int64(1)])
def test_numbers_that_a_floor_may_be(floor) -> None:
    x = cubes(torch.float32)
    assert lkops.sam_loss(**x, floor=floor) == lkops.sam_loss(**x, floor=float(floor))


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize(
    "floor", [-1.0, -1e-30, math.nan, math.inf, "0.1", None, True, np.True_, 1j, torch.tensor(0.1), [0.1]], ids=str
)
def test_what_is_no_floor_is_named(floor, grad) -> None:
    x = {name: tensor.requires_grad_(grad) for name, tensor in cubes(torch.float32).items()}
    for loss in (lkops.spectral_losses, lkops.sam_loss, lkops.cosine_loss):
        with pytest.raises((TypeError, ValueError), match=r"floor must be a finite number, 0 or more, got "):
            loss(**x, floor=floor)
    with pytest.raises((TypeError, ValueError), match=r"floor must be a finite number, 0 or more, got "):
        lkops.nn.SpectralLosses(floor)


def test_an_empty_batch_with_a_floor() -> None:
    x = torch.zeros(0, 3, 4, 4, requires_grad=True)
    losses = lkops.spectral_losses(x, x.detach(), floor=0.1)
    assert [loss.item() for loss in losses] == [0, 0, 0, 0]


def test_compiles_whole_with_a_floor() -> None:
    x = cubes(torch.float32)
    module = lkops.nn.SpectralLosses(0.3)

    def total(p: torch.Tensor, t: torch.Tensor, floor: float) -> torch.Tensor:
        return sum(module(p, t)) + lkops.sam_loss(p, t, floor=floor)  # type: ignore[return-value]

    compiled = torch.compile(total, fullgraph=True, backend="aot_eager")
    for floor in (0.2, 0.7, 0.9):
        results = []
        for function in (total, compiled):
            p = x["prediction"].clone().requires_grad_()
            loss = function(p, x["target"], floor)
            loss.backward()
            results.append((loss.detach(), p.grad))
        torch.testing.assert_close(results[1], results[0])
