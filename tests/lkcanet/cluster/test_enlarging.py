"""DataArrays through networks: the numbers are those of the command and of whole scenes, whatever the chunks."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

import lkcanet
from lkcanet import inference
from lkcanet.cluster import stacks
from lkcanet.data import read_scene, scene_from_array
from lkcanet.inference import reach
from lkcanet.models import LKCANet, Network, save_model

from .images import attentive, counts, local, placed, xarray

da = pytest.importorskip("dask.array", reason="dask is not installed")
Callback = pytest.importorskip("dask.callbacks", reason="dask is not installed").Callback


def scene_result(model: Network, values: np.ndarray, peak: float | None = None, valid=None, **options) -> np.ndarray:
    """The values of the whole scene's result, float32."""
    sharp = inference.super_resolve(model, scene_from_array(values, peak=peak, valid=valid), **options)
    return (sharp.pixels.astype(np.float64) * sharp.peak).astype(np.float32)


@pytest.mark.parametrize("chunks", [{"band": 1, "y": 17, "x": 9}, {"band": -1, "y": -1, "x": -1}, None])
@pytest.mark.parametrize("options", [{"tile": (16, 16)}, {"tile": (30, 12), "overlap": 11}, {"tile": (64, 64)}, {}])
def test_numbers_are_those_of_tiles_and_of_whole_scenes(options, chunks) -> None:
    """Bit for bit, channel attention and all; tiles that three others overlap, and one tile alone."""
    model, values = attentive(), counts().astype(np.float32)
    image = placed(values) if chunks is None else placed(values).chunk(chunks)
    sharp = lkcanet.super_resolve(model, image, **options)
    assert isinstance(sharp.data, da.Array)
    assert max(map(len, sharp.chunks[1:])) > 1 or not options or options["tile"] == (64, 64)
    assert np.array_equal(sharp.values, scene_result(model, values, **options))


def test_the_command_gives_the_same_numbers(tmp_path: Path) -> None:
    """Of a GeoTIFF that rioxarray wrote; a checkpoint by path, which gives the peak."""
    testing = pytest.importorskip("typer.testing", reason="typer is not installed")
    rioxarray = pytest.importorskip("rioxarray", reason="rioxarray is not installed")
    from lkcanet.cli import build_app

    values = counts()
    values[:, 5:8, 6:9] = 0
    placed(values, _FillValue=0).rio.to_raster(tmp_path / "lr.tif")
    save_model(attentive(), tmp_path / "net.safetensors", extra={"peak": 6000.0})
    given = [tmp_path / "lr.tif", tmp_path / "sr.npy", "-c", tmp_path / "net.safetensors", "--tile", "20,16"]
    ran = testing.CliRunner().invoke(build_app(), ["super-resolve", *map(str, given)])
    assert ran.exit_code == 0, ran.output
    expected = read_scene(tmp_path / "sr.npy")
    with rioxarray.open_rasterio(tmp_path / "lr.tif", chunks={"x": 13, "y": 11}) as image:
        lazy = lkcanet.super_resolve(str(tmp_path / "net.safetensors"), image, tile=(20, 16))
        lazy.rio.to_raster(tmp_path / "sr.tif", tiled=True, lock=threading.Lock())  # chunk by chunk
        sharp = lazy.compute()
    assert sharp.dtype == np.uint16
    numbers = np.rint(np.clip(expected.pixels.astype(np.float64) * 6000, 1, 65535)).astype(np.uint16)
    assert np.array_equal(sharp.values, np.where(expected.valid, numbers, 0))
    assert sharp.rio.nodata == 0
    assert tuple(sharp.rio.transform())[:6] == expected.georeference.transform
    with rioxarray.open_rasterio(tmp_path / "sr.tif") as back:
        assert np.array_equal(back.values, sharp.values)
        assert back.rio.crs == sharp.rio.crs
        assert np.allclose(back.x, sharp.x)


def test_a_receptive_field_makes_chunks_as_good_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """With as much around each chunk as the network says, and no less."""
    monkeypatch.setattr(stacks, "CHUNK_BYTES", 1 << 14)
    model, values = local(), counts(rows=140, columns=90).astype(np.float32)
    whole = scene_result(model, values, 4000.0)
    sharp = lkcanet.super_resolve(model, placed(values).chunk({"y": 50, "x": 7}), peak=4000.0)
    assert [len(chunks) > 1 for chunks in sharp.chunks] == [False, True, True]
    got = sharp.values
    bound = 64 * np.finfo(np.float32).eps * np.abs(whole).max()
    assert np.abs(got - whole).max() < bound
    monkeypatch.setattr(
        stacks, "widened", lambda pixels, lengths, _, widened=stacks.widened: widened(pixels, lengths, 0)
    )
    without = lkcanet.super_resolve(model, placed(values).chunk({"y": 50, "x": 7}), peak=4000.0).values
    assert np.abs(without - whole).max() > 100 * bound
    assert reach(model) > 2


def test_pixels_without_data_stay_so_and_spoil_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Holes at the edges of chunks, a corner that is all hole; NaN and a number mean the same."""
    monkeypatch.setattr(stacks, "CHUNK_BYTES", 1 << 14)
    model, values = local(), counts(rows=140, columns=130).astype(np.float32)
    valid = np.ones(values.shape[1:], bool)
    valid[40:62, 28:41] = valid[:70, 70:] = valid[100, 100] = False
    expected = scene_result(model, values, 4000.0, valid)
    seen = valid.repeat(2, 0).repeat(2, 1)
    bound = 64 * np.finfo(np.float32).eps * np.abs(expected).max()
    for filler, attributes in ((np.nan, {}), (-9999.0, {"_FillValue": -9999.0})):
        holed = np.where(valid, values, np.float32(filler))
        sharp = lkcanet.super_resolve(model, placed(holed, **attributes).chunk({"y": 64, "x": 32}), peak=4000.0)
        assert sharp.data.npartitions > 1
        got = sharp.values
        assert np.abs(got - expected)[:, seen].max() < bound
        assert np.array_equal(got[:, ~seen], np.full_like(got[:, ~seen], filler), equal_nan=True)
    # in tiles the hole is filled from the tile; here it lies within one, so these are the command's bits
    valid = np.ones(valid.shape, bool)
    valid[10:13, 10:13] = False
    model, tile = attentive(), {"tile": (48, 48)}
    tiled = lkcanet.super_resolve(model, placed(np.where(valid, values, np.float32(np.nan))), peak=4000.0, **tile)
    expected, seen = scene_result(model, values, 4000.0, valid, **tile), valid.repeat(2, 0).repeat(2, 1)
    assert np.array_equal(tiled.values[:, seen], expected[:, seen])
    assert np.isnan(tiled.values[:, ~seen]).all()


def test_one_band_without_data_or_all() -> None:
    model, values = attentive(), counts()
    values[0, 4, 4] = values[:, 20, 20] = 0
    image = placed(values, _FillValue=0)
    some, only_all = (lkcanet.super_resolve(model, image, nodata_in=rule).values for rule in ("any", "all"))
    assert (some[:, 8:10, 8:10] == 0).all()
    assert (some[:, 40:42, 40:42] == 0).all()
    assert (only_all[:, 8:10, 8:10] != 0).all()
    assert (only_all == 0).all(0).sum() == 4


def test_integers_are_rounded_clipped_and_never_become_nodata() -> None:
    """The bicubic image of a step overshoots what uint8 holds, and passes through the nodata value."""
    model = LKCANet(4, 2, 16, 1, reduction=8)  # fresh: the bicubic image
    values = np.full((4, 12, 16), 2, np.uint8)
    values[:, :, 8:] = 255
    floats = lkcanet.super_resolve(model, placed(values.astype(np.float64))).values
    assert floats.dtype == np.float64
    assert floats.max() > 258
    assert floats.min() < -1
    got = lkcanet.super_resolve(model, placed(values)).values
    assert np.array_equal(got, np.clip(np.rint(floats), 0, 255).astype(np.uint8))
    marked = lkcanet.super_resolve(model, placed(values), nodata=0)
    assert marked.attrs["_FillValue"] == 0
    assert np.array_equal(marked.values, np.maximum(got, 1))
    large = lkcanet.super_resolve(model, placed(np.full((4, 8, 8), 2**64 - 1, np.uint64))).values
    assert (large > 2**63).all()


def test_a_network_of_nan_is_told() -> None:
    model = attentive()
    with torch.no_grad():
        model.head.bias.fill_(torch.nan)
    with pytest.raises(ValueError, match="the result holds NaN or infinite pixels"):
        lkcanet.super_resolve(model, placed(counts()), tile=(20, 20)).compute()


def test_scale_and_offset_are_applied_and_put_back() -> None:
    """As a file holds it, against the values as floats: the same image, in the numbers of the file."""
    model, values = attentive(), counts().astype(np.int16)
    reflectance = values * 1e-4 - 0.1
    decoded = lkcanet.super_resolve(model, placed(reflectance), tile=(20, 20)).values
    image = placed(values, scale_factor=1e-4, add_offset=-0.1)
    sharp = lkcanet.super_resolve(model, image, tile=(20, 20))
    assert sharp.dtype == np.int16
    assert (sharp.attrs["scale_factor"], sharp.attrs["add_offset"]) == (1e-4, -0.1)
    assert np.abs(sharp.values * 1e-4 - 0.1 - decoded).max() <= 0.51e-4
    each = placed(values, scales=(1e-4, 1e-4, 1e-4, 1e-4), offsets=(-0.1,) * 4)
    assert np.array_equal(lkcanet.super_resolve(model, each, tile=(20, 20)).values, sharp.values)


def test_each_scene_of_a_stack_is_one_of_its_own() -> None:
    """Any order of axes; each divided by its own maximum, as the command would."""
    model, scenes = attentive(), [factor * counts(seed=factor).astype(np.float32) for factor in (1, 3)]
    stack = xarray.concat([placed(scene) for scene in scenes], dim="time").assign_coords(time=[2020, 2021])
    sharp = lkcanet.super_resolve(model, stack.transpose("y", "band", "time", "x").chunk({"band": 2}), tile=(20, 20))
    assert sharp.dims == ("y", "band", "time", "x")
    assert sharp.time.values.tolist() == [2020, 2021]
    for index, scene in enumerate(scenes):
        expected = scene_result(model, scene, tile=(20, 20))
        assert np.array_equal(sharp.isel(time=index).transpose("band", "y", "x").values, expected)


@pytest.mark.parametrize("model", [attentive(), local()], ids=["tiles", "chunks"])
def test_memory_is_bounded(model: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a long scene, whose results are stored as they come: a few tiles, however long it is; of chunks the
    low-resolution scene at most besides, which dask may read ahead."""
    monkeypatch.setattr(stacks, "CHUNK_BYTES", 1 << 14)
    options = {"tile": (32, 32)} if isinstance(model, LKCANet) else {}
    beyond = []
    for pieces in (24, 60):
        data = da.ones((4, 32 * pieces, 32), chunks=(4, 32, 32), dtype=np.float32).map_blocks(_noisy, dtype=np.float32)
        sharp = lkcanet.super_resolve(model, xarray.DataArray(data, dims=("band", "y", "x")), peak=1.0, **options)
        held, out = [0], np.empty(sharp.shape, np.float32)
        with Callback(
            posttask=lambda _, __, ___, state, ____, held=held, out=out: held.append(_bytes_in(state["cache"], out))
        ):
            da.store(sharp.data, out, lock=False, scheduler="sync")
        assert np.isfinite(out).all()
        ahead = 0 if options else data.nbytes
        beyond.append(max(held) - ahead)
        assert beyond[-1] < 6 * 4 * (2 * 32) ** 2 * 4, "six tiles of output"
    assert beyond[1] < 1.2 * beyond[0] or not options


def _noisy(block: np.ndarray) -> np.ndarray:
    return np.random.default_rng(0).random(block.shape, np.float32)


def _bytes_in(cache: dict, out: np.ndarray) -> int:
    return sum(value.nbytes for value in cache.values() if isinstance(value, np.ndarray) and value is not out)


def test_an_ensemble_is_that_of_each_tile() -> None:
    model, values = attentive(), counts().astype(np.float32)
    expected = scene_result(model, values, tile=(24, 20), ensemble=True)
    got = lkcanet.super_resolve(model, placed(values), tile=(24, 20), ensemble=True).values
    assert np.abs(got - expected).max() < 64 * np.finfo(np.float32).eps * np.abs(expected).max()
    assert np.abs(got - scene_result(model, values, tile=(24, 20))).max() > 1e-4 * np.abs(expected).max()
