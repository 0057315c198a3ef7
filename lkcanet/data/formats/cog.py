"""Cloud-optimised GeoTIFF: the same pixels and tags in the layout that readers over a network fetch in pieces.

Source: OGC, "Cloud Optimized GeoTIFF Standard"; GDAL's COG driver.
"""

from pathlib import Path

import numpy as np

from lkcanet.common.files import atomic_path
from lkcanet.common.optional import require
from lkcanet.data.formats.geotiff_writer import check_whole, writing

_BLOCK, _BLOCK_BYTES = 512, 16 << 20  # its driver interleaves by pixel: a block holds all bands


def make_cog(path: Path) -> None:
    """Rewrite a GeoTIFF in place: tiled with overviews (averages), directories first, deflate.

    Blocks have 512 x 512 pixels, fewer where all bands of one would exceed 16 MiB, 128 x 128 at least.

    Raises:
        OSError: the write failed, for example a full disk; the file is then as it was.
    """
    rasterio = require("rasterio", extra="geo")
    shutil = require("rasterio.shutil", extra="geo")
    with writing(), atomic_path(path) as copy, rasterio.open(path, driver="GTiff") as file:
        side = _BLOCK
        while side > 128 and side**2 * file.count * np.dtype(file.dtypes[0]).itemsize > _BLOCK_BYTES:
            side //= 2
        options = {"blocksize": side, "compress": "deflate", "predictor": "yes", "bigtiff": "if_safer"}
        shutil.copy(file, copy, driver="COG", overview_resampling="average", **options)
        with rasterio.open(copy, driver="GTiff") as made:
            check_whole(np.array_equal(file.read(band), made.read(band), equal_nan=True) for band in file.indexes)
