"""What the commands do with a folder of `lkca prepare`."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _shared as shared

if TYPE_CHECKING:
    from lkcanet.data import Prepared, Scene, Split
    from lkcanet.models import LKCANet


def training_input(
    path: Path,
    *,
    test: str | None,
    scale: int | None,
    patch: int | None,
    stride: int | None,
    validation: str | None,
    train_region: str | None,
    key: str | None,
    axes: str | None,
    size: str | None,
    peak: float | None,
) -> tuple["Scene", "Split", int]:
    """The scene to train on, its split and the scale: of a prepared folder as its manifest says, of another scene by
    the options (None where one was not given; `patch` in LR pixels).

    Raises:
        ValueError: an option that a prepared folder fixes; no test region for another scene; what `region_split` and
            `read_scene` raise.
    """
    from lkcanet.data import is_prepared, load_prepared, region_split

    if is_prepared(path):
        prepared = load_prepared(path)
        fixed = {"--test": test, "--train-region": train_region, "--validation": validation}
        fixed |= {"--key": key, "--axes": axes, "--size": size}
        refuse(path, {name: (value, None) for name, value in fixed.items()})
        side = prepared.split.patch // prepared.scale
        numbers = {"--scale": (scale, prepared.scale), "--patch": (patch, side)}
        refuse(path, {**numbers, "--stride": (stride, prepared.split.stride), "--peak": (peak, prepared.scene.peak)})
        return prepared.scene, prepared.split, prepared.scale
    if test is None:
        raise ValueError("--test is missing: the test region, such as 0:512,320:576, which training never reads")
    scale, patch = 4 if scale is None else scale, 16 if patch is None else patch
    validation = "0.1" if validation is None else validation
    for name, value in (("--scale", scale), ("--patch", patch)):
        if value < 1:
            raise ValueError(f"{name} must be 1 or more, got {value}")
    loaded = shared.load_scene(path, key, axes, size, peak)
    split = region_split(
        loaded.pixels.shape,
        test,
        patch=patch * scale,
        stride=_default_stride(patch * scale, scale) if stride is None else stride,
        validation=_fraction(validation),
        train=train_region,
    )
    if split.validation is None:
        raise ValueError(f"--validation must leave a block to choose the best checkpoint by, got {validation}")
    return loaded, split, scale


def refuse(path: Path, options: dict[str, tuple[Any, Any]]) -> None:
    """Raise for an option that was given and differs from what the prepared folder fixes (None: fixes for good)."""
    for name, (value, expected) in options.items():
        if value is not None and value != expected:
            what = "leave it out" if expected is None else f"there it is {expected:g}"
            raise ValueError(f"{name} {value} does not go with {path}, which `lkca prepare` made: {what}")


def held_out(split: "Split") -> str:
    """What the best checkpoint is chosen by, in words."""
    return str(split.validation) if split.validation else f"{len(split.validation_origins)} patches drawn at random"


def score(
    folder: Path,
    networks: Sequence[tuple[Path, "LKCANet", dict[str, Any]]],
    scale: int | None,
    *,
    per_image: bool,
    reported: bool,
    json: bool,
) -> None:
    """Print the scores of bicubic and networks on a prepared folder's test images."""
    from lkcanet.data import load_prepared
    from lkcanet.data.reported import reported as paper_rows
    from lkcanet.scoring import mean_scores, score_tests
    from lkcanet.tables import metrics_table

    prepared = load_prepared(folder)
    refuse(folder, {"--scale": (scale, prepared.scale)})
    paper = paper_rows(prepared.protocol, prepared.scale) if reported else []
    if reported and not paper:
        raise ValueError(f"--reported: the paper has no table for protocol {prepared.protocol}, scale {prepared.scale}")
    for path, _, extra in networks:
        _compare(path, extra, prepared)
    names = _names([path for path, _, _ in networks])
    models = {name: model for name, (_, model, _) in zip(names, networks, strict=True)}
    scores = score_tests(prepared, models, progress=lambda line: shared.note(f"note: {line}"))
    means = {name: mean_scores(images) for name, images in scores.items()}
    sizes: dict[str, tuple[float | None, float | None]] = {
        name: (model.parameter_count(), model.macs(16, 16)) for name, model in models.items()
    }
    if json:
        methods = []
        files = dict(zip(names, (path for path, _, _ in networks), strict=True))
        for name in scores:
            parameters, macs = sizes.get(name, (None, None))
            facts = {"method": name, "checkpoint": files.get(name), "parameters": parameters, "macs_16x16": macs}
            methods.append({**facts, **means[name], "images": scores[name]})
        for row in paper:
            counts = {"parameters": row.parameters and row.parameters * 1e6, "macs_16x16": row.macs and row.macs * 1e9}
            methods.append({"method": row.method, "source": "paper", **counts, **row.scores})
        where = {"folder": folder, "protocol": prepared.protocol, "scale": prepared.scale, "peak": prepared.scene.peak}
        shared.print_json({**where, "tests": [str(rect) for rect in prepared.tests], "scores": methods})
        return
    title = f"{folder}: {prepared.protocol} x{prepared.scale}, mean over {len(prepared.tests)} test images"
    rows = dict(means)
    for row in paper:
        name = f"{row.method} (paper)"
        rows[name] = row.scores
        sizes[name] = (row.parameters and row.parameters * 1e6, row.macs and row.macs * 1e9)
    shared.print_table(metrics_table(rows, title=title, sizes=sizes))
    for number, rect in enumerate(prepared.tests if per_image else ()):
        image = {name: images[number] for name, images in scores.items()}
        shared.print_table(metrics_table(image, title=f"test image {number + 1}, {rect}"))


def _compare(path: Path, extra: dict[str, Any], prepared: "Prepared") -> None:
    """Warn where a network's training may have seen the test images, or knew other units."""
    if extra.get("split", {}).get("test") != str(prepared.split.test):
        told = extra.get("split", {}).get("test", "nothing that it tells of")
        shared.note(
            f"warning: {path} was trained with {told} held out, not {prepared.split.test}: if that was this image, it "
            "may have seen the test images"
        )
    if extra.get("peak", prepared.scene.peak) != prepared.scene.peak:
        shared.note(f"warning: {path} was trained with peak {extra['peak']:g}, here it is {prepared.scene.peak:g}")


def _names(paths: Sequence[Path]) -> list[str]:
    """Short names of checkpoints: the run's folder for best.safetensors, else the file's; whole paths where these are
    the same."""
    short = [path.parent.name if path.stem == "best" and path.parent.name else path.stem for path in paths]
    return [
        name if short.count(name) == 1 and name != "bicubic" else str(path)
        for name, path in zip(short, paths, strict=True)
    ]


def _default_stride(side: int, scale: int) -> int:
    """Half a patch, or the next step that has no factor in common with the scale: patches then meet every phase of the
    LR grid, where a multiple of the scale would show the network one phase of it only."""
    stride = max(1, side // 2)
    while math.gcd(stride, scale) > 1:
        stride += 1
    return stride


def _fraction(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text  # a rectangle; region_split says what is wrong with others
