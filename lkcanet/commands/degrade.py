"""`lkca degrade`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import _several as several
from . import _shared as shared
from ._msi import PsfSigma, Response
from ._options import takes_options
from ._reading import Reading

if TYPE_CHECKING:
    from lkcanet.data import Scene, SpectralResponse


@takes_options
def degrade(
    scene: shared.ScenePaths,
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="The LR scene: .npy, .npz, .mat, .hdr (ENVI), .tif or .nc; of several scenes a folder for them, under "
            "their names.",
        ),
    ],
    *,
    scale: Annotated[
        int, typer.Option(help="How many times smaller; rows and columns that make no whole pixel are left out.")
    ] = 4,
    psf_sigma: PsfSigma = None,
    snr: Annotated[
        float | None, typer.Option(show_default="none", help="Add white noise to OUT, of so many dB.")
    ] = None,
    msi_out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default="not written",
            help="Write the multispectral image too, of full resolution; with --response. Of several: another folder.",
        ),
    ] = None,
    response: Response = None,
    msi_snr: Annotated[
        float | None, typer.Option(show_default="none", help="Add white noise to --msi-out, of so many dB.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the noise, which is drawn for each scene as for it alone.")] = 0,
    suffix: several.Suffix = None,
    overwrite: several.Overwrite = False,
    cog: several.Cog = False,
    reading: Reading,
    region: shared.Region = None,
) -> None:
    """Make the low-resolution scene by the bicubic of MATLAB's imresize, as the field does; or, for fusion, a pair by
    Wald's protocol: a Gaussian point spread function, and the multispectral image of the same scene.

    Of several scenes one that fails is reported and the others go on; the exit code is 1 then. Results that exist in
    the folder are refused before the first is made.

    Example: lkca degrade scene.mat lr.npy --scale 4 --region 0:512,320:576

    Example: lkca degrade scenes/ lr/ --suffix .mat

    Example: lkca degrade scene.hdr lr.hdr --psf-sigma 3 --snr 35 --msi-out msi.hdr --response landsat-tm-4
    """
    from lkcanet.data import named_response, write_scene

    scenes = several.scenes_of(scene)
    folder = several.goes_into_folder(scene, scenes, out)
    if not folder and suffix is not None:
        raise ValueError("--suffix goes with a folder of results")
    outs = {path: [made] for path, made in _results(scenes, out, suffix, folder)}
    for path, made in [] if msi_out is None else _results(scenes, msi_out, suffix, folder):
        outs[path].append(made)
    if (msi_out is None) != (response is None):
        raise ValueError("--msi-out and --response go together")
    if msi_out is None and msi_snr is not None:
        raise ValueError("--msi-snr goes with --msi-out")
    for lowres, *msi in outs.values():
        for other in msi:
            shared.check_spared([lowres], other)  # the same words: both are scenes
    if folder:
        several.check_new([made for pair in outs.values() for made in pair], overwrite=overwrite)
    several.check_cog([made for pair in outs.values() for made in pair], cog=cog)
    seen_by = None if response is None else named_response(response)
    if scale < 1 and folder:
        raise ValueError(f"--scale must be 1 or more, got {scale}")
    for each in (out, msi_out):
        if folder and each is not None:
            each.mkdir(parents=True, exist_ok=True)

    def work(path: Path) -> None:
        made = _made(reading.scene(path, region), region, scale, psf_sigma, snr, msi_snr, seed, seen_by)
        for target, result in zip(outs[path], made, strict=True):
            write_scene(target, result, cog=cog)
            print(f"{target}: {result.bands} bands, {result.size[0]} x {result.size[1]} pixels, peak {result.peak:g}")

    _, failed = several.each(scenes, work, alone=not folder)
    several.end(failed, len(scenes))


def _results(scenes: list[Path], out: Path, suffix: str | None, folder: bool) -> list[several.Job]:
    """Where they go; what can't be written is refused."""
    if folder:
        return several.results_in(out, scenes, suffix)
    shared.check_output(out, shared.SCENES)
    shared.check_spared(scenes, out)
    return [several.Job(scenes[0], out)]


def _made(
    loaded: "Scene",
    region: str | None,
    scale: int,
    psf_sigma: float | None,
    snr: float | None,
    msi_snr: float | None,
    seed: int,
    seen_by: "SpectralResponse | None",
) -> "list[Scene]":
    """The LR scene, and with a response the multispectral one."""
    from lkcanet.data import simulate_lowres, simulate_pair

    if scale < 1:
        raise ValueError(f"--scale must be 1 or more, got {scale}")
    what = "the scene" if region is None else "the cropped scene"
    part = shared.scored_part(None, loaded.pixels.shape, scale, what, least=1)
    loaded = loaded if part is None else shared.crop(loaded, part)
    if seen_by is None:
        return [simulate_lowres(loaded, scale, psf_sigma=psf_sigma, snr=snr, seed=seed)]
    return list(simulate_pair(loaded, scale, seen_by, psf_sigma=psf_sigma, snr=snr, msi_snr=msi_snr, seed=seed))
