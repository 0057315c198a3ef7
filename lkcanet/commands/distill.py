"""`lkca distill`."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from . import _prepared as prepared
from . import _shared as shared
from ._fusion import refuse_fusion
from ._report import report
from ._training import (
    Given,
    check_network,
    network_for,
    split_for,
    takes_training_options,
    tell_what_trains,
)

if TYPE_CHECKING:
    from lkcanet.data import Scene


@takes_training_options
def distill(
    scene: shared.ScenePath,
    teacher: Annotated[Path, typer.Option(metavar="FILE", help="The trained network to learn from.")],
    given: Given,
    test: Annotated[
        str | None,
        typer.Option(
            metavar="ROWS,COLUMNS",
            help="The test region, which training never reads. Default on the teacher's scene: the teacher's, and so "
            "with --validation and --train-region.",
        ),
    ] = None,
    on: Annotated[
        Literal["image", "features"],
        typer.Option(help="Compare the reconstructed images, or what the upsamplers give before the bicubic image."),
    ] = "image",
    alpha: Annotated[float, typer.Option(help="Weight of the distillation loss at the start.")] = 0.01,
    decay: Annotated[float, typer.Option(help="Factor d by which that weight falls; 1 keeps it.")] = 0.66,
    frequency: Annotated[float, typer.Option(help="Epochs f from one fall to the next.")] = 10,
    kd_cosine_weight: Annotated[float, typer.Option(help="Of the cosine in the distillation loss.")] = 0.5,
    kd_sam_weight: Annotated[float, typer.Option(help="Of the spectral angle in it.")] = 0.5,
    kd_gradient_weight: Annotated[float, typer.Option(help="Of the gradient term in it.")] = 0.1,
) -> None:
    """Train a small network (the student) with the help of a larger one that is trained already: LKCA-KD.

    The student is fresh; by default an LKCA-LR of 16 blocks for a teacher such as an LKCA-Net of 32. The scene is
    divided by the peak of the teacher's training; a folder of `lkca prepare` keeps its own peak, regions and patches.

    Example: lkca distill scene.mat --teacher teacher/best.safetensors --blocks 16 --max-minutes 45 --out student
    """
    from lkcanet import training
    from lkcanet.data import is_prepared

    distillation = training.Distillation(
        on=on,
        alpha=alpha,
        decay=decay,
        frequency=frequency,
        cosine_weight=kd_cosine_weight,
        sam_weight=kd_sam_weight,
        gradient_weight=kd_gradient_weight,
    )
    preset = check_network(given)
    if preset.fuses or given.objective is not None:
        what = "--objective" if given.objective is not None else f"--model {given.name}, which fuses an MSI,"
        raise ValueError(f"{what} does not go with lkca distill: lkca train trains it, with a teacher of its own")
    options = given.options()
    tutor, extra = shared.load_checkpoint(teacher)
    refuse_fusion(tutor, teacher, "distill")
    if given.scale not in (None, tutor.scale):
        raise ValueError(f"--scale is {given.scale}, but the teacher {teacher} is of scale {tutor.scale}")
    if is_prepared(scene):
        loaded, split, scale = prepared.training_input(scene, given, test)
        if scale != tutor.scale:
            raise ValueError(f"the teacher {teacher} is of scale {tutor.scale}, {scene} of scale {scale}")
        prepared.compare(teacher, extra, loaded, split)
    else:
        axes = (given.key, given.axes, given.size)
        loaded = shared.load_for(scene, *axes, given.peak, None, tutor, extra, **given.reading)
        test, given = _regions(test, given, teacher, extra, loaded)
        split = split_for(given, loaded, test, tutor.scale)
    model = network_for(given, loaded, tutor.scale)
    tell_what_trains(given, model, split)
    result = training.distill(
        model,
        tutor,
        loaded,
        split,
        options,
        distillation,
        given.out,
        teacher_file=teacher,
        overwrite=given.overwrite,
        resume=given.resume,
    )
    facts = training.describe(loaded, split, options)
    facts |= {"teacher": {"file": str(teacher), "config": tutor.config}, "distillation": asdict(distillation)}
    report(given, result, scene, facts, model.config)


def _regions(test: str | None, given: Given, teacher: Path, extra: dict[str, Any], scene: "Scene") -> tuple[str, Given]:
    """The regions that are not given are the teacher's, on the scene that it was trained on: a student must not train
    or choose its checkpoint on what its teacher has not kept apart either."""
    from lkcanet.data.splits import overlap, parse_rect

    split, trained_on = extra.get("split", {}), extra.get("scene", {})
    same = trained_on.get("shape") == list(scene.pixels.shape) and trained_on.get("name") == scene.name
    if not same:
        if test is None:
            raise ValueError(f"give --test: {scene.name!r} is not the scene that {teacher} was trained on")
        return test, given
    if test is None and split.get("test") is None:
        raise ValueError(f"give --test: {teacher} names no test region")
    if test is not None:
        test = str(parse_rect(test, scene.pixels.shape))  # as checkpoints spell it
        if test != split.get("test"):
            return test, given  # another division of the scene altogether
    validation, inside = given.validation or split.get("validation"), given.train_region or split.get("train")
    if given.train_region is None and inside is not None:
        around, held_out = (parse_rect(text, scene.pixels.shape) for text in (inside, split["test"]))
        if overlap(around, held_out):  # it encloses patches on several sides of the test region: no region was given
            inside = None
    shared.note(
        f"note: regions of the teacher's training: test {split['test']}, validation {validation}, training "
        f"{'on the rest' if inside is None else f'inside {inside}'}"
    )
    return split["test"], replace(given, validation=validation, train_region=inside)
