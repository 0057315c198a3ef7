"""Prepared folders: every pixel where the protocol wants it, in bounded memory."""

import dataclasses
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from lkcanet.data import (
    PROTOCOLS,
    Protocol,
    Rect,
    read_scene,
    write_scene,
)
from lkcanet.data import prepare as prepare_folder
from lkcanet.data.scenes import Scene

from .protocol_helpers import TINY, code, coded, write_mat73

h5py = pytest.importorskip("h5py", reason="h5py is not installed")
scipy_io = pytest.importorskip("scipy.io", reason="scipy is not installed")


@pytest.fixture
def tiny(tmp_path) -> Path:
    return write_mat73(tmp_path / "tiny.mat", "cube", coded(70, 60, 3), chunks=(2, 16, 32))


def few_bands(name: str, bands: int) -> Protocol:
    return dataclasses.replace(PROTOCOLS[name], bands=bands)


def test_chikusei_pixels_lie_where_matlab_puts_them(tmp_path) -> None:
    image = coded(2517, 2335, 2)
    file = write_mat73(tmp_path / "c.mat", "chikusei", image, chunks=(1, 300, 500), compression=1)
    done = prepare_folder(few_bands("chikusei", 2), file, tmp_path / "out", peak=1)
    assert done.scene.pixels.shape == (2, 2304, 2048)
    assert np.array_equal(done.scene.pixels, image[106:2410, 143:2191].transpose(2, 0, 1))
    # MATLAB: img = chikusei(107:2410, 144:2191, :); test image 3 is img(1:512, 1025:1536, :)
    third = done.scene.cropped(done.tests[2]).pixels
    assert third.shape == (2, 512, 512)
    assert third[1, 0, 0] == code(107 - 1, 144 - 1 + 1024, 1, 2335, 2)
    assert third[0, -1, -1] == code(107 - 1 + 511, 144 - 1 + 1535, 0, 2335, 2)
    assert done.split.counts == {"train": 3465 - 346, "validation": 346, "test": 8 * 32}
    first = done.split.train_origins[0]
    assert done.scene.pixels[0, first[0], first[1]] == code(106 + first[0], 143 + first[1], 0, 2335, 2)
    assert done.split.train_origins[:, 0].min() == 512
    assert done.manifest["source"]["rows"] == [106, 2410]
    assert done.manifest["source"]["columns"] == [[143, 2191]]
    assert done.manifest["source"]["key"] == "chikusei"


def test_houston_turned_with_two_more_bands(tmp_path) -> None:
    protocol = dataclasses.replace(PROTOCOLS["houston2018"], bands=2, file_bands=(3,))
    image = coded(4172, 1202, 3)
    np.save(tmp_path / "h.npy", image.transpose(2, 1, 0))  # a raster's order: bands, 1202 rows, 4172 columns
    done = prepare_folder(protocol, tmp_path / "h.npy", tmp_path / "out", peak=1, scale=8)
    assert np.array_equal(done.scene.pixels, image[:, :, :2].transpose(2, 0, 1))
    last = done.scene.cropped(done.tests[7]).pixels
    assert last[0, 0, 0] == code(256, 768, 0, 1202, 3)
    assert last[1, -1, -1] == code(511, 1023, 1, 1202, 3)
    assert done.manifest["source"]["transposed"]
    assert done.split.patch == 128
    assert sum(done.split.counts[part] for part in ("train", "validation")) == 56 * 17
    upright = tmp_path / "upright.npy"
    np.save(upright, image)
    same = prepare_folder(protocol, upright, tmp_path / "same", peak=1, scale=8, axes="hwc")
    assert np.array_equal(same.scene.pixels, done.scene.pixels)
    assert not same.manifest["source"]["transposed"]


def test_pavia_with_and_without_its_blank_columns(tmp_path) -> None:
    image = coded(1096, 715, 3)
    protocol = few_bands("pavia_center", 3)
    scipy_io.savemat(tmp_path / "p.mat", {"pavia": image, "pavia_gt": np.ones((1096, 715))})
    done = prepare_folder(protocol, tmp_path / "p.mat", tmp_path / "out", peak=1)
    assert np.array_equal(done.scene.pixels, image.transpose(2, 0, 1))
    assert done.scene.cropped(done.tests[2]).pixels[2, 223, 0] == code(223, 448, 2, 715, 3)
    assert (done.split.counts["train"], done.split.counts["validation"]) == (491, 55)
    wide = np.zeros((1096, 1096, 3), np.uint32)
    wide[:, :223], wide[:, 604:] = image[:, :223], image[:, 223:]
    write_mat73(tmp_path / "w.mat", "other", wide, chunks=(3, 100, 100), compression=1)
    with pytest.raises(ValueError, match="--columns 0:223,604:1096"):
        prepare_folder(protocol, tmp_path / "w.mat", tmp_path / "wide")
    assert not (tmp_path / "wide").exists()
    joined = prepare_folder(protocol, tmp_path / "w.mat", tmp_path / "wide", columns=[(0, 223), (604, 1096)])
    assert joined.scene.peak == image.max()
    expected = (image.transpose(2, 0, 1) / np.float64(image.max())).astype(np.float32)
    assert np.array_equal(joined.scene.pixels, expected)


def test_the_peak_is_the_maximum_of_the_crop_with_its_test_rows(tmp_path) -> None:
    image = np.ones((70, 60, 3))
    image[0, 0, 0] = 1000  # outside the crop
    image[2, 4, 1] = 7.7  # its first pixel, a test pixel
    file = write_mat73(tmp_path / "a.mat", "cube", image)
    done = prepare_folder(TINY, file, tmp_path / "out", scale=2)
    assert done.scene.peak == 7.7
    assert done.scene.pixels[1, 0, 0] == 1
    assert done.scene.pixels[0, 5, 5] == np.float32(1 / 7.7)
    assert done.manifest["peak"] == {"value": 7.7, "rule": "maximum of the cropped scene, test rows included"}
    given = prepare_folder(TINY, file, tmp_path / "given", scale=2, peak=8000)
    assert given.scene.pixels[1, 0, 0] == np.float32(7.7 / 8000)
    assert given.manifest["peak"] == {"value": 8000.0, "rule": "given by the user"}


def test_double_precision_is_rounded_once(tmp_path) -> None:
    image = np.random.default_rng(0).random((70, 60, 3))
    for file in (write_mat73(tmp_path / "a.mat", "cube", image), tmp_path / "b.npy"):
        if file.suffix == ".npy":
            np.save(file, image.transpose(2, 0, 1))
        done = prepare_folder(TINY, file, tmp_path / f"out{file.suffix}", scale=2)
        crop = image[2:66, 4:52].transpose(2, 0, 1)
        assert np.array_equal(done.scene.pixels, (crop / crop.max()).astype(np.float32))


def test_a_fingerprint_sees_the_whole_of_a_file_of_few_megabytes(tmp_path) -> None:
    from lkcanet.data.manifest import fingerprint

    content = bytearray(1_000_000)
    (tmp_path / "a").write_bytes(content)
    found = {fingerprint(tmp_path / "a")}
    for place in (0, 1000, 123_456, 500_000, 999_999):
        content[place] = 1
        (tmp_path / "a").write_bytes(content)
        found.add(fingerprint(tmp_path / "a"))
    assert len(found) == 6


@pytest.mark.parametrize("kind", ["v7.3", "v5", "npy", "npz", "own", "envi", "geotiff"])
def test_every_format_gives_the_same_scene(tmp_path, kind: str, tiny) -> None:
    image = coded(70, 60, 3)
    names = {"v7.3": "a.mat", "v5": "b.mat", "npy": "c.npy", "npz": "d.npz"}
    file = tmp_path / (names | {"own": "e.npy", "envi": "f.hdr", "geotiff": "g.tif"})[kind]
    if kind == "v7.3":
        write_mat73(file, "anything", image)
    elif kind == "v5":
        scipy_io.savemat(file, {"cube": image, "labels": image[:, :, 0]})
    elif kind == "npy":
        np.save(file, image.transpose(2, 0, 1))
    elif kind == "npz":
        np.savez(file, image=image.transpose(2, 0, 1))
    else:
        pixels = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32) / 16384
        write_scene(file, Scene(pixels, 16384.0, np.array([450.0, 550.0, 650.0]), band_names=("b", "g", "r")))
    done = prepare_folder(TINY, file, tmp_path / "out", scale=2)
    assert np.array_equal(done.scene.pixels, prepare_folder(TINY, tiny, tmp_path / "first", scale=2).scene.pixels)
    assert isinstance(done.scene.pixels, np.memmap)
    assert done.scene.name == "tiny"
    assert (done.scene.wavelengths is not None) == (kind not in names)
    assert done.scene.band_names == (None if kind in names else ("b", "g", "r"))
    files = [entry["name"] for entry in done.manifest["source"]["files"]]
    assert files == ["f.hdr", "f.img"] if kind == "envi" else [file.name]
    assert np.array_equal(read_scene(tmp_path / "out" / "scene.npy").pixels, done.scene.pixels)


def test_a_large_file_goes_through_bounded_memory(tmp_path, monkeypatch) -> None:
    """All 128 bands of 2517 x 2335 pixels, 3 GB, most of them chunks that were never written; a narrower crop."""
    protocol = dataclasses.replace(
        PROTOCOLS["chikusei"], crop=Rect(106, 2410, 143, 271), test=Rect(0, 64, 0, 128), test_size=64
    )
    protocol = dataclasses.replace(protocol, train=Rect(512, 2304, 0, 128))
    with h5py.File(tmp_path / "c.mat", "w") as file:
        data = file.create_dataset(
            "chikusei", (128, 2335, 2517), np.float32, chunks=(16, 128, 128), fillvalue=0.5, compression=1
        )
        data[127, 143, 106], data[3, 270, 2409], data[0, 142, 106] = 4, 2, 99
    monkeypatch.setattr("lkcanet.data.sources.BLOCK", 8 << 20)
    tracemalloc.start()
    done = prepare_folder(protocol, tmp_path / "c.mat", tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert done.scene.pixels.nbytes > 140e6
    assert peak < 40e6
    assert done.scene.peak == 4
    assert (done.scene.pixels[127, 0, 0], done.scene.pixels[3, -1, -1], done.scene.pixels[0, 0, 0]) == (1, 0.5, 0.125)
    shutil.rmtree(tmp_path / "out")


class Spy:
    """A data set that writes down what is read."""

    def __init__(self, values) -> None:
        self.values, self.shape, self.dtype, self.read = values, values.shape, values.dtype, []

    def __getitem__(self, index):
        self.read.append(index)
        return self.values[index]


def test_blocks_cover_everything_once_and_end_with_chunks(monkeypatch, tmp_path) -> None:
    from lkcanet.data import sources

    monkeypatch.setattr(sources, "BLOCK", 4096)
    file = write_mat73(tmp_path / "a.mat", "cube", coded(70, 60, 3), chunks=(2, 16, 32))
    with sources.opened(file, None, None, "cube") as source:
        spy = Spy(source.values)
        source = dataclasses.replace(source, values=spy)
        placement = TINY.place(*source.shape)
        seen = np.zeros((3, *TINY.size), int)
        count = 0
        for index, values in source.blocks(placement):
            seen[index] += 1
            assert values.nbytes <= 4096
            assert np.array_equal(values, coded(70, 60, 3)[2:66, 4:52].transpose(2, 0, 1)[index])
            count += 1
    assert (seen == 1).all()
    assert count > 8
    parts = [
        [(piece.start // step, (piece.stop - 1) // step) for piece, step in zip(index, (2, 16, 32), strict=True)]
        for index in spy.read
    ]
    chunks = sum(np.prod([last - first + 1 for first, last in part]) for part in parts)
    assert chunks == 2 * 4 * 3  # of (3, 52, 66) values behind the crop's first chunk: none is read twice


def test_validation_patches_are_drawn_by_seed_and_listed(tmp_path, tiny) -> None:
    def split(name: str, **options):
        return prepare_folder(TINY, tiny, tmp_path / name, scale=2, **options)

    one, again, other = split("a"), split("b"), split("c", seed=1)
    assert np.array_equal(one.split.validation_origins, again.split.validation_origins)
    assert not np.array_equal(one.split.validation_origins, other.split.validation_origins)
    every = TINY.origins(2)
    assert len(every) == 25
    assert len(one.split.validation_origins) == 2
    parts = np.concatenate([one.split.train_origins, one.split.validation_origins])
    assert np.array_equal(np.unique(parts, axis=0), np.unique(every, axis=0))
    assert len(parts) == 25
    listed = one.manifest["validation"]["indices"]
    assert np.array_equal(every[listed], one.split.validation_origins)
    assert one.split.validation is None
    assert "optimistic" in one.manifest["validation"]["rule"]


def test_a_validation_block_shares_no_pixel(tmp_path, tiny) -> None:
    done = prepare_folder(TINY, tiny, tmp_path / "out", scale=2, validation="block")
    assert done.split.validation is not None
    read = np.zeros(TINY.size, bool)
    for row, column in done.split.train_origins:
        read[row : row + 16, column : column + 16] = True
    assert read.any()
    assert not read[done.split.validation.slices].any()
    assert not read[: TINY.train.top].any()
    assert done.manifest["patches"] == done.split.counts
