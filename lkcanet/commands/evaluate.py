"""`lkca evaluate`."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..common.options import FLOOR
from ..common.ssim import SSIM
from . import _no_reference as without
from . import _prepared as prepared
from . import _scene_scores as scene_scores
from . import _several as several
from . import _shared as shared
from ._fit import Resample, check_bands, prediction_reading, resampled_for
from ._msi import MsiOptions, PsfSigma, sources_of
from ._options import takes_options
from ._reading import Reading


@takes_options
def evaluate(
    scene: shared.ScenePaths,
    *,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            "--checkpoint",
            "-c",
            metavar=shared.CHECKPOINT,
            show_default="bicubic alone",
            help="A trained network, by file or name; may be repeated.",
        ),
    ] = None,
    prediction: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            show_default="none",
            help="A scene that was super-resolved already, by any method; may be repeated. Of several scenes a folder "
            "of results under their names, as lkca super-resolve leaves it.",
        ),
    ] = None,
    prediction_axes: Annotated[
        str | None, typer.Option(show_default="the format's", help="As --axes, of --prediction.")
    ] = None,
    scale: Annotated[int | None, typer.Option(help="Upsampling factor r; the checkpoint's, without one 4.")] = None,
    region: Annotated[
        str | None,
        typer.Option(
            metavar="test|ROWS,COLUMNS",
            help="The part to score. 'test', the region that the first checkpoint's training held out, is the default "
            "on the scene it was trained on; the whole is the default on others.",
        ),
    ] = None,
    reading: Reading,
    msi_options: MsiOptions,
    psf_sigma: PsfSigma = None,
    snr: Annotated[
        str | None,
        typer.Option(
            metavar="DB,DB,...",
            show_default="no noise",
            help="Score under white noise of these signal-to-noise ratios, and without.",
        ),
    ] = None,
    noise_on: Annotated[
        Literal["both", "lowres"], typer.Option(help="What --snr adds noise to: LR image and MSI, or the former alone.")
    ] = "both",
    seed: Annotated[int, typer.Option(help="Of that noise.")] = 0,
    floor: Annotated[
        float | None,
        typer.Option(
            help="SAM is shown of all pixels, and of those whose root mean square over the bands, in the scene divided "
            "by its peak, is above this. Default: that of the first checkpoint's training, without one that of lkca "
            "train."
        ),
    ] = None,
    ensemble: shared.Ensemble = False,
    resample: Resample = False,
    no_reference: Annotated[
        bool,
        typer.Option(
            "--no-reference",
            help="SCENE is a real low-resolution scene, of which there is no truth: score whether the result, degraded "
            "again, gives it back (consistency), and how much the relations between bands changed (D_lambda of QNR).",
        ),
    ] = False,
    per_image: Annotated[
        bool, typer.Option("--per-image", help="Of a prepared folder: show every test image beside their mean.")
    ] = False,
    reported: Annotated[
        bool, typer.Option("--reported", help="Of a prepared folder: add the rows of the paper's table.")
    ] = False,
    band_peaks: Annotated[
        bool,
        typer.Option(
            "--band-peaks",
            help="Show CSAKD's scores too: PSNR by each band's own peak, and RMSE in the units of the file.",
        ),
    ] = False,
    ssim: Annotated[
        SSIM | None,
        typer.Option(
            help="Of MSSIM: uniform windows of 7 x 7 pixels, or MATLAB's Gaussian ones of 11 x 11. Default: that of "
            "the protocol's published table (cave: matlab), else uniform."
        ),
    ] = None,
    threads: shared.Threads = None,
    json: shared.Json = False,
) -> None:
    """Score networks, or finished results, on a high-resolution scene, beside bicubic; or without one.

    Networks get the scene degraded by MATLAB's bicubic; results are compared as they are, divided by the scene's peak.
    A folder of `lkca prepare` is scored on its test images or scenes, each degraded on its own; the table shows their
    mean.
    Networks that fuse get their MSI from --msi, or made of the scene by --response; response and --psf-sigma are those
    of the training if left out, of a prepared folder too. Of several scenes there is a row for each, and their mean;
    one that fails is reported, the mean is of the others, and the exit code is 1.
    With --no-reference SCENE is what a sensor gave, and the scores say whether a result contradicts it: not how true
    its details are, which nothing can without the truth. Bicubic's are there to compare.

    Example: lkca evaluate scene.mat -c run/best.safetensors --region 0:512,320:576 --json

    Example: lkca evaluate scenes/ -c run/best.safetensors

    Example: lkca evaluate scene.hdr -c fused/best.safetensors --snr 25,30,35,40,45

    Example: lkca evaluate lr.hdr -c run/best.safetensors --no-reference
    """
    from lkcanet.data import is_prepared, load_prepared, named_response, read_scene
    from lkcanet.evaluation import score

    shared.set_threads(threads)
    networks = [shared.Checkpointed(path, *shared.load_checkpoint(path)) for path in checkpoint or ()]
    msi_options.check()
    given_floor = floor
    floor = _floor(floor, networks)
    snrs = [] if snr is None else parse_snrs(snr)
    if prediction_axes is not None and not prediction:
        raise ValueError("--prediction-axes goes with --prediction")
    if snrs and prediction:
        raise ValueError("--snr adds noise to what networks get: it does not go with --prediction")
    scenes = several.scenes_of(scene)
    if folders := [path for path in scenes if is_prepared(path)]:
        path = several.one_of(scenes, f"{folders[0]}, which `lkca prepare` made,")
        fixed = {"--msi": msi_options.msi, "--region": region, **prepared.fixed_reading(reading)}
        fixed["--prediction"] = prediction[0] if prediction else None
        fixed["--no-reference"] = no_reference or None
        prepared.refuse(path, {name: (value, None) for name, value in fixed.items()})
        prepared.refuse(path, {"--peak": (reading.peak, load_prepared(path).peak)})
        prepared.refuse(path, {"--resample": (resample or None, None)})
        how: dict[str, Any] = {"ensemble": ensemble, "ssim": ssim, "per_image": per_image, "reported": reported}
        how |= {"json": json, "psf_sigma": psf_sigma, "snrs": snrs, "noise_on": noise_on, "band_peaks": band_peaks}
        how["response"] = None if msi_options.response is None else named_response(msi_options.response)
        for option, given in (("--per-image", per_image), ("--reported", reported), ("--band-peaks", band_peaks)):
            if given and snrs:
                raise ValueError(f"{option} does not go with --snr, which shows MPSNR and SAM at each level")
        prepared.print_scores(path, networks, scale, floor, **how)
        return
    for option, given in (("--per-image", per_image), ("--reported", reported)):
        if given:
            raise ValueError(f"{option} goes with a folder of `lkca prepare`, which {scenes[0]} is not")
    check_together(networks, scale, psf_sigma, resample=resample)
    if msi_options.msi is not None:
        several.one_of(scenes, "--msi")
    if networks:
        scale = networks[0].model.scale
        psf_sigma = networks[0].record.psf_sigma if psf_sigma is None else psf_sigma
    if no_reference:
        others = {"--snr": snr, "--floor": given_floor is not None, "--ssim": ssim, "--response": msi_options.response}
        others["--band-peaks"] = band_peaks
        asked = without.Asked(
            networks=networks, predictions=prediction or [], prediction_axes=prediction_axes, reading=reading,
            msi_options=msi_options, region=region, psf_sigma=psf_sigma, ensemble=ensemble, resample=resample,
        )  # fmt: skip
        without.print_scores(scenes, asked, others=others, json=json)
        return
    scale = 4 if scale is None else scale
    if scale < 1:
        raise ValueError(f"--scale must be 1 or more, got {scale}")

    def scored(one: Path) -> scene_scores.Scored:
        inside, nets = region, networks
        if networks:
            path, model, record = networks[0]
            whole = reading.scene_for(one, model, record, resample=resample)
            inside = shared.choose_region(inside, path, record, whole)
            for other in networks[1:]:
                if not resample:
                    check_bands(one, whole, other.model, other.record, resample)
            if resample:
                nets = [each._replace(model=resampled_for(one, whole, each.model, each.record)) for each in networks]
        else:
            whole = reading.scene(one)
        inside = shared.scored_part(inside, whole.pixels.shape, scale, shared.part_name(inside))
        results = {path: several.result_of(path, one, len(scenes)) for path in prediction or ()}
        how = prediction_reading(whole, prediction_axes)
        scores = score(
            whole,
            {str(path): model for path, model, _ in nets},
            predictions={str(path): read_scene(file, **how) for path, file in results.items()},
            region=inside,
            scale=scale,
            psf_sigma=psf_sigma,
            msis=sources_of(nets, msi_options, reading.nodata),
            snrs=snrs,
            noise_on=noise_on,
            seed=seed,
            floor=floor,
            ssim="uniform" if ssim is None else ssim,
            ensemble=ensemble,
            band_peaks=band_peaks,
        )
        facts: dict[str, Any] = {"scene": one, "region": inside, "shape": scores.target.pixels.shape}
        facts |= {"peak": whole.peak, "floor": floor, "scale": scale, "ssim": scores.ssim}
        facts |= {} if psf_sigma is None else {"psf_sigma": psf_sigma}
        facts |= {} if snr is None else {"noise_on": noise_on, "seed": seed}
        return scene_scores.Scored(one, scores, facts)

    found, failed = several.each(scenes, scored, alone=len(scenes) == 1)
    names = [path for path, _, _ in networks]
    if len(scenes) > 1:
        scene_scores.show(found, failed, floor, names, noisy=snr is not None, json=json)
        several.end(failed, len(scenes))
        return
    ((path, scores, facts),) = found
    if json:
        shared.print_json({**facts, "scores": scene_scores.rows_of(scores.levels, noisy=snr is not None)})
        return
    part = "whole scene" if facts["region"] is None else f"region {facts['region']}"
    title = f"{path}, {part}, {scores.target.size[0]} x {scores.target.size[1]} pixels"
    if snr is not None:
        title += f", noise on {noise_on}"
    scene_scores.show_levels(scores.levels, scores.scale, title, floor, names, scores.ssim)


def _floor(floor: float | None, networks: Sequence[shared.Checkpointed]) -> float:
    """That of --floor, else of the first checkpoint's training, else the default of training."""
    if floor is None:
        floor = networks[0].record.floor if networks else FLOOR
    if not 0 <= floor < math.inf:
        raise ValueError(f"--floor must be a finite number, 0 or more, got {floor:g}")
    return floor


def check_together(
    networks: Sequence[shared.Checkpointed],
    scale: int | None = None,
    psf_sigma: float | None = None,
    *,
    resample: bool = False,
) -> None:
    """Raise for networks that one low-resolution image does not serve."""
    for path, model, record in networks:
        name, first, other = networks[0]
        bands = first.bands if resample else model.bands  # each is taken to the scene's
        if (bands, model.scale, record.peak) != (first.bands, first.scale, other.peak):
            raise ValueError(f"{path} is of other bands, scale or peak than {name}: score it on its own")
        if psf_sigma is None and record.psf_sigma != other.psf_sigma:
            raise ValueError(f"{path} was trained with another point spread function than {name}: give --psf-sigma")
        if scale not in (None, model.scale):
            raise ValueError(f"--scale is {scale}, but {path} is of scale {model.scale}")


def parse_snrs(text: str) -> list[float]:
    """ "20,25,30": dB of noise, ascending or not, each once."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or not all(abs(value) < float("inf") for value in values) or len(set(values)) < len(values):
        raise ValueError(f"--snr must be numbers of dB such as 20,25,30, each once; got {text!r}")
    return values
