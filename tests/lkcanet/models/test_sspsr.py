"""SSPSR's own: groups of bands, the mean where they overlap, and the one branch that they share."""

import json

import pytest
import torch
import torch.nn.functional as F

import lkops
from lkcanet.deploy.rank import rank_report
from lkcanet.models import Lacking, comparator_blocks
from lkcanet.models.comparator_blocks import BandGroups, SpectralResidual, Upsampling
from lkcanet.models.sspsr import SSPN, SSPSR

from .comparators import woken


def test_groups_of_bands() -> None:
    assert [(group.start, group.stop) for group in BandGroups(12, 5, 2).slices] == [(0, 5), (3, 8), (6, 11), (7, 12)]
    assert [len(BandGroups(bands, 8, 2)) for bands in (128, 48, 102, 8, 9)] == [21, 8, 17, 1, 2]
    assert len(BandGroups(6, 2, 0)) == 3


@pytest.mark.parametrize(("bands", "size", "overlap"), [(12, 5, 2), (7, 7, 3), (8, 5, 4), (6, 2, 0)])
def test_the_mean_of_groups(bands: int, size: int, overlap: int) -> None:
    """Band b of group g holds 10 g + b: more than two groups overlap in the second and third case."""
    groups = BandGroups(bands, size, overlap)
    image = torch.arange(bands, dtype=torch.float64).view(1, bands, 1, 1).expand(2, bands, 3, 1)
    parts = [image[:, group] + 10 * g for g, group in enumerate(groups.slices)]
    mean = groups.mean(iter(parts))
    for b in range(bands):
        held = [g for g, group in enumerate(groups.slices) if group.start <= b < group.stop]
        torch.testing.assert_close(mean[:, b], image[:, b] + 10 * sum(held) / len(held))
    torch.testing.assert_close(groups.mean(groups.each(image, lambda x: x)), image)


@pytest.mark.parametrize("at_once", [1, 2, 3, 100])
def test_how_many_groups_go_through_the_branch_at_once_makes_no_difference(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = woken("sspsr", 11).double(), torch.rand(2, 11, 4, 3, dtype=torch.float64)
    expected, seen = model(x), []
    monkeypatch.setattr(comparator_blocks, "PIXELS", at_once * 2 * 4 * 3 + 1)
    model.branch.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    torch.testing.assert_close(model(x), expected)
    assert seen == {1: [2] * 4, 2: [4, 4], 3: [6, 2], 100: [8]}[at_once]


def test_the_network_is_the_papers_formula() -> None:
    """A branch, the mean of the groups, the trunk, and the bicubic image before the last conv; here by single calls."""
    model, x = woken("sspsr", 7, 8).double(), torch.rand(1, 7, 3, 4, dtype=torch.float64)
    total, count = torch.zeros(1, 7, 12, 16, dtype=torch.float64), torch.zeros(7, 1, 1, dtype=torch.float64)
    for start in (0, 3):
        total[:, start : start + 4] += model.branch[1](model.branch[0](x[:, start : start + 4]))
        count[start : start + 4] += 1
    sum_ = model.trunk(total / count) + F.conv2d(
        lkops.bicubic_upsample(x, scale=8), model.skip.weight, model.skip.bias, padding=1
    )
    torch.testing.assert_close(model(x), F.conv2d(sum_, model.tail.weight, model.tail.bias, padding=1))


def test_the_prior_network_and_its_blocks() -> None:
    torch.manual_seed(0)
    prior, x = SSPN(5, 8, 2, 2, 0.3, 4).double(), torch.randn(2, 5, 4, 3, dtype=torch.float64)
    features = first = F.conv2d(x, prior.head.weight, prior.head.bias, padding=1)
    for block in prior.blocks:
        for part, padding in ((block.spatial, 1), (block.spectral, 0)):
            y = F.conv2d(features, part.first.weight, part.first.bias, padding=padding).clamp_min(0)
            y = F.conv2d(y, part.second.weight, part.second.bias, padding=padding)
            if padding == 0:
                gate = part.attention
                hidden = F.conv2d(y.mean((2, 3), keepdim=True), gate.reduce.weight, gate.reduce.bias).clamp_min(0)
                y = y * F.conv2d(hidden, gate.expand.weight, gate.expand.bias).sigmoid()
            features = features + 0.3 * y
    up = prior.upsample[0].conv
    expected = F.pixel_shuffle(F.conv2d(features + first, up.weight, up.bias, padding=1), 2)
    torch.testing.assert_close(prior(x), expected)
    assert SpectralResidual(8, 0.3, 4).macs(12) == 12 * (2 * 64 + 8) + 2 * 16


def test_upsampling_doubles_as_often_as_is_asked() -> None:
    x = torch.rand(1, 4, 3, 2)
    assert torch.equal(Upsampling(4, 1)(x), x)
    assert Upsampling(4, 8)(x).shape == (1, 4, 24, 16)
    assert Upsampling(4, 4).macs(6) == 6 * 5 * 9 * 4 * 16


def test_the_bicubic_image_is_of_the_kind_that_is_asked_for() -> None:
    model = woken("sspsr", cubic_a=-0.75, border="replicate")
    x = torch.rand(1, 6, 5, 4)
    torch.testing.assert_close(model.bicubic(x), lkops.bicubic_upsample(x, scale=2, cubic_a=-0.75, border="replicate"))
    other = SSPSR(**{**model.config, "cubic_a": -0.5, "border": "symmetric"}).eval()
    other.load_state_dict(model.state_dict())
    assert (model(x) - other(x)).abs().max() > 1e-3


def test_the_config_is_json_whatever_kind_of_number_is_given() -> None:
    import numpy as np

    with torch.device("meta"):
        model = SSPSR(np.int64(9), np.int64(4), np.int32(32), np.int8(1), group=np.int64(4), overlap=np.int64(1))
    assert json.loads(json.dumps(model.config)) == SSPSR(9, 4, 32, 1, group=4, overlap=1).config


def test_the_rank_of_what_enlarges() -> None:
    model = woken("sspsr", 6, 2)
    report = rank_report(model, size=(5, 6))
    assert report.matrix == (32, 72)
    assert report.macs.upsampler == 30 * 32 * 72
    with pytest.raises(Lacking, match="sspsr has no upsampler: it enlarges groups of bands, then all of them"):
        rank_report(woken("sspsr", 6, 4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"group": 9}, "group must be at most the bands of the image, 8; got 9"),
        ({"group": 0}, "group must be a whole number, 1 or more, got 0"),
        ({"overlap": 8}, "overlap must be less than the bands of a group, 8; got 8"),
        ({"overlap": -1}, "overlap must be a whole number, 0 or more, got -1"),
        ({"bands": 10**9}, "group and overlap must make 4096 groups of the bands or fewer, got 166666667"),
        ({"blocks": -1}, "blocks must be a whole number, 0 or more, got -1"),
        ({"reduction": 7}, "reduction must divide the channels, 256; got 7"),
        ({"residual_scale": float("inf")}, "residual_scale must be a finite number, got inf"),
        ({"cubic_a": float("nan")}, "cubic_a must be a finite number, got nan"),
        ({"border": "wrap"}, "border must be 'symmetric' or 'replicate', got 'wrap'"),
    ],
)
def test_arguments_that_do_not_fit(arguments: dict, message: str) -> None:
    with torch.device("meta"), pytest.raises((ValueError, TypeError), match=message):
        SSPSR(**{"bands": 8, **arguments})
