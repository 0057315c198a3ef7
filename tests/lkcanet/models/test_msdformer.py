"""MSDformer's own: deformable conv and both attentions by their formulas, what the public code never uses, strips."""

import math

import pytest
import torch
import torch.nn.functional as F

from lkcanet.deploy.rank import rank_report
from lkcanet.inference import strips, super_resolve
from lkcanet.models import Lacking, load_model, save_model
from lkcanet.models.msdformer import MSDformer
from lkcanet.models.msdformer_blocks import (
    DCTM,
    DeformableConv,
    DilatedConvs,
    MultiscaleSpectralAttention,
    SpectralSelfAttention,
)

from .comparators import woken


def interpolated(plane: torch.Tensor, row: float, column: float) -> float:
    """Bilinear, 0 outside of the image."""
    height, width = plane.shape
    top, left, value = math.floor(row), math.floor(column), 0.0
    for i in (top, top + 1):
        for j in (left, left + 1):
            if 0 <= i < height and 0 <= j < width:
                value += (1 - abs(row - i)) * (1 - abs(column - j)) * float(plane[i, j])
    return value


@pytest.mark.parametrize(("size", "moved"), [((3, 4), 0.5), ((4, 3), 4.0), ((1, 1), 1.0), ((1, 5), 2.0)])
def test_a_deformable_conv_is_the_papers_sum(size: tuple[int, int], moved: float) -> None:
    torch.manual_seed(0)
    layer, x = DeformableConv(3).double(), torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        layer.offsets.weight.normal_(std=0.1)
        layer.offsets.bias.normal_(std=moved)
    offsets = F.conv2d(x, layer.offsets.weight, layer.offsets.bias, padding=1).detach()
    expected = torch.zeros_like(x)
    for n in range(2):
        for i in range(size[0]):
            for j in range(size[1]):
                for tap in range(9):
                    row = i + tap // 3 - 1 + float(offsets[n, tap, i, j])
                    column = j + tap % 3 - 1 + float(offsets[n, 9 + tap, i, j])
                    values = torch.tensor([interpolated(plane, row, column) for plane in x[n]]).double()
                    expected[n, :, i, j] += layer.conv.weight[:, :, tap // 3, tap % 3].detach() @ values
    torch.testing.assert_close(layer(x), expected)
    assert expected.abs().max() > 1e-3


def test_a_fresh_deformable_conv_is_nearly_a_conv() -> None:
    torch.manual_seed(0)
    layer, x = DeformableConv(4), torch.randn(1, 4, 6, 7)
    plain = F.conv2d(x, layer.conv.weight, padding=1)
    assert 0 < (layer(x) - plain).abs().max() < 0.5 * plain.abs().max()
    with torch.no_grad():
        layer.offsets.bias.zero_()
    torch.testing.assert_close(layer(x), plain, rtol=1e-4, atol=1e-5)


def test_taps_far_from_the_border_are_found_in_half_precision() -> None:
    """Positions in bfloat16 would be off by whole pixels at column 400."""
    layer, x = DeformableConv(1).bfloat16(), torch.zeros(1, 1, 3, 500, dtype=torch.bfloat16)
    x[..., 1, 401] = 1
    with torch.no_grad():
        layer.offsets.bias.zero_()
        layer.conv.weight.zero_()
        layer.conv.weight[..., 1, 1] = 1
    torch.testing.assert_close(layer(x), x, rtol=0, atol=0.01)


def test_dilated_convs_share_one_slope() -> None:
    torch.manual_seed(0)
    layer, x = DilatedConvs(3, 5).double(), torch.randn(2, 3, 7, 4, dtype=torch.float64)
    with torch.no_grad():
        layer.slope.fill_(0.4)
    expected = sum(
        F.leaky_relu(F.conv2d(x, conv.weight, conv.bias, padding=d, dilation=d), 0.4)
        for conv, d in zip(layer.convs, (1, 3, 5), strict=True)
    )
    torch.testing.assert_close(layer(x), expected)
    layer(x).sum().backward()
    assert layer.slope.grad.shape == (1,)


def test_groups_share_what_sees_pixels_and_have_their_own_attention() -> None:
    torch.manual_seed(0)
    layer, x = MultiscaleSpectralAttention(7, 8, 4, 1, 0.1, 4).double(), torch.randn(1, 7, 3, 5, dtype=torch.float64)
    parts = [layer.own[g](layer.shared(x[:, start : start + 4])) for g, start in enumerate((0, 3))]
    middle = (parts[0][:, 3:] + parts[1][:, :1]) / 2
    mean = torch.cat((parts[0][:, :3], middle, parts[1][:, 1:]), 1)
    torch.testing.assert_close(layer(x), F.conv2d(mean, layer.tail.weight, layer.tail.bias))


@pytest.mark.parametrize("size", [(4, 6), (5, 3), (1, 1)])
def test_spectral_attention_mixes_channels_within_a_head(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    module, x = SpectralSelfAttention(6, 2).double(), torch.randn(1, 6, *size, dtype=torch.float64)
    with torch.no_grad():
        module.temperature.copy_(torch.tensor([3.0, 7.0]).view(2, 1, 1))
    query = module.query(x)[0].flatten(1)
    key, value = F.conv2d(x, module.key_value.weight)[0].flatten(1).chunk(2)
    mixed = torch.zeros_like(value)
    for head in range(2):
        own = range(3 * head, 3 * head + 3)
        for c in own:
            near = torch.stack([query[c] @ key[d] / (query[c].norm() * key[d].norm()) for d in own])
            weights = (near * module.temperature[head, 0, 0]).exp()
            mixed[c] = sum(w * value[d] for w, d in zip(weights / weights.sum(), own, strict=True))
    torch.testing.assert_close(module(x), F.conv2d(mixed.view(1, 6, *size), module.out.weight))


def test_a_block_is_as_documented() -> None:
    torch.manual_seed(0)
    block, x = DCTM(6, 2, 3).double(), torch.randn(2, 6, 4, 5, dtype=torch.float64)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))

    def norm(x: torch.Tensor, owner: torch.nn.Module) -> torch.Tensor:
        centred = x - x.mean(1, keepdim=True)
        normed = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
        return normed * owner.weight[:, None, None] + owner.bias[:, None, None]

    u = x + block.attention(norm(x, block.norm))
    hidden = F.gelu(F.conv2d(norm(u, block.expand.norm), block.expand.conv.weight, block.expand.conv.bias))
    torch.testing.assert_close(block(x), u + F.conv2d(hidden, block.reduce.weight, block.reduce.bias))
    assert block.expand.conv.out_channels == 18


def test_no_conv_follows_the_first_block() -> None:
    model, x = woken("msdformer", blocks=3), torch.rand(1, 6, 3, 4)
    features = model.head(x)
    y = model.body.blocks[0](features)
    for block, conv in zip(list(model.body.blocks)[1:], model.body.convs, strict=True):
        y = F.conv2d(block(y), conv.weight, conv.bias, padding=1)
    torch.testing.assert_close(model.body(features), features + y, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model(x), model.enlarged(model.body(features), x))


def test_what_the_public_code_never_uses_is_counted_and_nothing_else() -> None:
    with torch.device("meta"):
        lean, published = MSDformer(128), MSDformer(128, unused=True)
    assert published.parameter_count() - lean.parameter_count() == 518_640 + 4 * 57_600
    assert published.macs(16, 16) - lean.macs(16, 16) == 256 * 4 * 57_600
    model, x = woken("msdformer", unused=True), torch.rand(2, 6, 4, 4)
    assert not any(parameter.requires_grad for parameter in model.unused.parameters())
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2, weight_decay=0.5)
    before = [parameter.clone() for parameter in model.unused.parameters()]
    model(x).square().mean().backward()
    optimizer.step()
    assert all(torch.equal(old, new) for old, new in zip(before, model.unused.parameters(), strict=True))


def test_folding_drops_what_is_unused_and_changes_no_bit(tmp_path) -> None:
    model, x = woken("msdformer", unused=True), torch.rand(1, 6, 4, 5)
    model.head.requires_grad_(False)
    state = torch.get_rng_state()
    folded = model.fold()
    assert torch.equal(torch.get_rng_state(), state)
    assert folded.config == {**model.config, "unused": False}
    assert not any(key.startswith("unused") for key in folded.state_dict())
    assert torch.equal(folded(x), model(x))
    assert not folded.head.tail.weight.requires_grad
    save_model(model, tmp_path / "net.safetensors")
    loaded = load_model(tmp_path / "net.safetensors")
    assert torch.equal(loaded(x), model(x))
    assert list(loaded.state_dict()) == list(model.state_dict())


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_strips_are_those_of_the_whole_image(scale: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "STRIP_BYTES", 0)
    model = woken("msdformer", 6, scale).double()
    x = torch.rand(2, 6, 30, 4, dtype=torch.float64)
    with torch.no_grad():
        expected = model(x)
    told: list[str] = []
    result = super_resolve(model, x, progress=lambda _, what: told.append(what))
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-12 * float(expected.abs().max()))
    assert len(told) > 4


def test_the_rank_of_what_enlarges() -> None:
    report = rank_report(woken("msdformer", 6, 2), size=(5, 6))
    assert report.matrix == (32, 72)
    assert report.macs.upsampler == 30 * 32 * 72
    with pytest.raises(Lacking, match="msdformer has no upsampler: it enlarges in 3 steps of 2"):
        rank_report(woken("msdformer", 6, 8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"heads": 7}, "heads must divide the channels, 240; got 7"),
        ({"blocks": 0}, "blocks must be a whole number, 1 or more, got 0"),
        ({"mlp_ratio": 1.5}, r"mlp_ratio must be a whole number, 1 or more, got 1\.5"),
        ({"group": 9}, "group must be at most the bands of the image, 8; got 9"),
        ({"overlap": 8}, "overlap must be less than the bands of a group, 8; got 8"),
        ({"unused": 1}, "unused must be True or False, got 1"),
        ({"reduction": 7}, "reduction must divide the channels, 240; got 7"),
        ({"border": "wrap"}, "border must be 'symmetric' or 'replicate', got 'wrap'"),
    ],
)
def test_arguments_that_do_not_fit(arguments: dict, message: str) -> None:
    with torch.device("meta"), pytest.raises((ValueError, TypeError), match=message):
        MSDformer(**{"bands": 8, **arguments})
