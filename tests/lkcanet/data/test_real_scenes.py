"""The public scenes of ../shared/data: loading, and MATLAB's bicubic figures. Skipped where they are not at hand."""

from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import scipy.io

from lkcanet.data import bicubic_downsample, bicubic_upsample, parse_rect, read_scene
from lkcanet.evaluation.metrics import mpsnr, sam


@pytest.fixture
def shared_data() -> Path:
    """Real scenes lie beside the checkout and are never part of it."""
    folder = Path(__file__).parents[4] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real scenes are not at hand: {folder} does not exist")
    return folder


def test_jasper_ridge(shared_data: Path) -> None:
    path = shared_data / "jasper_ridge.mat"
    with pytest.raises(ValueError, match=r"3 that could be the scene: give key; keys: .*Y \(198, 10000\)"):
        read_scene(path)
    with pytest.raises(ValueError, match=r"axes='cp', size=\(100, 100\)"):
        read_scene(path, key="Y")
    scene = read_scene(path, key="Y", axes="cp", size=(100, 100))
    raw = scipy.io.loadmat(path)["Y"].reshape(198, 100, 100).transpose(0, 2, 1)
    np.testing.assert_array_equal(scene.pixels, (raw / np.float64(raw.max())).astype(np.float32))
    assert scene.peak == raw.max()
    assert scene.name == "jasper_ridge"


def test_cave(shared_data: Path) -> None:
    folder = shared_data / "cave" / "oil_painting_ms"
    scene = read_scene(folder, peak=65535)
    assert scene.pixels.shape == (31, 512, 512)
    for index, band in enumerate(scene.pixels):
        image = imageio.imread(folder / f"oil_painting_ms_{index + 1:02}.png")
        assert image.dtype == np.uint16
        np.testing.assert_array_equal(band, image.astype(np.float32) / np.float32(65535))


def test_bicubic_figures_of_real_scenes(shared_data: Path) -> None:
    """x4, cropped, degraded, enlarged. The figures of the data's README, but for Jasper Ridge's 27.82 dB."""
    painting = read_scene(shared_data / "cave" / "oil_painting_ms", peak=65535)
    ridge = read_scene(shared_data / "jasper_ridge.mat", key="Y", axes="cp", size=(100, 100))
    for scene, region, decibels, degrees in [
        (painting, ":,:", 33.063, 5.698),
        (ridge, "0:96,64:96", 27.812, 4.43),
    ]:
        rows, columns = parse_rect(region, scene.pixels.shape).slices
        x = scene.tensor()[..., rows, columns].contiguous()
        guess = bicubic_upsample(bicubic_downsample(x, 4), 4)
        assert mpsnr(guess, x) == pytest.approx(decibels, abs=0.005)
        assert sam(guess, x) == pytest.approx(degrees, abs=0.005)
