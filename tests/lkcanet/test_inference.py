"""Inference: the network's own output on the whole image, with the scene's facts and the network's state kept."""

import numpy as np
import pytest
import torch

from lkcanet.data.scenes import Scene
from lkcanet.inference import super_resolve
from lkcanet.models import LKCANet


@pytest.fixture
def model() -> LKCANet:
    torch.manual_seed(0)
    network = LKCANet(4, 2, 16, 2, 1, reduction=8, drop_path=0.9)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def test_it_is_the_networks_output_in_eval_mode(model: LKCANet) -> None:
    x = torch.rand(2, 4, 9, 7)
    expected = model.eval()(x).detach()
    keys = list(model.state_dict())
    model.train()
    result = super_resolve(model, x)
    assert torch.equal(result, expected)
    assert (model(x) - expected).abs().max() > 1e-3  # drop path acts in training mode
    assert model.training
    assert list(model.state_dict()) == keys  # not folded itself
    assert torch.equal(super_resolve(model, x[0]), super_resolve(model, x[:1])[0])
    assert not result.is_inference()
    assert not result.requires_grad


def test_mixed_modes_of_the_parts_are_kept(model: LKCANet) -> None:
    model.train()
    model.blocks[0].eval()
    super_resolve(model, torch.rand(1, 4, 5, 5))
    assert (model.training, model.blocks[0].training, model.blocks[1].training) == (True, False, True)


def test_a_scene_keeps_its_facts(model: LKCANet) -> None:
    pixels = np.random.default_rng(0).random((4, 6, 5), np.float32)
    scene = Scene(pixels, 4095.0, np.array([450.0, 550, 650, 750]), "field", "field.mat")
    result = super_resolve(model, scene)
    assert result.pixels.shape == (4, 12, 10)
    assert (result.peak, result.name, result.source) == (4095.0, "field", "field.mat")
    assert result.wavelengths is not None
    assert result.wavelengths.tolist() == [450, 550, 650, 750]
    assert np.array_equal(result.pixels, super_resolve(model, pixels))
    assert np.array_equal(result.pixels, super_resolve(model, torch.tensor(pixels)).numpy())


def test_dtype_of_the_image_is_kept(model: LKCANet) -> None:
    x = torch.rand(1, 4, 5, 5)
    for dtype in (torch.float64, torch.bfloat16):
        result = super_resolve(model, x.to(dtype))
        assert result.dtype is dtype
        torch.testing.assert_close(result.float(), super_resolve(model, x), rtol=2e-2, atol=2e-2)


def test_images_that_do_not_fit(model: LKCANet) -> None:
    with pytest.raises(ValueError, match="the network takes 4 bands, the image has 5"):
        super_resolve(model, torch.rand(1, 5, 6, 6))
    with pytest.raises(ValueError, match="holds NaN or infinite"):
        super_resolve(model, torch.full((4, 6, 6), float("nan")))
    with pytest.raises(ValueError, match="with pixels"):
        super_resolve(model, torch.rand(4, 0, 6))
    with pytest.raises(ValueError, match="got shape"):
        super_resolve(model, torch.rand(6, 6))
    with pytest.raises(TypeError, match="must be floating, got uint16"):
        super_resolve(model, np.zeros((4, 6, 6), np.uint16))
    with pytest.raises(TypeError, match=r"must be floating, got torch\.int64"):
        super_resolve(model, torch.zeros(4, 6, 6, dtype=torch.int64))
    with pytest.raises(TypeError, match="a Scene, a tensor or an array, got list"):
        super_resolve(model, [1.0])
