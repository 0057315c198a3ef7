"""Spectral resampling: what stays as it is, what is exact, what lies outside."""

import numpy as np
import pytest

from lkcanet.data.resampling import resampling_weights, seen, spacings

CAVE = np.arange(400.0, 701.0, 10.0)


def test_the_same_wavelengths_change_nothing() -> None:
    shuffled = np.random.default_rng(0).permutation(CAVE)
    for nanometres in (CAVE, shuffled, np.array([450.0, 451.5, 470.0, 600.0])):
        for outside in ("nearest", "zero"):
            weights = resampling_weights(nanometres, nanometres, outside=outside)
            assert np.array_equal(weights, np.eye(len(nanometres)))


def test_between_two_bands_it_is_linear_interpolation() -> None:
    target = np.linspace(400, 700, 97)
    spectrum = np.random.default_rng(0).random(31)
    np.testing.assert_allclose(resampling_weights(CAVE, target) @ spectrum, np.interp(target, CAVE, spectrum))
    order = np.random.default_rng(1).permutation(31)
    again = resampling_weights(CAVE[order], target) @ spectrum[order]
    np.testing.assert_allclose(again, np.interp(target, CAVE, spectrum))


def test_a_denser_source_is_averaged_and_straight_spectra_are_exact() -> None:
    fine = np.sort(np.random.default_rng(0).uniform(380, 720, 200))
    weights = resampling_weights(fine, CAVE)
    np.testing.assert_allclose(weights @ (3 * fine - 7), 3 * CAVE - 7)
    np.testing.assert_allclose(weights.sum(1), 1)
    assert ((weights**2).sum(1) < 0.5).all()  # noise falls; interpolation would leave it where bands coincide
    for centre, row in zip(CAVE, weights, strict=True):
        assert (np.abs(fine[row != 0] - centre) < 10).all()
    assert weights.max() < 0.6


def test_the_triangle_by_hand() -> None:
    weights = resampling_weights([495.0, 500.0, 505.0], [490.0, 500.0, 510.0])
    np.testing.assert_allclose(weights[1], [0.25, 0.5, 0.25])
    np.testing.assert_allclose(weights[[0, 2]], [[1, 0, 0], [0, 0, 1]])


@pytest.mark.parametrize("outside", ["nearest", "zero"])
def test_outside_of_the_range(outside: str) -> None:
    target = np.array([380.0, 394.0, 396.0, 704.0, 706.0, 2500.0])
    weights = resampling_weights(CAVE, target, outside=outside)
    expected = np.zeros((6, 31))
    expected[:3, 0] = expected[3:, -1] = 1
    if outside == "zero":  # beyond half a spacing
        expected[[0, 1, 4, 5]] = 0
    assert np.array_equal(weights, expected)
    assert seen(CAVE, target).tolist() == [False, False, True, True, False, False]


def test_spacings() -> None:
    assert spacings([400, 410, 430, 440]).tolist() == [10, 10, 10, 10]
    assert spacings([430, 400, 410, 410]).tolist() == [20, 10, 10, 10]
    assert spacings([500]).tolist() == [10]


def test_repeated_wavelengths() -> None:
    source = [400.0, 410.0, 410.0, 420.0]  # two spectrometers that overlap
    weights = resampling_weights(source, [405.0, 410.0, 415.0])
    np.testing.assert_allclose(weights @ np.array(source), [405, 410, 415])


@pytest.mark.parametrize("bad", [[], [400.0, -1.0], [np.nan], [[400.0]]])
def test_bad_wavelengths(bad) -> None:
    with pytest.raises(ValueError, match="source must be positive wavelengths in nm"):
        resampling_weights(bad, [500.0])
    with pytest.raises(ValueError, match="target must be positive wavelengths in nm"):
        resampling_weights([500.0], bad)
