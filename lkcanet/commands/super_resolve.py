"""`lkca super-resolve`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from . import _shared as shared


def super_resolve(
    scene: shared.ScenePath,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The super-resolved scene: .npy, .npz or .mat.")],
    checkpoint: shared.Checkpoint = None,
    fresh: Annotated[
        shared.Network | None, typer.Option(help="An untrained network of the paper's size instead: for timing.")
    ] = None,
    scale: Annotated[int, typer.Option(help="Upsampling factor of --fresh.")] = 4,
    key: shared.Key = None,
    axes: shared.Axes = None,
    size: shared.Size = None,
    peak: shared.Peak = None,
    region: shared.Region = None,
    threads: shared.Threads = None,
    json: shared.Json = False,
) -> None:
    """Enlarge a low-resolution scene with a trained network.

    The result has the peak and wavelengths of the input.

    Example: lkca super-resolve lr.npy sr.npy -c run/best.safetensors
    """
    from lkcanet import inference
    from lkcanet.data import write_scene

    if (checkpoint is None) == (fresh is None):
        raise typer.BadParameter("give --checkpoint, or --fresh, and not both")
    shared.check_output(out, shared.SCENES)
    shared.set_threads(threads)
    if checkpoint is not None:
        model, extra = shared.load_checkpoint(checkpoint)
        loaded = shared.load_for(scene, key, axes, size, peak, region, model, extra)
    else:
        assert fresh is not None
        loaded = shared.load_scene(scene, key, axes, size, peak, region)
        model = shared.fresh_network(fresh, loaded.bands, scale)
    start = time.perf_counter()
    result = inference.super_resolve(model, loaded)
    seconds = time.perf_counter() - start
    write_scene(out, result)
    if json:
        shared.print_json(
            {
                "out": out,
                "shape": result.pixels.shape,
                "scale": model.scale,
                "peak": result.peak,
                "seconds": seconds,
                "trained": checkpoint is not None,
                "checkpoint": checkpoint,
                "network": fresh,
            }
        )
        return
    untrained = "" if checkpoint is not None else " (untrained: this is the bicubic image)"
    print(f"{out}: {result.bands} bands, {result.size[0]} x {result.size[1]} pixels, {seconds:.2f} s{untrained}")
