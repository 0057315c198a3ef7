"""ESSAformer's own: attention without its map, the encoder, the turns, dropout."""

import pytest
import torch
import torch.nn.functional as F

from lkcanet.deploy.rank import rank_report
from lkcanet.models import Lacking
from lkcanet.models.capabilities import head_of
from lkcanet.models.comparator_blocks import Upsampling
from lkcanet.models.essaformer import ESSA, Downsampling, Encoder, ESSAformer

from .comparators import woken


@pytest.mark.parametrize("pixels", [1, 2, 11])
def test_attention_is_that_of_all_pairs_of_pixels(pixels: int) -> None:
    """The correlation of every pair, its squares channel by channel, by the formula, one pixel after the other."""
    torch.manual_seed(0)
    layer, x = ESSA(5).double(), torch.randn(2, pixels, 5, dtype=torch.float64)
    query, key, value = (x @ layer.qkv.weight.T + layer.qkv.bias).split(5, -1)
    for n in range(2):
        shares = []
        for spectra in (query[n], key[n]):
            centred = torch.stack([spectrum - spectrum.sum() / 5 for spectrum in spectra])
            shares.append(torch.stack([t**2 / ((t**2).sum() + 1e-7) for t in centred]))
        rows = []
        for i in range(pixels):
            likeness = torch.zeros(pixels, dtype=torch.float64)
            for j in range(pixels):
                for c in range(5):
                    ours = shares[0][i, c] / (shares[0][i] ** 2).sum().sqrt()
                    theirs = shares[1][j, c] / (shares[1][:, c] ** 2).sum().sqrt()
                    likeness[j] += ours * theirs
            rows.append(value[n, i] + likeness @ value[n] / pixels**0.5)
        expected = torch.stack(rows) @ layer.out.weight.T + layer.out.bias
        torch.testing.assert_close(layer(x)[n], expected)
    assert layer(x).std() > 0.01


def test_attention_sees_every_pixel_and_no_other_image() -> None:
    torch.manual_seed(0)
    layer, x = ESSA(8).double(), torch.randn(2, 30, 8, dtype=torch.float64)
    moved = x.clone()
    moved[0, 29] += 1
    change = (layer(moved) - layer(x)).abs().amax(-1)
    assert (change[0] > 0).all()
    assert (change[1] == 0).all()


def test_spectra_without_variance_are_no_trouble() -> None:
    layer = ESSA(8)
    x = torch.zeros(1, 6, 8, requires_grad=True)
    with torch.no_grad():
        layer.qkv.bias.fill_(0.5)
    y = layer(x)
    y.sum().backward()
    assert y.isfinite().all()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_an_encoder_is_as_documented() -> None:
    torch.manual_seed(0)
    layer, x = Encoder(6, 0.2).double().eval(), torch.randn(2, 6, 4, 3, dtype=torch.float64)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    centred = x - x.mean(1, keepdim=True)
    normed = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
    normed = normed * layer.norm.weight[:, None, None] + layer.norm.bias[:, None, None]
    attended = layer.attention(normed.flatten(2).transpose(1, 2)).transpose(1, 2).view(2, 6, 4, 3)
    y = torch.cat((attended, x), 1)
    for conv, padding in ((layer.first, 0), (layer.second, 1)):
        y = F.leaky_relu(F.conv2d(y, conv.weight, conv.bias, padding=padding), 0.2)
    torch.testing.assert_close(layer(x), x + F.conv2d(y, layer.third.weight, layer.third.bias))


def test_the_way_down_is_that_of_pixel_unshuffle() -> None:
    torch.manual_seed(0)
    down, x = Downsampling(8, 4), torch.rand(2, 8, 8, 12)
    expected = x
    for conv in down.convs:
        expected = F.pixel_unshuffle(F.conv2d(expected, conv.weight, conv.bias, padding=1), 2)
    torch.testing.assert_close(down(x), expected)
    assert down(x).shape == (2, 8, 2, 3)
    assert down(Upsampling(8, 4)(x[..., :3, :1])).shape == (2, 8, 3, 1)
    assert down.macs(96) == (96 + 24) * 9 * 8 * 2


def test_the_turns_between_both_resolutions() -> None:
    model, x = woken("essaformer", 6, 4), torch.rand(1, 6, 3, 4)
    first = model.head(x)
    large_1 = model.large(model.up(first))
    second = model.small(model.down(large_1) + first)
    large_2 = model.large(model.up(second) + large_1)
    third = model.small(model.down(large_2) + second)
    torch.testing.assert_close(model(x), model.tail(model.large(model.up(third) + large_2)))


def test_dropout_is_of_training_alone() -> None:
    model, x = woken("essaformer", dropout=0.5), torch.rand(1, 6, 4, 4)
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))
    without = woken("essaformer", dropout=0.0)
    torch.testing.assert_close(without.train()(x), model.eval()(x))


def test_its_head_sees_the_bands_and_what_enlarges_has_no_rank_of_its_own() -> None:
    model = woken("essaformer")
    assert head_of(model) is model.head
    with pytest.raises(Lacking, match="essaformer has no upsampler: what enlarges runs in turns with the way back"):
        rank_report(model)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 6}, "channels must be a multiple of 4, .*, got 6"),
        ({"dropout": 1}, r"dropout must be less than 1, got 1\.0"),
        ({"dropout": -0.1}, r"dropout must be a finite number, 0 or more, got -0\.1"),
        ({"dropout": "x"}, "dropout must be a finite number, 0 or more, got 'x'"),
    ],
)
def test_arguments_that_do_not_fit(arguments: dict, message: str) -> None:
    with torch.device("meta"), pytest.raises((ValueError, TypeError), match=message):
        ESSAformer(8, **arguments)
