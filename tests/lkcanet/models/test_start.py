"""Weights of one network for another."""

import pytest
import torch

from lkcanet.models import LKCANet, LKCARes, start_from


def net(seed: int, bands: int = 6, scale: int = 2, **options: object) -> LKCANet:
    torch.manual_seed(seed)
    model = LKCANet(bands, scale, 16, 2, reduction=8, drop_path=0.0, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize("normalised", [(True, True), (True, False), (False, True), (False, False)])
def test_an_equal_network_becomes_the_source(normalised) -> None:
    source, model = (net(seed, weight_norm=flag) for seed, flag in enumerate(normalised))
    before, x = {key: value.clone() for key, value in source.state_dict().items()}, torch.rand(1, 6, 9, 8)
    assert (model(x) - source(x)).abs().max() > 0.01
    start = start_from(model, source)
    assert start.complete
    torch.testing.assert_close(model(x), source(x), rtol=1e-5, atol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in source.state_dict().items())
    assert {name.rpartition(".")[0] for name in start.taken} >= {"head", "blocks.0.out", "upsample.conv"}
    assert all(parameter.is_leaf and parameter.requires_grad for parameter in model.parameters())


def test_of_other_bands_and_scale_what_fits_is_taken() -> None:
    source, model = net(0), net(1, bands=4, scale=3)
    head = model.head.weight.detach().clone()
    start = start_from(model, source)
    assert not start.complete
    assert set(start.left) == {"head.weight", "upsample.conv.weight", "upsample.conv.bias"}
    assert torch.equal(model.head.weight, head)
    assert torch.equal(model.head.bias, source.head.bias)
    assert torch.equal(model.blocks[1].out.bias, source.blocks[1].out.bias)
    torch.testing.assert_close(model.blocks[1].out.weight, source.blocks[1].out.weight)


def test_filters_of_zeros_keep_their_direction() -> None:
    source = LKCANet(6, 2, 16, 2, reduction=8, weight_norm=False)  # its upsampler is zero
    model, x = net(1), torch.rand(1, 6, 8, 8)
    start_from(model, source)
    assert model(x).isfinite().all()
    torch.testing.assert_close(model(x), source.eval()(x))
    model(x).sum().backward()
    assert model.upsample.conv.get_parameter("parametrizations.weight.original0").grad.abs().max() > 0


def test_nothing_that_fits_is_an_error() -> None:
    model = LKCANet(6, 2, 16, 1, reduction=8)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"none of the \d+ parameters of this network \(lkcanet\)"):
        start_from(model, LKCARes(5, 3, 8, 0))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
