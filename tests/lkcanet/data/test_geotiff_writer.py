"""GeoTIFF written: nothing lost, read by rasterio too, whole or not at all."""

import json
import resource
from pathlib import Path

import numpy as np
import pytest

from lkcanet.data import Georeference, Scene, read_scene, write_scene
from lkcanet.data.formats import geotiff_writer
from lkcanet.data.formats.encoded import Encoded

from .written_scenes import check_same, masked_scene

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")

UTM = (30.0, 0.0, 500000.5, 0.0, -30.0, 4000020.0)
TURNED = (20.0, 3.0, 5e5, 2.5, -18.0, 4e6)


@pytest.fixture
def scene() -> Scene:
    return masked_scene(
        Georeference(UTM, rasterio.crs.CRS.from_epsg(32611).to_wkt()),
        name="Größe <1>",
        source='x="1"&y',
        band_names=["a, b", "c", "µ", "d"],
    )


@pytest.mark.parametrize("transform", [UTM, TURNED, (1.0, 0.5, 0.0, 0.25, 1.0, 0.0)])
def test_round_trip(tmp_path: Path, scene: Scene, transform: tuple) -> None:
    crs = rasterio.crs.CRS.from_epsg(3035)
    for text in (crs.to_wkt(), crs.to_wkt(version="WKT2_2019"), "EPSG:3035", ""):
        part = Scene(
            scene.pixels, 1 / 3, scene.wavelengths, scene.name, scene.source, scene.band_names, scene.valid,
            Georeference(transform, text),
        )  # fmt: skip
        write_scene(tmp_path / "a.tif", part)
        again = read_scene(tmp_path / "a.tif")
        check_same(again, part)
    bare = Scene(scene.pixels[:1], 7.0)
    write_scene(tmp_path / "a.tif", bare)
    again = read_scene(tmp_path / "a.tif")
    assert (again.peak, again.name, again.wavelengths, again.valid, again.georeference) == (7, "", None, None, None)
    np.testing.assert_array_equal(read_scene(tmp_path / "a.tif", peak=14).pixels, bare.pixels / 2)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_rasterio_reads_what_is_written(tmp_path: Path, scene: Scene) -> None:
    write_scene(tmp_path / "a.tif", scene)
    with rasterio.open(tmp_path / "a.tif") as file:
        assert tuple(file.transform)[:6] == UTM
        assert file.crs.to_epsg() == 32611
        assert np.isnan(file.nodata)
        assert file.scales == (scene.peak,) * 4
        assert file.descriptions == ("a, b", "c", "µ", "d")
        assert file.tags(2) == {"wavelength": "500.0", "wavelength_units": "Nanometers"}
        profile = {key: file.profile[key] for key in ("dtype", "compress", "tiled", "interleave")}
        assert profile == {"dtype": "float32", "compress": "deflate", "tiled": True, "interleave": "band"}
        assert file.tags(ns="IMAGE_STRUCTURE")["PREDICTOR"] == "3"
        masked = file.read(masked=True)
    assert scene.valid is not None
    np.testing.assert_array_equal(masked.mask, np.broadcast_to(~scene.valid, masked.shape))
    np.testing.assert_array_equal(masked.data[:, scene.valid], scene.pixels[:, scene.valid])


def test_what_another_program_changed_holds(tmp_path: Path, scene: Scene) -> None:
    path = tmp_path / "a.tif"
    write_scene(path, scene)
    with rasterio.open(path, "r+") as file:
        file.transform, file.crs = rasterio.Affine(*TURNED), rasterio.crs.CRS.from_epsg(3035)
        file.set_band_description(1, "soil")
    again = read_scene(path)
    assert again.georeference is not None
    assert again.georeference.transform == TURNED
    assert rasterio.crs.CRS.from_wkt(again.georeference.crs).to_epsg() == 3035
    assert again.band_names == ("soil", "c", "µ", "d")
    assert again.pixels.tobytes() == scene.pixels.tobytes()
    counts = tmp_path / "b.tif"
    with rasterio.open(path) as old, rasterio.open(counts, "w", **{**old.profile, "nodata": None}) as file:
        file.write(scene.pixels * np.float32(scene.peak))
        file.update_tags(**old.tags())  # as gdal_translate -unscale
    again = read_scene(counts)
    assert again.peak == pytest.approx(scene.peak * float(scene.pixels.max()))
    assert again.pixels.max() == 1


def test_every_shorter_file_is_refused(tmp_path: Path, scene: Scene) -> None:
    path = tmp_path / "a.tif"
    write_scene(path, scene)
    whole = path.read_bytes()
    for length in [*range(0, len(whole) - 1, 41), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(OSError, match=r"a.tif: cannot be read as a GeoTIFF"):
            read_scene(path)


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, scene: Scene) -> None:
    """GDAL itself reports nothing: the kernel refuses to let a file grow beyond a limit."""
    path = tmp_path / "a.tif"
    write_scene(path, scene)
    before = path.read_bytes()
    large = Scene(np.random.default_rng(0).random((3, 100, 100), np.float32), 1.0)
    soft = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (500, 5_000, 50_000, 100_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, soft[1]))
        try:
            with pytest.raises(OSError, match=r"a.tif: the GeoTIFF could not be written whole, disk full\?"):
                write_scene(path, large)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, soft)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.tif"]


def test_what_was_written_is_read_back(tmp_path: Path, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    write = geotiff_writer._write_band

    def wrong(file, encoded: Encoded, band: int) -> int:
        told = write(file, encoded, band)
        file.write(np.zeros((5, 6), np.float32), band + 1)
        return told

    monkeypatch.setattr(geotiff_writer, "_write_band", wrong)
    with pytest.raises(OSError, match=r"a.tif: the GeoTIFF could not be written whole"):
        write_scene(tmp_path / "a.tif", scene)
    assert list(tmp_path.iterdir()) == []


def test_a_world_file_of_an_older_image_is_not_read(tmp_path: Path, scene: Scene) -> None:
    write_scene(tmp_path / "a.tif", Scene(scene.pixels, 1.0))
    (tmp_path / "a.tfw").write_text("30\n0\n0\n-30\n500\n400\n")
    assert read_scene(tmp_path / "a.tif").georeference is None
    world = (tmp_path / "a.tfw").read_text()
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", count=4, height=5, width=6, dtype="float32") as file:
        file.write(scene.pixels)  # another program's
    (tmp_path / "a.tfw").write_text(world)
    found = read_scene(tmp_path / "a.tif").georeference
    assert found is not None
    assert found.transform == (30, 0, 485, 0, -30, 415)


def test_a_system_that_proj_does_not_know(tmp_path: Path, scene: Scene) -> None:
    part = Scene(scene.pixels, 1.0, georeference=Georeference(UTM, "somewhere"))
    with pytest.raises(ValueError, match=r"georeference.crs is not a system that PROJ knows: 'somewhere'"):
        write_scene(tmp_path / "a.tif", part)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_record(tmp_path: Path, scene: Scene) -> None:
    def record_without(*names: str) -> None:
        write_scene(tmp_path / "a.tif", scene)
        with rasterio.open(tmp_path / "a.tif", "r+") as file:
            record = json.loads(file.tags()["LKCANET_SCENE"])
            file.update_tags(LKCANET_SCENE=json.dumps({key: record[key] for key in record if key not in names}))

    record_without("peak")
    with pytest.raises(OSError, match=r"a.tif: cannot be read as a GeoTIFF file of write_scene.* a checksum differs"):
        read_scene(tmp_path / "a.tif")
    record_without("peak", "checksum")
    with pytest.raises(OSError, match=r"a.tif: cannot be read as a scene of write_scene"):
        read_scene(tmp_path / "a.tif")
    record_without("checksum")  # as earlier versions wrote it
    assert read_scene(tmp_path / "a.tif").peak == scene.peak


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_byte_that_makes_gdal_drop_all_metadata(tmp_path: Path, scene: Scene) -> None:
    write_scene(tmp_path / "a.tif", scene)
    whole = (tmp_path / "a.tif").read_bytes()
    for part in (b"<GDALMetadata>", b"LKCANET_SCENE", b"<Item name", b"</Item>", b"</GDALMetadata>"):
        for byte in (b"\xb8", b"<", b"\0"):
            damaged = bytearray(whole)
            damaged[whole.index(part) + 1 : whole.index(part) + 2] = byte
            (tmp_path / "a.tif").write_bytes(damaged)
            try:
                again = read_scene(tmp_path / "a.tif")
            except OSError as error:
                assert str(error).startswith(f"{tmp_path / 'a.tif'}: cannot be read as a GeoTIFF")  # noqa: PT017
            else:  # GDAL got over it
                assert (again.peak, again.name) == (scene.peak, scene.name), (part, byte)
