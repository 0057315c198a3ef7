"""`lkca degrade`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import _shared as shared
from ._msi import PsfSigma, Response
from ._options import takes_options
from ._reading import Reading

if TYPE_CHECKING:
    from lkcanet.data import Scene


@takes_options
def degrade(
    scene: shared.ScenePath,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The LR scene: .npy, .npz, .mat, .hdr (ENVI) or .tif.")],
    *,
    scale: Annotated[
        int, typer.Option(help="How many times smaller; rows and columns that make no whole pixel are left out.")
    ] = 4,
    psf_sigma: PsfSigma = None,
    snr: Annotated[float | None, typer.Option(help="Add white noise to OUT, of so many dB.")] = None,
    msi_out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the multispectral image too, of full resolution; with --response."),
    ] = None,
    response: Response = None,
    msi_snr: Annotated[float | None, typer.Option(help="Add white noise to --msi-out, of so many dB.")] = None,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    reading: Reading,
    region: shared.Region = None,
) -> None:
    """Make the low-resolution scene by the bicubic of MATLAB's imresize, as the field does; or, for fusion, a pair by
    Wald's protocol: a Gaussian point spread function, and the multispectral image of the same scene.

    Example: lkca degrade scene.mat lr.npy --scale 4 --region 0:512,320:576

    Example: lkca degrade scene.hdr lr.hdr --psf-sigma 3 --snr 35 --msi-out msi.hdr --response landsat-tm-4
    """
    from lkcanet.data import named_response, simulate_lowres, simulate_pair, write_scene

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
    loaded = reading.scene(scene, region)
    if scale < 1:
        raise ValueError(f"--scale must be 1 or more, got {scale}")
    what = "the scene" if region is None else "the cropped scene"
    part = shared.scored_part(None, loaded.pixels.shape, scale, what, least=1)
    loaded = loaded if part is None else shared.crop(loaded, part)
    made: Sequence[Scene] = (
        [simulate_lowres(loaded, scale, psf_sigma=psf_sigma, snr=snr, seed=seed)]
        if seen_by is None
        else simulate_pair(loaded, scale, seen_by, psf_sigma=psf_sigma, snr=snr, msi_snr=msi_snr, seed=seed)
    )
    for path, result in zip(outs, made, strict=True):
        write_scene(path, result)
        print(f"{path}: {result.bands} bands, {result.size[0]} x {result.size[1]} pixels, peak {result.peak:g}")
