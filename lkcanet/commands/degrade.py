"""`lkca degrade`."""

from pathlib import Path
from typing import Annotated

import typer

from . import _fusion as fusion
from . import _shared as shared


def degrade(
    scene: shared.ScenePath,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The LR scene: .npy, .npz, .mat, .hdr (ENVI) or .tif.")],
    scale: Annotated[
        int, typer.Option(help="How many times smaller; rows and columns that make no whole pixel are left out.")
    ] = 4,
    psf_sigma: fusion.PsfSigma = None,
    snr: Annotated[float | None, typer.Option(help="Add white noise to OUT, of so many dB.")] = None,
    msi_out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the multispectral image too, of full resolution; with --response."),
    ] = None,
    response: fusion.Response = None,
    msi_snr: Annotated[float | None, typer.Option(help="Add white noise to --msi-out, of so many dB.")] = None,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    key: shared.Key = None,
    axes: shared.Axes = None,
    size: shared.Size = None,
    peak: shared.Peak = None,
    nodata: shared.Nodata = None,
    drop_bad_bands: shared.DropBadBands = False,
    region: shared.Region = None,
) -> None:
    """Make the low-resolution scene by the bicubic of MATLAB's imresize, as the field does; or, for fusion, a pair by
    Wald's protocol: a Gaussian point spread function, and the multispectral image of the same scene.

    Example: lkca degrade scene.mat lr.npy --scale 4 --region 0:512,320:576

    Example: lkca degrade scene.hdr lr.hdr --psf-sigma 3 --snr 35 --msi-out msi.hdr --response landsat-tm-4
    """
    from lkcanet.data import named_response, simulate_msi, write_scene
    from lkcanet.data.multispectral import degraded, noisy_scene

    outs = [out] if msi_out is None else [out, msi_out]
    for path in outs:
        shared.check_output(path, shared.SCENES)
        shared.check_spared([scene], path)
    if (msi_out is None) != (response is None):
        raise ValueError("--msi-out and --response go together")
    if msi_out is None and msi_snr is not None:
        raise ValueError("--msi-snr goes with --msi-out")
    if msi_out is not None:
        shared.check_spared([out], msi_out)  # the same words: both are scenes
    seen_by = None if response is None else named_response(response)
    loaded = shared.load_scene(scene, key, axes, size, peak, region, nodata=nodata, drop_bad_bands=drop_bad_bands)
    if scale < 1:
        raise ValueError(f"--scale must be 1 or more, got {scale}")
    what = "the scene" if region is None else "the cropped scene"
    part = shared.scored_part(None, loaded.pixels.shape, scale, what, least=1)
    loaded = loaded if part is None else shared.crop(loaded, part)
    small = loaded.shrunk(degraded(loaded.tensor(), scale, psf_sigma)[0].numpy(), scale)
    made = [noisy_scene(small, snr, 2 * seed)]
    if seen_by is not None:
        made.append(noisy_scene(simulate_msi(loaded, seen_by), msi_snr, 2 * seed + 1))
    for path, result in zip(outs, made, strict=True):
        write_scene(path, result)
        print(f"{path}: {result.bands} bands, {result.size[0]} x {result.size[1]} pixels, peak {result.peak:g}")
