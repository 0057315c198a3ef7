"""The demo scene: what it promises, and that it is worth learning from."""

import numpy as np
import pytest

from lkcanet.data import Scene, bicubic_downsample, bicubic_upsample, demo_scene
from lkcanet.data.synthetic import MATERIALS, _landscape, _spectra
from lkcanet.evaluation.metrics import mpsnr, sam


@pytest.fixture(scope="module")
def scene() -> Scene:
    return demo_scene()


def bicubic_scores(scene: Scene, scale: int) -> tuple[float, float]:
    """MPSNR in dB and SAM in degrees of MATLAB's bicubic."""
    x = scene.tensor()
    guess = bicubic_upsample(bicubic_downsample(x, scale), scale)
    return mpsnr(guess, x), sam(guess, x)


def test_shape_range_and_facts(scene: Scene) -> None:
    assert scene.pixels.shape == (60, 256, 256)
    assert scene.pixels.dtype == np.float32
    assert 0 < scene.pixels.min() < 0.03
    assert scene.pixels.max() == 1
    counts = scene.pixels.astype(np.float64) * scene.peak
    assert np.abs(counts - np.rint(counts)).max() < 1e-3
    assert scene.wavelengths is not None
    assert scene.wavelengths[[0, -1]].tolist() == [400, 2500]
    assert (scene.name, scene.source) == ("demo", "lkcanet.data.demo_scene((256, 256), 60, 0)")


def test_bicubic_leaves_something_to_learn(scene: Scene) -> None:
    mpsnr, sam = bicubic_scores(scene, 4)
    assert 28 < mpsnr < 34
    assert 2 < sam < 6
    assert bicubic_scores(scene, 2)[0] > mpsnr + 5 > bicubic_scores(scene, 8)[0] + 8


def test_the_same_everywhere(scene: Scene) -> None:
    """Figures of the machine that made the scene; another's exp and sin may move a count here and there."""
    assert scene.peak == pytest.approx(8545, abs=2)
    counts = np.rint(scene.pixels.astype(np.float64) * scene.peak)
    assert counts[[0, 20, 40, 59], [0, 100, 200, 255], [0, 50, 150, 255]] == pytest.approx(
        [762, 2367, 2366, 1927], abs=2
    )
    assert counts.mean() == pytest.approx(2082.9536, rel=1e-5)


def test_seeds() -> None:
    one, again, other = demo_scene((40, 48), 8, 1), demo_scene((40, 48), 8, 1), demo_scene((40, 48), 8, 2)
    assert one.pixels.shape == (8, 40, 48)
    assert one.pixels.tobytes() == again.pixels.tobytes()
    assert np.abs(one.pixels - other.pixels).mean() > 0.02


def test_mixtures_are_linear(scene: Scene) -> None:
    """As many dimensions as materials stand out of the noise, which is white."""
    pixels = scene.pixels.reshape(60, -1).astype(np.float64) * scene.peak / 10_000
    values = np.linalg.svd(pixels, compute_uv=False) / np.sqrt(pixels.shape[1])
    assert values[7] > 2 * 0.002
    assert values[len(MATERIALS)] < 1.1 * 0.002


def test_every_material_occurs_and_is_distinct() -> None:
    labels, rows, shadow = _landscape(np.random.default_rng(0), 256, 256)
    shares = np.bincount(labels.ravel(), minlength=len(MATERIALS)) / labels.size
    assert shares.min() > 0.002
    assert shares.max() < 0.4
    assert 0.002 < shadow.mean() < 0.1
    assert np.abs(rows).max() <= 1
    spectra = _spectra(np.linspace(400, 2500, 211))
    assert spectra.min() > 0.005
    assert spectra.max() < 0.9
    unit = spectra / np.linalg.norm(spectra, axis=1, keepdims=True)
    angles = np.degrees(np.arccos(np.clip(unit @ unit.T, -1, 1)))
    assert angles[~np.eye(len(MATERIALS), dtype=bool)].min() > 2
    assert np.abs(np.diff(spectra, axis=1)).max() < 0.08  # smooth: 10 nm steps


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((15, 64),), "size must be at least 16 x 16"),
        (((64, 64), 1), "bands must be 2 or more"),
        (((64, 64), 4, -1), "seed must be 0 or more"),
    ],
)
def test_bad_arguments(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        demo_scene(*arguments)


@pytest.mark.parametrize("size", [(16, 16), (17, 301), (130, 20)])
@pytest.mark.parametrize("seed", range(4))
def test_any_size(size: tuple[int, int], seed: int) -> None:
    pixels = demo_scene(size, 3, seed).pixels
    assert pixels.shape == (3, *size)
    assert pixels.std() > 0.01
