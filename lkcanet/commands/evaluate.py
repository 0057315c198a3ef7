"""`lkca evaluate`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from . import _shared as shared


def evaluate(
    scene: shared.ScenePath,
    checkpoint: Annotated[
        list[Path], typer.Option("--checkpoint", "-c", metavar="FILE", help="A trained network; may be repeated.")
    ],
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
    threads: shared.Threads = None,
    json: shared.Json = False,
) -> None:
    """Score networks, and bicubic, on a high-resolution scene: degrade it, super-resolve it, compare.

    Example: lkca evaluate scene.mat -c run/best.safetensors --region 0:512,320:576 --json
    """
    from lkcanet.data import bicubic_upsample
    from lkcanet.inference import super_resolve
    from lkcanet.metrics import evaluate as score
    from lkcanet.tables import metrics_table

    shared.set_threads(threads)
    networks = [(path, *shared.load_checkpoint(path)) for path in checkpoint]
    _, first, extra = networks[0]
    for path, model, other in networks[1:]:
        if (model.bands, model.scale, other.get("peak")) != (first.bands, first.scale, extra.get("peak")):
            raise ValueError(f"{path} is of other bands, scale or peak than {checkpoint[0]}: score it on its own")
    whole = shared.load_for(scene, key, axes, size, peak, None, first, extra)
    region = choose_region(region, checkpoint[0], extra, whole)
    target, lowres = degraded(whole if region is None else shared.crop(whole, region), first.scale)
    rows: dict[str, Any] = {
        f"bicubic x{first.scale}": score(bicubic_upsample(lowres.tensor(), first.scale)[0], target.pixels, first.scale)
    }
    for path, model, _ in networks:
        name = path.stem if len(networks) == 1 else str(path)
        rows[name] = score(super_resolve(model, lowres).pixels, target.pixels, first.scale)
    part = "whole scene" if region is None else f"region {region}"
    if json:
        methods = ["bicubic", *map(str, checkpoint)]
        scores = [{"method": method, **row} for method, row in zip(methods, rows.values(), strict=True)]
        facts = {"scene": scene, "region": region, "shape": target.pixels.shape, "peak": target.peak}
        shared.print_json({**facts, "scale": first.scale, "scores": scores})
        return
    shared.print_table(metrics_table(rows, title=f"{scene}, {part}, {target.size[0]} x {target.size[1]} pixels"))


def choose_region(region: str | None, checkpoint: Path, extra: dict[str, Any], scene: Any) -> str | None:
    """What --region means: 'test' is the test region of the checkpoint's training, and so is nothing where this is the
    scene of that training, as far as its shape tells; None is the whole scene."""
    held_out = extra.get("split", {}).get("test")
    if region == "test":
        if held_out is None:
            raise ValueError(f"{checkpoint} names no test region: give --region as rows,columns")
        return held_out
    if region is None and held_out is not None and extra.get("scene", {}).get("shape") == list(scene.pixels.shape):
        shared.note(f"note: the scene has the shape of the training's; taking its test region, {held_out}")
        return held_out
    return region


def degraded(scene: Any, scale: int) -> tuple[Any, Any]:
    """The scene and its LR image."""
    from lkcanet.data import bicubic_downsample

    rows, columns = scene.size
    if rows % scale or columns % scale:
        raise ValueError(
            f"the network's scale, {scale}, does not divide {rows} x {columns} pixels: give a --region that it divides"
        )
    return scene, shared.with_pixels(scene, bicubic_downsample(scene.tensor(), scale)[0].numpy())
