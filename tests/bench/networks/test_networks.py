"""Networks of the benchmark against what is published of them, and their special parts against other ways to compute
the same."""

import pytest
import torch
import torch.nn.functional as F

from bench.networks import NETWORKS
from bench.networks.essaformer import ESSA
from bench.networks.msdformer import DeformableConv
from bench.networks.parts import Upsampler, band_groups
from bench.networks.span import Conv3XC

# thousands of parameters: EDSR and RCAN as BasicSR lists their x4 models, SPAN from its paper and NTIRE 2024's report
# (in evaluation form), the hyperspectral ones from LKCA-Net's table of Chikusei x4
PUBLISHED = {
    "EDSR-baseline x4": 1518,
    "RCAN x4": 15592,
    "SPAN x4, 48 channels": 426,
    "SPAN x4, 28 channels": 151,
    "SSPSR x4": 13564,
    "ESSAformer x4": 11641,
    "MSDformer x4": 15527,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters(name) -> None:
    with torch.device("meta"):
        model = NETWORKS[name].make(False)
    if name.startswith("SPAN"):  # what its evaluation form is made of
        merged = [each.merged for each in model.modules() if isinstance(each, Conv3XC)]
        parameters = [*(p for conv in merged for p in conv.parameters())]
        parameters += [p for part in (model.conv_cat, model.upsample) for p in part.parameters()]
    else:
        parameters = [p for p in model.parameters() if p.requires_grad]
    assert round(sum(p.numel() for p in parameters) / 1e3) == PUBLISHED[name]


@pytest.mark.parametrize("name", NETWORKS)
def test_shape_and_gradients(name) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]
    model, images = network.make(True), network.images(tiny=True)
    scale = 2 if " x2" in name else 4
    image = images[0].requires_grad_()
    result = model.train()(image, *images[1:])
    n, bands, h, w = image.shape
    assert result.shape == (n, bands, scale * h, scale * w)
    result.square().mean().backward()
    assert image.grad.abs().max() > 0
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert parameter.grad.abs().max() > 0, key
    with torch.no_grad():
        first, again = (model.eval()(*images) for _ in range(2))
    assert torch.equal(first, again)
    assert first.std() > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_sizes_in_use_fit_the_model(name) -> None:
    network = NETWORKS[name]
    with torch.device("meta"):
        result = network.make(False).eval()(*network.images())
    assert result.shape[2] == network.shapes[0][2] * (2 if " x2" in name else 4)


@pytest.mark.parametrize("name", ["SPAN x4, 48 channels", "SPAN x4, 28 channels"])
def test_span_has_one_result_in_both_forms(name) -> None:
    torch.manual_seed(0)
    model = NETWORKS[name].make(True).double()
    image = torch.rand(1, 3, 7, 9, dtype=torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        trained, evaluated = model.train()(image), model.eval()(image)
    torch.testing.assert_close(evaluated, trained, rtol=1e-9, atol=1e-9)


def test_a_deformable_conv_takes_its_taps_where_it_is_told() -> None:
    torch.manual_seed(0)
    layer = DeformableConv(4).double()
    x = torch.randn(2, 4, 7, 9, dtype=torch.float64)
    weight = layer.conv.weight
    torch.testing.assert_close(layer(x), F.conv2d(x, weight, padding=1))
    with torch.no_grad():  # all taps one row down and two columns to the left
        layer.offsets.bias[:9], layer.offsets.bias[9:] = 1, -2
    moved = F.pad(x, (3, 0, 0, 2))[..., :, : 9 + 2]
    torch.testing.assert_close(layer(x), F.conv2d(moved, weight)[..., :7, :9])
    with torch.no_grad():  # the tap in the first row and second column alone, half a pixel down
        layer.offsets.bias.zero_()
        layer.offsets.bias[1] = 0.5
    between = 0.5 * (F.pad(x, (0, 0, 1, 0))[..., :7, :] + x)
    plain = F.conv2d(x, weight, padding=1)
    expected = plain + F.conv2d(between - F.pad(x, (0, 0, 1, 0))[..., :7, :], weight[:, :, :1, 1:2])
    torch.testing.assert_close(layer(x), expected)


def test_linear_attention_is_that_of_all_pairs() -> None:
    torch.manual_seed(0)
    layer, x = ESSA(6).double(), torch.randn(2, 11, 6, dtype=torch.float64)
    q, k, v = layer.qkv(x).split(6, dim=-1)
    q, k = q - q.mean(-1, keepdim=True), k - k.mean(-1, keepdim=True)
    q, k = (t**2 / (t**2).sum(-1, keepdim=True) for t in (q, k))
    pairs = torch.einsum("npc,nqc->npq", q / q.norm(dim=-1, keepdim=True), k / k.norm(dim=1, keepdim=True)) / 11**0.5
    torch.testing.assert_close(layer(x), layer.proj(v + pairs @ v), rtol=1e-5, atol=1e-5)


def test_groups_of_bands() -> None:
    assert [(group.start, group.stop) for group in band_groups(12, 5, 2)] == [(0, 5), (3, 8), (6, 11), (7, 12)]
    assert len(band_groups(128, 8, 2)) == 21
    with pytest.raises(ValueError, match="size and overlap must be 0 <= overlap < size <= 4 bands, got 8 and 2"):
        band_groups(4, 8, 2)
    with pytest.raises(ValueError, match="scale must be a power of two, got 3"):
        Upsampler(3, 8)
