"""`lkca super-resolve`."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import _several as several
from . import _shared as shared
from ._fit import Resample, resampled_for
from ._msi import MsiReading
from ._options import takes_options
from ._progress import bar
from ._reading import Reading

if TYPE_CHECKING:
    from lkcanet.data import Scene
    from lkcanet.inference import Memory
    from lkcanet.models import Network


@takes_options
def super_resolve(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="SCENE OUT | SCENE... FOLDER",
            help="A low-resolution scene and its result (.npy, .npz, .mat; .tif, .hdr and .nc are written in the data "
            "type, scale and units of the scene's file); or scenes, a folder of them or a list "
            "(.txt, a path a line), and a folder for results of their names, which --out-dir may name instead.",
        ),
    ],
    *,
    checkpoint: shared.Checkpoint = None,
    fresh: Annotated[
        shared.NetworkName | None,
        typer.Option(show_default="none", help="An untrained network of the paper's size instead: for timing."),
    ] = None,
    scale: Annotated[int, typer.Option(help="Upsampling factor of --fresh.")] = 4,
    msi: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            show_default="none",
            help="The multispectral scene that a fusion network takes, of the result's size; one for each SCENE, in "
            "their order.",
        ),
    ] = None,
    msi_reading: MsiReading,
    out_dir: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", show_default="OUT", help="Enlarge every SCENE, into FOLDER under its own name."),
    ] = None,
    suffix: several.Suffix = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out scenes whose results exist: go on after an interruption.")
    ] = False,
    cog: several.Cog = False,
    tile: Annotated[
        str | None,
        typer.Option(
            metavar="ROWS,COLUMNS",
            show_default="the whole scene",
            help="Tiles of so many low-resolution pixels, for scenes that do not fit the memory: another result, since "
            "channel attention then averages over a tile instead of the scene.",
        ),
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(help="Low-resolution pixels that tiles share, and blend; default: 32.")
    ] = None,
    ensemble: shared.Ensemble = False,
    resample: Resample = False,
    force: Annotated[bool, typer.Option("--force", help="Start even where the memory can't suffice.")] = False,
    reading: Reading,
    region: shared.Region = None,
    threads: shared.Threads = None,
    json: shared.Json = False,
) -> None:
    """Enlarge low-resolution scenes with a trained network.

    The whole scene at once, which is exact, unless --tile is given. The memory that it takes is said first; a result
    that ends in .npy goes to the disk as it is made and takes none. Results have the peak and wavelengths of the input.
    Of several scenes one that fails is reported and the others go on; the exit code is 1 then. Results that exist are
    refused before the first is made, with --out-dir one by one.

    Example: lkca super-resolve lr.npy sr.npy -c run/best.safetensors

    Example: lkca super-resolve scenes/ results/ -c run/best.safetensors --suffix .mat

    Example: lkca super-resolve lr.hdr sr.hdr -c fused/best.safetensors --msi msi.hdr
    """
    if (checkpoint is None) == (fresh is None):
        raise typer.BadParameter("give --checkpoint, or --fresh, and not both")
    if overwrite and skip_existing:
        raise typer.BadParameter("give --overwrite or --skip-existing, not both")
    if resample and fresh is not None:
        raise ValueError("--resample goes with --checkpoint, which tells its wavelengths")
    sides = None if tile is None else shared.parse_pair(tile, "--tile")
    if sides is None and overlap is not None:
        raise ValueError("--overlap goes with --tile")
    msi_reading.check(given=bool(msi))
    jobs, batch = _jobs(paths, out_dir, suffix)
    several.check_cog([out for _, out in jobs], cog=cog)
    if batch and out_dir is None:
        several.check_new([out for _, out in jobs], overwrite=overwrite or skip_existing)
    shared.set_threads(threads)
    model, record = (None, None) if checkpoint is None else shared.load_checkpoint(checkpoint)
    if model is not None:
        _check_msis(model, msi or [], jobs)
        model = model.fold().eval()  # once for all scenes
    elif msi:
        raise ValueError("--msi goes with a fusion network, which --fresh has not")
    if batch:
        jobs[0].out.parent.mkdir(parents=True, exist_ok=True)
    if sides is not None:
        rows, columns = sides
        shared.note(
            f"note: with --tile channel attention averages over a tile of {rows} x {columns} instead of the scene: "
            "the result is another one than that of the whole"
        )
    if ensemble:
        shared.note("note: with --ensemble the network runs eight times: its time, eight times over")
    results, failed, skipped = [], [], []
    for index, (scene, out) in enumerate(jobs):
        try:
            if _is_there(out, overwrite, skip_existing):
                shared.note(f"note: {out} is there already: skipped")
                skipped.append(str(out))
                continue
            if model is None:
                loaded = reading.scene(scene, region)
                assert fresh is not None
                model = shared.fresh_network(fresh, loaded.bands, scale)
            else:
                loaded = reading.scene_for(scene, model, record, region, resample=resample)
            network = resampled_for(scene, loaded, model, record) if resample and record is not None else model
            sharp = None
            if msi:
                sharp = _cropped(msi_reading.scene(msi[index], record, reading.nodata), region, model.scale)
            facts = {"out": out, **_run(network, loaded, sharp, out, sides, overlap, force, ensemble, cog)}
        except shared.KNOWN_ERRORS as error:
            if not batch:
                raise
            failed.append(several.told(scene, error))
            continue
        results.append({**facts, "trained": checkpoint is not None, "checkpoint": checkpoint, "network": fresh})
        if not json:
            bands, *pixels = facts["shape"]
            untrained = "" if checkpoint is not None else " (untrained: this is the bicubic image)"
            print(f"{out}: {bands} bands, {pixels[0]} x {pixels[1]} pixels, {facts['seconds']:.2f} s{untrained}")
    if json and not batch:
        shared.print_json(results[0] if results else {"skipped": skipped})
    elif json:
        shared.print_json({"results": results, "failed": failed, "skipped": skipped})
    several.end(failed, len(jobs))


def _is_there(out: Path, overwrite: bool, skip: bool) -> bool:
    """Whether a result exists that is to be left as it is; raises where it is neither to be replaced nor skipped."""
    data = out.with_suffix(".img")  # an image's data may have their header under another name
    if out.suffix.lower() == ".hdr" and data.exists() and not out.exists():
        raise FileExistsError(f"{data} exists, and is not the data of {out}: choose another name")
    if not out.exists() or overwrite:
        return False
    if not skip:
        raise FileExistsError(f"{out} exists: choose another name, --overwrite or --skip-existing")
    return True


def _check_msis(model: "Network", msis: list[Path], jobs: Sequence[several.Job]) -> None:
    """Raise where --msi is not what the network takes, or a result would replace it."""
    for _, out in jobs:
        shared.check_spared(msis, out)
    if not model.msi_bands:
        if msis:
            raise ValueError(f"--msi goes with a fusion network, which the checkpoint's ({model.kind}) is not")
        return
    if len(msis) != len(jobs):
        raise ValueError(
            f"the network fuses an MSI of {model.msi_bands} bands with each scene: give --msi for each of {len(jobs)}, "
            f"got {len(msis)}"
        )


def _cropped(msi: "Scene", region: str | None, scale: int) -> "Scene":
    """The MSI of a region of the low-resolution scene."""
    from lkcanet.data import parse_rect

    if region is None:
        return msi
    return msi.cropped(parse_rect(region, [length // scale for length in msi.size]).scaled(scale))


def _jobs(paths: list[Path], out_dir: Path | None, suffix: str | None) -> tuple[list[several.Job], bool]:
    """Each scene with its result's path, and whether these lie in a folder; what can't be written is refused before the
    work."""
    usage = "give SCENE and OUT, or scenes and --out-dir FOLDER"
    if out_dir is not None:
        # a scene that doesn't exist fails alone
        scenes = [scene for path in paths for scene in several.scenes_of([path])]
        jobs = several.results_in(out_dir, scenes, suffix)
    else:
        *sources, out = paths
        if not sources:
            raise typer.BadParameter(usage)
        if len(sources) > 1 and out.suffix.lower() in shared.SCENES and not out.is_dir():
            raise typer.BadParameter(f"{usage}; {out} is no folder for the results of several scenes")
        scenes = several.scenes_of(sources)
        if not several.goes_into_folder(sources, scenes, out):
            if suffix is not None:
                raise ValueError("--suffix goes with --out-dir")
            shared.check_output(out, shared.SCENES)
            shared.check_spared(scenes, out)
            return [several.Job(scenes[0], out)], False
        jobs = several.results_in(out, scenes, suffix)
    return jobs, True


def _run(
    model: "Network",
    scene: Any,
    msi: Any,
    out: Path,
    tile: tuple[int, int] | None,
    overlap: int | None,
    force: bool,
    ensemble: bool,
    cog: bool,
) -> dict[str, Any]:
    """Enlarge a scene into a file; what there is to say about it."""
    from lkcanet import inference
    from lkcanet.data import write_scene
    from lkcanet.models import Lacking

    mapped, estimate = out.suffix.lower() == ".npy", None
    try:
        estimate = inference.memory(model, *scene.size, tile=tile, mapped=mapped, ensemble=ensemble)
    except Lacking as error:
        shared.note(f"note: {error}")
    else:
        _state(model, scene, estimate, out, tile, force)
    start = time.perf_counter()
    with bar(out.name) as progress:
        result = inference.super_resolve(
            model,
            scene,
            msi=msi,
            out=out if mapped else None,
            tile=tile,
            overlap=overlap,
            ensemble=ensemble,
            progress=progress,
        )
    seconds = time.perf_counter() - start
    if not mapped:
        write_scene(out, result, cog=cog)
    return {
        "shape": result.pixels.shape,
        "scale": model.scale,
        "peak": result.peak,
        "seconds": seconds,
        "tile": tile,
        "ensemble": ensemble,
        "memory": None if estimate is None else estimate.as_dict(),
    }


def _state(
    model: "Network", scene: Any, estimate: "Memory", out: Path, tile: tuple[int, int] | None, force: bool
) -> None:
    """Say what memory it takes; warn or refuse where that is more than there is."""
    from lkcanet.inference import footprint, shortage, strips

    mapped = out.suffix.lower() == ".npy"
    more = estimate.output if out.suffix.lower() == ".mat" else 0  # its writer makes a copy
    taken = estimate.input - more  # the scene is loaded already
    there = footprint.available()
    known = "" if there is None else f"; {footprint.gigabytes(there[0])} are available"
    shared.note(f"note: {out.name} takes about {estimate}{known}")
    lack = shortage(model, *scene.size, tile=tile, mapped=mapped, ensemble=estimate.ensemble, taken=taken)
    if lack is None:
        return
    advice = [] if lack.tile is None else [f"--tile {lack.tile},{lack.tile} would fit"]
    if not mapped:
        advice.append("a result that ends in .npy goes to the disk as it is made")
    advice += strips.why_none(model)
    hint = "; ".join(advice) or "no tile would fit"
    if lack.hopeless and not force:
        raise RuntimeError(
            f"{out.name} needs {footprint.gigabytes(lack.needed)} more memory, "
            f"{footprint.gigabytes(lack.free + lack.swap)} are available with swap: {hint}; --force starts all the same"
        )
    shared.note(f"warning: that is more than there is: {hint}")
