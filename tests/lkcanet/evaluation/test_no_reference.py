"""Scores without a reference: against plain loops, and what they must and must not see."""

import math
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch

from lkcanet.data import bicubic_downsample, bicubic_upsample, gaussian_downsample, scene_from_array
from lkcanet.evaluation import consistency, score_no_reference, spectral_distortion
from lkcanet.evaluation.metrics import mpsnr, rmse, sam
from lkcanet.models import LKCANet

RNG = np.random.default_rng(5)
SCALE = 2
LOW = torch.from_numpy(RNG.random((1, 4, 16, 24)))
HIGH = bicubic_upsample(LOW, SCALE) + 0.02 * torch.from_numpy(RNG.standard_normal((1, 4, 32, 48)))


def quality(a: np.ndarray, b: np.ndarray) -> float:
    """Wang and Bovik's index of two blocks, as they write it."""
    ma, mb = a.mean(), b.mean()
    cov = ((a - ma) * (b - mb)).mean()
    return float(4 * cov * ma * mb / ((a.var() + b.var()) * (ma**2 + mb**2)))


def by_loops(y: np.ndarray, x: np.ndarray, block: int) -> float:
    def mean_quality(cube: np.ndarray, side: int, i: int, j: int) -> float:
        rows, columns = (length // side for length in cube.shape[1:])
        return float(np.mean([
            quality(*(cube[k, r * side : (r + 1) * side, c * side : (c + 1) * side] for k in (i, j)))
            for r in range(rows) for c in range(columns)
        ]))  # fmt: skip

    scale, pairs = y.shape[1] // x.shape[1], list(permutations(range(len(x)), 2))
    apart = [abs(mean_quality(y, block * scale, i, j) - mean_quality(x, block, i, j)) for i, j in pairs]
    return sum(apart) / len(pairs)


@pytest.mark.parametrize("block", [4, 5, 8])
def test_spectral_distortion_is_alparones_formula(block: int) -> None:
    expected = by_loops(HIGH[0].numpy(), LOW[0].numpy(), block)
    assert expected > 0.001
    assert spectral_distortion(HIGH, LOW, block=block) == pytest.approx(expected, rel=1e-9)
    both = spectral_distortion(torch.cat([HIGH, LOW.repeat_interleave(2, 2).repeat_interleave(2, 3)]),
                               torch.cat([LOW, LOW]), block=block)  # fmt: skip
    assert both == pytest.approx(expected / 2, rel=1e-9)  # pixels repeated have the same statistics


def test_spectral_distortion_sees_mixed_bands_and_no_common_error() -> None:
    low = LOW.clone()
    low[:, 1] = 0.9 * low[:, 0] + 0.1 * low[:, 1]  # a pair of bands that belong together
    high = bicubic_upsample(low, SCALE)
    own = spectral_distortion(high, low)
    assert spectral_distortion(2 * high, low) == pytest.approx(own, rel=1e-9)
    assert spectral_distortion(high.roll(1, 1), low) > 5 * own


def test_constant_bands_are_no_distortion() -> None:
    flat = torch.full((1, 3, 16, 16), 0.1, dtype=torch.float64)
    assert spectral_distortion(flat.repeat(1, 1, 2, 2), flat) == 0
    zero = torch.zeros(1, 2, 16, 16)
    assert spectral_distortion(zero.repeat(1, 1, 2, 2), zero) == 0


def test_only_blocks_of_valid_pixels_count() -> None:
    valid = torch.ones(16, 24, dtype=torch.bool)
    valid[3, 20] = False
    y, x = HIGH.clone(), LOW.clone()
    y[..., 6:8, 40:42] = math.nan
    x[..., 3, 20] = math.nan
    rest = by_loops(HIGH[0, :, :, :32].numpy(), LOW[0, :, :, :16].numpy(), 8)
    below = spectral_distortion(y[..., :, :32], x[..., :, :16])
    assert below == pytest.approx(rest, rel=1e-9)
    valid[:8] = False
    assert spectral_distortion(y, x, valid=valid) == pytest.approx(
        spectral_distortion(HIGH[..., 16:, :], LOW[..., 8:, :]), rel=1e-9
    )
    assert math.isnan(spectral_distortion(y, x, valid=torch.eye(16, 24, dtype=torch.bool)))


def test_consistency_is_the_scores_of_the_degraded() -> None:
    again = bicubic_downsample(HIGH, SCALE)
    expected = {"mpsnr": mpsnr(again, LOW), "sam": sam(again, LOW), "rmse": rmse(again, LOW)}
    assert consistency(HIGH, LOW) == {f"consistency_{name}": value for name, value in expected.items()}
    blurred = gaussian_downsample(HIGH, SCALE, 1.5)
    assert consistency(HIGH, LOW, psf_sigma=1.5)["consistency_mpsnr"] == mpsnr(blurred, LOW)
    truth = torch.rand(1, 3, 32, 32)
    assert consistency(truth, bicubic_downsample(truth, 4))["consistency_mpsnr"] == math.inf
    valid = torch.ones(16, 24, dtype=torch.bool)
    valid[:4] = False
    masked = consistency(HIGH, LOW, valid=valid)
    assert masked["consistency_rmse"] == pytest.approx(rmse(again[..., 4:, :], LOW[..., 4:, :]), rel=1e-9)


def test_consistency_takes_tiny_images_and_half_precision() -> None:
    small = torch.rand(1, 2, 3, 2)
    assert consistency(bicubic_upsample(small, 4), small)["consistency_rmse"] < 0.2
    expected = consistency(HIGH, LOW)["consistency_rmse"]
    assert consistency(HIGH.bfloat16(), LOW.bfloat16())["consistency_rmse"] == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("shape", [(1, 4, 32, 47), (1, 3, 32, 48), (1, 4, 32, 24), (1, 4, 8, 12), (2, 4, 32, 48)])
def test_what_is_no_enlargement_is_refused(shape: tuple[int, ...]) -> None:
    for score in (consistency, spectral_distortion):
        with pytest.raises(ValueError, match=r"prediction has shape .*, expected that of lowres, \(1, 4, 16, 24\)"):
            score(torch.rand(shape), LOW)


@pytest.mark.parametrize("block", [1, 17, 2.5, True])
def test_blocks_that_are_none(block: Any) -> None:
    with pytest.raises(ValueError, match="block must be 2 to 16"):
        spectral_distortion(HIGH, LOW, block=block)
    with pytest.raises(ValueError, match="lowres has 1 band"):
        spectral_distortion(HIGH[:, :1], LOW[:, :1])


def network() -> LKCANet:
    torch.manual_seed(0)
    model = LKCANet(4, SCALE, 16, 1, 1, reduction=8).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def test_a_scene_is_scored_with_bicubic_networks_and_results() -> None:
    scene = scene_from_array(1000 * LOW[0].numpy(), peak=1000.0)
    model = network()
    result = replace(scene, pixels=HIGH[0].float().numpy())
    scored = score_no_reference(scene, {"ours": model}, predictions={"theirs": result}, ensemble=True)
    assert list(scored.rows) == ["bicubic", "ours", "ours (ensemble)", "theirs"]
    assert scored.scale == SCALE
    with torch.no_grad():
        image = model(scene.tensor())
    expected = {**consistency(image, scene.pixels), "d_lambda": spectral_distortion(image, scene.tensor())}
    for name, value in expected.items():
        assert dict(scored.rows["ours"])[name] == pytest.approx(value, rel=1e-4)
    assert scored.rows["theirs"]["d_lambda"] == pytest.approx(spectral_distortion(HIGH, LOW), rel=1e-4)
    assert scored.rows["ours"] != scored.rows["bicubic"]


def test_a_masked_scene_scores_its_valid_pixels() -> None:
    valid = np.ones((16, 24), bool)
    valid[:8, :8] = False
    scene = scene_from_array(LOW[0].numpy(), peak=1.0)
    masked = replace(scene, valid=valid)
    rows, whole = (score_no_reference(each, {"ours": network()}).rows["ours"] for each in (masked, scene))
    assert all(math.isfinite(value) for value in rows.values())  # type: ignore[arg-type]
    assert rows["d_lambda"] != whole["d_lambda"]
    assert rows["consistency_mpsnr"] != whole["consistency_mpsnr"]


def test_what_cannot_be_scored_is_named() -> None:
    scene = scene_from_array(LOW[0].numpy(), peak=1.0)
    with pytest.raises(ValueError, match="expected results of one scale, got none"):
        score_no_reference(scene)
    result = replace(scene, pixels=np.ones((4, 48, 72), np.float32))
    with pytest.raises(ValueError, match="got ours x2, theirs x3"):
        score_no_reference(scene, {"ours": network()}, predictions={"theirs": result})
    with pytest.raises(ValueError, match="theirs: prediction has shape"):
        score_no_reference(scene, predictions={"theirs": replace(scene, pixels=np.ones((4, 48, 71), np.float32))})
    with pytest.raises(ValueError, match="'bicubic' is the row"):
        score_no_reference(scene, {"bicubic": network()})
    with pytest.raises(ValueError, match="the scene is of 7 x 24 pixels"):
        score_no_reference(replace(scene, pixels=np.ones((4, 7, 24), np.float32)), {"ours": network()})
