"""LKCA-Res: what it computes, its size, and what the other parts of the package ask of it."""

import pytest
import torch
from torch import nn

import lkops
from lkcanet.inference import strips, super_resolve
from lkcanet.models import LKCANet, LKCARes, load_model, save_model
from lkcanet.models.capabilities import reach_of, residual_image_of, upsampler_of


def small(**options: object) -> LKCARes:
    torch.manual_seed(0)
    model = LKCARes(5, 2, 16, 2, **{"reduction": 8, "residual_blocks": 1, **options})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def plain(model: LKCARes, x: torch.Tensor) -> torch.Tensor:
    """The network's formula in PyTorch's own convs; LKB is `lkops.nn.LKBlock`, which has tests of its own."""

    def conv(module: nn.Conv2d, value: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(value, module.weight, module.bias, padding=1)

    first = y = conv(model.head, x)
    for group in model.body.groups:
        *residual, block = group
        for part in residual:
            y = y + conv(part.second, conv(part.first, y).relu())
        y = block(y)
    added = nn.functional.pixel_shuffle(conv(model.upsample.conv, first + y), model.scale)
    return added + lkops.bicubic_upsample(x, scale=model.scale)


@pytest.mark.parametrize("residual_blocks", [0, 1, 3])
def test_the_network_is_its_formula(residual_blocks: int) -> None:
    model = small(residual_blocks=residual_blocks).double()
    x = torch.rand(2, 5, 9, 7, dtype=torch.float64)
    torch.testing.assert_close(model(x), plain(model, x))
    assert (model(x) - lkops.bicubic_upsample(x, scale=2)).abs().max() > 0.05
    gradients = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    expected = torch.autograd.grad(plain(model, x).square().sum(), list(model.parameters()))
    for gradient, other in zip(gradients, expected, strict=True):
        assert gradient.abs().max() > 0
        torch.testing.assert_close(gradient, other)


def test_a_fresh_network_is_bicubic_and_every_parameter_but_the_upsampler_s_waits() -> None:
    model, x = LKCARes(5, 3, 16, 1, reduction=8), torch.rand(1, 5, 6, 6)
    torch.testing.assert_close(model(x), lkops.bicubic_upsample(x, scale=3))


def test_it_is_no_larger_than_lkca_net() -> None:
    for bands, scale in ((31, 4), (31, 8), (128, 4)):
        with torch.device("meta"):
            ours, theirs = LKCARes(bands, scale), LKCANet(bands, scale)
        assert ours.parameter_count() < theirs.parameter_count()
        assert ours.macs(16, 16) < theirs.macs(16, 16)


def test_macs_are_those_that_fvcore_counts() -> None:
    pytest.importorskip("fvcore.nn", reason="fvcore is not installed")
    from fvcore.nn import FlopCountAnalysis

    model = LKCARes(6, 2, 16, 2, reduction=8, residual_blocks=2)
    block = LKCANet(6, 2, 16, 2, reduction=8, weight_norm=False, dilations=(1, 3))
    with_blocks = block.macs(5, 4) - 5 * 4 * (9 * 6 * 16 + 9 * 16 * 6 * 4)
    convs = nn.Sequential(*(m for m in model.modules() if type(m) is nn.Conv2d or isinstance(m, lkops.nn.Conv2d)))
    assert convs
    residual = nn.Sequential(*(nn.Conv2d(16, 16, 3, padding=1) for _ in range(8)))
    counted = FlopCountAnalysis(residual, torch.zeros(1, 16, 5, 4)).total()
    assert model.macs(5, 4) == with_blocks + counted + 5 * 4 * (9 * 6 * 16 + 9 * 16 * 6 * 4)


def test_it_is_saved_with_its_arguments(tmp_path) -> None:
    model = small(upsample_groups=4, dilations=(2, 1)).eval()
    save_model(model, tmp_path / "net.safetensors")
    again, x = load_model(tmp_path / "net.safetensors"), torch.rand(1, 5, 8, 8)
    assert isinstance(again, LKCARes)
    assert again.config == model.config
    assert torch.equal(again(x), model(x))
    assert torch.equal(model.fold()(x), model(x))


def test_strips_agree_with_the_whole_and_the_residual_with_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "STRIP_BYTES", 0)
    model, x = small().eval(), torch.rand(1, 5, 40, 12)
    with torch.no_grad():
        added, whole = residual_image_of(model)(x)
        torch.testing.assert_close(model(x), whole)
    told: list[str] = []
    image = super_resolve(model, x, progress=lambda _, what: told.append(what))
    assert len(told) > 4
    torch.testing.assert_close(image, whole, rtol=0, atol=2e-6)
    torch.testing.assert_close(added + lkops.bicubic_upsample(x, scale=2), whole)
    assert upsampler_of(model).weight.shape == (5 * 4, 16, 3, 3)
    assert reach_of(model) == 1 + 2 * (2 + 2 + 9) + 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": -1}, "blocks must be"),
        ({"residual_blocks": 1.5}, "residual_blocks must be"),
        ({"upsample_groups": 3}, "upsample_groups must divide channels, 16; got 3"),
        ({"border": "wrap"}, "border"),
    ],
)
def test_values_out_of_range(options, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        LKCARes(5, 2, 16, **{"blocks": 1, **options})


def test_an_image_of_other_bands_is_refused() -> None:
    with pytest.raises(ValueError, match=r"x must be \(N, 5, H, W\)"):
        small()(torch.zeros(1, 4, 8, 8))
