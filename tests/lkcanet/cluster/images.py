"""Networks and DataArrays that the tests of this room share."""

import numpy as np
import pytest
import torch

from lkcanet.models import LKCANet, Network
from lkcanet.models.baselines import VDSRLR

xarray = pytest.importorskip("xarray", reason="xarray is not installed")
pytest.importorskip("rioxarray", reason="rioxarray is not installed")
pytest.importorskip("dask.array", reason="dask is not installed")

CRS = "EPSG:32632"


def stirred(model: Network, much: float = 0.1) -> Network:
    """A network that does something."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(much * torch.randn_like(parameter))
    return model.eval()


def attentive(bands: int = 4) -> Network:
    """One that averages over the whole image."""
    torch.manual_seed(0)
    return stirred(LKCANet(bands, 2, 16, 1, 1, kernel_sizes=(3, 3), dilations=(1, 2), reduction=8))


def local(bands: int = 4) -> Network:
    """One of a small receptive field."""
    torch.manual_seed(0)
    return stirred(VDSRLR(bands, 2, channels=8, depth=3), 0.05)


def counts(bands: int = 4, rows: int = 40, columns: int = 34, seed: int = 0) -> np.ndarray:
    """(B, H, W) uint16, smooth and noisy, no zeros."""
    rng = np.random.default_rng(seed)
    waves = np.sin(np.arange(rows) / 5)[:, None] + np.cos(np.arange(columns) / 7)
    return (3000 + 900 * waves + rng.integers(0, 300, (bands, rows, columns))).astype(np.uint16)


def placed(values: np.ndarray, **attributes: object):
    """As rioxarray opens a GeoTIFF with wavelengths."""
    bands, rows, columns = values.shape
    image = xarray.DataArray(
        values,
        dims=("band", "y", "x"),
        coords={
            "band": np.arange(1, bands + 1),
            "wavelength": ("band", np.linspace(450, 900, bands), {"units": "nm"}),
            "y": 4e6 - 30.0 * (np.arange(rows) + 0.5),
            "x": 5e5 + 20.0 * (np.arange(columns) + 0.5),
        },
        name="reflectance",
        attrs={"units": "1", **attributes},
    )
    return image.rio.write_crs(CRS).rio.write_transform()
