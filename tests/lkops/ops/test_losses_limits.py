"""What `spectral_losses` says of its limits, in numbers: which norm is too small to have a direction, how near to 1 a
cosine comes, what keeps the slope of a square root finite."""

import math

import pytest
import torch

import lkops
from tests.lkops.ops.harness import runs

BACKENDS = [(b, d, dtype) for op, b, d, dtype in runs() if op == "spectral_losses" and dtype is torch.float32]
every_backend = pytest.mark.parametrize(("backend", "device", "dtype"), BACKENDS)
# norms of a spectrum; those below 1e-6 have no direction
COUNT = [1.05e-6, 2e-6, 1e-5, 5e-5, 9.9e-5, 2e-4, 1e-3, 0.1, 1.0, 1e4, 1e12]
TOO_SMALL = [0.0, 1e-12, 1e-8, 5e-7, 0.95e-6]


def cube(*spectra: list[float], device: str = "cpu") -> torch.Tensor:
    """One row of pixels, (1, C, 1, W)."""
    return torch.tensor(spectra, dtype=torch.float64).T[None, :, None].to(device, torch.float32)


@every_backend
@pytest.mark.parametrize("small_one", ["prediction", "target", "both"])
def test_the_smallest_norm_with_a_direction(backend, device, dtype, small_one) -> None:
    """Spectra (3, 4) and (4, 3) have the cosine 24/25, at every scale that counts."""
    for norm in (*COUNT, *TOO_SMALL):
        a = norm if small_one != "target" else 1.0
        b = norm if small_one != "prediction" else 1.0
        prediction = cube([3 * a / 5, 4 * a / 5], device=device).requires_grad_()
        target = cube([4 * b / 5, 3 * b / 5], device=device).requires_grad_()
        losses = lkops.spectral_losses(prediction, target, backend=backend)
        counts = norm in COUNT
        assert losses.cosine.item() == pytest.approx(1 - 24 / 25 if counts else 1.0, rel=1e-4), norm
        assert losses.sam.item() == pytest.approx(math.acos(24 / 25) / math.pi if counts else 0.5, rel=1e-4), norm
        (losses.cosine + losses.sam).backward()
        for grad, own in ((prediction.grad, a), (target.grad, b)):
            if not counts:
                assert not grad.any(), norm
                continue
            # d cos / dp = (t/|t| - cos p/|p|) / |p|, of length sin / |p|; d acos = -d cos / sin
            sine = 7 / 25
            assert grad.norm().item() == pytest.approx((sine + 1 / math.pi) / own, rel=1e-3), norm


@every_backend
def test_many_pixels_of_which_some_have_no_direction(backend, device, dtype) -> None:
    """Neighbours in a vector do not share their fate."""
    norms = [*COUNT[:8], *TOO_SMALL] * 3
    spectra = [[3 * norm / 5, 4 * norm / 5] for norm in norms]
    losses = lkops.spectral_losses(
        cube(*spectra, device=device), cube(*[[4.0, 3.0]] * len(norms), device=device), backend=backend
    )
    expected = sum(1 / 25 if norm in COUNT else 1.0 for norm in norms) / len(norms)
    assert losses.cosine.item() == pytest.approx(expected, rel=1e-5)


@every_backend
def test_the_clamp_of_the_angle(backend, device, dtype) -> None:
    x = torch.rand(1, 5, 3, 4, generator=torch.Generator().manual_seed(0)).to(device) + 0.5
    edge = math.acos(1 - 1e-6) / math.pi
    for sign, expected in ((1, edge), (-1, 1 - edge)):
        prediction = x.clone().requires_grad_()
        sam = lkops.sam_loss(prediction, sign * x, backend=backend)
        assert sam.item() == pytest.approx(expected, abs=5e-6)  # in float32, 17 numbers lie between the bound and 1
        sam.backward()
        assert prediction.grad.isfinite().all()


@every_backend
def test_the_floor_of_the_gradient(backend, device, dtype) -> None:
    """|g(p) - g(0)| of a step d along one axis is sqrt(d^2 + 1e-6) - 1e-3."""
    for step in (0.0, 1e-4, 1e-3, 3e-3, 0.1, 10.0):
        for axis in (1, 2, 3):
            prediction = torch.zeros(1, 2, 2, 2, device=device)
            prediction.select(axis, 1).fill_(step)
            loss = lkops.gradient_loss(prediction, torch.zeros_like(prediction), backend=backend)
            assert loss.item() == pytest.approx(math.sqrt(step**2 + 1e-6) - 1e-3, rel=1e-4, abs=1e-9), (step, axis)
