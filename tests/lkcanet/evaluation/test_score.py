"""`score`: bicubic, networks and results on a region, with an MSI, masks and noise, against the steps by hand."""

import copy
import dataclasses
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lkops
from lkcanet.data import Rect, Scene, bicubic_downsample, demo_scene, gaussian_downsample, named_response, with_noise
from lkcanet.data.multispectral import simulate_msi
from lkcanet.evaluation import evaluate, score
from lkcanet.models import LKCANet, Network

pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")

RESPONSE = named_response("average-2")


class Sharpened(Network):
    """bicubic(lowres), plus the detail of the MSI's first band in every band."""

    kind = "sharpened"

    def __init__(self, bands: int, msi_bands: int, scale: int) -> None:
        super().__init__()
        self.bands, self.msi_bands, self.scale = bands, msi_bands, scale
        self.gain = nn.Parameter(torch.tensor(0.5))

    def forward(self, lowres: Tensor, msi: Tensor) -> Tensor:
        small = torch.nn.functional.avg_pool2d(msi, self.scale)
        detail = msi - lkops.bicubic_upsample(small, scale=self.scale)
        return lkops.bicubic_upsample(lowres, scale=self.scale) + self.gain * detail[:, :1]

    def fold(self) -> "Sharpened":
        return copy.deepcopy(self).eval()


@pytest.fixture(scope="module")
def scene() -> Scene:
    return demo_scene((32, 40), 8, seed=1)


def network() -> LKCANet:
    torch.manual_seed(0)
    model = LKCANet(8, 2, 16, 1, 1, reduction=8)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.03 * torch.randn_like(parameter))
    return model.eval()


def noisy(x: Tensor, snr: float | None, seed: int) -> Tensor:
    return x if snr is None else with_noise(x, snr, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("noise_on", ["both", "lowres"])
def test_every_step_is_what_it_says(scene: Scene, noise_on: Any) -> None:
    """Another way to the same: plain tensors, the MSI made of the whole scene and cropped."""
    plain, fused = network(), Sharpened(8, 2, 2)
    found = score(
        scene,
        {"plain": plain, "fused": fused},
        region="3:24,5:40",  # 21 rows: the last makes no whole low-resolution pixel
        psf_sigma=1.2,
        msis={"fused": RESPONSE},
        snrs=(20, 35),
        noise_on=noise_on,
        seed=4,
        floor=0.02,
    )
    assert (found.region, found.scale) == (Rect(3, 23, 5, 39), 2)
    part = scene.pixels[:, 3:23, 5:39].copy()
    assert np.array_equal(found.target.pixels, part)
    assert list(found.levels) == [20, 35, None]
    lowres = gaussian_downsample(torch.from_numpy(part)[None], 2, 1.2)
    msi = torch.from_numpy(simulate_msi(scene, RESPONSE).pixels[:, 3:23, 5:39].copy())[None]
    for snr, rows in found.levels.items():
        small = noisy(lowres, snr, 8)
        sharp = noisy(msi, snr if noise_on == "both" else None, 9)
        with torch.no_grad():
            images = {
                "bicubic": lkops.bicubic_upsample(small, scale=2),
                "plain": plain(small),
                "fused": fused(small, sharp),
            }
        assert list(rows) == list(images)
        for name, image in images.items():
            expected = evaluate(image, part, 2, floor=0.02)
            assert rows[name] == pytest.approx(expected, rel=1e-4), (snr, name)
    rows = found.rows()
    assert [(row["method"], row["snr"]) for row in rows[-2:]] == [("plain", None), ("fused", None)]
    assert rows[-1]["mpsnr"] == found.clean["fused"]["mpsnr"]
    assert found.clean["fused"]["mpsnr"] != pytest.approx(found.clean["bicubic"]["mpsnr"], abs=0.01)


def test_an_msi_of_the_scene_or_of_the_region_is_the_same(scene: Scene) -> None:
    whole = simulate_msi(scene, RESPONSE)
    rows = [
        score(scene, {"fused": Sharpened(8, 2, 2)}, region="0:16,8:40", msis={"fused": msi}).clean["fused"]
        for msi in (RESPONSE, whole, whole.cropped(Rect(0, 16, 8, 40)))
    ]
    assert rows[0] == rows[1] == rows[2]


def test_only_pixels_that_scene_and_msi_have_seen_count(scene: Scene) -> None:
    """What an invalid pixel holds is of no effect: of the scene, and of the MSI."""
    valid, sharp = np.ones(scene.size, bool), np.ones(scene.size, bool)
    valid[:2, :2] = sharp[10:12, 10:14] = False
    msi = dataclasses.replace(simulate_msi(scene, RESPONSE), valid=sharp)
    masked = dataclasses.replace(scene, valid=valid)
    found = score(masked, {"fused": Sharpened(8, 2, 2)}, msis={"fused": msi})
    assert found.target.valid is not None
    assert np.array_equal(found.target.valid, valid & sharp)
    lowres = bicubic_downsample(scene.tensor(), 2)
    expected = evaluate(lkops.bicubic_upsample(lowres, scale=2), scene.pixels, 2, valid=valid & sharp)
    assert found.clean["bicubic"] == pytest.approx(expected, rel=1e-5)


def test_results_are_cropped_and_their_units_looked_at(scene: Scene) -> None:
    off = dataclasses.replace(scene, pixels=scene.pixels * np.float32(0.9))
    region = Rect(0, 16, 8, 40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = score(scene, predictions={"whole": off, "part": off.cropped(region)}, region=region, scale=4)
    assert list(found.clean) == ["bicubic", "whole", "part"]
    assert found.clean["whole"] == found.clean["part"]
    assert found.clean["whole"] == pytest.approx(
        evaluate(off.pixels[:, :16, 8:], np.ascontiguousarray(scene.pixels[:, :16, 8:]), 4)
    )
    counts = dataclasses.replace(scene, pixels=scene.pixels * np.float32(5000))
    with pytest.warns(UserWarning, match=r"^counts reaches .* predictions are taken in the units of the scene's file"):
        score(scene, predictions={"counts": counts}, scale=4)


def test_what_is_refused(scene: Scene) -> None:
    plain, fused = network(), Sharpened(8, 2, 2)
    small = scene.cropped(Rect(0, 16, 0, 16))
    for words, arguments in (
        ("scale is None and there is no network", {}),
        ("plain is of scale 2, expected 4", {"networks": {"plain": plain}, "scale": 4}),
        ("other is of scale 4, expected 2", {"networks": {"plain": plain, "other": Sharpened(8, 2, 4)}}),
        ("other takes 7 bands, the scene 'demo' has 8", {"networks": {"other": Sharpened(7, 2, 2)}}),
        ("networks: 'bicubic' is the name", {"networks": {"bicubic": plain}}),
        ("predictions: 'bicubic' is the name", {"predictions": {"bicubic": scene}, "scale": 2}),
        ("predictions: 'a' is the name of a network", {"networks": {"a": plain}, "predictions": {"a": scene}}),
        (r"fused fuses an MSI of 2 bands: give msis\['fused'\]", {"networks": {"fused": fused}}),
        ("the MSI must be of 32 x 40 pixels", {
            "networks": {"fused": fused}, "msis": {"fused": simulate_msi(small, RESPONSE)}}),
        ("the network takes an MSI of 2 bands, 'demo MSI' has 4", {
            "networks": {"fused": fused}, "msis": {"fused": simulate_msi(scene, named_response("average-4"))}}),
        ("they do not go with predictions", {"predictions": {"a": scene}, "scale": 2, "snrs": [3]}),
        (r"snrs must be finite numbers of dB, each once; got \[3, 3\]", {"scale": 2, "snrs": [3, 3]}),
        ("snrs must be finite", {"scale": 2, "snrs": [float("nan")]}),
        ("noise_on must be 'both' or 'lowres', got 'msi'", {"scale": 2, "noise_on": "msi"}),
        ("the region 0:3,0:40 of 3 x 40 pixels is too small", {"scale": 2, "region": "0:3,:"}),
        ("leave the scene's 32 rows", {"scale": 2, "region": "0:33,:"}),
        ("scale must be 1 or more, got 0", {"scale": 0}),
        (r"a has shape \(8, 16, 16\), the part to score \(8, 32, 40\)", {"predictions": {"a": small}, "scale": 4}),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            score(scene, **arguments)  # type: ignore[arg-type]
