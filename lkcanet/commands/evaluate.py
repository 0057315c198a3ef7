"""`lkca evaluate`."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from . import _fusion as fusion
from . import _prepared as prepared
from . import _robustness as robustness
from . import _shared as shared


def evaluate(
    scene: shared.ScenePath,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option("--checkpoint", "-c", metavar="FILE", help="A trained network; may be repeated."),
    ] = None,
    prediction: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A scene that was super-resolved already, by any method; may be repeated."),
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
    key: shared.Key = None,
    axes: shared.Axes = None,
    size: shared.Size = None,
    peak: shared.Peak = None,
    nodata: shared.Nodata = None,
    drop_bad_bands: shared.DropBadBands = False,
    msi: fusion.Msi = None,
    response: fusion.Response = None,
    msi_key: fusion.MsiKey = None,
    msi_axes: fusion.MsiAxes = None,
    msi_peak: fusion.MsiPeak = None,
    psf_sigma: fusion.PsfSigma = None,
    snr: Annotated[
        str | None,
        typer.Option(metavar="DB,DB,...", help="Score under white noise of these signal-to-noise ratios, and without."),
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
    per_image: Annotated[
        bool, typer.Option("--per-image", help="Of a prepared folder: show every test image beside their mean.")
    ] = False,
    reported: Annotated[
        bool, typer.Option("--reported", help="Of a prepared folder: add the rows of the paper's table.")
    ] = False,
    threads: shared.Threads = None,
    json: shared.Json = False,
) -> None:
    """Score networks, or finished results, on a high-resolution scene, beside bicubic.

    Networks get the scene degraded by MATLAB's bicubic; results are compared as they are, divided by the scene's peak.
    A folder of `lkca prepare` is scored on its test images, each degraded on its own; the table shows their mean.
    Networks that fuse get their MSI from --msi, or made of the scene by --response; response and --psf-sigma are those
    of the training if left out.

    Example: lkca evaluate scene.mat -c run/best.safetensors --region 0:512,320:576 --json

    Example: lkca evaluate scene.hdr -c fused/best.safetensors --snr 25,30,35,40,45
    """
    from lkcanet.data import bicubic_upsample, is_prepared, load_prepared
    from lkcanet.data.multispectral import noisy_scene
    from lkcanet.evaluation.scoring import score_scene as score
    from lkcanet.evaluation.tables import above_table, metrics_table
    from lkcanet.inference import super_resolve

    shared.set_threads(threads)
    networks = [(path, *shared.load_checkpoint(path)) for path in checkpoint or ()]
    options = fusion.MsiOptions(msi, response, msi_key, msi_axes, msi_peak)
    options.check()
    floor = shared.floor_of(networks[0][2] if networks else {}) if floor is None else floor
    if not 0 <= floor < math.inf:
        raise ValueError(f"--floor must be a finite number, 0 or more, got {floor:g}")
    levels = [*([] if snr is None else fusion.parse_snrs(snr)), None]
    if snr is not None and prediction:
        raise ValueError("--snr adds noise to what networks get: it does not go with --prediction")
    if is_prepared(scene):
        fixed = {"--msi": msi, "--response": response, "--psf-sigma": psf_sigma, "--snr": snr}
        prepared.refuse(scene, {name: (value, None) for name, value in fixed.items()})
        other_options: dict[str, Any] = {
            "--region": region,
            "--key": key,
            "--axes": axes,
            "--size": size,
        }
        other_options |= {"--nodata": nodata, "--drop-bad-bands": drop_bad_bands or None}
        other_options["--prediction"] = prediction[0] if prediction else None
        prepared.refuse(scene, {name: (value, None) for name, value in other_options.items()})
        prepared.refuse(scene, {"--peak": (peak, load_prepared(scene).scene.peak)})
        prepared.score(scene, networks, scale, floor, per_image=per_image, reported=reported, json=json)
        return
    for option, given in (("--per-image", per_image), ("--reported", reported)):
        if given:
            raise ValueError(f"{option} goes with a folder of `lkca prepare`, which {scene} is not")
    reading: dict[str, Any] = {"nodata": nodata, "drop_bad_bands": drop_bad_bands}
    for path, model, other in networks:
        _, first, extra = networks[0]
        if (model.bands, model.scale, other.get("peak")) != (first.bands, first.scale, extra.get("peak")):
            raise ValueError(f"{path} is of other bands, scale or peak than {networks[0][0]}: score it on its own")
        if psf_sigma is None and fusion.psf_of(other) != fusion.psf_of(extra):
            raise ValueError(
                f"{path} was trained with another point spread function than {networks[0][0]}: give --psf-sigma"
            )
        if scale not in (None, model.scale):
            raise ValueError(f"--scale is {scale}, but {path} is of scale {model.scale}")
    if networks:
        name, model, extra = networks[0]
        scale, psf_sigma = model.scale, fusion.psf_of(extra) if psf_sigma is None else psf_sigma
        whole = shared.load_for(scene, key, axes, size, peak, None, model, extra, **reading)
        region = choose_region(region, name, extra, whole)
    else:
        scale = 4 if scale is None else scale
        if scale < 1:
            raise ValueError(f"--scale must be 1 or more, got {scale}")
        whole = shared.load_scene(scene, key, axes, size, peak, **reading)
    region = shared.scored_part(region, whole.pixels.shape, scale, part_name(region))
    target, lowres = degraded(whole if region is None else shared.crop(whole, region), scale, psf_sigma)
    msis = [fusion.msi_of_part(options, *network, whole, target, region, nodata) for network in networks]
    for sharp in msis:
        if sharp is not None and sharp.valid is not None:  # score where all have seen something
            target = replace(target, valid=sharp.valid if target.valid is None else target.valid & sharp.valid)
    scores: dict[float | None, dict[str, Any]] = {}
    for level in levels:
        small = noisy_scene(lowres, level, 2 * seed)
        rows = {"bicubic": score(bicubic_upsample(small.tensor(), scale)[0].numpy(), target, scale, floor)}
        for (path, model, _), sharp in zip(networks, msis, strict=True):
            seen = noisy_scene(sharp, level, 2 * seed + 1) if sharp is not None and noise_on == "both" else sharp
            rows[str(path)] = score(super_resolve(model, small, msi=seen).pixels, target, scale, floor)
        scores[level] = rows
    for path in prediction or ():
        rows[str(path)] = score(finished(path, whole, target, region).pixels, target, scale, floor)
    part = "whole scene" if region is None else f"region {region}"
    title = f"{scene}, {part}, {target.size[0]} x {target.size[1]} pixels"
    if json:
        facts: dict[str, Any] = {"scene": scene, "region": region, "shape": target.pixels.shape, "peak": target.peak}
        facts["floor"] = floor
        facts |= {"scale": scale} if psf_sigma is None else {"scale": scale, "psf_sigma": psf_sigma}
        if snr is not None:
            facts |= {"noise_on": noise_on, "seed": seed}
            shared.print_json({**facts, "scores": robustness.noise_facts(scores)})
        else:
            shared.print_json({**facts, "scores": [{"method": name, **row} for name, row in scores[None].items()]})
        return
    if snr is not None:
        paths = [path for path, _, _ in networks]
        names = dict(zip(map(str, paths), prepared.short_names(paths), strict=True))
        names["bicubic"] = f"bicubic x{scale}"
        for table in robustness.noise_tables(scores, names, f"{title}, noise on {noise_on}"):
            shared.print_table(table)
        return
    shown = {f"bicubic x{scale}" if name == "bicubic" else name: row for name, row in scores[None].items()}
    shared.print_table(metrics_table(shown, title=title))
    if floor:
        shared.print_table(above_table(shown, floor))


def finished(path: Path, whole: Any, target: Any, region: str | None) -> Any:
    """A super-resolved scene from a file, in the target's units; one of the whole scene is cropped to the region."""
    from lkcanet.data import read_scene

    result = read_scene(path, peak=target.peak)
    largest, own = float(result.pixels.max()), float(target.pixels.max())
    if not 0.1 * own < largest < 10 * own:
        shared.note(
            f"warning: {path} reaches {largest:.3g} after division by the scene's peak, {target.peak:g}, and the scene "
            f"{own:.3g}: predictions are taken in the units of the scene's file"
        )
    if region is not None and result.pixels.shape == whole.pixels.shape:
        result = shared.crop(result, region)
    if result.pixels.shape != target.pixels.shape:
        raise ValueError(f"{path} has shape {result.pixels.shape}, the part to score {target.pixels.shape}")
    return result


def choose_region(region: str | None, checkpoint: Path, extra: dict[str, Any], scene: Any) -> str | None:
    """What --region means: 'test' is the test region of the checkpoint's training, and so is nothing where this is the
    scene of that training, as far as its name and shape tell; None is the whole scene."""
    held_out = extra.get("split", {}).get("test")
    if region == "test":
        if held_out is None:
            raise ValueError(f"{checkpoint} names no test region: give --region as rows,columns")
        return held_out
    trained_on = extra.get("scene", {})
    same = trained_on.get("shape") == list(scene.pixels.shape) and trained_on.get("name", scene.name) == scene.name
    if region is None and held_out is not None and same:
        shared.note(f"note: the scene has the name and shape of the training's; taking its test region, {held_out}")
        return held_out
    return region


def part_name(region: str | None) -> str:
    """How notes and errors call it."""
    return "the scene" if region is None else "the region"


def degraded(scene: Any, scale: int, psf_sigma: float | None = None) -> tuple[Any, Any]:
    """The scene, of whole LR pixels, and its LR image."""
    from lkcanet.data.multispectral import degraded as shrink

    return scene, scene.shrunk(shrink(scene.tensor(), scale, psf_sigma)[0].numpy(), scale)
