"""Structs and cells of MATLAB files by path, as scipy writes v5 and h5py what MATLAB's v7.3 holds."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from lkcanet.data import read_scene
from lkcanet.data.sources import opened

scipy_io = pytest.importorskip("scipy.io", reason="scipy is not installed")
h5py = pytest.importorskip("h5py", reason="h5py is not installed")


@pytest.fixture
def cubes() -> dict[str, np.ndarray]:
    """(rows, columns, bands) as MATLAB has them, all values different."""
    values = np.random.default_rng(0).permutation(3 * 5 * 6 * 4).reshape(3, 5, 6, 4).astype(np.float64) + 1
    return dict(zip(("one", "two", "three"), values, strict=True))


def save5(path: Path, cubes: dict[str, np.ndarray]) -> None:
    several = np.empty((1, 2), [("data", object)])
    several["data"][0] = [cubes["two"], cubes["three"]]
    cell = np.empty((2, 1), object)
    cell[:, 0] = [np.arange(4.0), cubes["three"]]
    scipy_io.savemat(
        path, {"S": {"data": cubes["one"], "info": {"name": "x"}}, "T": several, "C": cell, "gt": np.eye(5)}
    )


def save73(path: Path, cubes: dict[str, np.ndarray]) -> None:
    """Structs are groups; cells and fields of struct arrays are references to what #refs# holds."""

    def put(group, name, values, kind="double"):
        group[name] = values.T
        group[name].attrs["MATLAB_class"] = np.bytes_(kind)
        return group[name].ref

    with h5py.File(path, "w", userblock_size=512) as file:
        refs = file.create_group("#refs#")
        struct = file.create_group("S")
        struct.attrs["MATLAB_class"] = np.bytes_("struct")
        put(struct, "data", cubes["one"])
        put(struct.create_group("info"), "name", np.frombuffer(b"x\0", np.uint16)[None], "char")
        array = file.create_group("T")
        array.attrs["MATLAB_class"] = np.bytes_("struct")
        array["data"] = np.array([[put(refs, "a", cubes["two"])], [put(refs, "b", cubes["three"])]], h5py.ref_dtype)
        held = [put(refs, "c", np.arange(4.0)[None]), put(refs, "d", cubes["three"])]
        file["C"] = np.array([held], h5py.ref_dtype)
        file["C"].attrs["MATLAB_class"] = np.bytes_("cell")
        put(file, "gt", np.eye(5))


@pytest.mark.parametrize("save", [save5, save73])
def test_paths(tmp_path: Path, cubes: dict[str, np.ndarray], save) -> None:
    path = tmp_path / "a.mat"
    save(path, cubes)
    for key, name in {
        "S.data": "one", "S(1).data": "one", "T(1).data": "two", "T(2).data": "three", "C{2}": "three",
    }.items():  # fmt: skip
        scene = read_scene(path, key=key, peak=1)
        np.testing.assert_array_equal(scene.pixels, np.moveaxis(cubes[name], 2, 0), err_msg=key)
    np.testing.assert_array_equal(read_scene(path, key="S.data", axes="chw", peak=1).pixels, cubes["one"])
    np.testing.assert_array_equal(read_scene(path, key="gt", axes="hw", peak=1).pixels[0], np.eye(5))
    listed = r"keys: .*C\{2\} \(5, 6, 4\).*S.data \(5, 6, 4\).*T\(1\).data \(5, 6, 4\).*T\(2\).data"
    if save is save73:
        listed = r"keys: .*S.data \(5, 6, 4\) double.*T\(2\).data \(5, 6, 4\) double"
    for key in ("S", "S.none", "C{3}", "T(3).data", "T.data", "C", "S.data.x", "none"):
        with pytest.raises(ValueError, match=r"a.mat: has no key '"):
            read_scene(path, key=key)
    with pytest.raises(ValueError, match=rf"a.mat: 5 that could be the scene: give key; {listed}"):
        read_scene(path)
    with pytest.raises(ValueError, match=r"a.mat: 'S.info.name' must hold real integers or floats"):
        read_scene(path, key="S.info.name")


@pytest.mark.parametrize("save", [save5, save73])
def test_the_only_cube_is_taken(tmp_path: Path, cubes: dict[str, np.ndarray], save) -> None:
    """Beside a ground truth and a picture of three bands, within a struct too."""
    path = tmp_path / "a.mat"
    if save is save5:
        scipy_io.savemat(path, {"S": {"data": cubes["one"], "rgb": cubes["one"][..., :3]}, "gt": np.eye(5)})
    else:
        with h5py.File(path, "w") as file:
            for name, values in {"S/data": cubes["one"], "S/rgb": cubes["one"][..., :3], "gt": np.eye(5)}.items():
                file[name] = values.T
                file[name].attrs["MATLAB_class"] = np.bytes_("double")
    with pytest.warns(
        UserWarning, match=r"S.data is read, the only 3-D variable of more than three bands; not .*S.rgb"
    ):
        scene = read_scene(path, peak=1)
    np.testing.assert_array_equal(scene.pixels, np.moveaxis(cubes["one"], 2, 0))


def test_hdf5_that_matlab_did_not_write(tmp_path: Path, cubes: dict[str, np.ndarray]) -> None:
    path = tmp_path / "a.mat"
    with h5py.File(path, "w") as file:
        file["cube"] = cubes["one"].T
    with pytest.warns(UserWarning, match="cube has no attribute MATLAB_class, .* taken as reversed"):
        scene = read_scene(path, peak=1)
    np.testing.assert_array_equal(scene.pixels, cubes["one"].transpose(2, 0, 1))
    with h5py.File(path, "a") as file:
        file["cube"].attrs["MATLAB_class"] = np.bytes_("double")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read_scene(path, peak=1).pixels, scene.pixels)


def test_paths_are_read_in_blocks_too(tmp_path: Path, cubes: dict[str, np.ndarray]) -> None:
    save73(tmp_path / "a.mat", cubes)
    with opened(tmp_path / "a.mat", "C{2}", None, None) as source:
        assert (source.key, source.shape, source.axes) == ("C{2}", (4, 5, 6), "cwh")
        np.testing.assert_array_equal(np.asarray(source.values), cubes["three"].T)


def test_a_path_deeper_than_is_listed(tmp_path: Path, cubes: dict[str, np.ndarray]) -> None:
    held: dict = {"data": cubes["one"]}
    for _ in range(10):
        held = {"S": held}
    scipy_io.savemat(tmp_path / "a.mat", {**held, "x": cubes["two"]})
    key = "S." * 10 + "data"
    with pytest.raises(ValueError, match=rf"a.mat: has no key '{key}'; keys: x"):
        read_scene(tmp_path / "a.mat", key=key)
