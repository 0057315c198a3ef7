"""Several results beside each other: one stretch, one scale of errors, names."""

import numpy as np
import pytest

from lkcanet.evaluation.pictures import error_map, false_colour, stretch_limits
from lkcanet.evaluation.side_by_side import side_by_side

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

RNG = np.random.default_rng(3)
TARGET = RNG.random((6, 12, 10), dtype=np.float32)
RESULTS = {"near": TARGET + np.float32(0.01), "far": 0.5 * TARGET, "same": TARGET}


@pytest.mark.parametrize("error", ["rmse", "sam"])
def test_stretch_and_scale_are_shared(error) -> None:
    figure = side_by_side(RESULTS, TARGET, bands=(5, 0, 2), error=error, title="both")
    top, below = figure.axes[:4], figure.axes[4:7]
    assert [axis.get_title() for axis in top] == ["target", "near", "far", "same"]
    limits = stretch_limits(TARGET, (5, 0, 2))
    for axis, cube in zip(top, (TARGET, *RESULTS.values()), strict=True):
        np.testing.assert_array_equal(axis.images[0].get_array(), false_colour(cube, bands=(5, 0, 2), limits=limits))
    for axis, cube in zip(below, RESULTS.values(), strict=True):
        expected = error_map(cube, TARGET, error)
        np.testing.assert_array_equal(axis.images[0].get_array(), expected)
        assert axis.get_xlabel() == (f"{expected.mean():.2f}°" if error == "sam" else f"{expected.mean():#.3g}")
    assert len({axis.images[0].get_clim() for axis in below}) == 1
    assert "bands 6, 1, 3 as red, green, blue" in figure.get_supxlabel()
    assert figure.get_suptitle() == "both"


def test_without_a_target_there_are_no_errors() -> None:
    figure = side_by_side(RESULTS)
    assert [axis.get_title() for axis in figure.axes] == list(RESULTS)


def test_what_has_no_data_is_not_counted() -> None:
    holes = TARGET.copy()
    holes[:, :3] = np.nan
    figure = side_by_side({"near": np.where(np.isnan(holes), holes, RESULTS["near"])}, holes)
    assert figure.axes[2].get_xlabel() == "0.0100"


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match="results is empty"):
        side_by_side({})
    with pytest.raises(ValueError, match=r"near has shape \(6, 12, 9\), expected \(6, 12, 10\)"):
        side_by_side({"near": TARGET[..., :9]}, TARGET)
    with pytest.raises(ValueError, match="bands holds 6"):
        side_by_side(RESULTS, TARGET, bands=(0, 1, 6))
