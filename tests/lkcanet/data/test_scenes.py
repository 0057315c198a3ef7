"""Scenes: every format read, and clear errors."""

from collections.abc import Callable
from pathlib import Path

import h5py
import imageio.v3 as imageio
import numpy as np
import pytest
import scipy.io
import torch

from lkcanet.data import Scene, read_scene, scene_from_array


@pytest.fixture
def cube() -> np.ndarray:
    """(4 bands, 5 rows, 6 columns) uint16, all values different."""
    return (np.random.default_rng(0).permutation(4 * 5 * 6).reshape(4, 5, 6) * 500 + 7).astype(np.uint16)


@pytest.fixture
def scene(cube: np.ndarray) -> Scene:
    return scene_from_array(cube, wavelengths=[400.5, 500, 600.1, 2500], name="Größe", source="a folder/x.mat")


def save_mat73(path: Path, **variables: np.ndarray) -> None:
    """As MATLAB writes v7.3: a 512-byte header before the HDF5 data, axes reversed, classes as attributes."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in variables.items():
            file.create_dataset(name, data=value.T).attrs["MATLAB_class"] = np.bytes_(str(value.dtype))
        text = file.create_dataset("comment", data=np.array([[72], [105]], np.uint16))
        text.attrs["MATLAB_class"] = np.bytes_("char")
        file.create_group("#refs#")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512))


def save_bands(folder: Path, bands: np.ndarray, names: list[str] | None = None) -> Path:
    folder.mkdir()
    for index, band in enumerate(bands):
        imageio.imwrite(folder / (names[index] if names else f"band_{index + 1}.png"), band)
    return folder


def expected(cube: np.ndarray, peak: float) -> np.ndarray:
    return (cube.astype(np.float64) / peak).astype(np.float32)


def check(scene: Scene, cube: np.ndarray, peak: float) -> None:
    assert scene.pixels.dtype == np.float32
    assert scene.pixels.flags.c_contiguous
    assert scene.peak == peak
    np.testing.assert_array_equal(scene.pixels, expected(cube, peak))


FORMATS: dict[str, Callable[[Path, np.ndarray], object]] = {
    "v5.mat": lambda path, cube: scipy.io.savemat(
        path, {"data": cube.transpose(1, 2, 0), "n": 3.0, "waves": [[1.0] * 4]}
    ),
    "v7.mat": lambda path, cube: scipy.io.savemat(
        path, {"data": cube.transpose(1, 2, 0), "t": "x"}, do_compression=True
    ),
    "v73.mat": lambda path, cube: save_mat73(path, data=cube.transpose(1, 2, 0), waves=np.ones((1, 4))),
    "a.npy": lambda path, cube: np.save(path, cube),
    "a.npz": lambda path, cube: np.savez(path, data=cube, waves=np.ones(4)),
    "b.NPZ": lambda path, cube: np.savez_compressed(path.open("wb"), data=cube),
    "folder": lambda path, cube: save_bands(path, cube),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("peak", [None, 65535])
def test_every_format_gives_the_same_pixels(tmp_path: Path, cube: np.ndarray, name: str, peak: float | None) -> None:
    FORMATS[name](tmp_path / name, cube)
    scene = read_scene(tmp_path / name, peak=peak)
    check(scene, cube, peak or float(cube.max()))
    assert scene.name == Path(name).stem
    assert scene.source == str(tmp_path / name)
    assert scene.wavelengths is None


@pytest.mark.parametrize("axes", ["hwc", "chw", "whc", "cwh", "hcw", "wch"])
def test_axes_of_cubes(tmp_path: Path, cube: np.ndarray, axes: str) -> None:
    stored = cube.transpose(["chw".index(letter) for letter in axes])
    np.save(tmp_path / "a.npy", stored)
    scipy.io.savemat(tmp_path / "a.mat", {"a": stored})
    save_mat73(tmp_path / "b.mat", a=stored)
    for file in ("a.npy", "a.mat", "b.mat"):
        check(read_scene(tmp_path / file, axes=axes), cube, float(cube.max()))


@pytest.mark.parametrize("axes", ["cp", "pc"])
def test_pixels_in_matlab_order(tmp_path: Path, cube: np.ndarray, axes: str) -> None:
    matrix = np.stack([band.ravel(order="F") for band in cube])  # X(:) of MATLAB
    np.save(tmp_path / "a.npy", matrix if axes == "cp" else matrix.T)
    check(read_scene(tmp_path / "a.npy", axes=axes, size=(5, 6)), cube, float(cube.max()))


def test_one_band(tmp_path: Path, cube: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", cube[0])
    check(read_scene(tmp_path / "a.npy", axes="hw"), cube[:1], float(cube[0].max()))
    check(read_scene(tmp_path / "a.npy", axes="wh"), cube[:1].transpose(0, 2, 1), float(cube[0].max()))


def test_bands_are_sorted_by_number(tmp_path: Path, cube: np.ndarray) -> None:
    folder = save_bands(tmp_path / "s", cube, ["b10.png", "b2.png", "b1.png", "b11.PNG"])
    (folder / "Thumbs.db").write_bytes(b"not an image")
    check(read_scene(folder), cube[[2, 1, 0, 3]], float(cube.max()))


@pytest.mark.parametrize("dtype", ["u1", "i2", ">u2", "u4", "i8", "u8", "f2", "f4", ">f4", "f8"])
def test_dtypes(tmp_path: Path, dtype: str) -> None:
    cube = np.arange(1, 25).reshape(2, 3, 4).astype(dtype)
    np.save(tmp_path / "a.npy", cube)
    check(read_scene(tmp_path / "a.npy"), cube, 24.0)


def test_tensor(scene: Scene) -> None:
    x = scene.tensor()
    assert x.shape == (1, 4, 5, 6)
    np.testing.assert_array_equal(x[0].numpy(), scene.pixels)
    fixed = scene.pixels.copy()
    fixed.flags.writeable = False
    Scene(fixed, 1.0).tensor().zero_()
    assert fixed.any()
    assert (scene.bands, scene.size) == (4, (5, 6))


# ---- reading that fails


def test_missing_and_unsupported(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"a.mat: no such file"):
        read_scene(tmp_path / "a.mat")
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a.jpg: unsupported suffix '.jpg'; supported: .mat, .npy, .npz, ENVI"):
        read_scene(tmp_path / "a.jpg")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("damage", ["empty", "short", "noise"])
def test_damaged_files(tmp_path: Path, cube: np.ndarray, name: str, damage: str) -> None:
    FORMATS[name](tmp_path / name, np.tile(cube, (1, 40, 40)))
    file = tmp_path / name / "band_3.png" if name == "folder" else tmp_path / name
    whole = file.read_bytes()
    noise = np.random.default_rng(1).integers(0, 256, 4000, np.uint8).tobytes()
    file.write_bytes({"empty": b"", "short": whole[: len(whole) // 2], "noise": noise}[damage])
    with pytest.raises(OSError, match=f"{file.name}: cannot be read as .*truncated or corrupt") as caught:
        read_scene(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".npz", ".mat", "73.mat"])
def test_keys(tmp_path: Path, cube: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    other = cube[:, :4, :5].copy()
    save = {".npz": np.savez, ".mat": lambda p, **v: scipy.io.savemat(p, v), "73.mat": save_mat73}[suffix]
    save(path, one=cube, two=other, wave=np.ones((1, 4)))
    shapes = r"one \(4, 5, 6\) uint16, two \(4, 4, 5\) uint16, wave \(1, 4\)"
    with pytest.raises(ValueError, match=rf"a{suffix}: 2 that could be the scene: give key; keys: .*{shapes}"):
        read_scene(path)
    with pytest.raises(ValueError, match=rf"a{suffix}: has no key 'three'; keys: .*{shapes}"):
        read_scene(path, key="three")
    check(read_scene(path, key="two", axes="chw"), other, float(other.max()))
    save(path, wave=np.ones((1, 4)))
    with pytest.raises(ValueError, match=r"no 2-D or 3-D numeric variable; keys: .*wave \(1, 4\)"):
        read_scene(path)


def test_two_axes_suggest_how_to_read_them(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((20, 100)))
    with pytest.raises(ValueError, match=r"a.npy: axes 'chw' do not fit shape \(20, 100\); .*'cp', size=\(10, 10\)"):
        read_scene(tmp_path / "a.npy")
    scipy.io.savemat(tmp_path / "a.mat", {"Y": np.ones((101, 20))})
    with pytest.raises(ValueError, match=r"a.mat: .*try axes='pc', size=\(rows, columns\)"):
        read_scene(tmp_path / "a.mat")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axes": "xyz"}, "axes must be an order of 'chw'"),
        ({"axes": "cc"}, "axes must be an order of 'chw'"),
        ({"axes": "cp", "size": (5, 24)}, r"axes 'cp' do not fit shape \(4, 5, 6\)"),
        ({"size": (5, 6)}, "size goes with axes 'cp' or 'pc' only"),
        ({"key": "a"}, "key 'a' was given"),
        ({"peak": -1}, "peak must be a positive finite number, got -1"),
        ({"peak": 0}, "peak must be a positive finite number, got 0"),
        ({"peak": float("nan")}, "peak must be a positive finite number, got nan"),
        ({"peak": "max"}, "peak must be a positive finite number, got 'max'"),
        ({"peak": 1e-40}, "a.npy: pixels / peak is too large for float32"),
    ],
)
def test_bad_options(tmp_path: Path, cube: np.ndarray, options: dict, message: str) -> None:
    np.save(tmp_path / "a.npy", cube)
    with pytest.raises(ValueError, match=message):
        read_scene(tmp_path / "a.npy", **options)


def test_bad_size_of_matrices(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((4, 30)))
    with pytest.raises(ValueError, match=r"need size=\(rows, columns\)"):
        read_scene(tmp_path / "a.npy", axes="cp")
    for size in [(5, 5), (-5, -6), (0, 30)]:
        with pytest.raises(ValueError, match=r"size .* does not make 30 pixels"):
            read_scene(tmp_path / "a.npy", axes="cp", size=size)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((2, 3, 4), complex), "real"),
        (np.ones((2, 3, 4), bool), "real"),
        (np.array([[[None]]], object), "real|2-D or 3-D"),
        (np.ones(5), "2-D or 3-D"),
        (np.ones((2, 2, 2, 2)), "2-D or 3-D"),
        (np.ones((0, 3, 4)), "2-D or 3-D|none of them 0"),
        (np.zeros((2, 3, 4)), "cannot normalise by the maximum: every pixel is 0"),
        (-np.ones((2, 3, 4)), "cannot normalise by the maximum: the largest pixel is -1"),
        (np.full((2, 3, 4), 1e300), None),
    ],
)
def test_bad_values(tmp_path: Path, values: np.ndarray, message: str | None) -> None:
    np.save(tmp_path / "a.npy", values, allow_pickle=True)
    np.savez(tmp_path / "a.npz", a=values, allow_pickle=True)
    for file in ("a.npy", "a.npz"):
        if message is None:
            assert read_scene(tmp_path / file).pixels.max() == 1
            with pytest.raises(ValueError, match="too large for float32 with peak 1"):
                read_scene(tmp_path / file, peak=1)
        else:
            with pytest.raises(ValueError, match=message) as caught:
                read_scene(tmp_path / file)
            assert file in str(caught.value)


@pytest.mark.parametrize("suffix", [".mat", "73.mat"])
def test_complex_matlab(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".mat":
        scipy.io.savemat(path, {"a": np.ones((2, 3, 4), complex)})
    else:
        with h5py.File(path, "w", userblock_size=512) as file:
            file["a"] = np.zeros((2, 3, 4), [("real", "f8"), ("imag", "f8")])
    with pytest.raises(ValueError, match=r"real|complex"):
        read_scene(path, key="a")


def test_nan_pixels_are_counted_and_located(tmp_path: Path, cube: np.ndarray) -> None:
    values = cube.astype(np.float64)
    values[1, 2, 3], values[3, 0, 0], values[3, 4, 5] = np.nan, np.inf, -np.inf
    scipy.io.savemat(tmp_path / "a.mat", {"a": values.transpose(1, 2, 0)})
    with pytest.raises(ValueError, match=r"a.mat: 3 of 120 pixels are NaN or infinite, .* band 1, row 2, column 3$"):
        read_scene(tmp_path / "a.mat")


def test_bad_folders(tmp_path: Path, cube: np.ndarray) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: the folder holds no .png image"):
        read_scene(tmp_path / "empty")
    folder = save_bands(tmp_path / "s", cube)
    imageio.imwrite(folder / "band_3.png", cube[2, :4])
    with pytest.raises(ValueError, match=r"band_3.png: is \(4, 6\) uint16, but band_1.png is \(5, 6\) uint16"):
        read_scene(folder)
    imageio.imwrite(folder / "band_3.png", cube[2].astype(np.uint8))
    with pytest.raises(ValueError, match=r"band_3.png: is \(5, 6\) uint8"):
        read_scene(folder)
    imageio.imwrite(folder / "band_3.png", np.arange(90, dtype=np.uint8).reshape(5, 6, 3))
    with pytest.raises(ValueError, match=r"band_3.png: a band must be a greyscale image"):
        read_scene(folder)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.ones((1, 2, 3)), 1.0), TypeError, "pixels must be a float32 numpy array, got float64"),
        ((torch.ones(1, 2, 3), 1.0), TypeError, "got Tensor"),
        ((np.ones((2, 3), np.float32), 1.0), ValueError, r"pixels must be \(B, H, W\)"),
        ((np.ones((1, 2, 3), np.float32).transpose(2, 1, 0), 1.0), ValueError, "C-contiguous"),
        ((np.ones((1, 2, 3), np.float32), 0.0), ValueError, "peak must be a positive finite number"),
        ((np.ones((1, 2, 3), np.float32), 1.0, np.ones(2)), ValueError, "wavelengths must be 1 positive numbers"),
        ((np.ones((1, 2, 3), np.float32), 1.0, np.zeros(1)), ValueError, "wavelengths must be 1 positive numbers"),
    ],
)
def test_scene_checks(arguments: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Scene(*arguments)
