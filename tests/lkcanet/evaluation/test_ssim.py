"""MATLAB's SSIM against scipy's filters, at the border and under masks."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate
from skimage.metrics import structural_similarity

from lkcanet.evaluation import metrics
from lkcanet.evaluation.metrics import evaluate, mssim


def matlab_map(y: np.ndarray, x: np.ndarray, data_range: float = 1.0) -> np.ndarray:
    """ssim.m, line by line, of one band."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    window /= window.sum()

    def filtered(image: np.ndarray) -> Any:
        return correlate(image, window, mode="nearest")

    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mx, my = filtered(x), filtered(y)
    sxx, syy, sxy = filtered(x * x) - mx**2, filtered(y * y) - my**2, filtered(x * y) - mx * my
    return (2 * mx * my + c1) * (2 * sxy + c2) / ((mx**2 + my**2 + c1) * (sxx + syy + c2))


def pair(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    x = rng.random(shape)
    return x + 0.1 * rng.standard_normal(shape), x


@pytest.mark.parametrize("shape", [(1, 7, 9), (4, 30, 21), (3, 64, 11)])
@pytest.mark.parametrize("tile", [1, 500, 1 << 18])
@pytest.mark.parametrize("data_range", [1.0, 4.0])
def test_equals_ssim_m(
    shape: tuple[int, int, int], tile: int, data_range: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(metrics.TILE, "cpu", tile)
    y, x = pair(*shape)
    expected = np.mean([matlab_map(p, q, data_range) for p, q in zip(y, x, strict=True)])
    assert mssim(y, x, data_range, ssim="matlab") == pytest.approx(expected, rel=1e-11)
    assert evaluate(y, x, 4, data_range, ssim="matlab")["mssim"] == pytest.approx(expected, rel=1e-11)
    assert mssim(torch.from_numpy(y), torch.from_numpy(x), data_range, ssim="matlab") == pytest.approx(expected)


def test_inside_it_is_skimage_with_gaussian_weights() -> None:
    y, x = pair(1, 40, 40)
    _, ours = structural_similarity(
        x[0], y[0], data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    np.testing.assert_allclose(matlab_map(y[0], x[0])[5:-5, 5:-5], ours[5:-5, 5:-5], rtol=1e-10)


def test_the_other_scores_and_the_default_stay() -> None:
    y, x = pair(3, 20, 20)
    matlab, uniform, default = evaluate(y, x, 4, ssim="matlab"), evaluate(y, x, 4, ssim="uniform"), evaluate(y, x, 4)
    assert uniform == default
    assert matlab["mssim"] != pytest.approx(uniform["mssim"], abs=1e-4)
    assert {**matlab, "mssim": 0} == {**uniform, "mssim": 0}
    assert evaluate(x, x, 4, ssim="matlab")["mssim"] == 1


def test_masks_leave_out_windows_that_touch_an_invalid_pixel() -> None:
    y, x = pair(2, 30, 26)
    valid = np.ones((30, 26), bool)
    valid[:4, 20:] = False
    valid[22, 5] = False
    clear = np.pad(valid, 5, mode="edge")
    whole = np.array([[clear[i : i + 11, j : j + 11].all() for j in range(26)] for i in range(30)])
    assert 100 < whole.sum() < 700
    expected = np.mean([matlab_map(p, q)[whole] for p, q in zip(y, x, strict=True)])
    y[:, ~valid] = np.nan
    assert evaluate(y, x, 4, valid=valid, ssim="matlab")["mssim"] == pytest.approx(expected, rel=1e-11)
    valid[1::5, 1::5] = False
    with pytest.warns(RuntimeWarning, match="no 11 x 11 window of valid pixels"):
        assert np.isnan(evaluate(y, x, 4, valid=valid, ssim="matlab")["mssim"])


def test_another_kind_is_refused() -> None:
    y, x = pair(1, 9, 9)
    with pytest.raises(ValueError, match="ssim must be 'uniform' or 'matlab', got 'gaussian'"):
        mssim(y, x, ssim="gaussian")  # type: ignore[arg-type]
