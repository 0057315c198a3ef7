"""From a file with a place on Earth, through `lkca`, to a file with the same place: and no filler on the way."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from lkcanet.data import Georeference, Scene, read_scene, scene_from_array, write_scene
from lkcanet.models import LKCANet, save_model

from ..command_line import succeeds

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
envi = pytest.importorskip("spectral.io.envi", reason="spectral is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")

ROWS, COLUMNS, NODATA = 24, 36, -9999
NORTH_UP = (30.0, 0.0, 500000.5, 0.0, -30.0, 4000020.0)
TURNED = (20 * math.cos(0.3), 20 * math.sin(0.3), 5e5, 20 * math.sin(0.3), -20 * math.cos(0.3), 4e6)
NAMES, MICROMETRES = ["blue", "green", "red", "nir"], ["0.48", "0.5605", "0.66", "0.86"]
NANOMETRES = [480, 560.5, 660, 860]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network for 4 bands that does something."""
    torch.manual_seed(0)
    model = LKCANet(4, 2, 16, 1, 1, reduction=8)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    path = tmp_path_factory.mktemp("geo") / "net.safetensors"
    save_model(model, path, extra={"peak": 3000.0})
    return path


def holes() -> np.ndarray:
    """Where the sensor saw nothing."""
    mask = np.zeros((ROWS, COLUMNS), bool)
    mask[5:9, 7:10] = mask[20, 30] = mask[:, -2:] = True
    return mask


def save(path: Path, transform: tuple, filler: int = NODATA) -> Path:
    """Counts as a sensor's product holds them, written by the libraries alone."""
    rng = np.random.default_rng(0)
    counts = (1000 + 900 * np.sin(np.arange(ROWS)[:, None] / 5) * np.cos(np.arange(COLUMNS) / 4)).astype(np.int16)
    cube = counts + rng.integers(0, 900, (4, ROWS, COLUMNS)).astype(np.int16)
    cube[2, holes()] = filler
    if path.suffix == ".tif":
        shape = {"count": 4, "height": ROWS, "width": COLUMNS, "dtype": "int16", "nodata": filler}
        place = {"transform": rasterio.Affine(*transform), "crs": rasterio.crs.CRS.from_epsg(32611)}
        with rasterio.open(path, "w", driver="GTiff", **shape, **place) as file:
            file.write(cube)
            for band in range(4):
                file.set_band_description(band + 1, NAMES[band])
                file.update_tags(band + 1, wavelength=MICROMETRES[band], wavelength_units="Micrometers")
        return path
    turn = f", rotation={math.degrees(0.3)}" if transform == TURNED else ""
    side = 20 if transform == TURNED else 30
    map_info = f"{{UTM, 1, 1, {transform[2]}, {transform[5]}, {side}, {side}, 11, North, WGS-84, units=Meters{turn}}}"
    lines = {"wavelength": MICROMETRES, "wavelength units": "Micrometers", "band names": NAMES}
    lines |= {"data ignore value": filler, "map info": map_info}
    envi.save_image(str(path), cube.transpose(1, 2, 0), interleave="bil", force=True, metadata=lines)
    return path


def place(path: Path) -> tuple[tuple, int, tuple, tuple, list]:
    """Transform, EPSG code, size, band names and wavelengths of a file as GDAL reads them."""
    with rasterio.open(path if path.suffix == ".tif" else path.with_suffix(".img")) as file:
        waves = [float(file.tags(band)["wavelength"]) for band in file.indexes]
        names = tuple(name.partition(" (")[0] for name in file.descriptions)
        return tuple(file.transform)[:6], file.crs.to_epsg(), file.shape, names, waves


def corners(transform: tuple, size: tuple[int, int]) -> np.ndarray:
    a, b, c, d, e, f = transform
    grid = np.array([(x, y) for x in (0, size[1]) for y in (0, size[0])])
    return grid @ np.array([[a, d], [b, e]]) + (c, f)


@pytest.mark.parametrize("source", ["in.tif", "in.hdr"])
@pytest.mark.parametrize("result", ["out.tif", "out.hdr"])
@pytest.mark.parametrize("transform", [NORTH_UP, TURNED])
def test_place_names_and_mask_are_carried(
    tmp_path: Path, network: Path, source: str, result: str, transform: tuple
) -> None:
    scene, small, out = save(tmp_path / source, transform), tmp_path / f"small_{result}", tmp_path / result
    a, b, c, d, e, f = transform
    succeeds("degrade", scene, small, "--scale", 4)
    succeeds("super-resolve", scene, out, "-c", network)
    for path, scale in ((small, 1 / 4), (out, 2)):
        found, code, size, names, waves = place(path)
        expected = (a / scale, b / scale, c, d / scale, e / scale, f)
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-9)
        assert (code, size) == (32611, (ROWS * scale, COLUMNS * scale))
        np.testing.assert_allclose(corners(found, size), corners(transform, (ROWS, COLUMNS)), rtol=0, atol=1e-6)
        assert (names, waves) == (tuple(NAMES), NANOMETRES)
        again = read_scene(path)
        assert again.georeference is not None
        assert again.georeference.transform == pytest.approx(expected, rel=1e-12, abs=1e-9)
        assert rasterio.crs.CRS.from_user_input(again.georeference.crs).to_epsg() == 32611
    invalid = holes()
    np.testing.assert_array_equal(read_scene(out).valid, ~invalid.repeat(2, 0).repeat(2, 1))  # type: ignore[arg-type]
    blocks = invalid.reshape(ROWS // 4, 4, COLUMNS // 4, 4).any((1, 3))
    np.testing.assert_array_equal(read_scene(small).valid, ~blocks)  # type: ignore[arg-type]
    with rasterio.open(out if out.suffix == ".tif" else out.with_suffix(".img")) as file:
        assert (file.dtypes[0], file.nodata) == ("int16", NODATA)
        np.testing.assert_array_equal(file.read(1) == NODATA, invalid.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("transform", [NORTH_UP, TURNED])
def test_a_region_moves_the_origin(tmp_path: Path, network: Path, transform: tuple) -> None:
    scene = save(tmp_path / "in.tif", transform)
    succeeds("super-resolve", scene, tmp_path / "out.tif", "-c", network, "--region", "4:20,6:30")
    found, _, size, _, _ = place(tmp_path / "out.tif")
    a, b, c, d, e, f = transform
    expected = (a / 2, b / 2, c + 6 * a + 4 * b, d / 2, e / 2, f + 6 * d + 4 * e)
    assert found == pytest.approx(expected, rel=1e-12)
    assert size == (32, 48)


@pytest.mark.parametrize("kind", ["in.tif", "in.hdr"])
@pytest.mark.parametrize("result", ["out.tif", "out.npy"])
def test_no_filler_bleeds_through_the_network(tmp_path: Path, network: Path, kind: str, result: str) -> None:
    """Another filler in the file changes no bit of any valid pixel, neither of the network's nor of the LR image."""
    pixels: dict[str, list[np.ndarray]] = {"super-resolve": [], "degrade": []}
    for filler in (NODATA, 0, 32767):
        scene = save(tmp_path / kind, NORTH_UP, filler)
        for command, options in (("super-resolve", ("-c", network, "--overwrite")), ("degrade", ("--scale", 2))):
            succeeds(command, scene, tmp_path / result, *options)
            found = read_scene(tmp_path / result)
            assert found.valid is not None
            pixels[command].append(found.pixels[:, found.valid])
    for first, *others in pixels.values():
        assert first.std() > 0.05
        assert all(other.tobytes() == first.tobytes() for other in others)


def test_without_its_declaration_a_filler_would_bleed(tmp_path: Path, network: Path) -> None:
    """What the test above would see if the mask were lost; --nodata declares it."""
    values = read_scene(save(tmp_path / "in.tif", NORTH_UP)).pixels.copy()
    results = []
    for filler in (7.0, 9.0):
        values[:, holes()] = filler
        np.save(tmp_path / "in.npy", values)
        for options in ([], ["--nodata", filler]):
            succeeds("degrade", tmp_path / "in.npy", tmp_path / "out.npy", "--scale", 2, "--peak", 1, *options)
            found = read_scene(tmp_path / "out.npy")
            assert (found.valid is None) == (not options)
            clear = ~holes().reshape(ROWS // 2, 2, COLUMNS // 2, 2).any((1, 3))
            results.append(found.pixels[:, clear])
    assert not np.array_equal(results[0], results[2])
    assert results[1].tobytes() == results[3].tobytes()


def test_every_command_that_computes_takes_nodata(tmp_path: Path, network: Path) -> None:
    """A plain array, whose filler no file declares: its value plays no part in training, scores and results."""
    pytest.importorskip("lightning", reason="lightning is not installed")
    values = read_scene(save(tmp_path / "in.tif", NORTH_UP)).pixels.copy()
    found = []
    for filler in (7.0, 9.0):
        values[:, holes()] = filler
        np.save(tmp_path / "in.npy", values)
        given = (tmp_path / "in.npy", "--peak", 1, "--nodata", filler)
        succeeds("super-resolve", *given, tmp_path / "out.npy", "-c", network, "--overwrite")
        result = read_scene(tmp_path / "out.npy")
        assert result.valid is not None
        scores = succeeds("evaluate", *given, "-c", network, "--json")
        small = ("--scale", 2, "--patch", 3, "--channels", 16, "--blocks", 1, "--steps", 2, "--batch-size", 2)
        run = ("--test", ":,26:34", "--out", tmp_path / "run", "--overwrite", "--json", "--threads", 1)
        trained = json.loads(succeeds("train", *given, *small, *run))["validation"]
        found.append((result.pixels[:, result.valid].tobytes(), json.loads(scores)["scores"], trained))
    assert found[0] == found[1]
    assert found[0][1][1]["mpsnr"] > 10


@pytest.mark.parametrize(("source", "result"), [("in.tif", "in.tif"), ("in.hdr", "in.hdr"), ("in.img", "in.hdr")])
def test_no_command_replaces_its_own_scene(tmp_path: Path, network: Path, source: str, result: str) -> None:
    save(tmp_path / ("in.tif" if source == "in.tif" else "in.hdr"), NORTH_UP)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    scene, out = tmp_path / source, tmp_path / "." / result
    for command in (("super-resolve", scene, out, "-c", network, "--overwrite"), ("degrade", scene, out, "--scale", 2)):
        with pytest.raises(AssertionError, match=r"would replace the scene"):
            succeeds(*command)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_info(tmp_path: Path) -> None:
    facts = json.loads(succeeds("info", save(tmp_path / "in.hdr", TURNED), "--json"))
    assert facts["transform"] == pytest.approx(TURNED)
    assert facts["pixel_size"] == pytest.approx([20, 20])
    assert facts["crs"] == "EPSG:32611"
    assert facts["band_names"] == NAMES
    assert facts["wavelengths"] == NANOMETRES
    assert facts["invalid"] == pytest.approx(holes().mean())
    assert 0 <= facts["smallest"] < facts["mean"] < facts["largest"] == facts["peak"] < 3000
    text = succeeds("info", save(tmp_path / "in.tif", NORTH_UP))
    assert "WGS 84 / UTM zone 11N\n" in text
    assert "PROJCS" not in text
    bare = tmp_path / "bare.npy"
    np.save(bare, np.random.default_rng(0).random((2, 3, 4)))
    facts = json.loads(succeeds("info", bare, "--json"))
    assert [facts[name] for name in ("crs", "transform", "pixel_size", "band_names", "invalid")] == [None] * 4 + [0]


def test_bad_bands_are_dropped(tmp_path: Path) -> None:
    path = save(tmp_path / "in.hdr", NORTH_UP)
    path.write_text(path.read_text() + "\nbbl = { 1, 0, 1, 1 }\n")
    succeeds("degrade", path, tmp_path / "out.tif", "--scale", 2, "--drop-bad-bands")
    small = read_scene(tmp_path / "out.tif")
    assert small.band_names == ("blue", "red", "nir")
    whole = read_scene(path, bad_bands="keep").pixels
    np.testing.assert_array_equal(read_scene(path, bad_bands="drop").pixels, whole[[0, 2, 3]])


def test_show_draws_no_hole(tmp_path: Path, network: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    imageio = pytest.importorskip("imageio.v3", reason="imageio is not installed")
    for filler in (NODATA, 32767):
        scene = save(tmp_path / "in.tif", NORTH_UP, filler)
        succeeds("show", scene, "-c", network, "--pixel", "3,4", "--out", tmp_path / f"{filler}.png")
    first, second = (imageio.imread(tmp_path / f"{filler}.png") for filler in (NODATA, 32767))
    assert first.std() > 10
    np.testing.assert_array_equal(first, second)
    masked = read_scene(scene)
    write_scene(tmp_path / "whole.npz", Scene(masked.pixels, masked.peak, masked.wavelengths, "in"))
    succeeds("show", tmp_path / "whole.npz", "-c", network, "--pixel", "3,4", "--out", tmp_path / "whole.png")
    assert (imageio.imread(tmp_path / "whole.png") != first).mean() > 0.005  # holes are seen


def test_georeference() -> None:
    place = Georeference(TURNED, "x")
    a, b, c, d, e, f = TURNED
    moved = place.shifted(4, 6)
    assert moved.transform == pytest.approx((a, b, c + 6 * a + 4 * b, d, e, f + 6 * d + 4 * e))
    assert place.scaled(4).scaled(0.25).transform == pytest.approx(TURNED)
    assert place.agrees(Georeference((a, b, c + 1e-9, d, e, f), "y"))
    assert not place.agrees(Georeference((a, b, c + 1e-6, d, e, f), "x"))
    for bad in ((1, 2, 3), (1, 0, 0, 0, 0, 0), (1, 0, math.nan, 0, 1, 0)):
        with pytest.raises(ValueError, match="transform must be"):
            Georeference(bad)  # type: ignore[arg-type]


def test_envi_to_envi_keeps_its_own_words(tmp_path: Path) -> None:
    """A system that only ESRI knows goes through as it is."""
    text = 'PROJCS["Somewhere",GEOGCS["GCS_X",DATUM["D_X",SPHEROID["X",6378137.0,298.0]]]]'
    scene = scene_from_array(np.random.default_rng(0).random((2, 3, 4)), georeference=Georeference(NORTH_UP, text))
    write_scene(tmp_path / "a.hdr", scene)
    assert f"coordinate system string = {{{text}}}" in (tmp_path / "a.hdr").read_text()
    assert read_scene(tmp_path / "a.hdr").georeference == Georeference(NORTH_UP, text)
