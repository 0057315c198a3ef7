"""Pairs by Wald's protocol: blur and decimation, spectral responses, and noise against formulas of their own."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from lkcanet.data import bicubic_upsample, demo_scene
from lkcanet.data.multispectral import (
    gaussian_downsample,
    noisy_scene,
    simulate_msi,
    simulate_pair,
    with_impulses,
    with_noise,
)
from lkcanet.data.patches import dihedral
from lkcanet.data.responses import RESPONSES, named_response, read_response
from lkcanet.data.scenes import Scene

pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")


@pytest.fixture(scope="module")
def scene() -> Scene:
    return demo_scene((24, 32), 60, seed=2)


def plain(image: np.ndarray, scale: int, sigma: float) -> np.ndarray:
    """The formula in float64, pixel by pixel, over both axes at once."""
    height, width = image.shape
    out = np.zeros((height // scale, width // scale))
    reach = math.ceil(4 * sigma) + scale

    def mirrored(k: int, n: int) -> int:
        k %= 2 * n
        return min(k, 2 * n - 1 - k)

    for i, j in np.ndindex(*out.shape):
        u, v = (i + 0.5) * scale - 0.5, (j + 0.5) * scale - 0.5
        total = weight = 0.0
        for k in range(math.floor(u) - reach, math.ceil(u) + reach + 1):
            for m in range(math.floor(v) - reach, math.ceil(v) + reach + 1):
                if max(abs(u - k), abs(v - m)) <= 4 * sigma:
                    w = math.exp(-((u - k) ** 2 + (v - m) ** 2) / (2 * sigma**2))
                    weight += w
                    total += w * image[mirrored(k, height), mirrored(m, width)]
        out[i, j] = total / weight
    return out


@pytest.mark.parametrize(("scale", "sigma"), [(4, 3.0), (4, 1.0), (3, 1.7), (2, 0.5), (1, 0.8), (4, 0.2)])
def test_blur_and_decimation(scale: int, sigma: float) -> None:
    image = np.random.default_rng(0).random((12, 24))
    ours = gaussian_downsample(torch.from_numpy(image)[None, None], scale, sigma)
    assert ours.shape == (1, 1, 12 // scale, 24 // scale)
    assert np.abs(ours[0, 0].numpy() - plain(image, scale, sigma)).max() < 1e-12


def test_a_very_narrow_function_averages_the_middle() -> None:
    """Where no pixel's centre lies within 4 sigma: the nearest ones."""
    x = torch.rand(1, 2, 8, 12, dtype=torch.float64)
    expected = x.reshape(1, 2, 2, 4, 3, 4)[:, :, :, 1:3, :, 1:3].mean((3, 5))
    assert torch.allclose(gaussian_downsample(x, 4, 0.01), expected, atol=1e-12)


def test_it_is_centred_flips_commute_and_flat_images_stay() -> None:
    x = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    small = gaussian_downsample(x, 4, 3.0)
    for k in range(8):
        assert torch.allclose(gaussian_downsample(dihedral(x, k).contiguous(), 4, 3.0), dihedral(small, k), atol=1e-14)
    assert torch.allclose(gaussian_downsample(torch.full((1, 1, 8, 8), 0.3), 4, 2.0), torch.full((1, 1, 2, 2), 0.3))
    ramp = torch.arange(64.0, dtype=torch.float64).expand(1, 1, 64, 64).contiguous()
    middle = gaussian_downsample(ramp, 4, 1.5)[0, 0, 8, 4:12]
    assert torch.allclose(middle, 4 * torch.arange(4.0, 12.0, dtype=torch.float64) + 1.5)  # of pixels 4 i .. 4 i + 3
    one = gaussian_downsample(x[:1], 4, 3.0)
    assert torch.equal(one, small[:1])


def test_it_refuses() -> None:
    x = torch.rand(1, 2, 8, 10)
    with pytest.raises(ValueError, match="scale must divide the image: 8 x 10 pixels by scale 4"):
        gaussian_downsample(x, 4, 1.0)
    for sigma in (0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="sigma must be a positive finite number"):
            gaussian_downsample(x, 2, sigma)
    with pytest.raises(TypeError, match="float32 or float64"):
        gaussian_downsample(x.half(), 2, 1.0)


@pytest.mark.parametrize("snr", [-5.0, 10, 35.0])
def test_noise_has_its_ratio(snr: float) -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 30, 40, 50) * torch.tensor([1.0, 7.0])[:, None, None, None]
    noisy = with_noise(x, snr)
    for image, seen in zip(x, noisy, strict=True):
        noise = seen - image
        ratio = 10 * torch.log10(image.square().mean() / noise.square().mean())
        assert float(ratio) == pytest.approx(snr, abs=0.15)
        assert abs(float(noise.mean())) < 0.02 * float(noise.std())
        kurtosis = (noise / noise.std()).pow(4).mean()
        assert float(kurtosis) == pytest.approx(3, abs=0.15)
    with pytest.raises(ValueError, match="snr must be a finite number of dB"):
        with_noise(x, math.nan)


def test_impulses() -> None:
    """A share of the values is drawn anew between the image's own least and largest; the others stay to the bit."""
    x = torch.stack([torch.rand(4, 50, 60, generator=torch.Generator().manual_seed(i)) * (i + 1) + i for i in range(2)])
    spoilt = with_impulses(x, 0.1, torch.Generator().manual_seed(3))
    for image, before in zip(spoilt, x, strict=True):
        hit = image != before
        assert 0.09 < hit.float().mean() < 0.11
        drawn = (image[hit] - before.min()) / (before.max() - before.min())
        assert 0 <= drawn.min() < 0.01
        assert 0.99 < drawn.max() <= 1
        assert drawn.mean().item() == pytest.approx(0.5, abs=0.03)
    assert torch.equal(spoilt, with_impulses(x, 0.1, torch.Generator().manual_seed(3)))
    assert not torch.equal(spoilt, with_impulses(x, 0.1, torch.Generator().manual_seed(4)))
    for share in (0, 1, -0.1, True, float("nan")):
        with pytest.raises(ValueError, match="share must be a number above 0 and below 1"):
            with_impulses(x, share)


def test_scenes_draw_by_their_seed(scene: Scene) -> None:
    state = torch.get_rng_state()
    a, b, c = (noisy_scene(scene, 30, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(a.pixels, b.pixels)
    assert np.abs(a.pixels - c.pixels).max() > 0
    assert noisy_scene(scene, None) is scene
    assert a.peak == scene.peak


def test_landsat_averages_the_bands_in_its_ranges(scene: Scene) -> None:
    msi = simulate_msi(scene, named_response("landsat-tm-6"))
    nm = scene.wavelengths
    ranges = [(450, 520), (520, 600), (630, 690), (770, 900), (1550, 1750), (2090, 2350)]
    assert msi.pixels.shape == (6, 24, 32)
    for band, (low, high) in zip(msi.pixels, ranges, strict=True):
        inside = (nm >= low) & (nm <= high)
        assert inside.any()
        assert np.abs(band - scene.pixels[inside].astype(np.float64).mean(0)).max() < 1e-6
    assert list(msi.wavelengths) == [485, 560, 660, 835, 1650, 2220]
    assert msi.band_names == ("TM1", "TM2", "TM3", "TM4", "TM5", "TM7")
    assert msi.peak == scene.peak
    four = simulate_msi(scene, RESPONSES["landsat-tm-4"])
    assert np.array_equal(four.pixels, msi.pixels[:4])


def test_groups_of_neighbouring_bands_need_no_wavelengths(scene: Scene) -> None:
    blind = dataclasses.replace(scene, wavelengths=None, pixels=scene.pixels[:10].copy())
    msi = simulate_msi(blind, named_response("average-4"))
    for band, (first, last) in zip(msi.pixels, [(0, 3), (3, 6), (6, 8), (8, 10)], strict=True):
        assert np.abs(band - blind.pixels[first:last].mean(0)).max() < 1e-6
    assert msi.wavelengths is None
    known = dataclasses.replace(scene, pixels=scene.pixels[:4].copy(), wavelengths=np.array([400.0, 410, 500, 520]))
    assert list(simulate_msi(known, named_response("average-2")).wavelengths) == [405, 510]
    with pytest.raises(ValueError, match="response average-11 makes 11 bands of demo, which has only 10"):
        simulate_msi(blind, named_response("average-11"))


def test_what_a_response_cannot_see(scene: Scene) -> None:
    blind = dataclasses.replace(scene, wavelengths=None)
    with pytest.raises(ValueError, match="response landsat-tm-4 needs wavelengths, and demo has none: take"):
        simulate_msi(blind, named_response("landsat-tm-4"))
    visible = scene.wavelengths < 700
    short = dataclasses.replace(scene, pixels=scene.pixels[visible].copy(), wavelengths=scene.wavelengths[visible])
    message = r"band TM4 of response landsat-tm-4, 770 to 900 nm, sees no band of demo \(\d+ to 6\d\d.* nm\)"
    with pytest.raises(ValueError, match=message):
        simulate_msi(short, named_response("landsat-tm-4"))
    with pytest.raises(ValueError, match=r"a response is landsat-tm-4, .* got 'landsat'"):
        named_response("landsat")


def test_responses_from_files(scene: Scene, tmp_path: Path) -> None:
    ranges = tmp_path / "ranges.csv"
    ranges.write_text("Name, low, high\nred,630,690\n\nnir,770,900\n")
    read = named_response(str(ranges))
    assert (read.name, read.band_names, read.ranges) == ("ranges", ("red", "nir"), ((630, 690), (770, 900)))
    landsat = simulate_msi(scene, RESPONSES["landsat-tm-4"])
    assert np.array_equal(simulate_msi(scene, read).pixels, landsat.pixels[2:])
    curves = tmp_path / "curves.csv"
    curves.write_text("wavelength,a,b\n500,0,1\n600,2,1\n700,0,1\n")
    msi, nm = simulate_msi(scene, read_response(curves)), scene.wavelengths
    inside = (nm >= 500) & (nm <= 700)
    triangle = np.where(inside, 2 - np.abs(nm - 600) / 50, 0)
    expected = np.tensordot(triangle / triangle.sum(), scene.pixels.astype(np.float64), axes=1)
    assert np.abs(msi.pixels[0] - expected).max() < 1e-6
    assert np.abs(msi.pixels[1] - scene.pixels[inside].mean(0)).max() < 1e-6
    assert msi.wavelengths[1] == pytest.approx(nm[inside].mean())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the first line must be name,low,high or wavelength,NAME"),
        ("a,b\n1,2\n", "the first line must be"),
        ("name,low,high\n", "holds no band"),
        ("name,low,high\nred,690,630\n", "band red must have 0 < low < high, got 690 and 630"),
        ("name,low,high\nred,630\n", "expected 3 cells"),
        ("name,low,high\nred,630,nan\n", "expected 3 cells, numbers all but the first"),
        ("wavelength,a\n600,1\n500,1\n", "wavelengths must be positive and ascending"),
        ("wavelength,a\n500,-1\n", "responses must be 0 or more"),
        ("wavelength,a\n500,x\n", "expected 2 cells, numbers all"),
    ],
)
def test_files_that_are_no_responses(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"bad\.csv:? .*{message}|{message}"):
        read_response(path)
    with pytest.raises(FileNotFoundError, match="no response at"):
        read_response(tmp_path / "none.csv")


def test_pairs_keep_what_belongs_to_them(scene: Scene) -> None:
    valid = np.ones(scene.size, bool)
    valid[3, 3] = False
    pair = simulate_pair(
        dataclasses.replace(scene, valid=valid), 4, RESPONSES["landsat-tm-4"], psf_sigma=2.0, snr=30.0, msi_snr=40.0
    )
    lowres, msi = pair
    assert lowres.pixels.shape == (60, 6, 8)
    assert msi.pixels.shape == (4, 24, 32)
    assert not lowres.valid[0, 0]
    assert lowres.valid.sum() == 47
    assert np.array_equal(msi.valid, valid)
    clean = simulate_pair(scene, 4, RESPONSES["landsat-tm-4"], psf_sigma=2.0)
    expected = gaussian_downsample(scene.tensor(), 4, 2.0)[0].numpy()
    assert np.array_equal(clean.lowres.pixels, expected)
    for noisy, plain_image, snr in ((lowres, clean.lowres, 30.0), (msi, clean.msi, 40.0)):
        error = np.square(noisy.pixels - plain_image.pixels).mean()
        assert 10 * np.log10(np.square(plain_image.pixels).mean() / error) == pytest.approx(snr, abs=0.5)
    bicubic = simulate_pair(scene, 4, RESPONSES["landsat-tm-4"], psf_sigma=None)
    assert np.abs(bicubic.lowres.pixels - expected).max() > 0.01
    assert np.abs(bicubic_upsample(clean.lowres.tensor(), 4)[0].numpy() - scene.pixels).mean() < 0.1
