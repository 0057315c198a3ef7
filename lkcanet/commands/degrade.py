"""`lkca degrade`."""

from pathlib import Path
from typing import Annotated

import typer

from . import _shared as shared


def degrade(
    scene: shared.ScenePath,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The LR scene: .npy, .npz, .mat, .hdr (ENVI) or .tif.")],
    scale: Annotated[int, typer.Option(help="How many times smaller; must divide rows and columns.")] = 4,
    key: shared.Key = None,
    axes: shared.Axes = None,
    size: shared.Size = None,
    peak: shared.Peak = None,
    nodata: shared.Nodata = None,
    drop_bad_bands: shared.DropBadBands = False,
    region: shared.Region = None,
) -> None:
    """Make the low-resolution scene by the bicubic of MATLAB's imresize, as the field does.

    Example: lkca degrade scene.mat lr.npy --scale 4 --region 0:512,320:576
    """
    from lkcanet.data import bicubic_downsample, write_scene

    shared.check_output(out, shared.SCENES)
    shared.check_spared([scene], out)
    loaded = shared.load_scene(scene, key, axes, size, peak, region, nodata=nodata, drop_bad_bands=drop_bad_bands)
    rows, columns = loaded.size
    if scale >= 1 and (rows % scale or columns % scale):
        raise ValueError(
            f"--scale {scale} does not divide {rows} x {columns} pixels: crop with --region "
            f"0:{rows - rows % scale},0:{columns - columns % scale}"
        )
    small = loaded.shrunk(bicubic_downsample(loaded.tensor(), scale)[0].numpy(), scale)
    write_scene(out, small)
    print(f"{out}: {small.bands} bands, {small.size[0]} x {small.size[1]} pixels, peak {small.peak:g}")
