"""Bands of a file: chosen by number or wavelength, left out where empty or bad, and the choice stays with the scene."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lkcanet.data import Scene, read_scene, write_scene
from lkcanet.data.bands import BandChoice, bands_by_number, bands_by_wavelength, listing
from lkcanet.data.georeference import Georeference

CENTRES = np.array([420.0, 450.0, 905.0, 1340.0, 1400.0, 1790.0, 2450.0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0:3,5:", [0, 1, 2, 5, 6]),
        (":2", [0, 1]),
        (":", [0, 1, 2, 3, 4, 5, 6]),
        ("6, 2,4", [6, 2, 4]),
        ("3", [3]),
        ([1, 0], [1, 0]),
        (np.arange(2, 4), [2, 3]),
    ],
)
def test_numbers(text: Any, expected: list[int]) -> None:
    assert bands_by_number(text, 7).tolist() == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"bands must be numbers and ranges such as 0:130,136: \(from 0\), got ''"),
        ("1,,2", "bands must be numbers and ranges"),
        ("-1", "bands must be numbers and ranges"),
        ("1:2:3", "bands must be numbers and ranges"),
        ("4:8", "bands 4:8 must be a range within 0:7"),
        ("3:3", "bands 3:3 must be a range within 0:7"),
        ("2,7,9", "bands 7, 9 are not there: they are numbered 0 to 6"),
        ("0:3,2", "bands 2 are named twice"),
        ([], "bands must name one band at least"),
        ([-1], "bands -1 are not there"),
    ],
)
def test_numbers_that_are_none(text: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bands_by_number(text, 7)


def test_wavelengths_include_both_ends() -> None:
    assert bands_by_wavelength("420:1340,1450:1790", CENTRES).tolist() == [0, 1, 2, 3, 5]
    assert bands_by_wavelength([(1700, 1800), (400, 430)], CENTRES).tolist() == [0, 5]  # the file's order


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ("500:600", "wavelengths 500:600 hold no band: those of the file lie at 420 to 2450 nm"),
        ("600:500", "wavelengths must be ranges in nm such as 420:1340,1450:1790, got '600:500'"),
        ("600", "wavelengths must be ranges"),
        ("a:b", "wavelengths must be ranges"),
        ([(400, float("inf"))], "wavelengths must be ranges"),
    ],
)
def test_wavelengths_that_are_none(ranges: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bands_by_wavelength(ranges, CENTRES)


def test_listing() -> None:
    assert listing([0, 1, 2, 5, 7, 8]) == "0:3, 5, 7:9"
    assert listing(list(range(0, 40, 2))) == "0, 2, 4, 6, 8, 10, 12, ..., 38"


def test_the_choice_is_composed() -> None:
    pixels = np.random.default_rng(0).random((7, 3, 4), np.float32)
    scene = Scene(pixels, 2.0, CENTRES, band_names=tuple("abcdefg"))
    assert scene.with_bands(range(7)) is scene
    part = scene.with_bands([1, 2, 3])
    assert np.shares_memory(part.pixels, pixels)
    some = part.with_bands([2, 0])
    np.testing.assert_array_equal(some.pixels, pixels[[3, 1]])
    assert some.wavelengths is not None
    assert (some.wavelengths.tolist(), some.band_names, some.peak) == ([1340.0, 450.0], ("d", "b"), 2.0)
    assert some.band_choice == BandChoice(7, (3, 1))
    assert some.cropped(some_rect()).band_choice == some.band_choice
    with pytest.raises(ValueError, match="band_choice must take 7 bands, it takes 1"):
        Scene(pixels, 1.0, band_choice=BandChoice(9, (1,)))
    with pytest.raises(ValueError, match="taken must be numbers from 0 to 1"):
        BandChoice(2, (2,))


def test_a_scene_says_what_it_is() -> None:
    pixels = np.random.default_rng(0).random((7, 3, 4), np.float32)
    valid = np.ones((3, 4), bool)
    valid[0, :3] = False
    place = Georeference((30, 0, 500000.5, 0, -30, 4e6), 'PROJCS["WGS 84 / UTM zone 11N",GEOGCS["WGS 84"]]')
    scene = Scene(pixels, 10000.0, CENTRES, "a", "a.tif", valid=valid, georeference=place)
    assert scene.shape == (7, 3, 4)
    assert repr(scene) == "<Scene 'a': 7 bands, 3 x 4 pixels, peak 10000>"
    assert str(scene.with_bands([0, 6])).splitlines() == [
        "Scene 'a', a.tif",
        "  bands   2 of 7, 420 to 2450 nm",
        "  pixels  3 x 4, 25.0% without data",
        "  peak    10000, the value that is 1 here",
        "  place   WGS 84 / UTM zone 11N, corner 500000.5, 4000000, pixels of 30 x 30",
    ]
    bare = str(Scene(pixels, 1.0)).splitlines()
    assert bare[0] == "Scene '', of no file"
    assert bare[1:3] == ["  bands   7", "  pixels  3 x 4, 0.0% without data"]
    assert bare[4] == "  place   not known"


def some_rect() -> Any:
    from lkcanet.data import Rect

    return Rect(0, 2, 1, 3)


def test_a_file_of_any_kind(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((7, 3, 4)).astype(np.float32)
    np.save(tmp_path / "a.npy", values)
    scene = read_scene(tmp_path / "a.npy", bands="0:2,6", peak=1.0)
    np.testing.assert_array_equal(scene.pixels, values[[0, 1, 6]])
    assert scene.band_choice == BandChoice(7, (0, 1, 6))
    assert read_scene(tmp_path / "a.npy", bands="0:2").peak == values[:2].max()  # of the bands that are read
    mapped = read_scene(tmp_path / "a.npy", bands="2:5", peak=1.0).pixels
    assert isinstance(mapped, np.memmap)  # bands that follow each other stay on the disk
    with pytest.raises(ValueError, match=r"a\.npy: bands 7 are not there"):
        read_scene(tmp_path / "a.npy", bands="7")
    with pytest.raises(ValueError, match=r"a\.npy: wavelengths can't choose bands: the file does not tell"):
        read_scene(tmp_path / "a.npy", wavelengths="400:500")
    written = Scene(values, 3.0, CENTRES, "s")
    for name in ("b.npy", "b.npz", "b.mat"):
        write_scene(tmp_path / name, written)
        again = read_scene(tmp_path / name, wavelengths="400:1340", bands="1:")
        np.testing.assert_array_equal(again.pixels, values[1:4])
        assert (again.peak, again.band_choice) == (3.0, BandChoice(7, (1, 2, 3)))
    write_scene(tmp_path / "c.npy", again)
    assert read_scene(tmp_path / "c.npy").band_choice is None  # its bands are its own
    with pytest.raises(ValueError, match="bands and wavelengths have no band in common"):
        read_scene(tmp_path / "b.npy", wavelengths="400:500", bands="5")


@pytest.mark.parametrize("interleaved", [False, True])
def test_empty_bands_and_partial_nodata(tmp_path: Path, interleaved: bool) -> None:
    """As EnMAP's: bands of nothing but nodata, pixels that hold it in one band, pixels that hold it in all."""
    values = np.random.default_rng(0).integers(1, 99, (5, 4, 6)).astype(np.int16)
    values[[1, 3]] = -7
    values[0, 2, 3] = -7
    values[:, 0, 0] = -7
    file = tmp_path / "a.npy"
    np.save(file, values.transpose(1, 2, 0) if interleaved else values)
    how: dict[str, Any] = {"axes": "hwc" if interleaved else "chw", "nodata": -7}
    with pytest.warns(UserWarning, match="nothing but nodata") as told:
        scene = read_scene(file, **how)
    texts = [str(each.message) for each in told]
    assert len(texts) == 2
    assert "2 of 5 bands hold nothing but nodata (-7) and are left out: 1, 3 (from 0)" in texts[0]
    assert "1 of 24 pixels hold nodata (-7) in some bands only and are left out as a whole" in texts[1]
    assert scene.band_choice == BandChoice(5, (0, 2, 4))
    assert scene.valid is not None
    assert np.argwhere(~scene.valid).tolist() == [[0, 0], [2, 3]]
    with pytest.warns(UserWarning, match="left out: 1, 3"):
        scene = read_scene(file, **how, nodata_in="all")
    assert scene.valid is not None
    assert np.argwhere(~scene.valid).tolist() == [[0, 0]]
    assert scene.pixels[0, 2, 3] * scene.peak == pytest.approx(-7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scene = read_scene(file, **how, bands="2,4")  # none of them is empty, and no pixel is partial
    assert scene.valid is not None
    assert np.argwhere(~scene.valid).tolist() == [[0, 0]]
    with pytest.raises(ValueError, match=r"no pixel is valid: every one is nodata \(-7\) or masked"):
        read_scene(file, **how, bands="1,3")
    with pytest.raises(ValueError, match="nodata_in must be 'any' or 'all', got 'some'"):
        read_scene(file, nodata_in="some")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["bbl", "good_wavelengths"])
@pytest.mark.parametrize("where", ["bands", "file"])
def test_bad_bands_of_a_geotiff(tmp_path: Path, name: str, where: str) -> None:
    rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
    values = np.random.default_rng(0).integers(1, 99, (4, 3, 5)).astype(np.uint16)
    marks = "1011"

    def save(file: Path, marks: str) -> Path:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            with rasterio.open(file, "w", driver="GTiff", count=4, height=3, width=5, dtype="uint16") as image:
                image.write(values)
                if where == "file":
                    image.update_tags(**{name: f"{{{', '.join(marks)}}}"})
                else:
                    for band, mark in enumerate(marks):
                        image.update_tags(band + 1, **{name: mark})
        return file

    file = save(tmp_path / "a.tif", marks)
    with pytest.warns(UserWarning, match=r"1 of 4 bands are marked as bad \(bbl\) and kept"):
        assert read_scene(file).bands == 4
    scene = read_scene(file, bad_bands="drop", peak=1.0)
    np.testing.assert_array_equal(scene.pixels, values[[0, 2, 3]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_scene(file, bands=":").bands == 4  # asked for
    with pytest.raises(ValueError, match=rf"{name} marks every band as bad"):
        read_scene(save(tmp_path / "b.tif", "0000"))
    with pytest.raises(ValueError, match="every band that was chosen is marked as bad"):
        read_scene(file, bands="1", bad_bands="drop")
    with pytest.warns(UserWarning, match=rf"{name} has . entries for 4 bands, or no numbers: it is left out"):
        assert read_scene(save(tmp_path / "c.tif", "10x1")).bands == 4


def test_a_network_reads_the_bands_that_it_was_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from lkcanet.commands._reading import Reading
    from lkcanet.data import TrainingRecord, region_split
    from lkcanet.models import LKCANet
    from lkcanet.training import TrainOptions
    from lkcanet.training.facts import describe

    values = np.random.default_rng(0).integers(1, 99, (6, 32, 32)).astype(np.int16)
    np.save(tmp_path / "a.npy", values)
    trained = read_scene(tmp_path / "a.npy", bands="0:2,5")
    split = region_split((32, 32), "0:8,0:32", patch=8, stride=8, scale=2)
    record = TrainingRecord(describe(trained, split, TrainOptions()), "net")
    assert record.band_choice == BandChoice(6, (0, 1, 5))
    model = LKCANet(3, 2, 16, 1, reduction=8)
    scene = Reading().scene_for(tmp_path / "a.npy", model, record)
    np.testing.assert_array_equal(scene.pixels, trained.pixels)
    assert "those 3 that the network had" in capsys.readouterr().err
    # what holds three bands, or whose bands the user chose, is taken as it is
    np.save(tmp_path / "b.npy", values[:3])
    for file, how in (("b", Reading()), ("a", Reading(bands="3:"))):
        np.testing.assert_array_equal(
            np.rint(how.scene_for(tmp_path / f"{file}.npy", model, record).pixels * trained.peak),
            values[:3] if file == "b" else values[3:],
        )
    assert capsys.readouterr().err == ""
    damaged = TrainingRecord({"scene": {"bands": {"of": 2, "taken": [5]}}}, "net")
    with pytest.raises(ValueError, match="net: bands in its metadata are damaged"):
        damaged.band_choice  # noqa: B018
    two = describe([trained, trained.with_bands([0, 1, 2])], [split, split], TrainOptions())
    assert two["scene"]["bands"] == {"of": 6, "taken": [0, 1, 5]}
    assert "bands" not in describe([trained, read_scene(tmp_path / "b.npy")], [split, split], TrainOptions())["scene"]


def test_several_scenes_are_read_as_a_teacher_had_them(tmp_path: Path) -> None:
    from lkcanet.commands._reading import Reading
    from lkcanet.data import TrainingRecord, read_scenes

    record = TrainingRecord({"peak": 50.0, "scene": {"bands": {"of": 6, "taken": [1, 3]}}}, "teacher")
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(ord(name)).integers(1, 99, (6, 8, 9)).astype(np.int16))
    files = [tmp_path / "a.npy", tmp_path / "b.npy"]
    for scene in read_scenes(files, **Reading().arguments(record)):
        assert (scene.peak, scene.band_choice) == (50.0, BandChoice(6, (1, 3)))
    for scene in read_scenes(files, **Reading(peak=7.0, bands="0").arguments(record)):
        assert (scene.peak, scene.band_choice) == (7.0, BandChoice(6, (0,)))
