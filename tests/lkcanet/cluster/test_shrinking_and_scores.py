"""Degradation and scores of DataArrays, against those of whole scenes."""

import numpy as np
import pytest

import lkcanet
from lkcanet.cluster import stacks
from lkcanet.data import scene_from_array, simulate_lowres
from lkcanet.evaluation import metrics

from .images import attentive, counts, placed, xarray


@pytest.mark.parametrize("psf_sigma", [None, 1.7])
def test_chunks_are_degraded_as_the_whole(psf_sigma, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "CHUNK_BYTES", 1 << 12)
    values = counts(rows=198, columns=189).astype(np.float32)
    valid = np.ones(values.shape[1:], bool)
    # at the edges of chunks, with their far side beyond what the kernel reads
    valid[60:67, 20:110] = valid[84:91, 20:110] = valid[:61, 120:] = valid[0, 0] = False
    whole = simulate_lowres(scene_from_array(values, peak=1.0, valid=valid), 3, psf_sigma=psf_sigma)
    holed = placed(np.where(valid, values, np.float32(np.nan))).chunk({"band": 1, "y": 41, "x": 50})
    lowres = lkcanet.degrade(holed, 3, psf_sigma=psf_sigma)
    assert lowres.shape == (4, 66, 63)
    assert all(len(chunks) > 1 for chunks in lowres.chunks[1:])
    got = lowres.values
    assert np.array_equal(np.isfinite(got[0]), whole.valid)
    seen = whole.valid
    if psf_sigma is None:
        bound = 16 * np.finfo(np.float32).eps * values.max()
        assert np.abs(got - whole.pixels)[:, seen].max() < bound
    else:
        assert np.array_equal(got[:, seen], whole.pixels[:, seen])


def test_integers_are_degraded_to_integers() -> None:
    values = counts()
    exact = lkcanet.degrade(placed(values.astype(np.float64)), 2).values
    lowres = lkcanet.degrade(placed(values), 2)
    assert lowres.dtype == np.uint16
    assert np.array_equal(lowres.values, np.rint(exact).astype(np.uint16))


def test_what_can_not_be_degraded_is_refused() -> None:
    image = placed(counts(rows=13, columns=9))
    with pytest.raises(ValueError, match=r"13 x 9 pixels by scale 2; take image.isel\(y=slice\(12\), x=slice\(8\)\)"):
        lkcanet.degrade(image, 2)
    assert lkcanet.degrade(image.isel(y=slice(12), x=slice(8)), 2).shape == (4, 6, 4)
    for scale, error in ((0, ValueError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match="scale must be"):
            lkcanet.degrade(image, scale)
    with pytest.raises(ValueError, match="psf_sigma must be a positive finite number, got -1"):
        lkcanet.degrade(image, 1, psf_sigma=-1)


def test_scores_are_those_of_arrays_scene_by_scene() -> None:
    targets = [placed(counts(seed=seed)) for seed in range(2)]
    target = xarray.concat(targets, dim="time").assign_coords(time=[3, 4]).astype(np.float32)
    prediction = target + 40 * np.sin(np.arange(target.size).reshape(target.shape)).astype(np.float32)
    prediction[0, :, 4:9, 5:7] = np.nan
    scores = lkcanet.evaluate(prediction.chunk({"band": 1}), target.chunk({"x": 5}), 2, floor=0.5, ssim="matlab")
    assert dict(scores.sizes) == {"time": 2}
    assert scores.time.values.tolist() == [3, 4]
    assert all(hasattr(scores[name].data, "dask") for name in scores)
    found = scores.compute()
    for index in range(2):
        arrays = [image.isel(time=index).values for image in (prediction, target)]
        valid = np.isfinite(arrays[0][0])
        peak = arrays[1][:, valid].max() if index else arrays[1].max()
        made, of = (np.where(valid, array, 0) / np.float64(peak) for array in arrays)
        how = {"valid": valid[None], "floor": 0.5, "ssim": "matlab"}
        expected = metrics.evaluate(made.astype(np.float32), of.astype(np.float32), 2, **how)
        assert {str(name): float(found[name][index]) for name in found} == dict(expected)
    single = lkcanet.evaluate(prediction.isel(time=1), target.isel(time=1), 2, peak=5000.0)
    assert single.mpsnr.dims == ()
    assert float(single.mpsnr) != float(found.mpsnr[1])


def test_scores_of_nothing_and_of_other_pixels() -> None:
    image = placed(counts().astype(np.float32))
    with pytest.raises(ValueError, match="prediction must be of the target's axes and shape"):
        lkcanet.evaluate(image.isel(x=slice(8)), image, 2)
    with pytest.raises(ValueError, match="not of the same pixels: their coordinates x differ"):
        lkcanet.evaluate(image.assign_coords(x=image.x + 10), image, 2)
    with pytest.raises(ValueError, match="ssim"):
        lkcanet.evaluate(image, image, 2, ssim="other")
    nothing = lkcanet.evaluate(image, image * np.nan, 2).compute()
    assert all(np.isnan(nothing[name]) for name in nothing)


def test_the_three_together_score_as_the_command_does() -> None:
    """degrade, super_resolve and evaluate, nothing computed in between."""
    from lkcanet.evaluation import score

    values, model = counts().astype(np.float32), attentive()
    image = placed(values).chunk({"y": 10})
    sharp = lkcanet.super_resolve(model, lkcanet.degrade(image, 2), peak=float(values.max()))
    found = lkcanet.evaluate(sharp, image, 2).compute()
    expected = score(scene_from_array(values), {"ours": model}).clean["ours"]
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(value, rel=1e-5), name
