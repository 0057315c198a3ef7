"""The limit of float32 where spectra are nearly parallel: the cosine is known to ROUNDINGS eps, and all that follows.

1 - cos of 1e-6 has hardly four bits in float32, whoever sums. There the project's tolerance, twice the error of eager
PyTorch, would be a matter of luck, since eager's own mean may come out right by chance; the limit holds for all.
"""

import math

import pytest
import torch
from torch import Tensor

import lkops
from tests.lkops.ops.harness import runs

ROUNDINGS = 4  # eps of 1 that a cosine may be off, for up to 200 bands: C++ kernels (spectral_losses_cpu_fwd) need 2
UNSURE = ROUNDINGS * torch.finfo(torch.float32).eps
CLAMP = 1e-6
RUNS = [(backend, device) for operator, backend, device, dtype in runs()
        if operator == "spectral_losses" and dtype is torch.float32]  # fmt: skip


def nearly_parallel(seed: int, largest: int, bands: int) -> tuple[Tensor, Tensor]:
    """Spectra of 1 - cos from 2e-7 to 1e-2, most about 1e-6, and norms that differ; in float32."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    bands, height, width = (int(torch.randint(2, most, (), generator=generator)) for most in (bands, largest, largest))
    target = draw(1, bands, height, width) + 0.1
    other = draw(1, bands, height, width) - 0.5
    other -= (other * target).sum(1, keepdim=True) / target.square().sum(1, keepdim=True) * target
    other *= target.norm(dim=1, keepdim=True) / other.norm(dim=1, keepdim=True)
    wide = draw(1, 1, height, width) < 0.2
    distance = torch.where(wide, 10 ** (-5 + 3 * draw(1, 1, height, width)), 2e-7 + 4e-6 * draw(1, 1, height, width))
    angle = (1 - distance).acos()
    prediction = (target * angle.cos() + other * angle.sin()) * (0.5 + draw(1, 1, height, width))
    return prediction.float(), target.float()


def losses_and_gradients(p: Tensor, t: Tensor, backend: str) -> tuple[list[float], list[list[Tensor]]]:
    """sam and cosine, and the gradients of either to both cubes."""
    p, t = p.clone().requires_grad_(), t.clone().requires_grad_()
    losses = lkops.spectral_losses(p, t, backend=backend)[1:3]
    gradients = [list(torch.autograd.grad(loss, (p, t), retain_graph=True)) for loss in losses]
    return [loss.item() for loss in losses], gradients


def check(seed: int, backend: str, device: str, largest: int) -> None:
    interpreted = backend == "triton" and device == "cpu"  # seconds a call
    p, t = nearly_parallel(seed, 6 if interpreted else largest, 40 if interpreted else 200)
    (sam, cosine), exact = losses_and_gradients(p.double(), t.double(), "reference")
    (our_sam, our_cosine), ours = losses_and_gradients(p.to(device), t.to(device), backend)
    distance = 1 - torch.nn.functional.cosine_similarity(p.double(), t.double(), dim=1, eps=0)
    eps = torch.finfo(torch.float32).eps
    assert abs(our_cosine - cosine) <= UNSURE + 4 * eps * cosine
    nearest = (distance - UNSURE).clamp(min=CLAMP)  # where the arc cosine is steepest, of all that this pixel may be
    steepness = (1 / (nearest * (2 - nearest)).sqrt()).mean().item()
    assert abs(our_sam - sam) <= UNSURE * steepness / math.pi + 4 * eps * sam

    sine_square = distance * (2 - distance)
    clear = (distance - CLAMP).abs() > UNSURE  # others are clamped, or not, as it happens
    for i, loss in enumerate(("sam", "cosine")):
        decided = clear if loss == "sam" else torch.ones_like(clear)
        for our, right in zip(ours[i], exact[i], strict=True):
            norms = right.norm(dim=1)
            # t - cos p is known to twice UNSURE, over a sine; the slope of the angle has another sine in it
            roundings = 2 * UNSURE / (sine_square.sqrt() if loss == "cosine" else sine_square - 2 * UNSURE)
            allowed = norms * roundings.clamp(min=0) + 4 * eps * norms.max()
            error = (our.cpu().double() - right).norm(dim=1)
            assert (error <= allowed)[decided].all(), (loss, ((error / allowed)[decided]).max().item())


@pytest.mark.parametrize(("backend", "device"), RUNS)
def test_the_limit(backend, device) -> None:
    for seed in range(2 if backend == "triton" else 20):
        check(seed, backend, device, 12)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("backend", "device"), RUNS)
def test_the_limit_over_many_problems(backend, device) -> None:
    for seed in range(1000, 1010 if backend == "triton" else 1500):
        check(seed, backend, device, 40)


def test_the_limit_would_notice() -> None:
    """It is not so wide that a cosine from bfloat16 sums would pass."""
    p, t = nearly_parallel(0, 12, 200)
    (sam, cosine), _ = losses_and_gradients(p.double(), t.double(), "reference")
    rough = torch.nn.functional.cosine_similarity(p.bfloat16(), t.bfloat16(), dim=1).float()
    assert abs((1 - rough).mean().item() - cosine) > 100 * UNSURE
    assert 3e-4 < sam < 0.02
