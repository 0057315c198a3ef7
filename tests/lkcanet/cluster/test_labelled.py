"""What a DataArray keeps on its way: axes, coordinates, place, attributes. And what is refused, by name."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

import lkcanet
from lkcanet.cluster.coordinates import enlarged_centres, shrunk_centres
from lkcanet.data import demo_scene
from lkcanet.models import save_model

from .images import CRS, attentive, counts, placed, xarray


def test_place_and_attributes_are_those_that_rioxarray_makes(tmp_path) -> None:
    """Of the image with half the pixel size, and twice, made by rioxarray from the transform."""
    image = placed(counts(rows=12, columns=10), long_name="reflectance", _FillValue=0)
    image.encoding = {"dtype": "uint16", "grid_mapping": "spatial_ref", "chunksizes": (1, 12, 10), "source": "lr.tif"}
    a, b, c, d, e, f = tuple(image.rio.transform())[:6]
    results = {2: lkcanet.super_resolve(attentive(), image), 0.5: lkcanet.degrade(image, 2)}
    for factor, result in results.items():
        rows, columns = int(12 * factor), int(10 * factor)
        again = xarray.DataArray(np.zeros((4, rows, columns)), dims=image.dims).rio.write_crs(CRS)
        again = again.rio.write_transform(type(image.rio.transform())(a / factor, b, c, d, e / factor, f))
        again = again.assign_coords(again.rio.transform() and _centres(again))
        assert np.allclose(result.x, again.x, rtol=0, atol=1e-9)
        assert np.allclose(result.y, again.y, rtol=0, atol=1e-9)
        assert result.spatial_ref.attrs["GeoTransform"] == again.spatial_ref.attrs["GeoTransform"]
        assert result.rio.transform() == again.rio.transform() == result.rio.transform(recalc=True)
        assert result.rio.crs == image.rio.crs
        assert result.rio.bounds() == image.rio.bounds()
        assert result.attrs == image.attrs
        assert result.name == image.name
        assert result.dims == image.dims
        assert result.dtype == image.dtype
        assert result.encoding == {"dtype": "uint16", "grid_mapping": "spatial_ref"}
        xarray.testing.assert_equal(result.wavelength, image.wavelength)
        assert result.band.values.tolist() == [1, 2, 3, 4]
    assert image.spatial_ref.attrs["GeoTransform"].split()[1] == "20.0"  # the input is as it was


def _centres(image):
    a, _, c, _, e, f = tuple(image.rio.transform())[:6]
    return {"x": c + a * (np.arange(image.sizes["x"]) + 0.5), "y": f + e * (np.arange(image.sizes["y"]) + 0.5)}


def test_centres_of_uneven_axes_are_between_their_neighbours() -> None:
    uneven = np.array([0.0, 1.0, 3.0, 3.5])
    larger = enlarged_centres(uneven, 3)
    assert larger[1::3].tolist() == uneven.tolist()
    assert (np.diff(larger) > 0).all()
    assert larger[:3].tolist() == pytest.approx([-1 / 3, 0, 1 / 3])
    assert np.allclose(shrunk_centres(enlarged_centres(np.arange(5) * 7.0, 4), 4), np.arange(5) * 7.0)


def test_a_single_row_has_the_transform_and_what_follows_no_pixel_is_left_out() -> None:
    image = placed(counts(rows=1, columns=9))
    assert np.allclose(lkcanet.super_resolve(attentive(), image).y, [4e6 - 7.5, 4e6 - 22.5])
    bare = image.drop_vars("spatial_ref").assign_coords(
        name=("x", list("abcdefghi")), height=(("y", "x"), np.zeros((1, 9)))
    )
    with pytest.warns(UserWarning, match=r"coordinates that can't follow the pixels are left out: height, name, y$"):
        result = lkcanet.super_resolve(attentive(), bare)
    assert set(result.coords) == {"band", "wavelength", "x"}


def test_axes_by_usual_names_or_by_those_that_are_given() -> None:
    values = counts().astype(np.float32)
    expected = lkcanet.super_resolve(attentive(), placed(values)).values
    for dims in (("wavelength", "lat", "lon"), ("spectrum", "northing", "easting")):
        assert np.array_equal(lkcanet.super_resolve(attentive(), xarray.DataArray(values, dims=dims)).values, expected)
    turned = xarray.DataArray(values.transpose(2, 0, 1), dims=("u", "spectrum", "v"))
    with pytest.raises(ValueError, match=r"image has the axes \('u', 'spectrum', 'v'\), which don't tell bands"):
        lkcanet.super_resolve(attentive(), turned)
    result = lkcanet.super_resolve(attentive(), turned, dims=("spectrum", "v", "u"))
    assert result.dims == turned.dims
    assert np.array_equal(result.transpose("spectrum", "v", "u").values, expected)


def test_masked_files_keep_what_their_encoding_says(tmp_path) -> None:
    """masked=True, as rioxarray opens and writes it: NaN in memory, the number in the file."""
    rioxarray = pytest.importorskip("rioxarray")
    values = counts()
    values[:, 3, 3] = 7
    placed(values, _FillValue=7).rio.to_raster(tmp_path / "lr.tif")
    with rioxarray.open_rasterio(tmp_path / "lr.tif", masked=True, chunks=True) as image:
        sharp = lkcanet.super_resolve(attentive(), image)
        assert np.isnan(sharp.values[:, 6:8, 6:8]).all()
        assert np.isfinite(sharp.values).sum() == sharp.size - 16
        assert sharp.rio.encoded_nodata == 7
        sharp.rio.to_raster(tmp_path / "sr.tif")
    with rioxarray.open_rasterio(tmp_path / "sr.tif", masked=True) as back:
        assert np.array_equal(np.isnan(back.values), np.isnan(sharp.values))


@pytest.mark.parametrize(
    ("change", "options", "error", "words"),
    [
        (lambda image: image.astype(complex), {}, TypeError, "image must be of real integers or floats, got complex"),
        (lambda image: image.isel(band=[0, 1]), {}, ValueError, r"takes 4 bands, image has 2: .*image.isel\(band="),
        (lambda image: image.isel(x=slice(0)), {}, ValueError, "image must have pixels"),
        (lambda image: image, {"nodata": -1}, ValueError, "nodata -1 cannot occur in pixels of uint16"),
        (lambda image: image, {"nodata_in": "some"}, ValueError, "nodata_in must be 'any' or 'all', got 'some'"),
        (lambda image: image, {"peak": 0}, ValueError, "peak must be a positive finite number, got 0"),
        (lambda image: image, {"overlap": 3}, ValueError, "overlap goes with tile only"),
        (lambda image: image, {"tile": (0, 3)}, ValueError, r"tile must be \(rows, columns\)"),
        (lambda image: image, {"dims": ("band", "y", "z")}, ValueError, "dims must be the names of bands, rows"),
        (lambda image: image.assign_attrs(scale_factor=0), {}, ValueError, "scale_factor of image must not be 0"),
        (lambda image: image.assign_attrs(offsets=(1, 2)), {}, ValueError, "offsets of image must be a finite number"),
    ],
)
def test_what_can_not_be_is_refused_before_anything_is_computed(change, options, error, words) -> None:
    with pytest.raises(error, match=words):
        lkcanet.super_resolve(attentive(), change(placed(counts())), **options)


def test_pixels_and_scenes_that_can_not_be_are_told_when_they_are_computed() -> None:
    values = counts().astype(np.float32)
    values[1, 3, 4] = np.inf
    with pytest.raises(ValueError, match="image holds infinite pixels"):
        lkcanet.super_resolve(attentive(), placed(values), peak=1.0).compute()
    with pytest.raises(ValueError, match="cannot normalise by the maximum: the largest pixel is 0; give peak"):
        lkcanet.super_resolve(attentive(), placed(values * 0), nodata=1.0).isel(x=0).compute()
    nothing = lkcanet.super_resolve(attentive(), placed(np.full((4, 8, 8), -1, np.int16), nodata=-1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (nothing.values == -1).all()


def test_networks_that_do_not_fit_are_refused(tmp_path) -> None:
    fusing = attentive().fold().eval()
    fusing.msi_bands = 3
    with pytest.raises(TypeError, match="lkcanet fuses a multispectral image"):
        lkcanet.super_resolve(fusing, placed(counts()))
    record = {"peak": 1.0, "scene": {"wavelengths": [1000.0, 1100.0, 1200.0, 1300.0]}}
    save_model(attentive(), tmp_path / "net.safetensors", extra=record)
    with pytest.raises(ValueError, match="image has other bands, 450 to 900 nm, than the network, 1000 to 1300 nm"):
        lkcanet.super_resolve(tmp_path / "net.safetensors", placed(counts()))
    micrometres = ("band", [0.45, 0.6, 0.75, 0.9], {"units": "micrometers"})
    with pytest.raises(ValueError, match="image has other bands, 450 to 900 nm, than the network, 1000 to 1300 nm"):
        lkcanet.super_resolve(tmp_path / "net.safetensors", placed(counts()).assign_coords(wavelength=micrometres))
    with pytest.raises(FileNotFoundError):
        lkcanet.super_resolve("no-such-network", placed(counts()))


def test_other_kinds_of_images_go_where_they_went(tmp_path) -> None:
    torch.manual_seed(0)
    image, model = torch.rand(1, 4, 12, 12), attentive()
    from lkcanet import data, evaluation, inference

    assert torch.equal(
        lkcanet.super_resolve(model, image, tile=(8, 8)), inference.super_resolve(model, image, tile=(8, 8))
    )
    save_model(model, tmp_path / "net.safetensors")
    assert torch.equal(
        lkcanet.super_resolve(tmp_path / "net.safetensors", image), inference.super_resolve(model, image)
    )
    assert torch.equal(lkcanet.degrade(image, 2), data.bicubic_downsample(image, 2))
    assert torch.equal(lkcanet.degrade(image, 2, psf_sigma=1.0), data.gaussian_downsample(image, 2, 1.0))
    scene = demo_scene((16, 16), 4, seed=0)
    assert np.array_equal(lkcanet.degrade(scene, 2).pixels, data.simulate_lowres(scene, 2).pixels)
    other = image + 0.1
    assert lkcanet.evaluate(other, image, 2, data_range=2.0) == evaluation.evaluate(other, image, 2, data_range=2.0)
    with pytest.raises(TypeError, match=r"image must be a Scene, a tensor or an xarray\.DataArray, got list"):
        lkcanet.degrade([1], 2)
    with pytest.raises(TypeError, match="must both be DataArrays, or neither; got DataArray and Tensor"):
        lkcanet.evaluate(placed(counts()), image, 2)


def test_tensors_need_no_dask() -> None:
    code = (
        "import sys, torch, lkcanet\n"
        "from lkcanet.models import LKCANet\n"
        "x = torch.rand(1, 4, 16, 16)\n"
        "y = lkcanet.super_resolve(LKCANet(4, 2, 16, 1, reduction=8), lkcanet.degrade(x, 2))\n"
        "lkcanet.evaluate(y, x, 2)\n"
        "print([name for name in ('dask', 'distributed', 'xarray', 'rioxarray') if name in sys.modules])\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout.strip() == "[]", ran.stderr
