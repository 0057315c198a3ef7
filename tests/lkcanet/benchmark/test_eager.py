"""What lkops is measured against computes the same."""

import pytest
import torch

import lkops
import lkops.nn
from lkcanet.benchmark import eager
from lkcanet.models import LKCANet

TORCH_BICUBIC = {"cubic_a": -0.75, "border": "replicate"}


def woken(**options) -> LKCANet:
    torch.manual_seed(0)
    model = LKCANet(6, 2, 16, 2, 2, reduction=8, **options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("bicubic", [{}, TORCH_BICUBIC], ids=["matlab", "torch"])
def test_the_eager_network_is_the_network(bicubic) -> None:
    model, x = woken(**bicubic).fold(), torch.rand(2, 6, 9, 11)
    torch.testing.assert_close(eager.Network(model)(x), model(x), rtol=1e-4, atol=1e-5)
    assert (model(x) - lkops.bicubic_upsample(x, scale=2, **bicubic)).abs().max() > 0.01
    with pytest.raises(ValueError, match="must be torch's or MATLAB's"):
        eager.bicubic_upsample(x, scale=2, cubic_a=-0.75)


def test_the_eager_network_must_be_folded() -> None:
    with pytest.raises(ValueError, match="model must be folded"):
        eager.Network(woken())


def test_eager_losses_are_the_losses() -> None:
    a, b = torch.rand(2, 5, 6, 7, dtype=torch.float64), torch.rand(2, 5, 6, 7, dtype=torch.float64)
    for ours, theirs in zip(lkops.spectral_losses(a, b), eager.spectral_losses(a, b), strict=True):
        torch.testing.assert_close(theirs, ours)


@pytest.mark.parametrize("option", [{"dilations": (2, 3)}, {"interleave": True}, {"eps": 1e-5}])
def test_a_network_that_these_functions_do_not_compute_is_refused(option):
    model = LKCANet(8, 4, 16, 1, **option).fold()
    with pytest.raises(ValueError, match=next(iter(option))):
        eager.Network(model)
