"""Facts of a scene, and of its low-resolution image."""

import json

import numpy as np
import pytest
import torch

from lkcanet.data import (
    Georeference,
    Rect,
    Scene,
    bicubic_downsample,
    default_stride,
    describe_scene,
    gaussian_downsample,
    simulate_lowres,
    with_noise,
)


def scene() -> Scene:
    pixels = np.random.default_rng(0).random((3, 12, 8), np.float32)
    valid = np.ones((12, 8), bool)
    valid[:4, :3] = False
    pixels[:, ~valid] = 9
    place = Georeference((2.0, 0.0, 100.0, 0.0, -3.0, 50.0), 'PROJCS["here"]')
    return Scene(pixels, 10.0, np.array([400.0, 500.0, 600.0]), "small", "test", ("a", "b", "c"), valid, place)


def test_facts_are_those_of_valid_pixels_in_the_units_of_the_source() -> None:
    made = scene()
    assert made.valid is not None
    facts = describe_scene(made)
    seen = 10 * made.pixels[:, made.valid].astype(np.float64)
    assert facts["smallest"] == pytest.approx(seen.min())
    assert facts["largest"] == pytest.approx(seen.max())
    assert facts["mean"] == pytest.approx(seen.mean())
    assert [facts[name] for name in ("name", "bands", "rows", "columns", "peak")] == ["small", 3, 12, 8, 10.0]
    assert facts["invalid"] == pytest.approx(12 / 96)
    assert (facts["pixel_size"], facts["crs"]) == ([2.0, 3.0], 'PROJCS["here"]')
    assert (facts["wavelengths"], facts["band_names"]) == ([400.0, 500.0, 600.0], ["a", "b", "c"])
    json.dumps(facts)
    bare = describe_scene(Scene(made.pixels, 1.0))
    assert bare["invalid"] == 0
    assert not any(bare[name] for name in ("wavelengths", "band_names", "transform", "pixel_size", "crs"))


def test_lowres_is_the_degraded_scene_and_all_that_belongs_to_it() -> None:
    made = scene()
    small = simulate_lowres(made, 4)
    assert np.array_equal(small.pixels, bicubic_downsample(made.tensor(), 4)[0].numpy())
    assert small.valid is not None
    assert np.array_equal(small.valid, [[False, True], [True, True], [True, True]])
    assert small.georeference is not None
    assert small.georeference.transform[0] == 8.0
    assert (small.peak, small.name) == (10.0, "small")
    blurred = simulate_lowres(made, 2, psf_sigma=1.5, snr=20, seed=3)
    expected = with_noise(gaussian_downsample(made.tensor(), 2, 1.5), 20, torch.Generator().manual_seed(6))
    assert np.array_equal(blurred.pixels, expected[0].numpy())
    with pytest.raises(ValueError, match="scale must divide the image"):
        simulate_lowres(made, 5, psf_sigma=1.0)


def test_rects_scale_and_strides_meet_every_phase() -> None:
    assert Rect(1, 3, 2, 7).scaled(4) == Rect(4, 12, 8, 28)
    for patch in range(1, 40):
        for scale in range(1, 9):
            stride = default_stride(patch, scale)
            assert {index * stride % scale for index in range(scale)} == set(range(scale))
            assert patch // 2 <= stride <= patch // 2 + scale
