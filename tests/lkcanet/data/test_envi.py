"""ENVI: what spectral writes is read, what is written spectral and GDAL read, and bad headers are one clear error."""

import math
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

from lkcanet.data import Scene, normalise, read_scene
from lkcanet.data.bands import BandChoice
from lkcanet.data.wavelengths import to_nanometres

envi = pytest.importorskip("spectral.io.envi", reason="spectral is not installed")


@pytest.fixture
def cube() -> np.ndarray:
    """(4 bands, 5 rows, 6 columns) uint16, all values different."""
    return (np.random.default_rng(0).permutation(4 * 5 * 6).reshape(4, 5, 6) * 500 + 7).astype(np.uint16)


def save(path: Path, cube: np.ndarray, interleave: str = "bsq", lines: dict | None = None, data: str = ".img") -> Path:
    """A header and its data, with lines of the header replaced, or left out where None."""
    axes = {"bsq": (0, 1, 2), "bil": (1, 0, 2), "bip": (1, 2, 0)}[interleave]
    header: dict = {"samples": cube.shape[2], "lines": cube.shape[1], "bands": cube.shape[0], "header offset": 0}
    header |= {"data type": 12, "interleave": interleave, "byte order": 0, **(lines or {})}
    text = "ENVI\n" + "".join(f"{name} = {value}\n" for name, value in header.items() if value is not None)
    path.write_text(text, encoding="utf-8")
    path.with_suffix(data).write_bytes(np.ascontiguousarray(cube.transpose(axes)).tobytes())
    return path


def check(scene: Scene, cube: np.ndarray) -> None:
    assert scene.peak == cube.max()
    np.testing.assert_array_equal(scene.pixels, (cube / np.float64(cube.max())).astype(np.float32))


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8", "u2", "u4", "i8", "u8"])
def test_what_spectral_writes(tmp_path: Path, interleave: str, order: int, dtype: str, monkeypatch) -> None:
    monkeypatch.setattr(normalise, "_PIECE", 40)  # many pieces
    cube = np.random.default_rng(0).permutation(60).reshape(3, 4, 5).astype(dtype)
    envi.save_image(
        str(tmp_path / "a.hdr"),
        np.ascontiguousarray(cube.transpose(1, 2, 0)),
        interleave=interleave,
        byteorder=order,
        metadata={"wavelength": [0.4, 0.5005, 2.5], "wavelength units": "Micrometers", "band names": ["x", "y", "z"]},
    )
    for file in ("a.hdr", "a.img"):
        scene = read_scene(tmp_path / file)
        check(scene, cube)
        assert scene.name == "a"
        assert scene.wavelengths is not None
        assert scene.wavelengths.tolist() == [400, 500.5, 2500]
        assert scene.band_names == ("x", "y", "z")
        assert scene.georeference is None
        assert scene.valid is None


@pytest.mark.parametrize("header", ["a.hdr", "a.dat.hdr", "a.HDR"])
@pytest.mark.parametrize("suffix", [".dat", ".raw", ".bip", "", ".IMG"])
def test_names_of_the_two_files(tmp_path: Path, cube: np.ndarray, header: str, suffix: str) -> None:
    data = tmp_path / (f"a.dat{suffix}" if header == "a.dat.hdr" and suffix != ".dat" else f"a{suffix}")
    save(tmp_path / "x.hdr", cube, lines={"header offset": 3}).rename(tmp_path / header)
    data.write_bytes(b"abc" + (tmp_path / "x.img").read_bytes())
    (tmp_path / "x.img").unlink()
    check(read_scene(tmp_path / header), cube)
    check(read_scene(data), cube)


def test_which_data_and_which_header(tmp_path: Path, cube: np.ndarray) -> None:
    path = save(tmp_path / "a.hdr", cube)
    (tmp_path / "a.raw").write_bytes(b"of another image")
    check(read_scene(path), cube)
    (tmp_path / "a.raw").write_bytes((tmp_path / "a.img").read_bytes()[::-1])
    with pytest.raises(ValueError, match=r"a.hdr: its data could be a.img and a.raw: give the data file"):
        read_scene(path)
    check(read_scene(tmp_path / "a.img"), cube)
    (tmp_path / "a.img.hdr").write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match=r"a.img: has two headers, a.img.hdr and a.hdr"):
        read_scene(tmp_path / "a.img")
    (tmp_path / "b.hdr").write_bytes(path.read_bytes())
    with pytest.raises(FileNotFoundError, match=r"b.hdr: no data file beside it: none of b.img, b.dat"):
        read_scene(tmp_path / "b.hdr")
    (tmp_path / "c.dat").write_bytes(b"")
    with pytest.raises(ValueError, match=r"unsupported suffix '.dat'; .* ENVI data need c.dat.hdr or c.hdr"):
        read_scene(tmp_path / "c.dat")


def test_lines_of_a_header(tmp_path: Path, cube: np.ndarray) -> None:
    """Over several lines, with comments, capitals, an unknown encoding and entries of no interest."""
    path = save(tmp_path / "a.hdr", cube)
    more = "; comment = {\nWavelength Units = Nanometers\nWavelength = {\n 400, 500.5,\n 600, 700\n}\nstrange line\n"
    more += "description = {\n Größe, 1 µm }\nreflectance scale factor = 10000\nband names = {a,b,c,d,}\n"
    text = path.read_text() + more
    for encoding in ("utf-8", "utf-8-sig", "latin-1"):
        path.write_bytes(text.replace("\n", "\r\n").encode(encoding))
        scene = read_scene(path)
        assert scene.peak == pytest.approx(cube.max() / 1e4, rel=1e-15)
        np.testing.assert_allclose(scene.pixels, cube / np.float64(cube.max()), rtol=1e-7)
        check(read_scene(path, raw=True), cube)
        assert scene.wavelengths is not None
        assert scene.wavelengths.tolist() == [400, 500.5, 600, 700]
        assert scene.band_names == ("a", "b", "c", "d")


def test_nodata_and_bad_bands(tmp_path: Path, cube: np.ndarray) -> None:
    cube = cube.astype(np.int16)
    cube[2] = -1  # a bad band holds nothing
    cube[1, 1, 2] = cube[3, 4, 5] = -1
    cube[0, 1, 2] = 32767  # the largest value lies in an invalid pixel
    lines = {"data type": 2, "data ignore value": -1, "bbl": "{1, 1, 0, 1}", "wavelength": "{1, 2, 3, 4}"}
    path = save(tmp_path / "a.hdr", cube, "bil", lines)
    with pytest.warns(UserWarning, match=r"a.hdr: 2 of 30 pixels hold nodata \(-1\) in some bands only"):
        scene = read_scene(path, bad_bands="drop")
    kept = cube[[0, 1, 3]].astype(np.float64)
    expected = np.ones((5, 6), bool)
    expected[1, 2] = expected[4, 5] = False
    assert scene.valid is not None
    np.testing.assert_array_equal(scene.valid, expected)
    assert scene.peak == kept[:, expected].max() < 32767
    np.testing.assert_array_equal(scene.pixels[:, expected], (kept / scene.peak)[:, expected].astype(np.float32))
    around = [scene.pixels[:, row, column].tolist() for row, column in ((0, 2), (2, 2), (1, 1), (1, 3))]
    assert scene.pixels[:, 1, 2].tolist() in around
    assert scene.wavelengths is not None
    assert scene.wavelengths.tolist() == [1000, 2000, 4000]
    empty = r"a.hdr: 1 of 4 bands hold nothing but nodata \(-1\) and are left out: 2 \(from 0\)"
    with pytest.warns(UserWarning, match="nothing but nodata") as told:
        same = read_scene(path)  # the empty band is left out unasked
    assert [bool(re.search(empty, str(each.message))) for each in told] == [True, False]  # and none is bad and kept
    np.testing.assert_array_equal(same.pixels, scene.pixels)
    assert same.band_choice == scene.band_choice == BandChoice(4, (0, 1, 3))
    with pytest.warns(UserWarning, match=r"a.hdr: 1 of 4 bands are marked as bad \(bbl\) and kept"):
        read_scene(path, nodata=-2)
    with pytest.raises(ValueError, match="nodata 1e\\+06 cannot occur in pixels of int16"):
        read_scene(path, nodata=1e6)
    with pytest.raises(ValueError, match="bad_bands must be 'keep' or 'drop', got 'x'"):
        read_scene(path, bad_bands="x")  # type: ignore[arg-type]


def test_units() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for unit in ("nm", "Nanometers", None, "Unknown"):
            assert to_nanometres([400, 2500], unit, "") == pytest.approx([400, 2500])
        for unit in ("um", "µm", "Micrometers", "microns", "", None):
            assert to_nanometres([0.4005, 2.5], unit, "") == pytest.approx([400.5, 2500], abs=1e-12)
        assert to_nanometres([0.1, 2.5], "um", "") == pytest.approx([100, 2500])
    bad = (([4e3, 9e3], "Wavenumber"), ([1, 2, 300], None), ([0, 500], "nm"), ([math.nan], "nm"), ([1, 2], "Index"))
    for values, unit in bad:
        with pytest.warns(UserWarning, match=r"^x: wavelengths .* left out"):
            assert to_nanometres(values, unit, "x: ") is None


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ({"bands": None}, "has no line 'bands'"),
        ({"lines": ""}, "has no line 'lines'"),
        ({"samples": "six"}, "samples must be a whole number from 1, got 'six'"),
        ({"samples": 0}, "samples must be a whole number from 1, got '0'"),
        ({"samples": -6}, "samples must be a whole number"),
        ({"bands": "{4, 4}"}, "bands must be a whole number"),
        ({"header offset": -1}, "header offset must be a whole number from 0"),
        ({"data type": 6}, "data type must be a code of real numbers"),
        ({"data type": 99}, "data type must be a code"),
        ({"interleave": "tiled"}, "interleave must be bsq, bil or bip, got 'tiled'"),
        ({"byte order": 2}, "byte order must be 0 or 1"),
        ({"samples": 7}, "a.img: has 240 bytes, but its header a.hdr describes 280: truncated"),
        ({"samples": 5}, "a.img: has 240 bytes, but its header a.hdr describes 200: longer than that"),
        ({"lines": 10**15}, "lines must be a whole number"),
        ({"lines": 10**14}, "describes"),
        ({"wavelength": "{1, 2, 3, x}"}, "wavelength must be numbers, got '1, 2, 3, x'"),
        ({"reflectance scale factor": "0"}, "reflectance scale factor must be a finite number and not 0"),
        ({"data gain values": "{1, 2, x, 4}"}, "data gain values must be numbers"),
        ({"bbl": "{0, 0, 0, 0}"}, "bbl marks every band as bad"),
        ({"data ignore value": "none"}, "data ignore value must be numbers, got 'none'"),
        ({"map info": "{UTM, 1, 1, 5}"}, "map info must have 7 entries or more, got 4"),
        ({"map info": "{UTM, 1, 1, x, 5, 30, 30}"}, "map info must be numbers"),
        ({"map info": "{UTM, 1, 1, 5, 5, 0, 30}"}, "map info: transform must be invertible"),
        ({"map info": "{UTM, 1, 1, 5, 5, 30, 30, rotation=x}"}, "map info rotation must be numbers"),
        ({"file type": "ENVI Spectral Library"}, "is a spectral library"),
        ({"major frame offsets": "{2, 2}"}, "major frame offsets of .* are not supported"),
        ({"file compression": "1"}, "file compression of 1 are not supported"),
        ({"wavelength": "{1, 2, 3"}, "cannot be read as an ENVI header"),
        ({"lkcanet scene": "1"}, "cannot be read as a header of write_scene"),
    ],
)
def test_bad_headers(tmp_path: Path, cube: np.ndarray, lines: dict, message: str) -> None:
    path = save(tmp_path / "a.hdr", cube, lines=lines)
    with pytest.raises((ValueError, OSError), match=message) as caught:
        read_scene(path)
    assert "\n" not in str(caught.value)
    assert f"{tmp_path}/a" in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "warning"),
    [
        ({"byte order": None}, "a.hdr: the header has no byte order: taken for 0, little-endian"),
        ({"wavelength": "{1, 2}"}, "a.hdr: wavelength has 2 entries for 4 bands: it is left out"),
        ({"band names": "{a, b, c}"}, "a.hdr: band names has 3 entries for 4 bands: it is left out"),
        ({"bbl": "{1, 1, 1}"}, "a.hdr: bbl has 3 entries for 4 bands: it is left out"),
        ({"fwhm": "{1, 2, 3, 4, 5}"}, "a.hdr: fwhm has 5 entries for 4 bands: it is left out"),
        ({"data gain values": "{2, 2}"}, "a.hdr: data gain values has 2 entries for 4 bands: it is left out"),
        ({"data gain values": "{2, 0, 2, 2}"}, "a.hdr: data gain values are not all finite, or 0"),
        ({"fwhm": "{1, 2, 3, -4}"}, "a.hdr: fwhm are not all numbers from 0"),
    ],
)
def test_lines_that_are_left_out(tmp_path: Path, cube: np.ndarray, lines: dict, warning: str) -> None:
    path = save(tmp_path / "a.hdr", cube, lines=lines)
    with pytest.warns(UserWarning, match=re.escape(warning)) as told:
        scene = read_scene(path)
    assert len(told) == 1
    check(scene, cube)
    assert scene.wavelengths is None
    assert scene.band_names is None


@pytest.mark.parametrize("content", [b"", b"\x00\x01\xff" * 99, b"ENVY\nlines = 1\n", b"ENVI\n\x00", b"#?RADIANCE\n"])
def test_not_a_header(tmp_path: Path, cube: np.ndarray, content: bytes) -> None:
    save(tmp_path / "a.hdr", cube).write_bytes(content)
    with pytest.raises(OSError, match=r"a.hdr: cannot be read as an ENVI header"):
        read_scene(tmp_path / "a.hdr")


def test_options_of_other_formats(tmp_path: Path, cube: np.ndarray) -> None:
    path = save(tmp_path / "a.hdr", cube)
    with pytest.raises(ValueError, match=r"a.hdr: key 'a' was given"):
        read_scene(path, key="a")
    for options in ({"axes": "hwc"}, {"size": (5, 6)}):
        with pytest.raises(ValueError, match=r"a.hdr: axes and size do not apply to ENVI and GeoTIFF"):
            read_scene(path, **options)


# ---- map info, with GDAL as the other reader


@pytest.mark.parametrize(
    "entries",
    [
        "UTM, 1, 1, 500000.5, 4000020, 30, 20, 11, North, WGS-84, units=Meters",
        "UTM, 1.5, 2.5, 500000, 4000000, 20, 20, 33, South, WGS-84",
        "Geographic Lat/Lon, 1, 1, -5.25, 40.5, 0.001, 0.002, WGS-84, units=Degrees",
        "UTM, 1, 1, 500000.5, 4000020, 20, 20, 11, North, WGS-84, units=Meters, rotation=17.5",
        "Arbitrary, 1, 1, 0.5, 20, 2, 2, 0, North, rotation=-63",
    ],
)
def test_map_info_as_gdal_reads_it(tmp_path: Path, cube: np.ndarray, entries: str) -> None:
    rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
    path = save(tmp_path / "a.hdr", cube, lines={"map info": f"{{{entries}}}"})
    found = read_scene(path).georeference
    with rasterio.open(tmp_path / "a.img") as file:
        assert found is not None
        assert found.transform == pytest.approx(tuple(file.transform)[:6], rel=1e-12, abs=1e-9)
        if "Arbitrary" in entries:
            assert found.crs == ""
        else:
            assert rasterio.crs.CRS.from_user_input(found.crs) == file.crs


def test_a_half_turn_is_ambiguous(tmp_path: Path, cube: np.ndarray) -> None:
    path = save(tmp_path / "a.hdr", cube, lines={"map info": "{UTM, 1, 1, 5, 5, 30, 30, 11, North, rotation=180}"})
    with pytest.warns(UserWarning, match="rotation of 180 degrees, which is ambiguous"):
        assert read_scene(path).georeference is None
