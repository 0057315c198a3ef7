"""ENVI images written: nothing lost, read by spectral and GDAL too, and never a header beside other data."""

import errno
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lkcanet.data import Georeference, Scene, read_scene, write_scene

from .written_scenes import check_same, masked_scene

envi = pytest.importorskip("spectral.io.envi", reason="spectral is not installed")

UTM = (30.0, 0.0, 500000.5, 0.0, -30.0, 4000020.0)
TURNED = (20 * math.cos(0.3), 20 * math.sin(0.3), 5e5, 20 * math.sin(0.3), -20 * math.cos(0.3), 4e6)
WKT = 'PROJCS["WGS 84 / UTM zone 11N", GEOGCS["WGS 84"]]'


@pytest.fixture
def scene() -> Scene:
    return masked_scene(
        Georeference(UTM, WKT),
        name="Größe {1}, a",
        source="x=1/{y}",
        band_names=["a, b", "c", "µ", "d"],
    )


def test_round_trip(tmp_path: Path, scene: Scene) -> None:
    path = tmp_path / "a.hdr"
    for part in (scene, Scene(scene.pixels[:1], 1 / 3), Scene(scene.pixels, 7.0, band_names=("p", "q", "r", "s"))):
        write_scene(path, part)
        again = read_scene(path)
        check_same(again, part)
        assert isinstance(again.pixels, np.memmap) == (part.valid is None)
    halved = read_scene(path, peak=14)
    np.testing.assert_array_equal(halved.pixels, scene.pixels / 2)
    assert halved.peak == 14
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.hdr", "a.img"]
    with pytest.raises(ValueError, match="was written by write_scene with its mask: leave nodata out"):
        read_scene(path, nodata=0)


def test_spectral_reads_what_is_written(tmp_path: Path, scene: Scene) -> None:
    part = Scene(scene.pixels, 3.5, scene.wavelengths, band_names=("p", "q", "r", "s"))
    write_scene(tmp_path / "a.hdr", part)
    image = envi.open(str(tmp_path / "a.hdr"))
    np.testing.assert_array_equal(image.open_memmap(interleave="bsq"), part.pixels)
    assert image.bands.centers == list(part.wavelengths)  # type: ignore[arg-type]
    assert image.metadata["band names"] == ["p", "q", "r", "s"]
    assert {float(gain) for gain in image.metadata["data gain values"]} == {3.5}


def test_what_another_program_changed_holds(tmp_path: Path, scene: Scene) -> None:
    path = tmp_path / "a.hdr"
    write_scene(path, scene)
    text = path.read_text()
    path.write_text(text.replace("500000.5, 4000020.0", "7.0, 8.0").replace("{a b, c,", "{soil, c,"))
    again = read_scene(path)
    assert again.georeference is not None
    assert again.georeference.transform == (30, 0, 7, 0, -30, 8)
    assert again.band_names == ("soil", "c", "?", "d")
    assert again.peak == scene.peak
    gain = ", ".join([repr(scene.peak)] * 4)
    path.write_text(text.replace(gain, "1.0, 1.0, 1.0, 1.0"))  # its values are counts now
    (tmp_path / "a.img").write_bytes((scene.pixels * np.float32(scene.peak)).tobytes())
    again = read_scene(path)
    assert again.peak == pytest.approx(scene.peak * float(scene.pixels.max()))
    assert again.pixels.max() == 1


def test_every_shorter_file_is_refused(tmp_path: Path, scene: Scene) -> None:
    write_scene(tmp_path / "a.hdr", scene)
    for name in ("a.hdr", "a.img"):
        whole = (tmp_path / name).read_bytes()
        for length in [*range(0, len(whole) - 2, 5), len(whole) - 2]:  # the last byte of the header ends its last line
            (tmp_path / name).write_bytes(whole[:length])
            with pytest.raises((OSError, ValueError), match=r"/a\."):
                read_scene(tmp_path / "a.hdr")
        (tmp_path / name).write_bytes(whole)
    (tmp_path / "a.img").write_bytes((tmp_path / "a.img").read_bytes() + b"x")
    with pytest.raises(OSError, match=r"has 481 bytes, but its header a.hdr describes 480"):
        read_scene(tmp_path / "a.hdr")


@pytest.fixture
def full_disk(monkeypatch) -> Iterator[None]:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    yield
    monkeypatch.undo()


def test_failed_write_leaves_the_old_pair(tmp_path: Path, scene: Scene, full_disk: None, monkeypatch) -> None:
    with pytest.raises(OSError, match="No space left"):
        write_scene(tmp_path / "a.hdr", scene)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    write_scene(tmp_path / "a.hdr", scene)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def killed(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(OSError, match="no"):
        write_scene(tmp_path / "a.hdr", Scene(scene.pixels / 2, 1.0))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    monkeypatch.undo()
    monkeypatch.setattr(Path, "replace", killed)  # between the two files
    with pytest.raises(KeyboardInterrupt):
        write_scene(tmp_path / "a.hdr", Scene(scene.pixels / 2, 1.0))
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["a.img"]  # no header that could describe other data


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
@pytest.mark.parametrize("transform", [UTM, TURNED, (2.0, 0.1, 3.0, 0.2, -5.0, 7.0), (-2.0, 0.0, 3.0, 0.0, 2.0, 7.0)])
@pytest.mark.parametrize("code", [32611, 32733, 4326, 3035])
def test_gdal_reads_what_is_written(tmp_path: Path, scene: Scene, transform: tuple, code: int) -> None:
    rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
    crs = rasterio.crs.CRS.from_epsg(code)
    place = Georeference(transform, crs.to_wkt())
    part = Scene(scene.pixels, 40.5, scene.wavelengths, "n", valid=scene.valid, georeference=place)
    write_scene(tmp_path / "a.hdr", part)
    assert read_scene(tmp_path / "a.hdr").georeference == place
    with rasterio.open(tmp_path / "a.img") as file:
        assert file.scales == (40.5,) * 4
        masked = file.read(masked=True)
        np.testing.assert_array_equal(masked.mask.any(0), ~part.valid)
        np.testing.assert_array_equal(masked.data[:, part.valid], part.pixels[:, part.valid])
        assert [float(file.tags(band)["wavelength"]) for band in (1, 2, 3, 4)] == list(part.wavelengths)
        if transform in (UTM, TURNED):
            assert tuple(file.transform)[:6] == pytest.approx(transform, rel=1e-12)
            assert file.crs == crs
    for crs_text in ("EPSG:32611", "EPSG:4326"):  # as a header without a coordinate system string gives it
        write_scene(tmp_path / "b.hdr", Scene(scene.pixels, 1.0, georeference=Georeference(UTM, crs_text)))
        with rasterio.open(tmp_path / "b.img") as file:
            assert file.crs == rasterio.crs.CRS.from_user_input(crs_text)
