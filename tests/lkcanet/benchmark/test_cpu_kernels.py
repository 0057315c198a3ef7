"""The whole network on the C++ kernels: the same training, and the same image, as on the references."""

import pytest
import torch
from torch import Tensor

import lkops
from lkcanet.data import demo_scene
from lkcanet.data.degrade import bicubic_downsample
from lkcanet.models import LKCANet
from lkcanet.objectives.losses import h_loss
from lkops._core.extension import extension_error

pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")
if extension_error("_C_cpu"):
    pytest.skip(extension_error("_C_cpu"), allow_module_level=True)

BANDS, SCALE, PATCH, STEPS = 8, 2, 16, 50


@pytest.fixture(scope="module")
def batches() -> list[tuple[Tensor, Tensor]]:
    """Low-resolution patches of the demo scene and their originals."""
    pixels = torch.as_tensor(demo_scene((96, 96), BANDS, seed=3).pixels)
    generator, side, made = torch.Generator().manual_seed(0), PATCH * SCALE, []
    for _ in range(STEPS):
        corners = torch.randint(0, 96 - side, (2, 2), generator=generator).tolist()
        target = torch.stack([pixels[:, top : top + side, left : left + side] for top, left in corners])
        made.append((bicubic_downsample(target, SCALE), target))
    return made


def network(dtype: torch.dtype = torch.float32) -> LKCANet:
    torch.manual_seed(0)
    return LKCANet(BANDS, SCALE, 16, 2, 4, reduction=8, drop_path=0.0).to(dtype)


def losses(batches: list[tuple[Tensor, Tensor]], backend: str, dtype: torch.dtype = torch.float32) -> Tensor:
    """Of each of the first steps of a training, which all begin alike."""
    model, values = network(dtype).train(), []
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)
    for low, target in batches:
        optimiser.zero_grad()
        with lkops.backend(backend):
            loss = h_loss(model(low.to(dtype)), target.to(dtype)).total
        loss.backward()
        optimiser.step()
        values.append(loss.detach().double())
    return torch.stack(values)


def test_fifty_steps_of_training_agree_with_the_references(batches) -> None:
    """Within the noise of float32, which is how far the references in float32 are from those in float64."""
    exact = losses(batches, "reference", torch.float64)
    noise = (losses(batches, "reference") - exact).abs().cummax(0).values
    ours = (losses(batches, "cpu") - exact).abs()
    assert exact[-1] < 0.9 * exact[0], "it learns"
    assert (ours <= 4 * noise + 1e-6 * exact).all(), f"{(ours / exact).max():.1e}, noise {(noise / exact).max():.1e}"


@pytest.mark.parametrize("autocast", [False, True])
def test_the_whole_network(batches, autocast: bool) -> None:
    model = network().eval()
    with torch.no_grad():
        for parameter in model.parameters():  # the fresh network returns the bicubic image
            parameter.add_(0.05 * torch.randn_like(parameter))
    low = batches[0][0]
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        ours = model(low)
        with lkops.backend("reference"):
            right = model(low)
    assert not torch.equal(right, lkops.bicubic_upsample(low, scale=SCALE))
    tolerance = 2e-2 if autocast else 1e-5
    assert (ours - right).abs().max() <= tolerance * right.abs().max()
