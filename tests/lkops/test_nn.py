"""The modules call their functions with their own parameters."""

import copy

import pytest
import torch
from torch import nn

import lkops


def random_parameters(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


X = torch.randn(2, 16, 9, 10, generator=torch.Generator().manual_seed(1))
MODULES = {
    "DepthwiseConv2d": lambda: lkops.nn.DepthwiseConv2d(16, 5, dilation=2),
    "Conv2d": lambda: lkops.nn.Conv2d(16, 12, 3, dilation=2, activation="prelu", residual_scale=0.5),
    "ChannelAttention": lambda: lkops.nn.ChannelAttention(16, reduction=4),
    "LargeKernelChannelAttention": lambda: lkops.nn.LargeKernelChannelAttention(16, reduction=4),
    "NormConv1x1GELU": lambda: lkops.nn.NormConv1x1GELU(16, 12),
    "LKBlock": lambda: lkops.nn.LKBlock(16, reduction=4),
    "BicubicUpsample": lambda: lkops.nn.BicubicUpsample(2, cubic_a=-0.75, border="replicate"),
    "UpsampleAdd": lambda: lkops.nn.UpsampleAdd(16, 3, 2),
}


@pytest.mark.parametrize("name", MODULES)
def test_every_parameter_counts_and_state_dicts_round_trip(name) -> None:
    module = random_parameters(MODULES[name]())
    x = X.clone().requires_grad_()
    y = module(x)
    y.square().sum().backward()
    assert x.grad is not None
    for key, parameter in module.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().max() > 0, key
    fresh = MODULES[name]()
    fresh.load_state_dict(module.state_dict())
    assert torch.equal(fresh(X), y)
    assert torch.equal(copy.deepcopy(module)(X), y)


def test_depthwise_is_an_ordinary_conv() -> None:
    module = lkops.nn.DepthwiseConv2d(16, 5, dilation=2)
    torch.testing.assert_close(module(X), nn.Conv2d.forward(module, X))


@pytest.mark.parametrize(
    "options",
    [{}, {"padding": 1, "stride": (2, 1)}, {"padding": "valid", "dilation": 2}, {"groups": 4, "bias": False}],
    ids=str,
)
def test_conv_is_an_ordinary_conv_with_an_activation_and_a_residual(options) -> None:
    module = random_parameters(lkops.nn.Conv2d(16, 12, 3, **options))
    plain = nn.Conv2d(16, 12, 3, **{"padding": 1, **options})
    plain.load_state_dict(module.state_dict())
    expected = plain(X)
    torch.testing.assert_close(module(X), expected, rtol=1e-4, atol=1e-4)
    fused = lkops.nn.Conv2d(16, 12, 3, **options, activation="leaky_relu", slope=0.3, residual_scale=0.5)
    fused.load_state_dict(plain.state_dict())
    added = torch.rand_like(expected)
    right = added + 0.5 * nn.functional.leaky_relu(expected, 0.3)
    torch.testing.assert_close(fused(X, added), right, rtol=1e-4, atol=1e-4)


def test_conv_of_another_accuracy_or_kernel() -> None:
    exact, relaxed = (lkops.nn.Conv2d(16, 16, (3, 3), accuracy=accuracy) for accuracy in ("exact", "relaxed"))
    relaxed.load_state_dict(exact.state_dict())
    assert not torch.equal(exact(X), relaxed(X))
    torch.testing.assert_close(exact(X), relaxed(X), rtol=0, atol=1e-4)
    strided = lkops.nn.Conv2d(16, 4, (3, 5), stride=(2, 3))  # "same" with a stride, which torch's own refuses
    assert strided(X).shape == (2, 4, 5, 4)
    assert "activation=None, accuracy='exact'" in repr(strided)


def test_attention_and_block_are_their_functions() -> None:
    module = random_parameters(lkops.nn.LargeKernelChannelAttention(16, dilations=(2, 3), interleave=True))
    convs = (module.dw1, module.dw2, module.attention.reduce, module.attention.expand, module.mix)
    parameters = [p for conv in convs for p in (conv.weight, conv.bias)]
    expected = lkops.large_kernel_channel_attention(X, *parameters, dilations=(2, 3), interleave=True)
    assert torch.equal(module(X), expected)
    block = random_parameters(lkops.nn.LKBlock(16, eps=0.1))
    u = lkops.norm_conv1x1_gelu(
        X,
        block.projection.norm.weight,
        block.projection.norm.bias,
        block.projection.conv.weight,
        block.projection.conv.bias,
        eps=0.1,
    )
    torch.testing.assert_close(block(X), X + block.out(block.attention(u)))


def test_block_drops_whole_samples_in_training_only() -> None:
    block = random_parameters(lkops.nn.LKBlock(16, drop_path=0.5))
    x = torch.randn(40, 16, 3, 3)
    branch = block.eval()(x) - x
    torch.manual_seed(0)
    got = block.train()(x) - x
    kept = got.flatten(1).abs().amax(1) > 0
    assert 5 < int(kept.sum()) < 35
    torch.testing.assert_close(got[kept], 2 * branch[kept], rtol=1e-3, atol=1e-4)


def test_upsample_add_with_and_without_the_image() -> None:
    module = random_parameters(lkops.nn.UpsampleAdd(16, 3, 2, groups=4))
    lowres = torch.rand(2, 3, 9, 10)
    with_image, without = module(X, lowres), module(X)
    torch.testing.assert_close(with_image - without, lkops.bicubic_upsample(lowres, scale=2), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(without, nn.functional.pixel_shuffle(module.conv(X), 2))


def test_losses_module() -> None:
    losses = lkops.nn.SpectralLosses()(X, X.flip(0))
    assert losses == lkops.spectral_losses(X, X.flip(0))
    assert losses._fields == ("l1", "sam", "cosine", "gradient")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lkops.nn.DepthwiseConv2d(4, 4), "kernel_size must be odd, got 4"),
        (lambda: lkops.nn.DepthwiseConv2d(4, 3, dilation=0), "dilation must be a whole number, 1 or more, got 0"),
        (lambda: lkops.nn.LKBlock(16, dilations=(5,)), r"dilations must be two whole numbers, got \(5,\)"),
        (lambda: lkops.nn.LKBlock(16, kernel_sizes=(5, 7, 9)), r"kernel_sizes must be two whole numbers, got \(5, 7"),
        (lambda: lkops.nn.LKBlock(0), "channels must be a whole number, 1 or more, got 0"),
        (lambda: lkops.nn.LKBlock(16, eps=0), "eps must be a number above 0, got 0"),
        (lambda: lkops.nn.ChannelAttention(10, reduction=4), "reduction must divide the channels, 10; got 4"),
        (lambda: lkops.nn.LargeKernelChannelAttention(16, groups=3), "groups must divide the channels, 16; got 3"),
        (lambda: lkops.nn.LKBlock(16, drop_path=1), r"drop_path must be in \[0, 1\), got 1"),
        (lambda: lkops.nn.BicubicUpsample(0), "scale must be a whole number, 1 or more, got 0"),
        (lambda: lkops.nn.Conv2d(16, 6, 3, groups=4), "groups must divide out_channels, 6; got 4"),
        (lambda: lkops.nn.Conv2d(16, 6, 4), "padding must be numbers or 'valid' for an even kernel, got 4 x 4"),
        (lambda: lkops.nn.Conv2d(16, 6, 3, accuracy="best"), "accuracy must be 'exact' or 'relaxed', got 'best'"),
        (lambda: lkops.nn.UpsampleAdd(16, 3, 2, groups=8), r"groups must divide bands \* scale\^2, 12; got 8"),
    ],
)
def test_arguments_that_do_not_fit(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()
