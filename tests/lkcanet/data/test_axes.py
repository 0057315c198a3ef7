"""Arrays that do not tell their axes: the order that their shape or the number of bands tells, with a note, or none."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from lkcanet.data import read_scene
from lkcanet.data.formats.arrays import likely_axes

scipy_io = pytest.importorskip("scipy.io", reason="scipy is not installed")


@pytest.mark.parametrize(
    ("shape", "default", "bands", "axes"),
    [
        ((31, 512, 512), "chw", None, "chw"),
        ((31, 40, 30), "chw", None, None),  # 31 x 40 pixels of 30 bands?
        ((31, 40, 30), "chw", 31, "chw"),
        ((31, 40, 30), "chw", 30, "hwc"),
        ((31, 40, 30), "chw", 5, None),
        ((512, 340, 31), "chw", None, "hwc"),
        ((610, 340, 103), "chw", None, None),
        ((610, 340, 103), "chw", 103, "hwc"),
        ((145, 145, 200), "chw", None, "hwc"),
        ((145, 145, 200), "chw", 145, "chw"),
        ((200, 145, 145), "chw", None, "chw"),
        ((4, 4, 5), "chw", None, "chw"),
        ((8, 8, 8), "chw", 8, "chw"),
        ((512, 512, 31), "hwc", None, "hwc"),
        ((31, 512, 512), "hwc", None, "chw"),
        ((200, 145, 145), "hwc", None, "chw"),
        ((83, 86, 204), "hwc", None, None),  # MATLAB's own order; 83 bands of 86 x 204?
        ((83, 86, 204), "hwc", 204, "hwc"),
        ((9, 7), "chw", 9, "chw"),
    ],
)
def test_which_end_is_that_of_bands(shape: tuple, default: str, bands: int | None, axes: str | None) -> None:
    if axes is None:
        with pytest.raises(ValueError, match=r"x: an array of shape .* could be 'hwc' .* or 'chw' .*: give axes|'chw'"):
            likely_axes(shape, default, bands, "x")
    elif axes == default:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert likely_axes(shape, default, bands, "x") == axes
    else:
        with pytest.warns(
            UserWarning, match=rf"x: shape .* is taken as '{axes}' .*axes '{default}' reads it the other"
        ):
            assert likely_axes(shape, default, bands, "x") == axes


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat"])
def test_a_turned_file(tmp_path: Path, suffix: str) -> None:
    cube = np.random.default_rng(0).integers(0, 99, (3, 20, 16)).astype(np.uint16)  # bands first
    turned = cube.transpose(1, 2, 0)
    path = tmp_path / f"a{suffix}"
    wrong = cube if suffix == ".mat" else turned
    if suffix == ".npy":
        np.save(path, wrong)
    elif suffix == ".npz":
        np.savez(path, wrong)
    else:
        scipy_io.savemat(path, {"x": wrong})
    with pytest.warns(UserWarning, match="by far the shortest"):
        scene = read_scene(path, peak=1.0)
    np.testing.assert_array_equal(scene.pixels, cube)
    given = read_scene(path, peak=1.0, axes="hwc" if suffix == ".mat" else "chw")
    assert given.shape == ((16, 3, 20) if suffix == ".mat" else (20, 16, 3))


def test_the_bands_of_a_network_tell(tmp_path: Path) -> None:
    cube = np.random.default_rng(0).random((20, 16, 12)).astype(np.float32)
    np.save(tmp_path / "a.npy", cube)
    with pytest.raises(ValueError, match=r"a.npy: an array of shape \(20, 16, 12\) could be"):
        read_scene(tmp_path / "a.npy")
    with pytest.warns(UserWarning, match="12 values at that end are the bands that there should be"):
        assert read_scene(tmp_path / "a.npy", band_count=12).shape == (12, 20, 16)
    assert read_scene(tmp_path / "a.npy", band_count=20).shape == (20, 16, 12)
